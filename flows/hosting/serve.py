"""`python -m flows.serve`: the flow as a deployment that this one process runs.

The alternative to a work pool and a worker: it registers the deployment `caption-images/served`,
waits for runs of it, and runs them here, one at a time. It knows nothing of prefect.yaml.
"""

import os
import sys
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from flows.hosting.command_line import Flags, parse_command_line
from flows.hosting.deploying import local_time_zone

if TYPE_CHECKING:
    from prefect.schedules import Schedule

NAME = "served"


class ServeFlags(Flags):
    """Wait for runs that are started in Prefect's UI, and for those of a schedule.

    The settings are the defaults of each run. Every flag can also be given as an environment
    variable, such as CAPTION_CRON for --cron.
    """

    cron: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description='When to run by itself, such as "0 2 * * *" for every night.'
    )
    timezone: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="The time zone of --cron, such as Europe/Paris; by itself this machine's.",
    )


def main() -> int:
    """Serve the flow until it is interrupted; returns the exit code."""
    flags = parse_command_line(ServeFlags)
    os.environ.setdefault("DO_NOT_TRACK", "1")
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value():
        print(
            "There is no Prefect server to serve for: start one with `prefect server start` and "
            "set PREFECT_API_URL, or use `make ui`.",
            file=sys.stderr,
        )
        return 2
    try:
        schedule = _schedule(flags)
    except ValueError as error:
        print(f"--cron or --timezone is wrong: {error}.", file=sys.stderr)
        return 2
    _serve(flags, schedule)
    return 0


def _schedule(flags: ServeFlags) -> "Schedule | None":
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.schedules import Cron

    if flags.cron is None:
        return None
    timezone = flags.timezone or local_time_zone()
    try:
        CronSchedule(cron=flags.cron, timezone=timezone)
    except ValueError as error:
        raise ValueError(f"{flags.cron!r}, {timezone!r}") from error
    return Cron(flags.cron, timezone=timezone)


def _serve(flags: ServeFlags, schedule: "Schedule | None") -> None:
    from prefect.types.entrypoint import EntrypointType

    from flows.caption_flow import caption_flow

    # nothing else, so that it is seen what a command leaves open: flows/asked.py
    dumped = {
        name: group.model_dump(mode="json", exclude_defaults=True)
        for name, group in flags.settings().grouped().items()
    }
    parameters = {name: values for name, values in dumped.items() if values}
    caption_flow.serve(
        name=NAME,
        description="Caption a folder of pictures with a local MLX model, while flows.serve runs.",
        tags=["mlx", "captions"],
        parameters=parameters,
        schedule=schedule,
        limit=1,
        entrypoint_type=EntrypointType.MODULE_PATH,  # found from whatever folder it is started in
    )


if __name__ == "__main__":
    raise SystemExit(main())

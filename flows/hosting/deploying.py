"""The work pools and the deployments of prefect.yaml, made on whatever server is configured, and
the automation that notices a lost shard.

`python -m flows.hosting.deploying` makes them and no more.
"""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.events.schemas.automations import AutomationCore

ROOT = Path(__file__).resolve().parents[2]
FLOW, FLEET = "caption-images", "caption-fleet"
POOL, FLEETS_POOL = "mlx", "fleet"  # as in prefect.yaml
LOST = "lost.yaml"  # of automations/
PREFECT = (sys.executable, "-m", "prefect", "--no-prompt")


class DeployError(Exception):
    """The deployments cannot be made; `str()` says what to do."""


def this_machine() -> dict[str, str]:
    """A build step of prefect.yaml: the time zone in which the hours of a schedule count."""
    return {"timezone": local_time_zone()}


def own_checkout() -> dict[str, str]:
    """A pull step of prefect.yaml, on the machine of a worker: the run takes place in the folder
    that this is installed from there."""
    return {"directory": str(ROOT)}


def local_time_zone() -> str:
    """The name of this machine's time zone, such as Europe/Paris; UTC when it has none."""
    from tzlocal import get_localzone_name

    with suppress(LookupError, ValueError):  # TZ or /etc/localtime names none that is known
        return get_localzone_name() or "UTC"
    return "UTC"


def deploy() -> None:
    """Make the process work pools, if need be, and the deployments, which run in this folder.

    `prefect deploy` switches schedules off, as prefect.yaml says; those that were on stay on.

    Raises:
        DeployError: the server does not answer, or refuses.
    """
    from httpx import HTTPError
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL

    try:
        with get_client(sync_client=True) as client:
            _make_pools(client)
            make_automation(client, automation(LOST))
            on = _switched_on(client)
            _prefect_deploy()
            _switch_on(client, on)
    except HTTPError as error:
        raise DeployError(
            f"Prefect's server at {PREFECT_API_URL.value()} cannot be used ({error}): start it, "
            "or unset PREFECT_API_URL to have one started here."
        ) from error


def automation(file: str) -> "AutomationCore":
    """The automation of a file in `automations/`, as it is there."""
    import yaml  # type: ignore[import-untyped]
    from prefect.events.schemas.automations import AutomationCore

    text = (ROOT / "automations" / file).read_text("utf-8")
    return AutomationCore.model_validate(yaml.safe_load(text))


def make_automation(client: "SyncPrefectClient", made: "AutomationCore") -> None:
    """Make an automation, or change the one of its name."""
    if found := client.read_automations_by_name(made.name):
        client.update_automation(found[0].id, made)
    else:
        client.create_automation(made)


def _make_pools(client: "SyncPrefectClient") -> None:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    for name in (POOL, FLEETS_POOL):
        pool = WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template)
        with suppress(ObjectAlreadyExists):
            client.create_work_pool(pool)


def _switched_on(client: "SyncPrefectClient") -> set[tuple[str, str | None]]:
    """The deployments of the flows, by name, and the slugs of their schedules that are on."""
    return {
        (deployment.name, schedule.slug)
        for deployment in _deployments(client)
        for schedule in deployment.schedules
        if schedule.active
    }


def _switch_on(client: "SyncPrefectClient", on: set[tuple[str, str | None]]) -> None:
    for deployment in _deployments(client):
        for schedule in deployment.schedules:
            if (deployment.name, schedule.slug) in on:
                client.update_deployment_schedule(deployment.id, schedule.id, active=True)


def _deployments(client: "SyncPrefectClient") -> "list[DeploymentResponse]":
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName

    return client.read_deployments(flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW, FLEET])))


def _prefect_deploy() -> None:
    command = [*PREFECT, "deploy", "--all"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        raise DeployError(f"`prefect deploy --all` failed:\n{run.stdout}{run.stderr}".rstrip())


if __name__ == "__main__":
    deploy()

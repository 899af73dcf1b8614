"""What `python flows/caption_flow.py` is in a terminal: its flags, its log lines, its exit code.

What it imports at first is light, so that an interrupt and a wrong flag are answered at once;
Prefect is imported only when the flags were understood.
"""

import os
from typing import TYPE_CHECKING, Any, cast

from flows.hosting import starting
from flows.hosting.starting import CANNOT_START, INTERRUPTED

if TYPE_CHECKING:
    from datetime import timedelta

    from prefect import Flow
    from prefect.client.schemas.objects import State

    from captioner.run import Run, Watch
    from flows.hosting.command_line import CommandLine

DONE, SOME_FAILED = 0, 1


def begin(name: str = "CommandLine") -> "CommandLine":
    """Read the flags of that kind of command line, and choose how Prefect logs and that it sends
    no usage data; it reads that when it is first imported."""
    starting.begin()
    import logging

    from flows.hosting import command_line
    from flows.hosting.log_lines import DEBUG_VARIABLE, LOGGING_CONFIG
    from flows.hosting.screen import SCREEN

    kind: type[CommandLine] = getattr(command_line, name)
    command = command_line.parse_command_line(kind)
    if command.debug:
        os.environ[DEBUG_VARIABLE] = "1"
    if command.list_presets:
        raise SystemExit(_list_presets())
    if command.plan:
        raise SystemExit(_plan(command))
    _check_prompts(command)
    logging.raiseExceptions = command.debug  # or Prefect prints each log line that it cannot send
    os.environ.setdefault("PREFECT_LOGGING_CONFIG_PATH", str(LOGGING_CONFIG))
    os.environ.setdefault("DO_NOT_TRACK", "1")  # nothing of a run leaves the machine
    SCREEN.open(command.quiet, command.log_file)
    return command


def _list_presets() -> int:
    """Print a line for each preset; returns the exit code."""
    from captioner.asking.presets import preset_names, preset_of

    for name in preset_names():
        print(f"{name:<10} {preset_of(name).about}")
    return DONE


def _check_prompts(command: "CommandLine") -> None:
    """Refuse a preset, a file or a placeholder that cannot be used, before anything is started."""
    from captioner.asking.in_full import in_full
    from captioner.errors import InputError
    from flows.hosting.screen import SCREEN

    try:
        in_full(command.settings())
    except InputError as error:
        SCREEN.say(str(error))
        raise SystemExit(CANNOT_START) from None


def _plan(command: "CommandLine") -> int:
    """Say what a run would do; returns the exit code."""
    from captioner.errors import CaptionerError
    from flows.hosting.plan import show_plan
    from flows.hosting.screen import SCREEN

    try:
        show_plan(command.settings())
    except CaptionerError as error:
        SCREEN.say(str(error))
        return CANNOT_START
    except Exception as error:
        if command.debug:
            raise
        return _unexpected(error)
    return DONE


def main() -> int:
    """The command `mlx-caption`, which is `python flows/caption_flow.py`; returns its exit code."""
    command = begin()
    from flows.caption_flow import caption_flow

    return run(caption_flow, command)


def run(flow: "Flow[Any, Any]", command: "CommandLine") -> int:
    """Run the flow with a Prefect server, temporary if need be; returns the exit code."""
    from prefect.exceptions import TerminationSignal

    from captioner.run import watched
    from flows.hosting.interrupts import Interrupts
    from flows.hosting.lost_server import leave
    from flows.hosting.named_server import name_server
    from flows.hosting.screen import SCREEN
    from flows.hosting.server import ServerError, prefect_server

    with watched() as watch:
        Interrupts(SCREEN.last_words, lambda: _ended(watch.run)).take_over()
        try:
            name_server()
            with prefect_server(SCREEN.remark) as temporary:
                code = _run(flow, command, watch)
                if code != INTERRUPTED and (kept := command.runs_kept_for(temporary)):
                    _tidy(kept)
        except ServerError as error:
            SCREEN.say(str(error))
            return CANNOT_START
        except (KeyboardInterrupt, TerminationSignal):
            if (ended := _ended(watch.run)) is None:
                SCREEN.say("Interrupted. The captions saved so far are safe.")
            leave(INTERRUPTED if ended is None else ended)
    # MLX may be in the middle of something, which a thread cannot be called back from
    return code if code != INTERRUPTED else leave(code)


def _run(flow: "Flow[Any, Any]", command: "CommandLine", watch: "Watch") -> int:
    from flows.hosting.log_lines import FinishedTaskRuns, debugging
    from flows.hosting.lost_server import is_of_server, leave, waiting_said
    from flows.hosting.recorded import wait_until_recorded
    from flows.hosting.screen import SCREEN

    groups = command.parameters()
    with FinishedTaskRuns() as finished:
        try:
            with waiting_said(watch, SCREEN.say), SCREEN.watching(watch):
                state = cast("State[Any]", flow(**groups, return_state=True))
        except Exception as error:
            if not is_of_server(error) or debugging():
                raise
            leave(_without_server(watch.run))
    if watch.run is None:
        return _unexpected(state.result(raise_on_failure=False))
    code = _tell_end(watch.run)
    if flow_run_id := state.state_details.flow_run_id:
        wait_until_recorded(flow_run_id, len(finished.ids))
    return code


def _tidy(kept: "timedelta") -> None:
    """Remove old runs from Prefect's database; the run itself is over, so nothing here fails it."""
    from httpx import HTTPError

    from captioner.errors import first_line
    from flows.hosting.old_runs import remove_old_runs
    from flows.hosting.screen import SCREEN

    try:
        if removed := remove_old_runs(kept):
            SCREEN.remark(
                f"Removed {removed} run(s) older than {kept.days} days from Prefect's database."
            )
    except HTTPError as error:
        SCREEN.say(f"Old runs stay in Prefect's database: {first_line(error)}")


def _without_server(run: "Run | None") -> int:
    """Say that the server does not answer; the exit code of the run."""
    from flows.hosting.lost_server import server_name
    from flows.hosting.screen import SCREEN

    if run is None:
        SCREEN.say(f"{server_name()} does not answer: start it, or name another.")
        return CANNOT_START
    code = _tell_end(run)
    SCREEN.say(f"{server_name()} does not know how this run ended.")
    return code


def _ended(run: "Run | None") -> int | None:
    """The exit code of a run in which all is done; None while it can be interrupted."""
    if run is None or not run.complete:
        return None
    return SOME_FAILED if run.failures else DONE


def _tell_end(run: "Run") -> int:
    """Say how the run ended, as far as its log has not; its exit code."""
    import logging

    from captioner.errors import DeviceError, InputGone, OutputError
    from flows.hosting.screen import SCREEN

    if run.unexpected:
        return _unexpected(run.unexpected)
    if run.error:
        if run.captioned:
            SCREEN.results(run)
        SCREEN.log(logging.ERROR, str(run.error))
        under_way = isinstance(run.error, (OutputError, DeviceError, InputGone))
        return SOME_FAILED if under_way else CANNOT_START
    if run.interrupted:
        SCREEN.say(run.verdict())
        return INTERRUPTED
    if run.failures:
        SCREEN.say(
            f"{len(run.failures)} failed; summary.json says why. Run again to try once more."
        )
        return SOME_FAILED
    return DONE


def _unexpected(error: object) -> int:
    from captioner.errors import first_line
    from flows.hosting.screen import SCREEN

    said = first_line(error) if isinstance(error, BaseException) else error
    kind = type(error).__name__
    SCREEN.say(f"Unexpected {kind}: {said}. --debug shows where; please report it.")
    return SOME_FAILED

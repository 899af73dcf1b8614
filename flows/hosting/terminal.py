"""What `python flows/caption_flow.py` is in a terminal: its flags, its log lines, its exit code.

Imports Prefect only in what runs after the flags were understood.
"""

import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from captioner.run import Run, watched
from flows.hosting.command_line import CommandLine, parse_command_line
from flows.hosting.log_lines import DEBUG_VARIABLE, FinishedTaskRuns, debugging, was_shown
from flows.hosting.lost_server import is_of_server, leave, server_name, waiting_said

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.schemas.objects import State

LOGGING_CONFIG = Path(__file__).with_name("logging.yml")

DONE, SOME_FAILED, CANNOT_START, INTERRUPTED = 0, 1, 2, 130


def begin() -> CommandLine:
    """Read the flags, and choose how Prefect logs and that it sends no usage data; it reads that
    when it is first imported."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(INTERRUPTED))  # until there is a run to end
    command = parse_command_line(CommandLine)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if command.debug:
        os.environ[DEBUG_VARIABLE] = "1"
    logging.raiseExceptions = command.debug  # or Prefect prints each log line that it cannot send
    os.environ.setdefault("PREFECT_LOGGING_CONFIG_PATH", str(LOGGING_CONFIG))
    os.environ.setdefault("DO_NOT_TRACK", "1")  # nothing of a run leaves the machine
    return command


def run(flow: "Flow[Any, Any]", command: CommandLine) -> int:
    """Run the flow with a Prefect server, temporary if need be; returns the exit code."""
    from flows.hosting.server import ServerError, prefect_server

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        with prefect_server():
            code = _run(flow, command)
        # MLX may be in the middle of something, which a thread cannot be called back from
        return code if code != INTERRUPTED else leave(code)
    except ServerError as error:
        print(error, file=sys.stderr)
        return CANNOT_START
    except KeyboardInterrupt:
        print("Interrupted. The captions saved so far are safe.", file=sys.stderr)
        leave(INTERRUPTED)


def main() -> int:
    """The command `mlx-caption`, which is `python flows/caption_flow.py`; returns its exit code."""
    command = begin()
    from flows.caption_flow import caption_flow

    return run(caption_flow, command)


def _interrupt(number: int, _: object) -> None:
    """End the run in good order; the next Ctrl-C does not wait for that."""
    signal.signal(signal.SIGINT, _end_at_once)
    signal.default_int_handler(number, None)


def _end_at_once(*_: object) -> None:
    os.write(2, b"Ended at once. The captions saved so far are safe.\n")
    os._exit(INTERRUPTED)


def _run(flow: "Flow[Any, Any]", command: CommandLine) -> int:
    from flows.hosting.recorded import wait_until_recorded

    groups = command.settings().grouped()
    with FinishedTaskRuns() as finished, watched() as watch:
        try:
            with waiting_said(watch):
                state = cast("State[Any]", flow(**groups, return_state=True))
        except Exception as error:
            if not is_of_server(error) or debugging():
                raise
            leave(_without_server(watch.run))
    if flow_run_id := state.state_details.flow_run_id:
        wait_until_recorded(flow_run_id, len(finished.ids))
    if watch.run is None:
        return _unexpected(state.result(raise_on_failure=False))
    return _exit_code(watch.run)


def _without_server(run: Run | None) -> int:
    """Say that the server does not answer; the exit code of the run."""
    if run is None:
        print(f"{server_name()} does not answer: start it, or name another.", file=sys.stderr)
        return CANNOT_START
    print(f"{server_name()} does not know how this run ended.", file=sys.stderr)
    return _exit_code(run)


def _exit_code(run: Run) -> int:
    """The exit code of a run; says what is not in the log yet."""
    from captioner.errors import DeviceError, InputGone, OutputError

    if run.unexpected:
        return _unexpected(run.unexpected)
    if run.error:
        if not was_shown(str(run.error)):  # Prefect does not log every end of a run
            print(run.error, file=sys.stderr)
        under_way = isinstance(run.error, (OutputError, DeviceError, InputGone))
        return SOME_FAILED if under_way else CANNOT_START
    if run.interrupted:
        print(run.verdict(), file=sys.stderr)
        return INTERRUPTED
    if run.failures:
        print(f"{run.verdict()}; summary.json says why.", file=sys.stderr)
        return SOME_FAILED
    return DONE


def _unexpected(error: object) -> int:
    from captioner.errors import first_line

    said = first_line(error) if isinstance(error, BaseException) else error
    kind = type(error).__name__
    print(f"Unexpected {kind}: {said}. --debug shows where; please report it.", file=sys.stderr)
    return SOME_FAILED

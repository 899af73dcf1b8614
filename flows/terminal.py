"""What `python flows/caption_flow.py` is in a terminal: its flags, its log lines, its exit code.

Imports Prefect only in what runs after the flags were understood.
"""

import copy
import importlib.util
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from captioner.command_line import CommandLine, parse_command_line
from flows.lost_server import Remembered, SaidOnce, is_of_server, leave, server_name
from flows.recording import FINISHED, FinishedTaskRuns, wait_until_recorded

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.schemas.objects import State

LOGGING_CONFIG = Path(__file__).with_name("logging.yml")
DEBUG_VARIABLE = "CAPTION_DEBUG"

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
    from flows.temporary_server import ServerError, prefect_server

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


def _interrupt(number: int, _: object) -> None:
    """End the run in good order; the next Ctrl-C does not wait for that."""
    signal.signal(signal.SIGINT, _end_at_once)
    signal.default_int_handler(number, None)


def _end_at_once(*_: object) -> None:
    os.write(2, b"Ended at once. The captions saved so far are safe.\n")
    os._exit(INTERRUPTED)


def _run(flow: "Flow[Any, Any]", command: CommandLine) -> int:
    with FinishedTaskRuns() as finished, Remembered(flow) as remembered:
        try:
            groups = command.settings().grouped()
            state = cast("State[Any]", remembered.flow(**groups, return_state=True))
        except Exception as error:
            if not is_of_server(error) or _debugging():
                raise
            leave(_without_server(remembered))
    if flow_run_id := state.state_details.flow_run_id:
        wait_until_recorded(flow_run_id, len(finished.ids))
    return _exit_code(state)


def _without_server(remembered: Remembered) -> int:
    """Say that the server does not answer; the exit code of the run."""
    if not remembered.began:
        print(f"{server_name()} does not answer: start it, or name another.", file=sys.stderr)
        return CANNOT_START
    print(f"{server_name()} does not know how this run ended.", file=sys.stderr)
    return _exit_code(remembered.state) if remembered.state else SOME_FAILED


def _exit_code(state: "State[Any]") -> int:
    """The exit code for the state of a run; says why when it is not completed."""
    if state.is_completed():
        return DONE
    if state.is_cancelled():
        print(state.message, file=sys.stderr)
        return INTERRUPTED
    return _explain(state)


def _explain(state: "State[Any]") -> int:
    """Say what is not in the log yet; the exit code for the state of a run that failed."""
    from captioner.errors import CaptionerError, DeviceError, OutputError, first_line

    error = state.result(raise_on_failure=False)
    if error is None:  # the flow's own verdict: some captions failed
        print(f"{state.message}; summary.json says why.", file=sys.stderr)
    elif not isinstance(error, CaptionerError):
        kind = type(error).__name__
        print(
            f"Unexpected {kind}: {first_line(error)}. --debug shows where; please report it.",
            file=sys.stderr,
        )
    elif not isinstance(error, (OutputError, DeviceError)):
        return CANNOT_START
    return SOME_FAILED


class TerminalFormatter(logging.Formatter):
    """`21:55:26 - INFO - message`; the bare message for records marked as plain."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s - %(levelname)s - %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """The record's line; tracebacks are for --debug."""
        if getattr(record, "plain", False):
            return record.getMessage()
        if record.exc_info and not _debugging():
            record = copy.copy(record)
            record.exc_info = record.exc_text = None
        return super().format(record)


class WhenDebugging(logging.Filter):
    """Shows nothing unless with --debug: what Prefect's internals say means nothing to a user."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown."""
        return _debugging()


class OursOrSerious(logging.Filter):
    """Leaves out what Prefect says of its own doings below a warning, unless with --debug."""

    def __init__(self) -> None:
        super().__init__()
        spec = importlib.util.find_spec("prefect")
        self._lost_server = SaidOnce()
        self._prefect = str(Path(spec.origin).parent) if spec and spec.origin else ""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown."""
        if _debugging() or not record.pathname.startswith(self._prefect):
            return True
        if not self._lost_server.filter(record):
            return False
        message = record.getMessage()
        said = message.startswith(FINISHED) or "aborted by" in message  # in our own words
        return record.levelno >= logging.WARNING and not said


def _debugging() -> bool:
    return os.environ.get(DEBUG_VARIABLE, "").lower() in ("1", "true", "yes", "on")

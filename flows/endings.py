"""How a run ends: what ended it is noted in one place, and said as a state of Prefect's."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect.client.schemas.objects import State
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled, Completed, Failed

from captioner.errors import CaptionerError
from captioner.run import Run

INTERRUPTS = (KeyboardInterrupt, TerminationSignal)
REFUSED = "Refused"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interrupts_noted(run: Run) -> Iterator[None]:
    """An interrupt (Ctrl-C, SIGTERM, SIGHUP) ends the block, and is noted in the run unless all is
    done."""
    try:
        yield
    except INTERRUPTS:
        run.interrupted = not run.complete


@contextmanager
def interrupts_deferred() -> Iterator[list[int]]:
    """An interrupt that comes while the block runs is raised when the block has ended; the list
    that the block gets holds the signals that came.

    Prefect takes locks while a task run is submitted. An exception in the midst of that may leave
    one taken, and whoever wants it next, when the process ends, would wait for ever.
    """
    came: list[int] = []
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # only there Python raises them
        for number in map(int, SIGNALS):
            handlers[number] = signal.signal(number, lambda number, _: came.append(number))
    try:
        yield came
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came:
        handler = handlers[came[0]]
        if callable(handler):  # not raised again: who counts the signals counts each once
            handler(came[0], None)
        else:
            signal.raise_signal(came[0])


@contextmanager
def ending_noted(run: Run) -> Iterator[None]:
    """An interrupt, or one of our own errors, ends the block; whatever ended it is noted in the
    run."""
    try:
        with interrupts_noted(run):
            yield
    except CaptionerError as error:
        run.error = error
    except Exception as error:
        run.unexpected = error
        raise
    finally:
        run.close()


def state_of(run: Run) -> State:
    """Completed when every readable picture has its caption, under the name Flagged when one of
    those made now is, Failed when one has none or when the run could not go on (a shard's Refused:
    another machine may be able to), Cancelled when it was interrupted; the message says which."""
    if run.error:
        name = REFUSED if run.settings.shard else "Failed"
        return Failed(name=name, message=run.verdict(), data=run.error)
    if run.interrupted:
        return Cancelled(message=run.verdict())
    if run.failures:
        return Failed(message=run.verdict())
    return Completed(name="Flagged" if run.flagged else "Completed", message=run.verdict())

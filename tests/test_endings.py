"""How an interrupt reaches a run: noted in one place, and never in the midst of something."""

import queue
import signal
from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from captioner.run import Run, watched
from captioner.settings import DEFAULTS
from flows.endings import interrupts_deferred, interrupts_noted
from flows.hosting import lost_server


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM])
def number(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal that raises KeyboardInterrupt."""
    before = signal.signal(request.param, signal.default_int_handler)
    yield request.param
    signal.signal(request.param, before)


def test_an_interrupt_waits_for_the_end_of_what_must_not_be_cut(number: signal.Signals) -> None:
    done = False
    with pytest.raises(KeyboardInterrupt), interrupts_deferred():
        with interrupts_deferred():
            signal.raise_signal(number)
            signal.raise_signal(number)
        done = True
    assert done
    assert signal.getsignal(number) is signal.default_int_handler


def test_an_interrupt_is_noted_in_the_run_and_goes_no_further(number: signal.Signals) -> None:
    run = Run(DEFAULTS)
    with interrupts_noted(run):
        signal.raise_signal(number)
        pytest.fail("the block went on")
    assert run.interrupted
    assert run.verdict() == "Interrupted: before the first caption"


def test_without_an_interrupt_nothing_is_raised() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts_deferred():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_a_server_of_one_run_is_named_when_it_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address is a setting of the block alone, and another thread says the sentence."""
    monkeypatch.setattr(lost_server, "PATIENCE_SECONDS", 0.0)
    said: queue.Queue[str] = queue.Queue()
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        watched() as watch,
        lost_server.waiting_said(watch, said.put),
    ):
        first = said.get(timeout=10)
        watch.over.set()
    assert first.startswith("The Prefect server at http://127.0.0.1:9/api is slow")

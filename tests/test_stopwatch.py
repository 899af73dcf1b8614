"""The stopwatch counts work and the rests in between, and nothing before or after."""

import time

from captioner.device.stopwatch import Stopwatch


def test_nothing_is_counted_before_the_first_beginning() -> None:
    watch = Stopwatch()
    watch.end()
    time.sleep(0.01)
    assert (watch.busy_seconds, watch.idle_seconds) == (0.0, 0.0)
    watch.begin()
    assert watch.idle_seconds == 0.0


def test_work_is_counted_while_it_goes_on_and_not_afterwards() -> None:
    watch = Stopwatch()
    watch.begin()
    time.sleep(0.01)
    first = watch.busy_seconds
    watch.begin()
    assert watch.busy_seconds >= first >= 0.01
    watch.end()
    busy = watch.busy_seconds
    time.sleep(0.01)
    watch.end()
    assert watch.busy_seconds == busy
    assert watch.idle_seconds == 0.0


def test_a_rest_counts_once_it_is_over() -> None:
    watch = Stopwatch()
    watch.begin()
    watch.end()
    time.sleep(0.01)
    watch.begin()
    assert watch.idle_seconds >= 0.01

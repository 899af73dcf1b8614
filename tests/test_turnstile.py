"""Threads pass in the order of their numbers, one at a time, and none is waited for for ever."""

import random
import threading
import time
from collections.abc import Callable

import pytest

from captioner.turnstile import Turnstile


def in_threads(functions: list[Callable[[], None]], pause: float = 0.0) -> None:
    """Run each in a thread of its own, started in this order; all must end soon."""
    threads = [threading.Thread(target=function, daemon=True) for function in functions]
    for thread in threads:
        thread.start()
        time.sleep(pause)
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "a thread waits for ever"


@pytest.mark.parametrize("seed", range(5))
def test_the_order_is_that_of_the_numbers_whatever_the_arrival(seed: int) -> None:
    numbers = list(range(12))
    random.Random(seed).shuffle(numbers)
    turnstile, passed = Turnstile(), list[int]()

    def pass_through(number: int) -> None:
        with turnstile.passage(number):
            passed.append(number)

    in_threads([lambda number=number: pass_through(number) for number in numbers], pause=0.002)
    assert passed == list(range(12))


def test_one_at_a_time() -> None:
    turnstile, inside, most = Turnstile(), 0, 0

    def pass_through(number: int) -> None:
        nonlocal inside, most
        with turnstile.passage(number):
            inside += 1
            most = max(most, inside)
            time.sleep(0.005)
            inside -= 1

    in_threads([lambda number=number: pass_through(number) for number in reversed(range(10))])
    assert most == 1


def test_an_exception_inside_lets_the_next_one_go_on() -> None:
    turnstile, passed, raised = Turnstile(), list[int](), list[int]()

    def pass_through(number: int) -> None:
        try:
            with turnstile.passage(number):
                if number % 2 == 0:
                    raise ValueError("a bad picture")
                passed.append(number)
        except ValueError:
            raised.append(number)

    began = time.monotonic()
    in_threads([lambda number=number: pass_through(number) for number in reversed(range(6))])
    assert (passed, raised) == ([1, 3, 5], [0, 2, 4])
    assert time.monotonic() - began < 5, "the others lost their patience instead"


def test_numbers_that_never_arrive_do_not_stop_the_others() -> None:
    turnstile, passed = Turnstile(patience=0.1), list[int]()

    def pass_through(number: int) -> None:
        with turnstile.passage(number):
            passed.append(number)

    in_threads([lambda number=number: pass_through(number) for number in (9, 7, 4, 3, 1)])
    assert passed == [1, 3, 4, 7, 9]


def test_a_long_passage_is_not_taken_for_an_absence() -> None:
    """Patience counts while nobody is inside; a slow picture keeps the turnstile to itself."""
    turnstile, passed, inside = Turnstile(patience=0.05), list[str](), threading.Event()

    def slow() -> None:
        with turnstile.passage(0):
            inside.set()
            time.sleep(0.4)
            passed.append("slow")

    def second() -> None:
        inside.wait(10)
        with turnstile.passage(1):
            passed.append("second")

    in_threads([slow, second])
    assert passed == ["slow", "second"]


def test_the_patience_of_one_begins_anew_when_another_has_passed() -> None:
    """Number 2 came long ago and lost its patience inside of 0's passage; 1 is on its way and
    arrives soon after 0 has left: it still goes first."""
    turnstile, passed = Turnstile(patience=0.3), list[int]()
    inside, left = threading.Event(), threading.Event()

    def first() -> None:
        with turnstile.passage(0):
            inside.set()
            time.sleep(0.55)  # not a multiple of the patience
            passed.append(0)
        left.set()

    def late() -> None:
        left.wait(10)
        time.sleep(0.15)
        with turnstile.passage(1):
            passed.append(1)

    def early() -> None:
        inside.wait(10)
        with turnstile.passage(2):
            passed.append(2)

    in_threads([first, early, late])
    assert passed == [0, 1, 2]


def test_one_who_comes_too_late_still_passes() -> None:
    turnstile, passed = Turnstile(patience=0.05), list[int]()
    for number in (3, 0, 4, 3):
        with turnstile.passage(number):
            passed.append(number)
    assert passed == [3, 0, 4, 3]


def test_patience_is_lost_once_for_a_gap_and_not_by_everyone_in_turn() -> None:
    """Numbers 1 to 20 wait for 0: one of them waits in vain, the rest follow at once."""
    turnstile, passed = Turnstile(patience=0.2), list[int]()

    def pass_through(number: int) -> None:
        with turnstile.passage(number):
            passed.append(number)

    began = time.monotonic()
    in_threads([lambda number=number: pass_through(number) for number in range(20, 0, -1)])
    assert passed == list(range(1, 21))
    assert time.monotonic() - began < 2

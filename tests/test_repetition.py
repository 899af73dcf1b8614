"""Loops are noticed soon, whatever their period; what repeats by right is left alone."""

import random
import tracemalloc

import pytest

from benchmarks.repetition import (
    LONGEST,
    harmless,
    library_files,
    library_text,
    made_loop,
    noticed_after,
    pieces,
)
from captioner.device.repetition import (
    LONGEST_PERIOD,
    STUCK,
    STUCK_WHEN_CUT,
    Loop,
    LoopDetector,
    find_loop,
)

PERIODS = range(1, 61)


@pytest.mark.parametrize("kind", ["captions", "library"])
def test_ordinary_texts_are_not_stuck_even_when_they_are_cut(kind: str) -> None:
    texts = list(harmless(kind, 1_000))
    assert sum(find_loop(words, cut=True) is not None for words, _ in texts) == 0
    as_bytes = [letters[:LONGEST] for _, letters in texts[:300]]
    assert sum(find_loop(letters, cut=True) is not None for letters in as_bytes) == 0


def test_a_page_of_what_repeats_by_right_is_not_stuck() -> None:
    texts = list(harmless("repetitive", 400))
    assert sum(find_loop(words) is not None for words, _ in texts) == 0
    assert sum(find_loop(letters) is not None for _, letters in texts[:100]) == 0


@pytest.mark.parametrize(
    "text",
    [
        "-" * 200,
        "." * 120,
        ("0," * 20 + "\n") * 24,
        ("| 0 " * 7 + "|\n") * 30,
        "|---" * 50 + "|\n" + ("| " * 50 + "|\n") * 9,
        "\n".join(f"Row {n}: 0 0 0 0" for n in range(1, 500)),
        "\n".join(f"{n}. A grey button labelled OK." for n in range(1, 500)),
        "0" * 128,
        "la la la la\n" * 40,
        "Happy birthday to you!\n" * 4,
        "ADMIT ONE\nGrand Theatre, row B\n" * 12,
    ],
)
def test_what_people_fear_for(text: str) -> None:
    assert find_loop(pieces(text)) is None


@pytest.mark.parametrize("period", PERIODS)
def test_every_loop_is_noticed_within_240_tokens_of_its_start(period: int) -> None:
    assert noticed_after(period) == [STUCK.tokens] * 5


@pytest.mark.parametrize("period", [61, 80, 100, 128])
def test_a_longer_loop_is_noticed_the_fourth_time_round(period: int) -> None:
    assert noticed_after(period) == [4 * period] * 5


@pytest.mark.parametrize("different", [2, 4, 8])
@pytest.mark.parametrize("period", [8, 20, 60])
def test_a_loop_of_few_different_tokens_is_noticed_within_1024(period: int, different: int) -> None:
    enough = min(STUCK.tokens * period // different, STUCK.tokens_at_most)
    assert noticed_after(period, different) == [enough] * 5


@pytest.mark.parametrize("period", PERIODS)
def test_what_a_limit_cut_needs_half_of_it(period: int) -> None:
    rng = random.Random(period)
    enough = max(STUCK_WHEN_CUT.tokens, STUCK_WHEN_CUT.repeats * period)
    for prefix in (0, 40, 200):
        tokens = made_loop(rng, period, prefix)[: prefix + enough]
        assert find_loop(tokens, cut=True) == Loop(prefix, period, enough)
        assert find_loop(tokens) is None
        assert find_loop(tokens[:-1], cut=True) is None


def test_a_loop_says_where_it_began_and_what_to_keep() -> None:
    before, sentence = pieces("A quiet street at night."), [7_001, 7_002, 7_003, 7_004, 7_005]
    loop = find_loop(before + sentence * 60)
    assert loop == Loop(start=len(before), period=5, tokens=240)
    assert (before + sentence * 60)[: loop.kept] == before + sentence


def test_a_loop_begins_where_it_first_can() -> None:
    ends_alike = [1, 2, 3, 4, 5]  # what goes before ends as the loop does
    loop = find_loop([9, 8, 4, 5] + ends_alike * 60)
    assert loop is not None
    assert (loop.start, loop.kept) == (2, 7)


def test_the_period_is_the_shortest() -> None:
    loop = find_loop([3, 4] * 200)
    assert loop is not None
    assert loop.period == 2


def test_a_text_that_leaves_its_loop_is_no_longer_in_one() -> None:
    detector = LoopDetector()
    assert not any(detector.add(token) for token in [5, 6, 7] * 79)
    assert detector.cut() == Loop(0, 3, 237)
    assert detector.add(8) is None
    assert detector.cut() is None


def test_it_stays_stuck_for_as_long_as_it_goes_on() -> None:
    detector = LoopDetector()
    loops = [detector.add(token) for token in [1, *([2, 3] * 150)]]
    assert [bool(loop) for loop in loops] == [False] * 240 + [True] * 61
    assert loops[-1] == Loop(1, 2, 300)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_tokens(count: int) -> None:
    assert find_loop([1] * count, cut=True) is None


def test_loops_longer_than_it_looks_back_are_not_seen() -> None:
    assert find_loop(list(range(LONGEST_PERIOD + 1)) * 20) is None


@pytest.mark.parametrize("vocabulary", [1, 40, 150_000])
def test_memory_does_not_grow(vocabulary: int) -> None:
    rng = random.Random(vocabulary)
    tokens = [rng.randrange(vocabulary) for _ in range(8_192)]
    detector = LoopDetector()
    tracemalloc.start()
    try:
        for token in tokens:
            detector.add(token)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 100_000


def test_a_long_text_before_a_loop_changes_nothing() -> None:
    rng = random.Random(1)
    before = pieces(library_text(rng, library_files()))
    loop = made_loop(rng, 12, 0)[:400]
    assert find_loop(before * 5 + loop) == Loop(5 * len(before), 12, STUCK.tokens)

"""What the loop detector notices, and what it leaves alone: the texts, the loops and the figures.

    python -m benchmarks.repetition            # false positives, and how soon loops are noticed
    python -m benchmarks.repetition --choose   # what harmless texts hold, which chose the figures

Everything is made from a seed, or is the source of Python's standard library, so that no network
is needed. Texts are cut into tokens in two ways that no tokenizer was asked about: the pieces that
a byte-pair tokenizer starts from, and bytes.
"""

import argparse
import random
import re
import sysconfig
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from captioner.device.repetition import LONGEST_PERIOD, STUCK, find_loop

SEED = 20261123
SHORTEST, LONGEST = 100, 600  # tokens of a chunk
LOOP = 1_100  # tokens of a made loop
# Words with the blank before them, digits one by one, white space, punctuation one by one: like
# Qwen's, but it joins punctuation and so repeats less.
PIECES = re.compile(r" ?[^\W\d]+|\d|\s+|[^\w\s]|_")

THINGS = (
    "cat",
    "dog",
    "bus",
    "kite",
    "lamp",
    "sign",
    "tower",
    "bridge",
    "woman",
    "man",
    "child",
    "boat",
    "chair",
    "window",
    "tree",
)
LOOKS = (
    "red",
    "blue",
    "old",
    "small",
    "tall",
    "wooden",
    "bright",
    "striped",
    "rusty",
    "quiet",
    "broken",
    "green",
)
PLACES = (
    "street",
    "table",
    "river",
    "field",
    "wall",
    "roof",
    "harbour",
    "kitchen",
    "beach",
    "shelf",
    "square",
)
DOINGS = (
    "stands",
    "leans",
    "lies",
    "waits",
    "hangs",
    "rests",
    "points",
    "looks",
    "shines",
    "moves",
)
FORMS = (
    "The image shows a {0} {1} next to a {2} {3} on the {4}.",
    "In the foreground, a {0} {1} {5} beside the {4}.",
    "To the left there is a {2} {3}; to the right, a {0} {1}.",
    'A sign reads "{n} {1}", and another one "{m} {3}".',
    "There are {n} {0} {1}s and {m} {2} {3}s near the {4}.",
    "The {1} is {0}, the {3} is {2}.",
    "Behind it a {2} {3} {5}, while the {4} is {0}.",
)


def caption(rng: random.Random) -> str:
    """An ordinary caption of one to twenty sentences."""
    sentences = []
    for _ in range(rng.randint(1, 20)):
        words = [rng.choice(w) for w in (LOOKS, THINGS, LOOKS, THINGS, PLACES, DOINGS)]
        form = rng.choice(FORMS)
        sentences.append(form.format(*words, n=rng.randint(2, 9), m=rng.randint(10, 99)))
    return " ".join(sentences)


def repetitive_text(rng: random.Random) -> str:
    """What repeats by right: tables, labels, rules, zeros, art, verse; a page of it at most."""
    rows, columns = rng.randint(4, 25), rng.randint(2, 8)
    numbers = range(1, rows + 1)
    zeros = ["0"] * columns
    table = ["| " + " | ".join(f"c{n}" for n in range(columns)) + " |", "|---" * columns + "|"]
    verse = "{0} {0} {0}, the {1} goes {0} {0} {0},\n{0} {0} {0}, {0} {0} {0},\nall day long.\n"
    made = (
        "\n".join(",".join(zeros) for _ in numbers),
        "\n".join(f"Row {n}: " + " ".join(zeros) for n in numbers),
        "\n".join([*table, *("| " + " | ".join(zeros) + " |" for _ in numbers)]),
        "\n".join([*table, *("|" + " |" * columns for _ in numbers)]),
        "\n".join([*table, *(f"| {n} " + "| yes " * (columns - 1) + "|" for n in numbers)]),
        "<table>\n" + f"<tr>{'<td></td>' * min(columns, 4)}</tr>\n" * min(rows, 14) + "</table>",
        "\n".join(f"- Button {n}: a grey rectangle labelled OK" for n in numbers),
        "\n".join(f"Shelf {n}: " + "bottle, " * columns + "bottle" for n in numbers),
        "\n".join(f"Chapter {n} {'.' * (60 - n)} {n * 7}" for n in numbers),
        "\n".join(f"{n * 16:08x}: " + "00 " * 16 for n in numbers),
        "\n".join(["=" * 79, "Total", "-" * 79, "", "*" * 40]),
        "\n".join("#" * n for n in numbers) + "\n  |\n  v\n" * columns,
        "+" + "-" * 30 + "+\n" + ("|" + " " * 30 + "|\n") * min(rows, 12) + "+" + "-" * 30 + "+",
        "".join(verse.format(rng.choice(DOINGS), rng.choice(THINGS)) for _ in range(columns)),
        "Ha" * columns * 3 + "! No" + "o" * 40 + "! " + "Never! " * columns + "..." * columns,
    )
    return rng.choice(made)


def library_files(tests: bool = False) -> list[Path]:
    """The sources of the standard library; its tests, which hold odder things, when asked for."""
    root = Path(sysconfig.get_path("stdlib"))
    out = {"site-packages", "dist-packages"} | (set() if tests else {"test", "tests", "idle_test"})
    files = sorted(root.rglob("*.py"))
    return [file for file in files if out.isdisjoint(file.relative_to(root).parts)]


def library_text(rng: random.Random, files: list[Path]) -> str:
    """A part of one of the files, of some pages."""
    text = rng.choice(files).read_text("utf-8", "replace")
    begin = rng.randrange(max(1, len(text) - 5_000))
    return text[begin : begin + 5_000]


def pieces(text: str) -> list[int]:
    """Token ids: the number of each piece, as it first came."""
    ids: dict[str, int] = {}
    return [ids.setdefault(piece, len(ids)) for piece in PIECES.findall(text)]


def chunk(rng: random.Random, tokens: list[int]) -> list[int]:
    """100 to 600 of the tokens, from anywhere; all when there are fewer."""
    size = rng.randint(SHORTEST, LONGEST)
    begin = rng.randrange(max(1, len(tokens) - size))
    return tokens[begin : begin + size]


def harmless(kind: str, number: int, seed: int = SEED) -> Iterator[tuple[list[int], list[int]]]:
    """That many texts as pieces and as bytes; `kind` is captions, repetitive or library."""
    rng = random.Random(f"{seed} {kind}")
    files = library_files() if kind == "library" else []
    for _ in range(number):
        if files:
            text = library_text(rng, files)
            yield chunk(rng, pieces(text)), chunk(rng, list(text.encode()))
        else:
            text = caption(rng) if kind == "captions" else repetitive_text(rng)
            yield pieces(text), list(text.encode())


def made_loop(
    rng: random.Random, period: int, prefix: int, different: int | None = None
) -> list[int]:
    """An ordinary beginning of `prefix` tokens, then a loop of 1,100 tokens of its own."""
    before = pieces(" ".join(caption(rng) for _ in range(prefix // 4 + 1)))[:prefix]
    if different is None:
        body = rng.sample(range(1_000, 150_000), period)
    else:  # one of them once, so that no part of the period is a period
        body = [1_000 + n % (different - 1) for n in range(period - 1)] + [999]
        rng.shuffle(body)
    return before + (body * (LOOP // period + 1))[:LOOP]


def false_positives(kind: str, number: int) -> list[int]:
    """How many of the texts are called stuck: pieces, bytes; and when taken as cut, likewise."""
    found = [0, 0, 0, 0]
    for texts in harmless(kind, number):
        for place, tokens in enumerate(texts):
            loop = find_loop(tokens, cut=True)
            if loop and (loop.start + loop.tokens < len(tokens) or find_loop(tokens)):
                found[place] += 1
            elif loop:
                found[place + 2] += 1
    return found


def noticed_after(period: int, different: int | None = None) -> list[int]:
    """How many tokens after its start each of some loops is noticed; 0 when it never is."""
    rng = random.Random(f"{SEED} {period} {different}")
    after = []
    for prefix in (0, 1, 30, 100, 300):
        loop = find_loop(made_loop(rng, period, prefix, different))
        after.append(loop.start + loop.tokens - prefix if loop else 0)
    return after


def evidence(tokens: np.ndarray) -> float:
    """The largest `STUCK.tokens` with which the text would be called stuck; 0 for none."""
    most = 0.0
    for period in range(1, min(len(tokens), LONGEST_PERIOD + 1)):
        same = np.concatenate(([0], tokens[period:] == tokens[:-period], [0]))
        changes = np.diff(same)
        begins = np.flatnonzero(changes == 1)
        lengths = np.flatnonzero(changes == -1) - begins + period
        for n in np.flatnonzero(lengths >= max(most, STUCK.repeats * period)):
            length = int(lengths[n])
            different = len(set(tokens[begins[n] : begins[n] + period].tolist()))
            always = length >= STUCK.tokens_at_most
            most = max(most, length if always else length * different / period)
    return most


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="What the loop detector notices.")
    parser.add_argument("--number", type=int, default=1_000, help="texts of each kind")
    parser.add_argument("--choose", action="store_true", help="look through the whole library")
    arguments = parser.parse_args()
    if arguments.choose:
        _choose()
        return
    print(f"of {arguments.number} texts called stuck: pieces, bytes; only if cut: pieces, bytes")
    for kind in ("captions", "repetitive", "library"):
        print(f"  {kind:12}", *(f"{n:6}" for n in false_positives(kind, arguments.number)))
    print("\nperiod, noticed at most so many tokens after the start; with 2, 4, 8 different tokens")
    for period in range(1, 61):
        kinds = [noticed_after(period, n) for n in (None, 2, 4, 8) if n is None or n <= period]
        print(f"  {period:2}", *(f"{max(k) if all(k) else 'never':>6}" for k in kinds))


def _choose() -> None:
    for name, cut in (("pieces", pieces), ("bytes", lambda text: list(text.encode()))):
        found, tokens = [], 0
        for file in library_files(tests=True):
            ids = np.asarray(cut(file.read_text("utf-8", "replace")[:300_000]), dtype=np.int64)
            tokens += len(ids)
            found.append(evidence(ids))
        found.sort()
        print(f"{len(found)} files of the library as {tokens} {name}; called stuck with tokens =")
        for at in (60, 80, 100, 120, 160, 200, 240, 320, 400):
            print(f"  {at:4}: {len(found) - bisect_left(found, at)}", flush=True)


if __name__ == "__main__":
    main()

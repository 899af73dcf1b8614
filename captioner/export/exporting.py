"""An export: which captions go into which files of a finished output folder.

Knows nothing of the forms themselves; `kinds` has the table of them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from captioner.errors import InputError
from captioner.export.kinds import KINDS
from captioner.export.place import Options, Place
from captioner.output.results import Result, results_and_unreadable
from captioner.text import counted, listed, printable


@dataclass(frozen=True, slots=True)
class Choice:
    """Which captions are exported, and how they are worded: the caption files stay as they are."""

    include_flagged: bool = False
    prefix: str = ""
    suffix: str = ""
    replacements: tuple[tuple[str, str], ...] = ()  # old and new, in turn

    def worded(self, caption: str) -> str:
        """The caption as it is exported."""
        for old, new in self.replacements:
            caption = caption.replace(old, new)
        return f"{self.prefix}{caption.strip()}{self.suffix}"


def export(
    output_dir: Path, kinds: Sequence[str], options: Options, choice: Choice | None = None
) -> list[str]:
    """Write the captions of `output_dir` in each of `kinds`; sentences that say what became of it.

    Whoever calls it keeps others out of the folder.

    Raises:
        InputError: a kind is unknown, or the pictures that files are to go beside are not there.
        OutputError: a file cannot be written.
    """
    check(kinds, options)
    choice = choice or Choice()
    found, unreadable = results_and_unreadable(output_dir)
    chosen = [result for result in found if choice.include_flagged or not result.flags]
    place = Place(output_dir, options)
    for kind in dict.fromkeys(kinds):
        KINDS[kind](_worded(chosen, choice.worded), place)
    left_out = (*_unreadable(unreadable), *_left_out(found, chosen, place))
    return [*_counts(kinds, chosen, place), *left_out, *place.say()]


def check(kinds: Sequence[str], options: Options) -> None:
    """Check that the export can be made.

    Raises:
        InputError: a kind is unknown, or the pictures that files are to go beside are not there.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise InputError(f"{printable(unknown[0])} is no export: choose of {', '.join(KINDS)}.")
    if options.beside and not options.input_dir.is_dir():
        shown = printable(str(options.input_dir))
        raise InputError(f"{shown} is not a directory; name the pictures' with --input-dir.")


def _worded(chosen: Iterable[Result], worded: Callable[[str], str]) -> Iterator[Result]:
    for result in chosen:
        yield replace(result, caption=worded(result.caption))


def _counts(kinds: Sequence[str], chosen: list[Result], place: Place) -> Iterator[str]:
    there = f", {place.unchanged:,} unchanged" if place.unchanged else ""
    shown = printable(str(place.home))
    yield (
        f"Exported {len(chosen):,} caption(s) as {', '.join(kinds)} into {shown}: "
        f"{place.written:,} file(s) written{there}."
    )


def _unreadable(reasons: Mapping[str, str]) -> Iterator[str]:
    if reasons:
        names = listed(f"{printable(file)} ({why})" for file, why in reasons.items())
        what = counted(len(reasons), "caption file")
        yield (
            f"{what} cannot be read and {'is' if len(reasons) == 1 else 'are'} left out: {names}; "
            "mend or remove what is there, run again, and export again."
        )


def _left_out(found: list[Result], chosen: list[Result], place: Place) -> Iterator[str]:
    if flagged := len(found) - len(chosen):
        yield f"{flagged:,} flagged caption(s) left out; --include-flagged takes them in."
    if place.options.beside:
        missing = [result.key for result in chosen if place.picture(result) is None]
        if missing:
            shown = printable(str(place.options.input_dir))
            names = listed(map(printable, missing))
            yield f"{len(missing):,} picture(s) are not in {shown} (any more): {names}."

"""Texts in a form that is safe and short enough to show, in words that their reader knows. Knows
nothing of where they come from."""

import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar

_titles: ContextVar[Mapping[str, str] | None] = ContextVar("_titles", default=None)
FLAG = re.compile(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*(?![\w-])")


def call_settings_by(titles: Mapping[str, str]) -> None:
    """From now on sentences are for a reader who knows each flag by the title that it has here."""
    _titles.set(titles)


def in_the_reader_s_words(text: str) -> str:
    """`text`, which names settings by their flags, for whoever reads it."""
    titles = _titles.get()
    return FLAG.sub(lambda flag: titles.get(flag[0], flag[0]), text) if titles else text


def printable(text: str) -> str:
    """`text` with everything that a terminal would act upon written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def listed(names: Iterable[str], limit: int = 5) -> str:
    """The first few of `names` in one line, and how many more there are."""
    names = list(names)
    shown = ", ".join(names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def counted(number: int, one: str, many: str = "") -> str:
    """For example `1 picture` and `1,204 pictures`; `many` where an s does not make the plural."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def gigabytes(size: float) -> str:
    """Bytes as text, such as `33.5 GB` (10^9 bytes), or in MB below one GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def duration(seconds: float) -> str:
    """Seconds as text, such as `40 s`, `12 min` or `3 h 20 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"

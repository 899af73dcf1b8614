"""Names, lists and sizes as harmless text. Knows nothing of what they are of."""

from collections.abc import Iterable


def printable(text: str) -> str:
    """`text` with everything that a terminal would act upon written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def listed(names: Iterable[str], limit: int = 5) -> str:
    """The first few of `names` in one line, and how many more there are."""
    names = list(names)
    shown = ", ".join(names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def gigabytes(size: float) -> str:
    """Bytes as text, such as `33.5 GB` (10^9 bytes), or in MB below one GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"

"""The fields of a caption as names and texts for a reader. Knows nothing of the page."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from captioner.text import counted

FIELDS = 40  # that are shown of one caption
NAME_CHARACTERS = 64
TEXT_CHARACTERS = 2_000


def as_texts(fields: Mapping[str, Any], caption: str) -> dict[str, str]:
    """The fields as texts, without one that says what the caption says; what is too much is cut.

    Texts of somebody else's still: a page has to escape them.
    """
    return dict(_texts(fields, caption))


def in_a_line(fields: Mapping[str, Any], caption: str) -> str:
    """For example `alt_text: A box. keywords: box, blue`."""
    return " ".join(f"{name}: {text}" for name, text in _texts(fields, caption))


def _texts(fields: Mapping[str, Any], caption: str) -> Iterator[tuple[str, str]]:
    for name, value in list(fields.items())[:FIELDS]:
        text = _text(value)
        if value is not None and not (name == "caption" and text.strip() == caption.strip()):
            yield cut(name, NAME_CHARACTERS), cut(text)
    if (more := len(fields) - FIELDS) > 0:
        yield "…", f"{counted(more, 'more field')} in the caption file"


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)


def cut(text: str, limit: int = TEXT_CHARACTERS) -> str:
    """The text, or its beginning and how long all of it is."""
    if len(text) <= limit:
        return text
    return f"{text[: limit - 1]}… ({len(text):,} characters in all)"

"""The fields of answers as columns: of numbers, of yes and no, of texts, or of lists of texts.

What is of no such kind, or not of one kind in all captions, is JSON in a text. Knows nothing of the
files that have columns.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from captioner.output.results import Result
from captioner.pictures.scan import natural_key

MAX_COLUMNS = 200  # caption files are anybody's
Fields = dict[str, tuple[str, type]]  # by the names of columns: the field, the type of its values
LARGEST = 2**63 - 1  # of a whole number in a table


def columns_of(results: Iterable[Result], taken: Collection[str]) -> Fields:
    """By the name of each column: its field and the type of its values.

    A field whose name is `taken` has a column of another name; the caption's own has none.
    """
    kinds: dict[str, set[type]] = {}
    for result in results:
        for name, value in result.fields.items():
            if name == "caption" or value is None:
                continue
            if name in kinds or len(kinds) < MAX_COLUMNS:
                kinds.setdefault(name, set()).add(_kind(value))
    return {
        f"fields.{name}" if name in taken else name: (name, _together(kinds[name]))
        for name in sorted(kinds, key=natural_key)
    }


def cell(fields: Mapping[str, Any], name: str, kind: type) -> Any:
    """The value of a field in a column of such values; None where a caption has none."""
    value = fields.get(name)
    if value is None:
        return None
    if kind is list:
        return [_text(each) for each in value]
    if kind is str:
        return _text(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return kind(value)


def _kind(value: object) -> type:
    if isinstance(value, bool):
        return bool
    if isinstance(value, int) and abs(value) <= LARGEST:
        return int
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return list
    return float if isinstance(value, float) else str


def _together(kinds: set[type]) -> type:
    if kinds == {int, float}:
        return float
    return kinds.pop() if len(kinds) == 1 else str


def _text(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode()

"""An answer that was held to a schema: the object that it is, and the caption in it.

Works on text alone; knows nothing of MLX, of tokenizers or of schemas.
"""

import json
import math
import sys
from typing import Any

from pydantic_core import from_json

from captioner.errors import CaptionError

MAX_DEPTH = 16  # of an answer; a caption file may be a little deeper
LONG_NUMBER = 300  # digits; Python reads no whole numbers of more than 4,300


def fields_of(text: str) -> dict[str, Any]:
    """The object that a whole answer is.

    Raises:
        CaptionError: it is none, or nested too deeply to be kept.
    """
    try:
        fields = json.loads(text, parse_float=_number, parse_int=_whole_number)
    except (ValueError, RecursionError) as error:
        raise CaptionError(f"its answer cannot be read: {error}") from error
    if not isinstance(fields, dict):
        raise CaptionError("its answer is no object")
    if depth(fields) > MAX_DEPTH:
        raise CaptionError(f"its answer is nested more than {MAX_DEPTH} levels deep")
    return fields


def caption_of(fields: dict[str, Any], text: str) -> str:
    """The caption of a whole answer: its `caption`, or all of it, as it was written."""
    caption = fields.get("caption")
    return caption.strip() if isinstance(caption, str) else text


def caption_of_a_part(text: str) -> str:
    """As much of the caption as there is in an answer that was cut; it is no JSON any more."""
    try:
        begun = from_json(text, allow_partial="trailing-strings")
    except ValueError:
        return ""
    caption = begun.get("caption") if isinstance(begun, dict) else None
    return caption.strip() if isinstance(caption, str) else ""


def depth(value: object) -> int:
    """How many objects and lists lie within one another."""
    level, found = [value], 0
    while level := [each for each in level if isinstance(each, dict | list)]:
        found += 1
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return found


def _number(text: str) -> float:
    """The nearest number that a file of JSON can hold."""
    number = float(text)
    return math.copysign(sys.float_info.max, number) if math.isinf(number) else number


def _whole_number(text: str) -> int | float:
    return int(text) if len(text) <= LONG_NUMBER else _number(text)

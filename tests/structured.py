"""Answers that are noise, held to schemas: all parse, all validate, or are flagged as truncated.

    python -m tests.structured [ANSWERS]

has the tiny random checkpoint answer so often (1,000 times) under five schemas, in batches of eight
and one at a time, and prints what became of it. Its tokens are noise wherever the grammar leaves a
choice. Exits with 1 when an answer is neither whole and valid nor flagged.
"""

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from PIL import Image

from benchmarks.checkpoint import make_checkpoint
from captioner.answers import read_schema
from captioner.device.device import Device
from captioner.device.rows import Request
from captioner.errors import CaptionError
from captioner.pictures.decoding import load_image
from captioner.records import Generation, Picture

TEXT = {"type": "string", "maxLength": 12}
SCHEMAS: dict[str, dict[str, Any]] = {
    "nested": {
        "type": "object",
        "properties": {
            "caption": {"type": "string"},
            "place": {
                "type": "object",
                "properties": {
                    "name": TEXT,
                    "at": {
                        "type": "object",
                        "properties": {"x": {"type": "number"}, "y": {"type": "number"}},
                        "required": ["x", "y"],
                        "additionalProperties": False,
                    },
                    "note": {"type": ["string", "null"], "maxLength": 6},
                },
                "required": ["name", "at"],
                "additionalProperties": False,
            },
        },
        "required": ["caption", "place"],
        "additionalProperties": False,
    },
    "enums": {
        "type": "object",
        "properties": {
            "kind": {"enum": ["photo", 'a "drawing", or\nsuch', "été", 3, None, True]},
            "always": {"const": "as it is , isn't it"},
            "maybe": {"type": "boolean"},
        },
        "required": ["kind", "always"],
        "additionalProperties": False,
    },
    "arrays": {
        "type": "object",
        "properties": {
            "boxes": {
                "type": "array",
                "minItems": 2,
                "maxItems": 4,
                "items": {
                    "type": "object",
                    "properties": {
                        "label": TEXT,
                        "to": {"type": "array", "items": {"type": "integer"}},
                    },
                    "required": ["label"],
                    "additionalProperties": False,
                },
            },
            "pair": {
                "type": "array",
                "prefixItems": [{"type": "integer"}, {"type": "string", "pattern": "^[a-f]{2,3}$"}],
                "items": False,
                "minItems": 2,
            },
        },
        "required": ["boxes", "pair"],
    },
    "numbers": {
        "type": "object",
        "properties": {
            "whole": {"type": "integer", "minimum": -7, "maximum": 1_000},
            "part": {"type": "number", "exclusiveMinimum": 0, "maximum": 1.5},
            "any": {"type": "number"},
            "even": {"type": "integer", "multipleOf": 2, "minimum": 0},
        },
        "required": ["whole", "part", "any", "even"],
        "additionalProperties": False,
    },
    "photo": {
        "type": "object",
        "properties": {
            "caption": {"type": "string", "minLength": 1, "maxLength": 60},
            "alt_text": {"type": "string", "maxLength": 40},
            "keywords": {"type": "array", "items": TEXT, "minItems": 1, "maxItems": 4},
            "people": {"type": "integer", "minimum": 0, "maximum": 99},
            "date": {"type": "string", "format": "date"},
        },
        "required": ["caption", "alt_text", "keywords", "people"],
        "additionalProperties": False,
    },
}


def answers(folder: Path, number: int, batch_sizes: Sequence[int] = (8, 1)) -> Iterator[str]:
    """What became of each of `number` answers, the schemas in turn: `valid`, `flagged`, or why not.

    Rows of one batch are held to different schemas, and are at different places of them.
    """
    make_checkpoint(folder / "model", tiny=True)
    Image.new("RGB", (64, 64), "orange").save(folder / "a.png")
    picture = Picture("a.png", folder)
    names = list(SCHEMAS)
    for place, batch_size in enumerate(batch_sizes):
        with Device(folder / "model", batch_size) as device:
            share = range(place, number, len(batch_sizes))
            works = []
            for seed in share:
                name = names[seed // len(batch_sizes) % len(names)]
                schema = read_schema(SCHEMAS[name])
                request = Request("?", None, 40 + 37 * seed % 800, 1.0 + seed % 3 / 2, seed, schema)
                works.append((name, device.begin(partial(load_image, picture.path, 0), request)))
            for name, work in works:
                try:
                    yield f"{name}: {judged(work.result(), SCHEMAS[name])}"
                except CaptionError as error:
                    yield f"{name}: {error}"


def judged(made: Generation, schema: dict[str, Any]) -> str:
    """`valid`, `flagged`, or what is wrong with an answer."""
    if made.fields is None:
        half = made.text.startswith("{")
        return "flagged" if made.flags and not half else f"no fields: {made}"
    error = next(Draft202012Validator(schema).iter_errors(made.fields), None)
    if made.finish_reason != "stop" or error:
        return f"invalid: {error and error.message}: {made.fields}"
    if json.loads(json.dumps(made.fields, allow_nan=False)) != made.fields:
        return f"no JSON: {made.fields}"
    return "valid"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        asked = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
        found = Counter(answers(Path(directory), asked))
    for what, count in sorted(found.items()):
        print(f"{count:5}  {what}")
    sys.exit(any(not what.endswith((": valid", ": flagged")) for what in found))

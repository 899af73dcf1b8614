"""Schemas and further questions: what is refused, and that answers are what they would be alone."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captioner.answers import questions, read_asks, read_schema
from captioner.device.device import Device
from captioner.device.encoding import Prepared
from captioner.device.look import Look, shared_tokens
from captioner.device.model import MlxModel
from captioner.device.rows import Request
from captioner.device.structure import caption_of_a_part, depth, fields_of
from captioner.errors import CaptionError, CheckpointError
from captioner.pictures.decoding import load_image
from captioner.records import Generation
from tests.conftest import CHECKPOINT, draw_picture
from tests.float32 import dequantise, seeing_small_pictures
from tests.structured import answers

PROMPT = "Describe the contents of this image."
ASKED = ("short=Answer in one sentence.", "long=Describe the boxes in detail, left to right.")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["photo", "flowchart"]},
        "boxes": {"type": "integer", "minimum": 0, "maximum": 9},
    },
    "required": ["kind", "boxes"],
    "additionalProperties": False,
}


# --- what is given ---


def test_a_schema_is_the_same_however_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps(SCHEMA, indent=4))
    text = json.dumps(SCHEMA, separators=(",", ":"))
    for given in (SCHEMA, json.dumps(SCHEMA), tmp_path / "s.json", str(tmp_path / "s.json"), text):
        assert read_schema(given) == text
    assert read_schema(None) is read_schema("") is None


OBJECT = {"type": "object"}


ENDLESS = "asks for an answer without an end: what it requires requires itself; require less"
SELF = {"$ref": "#"}
LIST = {"type": "array", "items": {"$ref": "#/$defs/b"}}


def requiring(value: object, **more: object) -> dict[str, Any]:
    return OBJECT | {"properties": {"a": value}, "required": ["a"]} | more


@pytest.mark.parametrize(
    "schema",
    [
        OBJECT | {"properties": {"a": SELF}},
        requiring({"anyOf": [SELF, {"type": "null"}]}),
        requiring({"type": "array", "items": SELF}),
        requiring(LIST, **{"$defs": {"b": requiring(LIST)}}),
        requiring({"$ref": "#/$defs/b"}, **{"$defs": {"b": {"type": "string"}}}),
        requiring({"$ref": "#b"}, **{"$defs": {"b": {"$anchor": "b", "type": "string"}}}),
    ],
    ids=range(6),
)
def test_a_schema_may_hold_itself_where_an_answer_can_end(schema: dict[str, Any]) -> None:
    assert json.loads(read_schema(schema)) == schema


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (requiring(SELF), ENDLESS),
        (requiring({"anyOf": [SELF, requiring(SELF)]}), ENDLESS),
        (requiring({"type": "array", "items": SELF, "minItems": 1}), ENDLESS),
        (
            requiring({"$ref": "#/$defs/b"}, **{"$defs": {"b": requiring(LIST | {"minItems": 1})}}),
            ENDLESS,
        ),
        ([], "must be a JSON Schema, or the file that it is in"),
        ({"type": "array"}, 'must be of "type": "object", since its properties become fields'),
        (OBJECT | {"properties": {"a": {"type": "objekt"}}}, "held to: Invalid type: objekt"),
        (OBJECT | {"properties": {"a": {"uniqueItems": True}}}, 'Unimplemented keys: ["uniqueItem'),
        (OBJECT | {"not": {}, "x-guidance": {"lenient": True}}, 'Unimplemented keys: ["not"]'),
        (OBJECT | {"properties": {"a": {"$ref": "https://x.org/y"}}}, "https://x.org/y"),
        (OBJECT | {"properties": {"a": {"type": "string", "pattern": "("}}}, "unclosed group"),
        (OBJECT | {"description": "x" * 70_000 * 2}, "is larger than 64 kB"),
        ('{"type": "object", "a": NaN}', "is no JSON: it holds NaN"),
        ('{"type": "object",\n  oops', "is no JSON from line 2 on"),
        ('{"a":' * 60_000, "is larger than 64 kB"),
        ('{"a":' * 5_000, "is nested too deeply"),
        ("nowhere.json", "names no file: nowhere.json"),
        ("/", "names no file: /"),
        ("a\0b", "a\\x00b"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_no_answer_can_be_held_to_is_refused_in_a_sentence(schema: object, why: str) -> None:
    with pytest.raises(ValueError) as refused:
        read_schema(schema)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400


def test_a_file_that_is_no_schema_is_refused(tmp_path: Path) -> None:
    for name, data, why in (
        ("long", b"{" + b" " * 70_000, "is larger than 64 kB"),
        ("latin", b'{"type": "\xe9"}', "is no text in UTF-8"),
        ("list", b"[1]", "is no JSON Schema, which is an object"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=why):
            read_schema(tmp_path / name)


def test_questions_have_names_and_prompts() -> None:
    given = ("alt_text=What, [in] short = brief?", "b=c")
    assert read_asks(given) == read_asks("\n".join(given)) == given
    assert read_asks({"alt_text": "What, [in] short = brief?", "b": "c"}) == given
    assert questions(given) == (("alt_text", "What, [in] short = brief?"), ("b", "c"))
    for wrong, why in (
        ("a", "not a"),
        ("=a", "not =a"),
        ("1a=b", "of the form NAME=PROMPT"),
        ("a=", "of the form NAME=PROMPT"),
        ("a=b\na=c", "asks for a twice"),
        ("caption=x", "cannot ask for the caption"),
        ("a=" + "x" * 50_000, "more than 40,000 characters"),
        ("\n".join(f"a{n}=b" for n in range(40)), "more than 32 questions"),
    ):
        with pytest.raises(ValueError, match=why):
            read_asks(wrong)


# --- what is answered ---


def test_numbers_that_no_file_can_hold_are_the_nearest_that_it_can() -> None:
    fields = fields_of('{"a": 1e999, "b": -1e999, "c": ' + "9" * 5_000 + ', "d": 1.5, "e": 7}')
    assert json.loads(json.dumps(fields, allow_nan=False)) == fields
    assert (fields["d"], fields["e"], type(fields["e"])) == (1.5, 7, int)
    for wrong in ("[1]", '{"a": ', '{"a": ' * 20 + "1" + "}" * 20):
        with pytest.raises(CaptionError):
            fields_of(wrong)
    assert depth({"a": [{}]}) == 3


@pytest.mark.parametrize(
    ("part", "caption"),
    [
        ('{"caption": " A bl', "A bl"),
        ('{"caption": "A \\"blue\\" box", "n": [1, 2', 'A "blue" box'),
        ('{"caption": "A box.", "n"', "A box."),
        ('{"capt', ""),
        ("", ""),
        ('{"n": 1, "caption": 7', ""),
        ('{"caption": "half \\u00', "half"),
    ],
)
def test_a_cut_answer_is_as_much_of_its_caption_as_there_is(part: str, caption: str) -> None:
    assert caption_of_a_part(part) == caption


Kept = Callable[..., Device]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoints")
    seeing_small_pictures(CHECKPOINT, directory / "8-bit")
    dequantise(directory / "8-bit", directory / "float32")
    return directory


@pytest.fixture(scope="module")
def kept(made: Path) -> Iterator[Kept]:
    devices: dict[int, Device] = {}
    with ExitStack() as stack:

        def device(batch_size: int) -> Device:
            if batch_size not in devices:
                new = Device(made / "float32", batch_size)
                devices[batch_size] = stack.enter_context(new)
            return devices[batch_size]

        yield device


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    sizes = [(192, 128), (96, 256), (160, 160)]
    return [draw_picture(folder / f"{n}.png", f"WORD{n}", size) for n, size in enumerate(sizes)]


def answered(on: Device, pictures: list[Path], *requests: Request) -> list[Generation]:
    works = [
        on.begin(partial(load_image, path, 0), request) for path in pictures for request in requests
    ]
    return [work.result() for work in works]


@pytest.fixture(scope="module")
def alone(kept: Kept, pictures: list[Path]) -> list[dict[str, Any]]:
    """The answers that each question gets by itself, one at a time."""
    asked = {"": PROMPT} | dict(questions(ASKED))
    each = [Request(prompt, "You are helpful.", 48, 0.0) for prompt in asked.values()]
    found = answered(kept(1), pictures, *each)
    texts = [made.text for made in found]
    assert all(texts) and len(set(texts)) > len(pictures)
    by_picture = [found[n : n + len(each)] for n in range(0, len(found), len(each))]
    return [
        {
            "text": first.text,
            "fields": dict(zip(list(asked)[1:], [made.text for made in rest], strict=True)),
            "generated_tokens": sum(made.generated_tokens for made in (first, *rest)),
            "flags": tuple(dict.fromkeys(f for made in (first, *rest) for f in made.flags)),
        }
        for first, *rest in by_picture
    ]


@pytest.mark.model
@pytest.mark.parametrize("batch_size", [1, 4, 8])
def test_several_questions_in_one_look_are_answered_as_they_are_alone(
    kept: Kept, pictures: list[Path], alone: list[dict[str, Any]], batch_size: int
) -> None:
    request = Request(PROMPT, "You are helpful.", 48, 0.0, ask=ASKED)
    found = answered(kept(batch_size), pictures, request)
    assert [{name: getattr(made, name) for name in alone[0]} for made in found] == alone


@pytest.mark.model
@pytest.mark.parametrize("batch_size", [1, 4])
def test_an_answer_is_held_to_a_schema_and_other_rows_are_not(
    kept: Kept, pictures: list[Path], alone: list[dict[str, Any]], batch_size: int
) -> None:
    schema = read_schema(SCHEMA)
    held = Request(PROMPT, "You are helpful.", 48, 0.0, schema=schema, ask=ASKED)
    other = replace(held, schema=read_schema(SCHEMA | {"required": ["boxes"]}), ask=())
    cut, free = replace(held, max_tokens=3, ask=()), replace(held, schema=None, ask=())
    found = answered(kept(batch_size), pictures, held, other, cut, free)
    for number, before in enumerate(alone):
        whole, different, half, text = found[4 * number : 4 * number + 4]
        assert whole.fields is not None and different.fields is not None
        assert list(whole.fields) == ["kind", "boxes", "short", "long"]
        assert whole.fields["kind"] in ("photo", "flowchart")
        assert json.loads(whole.text) == {key: whole.fields[key] for key in ("kind", "boxes")}
        assert {name: whole.fields[name] for name in ("short", "long")} == before["fields"]
        assert type(different.fields["boxes"]) is int
        assert (half.fields, half.text, half.flags) == (None, "", ("truncated", "empty"))
        assert half.said.startswith('{"')
        assert (text.text, text.fields, text.said) == (before["text"], None, "")


@pytest.mark.model
def test_a_picture_is_seen_once_and_its_beginning_read_once(
    made: Path, pictures: list[Path]
) -> None:
    model = MlxModel(made / "float32")
    requests = list(Request(PROMPT, None, 4, 0.0, ask=ASKED).each().values())
    image = load_image(pictures[0], 0)
    prepared = model.prepare_each(image, requests)
    for one, request in zip(prepared, requests, strict=True):
        by_itself = model.prepare(image, request)
        assert one.arrays.keys() == by_itself.arrays.keys()
        for name, value in by_itself.arrays.items():
            assert np.array_equal(one.arrays[name], value), name
    assert prepared[1].arrays["pixel_values"] is prepared[0].arrays["pixel_values"]

    look = model.look(prepared)
    first, second, _ = (look.encode(one) for one in prepared)
    assert first.features.deepstack_visual_embeds is second.features.deepstack_visual_embeds
    for encoded, one in ((first, prepared[0]), (second, prepared[1])):
        whole = model.encode(one)
        for name, value in whole.features.to_dict().items():
            if value is not None:
                same = np.array(encoded.features.to_dict()[name])
                assert np.allclose(same, np.array(value), atol=1e-5), name
    beginning = second.beginning
    assert beginning is not None and beginning is first.beginning
    assert 0 < prepared[0].picture_end < beginning.tokens < prepared[1].prompt_tokens


@pytest.mark.model
def test_what_shares_nothing_is_seen_for_each_question(made: Path, pictures: list[Path]) -> None:
    model = MlxModel(made / "float32")
    image = load_image(pictures[0], 0)
    # another word of the system before the picture: what comes after it is another matter
    prepared = [
        model.prepare(image, Request(PROMPT, system, 4, 0.0)) for system in ("Be brief.", "Hm?")
    ]
    assert model.look(prepared).encode(prepared[1]).beginning is None
    assert shared_tokens([prepared[0].arrays["input_ids"]]) == 0
    unknown = [replace(one, picture_end=0) for one in prepared[:1] * 2]
    assert isinstance(unknown[0], Prepared)
    assert Look(None, unknown, shared=True)._beginning is None


@pytest.mark.model
def test_answers_that_are_noise_are_valid_or_flagged(tmp_path: Path) -> None:
    found = Counter(answers(tmp_path, 30, batch_sizes=(8, 1)))
    kinds = Counter(what.split(": ", 1)[1] for what in found.elements())
    assert kinds.keys() <= {"valid", "flagged"}, found
    assert kinds["valid"] > 8


@pytest.mark.model
def test_a_schema_that_is_too_much_is_said_when_the_model_is_loaded(
    made: Path,
) -> None:
    schema = '{"type":"object","properties":{"a":{"type":"string","maxLength":' + "9" * 30 + "}}}"
    with pytest.raises(CheckpointError, match="--schema cannot be used: no answer can be held"):
        Device(made / "8-bit", schema=schema)

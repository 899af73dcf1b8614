"""What a model is to answer with, as a person gives it: a JSON Schema, and further questions.

Both are read and checked here, before anything is loaded. Knows nothing of models, or of what
becomes of the answers.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from functools import lru_cache
from pathlib import Path
from typing import Any

from captioner.text import printable

MAX_SCHEMA_BYTES = 65_536
MAX_REFERENCES = 50  # different ones in a schema
MAX_QUESTIONS = 32
MAX_PROMPT_LENGTH = 40_000  # characters; Prefect refuses more than 524,288 bytes of parameters
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
SHOWN = 200  # characters of what is wrong

# As models write JSON by themselves. Free white space would be a way to say nothing for ever, and
# `lenient` would drop what cannot be held to in silence.
STYLE: dict[str, Any] = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "lenient": False,
}


def read_schema(value: Any) -> Any:
    """The text of a JSON Schema, in one form however it was laid out; None for none.

    `value` is the schema, its text, which begins with a brace, or the file that it is in.

    Raises:
        ValueError: it cannot be read, or no answer can be held to it.
    """
    if value is None or value == "":
        return None
    try:
        if isinstance(value, Mapping):
            return _checked(_canonical(dict(value)))
        if not isinstance(value, str | Path):
            raise ValueError("must be a JSON Schema, or the file that it is in")
        text = str(value)
        if not text.lstrip().startswith("{"):
            text = _text_of(text)
        if len(text.encode(errors="replace")) > MAX_SCHEMA_BYTES:
            raise ValueError(f"is larger than {MAX_SCHEMA_BYTES >> 10} kB")
        return _checked(_canonical(json.loads(text, parse_constant=_refuse_constant)))
    except json.JSONDecodeError as error:
        raise ValueError(f"is no JSON from line {error.lineno} on") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def grammar_of(schema: str) -> str:
    """llguidance's grammar of the answers that a schema allows, in one way of writing JSON."""
    from llguidance import LLMatcher

    return LLMatcher.grammar_from_json_schema(schema, overrides=STYLE)  # type: ignore[arg-type]


def read_asks(value: Any) -> Any:
    """Further questions, each as `NAME=PROMPT`.

    `value` is a list of them, a text with one a line, or prompts by their names.

    Raises:
        ValueError: one of them has no name or no prompt, or two share a name.
    """
    if isinstance(value, Mapping):
        if no_text := [name for name, prompt in value.items() if not isinstance(prompt, str)]:
            raise ValueError(f"must have a text as the prompt of {_shown(str(no_text[0]))}")
        value = [f"{name}={prompt}" for name, prompt in value.items()]
    if isinstance(value, str):
        value = [line.strip() for line in value.splitlines() if line.strip()]
    if not isinstance(value, Iterable):
        raise ValueError("must be questions such as alt_text=Write an alt text.")
    asks = tuple(map(str, value))
    questions(asks)
    return asks


def questions(asks: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """The names and prompts of `asks`.

    Raises:
        ValueError: as of `read_asks`.
    """
    found: dict[str, str] = {}
    for ask in asks:
        name, equals, prompt = ask.partition("=")
        if not equals or not NAME.fullmatch(name) or not prompt.strip():
            raise ValueError(
                "must be of the form NAME=PROMPT, such as 'alt_text=Write an alt text.', "
                f"not {_shown(ask) or 'empty'}"
            )
        if name == "caption":
            raise ValueError("cannot ask for the caption, which --user-prompt does")
        if name in found:
            raise ValueError(f"asks for {name} twice")
        if len(prompt) > MAX_PROMPT_LENGTH:
            raise ValueError(f"has a prompt of more than {MAX_PROMPT_LENGTH:,} characters")
        found[name] = prompt
    if len(found) > MAX_QUESTIONS:
        raise ValueError(f"asks more than {MAX_QUESTIONS} questions")
    return tuple(found.items())


def asked_twice(schema: str | None, asks: Iterable[str]) -> str | None:
    """A name that both the schema and a further question would fill; None without one."""
    properties = json.loads(schema).get("properties", {}) if schema else {}
    return next((name for name, _ in questions(asks) if name in properties), None)


def _text_of(place: str) -> str:
    path = Path(place).expanduser() if place.startswith("~") else Path(place)
    try:
        if not path.is_file():  # before it is opened: a FIFO would be waited for
            raise ValueError(f"names no file: {_shown(place)}")
        with path.open("rb") as file:
            data = file.read(MAX_SCHEMA_BYTES + 1)
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"cannot be read: {_shown(place)}: {why}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        if len(data) > MAX_SCHEMA_BYTES:
            raise ValueError(f"is larger than {MAX_SCHEMA_BYTES >> 10} kB") from None
        raise ValueError(f"is no text in UTF-8: {_shown(place)}") from None


def _canonical(schema: object) -> str:
    """One form of it; properties keep their order, in which they are answered."""
    try:
        text = json.dumps(schema, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError):  # TOML has dates, and endless numbers
        raise ValueError("holds what JSON has not, such as a date or an endless number") from None
    if len(text) > 2 * MAX_SCHEMA_BYTES:
        raise ValueError(f"is larger than {MAX_SCHEMA_BYTES >> 10} kB")
    return text


@lru_cache(16)
def _checked(schema: str) -> str:
    from llguidance import LLMatcher  # here: a run without a schema need not load it

    read = json.loads(schema)
    if not isinstance(read, dict):
        raise ValueError("is no JSON Schema, which is an object")
    if read.get("type") != "object":
        raise ValueError('must be of "type": "object", since its properties become fields')
    failed, messages = LLMatcher.validate_grammar_with_warnings(grammar_of(schema))
    if failed or messages:
        raise ValueError(f"asks for what no answer can be held to: {_said(messages)}")
    if _is_endless(read):
        raise ValueError(
            "asks for an answer without an end: what it requires requires itself; require less"
        )
    return schema


def _is_endless(schema: dict[str, Any]) -> bool:
    """Whether an answer to a schema that is one would have to hold itself, for ever."""
    places = {place for place in _references(schema) if isinstance(place, str)}
    if len(places) > MAX_REFERENCES:
        return False  # nobody writes as many; the answer would be cut at the token limit
    ending: set[str] = set()
    while new := {p for p in places - ending if _ends(_at(schema, p), ending)}:
        ending |= new
    return not _ends(schema, ending)


def _ends(schema: Any, ending: Set[str]) -> bool:
    """Whether a value of the schema can come to an end, if those of the references `ending` can."""
    if not isinstance(schema, dict):
        return True
    if "$ref" in schema and schema["$ref"] not in ending:
        return False
    for key, enough in (("anyOf", any), ("oneOf", any), ("allOf", all)):
        if key in schema and not enough(_ends(each, ending) for each in schema[key]):
            return False
    if schema.get("type") in ("object", ["object"]):
        properties = schema.get("properties", {})
        return all(_ends(properties.get(each), ending) for each in schema.get("required", ()))
    if schema.get("type") in ("array", ["array"]):
        first, least = schema.get("prefixItems", []), schema.get("minItems", 0)
        rest = [schema.get("items")] if least > len(first) else []
        return all(_ends(each, ending) for each in [*first[: int(least)], *rest])
    return True


def _references(schema: Any) -> Iterator[Any]:
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"]
        schema = [*schema.values()]
    if isinstance(schema, list):
        for each in schema:
            yield from _references(each)


def _at(schema: Any, reference: str) -> Any:
    """What is at a reference such as `#/$defs/box`; None when it is none of that form."""
    for part in reference.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        schema = schema.get(name) if isinstance(schema, dict) else None
    return schema if reference == "#" or reference.startswith("#/") else None


def _said(messages: Iterable[str]) -> str:
    """llguidance's reason in one line, without a full stop."""
    return _shown("; ".join(messages)).rstrip(".")


def _shown(text: str) -> str:
    line = printable(" ".join(text[: 2 * SHOWN].split()))
    return line if len(line) <= SHOWN else line[:SHOWN] + "…"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"is no JSON: it holds {name}")

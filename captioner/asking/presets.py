"""Presets: prompts and other settings for a purpose, each a TOML file that a person can read, copy
and change.

Its keys are names of settings, with `about`, a sentence for `--list-presets`, and tables
`[language.de]` that hold other values for an answer in that language. A file of one's own may be
anybody's: nothing in it names another file, or reaches beyond what is asked. Knows nothing of
pictures.
"""

import re
import tomllib
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from captioner.asking.texts import NoText, text_in
from captioner.errors import InputError
from captioner.fields import LANGUAGES
from captioner.settings import Settings
from captioner.text import listed, printable

SHIPPED = files("captioner") / "presets"
SUFFIX = ".toml"
MAX_LENGTH = 200_000  # characters of a file; ours have a hundredth of that
# a key of a hundred names with dots between them, for which tomllib takes time by its square
DEEP_KEY = re.compile(
    r"""(?:^|[{,\[])[ \t]*+(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){100}""",
    re.ASCII | re.MULTILINE,
)
# what may stand in one, by its key, and the setting that it is a value of
KEYS = {
    "user_prompt": "user_prompt",
    "system_prompt": "system_prompt",
    "schema": "answer_schema",
    "ask": "ask",
    "banned_phrase": "banned_phrase",
    "remove_openings": "remove_openings",
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "max_pixels": "max_pixels",
}


@dataclass(frozen=True, slots=True)
class Preset:
    """Values for settings."""

    about: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    languages: dict[str, dict[str, Any]] = field(default_factory=dict)  # in place of the others

    def in_language(self, language: str | None) -> dict[str, Any]:
        """The values, with those for an answer in the language."""
        return self.values | self.languages.get(language or "", {})


def preset_names() -> list[str]:
    """Those that come along."""
    return sorted(
        file.name.removesuffix(SUFFIX) for file in SHIPPED.iterdir() if file.name.endswith(SUFFIX)
    )


def preset_of(name: str | Path) -> Preset:
    """The preset of that name, or in that file.

    Raises:
        InputError: there is no such preset, or its file cannot be used.
    """
    if isinstance(name, str):
        return _understood((SHIPPED / f"{name}{SUFFIX}").read_text("utf-8"), name)
    shown = printable(str(name))
    try:
        return _understood(text_in(name, MAX_LENGTH), shown)
    except NoText as error:
        raise InputError(
            f"--preset {shown} cannot be used: {error}. There are {', '.join(preset_names())}; a "
            "file is named with its path, such as ./mine.toml."
        ) from None


def _understood(text: str, shown: str) -> Preset:
    if DEEP_KEY.search(text):
        raise _refusal(shown, "it is nested too deeply")
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _refusal(shown, f"it is no TOML: {printable(str(error))}") from None
    except RecursionError:
        raise _refusal(shown, "it is nested too deeply") from None
    about, languages = content.pop("about", ""), content.pop("language", {})
    if not isinstance(about, str):
        raise _refusal(shown, "about must be a text")
    if not isinstance(languages, dict) or not all(isinstance(t, dict) for t in languages.values()):
        raise _refusal(shown, "language must hold tables such as [language.de]")
    if unknown := sorted(set(languages) - set(LANGUAGES)):
        raise _refusal(shown, f"{_shown(unknown)} is no language: there are {', '.join(LANGUAGES)}")
    values = _values(content, shown)
    return Preset(
        printable(about), values, {each: _values(t, shown) for each, t in languages.items()}
    )


def _values(content: dict[str, Any], shown: str) -> dict[str, Any]:
    """The values of settings, as those understand them."""
    if unknown := sorted(set(content) - set(KEYS)):
        known = ", ".join(("about", *KEYS, "language"))
        raise _refusal(shown, f"{_shown(unknown)} is no key of a preset: there are {known}")
    if not isinstance(content.get("schema", {}), dict):
        raise _refusal(shown, "schema must be a table, which says what a JSON Schema says")
    given = {KEYS[key]: value for key, value in content.items()}
    try:
        settings = Settings.model_validate(given, strict=True)  # `true` is no 1
    except ValidationError as error:
        first = error.errors()[0]
        named = {name: key for key, name in KEYS.items()}
        key = named.get(str(first["loc"][0]), "it")
        raise _refusal(shown, f"{key} {_complaint(first)}") from None
    return {name: getattr(settings, name) for name in given}


def _complaint(problem: ErrorDetails) -> str:
    """What is wrong with a value, as it is said of a flag's."""
    said = printable(str(problem["msg"])).removeprefix("Value error, ")
    return said.replace("Input should", "must", 1).replace("String should", "must", 1)


def _shown(keys: list[str]) -> str:
    return listed(printable(key) for key in keys)


def _refusal(shown: str, why: str) -> InputError:
    return InputError(f"--preset {shown} cannot be used: {why}.")

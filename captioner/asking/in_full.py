"""The settings of a run in full: what a person gave, and of a preset what that leaves open.

Prompts that are in files are read, once. Knows nothing of pictures.
"""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from captioner.answers import MAX_PROMPT_LENGTH
from captioner.asking.placeholders import refusal
from captioner.asking.presets import Preset, preset_of
from captioner.asking.texts import NoText, text_in
from captioner.errors import InputError
from captioner.fields import LANGUAGES
from captioner.settings import Settings
from captioner.text import printable

PROMPTS = ("user_prompt", "system_prompt")
FILE = "@"


def in_full(given: Settings) -> Settings:
    """The settings with the values of their preset and the texts of their files.

    What counts as given stays what a person gave: a folder's own prompt goes before a preset's.

    Raises:
        InputError: the preset or a prompt cannot be used.
    """
    own = given.model_fields_set
    preset = preset_of(given.preset) if given.preset else Preset()
    taken = {
        name: value for name, value in preset.in_language(given.language).items() if name not in own
    }
    values = {name: getattr(given, name) for name in Settings.model_fields} | taken
    for name in PROMPTS:
        if name in own and values[name]:
            values[name] = _read(name, values[name])
    if given.language:
        worded = preset.languages.get(given.language, {}).keys() & taken.keys()
        if "user_prompt" not in worded:
            values["user_prompt"] = asked_for_in(given.language, values["user_prompt"])
        if "ask" not in worded:
            values["ask"] = tuple(asked_for_in(given.language, each) for each in values["ask"])
    full = _checked(values, given)
    for name in (*PROMPTS, "ask"):
        if wrong := refusal("\n".join(_texts(getattr(full, name)))):
            where = _flag(name if name not in taken else "preset")
            raise InputError(f"{where} cannot be used: {wrong}.")
    return full


def with_texts(given: Settings) -> Settings:
    """What a person gave, with the texts of files in the place of their names: for a machine that
    has not these files.

    Raises:
        InputError: one cannot be read.
    """
    texts = {
        name: _read(name, value)
        for name in PROMPTS
        if name in given.model_fields_set and (value := getattr(given, name))
    }
    texts = {name: FILE * text.startswith(FILE) + text for name, text in texts.items()}
    return given.model_copy(update=texts)


def asked_for_in(language: str, prompt: str) -> str:
    """The prompt with a sentence that asks for an answer in the language."""
    return f"{prompt} Answer in {LANGUAGES[language]}."


def _texts(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else (value or "",)


def _read(name: str, value: str) -> str:
    """A prompt as it is given: behind an @ the name of its file, and behind two a text with one."""
    if not value.startswith(FILE):
        return value
    file = value.removeprefix(FILE)
    if file.startswith(FILE):
        return file
    try:
        return text_in(Path(file).expanduser())
    except (NoText, RuntimeError) as error:
        raise InputError(
            f"{_flag(name)} cannot be read from {printable(file) or 'a file without a name'}: "
            f"{error}. Name a text file of {MAX_PROMPT_LENGTH:,} characters at most, or write @@ "
            "for a prompt that begins with @."
        ) from None


def _checked(values: dict[str, Any], given: Settings) -> Settings:
    """The settings, with the same given as before."""
    try:
        full = Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{_flag(str(first['loc'][0]))} cannot be used: {first['msg']}.") from None
    known = {name: getattr(full, name) for name in Settings.model_fields}
    return Settings.model_construct(_fields_set=given.model_fields_set, **known)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")

"""What the settings are made of: marks that say whether a caption depends on one, and types that
read what a person writes. Knows none of the settings.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode

from captioner.text import printable

MAX_SHARDS = 1000  # of one folder
# Languages that answers may be asked for in, by their codes (ISO 639-1).
LANGUAGES = {
    **{"ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "ca": "Catalan", "cs": "Czech"},
    **{"da": "Danish", "de": "German", "el": "Greek", "en": "English", "es": "Spanish"},
    **{"et": "Estonian", "eu": "Basque", "fa": "Persian", "fi": "Finnish", "fr": "French"},
    **{"ga": "Irish", "gl": "Galician", "he": "Hebrew", "hi": "Hindi", "hr": "Croatian"},
    **{"hu": "Hungarian", "id": "Indonesian", "is": "Icelandic", "it": "Italian"},
    **{"ja": "Japanese", "ko": "Korean", "lt": "Lithuanian", "lv": "Latvian", "ms": "Malay"},
    **{"no": "Norwegian", "nl": "Dutch", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian"},
    **{"ru": "Russian", "sk": "Slovak", "sl": "Slovenian", "sr": "Serbian", "sv": "Swedish"},
    **{"sw": "Swahili", "ta": "Tamil", "te": "Telugu", "th": "Thai", "tr": "Turkish"},
    **{"uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese", "zh": "Chinese"},
}


@dataclass(frozen=True, slots=True)
class InRecipe:
    """Marks a setting that a caption depends on: it is made again when the setting changes."""

    name: str  # in the reason for that, such as `pixel cap changed`


@dataclass(frozen=True, slots=True)
class NotInRecipe:
    """Marks a setting that leaves captions as they are."""

    why: str


def _colour(value: str) -> str:
    from PIL import ImageColor  # here, so that a wrong flag and --help answer at once

    samples: tuple[int, ...] = ()
    with suppress(ValueError):
        samples = ImageColor.getrgb(value)
    # Pillow takes rgb(300,0,0) too, and a fourth sample for what is see-through
    if len(samples) != 3 or not all(0 <= sample <= 255 for sample in samples):
        raise PydanticCustomError("colour", "Input should be a colour such as white or #1e90ff")
    return value


def split_at_commas(value: Any) -> Any:
    """A list that is given as one text: `txt,csv`."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _format_names(value: Any) -> Any:
    """A list of formats as people write them, `PNG` or `.png`, by the names that they have here."""
    names = split_at_commas(value)
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return names
    return tuple(dict.fromkeys(name.lower().removeprefix(".") for name in names))


def _split(value: Any) -> Any:
    """The same with one in each line too; an empty one is none."""
    parts = re.split(r"[,\n]", value) if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        return parts
    if not all(isinstance(part, str) for part in parts):
        return tuple(parts)
    return tuple(" ".join(part.split()) for part in parts if part.strip())


def _language(value: str) -> str:
    code = re.split("[-_]", value)[0].lower()  # of `de-AT` and `pt_BR` the language
    if code not in LANGUAGES:
        raise PydanticCustomError("language", "Input should be one of " + ", ".join(LANGUAGES))
    return code


def at_least_one(value: Any) -> Any:
    """A list that is not empty; pydantic's own bound would be said beside what is wrong in it."""
    if not value:
        raise PydanticCustomError("at_least_one", "Input should be one or more")
    return value


def _place(value: Any) -> Any:
    """A path as a person writes it, wherever it comes from: `~` and `~user` are home folders."""
    if value == "":  # Path("") is the current directory, which nobody meant
        raise ValueError("must not be empty")
    if not isinstance(value, str | Path):
        return value
    if "\0" in str(value):
        raise ValueError("must not hold a zero byte")
    if str(value).startswith("~"):
        try:
            return Path(value).expanduser()
        except (RuntimeError, ValueError):  # of nobody, of a name that nobody can have
            shown = printable(str(value))
            raise ValueError(
                f"is in the home folder of a user whom this machine does not know: {shown}; "
                f"for a folder of that name write ./{shown}"
            ) from None
    # `./~a`: a Path forgets the dot, and would be taken for a home folder the next time
    return Path(value).absolute() if str(Path(value)).startswith("~") else value


def _part(value: str) -> str:
    number, _, of = value.partition("/")
    if not all(part.isascii() and part.isdigit() and len(part) <= 5 for part in (number, of)):
        raise PydanticCustomError("part", "Input should be of the form 3/12")
    if not 1 <= int(number) <= int(of) <= MAX_SHARDS:
        raise PydanticCustomError(
            "part", f"Input should be a part of 1 to {MAX_SHARDS}, such as 1/12 to 12/12"
        )
    return f"{int(number)}/{int(of)}"


Part = Annotated[str, AfterValidator(_part)]
Phrases = Annotated[tuple[str, ...], BeforeValidator(_split)]
Language = Annotated[
    str, AfterValidator(_language), Field(json_schema_extra={"enum": [*LANGUAGES]})
]
Place = Annotated[Path, BeforeValidator(_place)]
Colour = Annotated[str, AfterValidator(_colour)]
Format = Literal["png", "jpg", "jpeg", "webp", "avif", "gif", "tiff", "bmp", "heic", "all"]
FORMATS = tuple(name for name in get_args(Format) if name != "all")
Formats = Annotated[
    tuple[Format, ...],
    NoDecode,  # a variable holds `png,heic` like the flag
    BeforeValidator(_format_names),
    AfterValidator(at_least_one),
]

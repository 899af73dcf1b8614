"""`{name}` and its like in a prompt: which there are, and a text with what they stand for.

Only a word in braces is a placeholder; all other braces, such as those of JSON, stay as they are,
and `{{name}}` is `{name}`. Works on text alone; knows nothing of pictures.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping

from captioner.text import listed, printable

PLACEHOLDERS = ("name", "stem", "folder", "taken", "width", "height")
MOST_CHARACTERS = 255  # of what one stands for
_WORD = re.compile(r"\{\{(?P<kept>[A-Za-z_]\w*)\}\}|\{(?P<filled>[A-Za-z_]\w*)\}", re.ASCII)
# What special tokens of chat templates are made of: <|im_end|>, </s>, [INST], ◁think▷, |NEWLINE|.
_BRACKETS = str.maketrans("<>[]|◁▷｜", "‹›()¦‹›¦")


def placeholders(text: str) -> set[str]:
    """The words that stand in braces in a prompt, known or not."""
    return {match["filled"] for match in _WORD.finditer(text)} - {None}


def refusal(text: str) -> str | None:
    """What is wrong with the placeholders of a prompt; None when nothing is."""
    unknown = sorted(placeholders(text) - {*PLACEHOLDERS})
    if not unknown:
        return None
    known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    first = unknown[0]
    return (
        f"{listed(f'{{{name}}}' for name in unknown)} is no placeholder: there are {known}; "
        f"for the word in braces itself write {{{{{first}}}}}"
    )


def filled(text: str, values: Mapping[str, str]) -> str:
    """The prompt with what its placeholders stand for; what is filled in is not looked at again."""
    return _WORD.sub(
        lambda match: f"{{{match['kept']}}}" if match["kept"] else values[match["filled"]], text
    )


def harmless(value: str) -> str:
    """A name that somebody else chose, in a form that is only text to any tokenizer.

    Control characters are made visible, and the brackets of special tokens become others, so that
    no name ends the user's turn. Compatibility characters become plain ones first, since some
    tokenizers would do that.
    """
    text = printable(unicodedata.normalize("NFKC", value)).translate(_BRACKETS)
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def used(texts: Iterable[str]) -> set[str]:
    """The placeholders of several prompts together."""
    return {name for text in texts for name in placeholders(text)}

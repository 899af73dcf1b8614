"""How a caption may be worded: without certain openings, and without banned phrases.

Works on text alone; knows nothing of MLX, or of how a caption is made.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import replace

from captioner.device.rows import Request
from captioner.records import BANNED, Generation


def as_wished(made: Generation, request: Request) -> Generation:
    """The caption without an opening that is not wanted, which then is in what was said; flagged
    when it, or a field of it, holds a banned phrase."""
    text = without_opening(made.text, request.openings)
    if text != made.text:
        fields = made.fields
        if fields and isinstance(fields.get("caption"), str):
            fields = fields | {"caption": text}
        made = replace(made, text=text, fields=fields, said=made.said or made.text)
    everything = [made.text, json.dumps(made.fields, ensure_ascii=False)]
    banned = tuple(phrase for phrase in request.banned if any(holds(e, phrase) for e in everything))
    return replace(made, flags=(*made.flags, BANNED), banned=banned) if banned else made


def without_opening(text: str, openings: Iterable[str]) -> str:
    """`text` without the longest of the openings that it begins with, its first letter a capital.

    As it is when nothing would be left.
    """
    for opening in sorted(openings, key=len, reverse=True):
        if found := re.match(_words(opening), text, re.IGNORECASE):
            rest = text[found.end() :].lstrip(" \t\n,:;–—-")
            if any(c.isalnum() for c in rest):
                return rest[0].upper() + rest[1:]
            break
    return text


def holds(text: str, phrase: str) -> bool:
    """Whether the phrase is in `text`, in whole words, whatever case and white space."""
    return re.search(_words(phrase), text, re.IGNORECASE) is not None


def _words(phrase: str) -> str:
    """A regular expression for whole words; scripts without cases put no space between words."""
    words = r"\s+".join(map(re.escape, phrase.split()))
    before, after = (r"\b" if c.lower() != c.upper() else "" for c in (phrase[0], phrase[-1]))
    return before + words + after

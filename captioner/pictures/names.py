"""Names of caption files: a distinct one for each picture, on any file system.

Knows nothing of which files are there.
"""

import hashlib
import itertools
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

RESERVED = ("captions.json", "summary.json")
MAX_NAME_BYTES = 255  # of one file name, on APFS, ext4 and most others


def caption_file_names(names: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """A distinct caption file name for each picture name, whatever the letter case or Unicode form.

    `a.png` gets `a.json`. When that could be another picture's file (`a.png` beside `a.jpg`), is
    `captions.json` or `summary.json`, or is `taken`, the picture keeps its suffix: `a.png.json`. A
    name that is too long for the file system, or still not distinct, ends in a hash of the
    picture's name.
    """
    short = [Path(name).stem + ".json" for name in names]
    full = [name + ".json" for name in names]
    others = {folded(name) for name in (*RESERVED, *taken)}
    claims = Counter(others)
    for brief, long in zip(short, full, strict=True):
        claims.update({folded(brief), folded(long)})
    chosen = [
        brief if claims[folded(brief)] == 1 else long
        for brief, long in zip(short, full, strict=True)
    ]
    uses = Counter(map(folded, chosen)) + Counter(others)
    usable = [uses[folded(f)] == 1 and len(os.fsencode(f)) <= MAX_NAME_BYTES for f in chosen]
    used = {folded(file) for file, good in zip(chosen, usable, strict=True) if good} | others
    return [
        file if good else _hashed(name, used)
        for name, file, good in zip(names, chosen, usable, strict=True)
    ]


def folded(name: str) -> str:
    """The same for all names that a file system may take for one (Unicode's definition D145)."""
    folded = unicodedata.normalize("NFD", name).casefold()
    return unicodedata.normalize("NFD", folded)


def _hashed(name: str, used: set[str]) -> str:
    """A name that is not in `used`, and is from now on."""
    raw = os.fsencode(name)
    stem = os.fsencode(Path(name).stem)[: MAX_NAME_BYTES - 20].decode("utf-8", "ignore")
    for attempt in itertools.count():  # a picture could be named like another one's hash
        digest = hashlib.sha256(raw + b"/" * attempt).hexdigest()[:12]
        file = f"{stem}~{digest}.json"
        if folded(file) not in used:
            break
    used.add(folded(file))
    return file

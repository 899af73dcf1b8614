"""Names of caption files: a distinct one for each picture, on any file system.

The folders of the pictures are mirrored: `a/b.png` gets `a/b.json`. Knows nothing of which files
are there.
"""

import hashlib
import itertools
import os
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

RESERVED = ("captions.json", "summary.json")
MAX_NAME_BYTES = 255  # of one file name, on APFS, ext4 and most others
# of a whole path with its end, PATH_MAX in sys/syslimits.h and in linux/limits.h
MAX_PATH_BYTES = 1024 if sys.platform == "darwin" else 4096
# how files in an output directory end; no mirrored folder does
ENDINGS = (".json", ".jsonl", ".html", ".csv", ".parquet", ".txt", ".xmp")


def caption_file_names(
    keys: Sequence[str], taken: Iterable[str] = (), longest: int = MAX_PATH_BYTES
) -> list[str]:
    """A distinct caption file for each picture key, whatever the letter case or Unicode form.

    `a.png` gets `a.json`. When that could be another picture's file (`a.png` beside `a.jpg`), is
    `captions.json` or `summary.json`, or is `taken`, the picture keeps its suffix: `a.png.json`. A
    name that is too long for the file system, or still not distinct, ends in a hash of the
    picture's key. So do those of folders whose paths would be longer than `longest`, in bytes; they
    are not mirrored.
    """
    claimed: dict[str, list[str]] = defaultdict(list)
    for file in taken:
        folder, name = _split(file)
        claimed[folded(folder)].append(name)
    claimed[""] += RESERVED
    together: dict[str, list[str]] = defaultdict(list)  # what a file system may take for one folder
    for key in keys:
        together[folded(mirrored_folder(key, longest))].append(key)
    files: dict[str, str] = {}
    for folder, theirs in together.items():
        files.update(zip(theirs, _in_one_folder(theirs, claimed[folder], longest), strict=True))
    return [files[key] for key in keys]


def usual_caption_file(key: str, longest: int = MAX_PATH_BYTES) -> str:
    """The caption file of a picture of whose name there is only one, as of most."""
    return f"{mirrored_folder(key, longest)}{_stem(_split(key)[1])}.json"


def mirrored_folder(key: str, longest: int = MAX_PATH_BYTES) -> str:
    """The folder of a picture's caption file: empty, or with a `/` at the end."""
    return _mirrored(_split(key)[0], longest)


@lru_cache(maxsize=1024)
def _mirrored(folder: str, longest: int) -> str:
    if len(os.fsencode(folder)) + MAX_NAME_BYTES > longest:
        return ""
    parts = (
        "~".join(part.rsplit(".", 1)) if folded(part).endswith(ENDINGS) else part
        for part in folder.split("/")
    )
    return "/".join(parts)


def _in_one_folder(keys: Sequence[str], taken: Iterable[str], longest: int) -> list[str]:
    """The caption files of pictures that go into one folder."""
    places = [mirrored_folder(key, longest) for key in keys]
    names = [_split(key)[1] for key in keys]
    short = [_stem(name) + ".json" for name in names]
    full = [name + ".json" for name in names]
    others = {folded(name) for name in taken}
    claims = Counter(others)
    for brief, long in zip(short, full, strict=True):
        claims.update({folded(brief), folded(long)})
    chosen = [
        brief if claims[folded(brief)] == 1 else long
        for brief, long in zip(short, full, strict=True)
    ]
    uses = Counter(map(folded, chosen)) + Counter(others)
    usable = [
        uses[folded(file)] == 1
        and len(os.fsencode(file)) <= MAX_NAME_BYTES
        and bool(place) == ("/" in key)  # or else it comes from a folder that is not mirrored
        for key, place, file in zip(keys, places, chosen, strict=True)
    ]
    used = {folded(file) for file, good in zip(chosen, usable, strict=True) if good} | others
    return [
        place + (file if good else _hashed(key, used))
        for key, place, file, good in zip(keys, places, chosen, usable, strict=True)
    ]


def _split(path: str) -> tuple[str, str]:
    """The folder, empty or with a `/` at the end, and the name."""
    folder, slash, name = path.rpartition("/")
    return folder + slash, name


def _stem(name: str) -> str:
    """As a Path has it, which would take ten times as long."""
    stem, _, suffix = name.rpartition(".")
    return stem if stem and suffix else name


def folded(name: str) -> str:
    """The same for all names that a file system may take for one (Unicode's definition D145)."""
    if name.isascii():
        return name.lower()
    decomposed = unicodedata.normalize("NFD", name).casefold()
    return unicodedata.normalize("NFD", decomposed)


def _hashed(key: str, used: set[str]) -> str:
    """A name that is not in `used`, and is from now on."""
    raw = os.fsencode(key)
    stem = os.fsencode(Path(key).stem)[: MAX_NAME_BYTES - 20].decode("utf-8", "ignore")
    for attempt in itertools.count():  # a picture could be named like another one's hash
        digest = hashlib.sha256(raw + b"/" * attempt).hexdigest()[:12]
        file = f"{stem}~{digest}.json"
        if folded(file) not in used:
            break
    used.add(folded(file))
    return file

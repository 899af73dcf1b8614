"""What else lies in a folder of pictures, counted by kind, and in words.

Knows nothing of how the folder is looked through.
"""

from collections import Counter
from collections.abc import Sequence

from captioner.text import counted, listed, printable

HIDDEN, OTHER, LINK, SPECIAL, SUBFOLDER = "hidden", "other", "link", "special", "subfolder"
FOLDER_LINK, LIBRARY = "link to a folder", "library"
WORDS = {
    LINK: ("link that leads nowhere or elsewhere", "links that lead nowhere or elsewhere"),
    SPECIAL: ("special file", "special files"),
    HIDDEN: ("hidden", "hidden"),
    SUBFOLDER: ("subfolder not looked into", "subfolders not looked into"),
    FOLDER_LINK: ("link to a folder not followed", "links to folders not followed"),
    LIBRARY: ("photo library not looked into", "photo libraries not looked into"),
}
DEEPER = "there are some in the folders below it, which --recursive looks into"
KINDS_SHOWN = 8
LONGEST_SUFFIX = 8


def kind_of(suffix: str) -> str:
    """What a file counts as by its suffix: `HEIC`, or `other` when that is no word."""
    word = suffix.removeprefix(".").upper()
    return word if word.isascii() and word.isalnum() and len(word) <= LONGEST_SUFFIX else OTHER


def in_words(ignored: Counter[str], hint: str = "") -> str:
    """For example `14 HEIC, 3 WEBP; 2 subfolders not looked into`, with a hint behind the files.

    Empty when nothing but hidden files was ignored, as nearly every folder of a Mac has them.
    """
    if not ignored.keys() - {HIDDEN}:
        return ""
    kinds = {kind: n for kind, n in ignored.items() if kind not in (*WORDS, OTHER)}
    ranked = sorted(kinds, key=lambda kind: (-kinds[kind], kind))
    files = [f"{kinds[kind]:,} {kind}" for kind in ranked[:KINDS_SHOWN]]
    if rest := ignored[OTHER] + sum(kinds[kind] for kind in ranked[KINDS_SHOWN:]):
        files.append(counted(rest, "other file"))
    others = [counted(ignored[kind], *WORDS[kind]) for kind in WORDS if kind in ignored]
    named = ", ".join(files) + (f" ({hint})" if hint else "")
    return "; ".join(filter(None, (named, *others)))


def unread_in_words(folders: Sequence[tuple[str, str]]) -> str:
    """A sentence about folders that cannot be listed, each with the reason."""
    names = listed(f"{printable(folder)} ({why})" for folder, why in folders)
    return f"{counted(len(folders), 'folder')} left out, which cannot be read: {names}"

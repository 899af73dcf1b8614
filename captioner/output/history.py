"""What the provenance says last of each picture, looked up when the picture's turn comes.

It lies in a temporary database of SQLite's, which stays in memory while it is small and goes to a
file that no one else sees when it is not: a plan of a million pictures keeps none of this. Knows
nothing of how lines are read.
"""

import json
import sqlite3
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Self

from captioner.errors import OutputError
from captioner.output.made import Made, hashable
from captioner.records import Cost, Recipe, Stamp
from captioner.text import printable

TABLE = "CREATE TABLE made (image BLOB UNIQUE, file BLOB, recipe TEXT, rest TEXT)"
# whatever is said of a picture, it stays where it was named first
PUT = """INSERT INTO made VALUES (?, ?, ?, ?) ON CONFLICT (image)
DO UPDATE SET file = excluded.file, recipe = excluded.recipe, rest = excluded.rest"""
GET = "SELECT * FROM made WHERE image = ?"
ALL = "SELECT * FROM made ORDER BY rowid"
FILES = "SELECT image, file FROM made WHERE length(file) > 0 ORDER BY rowid"


class History:
    """What was said last of each picture, in the order in which they were first named. For one
    thread, and to be closed: a `with` does that."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("")
        self._rows(TABLE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def put(self, made: Made) -> None:
        """Note what is said of a picture from now on.

        Raises:
            OutputError: there is no room for it.
        """
        self._rows(PUT, *_row(made))

    def get(self, image: str) -> Made | None:
        """What was said last of the picture of this key; None when nothing was."""
        return next(map(_made, self._rows(GET, _blob(image))), None)

    def __iter__(self) -> Iterator[Made]:
        return map(_made, self._rows(ALL))

    def files(self) -> Iterator[tuple[str, str]]:
        """The key and the caption file of each picture that had one."""
        return ((_text(image), _text(file)) for image, file in self._rows(FILES))

    def _rows(self, statement: str, *values: Any) -> sqlite3.Cursor:
        try:
            return self._database.execute(statement, values)
        except sqlite3.Error as error:
            raise OutputError(
                "What earlier runs noted does not fit into the temporary folder "
                f"({printable(str(error))}): make room there, or name another with TMPDIR."
            ) from error


def _row(made: Made) -> tuple[bytes, bytes, str, str]:
    source, recipe, cost = made.source, made.recipe, made.cost
    rest = (
        (source.bytes, source.mtime_ns, source.sha256),
        made.entry_digest.hex(),
        [digest.hex() for digest in made.earlier],
        made.at,
        made.flagged,
        made.skipped,
        made.program,
        cost and (cost.image_tokens, cost.seconds, cost.batch_size),
        made.by_a_shard,
    )
    with_what = recipe and (recipe.values, recipe.repo_id, recipe.revision, recipe.within_limit)
    return _blob(made.image), _blob(made.caption_file), json.dumps(with_what), json.dumps(rest)


def _made(row: tuple[bytes, bytes, str, str]) -> Made:
    image, file, with_what, rest = row
    source, digest, earlier, at, flagged, skipped, program, cost, by_a_shard = json.loads(rest)
    return Made(
        _text(image),
        Stamp(*source),
        _text(file),
        bytes.fromhex(digest),
        frozenset(map(bytes.fromhex, earlier)),
        at,
        _recipe(with_what),
        flagged,
        skipped,
        program,
        cost and Cost(*cost),
        by_a_shard,
    )


@lru_cache(maxsize=64)
def _recipe(text: str) -> Recipe | None:
    """Most captions of a folder share theirs."""
    if (recipe := json.loads(text)) is None:
        return None
    values, *rest = recipe
    return Recipe(tuple(map(hashable, values)), *rest)


def _blob(text: str) -> bytes:
    """SQLite's texts know no names that are not UTF-8."""
    return text.encode("utf-8", "surrogatepass")


def _text(blob: bytes) -> str:
    return blob.decode("utf-8", "surrogatepass")

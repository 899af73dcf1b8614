"""The names of what the shards of a folder write beside its captions, until they are merged.

Each run of a shard has a provenance file of its own, which no other machine ever appends to:
network file systems do not promise that two may. Old versions leave such files alone. Knows nothing
of what is in them.
"""

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from captioner.plan import Shard

PROVENANCE_OF_A_SHARD = re.compile(r"provenance-[0-9]+-of-[0-9]+-[0-9a-f]{8}\.jsonl")
LEASE = re.compile(r"\.shard-([0-9]{1,5})-of-([0-9]{1,5})\.lease")
ROUND = ".shards"  # what the shards are parts of
ENDED = "ended"  # the kind of the line that a run of a shard ends with


def new_shard_file(directory: Path, shard: Shard) -> Path:
    """Where a run of the shard keeps its provenance."""
    return directory / f"provenance-{shard.number}-of-{shard.of}-{secrets.token_hex(4)}.jsonl"


def lease_file(directory: Path, shard: Shard) -> Path:
    """Where a run of the shard says that it is at work."""
    return directory / f".shard-{shard.number}-of-{shard.of}.lease"


def shard_files(directory: Path) -> list[Path]:
    """The provenance of shards that is not merged yet, what was written to last at the end.

    Raises:
        OSError: the directory is there and cannot be listed.
    """
    return _found(directory, PROVENANCE_OF_A_SHARD)


def lease_files(directory: Path) -> list[tuple[Path, Shard]]:
    """The signs of shards at work, also of those that are not any more.

    Raises:
        OSError: the directory is there and cannot be listed.
    """
    found = []
    for path in _found(directory, LEASE):
        if name := LEASE.fullmatch(path.name):
            found.append((path, Shard(int(name[1]), int(name[2]))))
    return found


def _found(directory: Path, names: re.Pattern[str]) -> list[Path]:
    found: list[tuple[int, Path]] = []
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            if names.fullmatch(entry.name):
                with suppress(FileNotFoundError):  # merged meanwhile
                    written = entry.stat(follow_symlinks=False).st_mtime_ns
                    found.append((written, directory / entry.name))
    return [path for _, path in sorted(found)]

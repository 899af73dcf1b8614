"""What is in a checkpoint's directory: is it whole, free of code, and how large?

Reads headers and JSON, never the weights. Knows nothing of settings or of where the directory is.
"""

import json
import math
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from captioner.checkpoint.files import opened, read_text
from captioner.errors import CheckpointError
from captioner.records import Checkpoint
from captioner.text import printable

CONSOLIDATED = "consolidated.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_NAME = re.compile(r"[^/\\\0]+\.safetensors")  # a file beside the index, nowhere else
MAX_HEADER_BYTES = 100_000_000  # the limit that the safetensors format itself sets
# of one number of each kind, in bits; kinds that are newer are not measured
BITS = {"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "C64": 64} | {
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"), 8),
}
NOT_A_HEADER = (  # what reading garbage as a safetensors header raises
    *(struct.error, ValueError, LookupError, TypeError, AttributeError),
    *(RecursionError, OverflowError),
)
EMBEDDED_DIRECTORY = Path(__file__).resolve().parents[2] / "models"


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that a checkpoint lacks, or that is not what it should be."""

    file: str
    reason: str
    damaged: bool = False

    def __str__(self) -> str:
        return f"{printable(self.file)}: {self.reason}"


def inspect(directory: Path) -> list[Problem]:
    """Everything that keeps `mlx_vlm.load` from loading `directory`; empty when it is whole.

    Raises:
        OSError: a file is there and cannot be read; nobody knows what is in it.
        CheckpointError: it is no regular file, or too large to be read.
    """
    problems: list[Problem] = []
    configs: dict[str, Any] = {}
    for name in ("config.json", "tokenizer_config.json"):
        configs[name] = _json_object(directory, name, problems)
    groups = {
        "tokenizer.json": ("tokenizer.json", "tokenizer.model", "vocab.json"),
        "preprocessor_config.json": ("preprocessor_config.json", "processor_config.json"),
    }
    for name, alternatives in groups.items():
        if not any((directory / alternative).is_file() for alternative in alternatives):
            problems.append(Problem(name, "missing"))
    for name in ("tokenizer.json", "preprocessor_config.json", "processor_config.json"):
        if (directory / name).is_file():
            _json_object(directory, name, problems)
    by_vocabulary = not (directory / "tokenizer.json").is_file()
    if by_vocabulary and _only(directory, "vocab.json", "merges.txt"):
        problems.append(Problem("merges.txt", "missing"))
    for shard in _shards(directory, problems):
        if reason := _shard_problem(directory / shard):
            problems.append(Problem(shard, reason, damaged=reason != "missing"))
    return problems


def refuse_code(directory: Path, cached: bool = False) -> None:
    """Refuse a checkpoint that would run code of its own.

    mlx-vlm imports the file that `model_file` in config.json names; transformers imports what
    `auto_map` names, from the directory or from another repository (`owner/name--module.Class`).
    Code that lies in the Hub cache (`cached`) was fetched by another tool: `without_code` leaves
    it out, as a download of ours does.

    Raises:
        CheckpointError: it names a `model_file`, or an `auto_map` that code can be found for.
    """
    has_code = not cached and any(directory.glob("*.py"))
    for path in sorted(directory.glob("*.json")):
        try:
            config = json.loads(read_text(path))
        except (ValueError, RecursionError):
            continue
        if not isinstance(config, dict):
            continue
        remote = "--" in json.dumps(config.get("auto_map", {}))
        if config.get("model_file") or (config.get("auto_map") and (has_code or remote)):
            raise CheckpointError(
                f"The model in {printable(str(directory))} carries code of its own "
                f"({path.name} asks to run it), which is never run here. "
                "Choose a checkpoint that mlx-vlm supports without code."
            )


@contextmanager
def without_code(directory: Path) -> Iterator[Path]:
    """The directory, or for as long as the block runs a folder of links to all in it but code."""
    if not any(directory.glob("*.py")):
        yield directory
        return
    with TemporaryDirectory(prefix="checkpoint-") as links:
        for path in directory.iterdir():
            if path.suffix != ".py":
                Path(links, path.name).symlink_to(path.absolute())
        yield Path(links)


def weight_bytes(directory: Path) -> int:
    """The size in bytes of the weights that loading `directory` reads."""
    return sum((directory / shard).stat().st_size for shard in _shards(directory, []))


def tensor_count(directory: Path) -> int:
    """How many tensors the weights of a whole checkpoint hold."""
    return sum(len(_header(directory / shard)[1]) for shard in _shards(directory, []))


def is_embedded(checkpoint: Checkpoint) -> bool:
    """Whether it is the demonstration model that comes with this project."""
    return checkpoint.directory.resolve().is_relative_to(EMBEDDED_DIRECTORY)


def _only(directory: Path, present: str, absent: str) -> bool:
    return (directory / present).is_file() and not (directory / absent).is_file()


def _json_object(directory: Path, name: str, problems: list[Problem]) -> dict[str, Any]:
    try:
        value = json.loads(read_text(directory / name))
        if isinstance(value, dict):
            return value
        problems.append(Problem(name, "not a JSON object", damaged=True))
    except FileNotFoundError:
        if not any(problem.file == name for problem in problems):
            problems.append(Problem(name, "missing"))
    except (ValueError, RecursionError):
        problems.append(Problem(name, "not readable as JSON", damaged=True))
    return {}


def _shards(directory: Path, problems: list[Problem]) -> list[str]:
    """The weight files that the index names; without an index, all that are there."""
    if (directory / INDEX).is_file():
        weight_map = _json_object(directory, INDEX, problems).get("weight_map")
        names = list(weight_map.values()) if isinstance(weight_map, dict) else []
        if names and all(isinstance(name, str) and SHARD_NAME.fullmatch(name) for name in names):
            return sorted(set(names))
        problems.append(Problem(INDEX, "names no weight files", damaged=True))
        return []
    names = [path.name for path in directory.glob("*.safetensors")]
    # a name with a dot is hidden, such as the `._` doubles that macOS writes on foreign disks
    shards = sorted(
        name for name in names if not name.startswith(".") and not name.endswith(CONSOLIDATED)
    )
    if not shards:
        problems.append(Problem("model.safetensors", "missing"))
    return shards


def _shard_problem(path: Path) -> str | None:
    """What is wrong with a safetensors file: its header says how long it has to be.

    Source: the format's description, https://huggingface.co/docs/safetensors
    """
    try:
        size = path.stat().st_size
        header_bytes, tensors = _header(path)
        ends = [_end(tensor) for tensor in tensors]
    except FileNotFoundError:
        return "missing"
    except NOT_A_HEADER:
        return "damaged header"
    expected = 8 + header_bytes + max(ends, default=0)
    return None if size == expected else f"{size:,} bytes where {expected:,} are expected"


def _header(path: Path) -> tuple[int, list[dict[str, Any]]]:
    """The length of a shard's header, and what it says of each tensor."""
    with opened(path) as file:
        (header_bytes,) = struct.unpack("<Q", file.read(8))
        if header_bytes > min(path.stat().st_size, MAX_HEADER_BYTES):
            raise ValueError("longer than the file")
        header = json.loads(file.read(header_bytes))
    return header_bytes, [tensor for name, tensor in header.items() if name != "__metadata__"]


def _end(tensor: dict[str, Any]) -> int:
    """Where the data of a tensor ends, which has to be as long as its shape says."""
    begin, end = map(int, tensor["data_offsets"])
    bits = BITS.get(tensor["dtype"])
    if not 0 <= begin <= end or (bits and math.prod(tensor["shape"]) * bits != (end - begin) * 8):
        raise ValueError("a shape that its data has not")
    return end

"""Copies of the embedded checkpoint that mean harm: they carry code, or say what nobody wants said.

They load and caption like the embedded one, so that what they attempt happens in the real path.
"""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel

CODE = ("modeling_trap.py", "processing_trap.py", "tokenization_trap.py", "__init__.py")
PICKLES = ("pytorch_model.bin", "model.pt", "weights.pkl", "training_args.bin", "adapter.pth")


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, sprung: Path) -> None:
        self._sprung = sprung

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self._sprung,)


def carrying_code(source: Path, target: Path, sprung: Path) -> Path:
    """Copy the checkpoint in `source` to `target` with code and pickles that make `sprung`."""
    shutil.copytree(source, target)
    for name in CODE:
        (target / name).write_text(f"open({str(sprung)!r}, 'w').close()\n")
    for name in PICKLES:
        (target / name).write_bytes(pickle.dumps(Trap(sprung)))
    return target


def saying(source: Path, target: Path, words: dict[str, str]) -> Path:
    """Copy the checkpoint in `source` to `target` with other texts for some of its tokens."""
    shutil.copytree(source, target)
    path = target / "tokenizer.json"
    tokenizer = json.loads(path.read_text("utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    for word, other in words.items():
        vocabulary[_in_bytes(other)] = vocabulary.pop(_in_bytes(word))
    path.write_text(json.dumps(tokenizer), "utf-8")
    return target


def saying_nothing(source: Path, target: Path) -> Path:
    """Copy the checkpoint in `source` to `target` with the first word of captions as their end."""
    shutil.copytree(source, target)
    first = json.loads((target / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]["A"]
    for name in ("config.json", "generation_config.json"):
        config = json.loads((target / name).read_text())
        config["eos_token_id"] = first
        (target / name).write_text(json.dumps(config))
    return target


def _in_bytes(text: str) -> str:
    """How a byte-level vocabulary writes it."""
    byte_level = ByteLevel(add_prefix_space=False, use_regex=False)
    return "".join(piece for piece, _ in byte_level.pre_tokenize_str(text))


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _huge(path: Path) -> None:
    with path.open("wb") as file:  # sparse
        file.truncate(20 << 30)


IN_THE_PLACE_OF_A_FILE: dict[str, Callable[[Path], None]] = {
    "FIFO": _fifo,
    "directory": Path.mkdir,
    "/dev/zero": _endless,
    "20 GB": _huge,
}


def replaced(source: Path, target: Path, name: str, kind: str) -> Path:
    """Copy the checkpoint in `source` to `target`, with one of those in the place of a file."""
    shutil.copytree(source, target)
    (target / name).unlink(missing_ok=True)
    IN_THE_PLACE_OF_A_FILE[kind](target / name)
    return target


def numbered(source: Path, target: Path, file: str, name: str, value: object) -> Path:
    """Copy the checkpoint in `source` to `target` with another number at a dotted name of a
    JSON file."""
    shutil.copytree(source, target)
    config = json.loads((target / file).read_text())
    *parts, last = name.split(".")
    inner = config
    for part in parts:
        inner = inner.setdefault(part, {})
    inner[last] = value
    (target / file).write_text(json.dumps(config))
    return target


def templated(source: Path, target: Path, template: str) -> Path:
    """Copy the checkpoint in `source` to `target` with another chat template."""
    shutil.copytree(source, target)
    (target / "chat_template.jinja").write_text(template)
    return target


def backtracking(source: Path, target: Path) -> Path:
    """Copy the checkpoint in `source` to `target` with a tokenizer that tries all there is."""
    shutil.copytree(source, target)
    tokenizer = json.loads((target / "tokenizer.json").read_text("utf-8"))
    pattern = {"Regex": r"(a+)+$(?<!a)"}
    tokenizer["pre_tokenizer"] = {
        "type": "Split",
        "pattern": pattern,
        "behavior": "Isolated",
        "invert": False,
    }
    (target / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    return target

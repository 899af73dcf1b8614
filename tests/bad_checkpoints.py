"""Copies of the embedded checkpoint that mean harm: they carry code, or say what nobody wants said.

They load and caption like the embedded one, so that what they attempt happens in the real path.
"""

import json
import pickle
import shutil
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

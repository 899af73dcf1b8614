"""What is taken for a whole checkpoint, what is not and why, and what is refused."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants

from captioner.checkpoint.find import MissingCheckpoint, find_checkpoint, known_revision
from captioner.checkpoint.fingerprint import checkpoint_fingerprint
from captioner.checkpoint.inspect import (
    EMBEDDED_DIRECTORY,
    INDEX,
    inspect,
    is_embedded,
    refuse_code,
)
from captioner.checkpoint.memory import SMALLER, check_fits, memory_bytes
from captioner.errors import CheckpointError
from captioner.groups import DEFAULT_REPO_ID
from captioner.records import Checkpoint
from captioner.settings import GROUPS, Settings

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write_shard(path: Path, size: int = 64, seed: int = 0) -> Path:
    """A real safetensors file with one tensor of `size` bytes."""
    data = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    header = {
        "__metadata__": {"format": "mlx"},
        f"weight.{seed}": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]},
    }
    return write_raw_shard(path, json.dumps(header).encode(), data.tobytes())


def write_raw_shard(
    path: Path, header: bytes, data: bytes = b"", header_bytes: int | None = None
) -> Path:
    """A file with this header, whatever it says, and with this length of it when one is given."""
    length = len(header) if header_bytes is None else header_bytes
    path.write_bytes(struct.pack("<Q", length) + header + data)
    return path


def write_checkpoint(directory: Path, shards: tuple[str, ...] = SHARDS, size: int = 64) -> Path:
    """A checkpoint that `inspect` finds whole; without an index when it has one shard."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json"):
        (directory / name).write_text(json.dumps({"name": name}))
    (directory / "preprocessor_config.json").write_text("{}")
    for seed, name in enumerate(shards):
        write_shard(directory / name, size, seed)
    if len(shards) > 1:
        write_index(directory, {f"weight.{seed}": name for seed, name in enumerate(shards)})
    return directory


def write_index(directory: Path, weight_map: object) -> None:
    """The index that says which file holds which weight."""
    (directory / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def cached(cache: Path, repo_id: str = "owner/model", commit: str = COMMIT) -> Path:
    """The directory of a snapshot in a Hub cache, with the reference that leads to it."""
    storage = cache / ("models--" + repo_id.replace("/", "--"))
    (storage / "refs").mkdir(parents=True)
    (storage / "refs" / "main").write_text(commit)
    return storage / "snapshots" / commit


def problems(directory: Path) -> list[str]:
    return [str(problem) for problem in inspect(directory)]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


# Whole or not


@pytest.mark.parametrize("shards", [SHARDS, ("model.safetensors",), ("weights.00.safetensors",)])
def test_a_whole_checkpoint_is_found(tmp_path: Path, shards: tuple[str, ...]) -> None:
    directory = write_checkpoint(tmp_path / "checkpoint", shards)
    assert problems(directory) == []
    size = sum((directory / name).stat().st_size for name in shards)
    revision = checkpoint_fingerprint(directory)
    assert find_checkpoint(Settings(model=directory)) == Checkpoint(directory, None, revision, size)


def test_only_the_weights_that_are_loaded_are_looked_at(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path / "checkpoint", ("model.safetensors",))
    (directory / "consolidated.safetensors").write_bytes(b"the same again, in another form")
    assert problems(directory) == []
    found = find_checkpoint(Settings(model=directory))
    assert isinstance(found, Checkpoint)
    assert found.weight_bytes == (directory / "model.safetensors").stat().st_size


def test_the_doubles_that_macos_writes_on_foreign_disks_are_no_shards(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path / "checkpoint", ("weights.00.safetensors",))
    for path in list(directory.iterdir()):
        (directory / f"._{path.name}").write_bytes(b"\0\5\x16\7")
    assert problems(directory) == []
    found = find_checkpoint(Settings(model=directory))
    assert isinstance(found, Checkpoint)
    assert found.weight_bytes == (directory / "weights.00.safetensors").stat().st_size


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer_config.json", "tokenizer.json", "preprocessor_config.json"]
)
def test_each_missing_file_is_named(whole: Path, name: str) -> None:
    (whole / name).unlink()
    assert problems(whole) == [f"{name}: missing"]


@pytest.mark.parametrize("name", SHARDS)
def test_a_shard_that_the_index_names_is_missed(whole: Path, name: str) -> None:
    (whole / name).unlink()
    assert problems(whole) == [f"{name}: missing"]


def test_weights_are_missed_where_there_is_no_index_either(whole: Path) -> None:
    for name in (*SHARDS, INDEX):
        (whole / name).unlink()
    assert problems(whole) == ["model.safetensors: missing"]


def test_a_link_of_the_cache_without_its_blob_is_a_missing_file(whole: Path) -> None:
    (whole / "config.json").unlink()
    (whole / "config.json").symlink_to("../../blobs/gone")
    assert problems(whole) == ["config.json: missing"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("tokenizer.model",), []),
        (("vocab.json", "merges.txt"), []),
        (("vocab.json",), ["merges.txt: missing"]),
    ],
)
def test_the_other_forms_of_a_tokenizer_will_do(
    whole: Path, names: tuple[str, ...], expected: list[str]
) -> None:
    (whole / "tokenizer.json").unlink()
    for name in names:
        (whole / name).write_text("{}")
    assert problems(whole) == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"model_type": ', "not readable as JSON"),
        (b"<html>Sign in to the hotel</html>", "not readable as JSON"),
        (b"", "not readable as JSON"),
        (b"\xff\xfe\x00", "not readable as JSON"),
        (b"[" * 100_000, "not readable as JSON"),
        (b"[1]", "not a JSON object"),
    ],
    ids=["truncated", "html", "empty", "binary", "nested", "list"],
)
@pytest.mark.parametrize(
    "name",
    ["config.json", "tokenizer_config.json", "tokenizer.json", "preprocessor_config.json", INDEX],
)
def test_json_that_is_none_is_damaged(whole: Path, name: str, content: bytes, reason: str) -> None:
    (whole / name).write_bytes(content)
    found = inspect(whole)
    assert str(found[0]) == f"{name}: {reason}"
    assert {(problem.file, problem.damaged) for problem in found} == {(name, True)}


def test_a_truncated_shard_is_damaged(whole: Path) -> None:
    shard = whole / SHARDS[1]
    size = shard.stat().st_size
    os.truncate(shard, size - 1)
    (problem,) = inspect(whole)
    assert str(problem) == f"{SHARDS[1]}: {size - 1} bytes where {size} are expected"
    assert problem.damaged


def test_a_shard_longer_than_its_header_says_is_damaged(whole: Path) -> None:
    with (whole / SHARDS[0]).open("ab") as file:
        file.write(b"x")
    (problem,) = inspect(whole)
    assert "are expected" in problem.reason
    assert problem.damaged


def offsets(*pair: Any) -> bytes:
    return json.dumps({"weight": {"data_offsets": list(pair)}}).encode()


@pytest.mark.parametrize(
    ("header", "length"),
    [
        (b"", None),
        (b"garbage!", None),
        (b"\xff" * 20, None),
        (b"{}", 1 << 40),
        (b"{}", (1 << 64) - 1),
        (b"[" * 100_000, None),
        (b"[1, 2]", None),
        (b'{"weight": 7}', None),
        (b'{"weight": {}}', None),
        (offsets(), None),
        (offsets(0, "far"), None),
        (offsets(0, None), None),
        (offsets(0, float("inf")), None),
    ],
)
def test_a_shard_with_a_garbage_header_is_damaged(
    whole: Path, header: bytes, length: int | None
) -> None:
    write_raw_shard(whole / SHARDS[0], header, b"data", length)
    (problem,) = inspect(whole)
    assert (problem.file, problem.damaged) == (SHARDS[0], True)
    assert problem.reason == "damaged header"


@pytest.mark.parametrize("content", [b"", b"\x10\x00"])
def test_a_shard_without_room_for_a_header_is_damaged(whole: Path, content: bytes) -> None:
    (whole / SHARDS[0]).write_bytes(content)
    assert problems(whole) == [f"{SHARDS[0]}: damaged header"]


@pytest.mark.parametrize(
    "name",
    [
        *("../model.safetensors", "/etc/passwd", "/model.safetensors", "a/b.safetensors"),
        *("..", ".", "", "pytorch_model.bin", "..\\model.safetensors", "a\0.safetensors"),
        *(None, 7, ["model.safetensors"]),
    ],
)
def test_an_index_that_leads_elsewhere_is_damaged(whole: Path, name: object) -> None:
    write_shard(whole.parent / "model.safetensors")
    write_index(whole, {"weight.0": SHARDS[0], "weight.1": name})
    assert problems(whole) == [f"{INDEX}: names no weight files"]


@pytest.mark.parametrize("weight_map", [{}, [], None, "model.safetensors"])
def test_an_index_that_names_nothing_is_damaged(whole: Path, weight_map: object) -> None:
    write_index(whole, weight_map)
    assert problems(whole) == [f"{INDEX}: names no weight files"]


def test_names_are_harmless_in_a_terminal(whole: Path) -> None:
    write_index(whole, {"weight.0": "\x1b[2J.safetensors"})
    assert problems(whole) == ["\\x1b[2J.safetensors: missing"]


# --model DIR


def test_model_must_be_a_directory(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("")
    with pytest.raises(CheckpointError, match="is not a directory"):
        find_checkpoint(Settings(model=tmp_path / "model"))


@pytest.mark.parametrize("make", [False, True])
@pytest.mark.parametrize("repo_id", ["owner/model", DEFAULT_REPO_ID, None])
def test_a_directory_that_is_not_there_is_made_when_a_repository_is_given_for_it(
    tmp_path: Path, make: bool, repo_id: str | None
) -> None:
    if make:
        (tmp_path / "model").mkdir()  # an empty one is to be downloaded into
    settings = Settings(model=tmp_path / "model", **({"repo_id": repo_id} if repo_id else {}))
    if not make and not repo_id:  # a typo must not begin a download of 33 GB
        with pytest.raises(CheckpointError, match="does not exist: check the path") as caught:
            find_checkpoint(settings)
        assert str(tmp_path / "model") in str(caught.value) and "--repo-id" in str(caught.value)
        return
    missing = find_checkpoint(Settings.of(*settings.grouped().values()))
    assert isinstance(missing, MissingCheckpoint)
    assert missing.target == tmp_path / "model"
    assert missing.damaged == ()


def test_the_form_hands_in_the_default_repository_which_nobody_gave(tmp_path: Path) -> None:
    asked = {"model": str(tmp_path / "typo"), "repo_id": DEFAULT_REPO_ID}
    with pytest.raises(CheckpointError, match="does not exist: check the path"):
        find_checkpoint(Settings.of(GROUPS["model"].model_validate(asked)).from_a_form())
    asked["repo_id"] = "owner/model"
    settings = Settings.of(GROUPS["model"].model_validate(asked)).from_a_form()
    assert isinstance(find_checkpoint(settings), MissingCheckpoint)


def test_somebody_elses_directory_is_left_alone(whole: Path) -> None:
    (whole / "config.json").unlink()
    os.truncate(whole / SHARDS[0], 10)
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint(Settings(model=whole))
    assert "config.json: missing" in str(caught.value)
    assert f"{SHARDS[0]}: damaged header" in str(caught.value)
    assert "empty directory" in str(caught.value)
    assert (whole / SHARDS[0]).exists()


def test_a_directory_begun_by_a_download_is_gone_on_with(whole: Path) -> None:
    (whole / ".cache" / "huggingface").mkdir(parents=True)
    (whole / "config.json").unlink()
    os.truncate(whole / SHARDS[0], 10)
    missing = find_checkpoint(Settings(model=whole))
    assert isinstance(missing, MissingCheckpoint)
    assert missing.problems == ("config.json: missing", f"{SHARDS[0]}: damaged header")
    assert missing.damaged == (whole / SHARDS[0],)
    assert missing.target == whole


def test_a_file_that_cannot_be_read_is_neither_whole_nor_damaged(whole: Path) -> None:
    (whole / "config.json").unlink()
    (whole / "config.json").symlink_to("config.json")
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read .*: check its perm"):
        find_checkpoint(Settings(model=whole))


def test_a_name_that_no_file_can_have_is_one_sentence() -> None:
    with pytest.raises(CheckpointError, match=r"cannot be read \(File name too long\)"):
        find_checkpoint(Settings(model=Path("m" * 300)))


# The Hub cache


def test_the_snapshot_of_the_cache_is_found(cache: Path) -> None:
    directory = write_checkpoint(cached(cache))
    found = find_checkpoint(Settings(repo_id="owner/model"))
    assert isinstance(found, Checkpoint)
    assert (found.directory, found.repo_id, found.revision) == (directory, "owner/model", COMMIT)


@pytest.mark.parametrize("content", [None, b"", b"../../..", b"\xff\xfe"])
def test_a_cache_without_a_snapshot_misses_the_checkpoint(
    cache: Path, content: bytes | None
) -> None:
    if content is not None:
        cached(cache)
        (cache / "models--owner--model" / "refs" / "main").write_bytes(content)
    assert find_checkpoint(Settings(repo_id="owner/model")) == MissingCheckpoint(None, (), ())


def test_an_incomplete_snapshot_is_named_file_by_file(cache: Path) -> None:
    directory = write_checkpoint(cached(cache))
    (directory / "tokenizer.json").unlink()
    os.truncate(directory / SHARDS[0], 100)
    missing = find_checkpoint(Settings(repo_id="owner/model"))
    assert isinstance(missing, MissingCheckpoint)
    assert missing.target is None
    assert missing.damaged == (directory / SHARDS[0],)
    assert [problem.split(":")[0] for problem in missing.problems] == ["tokenizer.json", SHARDS[0]]


def test_the_revision_is_known_without_a_look_at_the_weights(cache: Path) -> None:
    settings = Settings(repo_id="owner/model")
    assert known_revision(settings) is None
    directory = write_checkpoint(cached(cache))
    (directory / SHARDS[0]).unlink()
    assert known_revision(settings) == COMMIT
    (directory / "config.json").unlink()
    assert known_revision(settings) is None


@pytest.mark.parametrize("content", [b"", b"../../..", b"\xff\xfe"])
def test_a_garbled_reference_leads_nowhere(cache: Path, content: bytes) -> None:
    write_checkpoint(cached(cache))
    write_checkpoint(cache.parent, shards=("model.safetensors",))  # where the dots lead
    (cache / "models--owner--model" / "refs" / "main").write_bytes(content)
    assert known_revision(Settings(repo_id="owner/model")) is None
    assert isinstance(find_checkpoint(Settings(repo_id="owner/model")), MissingCheckpoint)


@pytest.mark.parametrize("repo_id", ["owner/a--b", "owner/model.git"])
@pytest.mark.parametrize("look", [find_checkpoint, known_revision])
def test_a_name_that_no_repository_can_have_is_one_sentence(
    cache: Path, repo_id: str, look: Callable[[Settings], object]
) -> None:
    with pytest.raises(CheckpointError, match="check --repo-id"):
        look(Settings(repo_id=repo_id))


# Code


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize(
    ("asks", "with_code"),
    [
        ({"model_file": "modeling.py"}, False),
        ({"model_file": "../modeling.py"}, True),
        ({"auto_map": {"AutoModel": "modeling.Model"}}, True),
        ({"auto_map": {"AutoModel": "somebody/else--modeling.Model"}}, False),
        ({"auto_map": {"AutoTokenizer": [None, "somebody/else--tokens.Fast"]}}, False),
    ],
)
def test_a_checkpoint_that_asks_to_run_code_is_refused(
    whole: Path, name: str, asks: dict[str, Any], with_code: bool
) -> None:
    (whole / name).write_text(json.dumps(asks))
    trap = whole / "ran"
    if with_code:
        (whole / "modeling.py").write_text(f"open({str(trap)!r}, 'w')")
    with pytest.raises(CheckpointError, match=f"carries code of its own .{name} asks to run it"):
        find_checkpoint(Settings(model=whole))
    assert not trap.exists()


@pytest.mark.parametrize(
    ("asks", "with_code"),
    [
        ({"auto_map": {"AutoModel": "modeling.Model"}}, False),  # transformers finds no such file
        ({"auto_map": {}}, True),
        ({"model_file": None}, True),
        ({"tags": "owner/name--x.Y"}, True),
    ],
)
def test_a_checkpoint_that_no_code_can_be_run_of_is_taken(
    whole: Path, asks: dict[str, Any], with_code: bool
) -> None:
    (whole / "config.json").write_text(json.dumps(asks))
    (whole / "list.json").write_text("[1]")
    (whole / "broken.json").write_text("[" * 100_000)
    if with_code:
        (whole / "convert.py").write_text("raise SystemExit")
    refuse_code(whole)
    assert isinstance(find_checkpoint(Settings(model=whole)), Checkpoint)


# Memory


def test_weights_that_cannot_fit_are_refused_with_smaller_models_to_try() -> None:
    with pytest.raises(CheckpointError) as caught:
        check_fits(memory_bytes() + 1, "owner/huge")
    sentence = str(caught.value)
    assert sentence.startswith("owner/huge needs ")
    assert " GB for its weights alone, and this machine has " in sentence
    assert all(f"--repo-id {name}" in sentence for name in SMALLER)


def test_weights_that_fit_pass() -> None:
    check_fits(memory_bytes() // 2, "owner/small")


# The embedded checkpoint


def test_the_embedded_checkpoint_is_known_by_its_place(whole: Path) -> None:
    assert is_embedded(Checkpoint(EMBEDDED_DIRECTORY / "flowcharts-3m-8bit", None, COMMIT, 1))
    assert not is_embedded(Checkpoint(whole, None, COMMIT, 1))

"""JSON files: exactly what was meant, and whole or not there, whatever happens."""

import errno
import json
import os
import random
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from captioner.errors import OutputError
from captioner.output.atomic import write_json, write_json_list
from captioner.output.folder import OutputFolder
from captioner.records import Caption, Generation, Job, Picture, Recipe, Stamp
from captioner.settings import DEFAULTS
from tests.conftest import mounted


def caption(text: str, name: str = "diagram10.jpg", file: str = "diagram10.json") -> Caption:
    needed = [f.name for f in fields(Generation) if f.default is MISSING]
    figures: dict[str, Any] = dict.fromkeys(needed, 0)
    generation = Generation(**figures | {"text": text, "finish_reason": "stop"})
    job = Job(Picture(name, Path()), file, 1, 1)
    return Caption(job, "What is it?", generation, Stamp(0, 0, ""))


def save(caption: Caption, directory: Path) -> Path:
    return directory / OutputFolder(directory).save(caption, Recipe.of(DEFAULTS, "1"))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# --- what is in the files ---


def test_a_caption_file_is_exactly_that_of_the_description(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "out"
    with OutputFolder(directory) as output:  # it makes the directory
        name = output.save(caption('Größe → "5 m"\n🐈 \\ </script>'), Recipe.of(DEFAULTS, "1"))
    assert name == "diagram10.json"
    path = directory / name
    assert path.read_bytes().decode("utf-8") == (
        "{\n"
        '  "image": "diagram10.jpg",\n'
        '  "prompt": "What is it?",\n'
        '  "caption": "Größe → \\"5 m\\"\\n🐈 \\\\ </script>"\n'
        "}\n"
    )
    assert names(directory) == [".run.lock", "diagram10.json", "provenance.jsonl"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\x00\x1b[31m\x7f",
        "\u2028\u2029\ufeff",
        "\U0001f408",
        "a" * 100_000,
        "\r\n",
        "\ufffe",
    ],
)
def test_any_caption_is_read_back_as_it_was(text: str, tmp_path: Path) -> None:
    raw = save(caption(text), tmp_path).read_bytes()
    entry = json.loads(raw)
    assert list(entry) == ["image", "prompt", "caption"]
    assert entry["caption"] == text
    assert raw.endswith(b"}\n") and not raw.startswith(b"\xef\xbb\xbf") and b"\r" not in raw


def test_names_that_are_not_utf_8_are_read_back_as_they_were(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xff\xf0\x9f.png")
    path = save(caption("text", name=name), tmp_path)
    raw = path.read_bytes()
    raw.decode("utf-8")  # the file itself is UTF-8
    assert os.fsencode(json.loads(raw)["image"]) == b"caf\xe9 \xff\xf0\x9f.png"
    write_json_list(tmp_path / "list.json", [{"image": name}])
    assert json.loads((tmp_path / "list.json").read_bytes()) == [{"image": name}]


@pytest.mark.parametrize(
    "values",
    [
        [],
        [1],
        ["two\nlines", "ü", None],
        [{"image": "a.png", "prompt": "p", "caption": "c"}] * 3,
        [{"deep": [{"er": []}, {}]}, [], [[1, 2], 3.5], True],
        list(range(1000)),
    ],
)
def test_a_list_is_what_json_writes(values: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    assert write_json_list(path, iter(values)) == len(values)
    assert path.read_text("utf-8") == json.dumps(values, ensure_ascii=False, indent=2) + "\n"
    write_json(path, values)
    assert path.read_text("utf-8") == json.dumps(values, ensure_ascii=False, indent=2) + "\n"


def test_a_list_is_written_value_by_value(tmp_path: Path) -> None:
    """At no time is more than one value alive: captions.json of a million pictures fits."""
    alive = 0
    most = 0

    class Value(dict[str, str]):
        def __init__(self) -> None:
            nonlocal alive, most
            super().__init__(image="a.png")
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    assert write_json_list(tmp_path / "list.json", (Value() for _ in range(100))) == 100
    assert most <= 2


# --- whole or not there ---


def broken_list() -> Iterator[int]:
    yield from range(10_000)
    raise RuntimeError("a value that cannot be made")


@pytest.mark.parametrize("there", [True, False])
def test_a_value_that_fails_leaves_everything_as_it_was(there: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if there:
        path.write_text("the old file")
    with pytest.raises(TypeError):
        write_json(path, {"fine": "x" * 100_000, "not": object()})
    with pytest.raises(TypeError):
        write_json_list(path, [1, 2, object()])
    with pytest.raises(RuntimeError):
        write_json_list(path, broken_list())
    assert names(tmp_path) == (["a.json"] if there else [])
    if there:
        assert path.read_text() == "the old file"


def test_ctrl_c_in_the_middle_leaves_everything_as_it_was(tmp_path: Path) -> None:
    def values() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    (tmp_path / "a.json").write_text("the old file")
    with pytest.raises(KeyboardInterrupt):
        write_json_list(tmp_path / "a.json", values())
    assert names(tmp_path) == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "the old file"


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, ["0"] * 500)
    ended, torn = threading.Event(), list[str]()

    def read() -> None:
        while not ended.is_set():
            value = json.loads(path.read_bytes())
            if len(value) != 500 or len(set(value)) != 1:
                torn.append("torn")

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(150):
        write_json(path, [str(number) * random.Random(number).randint(1, 200)] * 500)
    ended.set()
    reader.join()
    assert not torn
    assert names(tmp_path) == ["a.json"]


def test_many_threads_write_beside_one_another(tmp_path: Path) -> None:
    def write(number: int) -> None:
        for _ in range(10):
            write_json(tmp_path / f"{number % 3}.json", [number] * 200)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(tmp_path) == ["0.json", "1.json", "2.json"]
    for path in tmp_path.iterdir():
        value = json.loads(path.read_bytes())
        assert len(value) == 200 and len(set(value)) == 1


def test_a_process_that_is_killed_while_it_writes_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('"the old file"\n')
    script = """
import os, signal, sys
from pathlib import Path
from captioner.output.atomic import write_json_list
def values():
    yield "x" * 200_000
    os.kill(os.getpid(), signal.SIGKILL)
write_json_list(Path(sys.argv[1]), values())
"""
    run = subprocess.run([sys.executable, "-c", script, str(path)], timeout=60)
    assert run.returncode == -9
    assert json.loads(path.read_text()) == "the old file"
    assert not [name for name in names(tmp_path) if name != "a.json" and not name.startswith(".")]


# --- faults of the disk, made for real ---


def refusal(
    text: str, directory: Path, file: str = "a.json", refused: str = "a.json"
) -> OutputError:
    with pytest.raises(OutputError) as raised:
        save(caption(text, file=file), directory)
    sentence = str(raised.value)
    assert sentence.startswith(f"{directory}/{refused} cannot be written: ")
    assert sentence.endswith("The captions saved so far are safe; mend that and run again.")
    assert len(sentence.splitlines()) == 1
    return raised.value


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounted(disk, "64k"):
        yield disk


def test_a_full_disk_is_one_sentence_and_the_old_file_stays(small_disk: Path) -> None:
    save(caption("first", file="a.json"), small_disk)
    save(caption("other", file="b.json"), small_disk)
    before = {name: (small_disk / name).read_bytes() for name in names(small_disk)}
    assert list(before) == ["a.json", "b.json", "provenance.jsonl"]

    for text, file in (("x" * 200_000, "a.json"), ("x" * 200_000, "new.json")):
        error = refusal(text, small_disk, file, refused="provenance.jsonl")
        assert "No space left on device" in str(error)
        with pytest.raises(OSError, match="No space left"):
            write_json(small_disk / file, text)
        assert {name: (small_disk / name).read_bytes() for name in names(small_disk)} == before
    with pytest.raises(OSError, match="No space left"):
        write_json_list(small_disk / "b.json", ("y" * 1000 for _ in range(1000)))
    assert {name: (small_disk / name).read_bytes() for name in names(small_disk)} == before

    # there is room for its line, and none for the file after it
    assert "No space left on device" in str(refusal("x" * 35_000, small_disk))
    line = (small_disk / "provenance.jsonl").read_bytes()
    assert line.startswith(before.pop("provenance.jsonl")) and line.count(b"\n") == 3
    (small_disk / "provenance.jsonl").unlink()
    assert {name: (small_disk / name).read_bytes() for name in names(small_disk)} == before

    save(caption("there is room for this", file="a.json"), small_disk)
    assert b"there is room" in (small_disk / "a.json").read_bytes()


def test_a_disk_without_a_single_byte_left(small_disk: Path) -> None:
    save(caption("first", file="a.json"), small_disk)
    before = (small_disk / "a.json").read_bytes()
    with pytest.raises(OSError, match="No space left"), (small_disk / "filler").open("wb") as file:
        while True:
            file.write(b"\0" * 4096)
            file.flush()
    with pytest.raises(OSError, match="No space left"):
        write_json(small_disk / "a.json", "second")
    # its line is longer than what is left of the page that the first one is on
    error = refusal("x" * 5000, small_disk, refused="provenance.jsonl")
    assert "No space left on device" in str(error)
    assert "No space left on device" in str(refusal("second", small_disk))
    assert (small_disk / "a.json").read_bytes() == before
    assert names(small_disk) == ["a.json", "filler", "provenance.jsonl"]
    (small_disk / "filler").unlink()
    save(caption("second", file="a.json"), small_disk)
    assert names(small_disk) == ["a.json", "provenance.jsonl"]


def test_a_disk_that_became_read_only(small_disk: Path) -> None:
    save(caption("first", file="a.json"), small_disk)
    before = (small_disk / "a.json").read_bytes()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    error = refusal("second", small_disk, refused="provenance.jsonl")
    assert "Read-only file system" in str(error)
    with pytest.raises(OSError, match="Read-only file system"):
        write_json(small_disk / "a.json", "second")
    assert (small_disk / "a.json").read_bytes() == before
    assert names(small_disk) == ["a.json", "provenance.jsonl"]


def test_a_limit_on_file_sizes_is_one_sentence_and_the_old_file_stays(tmp_path: Path) -> None:
    """A quota for those who may not mount: writing fails in the middle all the same."""
    save(caption("first", file="a.json"), tmp_path)
    before = (tmp_path / "a.json").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        error = refusal("x" * 100_000, tmp_path, refused="provenance.jsonl")
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            write_json(tmp_path / "a.json", "x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.strerror(errno.EFBIG) in str(error)  # though a part of the line was written
    assert len((tmp_path / "provenance.jsonl").read_bytes().splitlines()) == 1
    assert names(tmp_path) == ["a.json", "provenance.jsonl"]
    assert (tmp_path / "a.json").read_bytes() == before


def test_things_in_the_way_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    assert "Is a directory" in str(refusal("text", tmp_path))
    assert names(tmp_path) == ["a.json", "provenance.jsonl"]
    (tmp_path / "file").write_bytes(b"")
    for directory in (tmp_path / "file", tmp_path / "file" / "out", tmp_path / "gone"):
        refusal("text", directory, refused="provenance.jsonl")
    refusal("text", tmp_path, file="x" * 300, refused="x" * 300)
    (tmp_path / "provenance.jsonl").unlink()
    (tmp_path / "provenance.jsonl").mkdir()
    refusal("text", tmp_path, file="b.json", refused="provenance.jsonl")
    assert names(tmp_path) == ["a.json", "file", "provenance.jsonl"]

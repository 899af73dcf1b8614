"""Output folders and checkpoints with something else in the place of one of our own files.

`fuzz.py` goes through them. What a run does there, but for the captioning, has to end well or with
one sentence, soon, and leave everything that is outside the folder as it is.
"""

import dataclasses
import itertools
import json
import os
import random
import shutil
import socket
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Any

from captioner.asking.prompts import Prompts
from captioner.checkpoint.find import MissingCheckpoint, find_checkpoint, known_revision
from captioner.errors import CaptionerError
from captioner.output.folder import OutputFolder
from captioner.pictures.scan import scan
from captioner.pictures.stamps import stamp_of
from captioner.records import Caption, Generation, Recipe
from captioner.run import Run
from captioner.settings import Settings

PICTURES = ("p1.png", "p2.png", "p3.png", "sub/p4.png", "sub/p5.png")
BEFORE = ("p1.png", "p2.png", "sub/p4.png")  # what an earlier run captioned
PLACES = (
    *(".run.lock", "provenance.jsonl", "captions.json", "summary.json", "p1.json", "p2.json"),
    *("sub", "sub/p4.json", f".{'0' * 32}.tmp"),
)
MOMENTS = ("before the run", "after the plan", "before the end")
CHECKPOINT_FILES = (
    *("config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json"),
    *("tokenizer_config.json", "chat_template.jinja", "preprocessor_config.json"),
)
FIGURES: dict[str, Any] = {field.name: 0 for field in dataclasses.fields(Generation)}
FIGURES |= {"fields": None, "said": "", "banned": ()}


def socket_at(path: Path) -> None:
    """A socket that nobody listens to; in two steps, since its path may not be long."""
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def sparse(path: Path) -> None:
    """20 GB of nothing."""
    path.touch()
    os.truncate(path, 20_000_000_000)


# each puts something in a place where nothing is; `old` is what was there, `victim` lies outside
Planter = Callable[[Path, bytes, Path], object]
PLANTERS: dict[str, Planter] = {
    "link": lambda path, old, victim: path.symlink_to(victim / "file"),
    "link to a folder": lambda path, old, victim: path.symlink_to(victim),
    "link to nowhere": lambda path, old, victim: path.symlink_to(victim / "new"),
    "link to itself": lambda path, old, victim: path.symlink_to(path.name),
    "link to /dev/zero": lambda path, old, victim: path.symlink_to("/dev/zero"),
    "link to /dev/full": lambda path, old, victim: path.symlink_to("/dev/full"),
    "hard link": lambda path, old, victim: path.hardlink_to(victim / "file"),
    "FIFO": lambda path, old, victim: os.mkfifo(path),
    "socket": lambda path, old, victim: socket_at(path),
    "directory": lambda path, old, victim: path.mkdir(),
    "full directory": lambda path, old, victim: shutil.copytree(victim, path),
    "nothing": lambda path, old, victim: None,
    "empty": lambda path, old, victim: path.touch(),
    "NULs": lambda path, old, victim: path.write_bytes(bytes(5000)),
    "sparse": lambda path, old, victim: sparse(path),
    "torn": lambda path, old, victim: path.write_bytes(old[: len(old) * 2 // 3]),
    "without its end": lambda path, old, victim: path.write_bytes(old.rstrip()),
    "twice": lambda path, old, victim: path.write_bytes(old * 2),
    "a list": lambda path, old, victim: path.write_bytes(b"[1, 2]"),
    "another caption": lambda path, old, victim: path.write_bytes(
        b'{"image": "p3.png", "prompt": "p", "caption": "c"}'
    ),
    "nested": lambda path, old, victim: path.write_bytes(b'{"image":' * 50_000),
    "no UTF-8": lambda path, old, victim: path.write_bytes(b"\xff\xfe\x00" + old),
    "numbers": lambda path, old, victim: path.write_bytes(b'{"version": 1e999, "image": NaN}\n'),
    "a long line": lambda path, old, victim: path.write_bytes(b"x" * 3_000_000),
}


def combinations(places: tuple[str, ...], seed: int) -> Iterator[list[tuple[str, str]]]:
    """What is put where: first everything everywhere by itself, then several at a time."""
    numbers, single = random.Random(seed), [*itertools.product(places, PLANTERS)]
    numbers.shuffle(single)
    yield from ([one] for one in single)
    while True:
        chosen = numbers.sample(places, numbers.randint(2, 3))
        yield [(place, numbers.choice([*PLANTERS])) for place in chosen]


def plant(folder: Path, what: list[tuple[str, str]], victim: Path) -> None:
    """Put the things in the places of files of ours."""
    for place, planter in what:
        path = folder / place
        if path.parent.is_symlink() or not path.parent.is_dir():  # something is planted there
            continue
        old = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        PLANTERS[planter](path, old, victim)


def everything(folder: Path) -> dict[str, object]:
    """All that is in a folder, with what could be seen to have changed."""
    return {
        str(path): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            path.is_file() and path.read_bytes(),
        )
        for path in [folder, *sorted(folder.rglob("*"))]
    }


def prepared(folder: Path) -> tuple[Settings, Path]:
    """Pictures, some of them captioned, in a folder and one below it, and something elsewhere."""
    inside, victim = folder / "in", folder / "elsewhere"
    (inside / "sub").mkdir(parents=True)
    victim.mkdir()
    (victim / "file").write_bytes(b"what somebody\nneeds")
    for name in PICTURES:
        (inside / name).write_bytes(f"bytes of {name}".encode())
    settings = Settings(input_dir=inside, output_dir=folder / "out", recursive=True)
    run_through(settings, lambda moment: None, only=BEFORE)
    return settings, victim


def run_through(
    settings: Settings, at: Callable[[str], None], only: Container[str] = PICTURES
) -> Run:
    """What a run does, but for the captioning; `at` is called at each of the moments.

    Raises:
        CaptionerError: what it says when it cannot go on.
    """
    run, output = Run(settings), OutputFolder(settings.output_dir)
    run.scan = scan(settings.input_dir, recursive=settings.recursive)
    at(MOMENTS[0])
    output.check()
    with output:
        run.plan = output.plan(run.scan, settings, Recipe.of(settings, "1"), Prompts(settings).of)
        at(MOMENTS[1])
        for job in run.plan.todo:
            if job.picture.key not in only:
                continue
            generation = Generation(**FIGURES | {"text": "c", "finish_reason": "stop", "flags": ()})
            caption = Caption(job, settings.user_prompt, generation, stamp_of(job.picture.path))
            output.save(caption, Recipe.of(settings, "1"))
            run.add(caption)
        at(MOMENTS[2])
        output.finish(run)
    return run


def end_of_folder(
    settings: Settings, victim: Path, what: list[tuple[str, str]], moment: str
) -> str:
    """Why a run could not go on; empty when it did. Asserts what has to hold afterwards."""
    outside = [settings.input_dir, victim]
    before = [everything(folder) for folder in outside]
    try:
        run_through(
            settings,
            lambda now: plant(settings.output_dir, what, victim) if now == moment else None,
        )
        why = ""
    except CaptionerError as error:
        why = str(error)
        assert why.isprintable() and str(settings.output_dir) in why, why
    assert [everything(folder) for folder in outside] == before, "something outside has changed"
    if not why:
        entries = json.loads((settings.output_dir / "captions.json").read_bytes())
        if moment == MOMENTS[0]:  # later, a finished caption may have been taken away
            again = run_through(settings, lambda moment: None)
            assert not again.captioned, "done twice"
            missing = {unreadable.image for unreadable in again.plan.unreadable}
            assert {entry["image"] for entry in entries} == set(PICTURES) - missing
    return why


def end_of_checkpoint(checkpoint: Path, victim: Path, what: list[tuple[str, str]]) -> str:
    """Why a checkpoint cannot be used; empty when nothing seems wrong with it."""
    before = everything(victim)
    plant(checkpoint, what, victim)
    settings = Settings(model=checkpoint)
    try:
        known_revision(settings)
        found = find_checkpoint(settings)
        why = ", ".join(found.problems) if isinstance(found, MissingCheckpoint) else ""
    except CaptionerError as error:
        why = str(error)
    assert why.isprintable(), why
    assert everything(victim) == before, "something outside has changed"
    return why

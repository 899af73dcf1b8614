"""Shards of a folder: which picture falls to which, what their runs leave, and how it is merged.

The captions are saved as the flow saves them; no model is needed.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from captioner.asking.prompts import Prompts
from captioner.errors import InputError, OutputError
from captioner.output.folder import OutputFolder
from captioner.output.gathering import Gathering
from captioner.output.lease import RENEWED_SECONDS, Lease
from captioner.output.provenance import FILE_NAME, OnlyRead
from captioner.pictures.scan import scan
from captioner.pictures.stamps import stamp_of
from captioner.plan import Shard, shard_of
from captioner.records import Caption, Failure, Generation, Job, Recipe, Skipped
from captioner.run import Run
from captioner.settings import Settings
from flows.workers import Workers
from tests.conftest import ROOT, draw_picture

# a.png and a.jpg want the same caption file
NAMES = ("a.jpg", "a.png", *(f"p{number}.png" for number in range(1, 9)))
BROKEN = "p8.png"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in NAMES:
        draw_picture(folder / name, size=(48, 48))
    (folder / BROKEN).write_bytes(b"no picture")
    return folder


def in_shard(settings: Settings, name: str) -> Settings:
    return settings.model_copy(update={"shard": name})


def caption(
    settings: Settings, at_most: int = 1000, fail: Callable[[Job], bool] = lambda _: False
) -> Run:
    """A run that captions what it has to, as the flow does; it is killed after so many."""
    run = Run.begin(settings)
    run.scan = scan(settings.input_dir)
    recipe = Recipe.of(settings, "abc")
    with OutputFolder(settings.output_dir, settings.shard) as output:
        run.plan = output.plan(run.scan, settings, recipe, Prompts(settings).of)
        for job in run.plan.todo[:at_most]:
            stamp = stamp_of(job.picture.path)
            if job.picture.key == BROKEN:
                run.skipped.append(Skipped(job.picture, "no picture", stamp))
                output.skip(run.skipped[-1])
            elif fail(job):
                run.failures.append(Failure(job, "no"))
            else:
                text = f"It is {job.picture.key}"
                made = Generation(text, "stop", 100, 80, 24, 16, 11, 0.5, 2.0)
                output.save(each := Caption(job, settings.user_prompt, made, stamp), recipe)
                run.add(each)
        if at_most >= len(run.plan.todo):
            output.finish(run)
    return run


def caption_shards(settings: Settings, shards: Iterable[int], of: int = 3) -> list[Run]:
    return [caption(in_shard(settings, f"{number}/{of}")) for number in shards]


def without_times(directory: Path) -> dict[str, object]:
    """The files of an output folder with what they say, but for times."""
    found: dict[str, object] = {}
    for path in directory.iterdir():
        text = path.read_text()
        if path.name == "provenance.jsonl":
            lines = [json.loads(line) for line in text.splitlines()]
            found[path.name] = {line.pop("image"): line for line in lines if line.pop("at")}
        elif path.name not in ("summary.json", ".run.lock"):
            found[path.name] = text
    return found


def test_every_picture_falls_to_one_shard_and_always_to_the_same() -> None:
    keys = [f"picture {number}.png" for number in range(1000)]
    counted = Counter(shard_of(key, 12) for key in keys)
    assert set(counted) == set(range(1, 13))
    assert max(counted.values()) < 2 * min(counted.values())
    # whatever machine, version or day: a shard that is tried again has the same pictures
    assert [shard_of(key, 12) for key in ("a.png", "Übersicht.png")] == [3, 1]
    assert shard_of("U\u0308bersicht.png", 12) == shard_of("\xdcbersicht.png", 12)
    shards = [Shard(number, 5) for number in range(1, 6)]
    assert all(sum(shard.holds(key) for shard in shards) == 1 for key in keys)


def test_shards_leave_what_one_machine_leaves(pictures: Path, tmp_path: Path) -> None:
    one = Settings(input_dir=pictures, output_dir=tmp_path / "one")
    several = Settings(input_dir=pictures, output_dir=tmp_path / "several")
    caption(one)
    runs = caption_shards(several, (1, 2, 3))
    left = {path.name for path in several.output_dir.iterdir()}
    assert "captions.json" not in left and "summary.json" not in left
    assert all(0 < len(run.plan.todo) < len(NAMES) for run in runs)

    merged = caption(several)  # a run of the whole folder, which has nothing to do
    assert merged.plan.todo == ()
    assert len(merged.plan.up_to_date) == len(NAMES) - 1 and len(merged.plan.skipped) == 1
    assert without_times(several.output_dir) == without_times(one.output_dir)
    again = caption_shards(several, (1, 2, 3))  # and the other way round
    assert [run.plan.todo for run in again] == [(), (), ()]


def test_names_do_not_depend_on_how_far_others_are(pictures: Path, tmp_path: Path) -> None:
    settings = Settings(input_dir=pictures, output_dir=tmp_path / "out")
    first = caption(in_shard(settings, "1/1"), at_most=1)
    assert first.plan.todo[0].caption_file == "a.jpg.json"
    rest = caption(in_shard(settings, "1/1"))
    assert rest.plan.caption_files["a.png"] == "a.png.json"


def test_what_a_killed_shard_made_is_not_made_again(pictures: Path, tmp_path: Path) -> None:
    settings = Settings(input_dir=pictures, output_dir=tmp_path / "out", overwrite=True)
    caption(Settings(input_dir=pictures, output_dir=tmp_path / "out"))
    begun = caption(in_shard(settings, "2/2"), at_most=2)
    assert len(begun.plan.todo) > 2
    (file,) = settings.output_dir.glob("provenance-2-of-2-*.jsonl")
    with file.open("ab") as torn:
        torn.write(b'{"version": 1, "at": "2026-')
    again = caption(in_shard(settings, "2/2"))
    assert {job.picture.key for job in again.plan.todo} == {
        job.picture.key for job in begun.plan.todo[2:]
    }
    assert len(list(settings.output_dir.glob("provenance-2-of-2-*.jsonl"))) == 2
    once_more = caption(settings)  # of the whole folder: what is merged is overwritten
    assert len(once_more.plan.todo) == len(NAMES)
    lines = (settings.output_dir / "provenance.jsonl").read_text().splitlines()
    assert all(json.loads(line)["image"] in NAMES for line in lines)


def test_a_run_of_the_folder_and_its_shards_keep_each_other_out(
    pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    used = r"in use by another run \(shard [12] of 3: process .* on .*since"
    with (
        OutputFolder(out, "1/3"),
        OutputFolder(out, "2/3"),
        pytest.raises(InputError, match=used),
    ):
        OutputFolder(out).__enter__()
    with OutputFolder(out), pytest.raises(InputError, match="in use by another run"):
        OutputFolder(out, "1/3").__enter__()
    with OutputFolder(out, "1/3"):  # all of that is let go again
        pass


def test_a_shard_is_captioned_once_at_a_time(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with OutputFolder(out, "1/3"):
        sign = next(out.glob(".shard-1-of-3.lease"))
        told, ended = sign.read_text(), threading.Event()

        def renew() -> None:
            count = 0
            while not ended.wait(0.1):
                sign.write_text(f"{told}{(count := count + 1)}\n")

        threading.Thread(target=renew, daemon=True).start()
        with pytest.raises(InputError, match=r"Shard 1 of 3 in .* is being captioned by another"):
            OutputFolder(out, "1/3").__enter__()
        ended.set()


HOLD = (
    "import sys; from pathlib import Path; from captioner.output.folder import OutputFolder\n"
    "with OutputFolder(Path(sys.argv[1]), '1/3'): print('held', flush=True); sys.stdin.read()"
)


def test_the_shard_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    with subprocess.Popen(command, cwd=ROOT, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGKILL)
    assert list((tmp_path / "out").glob(".shard-1-of-3.lease"))
    with OutputFolder(tmp_path / "out", "1/3"):
        pass
    with OutputFolder(tmp_path / "out"):
        pass


def test_a_sign_that_is_not_renewed_runs_out_by_the_clock_of_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    sign = out / ".shard-1-of-3.lease"
    sign.write_text("process 1 on elsewhere, since then\nabc\n")
    os.utime(sign, (0, 0))
    with OutputFolder(out, "1/3"):
        assert "elsewhere" not in sign.read_text()
    assert not sign.exists()
    assert RENEWED_SECONDS * 4 < 90


def test_a_run_that_was_asleep_notices_who_has_its_shard(pictures: Path, tmp_path: Path) -> None:
    settings = in_shard(Settings(input_dir=pictures, output_dir=tmp_path / "out"), "1/1")
    recipe = Recipe.of(settings, "abc")
    with OutputFolder(settings.output_dir, settings.shard) as output:
        plan = output.plan(scan(pictures), settings, recipe, Prompts(settings).of)
        other = Lease(settings.output_dir, Shard(1, 1))
        next(settings.output_dir.glob(".shard*")).unlink()
        other.take()
        made = Generation("x", "stop", 1, 1, 1, 1, 1, 1.0, 1.0)
        job = plan.todo[0]
        with pytest.raises(OutputError, match=r"is not this run's any more: process .* took it"):
            output.save(Caption(job, "x", made, stamp_of(job.picture.path)), recipe)
        assert not list(settings.output_dir.glob("provenance*"))
    assert next(settings.output_dir.glob(".shard*"))  # the other one's sign stays


def test_a_folder_that_cannot_be_read_any_more_is_said(tmp_path: Path) -> None:
    lease = Lease(tmp_path / "out", Shard(1, 3))
    (tmp_path / "out").mkdir()
    lease.take()
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").write_text("in its place")
    with pytest.raises(OutputError, match=r"Shard 1 of 3 in .*out cannot be read \(Not a dir"):
        lease.check()


def test_an_old_version_leaves_shards_alone(pictures: Path, tmp_path: Path) -> None:
    """What looks like a shard's file and is none of ours is said, and nothing else is lost."""
    settings = Settings(input_dir=pictures, output_dir=tmp_path / "out")
    caption_shards(settings, (1,))
    (path,) = settings.output_dir.glob("provenance-1-of-3-*.jsonl")
    link = settings.output_dir / "provenance-2-of-3-00000000.jsonl"
    link.symlink_to(pictures / "a.png")
    with pytest.raises(InputError, match=rf"{link.name} cannot be what earlier runs wrote.*a link"):
        caption(settings)
    link.unlink()
    assert path.exists()
    assert caption(settings).plan.up_to_date


def split(settings: Settings, shards: int = 3) -> tuple[Gathering, Run]:
    """A folder that is split, as the one who gives out its shards does it."""
    run, gathering = Run.begin(settings), Gathering(settings.output_dir)
    run.scan = scan(settings.input_dir)
    recipe = Recipe.of(settings, None)
    run.plan = gathering.split(run.scan, settings, recipe, Prompts(settings).of, shards)
    return gathering, run


def merged(settings: Settings, gathering: Gathering, run: Run) -> dict[str, Any]:
    """What summary.json says of all of them."""
    with OutputFolder(settings.output_dir) as output:
        gathering.end(run)
        output.finish(run)
        gathering.merge()
    summary: dict[str, Any] = json.loads((settings.output_dir / "summary.json").read_bytes())
    return summary


def test_whoever_gives_out_shards_goes_on_where_another_was_killed(
    pictures: Path, tmp_path: Path
) -> None:
    settings = Settings(input_dir=pictures, output_dir=tmp_path / "out", overwrite=True)
    caption(settings)
    first, run = split(settings)
    assert first.left().total() == len(run.plan.todo) == len(NAMES)
    caption(in_shard(settings, "1/3"), at_most=1)  # it was killed
    caption(in_shard(settings, "2/3"), fail=lambda job: job.picture.key == "p2.png")
    first.note(run)
    assert run.done == len(NAMES) - first.left().total() > 1

    second, run = split(settings, shards=7)
    assert second.round == first.round and second.round and second.round.shards == 3
    assert second.left() == first.left()
    second.note(run)  # what others did before says nothing of the pace
    assert run.done > 1 and run.progress.pace == ""
    before = len(run.captioned)
    caption_shards(settings, second.left())
    again = caption_shards(settings, (1, 3))
    assert [each.plan.todo for each in again] == [(), ()]
    second.note(run)
    assert not second.left()
    assert "a minute" in run.progress.pace
    second.end(run)
    here = run.a_minute * run.captioning_seconds / 60
    assert round(here) == len(run.captioned) - before > 0
    figures = merged(settings, second, run)
    failed = [each["image"] for each in figures["failed"]]
    assert failed == (["p2.png"] if shard_of("p2.png", 3) == 2 else [])
    assert figures["counts"]["captioned"] == len(NAMES) - 1 - len(failed)
    assert figures["counts"]["again"] == figures["counts"]["captioned"]
    assert [each["image"] for each in figures["skipped"]] == [BROKEN]
    assert figures["seconds"]["prefill"] == 0.5 * figures["counts"]["captioned"]
    assert not list(settings.output_dir.glob("provenance-*"))
    assert not list(settings.output_dir.glob(".shard*"))


def test_shards_of_another_question_are_another_round(pictures: Path, tmp_path: Path) -> None:
    settings = Settings(input_dir=pictures, output_dir=tmp_path / "out")
    first, _ = split(settings)
    caption(in_shard(settings, "1/3"))
    other = settings.model_copy(update={"user_prompt": "What is it?"})
    second, run = split(other)
    assert second.round != first.round
    assert not first.is_there() and second.is_there()
    assert len(run.plan.todo) == len(NAMES) - (shard_of(BROKEN, 3) == 1)
    elsewhere = settings.model_copy(update={"model": tmp_path, "batch_size": 8, "gallery": False})
    third, _ = split(elsewhere)
    assert third.round != second.round
    assert split(settings)[0].round == third.round


def test_what_nobody_captioned_has_failed(pictures: Path, tmp_path: Path) -> None:
    settings = Settings(input_dir=pictures, output_dir=tmp_path / "out")
    gathering, run = split(settings)
    caption_shards(settings, (1, 2))
    gathering.note(run)
    (missing,) = gathering.left()
    figures = merged(settings, gathering, run)
    assert {each["image"] for each in figures["failed"]} == {
        name for name in NAMES if shard_of(name, 3) == missing
    }
    assert all(each["reason"] == "no shard captioned it" for each in figures["failed"])


def test_what_lies_in_the_place_of_a_shard_s_lines_is_passed_over(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(input_dir=pictures, output_dir=tmp_path / "out")
    gathering, run = split(settings)
    caption_shards(settings, (1, 2, 3))
    strange = settings.output_dir / "provenance-1-of-3-00000000.jsonl"
    strange.write_text('[]\n{"result": "ended"}\n{"result": "captioned", "image": 3}\n' + "x\n" * 9)
    OnlyRead(settings.output_dir / FILE_NAME).read()
    assert f"11 lines of {strange} cannot be understood: not counted" in caplog.messages
    gathering.note(run)
    assert not gathering.left()
    assert merged(settings, gathering, run)["counts"]["captioned"] == len(NAMES) - 1


def test_lines_that_cannot_be_understood_are_told_of_once_when_shards_are_merged(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(input_dir=pictures, output_dir=tmp_path / "out")
    caption_shards(settings, (1, 2, 3))
    (settings.output_dir / "provenance-1-of-3-00000000.jsonl").write_text("x\n" * 9)
    caption(settings)
    assert (settings.output_dir / FILE_NAME).read_text().count("x\n") == 9
    assert len([said for said in caplog.messages if "cannot be understood" in said]) == 1


def test_a_worker_that_refuses_is_left_alone_for_a_while() -> None:
    workers = Workers()
    workers.online = {"anna", "ben"}
    workers.refuse("ben", "no memory")
    assert workers.able() == {"anna"}
    for _ in range(3):
        workers.refuse("ben", "no memory")
        workers.refuse("anna", "no folder")
    assert workers.able() == set()
    assert workers.why_none_can() in ("no memory", "no folder")
    workers.note_progress()
    assert workers.why_none_can() == ""
    workers.online = set()
    assert workers.why_none_can() == ""

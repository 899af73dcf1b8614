"""What a run leaves when it ends: captions.json, summary.json and its sentence; no model needed."""

import json
from pathlib import Path
from typing import Any

import pytest

from captioner.asking.prompts import Prompts
from captioner.errors import InputError, OutputError
from captioner.output.folder import OutputFolder
from captioner.pages.gallery import write_gallery
from captioner.pictures.scan import scan
from captioner.pictures.stamps import stamp_of
from captioner.records import (
    Caption,
    Checkpoint,
    DeviceFigures,
    Failure,
    Generation,
    Job,
    Recipe,
    Skipped,
)
from captioner.run import Run, watched
from captioner.settings import Settings

CHECKPOINT = Checkpoint(Path("/models/m"), "owner/name", "abc", 1000)
NAMES = ("a.png", "b2.png", "b10.jpg", "c.png", "d.png", "e.png")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "in").mkdir()
    for name in NAMES:
        (tmp_path / "in" / name).write_bytes(f"bytes of {name}".encode())
    return Settings(
        input_dir=tmp_path / "in", output_dir=tmp_path / "out", user_prompt="Describe it."
    )


def planned(settings: Settings, output: OutputFolder) -> Run:
    run = Run.begin(settings)
    run.scan = scan(settings.input_dir)
    run.plan = output.plan(run.scan, settings, Recipe.of(settings, "abc"), Prompts(settings).of)
    return run


def caption_of(job: Job, flags: tuple[str, ...] = ()) -> Caption:
    generation = Generation(
        text=f"What {job.picture.key} shows.",
        finish_reason="stop",
        prompt_tokens=100,
        image_tokens=80,
        width=24,
        height=16,
        generated_tokens=11,
        prefill_seconds=0.5,
        decode_seconds=2.0,
        flags=flags,
        attempts=2,
    )
    return Caption(job, "Describe it.", generation, stamp_of(job.picture.path))


def finished(settings: Settings, output: OutputFolder) -> Run:
    """A run that captions the third and the first, the first with a flag; the second is skipped,
    the fourth fails, and the others are not reached."""
    run = planned(settings, output)
    jobs = run.plan.todo
    run.load(CHECKPOINT, 1, 1.5)
    for caption in (caption_of(jobs[2]), caption_of(jobs[0], ("truncated",))):
        output.save(caption, run.recipe)
        run.add(caption)
    skipped = Skipped(jobs[1].picture, "empty file", stamp_of(jobs[1].picture.path))
    output.skip(skipped)
    run.skipped.append(skipped)
    run.failures.append(Failure(jobs[3], "No caption for c.png: MLX failed"))
    run.end(DeviceFigures(4.0, 1.0, 5000))
    output.finish(run)
    return run


def read(settings: Settings, file: str) -> Any:
    return json.loads((settings.output_dir / file).read_bytes())


def test_captions_json_is_in_the_order_of_the_scan(settings: Settings) -> None:
    with OutputFolder(settings.output_dir) as output:
        run = finished(settings, output)
        entries = [
            {"image": name, "prompt": "Describe it.", "caption": f"What {name} shows."}
            for name in ("a.png", "b10.jpg")
        ]
        assert read(settings, "captions.json") == entries
        assert list(output.entries([p.key for p in run.plan.pictures], run.plan)) == entries

        # somebody else's file, or none that can be read, in the place of one of ours
        (settings.output_dir / "a.json").write_text('{"image": "z.png"}')
        (settings.output_dir / "c.json").write_text("[" * 100_000)
        output.finish(run)
        assert read(settings, "captions.json") == entries[1:]


def test_summary_json_says_all_of_a_run(settings: Settings) -> None:
    with OutputFolder(settings.output_dir) as output:
        run = finished(settings, output)
    summary = read(settings, "summary.json")
    assert summary.pop("finished_at").endswith("+00:00")
    seconds = summary["seconds"]
    assert 0 <= seconds.pop("captioning") <= seconds.pop("total") <= run.seconds + 0.001
    figures = {
        "width": 24,
        "height": 16,
        "image_tokens": 80,
        "generated_tokens": 11,
        "seconds": 2.5,
        "finish_reason": "stop",
    }
    expected = {
        "state": "complete",
        "counts": {
            "found": 6,
            "captioned": 2,
            "again": 0,
            "flagged": 1,
            "up_to_date": 0,
            "edited": 0,
            "left": 0,
            "later": 0,
            "skipped": 1,
            "failed": 1,
            "unreadable": 0,
            "gone": 0,
            "unasked": 0,
        },
        "model": {
            "repo_id": "owner/name",
            "revision": "abc",
            "directory": "/models/m",
            "weight_bytes": 1000,
            "batch_size": 1,
        },
        "settings": settings.model_dump(mode="json"),
        "seconds": {
            "load": 1.5,
            "prefill": 1.0,
            "decode": 4.0,
            "device_busy": 4.0,
            "device_idle": 1.0,
        },
        "device_busy_fraction": 0.8,
        "tokens": {
            "prompt": 200,
            "image": 160,
            "generated": 22,
            "generated_per_busy_second": 5.5,
            "prefill_per_second": 200.0,
            "decode_per_second": 5.0,
        },
        "peak_memory_bytes": 5000,
        "captions": [
            {"image": "b10.jpg", **figures, "flags": [], "attempts": 2, "again": None},
            {"image": "a.png", **figures, "flags": ["truncated"], "attempts": 2, "again": None},
        ],
        "skipped": [{"image": "b2.png", "reason": "empty file"}],
        "failed": [{"image": "c.png", "reason": "No caption for c.png: MLX failed"}],
        "edited": [],
        "unreadable": [],
        "unread": [],
        "gone": [],
    }
    assert json.dumps(summary) == json.dumps(expected)  # in this order


def test_the_summary_of_a_run_that_had_nothing_to_do(settings: Settings) -> None:
    with OutputFolder(settings.output_dir) as output:
        finished(settings, output)
        (settings.input_dir / "b10.jpg").unlink()
        for name in ("c.png", "d.png", "e.png"):
            (settings.input_dir / name).unlink()
        run = planned(settings, output)
        output.finish(run)
    assert run.verdict() == "Nothing new: 1 up to date, 1 skipped"
    summary = read(settings, "summary.json")
    assert summary["model"] is None
    assert summary["device_busy_fraction"] is None
    assert summary["tokens"]["decode_per_second"] is None
    assert summary["skipped"] == [{"image": "b2.png", "reason": "empty file"}]
    assert summary["gone"] == [{"image": "b10.jpg", "caption_file": "b10.json"}]
    assert len(read(settings, "captions.json")) == 1


def test_an_interrupted_run_says_so(settings: Settings) -> None:
    with OutputFolder(settings.output_dir) as output:
        run = finished(settings, output)
        run.interrupted = True
        output.finish(run)
    assert read(settings, "summary.json")["state"] == "interrupted"


# --- the run itself ---


def test_the_sentence_that_a_run_ends_with(settings: Settings) -> None:
    with OutputFolder(settings.output_dir) as output:
        run = finished(settings, output)
    counts = "2 captioned (1 flagged), 1 skipped, 1 failed"
    assert run.verdict() == run.counts() == counts
    assert (run.progress.percent, run.progress.text) == (66.7, f"4 of 6: {counts}")
    run.interrupted = True
    assert run.verdict() == f"Interrupted: {counts}, 2 to go"
    run.captioned.clear()
    assert run.verdict() == "Interrupted: before the first caption, 4 to go"
    run.error = InputError("It cannot be used.")
    assert run.verdict() == "It cannot be used."


def test_a_run_without_pictures(settings: Settings) -> None:
    for name in NAMES:
        (settings.input_dir / name).unlink()
    run = Run(settings)
    run.scan = scan(settings.input_dir)
    assert run.verdict() == f"No PNG, JPG or JPEG files in {settings.input_dir}"
    assert (run.progress.percent, run.progress.text) == (0.0, "0 of 0: Nothing new")


def test_a_run_keeps_no_text_of_a_caption(settings: Settings) -> None:
    with OutputFolder(settings.output_dir) as output:
        run = finished(settings, output)
    assert {caption.generation.text for caption in run.captioned} == {""}
    assert run.captioned[0].generation.generated_tokens == 11


def test_whoever_watches_sees_the_run_and_when_it_is_over(settings: Settings) -> None:
    with watched() as watch:
        assert watch.run is None
        run = Run.begin(settings)
        assert watch.run is run and not watch.over.is_set()
        run.close()
        assert watch.over.is_set()
    Run.begin(settings).close()  # nobody watches this one
    assert watch.run is run


# --- the folder ---


def test_a_folder_is_held_until_its_block_ends(settings: Settings) -> None:
    output = OutputFolder(settings.output_dir)
    for _ in range(2):
        with output, pytest.raises(InputError, match="is in use by another run"):
            OutputFolder(settings.output_dir).__enter__()


def test_planning_clears_away_what_a_killed_run_left_half_written(settings: Settings) -> None:
    with OutputFolder(settings.output_dir) as output:
        finished(settings, output)
        (settings.output_dir / f".{'0' * 32}.tmp").write_text("half")
        whole = (settings.output_dir / "provenance.jsonl").read_bytes()
        (settings.output_dir / "provenance.jsonl").write_bytes(whole + b'{"version": 1, ')
        planned(settings, output)
    assert not list(settings.output_dir.glob(".*.tmp"))
    assert (settings.output_dir / "provenance.jsonl").read_bytes() == whole


def test_what_cannot_be_finished_is_one_sentence(settings: Settings) -> None:
    with OutputFolder(settings.output_dir) as output:
        run = finished(settings, output)
        for file in ("summary.json", "captions.json"):
            (settings.output_dir / file).unlink()
            (settings.output_dir / file).mkdir()
            with pytest.raises(OutputError, match=rf"/{file} cannot be written: Is a directory\."):
                output.finish(run)


# --- the gallery ---


def test_a_gallery_is_not_written_through_a_link(settings: Settings, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with OutputFolder(settings.output_dir) as output:
        run = finished(settings, output)
        (settings.output_dir / "gallery").symlink_to(outside)
        with pytest.raises(OutputError, match=r"gallery.* cannot be written: .*a link"):
            write_gallery(run, output)
    assert list(outside.iterdir()) == []


def test_a_page_that_is_somebody_else_s_is_left(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.output_dir.mkdir()
    page = settings.output_dir / "index.html"
    page.write_text("<h1>My own page</h1>")
    with OutputFolder(settings.output_dir) as output:
        run = finished(settings, output)
        write_gallery(run, output)
        assert page.read_text() == "<h1>My own page</h1>"
        assert not (settings.output_dir / "gallery").exists()
        assert "index.html is not a gallery of ours: no gallery is written" in caplog.text

        page.unlink()
        write_gallery(run, output)
        first = page.read_text()
        run.captioned.clear()
        write_gallery(run, output)  # its own is made anew
    assert "gallery/gallery.js" in first and page.read_text() != first

"""A second run goes on where the first stopped: the flow on the real checkpoint."""

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from captioner.output.folder import PROVENANCE, OutputFolder
from captioner.settings import Settings
from tests.conftest import CHECKPOINT, FlowRun, draw_picture

RunFlow = Callable[[Settings], FlowRun]

WITHOUT_WORK = {
    "check_input_dir": "Completed",
    "scan_images": "Completed",
    "check_captions": "Completed",
    "write_summary": "Completed",
}


def read(settings: Settings, file: str) -> Any:
    return json.loads((settings.output_dir / file).read_bytes())


def captions(settings: Settings) -> dict[str, str]:
    return {entry["image"]: entry["caption"] for entry in read(settings, "captions.json")}


def provenance(settings: Settings) -> list[dict[str, Any]]:
    lines = (settings.output_dir / PROVENANCE).read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def changed(settings: Settings, **values: Any) -> Settings:
    return settings.model_copy(update=values)


def test_a_second_run_has_nothing_to_do_and_needs_no_model(
    run_flow: RunFlow, folders: Settings, tmp_path: Path
) -> None:
    draw_picture(folders.input_dir / "a.png")
    (folders.input_dir / "broken.png").write_bytes(b"no picture")
    model = tmp_path / "model"
    shutil.copytree(CHECKPOINT, model)
    settings = changed(folders, model=model)
    assert run_flow(settings).state.message == "1 captioned, 1 skipped"
    before = (folders.output_dir / "a.json").stat()
    shutil.rmtree(model)

    run = run_flow(settings)

    assert run.state.is_completed()
    assert run.state.message == "Nothing new: 1 up to date, 1 skipped"
    assert run.task_runs == WITHOUT_WORK
    assert "1 caption is up to date" in run.logs
    assert (folders.output_dir / "a.json").stat() == before
    summary = read(settings, "summary.json")
    assert (summary["counts"]["up_to_date"], summary["counts"]["captioned"]) == (1, 0)
    assert summary["skipped"] == [{"image": "broken.png", "reason": "not a PNG or JPEG file"}]
    assert summary["model"] is None
    assert list(captions(settings)) == ["a.png"]

    shard = run_flow(changed(settings, shard="1/1", export=("txt",)))
    assert any("A shard writes no exports: when all" in line for line in shard.logs)
    assert not list(settings.output_dir.glob("*.txt"))


def test_a_limit_leaves_the_rest_for_the_next_run(
    run_flow: RunFlow, folders: Settings, tiny_checkpoint: Path
) -> None:
    for name in ("a.png", "b.png", "c.png"):
        draw_picture(folders.input_dir / name)
    (folders.input_dir / "phone.heic").write_bytes(b"")
    settings = changed(folders, model=tiny_checkpoint)
    run = run_flow(changed(settings, limit=1))
    assert run.state.is_completed()
    assert run.state.message == "1 captioned, 2 left for the next run"
    assert {
        "Ignored: 1 HEIC (--formats png,jpg,jpeg,heic captions HEIC too)",
        "2 left for the next run: --limit is 1",
    } <= set(run.logs)
    assert "[1/1] Processing a.png..." in run.logs
    counts = read(settings, "summary.json")["counts"]
    assert (counts["captioned"], counts["later"], counts["failed"]) == (1, 2, 0)
    assert list(captions(settings)) == ["a.png"]
    run = run_flow(changed(settings, limit=2, batch_size=2))
    assert run.state.message == "2 captioned, 1 up to date"
    assert list(captions(settings)) == ["a.png", "b.png", "c.png"]
    assert [line["batch_size"] for line in provenance(settings)] == [1, 2, 2]


def test_only_what_changed_is_done_again_and_the_run_says_why(
    run_flow: RunFlow, folders: Settings
) -> None:
    for name in ("changed.png", "deleted.png", "edited.png", "gone.png", "same.png"):
        draw_picture(folders.input_dir / name, name)
    run_flow(folders)
    draw_picture(folders.input_dir / "changed.png", "other")
    draw_picture(folders.input_dir / "new.png")
    (folders.output_dir / "deleted.json").unlink()
    (folders.input_dir / "gone.png").unlink()
    entry = read(folders, "edited.json") | {"caption": "Seen by a person."}
    (folders.output_dir / "edited.json").write_text(json.dumps(entry))

    run = run_flow(folders)

    assert run.state.message == "3 captioned, 2 up to date (1 edited by hand)"
    tasks = {name for name in run.task_runs if name.startswith("caption ")}
    assert tasks == {"caption changed.png", "caption deleted.png", "caption new.png"}
    assert "[1/3] Processing changed.png..." in run.logs
    assert "changed.png is captioned again: image changed" in run.logs
    assert "deleted.png is captioned again: caption missing" in run.logs
    assert "Captions edited by hand are kept: edited.png" in run.logs
    assert "1 not in the input directory any more: gone.png" in run.logs
    summary = read(folders, "summary.json")
    assert {c["image"]: c["again"] for c in summary["captions"]} == {
        "changed.png": "image changed",
        "deleted.png": "caption missing",
        "new.png": None,
    }
    assert summary["edited"] == ["edited.png"]
    assert summary["gone"] == [{"image": "gone.png", "caption_file": "gone.json"}]
    assert (folders.output_dir / "gone.json").exists()
    assert captions(folders)["edited.png"] == "Seen by a person."
    assert "gone.png" not in captions(folders)

    again = run_flow(changed(folders, overwrite=True))
    assert again.state.message == "5 captioned"
    assert "Captions edited by hand are overwritten: edited.png" in again.logs
    assert captions(folders)["edited.png"] != "Seen by a person."
    assert run_flow(folders).state.message == "Nothing new: 5 up to date"


def test_flags_are_kept_and_what_was_flagged_can_be_retried(
    run_flow: RunFlow, folders: Settings
) -> None:
    draw_picture(folders.input_dir / "a.png")
    run_flow(folders)
    (folders.output_dir / "a.json").unlink()
    cut = run_flow(changed(folders, max_tokens=1))
    assert cut.state.message == "1 captioned (1 flagged)"
    draw_picture(folders.input_dir / "new.png")
    retried = run_flow(changed(folders, retry_flagged=True))
    assert retried.state.message == "1 captioned, 1 left as they are"
    assert "a.png is captioned again: flagged last time" in retried.logs
    assert [line["flags"] for line in provenance(folders)] == [[], ["truncated"], []]
    # and stays mended, also in a run whose limit would cut it
    again = run_flow(changed(folders, max_tokens=1))
    assert again.state.message == "1 captioned (1 flagged), 1 up to date"


def test_a_line_of_the_provenance_says_what_made_the_caption(
    run_flow: RunFlow, folders: Settings, tmp_path: Path
) -> None:
    draw_picture(folders.input_dir / "a.png")
    settings = changed(folders, system_prompt="Be brief.", max_pixels=10_000)
    run_flow(settings)
    (line,) = provenance(settings)
    summary = read(settings, "summary.json")
    assert line["result"] == "captioned"
    assert (line["image"], line["caption_file"]) == ("a.png", "a.json")
    assert line["caption"] == captions(settings)["a.png"]
    assert line["image_bytes"] == (settings.input_dir / "a.png").stat().st_size
    assert (line["system_prompt"], line["max_pixels"]) == ("Be brief.", 10_000)
    assert (line["repo_id"], line["revision"]) == (None, summary["model"]["revision"])
    (figures,) = summary["captions"]
    for name in ("width", "height", "image_tokens", "generated_tokens", "finish_reason"):
        assert line[name] == figures[name]


def test_two_runs_never_write_to_the_same_directory(run_flow: RunFlow, folders: Settings) -> None:
    draw_picture(folders.input_dir / "a.png")
    with OutputFolder(folders.output_dir):
        run = run_flow(folders)
    assert run.state.is_failed()
    assert "is in use by another run (process " in run.state.message
    assert run.task_runs == {"check_input_dir": "Completed", "scan_images": "Completed"}


def test_a_picture_that_changes_before_it_is_captioned_is_recorded_as_it_was_captioned(
    run_flow: RunFlow, folders: Settings
) -> None:
    """It was read ahead, and its caption is of that: the later run sees that it has changed."""
    for number in range(1, 5):
        draw_picture(folders.input_dir / f"p{number}.png")

    def change_the_last() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if (folders.output_dir / "p1.json").exists():
                draw_picture(folders.input_dir / "new.tmp.png", "CHANGED").replace(
                    folders.input_dir / "p4.png"
                )
                return
            time.sleep(0.005)

    changer = threading.Thread(target=change_the_last)
    changer.start()
    first = run_flow(folders)
    changer.join()
    assert first.state.message == "4 captioned"
    later = run_flow(folders)
    assert later.state.message == "1 captioned, 3 up to date"
    assert "p4.png is captioned again: image changed" in later.logs
    assert run_flow(folders).state.message == "Nothing new: 4 up to date"


@pytest.mark.parametrize("leftover", [".0123456789abcdef0123456789abcdef.tmp"])
def test_what_a_killed_run_left_half_written_is_removed(
    run_flow: RunFlow, folders: Settings, leftover: str
) -> None:
    draw_picture(folders.input_dir / "a.png")
    folders.output_dir.mkdir()
    (folders.output_dir / leftover).write_text('{"image": "a.p')
    (folders.output_dir / ".mine.tmp").write_text("not of a run")
    run_flow(folders)
    assert not (folders.output_dir / leftover).exists()
    assert (folders.output_dir / ".mine.tmp").exists()

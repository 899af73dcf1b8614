"""The flow as Prefect runs it: every edge of the state diagram, on the real checkpoint."""

import ctypes
import json
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session
from PIL import Image
from prefect.client.orchestration import get_client

from captioner.settings import Settings
from flows.processing import HELD_BYTES, chunk_size
from tests.conftest import CHECKPOINT, ROOT, FlowRun, draw_picture
from tests.float32 import never_ending
from tests.hub_server import INFO, HubServer, Status

RunFlow = Callable[[Settings], FlowRun]


def entries(settings: Settings) -> list[dict[str, str]]:
    value = json.loads((settings.output_dir / "captions.json").read_text("utf-8"))
    assert isinstance(value, list)
    return value


def test_a_missing_input_directory_fails_the_run_with_one_sentence(
    run_flow: RunFlow, folders: Settings
) -> None:
    settings = folders.model_copy(update={"input_dir": folders.input_dir / "missing"})
    run = run_flow(settings)
    assert run.state.is_failed()
    assert "missing does not exist" in run.state.message
    assert run.task_runs == {"check_input_dir": "Failed"}
    assert not any("Traceback" in line for line in run.logs)
    assert not settings.output_dir.exists()


def test_a_directory_without_pictures_completes_and_writes_nothing(
    run_flow: RunFlow, folders: Settings
) -> None:
    (folders.input_dir / "notes.txt").write_text("no picture")
    run = run_flow(folders)
    assert run.state.is_completed()
    assert "No PNG, JPG or JPEG files" in run.state.message
    assert run.task_runs == {"check_input_dir": "Completed", "scan_images": "Completed"}
    assert not folders.output_dir.exists()


def test_every_picture_is_captioned_in_order_and_a_broken_one_is_skipped(
    run_flow: RunFlow, folders: Settings
) -> None:
    for name in ("b10.jpg", "b2.PNG", "b1.jpeg"):
        draw_picture(folders.input_dir / name)
    whole = draw_picture(folders.input_dir / "whole.png").read_bytes()
    (folders.input_dir / "b3.png").write_bytes(whole[: len(whole) // 2])
    (folders.input_dir / "whole.png").unlink()

    run = run_flow(folders)

    assert run.state.is_completed()
    assert run.state.message == "3 captioned, 1 skipped"
    assert [entry["image"] for entry in entries(folders)] == ["b1.jpeg", "b2.PNG", "b10.jpg"]
    for entry in entries(folders):
        assert list(entry) == ["image", "prompt", "caption"]
        assert entry["prompt"] == folders.user_prompt
        assert entry["caption"].startswith("A ")
        own = json.loads((folders.output_dir / f"{Path(entry['image']).stem}.json").read_bytes())
        assert own == entry
    assert run.task_runs == {
        "check_input_dir": "Completed",
        "scan_images": "Completed",
        "check_captions": "Completed",
        "check_model": "Completed",
        "load_model": "Completed",
        "validate b1.jpeg": "Completed",
        "validate b2.PNG": "Completed",
        "validate b3.png": "Skipped",
        "validate b10.jpg": "Completed",
        "caption b1.jpeg": "Completed",
        "caption b2.PNG": "Completed",
        "caption b10.jpg": "Completed",
        "save b1.jpeg": "Completed",
        "save b2.PNG": "Completed",
        "save b10.jpg": "Completed",
        "write_summary": "Completed",
    }
    processing = [line for line in run.logs if "Processing" in line]
    assert processing == [
        "[1/4] Processing b1.jpeg...",
        "[2/4] Processing b2.PNG...",
        "[4/4] Processing b10.jpg...",
    ]
    assert "✓ Saved caption to b10.json" in run.logs
    assert "Found 4 image(s) in " + str(folders.input_dir) in run.logs
    assert any("embedded demonstration model" in line for line in run.logs)


def test_a_missing_model_is_downloaded_after_two_failures_and_found_the_next_time(
    run_flow: RunFlow, folders: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_picture(folders.input_dir / "a.png")
    settings = folders.model_copy(update={"model": None, "repo_id": "someone/flowcharts"})
    with HubServer(CHECKPOINT, "someone/flowcharts") as hub:
        cache = hub.patch(monkeypatch, tmp_path / "hub")
        hub.fail(INFO, Status(500), times=2)
        first = run_flow(settings)
        asked = len(hub.requests)
        second = run_flow(settings.model_copy(update={"overwrite": True}))
        assert len(hub.requests) == asked
    close_session()

    assert first.state.message == second.state.message == "1 captioned"
    assert first.task_runs["download_model"] == "Completed"
    assert "download_model" not in second.task_runs
    where = cache / "models--someone--flowcharts"
    initiating = f"Model files not found at {where}. Initiating download for 'someone/flowcharts'."
    assert initiating in first.logs
    assert len([line for line in first.logs if "Trying again" in line]) == 2
    summary = json.loads((folders.output_dir / "summary.json").read_bytes())
    assert summary["model"]["repo_id"] == "someone/flowcharts"
    assert summary["model"]["revision"] == Path(summary["model"]["directory"]).name


def test_without_mlx_vlm_the_run_ends_before_anything_is_downloaded(
    run_flow: RunFlow, folders: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_picture(folders.input_dir / "a.png")
    monkeypatch.setitem(sys.modules, "mlx_vlm", None)
    run = run_flow(folders.model_copy(update={"model": None, "repo_id": "someone/nothing"}))
    assert run.state.is_failed()
    assert run.state.message.startswith("mlx-vlm is not installed")
    assert "pip install mlx-vlm" in run.state.message
    assert run.task_runs["check_model"] == "Failed"
    assert "download_model" not in run.task_runs


def test_a_repository_that_does_not_exist_is_not_asked_for_again(
    run_flow: RunFlow, folders: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_picture(folders.input_dir / "a.png")
    settings = folders.model_copy(update={"model": None, "repo_id": "someone/nothing"})
    with HubServer(CHECKPOINT, "someone/flowcharts") as hub:
        hub.patch(monkeypatch, tmp_path / "hub")
        run = run_flow(settings)
    close_session()
    assert run.state.is_failed()
    assert "someone/nothing" in run.state.message
    assert "--repo-id" in run.state.message
    assert run.task_runs["download_model"] == "Failed"
    assert not any("Trying again" in line or "Traceback" in line for line in run.logs)


def test_the_summary_says_what_happened(run_flow: RunFlow, folders: Settings) -> None:
    draw_picture(folders.input_dir / "good.png")
    (folders.input_dir / "empty.png").touch()
    run_flow(folders)
    summary = json.loads((folders.output_dir / "summary.json").read_bytes())
    assert summary["state"] == "complete"
    assert summary["counts"] == {
        "found": 2,
        "captioned": 1,
        "again": 0,
        "flagged": 0,
        "up_to_date": 0,
        "edited": 0,
        "left": 0,
        "later": 0,
        "skipped": 1,
        "unreadable": 0,
        "failed": 0,
        "gone": 0,
        "unasked": 0,
    }
    assert summary["skipped"] == [{"image": "empty.png", "reason": "empty file"}]
    assert summary["model"]["directory"] == str(folders.model)
    assert summary["model"]["weight_bytes"] > 1_000_000
    assert summary["settings"]["user_prompt"] == folders.user_prompt
    assert summary["tokens"]["image"] > 0
    assert summary["tokens"]["decode_per_second"] > 0
    assert summary["seconds"]["total"] >= summary["seconds"]["prefill"] > 0
    assert summary["peak_memory_bytes"] > summary["model"]["weight_bytes"]


def test_a_run_with_a_schema_and_a_further_question_keeps_the_answers_as_fields(
    run_flow: RunFlow, folders: Settings
) -> None:
    draw_picture(folders.input_dir / "a.png")
    box = {"type": "integer", "minimum": 1, "maximum": 9}
    schema: dict[str, Any] = {"type": "object", "properties": {"boxes": box}}
    schema |= {"required": ["boxes"], "additionalProperties": False}
    asked = {"answer_schema": schema, "ask": ("alt_text=Describe the contents of {name}.",)}
    settings = Settings.model_validate(folders.model_dump(exclude_unset=True) | asked)
    assert run_flow(settings).state.is_completed()
    entry = json.loads((settings.output_dir / "a.json").read_bytes())
    assert list(entry) == ["image", "prompt", "caption", "fields"]
    assert set(entry["fields"]) == {"boxes", "alt_text"}
    assert 1 <= entry["fields"]["boxes"] <= 9
    assert json.loads(entry["caption"]) == {"boxes": entry["fields"]["boxes"]}
    assert "flowchart" in entry["fields"]["alt_text"]
    assert entries(settings) == [entry]
    line = json.loads((settings.output_dir / "provenance.jsonl").read_bytes())
    assert line["fields"] == entry["fields"]
    assert json.loads(line["answer_schema"]) == schema
    assert line["ask"] == ["alt_text=Describe the contents of a.png."]
    assert run_flow(settings).task_runs.keys() == {
        *("check_input_dir", "scan_images", "check_captions", "write_summary"),
    }

    # fields that a person changes are an edit, which the next run leaves
    entry["fields"]["boxes"] = 7
    (settings.output_dir / "a.json").write_text(json.dumps(entry))
    other = settings.model_copy(update={"max_tokens": 9, "ask": ()})
    assert "edited by hand" in run_flow(other).state.message
    assert entries(settings) == [entry]


def test_a_large_picture_is_scaled_down_and_the_log_says_so(
    run_flow: RunFlow, folders: Settings
) -> None:
    draw_picture(folders.input_dir / "large.jpg", size=(1600, 1200))
    draw_picture(folders.input_dir / "small.jpg", size=(160, 120))
    run = run_flow(folders.model_copy(update={"max_pixels": 40_000}))
    scaled = [line for line in run.logs if "scaled down" in line]
    assert scaled == ["large.jpg is scaled down from 1600×1200 to 230×173"]
    summary = json.loads((folders.output_dir / "summary.json").read_bytes())
    large, small = summary["captions"]
    assert (large["image"], large["finish_reason"]) == ("large.jpg", "stop")
    assert large["image_tokens"] == large["width"] * large["height"] // 32**2
    assert small["generated_tokens"] > 0 < small["seconds"]


def test_a_caption_that_stays_stuck_is_tried_three_times_and_flagged(
    run_flow: RunFlow, folders: Settings, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "input" / "diagram03.png", folders.input_dir / "a.png")
    endless = never_ending(CHECKPOINT, tmp_path / "endless")
    run = run_flow(folders.model_copy(update={"model": endless, "max_tokens": 2_000}))
    assert run.state.is_completed()
    assert run.state.message == "1 captioned (1 flagged)"
    assert run.task_runs["caption a.png"] == "Flagged"
    assert run.task_runs["save a.png"] == "Completed"
    assert "The caption of a.png is flagged: repetitive" in run.logs
    summary = json.loads((folders.output_dir / "summary.json").read_bytes())
    assert summary["counts"]["flagged"] == 1
    (figures,) = summary["captions"]
    assert (figures["flags"], figures["attempts"]) == (["repetitive"], 3)
    made = json.loads((folders.output_dir / "provenance.jsonl").read_bytes())
    assert (made["flags"], made["attempts"], made["finish_reason"]) == (["repetitive"], 3, "loop")
    assert list(entries(folders)[0]) == ["image", "prompt", "caption"]


def test_pictures_that_share_a_stem_keep_a_caption_each(
    run_flow: RunFlow, folders: Settings
) -> None:
    for name in ("a.png", "a.jpg", "captions.png", "summary.png"):
        draw_picture(folders.input_dir / name)
    run_flow(folders)
    for name in ("a.png", "a.jpg", "captions.png", "summary.png"):
        own = json.loads((folders.output_dir / f"{name}.json").read_bytes())
        assert own["image"] == name
    assert [e["image"] for e in entries(folders)] == [
        "a.jpg",
        "a.png",
        "captions.png",
        "summary.png",
    ]


@pytest.mark.parametrize(
    ("max_pixels", "at_a_time"),
    [(500_000, 8), (2_097_152, 5), (8_294_400, 2), (16_777_216, 2), (0, 2), (10**12, 2)],
)
def test_the_pixels_that_wait_for_the_device_are_bounded(max_pixels: int, at_a_time: int) -> None:
    assert chunk_size(max_pixels) == at_a_time
    assert at_a_time == 2 or 2 * at_a_time * 3 * max_pixels <= HELD_BYTES == 64 << 20


def test_a_picture_that_fails_is_its_own_failure_and_one_that_vanishes_was_read_by_then(
    run_flow: RunFlow, folders: Settings
) -> None:
    for name in ("a/p1.png", "a/p2.png", "b/p3.png", "c/p4.png"):
        (folders.input_dir / name).parent.mkdir(exist_ok=True)
        draw_picture(folders.input_dir / name)
    # a place for a video, and no video: the model cannot take this prompt
    (folders.input_dir / "b" / "prompt.txt").write_text("<|video_pad|>")

    def remove_the_last() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if (folders.output_dir / "a" / "p1.json").exists():
                (folders.input_dir / "c" / "p4.png").unlink()
                return
            time.sleep(0.005)

    remover = threading.Thread(target=remove_the_last)
    remover.start()
    run = run_flow(Settings(**folders.model_dump(exclude_unset=True), recursive=True))
    remover.join()

    assert run.state.is_failed()
    assert run.state.message == "3 captioned, 1 failed"
    assert run.task_runs["caption b/p3.png"] == "Failed"
    assert "save b/p3.png" not in run.task_runs
    assert run.task_runs["write_summary"] == "Completed"
    assert [e["image"] for e in entries(folders)] == ["a/p1.png", "a/p2.png", "c/p4.png"]
    assert not (folders.input_dir / "c" / "p4.png").exists()
    assert not any("Traceback" in line for line in run.logs)
    summary = json.loads((folders.output_dir / "summary.json").read_bytes())
    (failed,) = summary["failed"]
    assert failed["image"] == "b/p3.png"
    assert failed["reason"].startswith("No caption for b/p3.png: MLX failed: ")


def test_the_server_knows_what_came_of_what(run_flow: RunFlow, folders: Settings) -> None:
    for n in range(12):
        draw_picture(folders.input_dir / f"{n:02d}.png", text=f"WORD{n}")
    (folders.input_dir / "broken.png").touch()
    run = run_flow(folders)
    assert {run.task_runs[f"save {n:02d}.png"] for n in range(12)} == {"Completed"}
    with get_client(sync_client=True) as client:
        query = {
            "flow_runs": {"id": {"any_": [str(run.state.state_details.flow_run_id)]}},
            "limit": 200,
        }
        runs = client.request("POST", "/task_runs/filter", json=query).json()
    names = {one["id"]: one["name"] for one in runs}
    came_of = {
        one["name"]: {
            names[each["id"]] for inputs in one["task_inputs"].values() for each in inputs
        }
        for one in runs
    }
    for n in range(12):
        assert came_of[f"caption {n:02d}.png"] == {f"validate {n:02d}.png", "load_model"}
        assert came_of[f"save {n:02d}.png"] == {f"caption {n:02d}.png"}


def test_every_mode_that_pillow_writes_gets_a_caption(run_flow: RunFlow, folders: Settings) -> None:
    modes = ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"]
    source = Image.open(draw_picture(folders.input_dir.parent / "source.png"))
    for mode in modes:
        image = Image.new(mode, source.size, 1000) if mode == "I;16" else source.convert(mode)
        suffix = "jpg" if mode == "CMYK" else "png"
        image.save(folders.input_dir / f"{mode.replace(';', '-')}.{suffix}")
    source.close()
    run = run_flow(folders)
    assert run.state.message == f"{len(modes)} captioned"


def test_a_run_survives_every_odd_file(run_flow: RunFlow, folders: Settings) -> None:
    inside = folders.input_dir
    draw_picture(inside / "progressive.jpg").rename(inside / "seed.jpg")
    with Image.open(inside / "seed.jpg") as seed:
        seed.save(inside / "progressive.jpg", progressive=True)
        frames = [seed.convert("P"), Image.new("P", seed.size)]
        frames[0].save(inside / "animated.png", save_all=True, append_images=frames[1:])
    Image.new("RGB", (1, 1)).save(inside / "dot.png")
    Image.new("RGB", (1, 4000)).save(inside / "thin.png")
    (inside / "zero.jpg").touch()
    (inside / "text.png").write_text("not a picture")
    data = (inside / "seed.jpg").read_bytes()
    (inside / "cut.jpg").write_bytes(data[: len(data) // 2])

    run = run_flow(folders)

    assert run.state.is_completed()
    assert {e["image"] for e in entries(folders)} == {
        "animated.png",
        "dot.png",
        "progressive.jpg",
        "seed.jpg",
    }
    summary = json.loads((folders.output_dir / "summary.json").read_bytes())
    reasons = {entry["image"]: entry["reason"] for entry in summary["skipped"]}
    assert set(reasons) == {"cut.jpg", "text.png", "thin.png", "zero.jpg"}
    assert reasons["zero.jpg"] == "empty file"
    assert reasons["text.png"] == "not a PNG or JPEG file"
    assert "aspect ratio over 200" in reasons["thin.png"]


def test_the_background_is_what_the_model_sees_behind_a_transparent_picture(
    run_flow: RunFlow, folders: Settings
) -> None:
    """On navy the small model takes the shapes for blue ones."""
    with Image.open(ROOT / "input" / "diagram05.png") as file:
        sample = file.convert("RGBA")
    sample.save(folders.input_dir / "transparent.png")
    for colour in ("navy", "white"):
        ground = Image.new("RGBA", sample.size, colour)
        opaque = Image.alpha_composite(ground, sample).convert("RGB")
        opaque.save(folders.input_dir / f"{colour}.png")
    run_flow(folders.model_copy(update={"background": "navy"}))
    captions = {entry["image"]: entry["caption"] for entry in entries(folders)}
    assert captions["transparent.png"] == captions["navy.png"] != captions["white.png"]


def test_names_that_mean_something_to_a_terminal_are_harmless(
    run_flow: RunFlow, folders: Settings
) -> None:
    names = ["-n.png", "a\nb.png", "100%s {x}.png", '"quoted".png', "\x1b[31mred.png", "ü😀‮.png"]
    for name in names:
        draw_picture(folders.input_dir / "plain.png").rename(folders.input_dir / name)
    run = run_flow(folders)
    assert run.state.message == f"{len(names)} captioned"
    assert sorted(e["image"] for e in entries(folders)) == sorted(names)
    assert not any("\x1b" in line or "\n" in line for line in run.logs)
    assert "caption a\\nb.png" in run.task_runs
    assert "caption 100%s {x}.png" in run.task_runs


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_device_that_dies_ends_the_run_with_a_sentence(
    run_flow: RunFlow, folders: Settings
) -> None:
    for number in range(1, 13):
        draw_picture(folders.input_dir / f"p{number}.png")

    def kill_the_device() -> None:
        deadline = time.monotonic() + 120
        while not (folders.output_dir / "p1.json").exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        (thread,) = (thread for thread in threading.enumerate() if thread.name == "mlx-device")
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
        )

    killer = threading.Thread(target=kill_the_device)
    killer.start()
    run = run_flow(folders)
    killer.join()

    assert run.state.is_failed()
    assert run.state.message == "The MLX device has died; run again to go on where it stopped."
    assert not set(run.task_runs.values()) & {"Pending", "Running"}
    assert not any("Traceback" in line for line in run.logs)
    assert (folders.output_dir / "p1.json").exists()

"""What a run leaves in Prefect: its name, its artifacts, its states, read back through the API."""

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from huggingface_hub import close_session
from PIL import Image
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
)
from prefect.client.schemas.objects import Artifact, StateType
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from captioner.checkpoint.progress import Received
from captioner.output.folder import OutputFolder
from captioner.pages.report import page
from captioner.pages.table import TABLE_ROWS, artifact_key, run_name, table
from captioner.plan import Plan
from captioner.records import (
    Caption,
    DeviceFigures,
    Failure,
    Generation,
    Job,
    Picture,
    Progress,
    Recipe,
    Skipped,
    Stamp,
)
from captioner.run import Run
from captioner.settings import Settings
from captioner.text import duration
from flows.caption_flow import caption_flow
from flows.hosting.recorded import send_what_is_queued
from flows.run_page import TAGS
from tasks.artifacts import moving_progress
from tests.conftest import CHECKPOINT, FlowRun, draw_picture
from tests.gate import Gate
from tests.hub_server import HubServer, Status

RunFlow = Callable[[Settings], FlowRun]


def artifacts(flow_run_id: object) -> list[Artifact]:
    """The artifacts of a flow run, oldest first."""
    chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=chosen)
    return sorted(found, key=lambda artifact: str(artifact.created))


def run_of(
    paths: list[Path],
    settings: Settings,
    words: str | list[str],
    fields: dict[str, Any] | None = None,
) -> tuple[Run, OutputFolder]:
    """As after a run that captioned all of these pictures, with the same words or each its own."""
    run, output = Run(settings), OutputFolder(settings.output_dir)
    jobs = [
        Job(Picture(path.name, path.parent), f"{n}.json", n, len(paths))
        for n, path in enumerate(paths)
    ]
    pictures = [job.picture for job in jobs]
    files = {job.picture.key: job.caption_file for job in jobs}
    run.plan = Plan(pictures, files, todo=jobs)
    spoken = [words] * len(jobs) if isinstance(words, str) else words
    with output:
        for job, text in zip(jobs, spoken, strict=True):
            said = Generation(text, "stop", 9, 4, 64, 64, 7, 0.5, 0.25, fields=fields)
            made = Caption(job, "Describe", said, Stamp(0, 0, ""))
            output.save(made, Recipe.of(settings, None))
            run.add(made)
    return run, output


def test_a_run_has_a_name_a_progress_a_table_and_a_page(
    run_flow: RunFlow, folders: Settings
) -> None:
    for name in ("a.png", "b.jpg"):
        draw_picture(folders.input_dir / name)
    (folders.input_dir / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    run = run_flow(folders)
    flow_run_id = run.state.state_details.flow_run_id

    with get_client(sync_client=True) as client:
        known = client.read_flow_run(flow_run_id)
    assert known.name == "in: 3 pictures"
    assert set(known.tags) == {*TAGS, "model: flowcharts-3m-8bit", "output: out"}
    progress, results, report = artifacts(flow_run_id)
    assert (progress.type, progress.data) == ("progress", 100.0)
    text, pace = str(progress.description).split("; ")
    assert text == "3 of 3: 2 captioned, 1 skipped"
    assert re.fullmatch(r"[\d,]+\.\d a minute", pace)
    rows: list[dict[str, Any]] = json.loads(str(results.data))
    assert [(row["picture"], row["state"]) for row in rows] == [
        (["c.png"], "Skipped"),
        (["a.png"], "Captioned"),
        (["b.jpg"], "Captioned"),
    ]
    damaged, first, _ = rows
    caption = json.loads((folders.output_dir / "a.json").read_bytes())["caption"]
    assert first["caption"] == [caption]
    assert first["tokens"] > 0 < first["seconds"]
    assert "damaged" in damaged["caption"][0]
    text = str(report.data)
    assert text.startswith("## 2 captioned, 1 skipped")
    assert text.count('src="data:image/jpeg;base64,') == 2
    assert caption in text and folders.user_prompt in text
    assert results.task_run_id == report.task_run_id is not None
    assert not any("is not shown" in line for line in run.logs)

    again = run_flow(folders)
    idle = artifacts(again.state.state_details.flow_run_id)
    assert [artifact.key for artifact in idle] == [results.key, report.key]
    assert str(idle[1].data).startswith("## Nothing new: 2 up to date, 1 skipped")
    with get_client(sync_client=True) as client:
        only = ArtifactFilter(key=ArtifactFilterKey(any_=[str(report.key)]))
        assert len(client.read_artifacts(artifact_filter=only)) == 2


def test_a_skipped_picture_has_a_state_of_its_own_and_is_no_error(
    run_flow: RunFlow, folders: Settings
) -> None:
    draw_picture(folders.input_dir / "a.png")
    (folders.input_dir / "empty.png").touch()
    run = run_flow(folders)
    flow_run = {"flow_runs": {"id": {"any_": [str(run.state.state_details.flow_run_id)]}}}
    with get_client(sync_client=True) as client:
        skipped = {"task_runs": {"state": {"name": {"any_": ["Skipped"]}}}}
        (task_run,) = client.request("POST", "/task_runs/filter", json=flow_run | skipped).json()
        logs = {"logs": {"flow_run_id": flow_run["flow_runs"]["id"]}}
        lines = client.request("POST", "/logs/filter", json=logs).json()
    assert task_run["name"] == "validate empty.png"
    assert task_run["state"]["type"] == StateType.CANCELLED  # grey; Completed would be green
    assert task_run["state"]["message"] == "empty file"
    (said,) = [line for line in lines if "empty.png" in line["message"]]
    assert said["message"] == "[2/2] Skipped empty.png: empty file"
    assert not [line for line in lines if line["level"] >= 40]


@pytest.mark.parametrize(
    ("given", "kept"), [(None, "in: 0 pictures"), ("the ones of May", "the ones of May")]
)
def test_a_run_that_somebody_named_keeps_its_name(
    prefect_api: str, folders: Settings, given: str | None, kept: str
) -> None:
    named = caption_flow.with_options(flow_run_name=given) if given else caption_flow
    state: Any = named(folders, return_state=True)
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(state.state_details.flow_run_id).name == kept


def test_a_run_that_cannot_start_is_named_and_tagged_too(run_flow: RunFlow, tmp_path: Path) -> None:
    run = run_flow(Settings(input_dir=tmp_path / "nowhere", output_dir=tmp_path / "out"))
    assert run.state.is_failed()
    with get_client(sync_client=True) as client:
        known = client.read_flow_run(run.state.state_details.flow_run_id)
    assert known.name == "nowhere"
    model = "model: Qwen3-VL-30B-A3B-Instruct-MLX-8bit"
    assert set(known.tags) == {*TAGS, model, "output: out"}


def test_a_caption_stands_in_the_log_of_its_task_run_in_one_line(
    run_flow: RunFlow, folders: Settings
) -> None:
    draw_picture(folders.input_dir / "a.png")
    run = run_flow(folders.model_copy(update={"max_tokens": 4}))
    assert (run.state.type, run.state.name) == (StateType.COMPLETED, "Flagged")
    assert run.state.message == "1 captioned (1 flagged)"
    caption = json.loads((folders.output_dir / "a.json").read_bytes())["caption"]
    assert f"a.png: “{caption}”" in run.logs
    (flagged,) = [line for line in run.logs if "lagged" in line and "a.png" in line]
    assert flagged == "The caption of a.png is flagged: truncated"


def test_a_download_that_failed_does_not_say_that_it_goes_on(
    run_flow: RunFlow, folders: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_picture(folders.input_dir / "a.png")
    settings = folders.model_copy(update={"model": None, "repo_id": "someone/else"})
    with HubServer(CHECKPOINT, "someone/flowcharts") as hub:
        hub.patch(monkeypatch, tmp_path / "hub")
        run = run_flow(settings)
    close_session()
    assert run.state.is_failed() and "--repo-id" in run.state.message
    (progress,) = artifacts(run.state.state_details.flow_run_id)
    assert progress.description == "no file came; the log says why"


def test_a_download_is_seen_in_bytes_and_a_retry_as_a_retry(
    run_flow: RunFlow, folders: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_picture(folders.input_dir / "a.png")
    settings = folders.model_copy(update={"model": None, "repo_id": "someone/flowcharts"})
    with HubServer(CHECKPOINT, "someone/flowcharts") as hub:
        hub.patch(monkeypatch, tmp_path / "hub")
        hub.fail("model.safetensors", Status(425), method="GET")
        run = run_flow(settings)
    close_session()
    assert run.state.is_completed()
    flow_run_id = run.state.state_details.flow_run_id
    first, second = (a for a in artifacts(flow_run_id) if a.key == "model-download")
    assert first.task_run_id == second.task_run_id is not None
    assert float(str(first.data)) < 100.0 == second.data
    size = sum(file.stat().st_size for file in CHECKPOINT.iterdir() if file.name != "README.md")
    whole = f"{size / 1e6:.1f} MB"
    assert second.description == f"{whole} of {whole}"
    broken_off = rf"broke off at \d+\.\d MB of {whole}; the log says why"
    assert re.fullmatch(broken_off, str(first.description))
    with get_client(sync_client=True) as client:
        assert first.task_run_id
        task_run = client.read_task_run(first.task_run_id)
        assert task_run.run_count == 2
        states = [state.name for state in client.read_task_run_states(task_run.id)]
    assert {"AwaitingRetry", "Retrying"} <= set(states)


def test_progress_tells_the_rate_and_the_time_to_go(folders: Settings) -> None:
    run, _ = run_of([folders.input_dir / f"{n}.png" for n in range(4)], folders, "words")
    run.captioned.pop()
    assert re.fullmatch(
        r"3 of 4: 3 captioned; [\d,]+\.\d a minute, 0 s to go", run.progress.sentence
    )
    run.end(DeviceFigures())
    assert re.fullmatch(r"3 of 4: 3 captioned; [\d,]+\.\d a minute", run.progress.sentence)
    run.captioned.clear()
    assert run.progress.sentence == "0 of 4: 0 captioned"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (90, "2 min"), (3_570, "1 h 0 min"), (12_000, "3 h 20 min")],
)
def test_a_duration_is_said_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_download_tells_its_rate_and_the_time_to_go() -> None:
    received = Received(total=1_000_000_000, present=200_000_000, received=300_000_000)
    received.began -= 10
    progress = received.progress()
    assert progress.percent == 50.0
    assert progress.sentence == "500.0 MB of 1.0 GB; 30.0 MB a second, 17 s to go"


def test_progress_is_told_once_a_second_at_most_and_ends_where_it_is(prefect_api: str) -> None:
    measured: list[Progress] = []

    def measure() -> Progress:
        measured.append(Progress(float(len(measured)), f"{len(measured)}"))
        return measured[-1]

    @flow
    def slow() -> None:
        with moving_progress("slow", measure):
            time.sleep(2.2)

    state: Any = slow(return_state=True)
    (artifact,) = artifacts(state.state_details.flow_run_id)
    assert len(measured) <= 5
    assert (artifact.data, artifact.description) == (measured[-1].percent, measured[-1].text)


def test_progress_goes_on_when_a_server_that_was_gone_comes_back(
    prefect_api: str, caplog: pytest.LogCaptureFixture
) -> None:
    measured: list[Progress] = []

    def measure() -> Progress:
        measured.append(Progress(float(len(measured)), f"{len(measured)}"))
        return measured[-1]

    def wait_for_two_more() -> None:
        wanted, deadline = len(measured) + 2, time.monotonic() + 60
        while len(measured) < wanted and time.monotonic() < deadline:
            time.sleep(0.05)

    with Gate(urlsplit(prefect_api).port or 0) as gate:

        @flow
        def patient() -> str:
            with moving_progress("patient", measure):
                wait_for_two_more()
                gate.shut()
                wait_for_two_more()
                gate.open()
                wait_for_two_more()
            return "done"

        url = f"http://127.0.0.1:{gate.port}/api"
        no_patience = {PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: 0}
        with temporary_settings(no_patience):
            state: Any = patient(return_state=True)
            send_what_is_queued()
    assert state.is_completed()
    (artifact,) = artifacts(state.state_details.flow_run_id)
    assert (artifact.data, artifact.description) == (measured[-1].percent, measured[-1].text)
    warnings = [record for record in caplog.records if "is not shown" in record.getMessage()]
    assert len(warnings) == 1


def test_artifacts_that_cannot_be_made_are_a_warning(prefect_api: str) -> None:
    def measure() -> Progress:
        return Progress(0.0, "none")

    @flow
    def refused() -> str:
        with moving_progress("Not a Key!", measure):
            return "went on"

    assert refused() == "went on"


# What is in them


def test_troubled_pictures_come_first_in_a_table_that_is_bounded(folders: Settings) -> None:
    paths = [folders.input_dir / f"{n:04}.png" for n in range(2_000)]
    run, output = run_of(paths, folders, "words")
    run.skipped.append(Skipped(run.plan.pictures[-1], "empty file", None))
    run.captioned.pop()
    run.failures.append(Failure(run.plan.todo[-2], "No caption"))
    run.captioned.pop()
    rows, sentence = table(run, output)
    assert len(rows) == TABLE_ROWS
    assert [row["state"] for row in rows[:4]] == ["Failed", "Skipped", "Captioned", "Captioned"]
    assert [row["picture"] for row in rows[2:]] == [[path.name] for path in paths[:298]]
    assert "1998 captioned" in sentence and "1,700 more pictures are left out" in sentence


def test_the_largest_table_and_page_stay_below_a_megabyte(folders: Settings) -> None:
    noises = [folders.input_dir / f"noise{n}.png" for n in range(320)]
    Image.effect_noise((400, 400), 200).convert("RGB").save(noises[0])
    for noise in noises[1:]:
        noise.hardlink_to(noises[0])
    hostile = '"\u202e' * 3_000
    run, output = run_of(noises, folders, hostile, {hostile: [hostile], "b": hostile})
    run.failures += [Failure(job, "\ud800\U0001f642" * 3_000) for job in run.plan.todo[:80]]
    run.skipped += [Skipped(p, "<&>" * 3_000, None) for p in run.plan.pictures[80:160]]
    assert len(page(run, output).encode()) < 1_000_000
    rows, _ = table(run, output)
    assert len(json.dumps(json.dumps(rows))) < 1_000_000


def test_flags_are_shown_in_the_table_and_on_the_page(folders: Settings) -> None:
    run, output = run_of([folders.input_dir / "a.png", folders.input_dir / "b.png"], folders, "so")
    flagged = run.captioned.pop()
    cut = replace(flagged.generation, flags=("truncated", "repetitive"))
    run.add(Caption(flagged.job, flagged.prompt, cut, flagged.stamp))
    rows, _ = table(run, output)
    assert [(row["state"], row["caption"]) for row in rows] == [
        ("Flagged", ["(truncated, repetitive) so"]),
        ("Captioned", ["so"]),
    ]
    text = page(run, output)
    assert text.startswith("## 2 captioned (1 flagged)")
    assert "### Flagged: 1" in text and "<td>(truncated, repetitive) so</td>" in text


def test_fields_are_shown_in_the_table_and_on_the_page(folders: Settings) -> None:
    fields = {"caption": "A box.", "alt_text": "<b>x</b>\n\n# y", "keywords": ["a", "b"], "n": None}
    run, output = run_of([folders.input_dir / "a.png"], folders, "A box.", fields)
    ((row,), _) = table(run, output)
    assert row["caption"] == ["A box."]
    assert row["fields"] == ["alt_text: <b>x</b> # y keywords: a, b"]
    said = "<i>alt_text: &lt;b&gt;x&lt;/b&gt;<br><br># y keywords: a, b</i>"
    assert f"<td>A box.<br>{said}</td>" in page(run, output)


def test_a_page_without_pictures_or_model_is_a_page(folders: Settings) -> None:
    run, output = Run(folders), OutputFolder(folders.output_dir)
    text = page(run, output)
    assert text.startswith("## Nothing new\n")
    assert table(run, output) == ([], "Nothing new")


@pytest.mark.parametrize(
    ("folder", "count", "name"),
    [
        ("input", 31, "input: 31 pictures"),
        ("a/b c", 1, "b c: 1 picture"),
        ("x\x1b[31m\u202ey", 2_000, "x\\x1b[31m\\u202ey: 2,000 pictures"),
    ],
)
def test_a_run_is_named_after_its_directory(folder: str, count: int, name: str) -> None:
    assert run_name(Path(folder), count) == name


def test_the_current_directory_has_a_name_too() -> None:
    assert run_name(Path(), 2) == f"{Path.cwd().name}: 2 pictures"


@pytest.mark.parametrize("name", ["input", "Été 2026!", "日本", "\udcff", "x" * 200])
def test_a_key_is_made_of_lowercase_letters_digits_and_dashes(tmp_path: Path, name: str) -> None:
    settings = Settings(input_dir=tmp_path / name, output_dir=tmp_path / "out")
    other = Settings(input_dir=tmp_path / name, output_dir=tmp_path / "other")
    key = artifact_key("report", settings)
    assert re.fullmatch("report(-[a-z0-9]+)+", key) and len(key) < 60
    assert key == artifact_key("report", settings) != artifact_key("report", other)

"""Deployments on a real server with a real worker: what `make ui` starts, as a user meets it.

One `make ui` in a copy of the project serves all tests of the module; the last one ends it with
Ctrl-C.
"""

import json
import os
import pty
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from playwright.sync_api import Page
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.events import emit_event
from prefect.events.schemas.automations import AutomationCore, EventTrigger
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling, Completed, Running

from captioner.settings import DEFAULTS, GROUPS, Settings
from flows.caption_flow import caption_flow
from flows.hosting.notify import notify
from flows.hosting.recorded import send_what_is_queued
from flows.hosting.server import free_port
from flows.hosting.ui import descendants
from flows.run_names import filled_in_by_a_form
from flows.run_page import TAGS
from tests.browser import Browser
from tests.conftest import CHECKPOINT, ROOT, draw_picture
from tests.fleets import PATIENCE, wait_for

pytestmark = [pytest.mark.server, pytest.mark.browser]

MODEL = "models/flowcharts-3m-8bit"
SOURCES = ("automations", "captioner", "flows", "tasks", MODEL, "prefect.yaml")
ZONE = "Europe/Paris"  # of the machine


@dataclass
class Ui:
    """`make ui`, running in a folder of its own."""

    project: Path
    environment: dict[str, str]
    port: int
    process: "subprocess.Popen[str]"
    output: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def api(self) -> str:
        return f"{self.url}/api"

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=self.project,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def pictures(self, folder: str, count: int) -> Path:
        path = self.project / folder
        path.mkdir()
        for number in range(1, count + 1):
            draw_picture(path / f"p{number}.png")
        return path


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """The server, the deployments and the worker, in a copy of the project."""
    project = tmp_path_factory.mktemp("project")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, project / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, project)
    home = tmp_path_factory.mktemp("prefect")
    port = free_port()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "CAPTION_"))}
    environment = kept | {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_API_PORT": str(port),
        "TZ": ZONE,
        "PYTHONPATH": os.pathsep.join([str(project), os.environ.get("PYTHONPATH", "")]),
        # so that the tests need not wait for what is looked after once a minute
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
    }
    output = home / "output"
    with (
        output.open("w") as file,
        subprocess.Popen(
            [sys.executable, "-m", "flows.hosting.ui"],
            cwd=project,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        running = Ui(project, environment, port, process, output)
        try:
            with temporary_settings({PREFECT_API_URL: running.api}):
                wait_for(
                    lambda: "started!" in output.read_text() or process.poll() is not None,
                    output.read_text,
                )
                assert process.poll() is None, output.read_text()
                environment["PREFECT_API_URL"] = running.api
                yield running
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)


@pytest.fixture
def client(ui: Ui) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


def deployment(client: SyncPrefectClient, name: str) -> DeploymentResponse:
    return client.read_deployment_by_name(f"caption-images/{name}")


def start(client: SyncPrefectClient, name: str, pictures: Path, out: Path, **more: Any) -> FlowRun:
    parameters = {
        "folders": {"input_dir": str(pictures), "output_dir": str(out)},
        "model": {"model": str(CHECKPOINT)},
        "decoding": {"max_tokens": 24},
    }
    return client.create_flow_run_from_deployment(
        deployment(client, name).id, parameters=parameters | more
    )


@contextmanager
def in_terminal(ui: Ui, pictures: Path, out: Path) -> "Iterator[subprocess.Popen[str]]":
    """A run as `start` starts one, but from a terminal."""
    flags = [f"--input-dir={pictures}", f"--output-dir={out}", f"--model={CHECKPOINT}"]
    with subprocess.Popen(
        [sys.executable, "flows/caption_flow.py", *flags, "--max-tokens=24"],
        cwd=ui.project,
        env=ui.environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def halted(process: int) -> Iterator[None]:
    """The process does nothing while the block runs."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def ended(client: SyncPrefectClient, run: UUID) -> "State[Any]":
    """The final state of a flow run, which is waited for."""

    def state() -> "State[Any] | None":
        found = client.read_flow_run(run).state
        return found if found and found.is_final() else None

    final = wait_for(state, lambda: client.read_flow_run(run).state)
    assert isinstance(final, State)
    return final


def log_of(client: SyncPrefectClient, run: UUID) -> list[str]:
    query = {"logs": {"flow_run_id": {"any_": [str(run)]}}, "limit": 200}
    return [line["message"] for line in client.request("POST", "/logs/filter", json=query).json()]


def task_runs(client: SyncPrefectClient, run: UUID) -> dict[str, str]:
    query = {"flow_runs": {"id": {"any_": [str(run)]}}, "limit": 200}
    found = client.request("POST", "/task_runs/filter", json=query).json()
    return {task["name"]: task["state_name"] for task in found}


def pid_of(client: SyncPrefectClient, run: UUID) -> int:
    """The process in which a flow run takes place."""
    where = client.read_flow_run(run).infrastructure_pid
    assert where
    return int(where.rpartition(":")[2])


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def captions(out: Path) -> dict[str, str]:
    """The caption files by name; each is whole JSON whenever it is there."""
    files = [path for path in out.glob("p*.json")] if out.is_dir() else []
    return {path.name: json.loads(path.read_bytes())["caption"] for path in files}


# --- what is deployed ---


def test_the_deployments_are_as_prefect_yaml_says_and_start_nothing(
    ui: Ui, client: SyncPrefectClient
) -> None:
    pool = client.read_work_pool("mlx")
    assert pool.type == "process"
    usual = {"folders": {"input_dir": "input", "output_dir": "output"}}
    small = {
        "folders": {"input_dir": "input", "output_dir": "output/demonstration"},
        "model": {"model": MODEL},
    }
    for name, parameters in {"on-demand": usual, "demonstration": small, "nightly": usual}.items():
        made = deployment(client, name)
        assert made.description and set(TAGS) <= set(made.tags)
        assert made.parameters == parameters
        assert made.work_pool_name == "mlx"
        assert made.global_concurrency_limit and made.global_concurrency_limit.limit == 1
        assert made.concurrency_options
        assert made.concurrency_options.collision_strategy.value == "ENQUEUE"
        assert made.enforce_parameter_schema
    assert deployment(client, "on-demand").schedules == []
    assert deployment(client, "demonstration").schedules == []
    (schedule,) = deployment(client, "nightly").schedules
    assert schedule.schedule == CronSchedule(cron="0 2 * * *", timezone=ZONE)
    assert not schedule.active
    for name in ("caption-images/shard", "caption-fleet/several-machines"):
        made = client.read_deployment_by_name(name)
        assert made.pull_steps == [{"flows.hosting.deploying.own_checkout": {}}]
        assert str(ui.project) not in made.model_dump_json()  # each machine knows where things are
        assert made.parameters == {} and "fleet" in made.tags
        assert made.job_variables == {"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}}
    assert client.read_flow_runs() == []


def test_the_form_has_every_setting_in_its_group(client: SyncPrefectClient) -> None:
    schema = deployment(client, "on-demand").parameter_openapi_schema
    assert schema is not None
    by_position = sorted(schema["properties"], key=lambda n: schema["properties"][n]["position"])
    assert by_position == list(GROUPS)
    for name, group in DEFAULTS.grouped().items():
        assert schema["properties"][name]["default"] == group.model_dump(mode="json")
        definition = schema["definitions"][type(group).__name__]
        assert definition["description"]
        for field in definition["properties"].values():
            assert field["title"] and field["description"] and "default" in field


def test_prefect_deploy_asks_nothing_at_a_terminal(ui: Ui, client: SyncPrefectClient) -> None:
    terminal, its_end = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "prefect", "deploy", "--all"],
        cwd=ui.project,
        env=ui.environment,
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
    ) as process:
        os.close(its_end)
        shown = b""
        with suppress(OSError):  # the end of it, on Linux
            while piece := os.read(terminal, 4096):
                shown += piece
                if b"[y/n]" in shown:
                    process.kill()
                    pytest.fail(shown.decode())
    os.close(terminal)
    assert process.returncode == 0, shown.decode()
    assert shown.count(b"successfully created") == 5
    steps = deployment(client, "nightly").pull_steps
    step = "prefect.deployments.steps.set_working_directory"
    assert steps == [{step: {"directory": str(ui.project)}}]


# --- runs ---


def submitted(page: Page) -> bool:
    """Whether the form was sent; while it is still being laid out, a click leads nowhere."""
    page.get_by_role("button", name="Submit").click()
    with suppress(PlaywrightTimeout):
        page.wait_for_url("**?tab=Runs", timeout=10_000)
    return page.url.endswith("?tab=Runs")


def test_a_newcomer_s_run_from_the_form_takes_place_in_the_folder_of_the_deployment(
    ui: Ui, client: SyncPrefectClient
) -> None:
    ui.pictures("input", 2)
    made = deployment(client, "demonstration")
    with Browser(ui.url) as browser:
        for version in ("v1", "v2"):  # each has filled in a name
            page = browser.open(f"/deployments/deployment/{made.id}/run", version)
            page.get_by_text("Hugging Face repository").first.wait_for()
            name = page.locator("input").first
            wait_for(name.input_value)
            assert filled_in_by_a_form(name.input_value()), name.input_value()
        # the second setting that may be left open; the first is the shard
        page.get_by_text("str", exact=True).nth(1).click()
        page.get_by_text("Select", exact=True).first.click()
        page.get_by_text("alt-text", exact=True).last.click()
        wait_for(lambda: submitted(page))
    (run,) = client.read_flow_runs()
    state = ended(client, run.id)
    assert state.is_completed(), log_of(client, run.id)
    assert captions(ui.project / "output" / "demonstration").keys() == {"p1.json", "p2.json"}
    # the form hands in every default, which are not what a person chose
    lines = (ui.project / "output" / "demonstration" / "provenance.jsonl").read_text().splitlines()
    assert {json.loads(line)["max_tokens"] for line in lines} == {96}
    assert all('"user_prompt": "Write alternative text' in line for line in lines)
    known = client.read_flow_run(run.id)
    assert known.name == "input: 2 pictures"
    tags = {*TAGS, "model: flowcharts-3m-8bit", "output: demonstration"}
    assert set(known.tags) == tags
    # the server records in batches: a second may pass before it knows of the last ends
    wait_for(
        lambda: all(
            task_runs(client, run.id).get(name) == "Completed"
            for name in ("scan_images", "save p1.png", "save p2.png", "write_summary")
        ),
        lambda: task_runs(client, run.id),
    )
    assert set(task_runs(client, run.id).values()) == {"Completed"}


def test_a_schedule_starts_a_run_and_stays_on_when_deployed_again(
    ui: Ui, client: SyncPrefectClient
) -> None:
    pictures = ui.pictures("tonight", 1)
    nightly = deployment(client, "nightly")
    (schedule,) = nightly.schedules
    soon = datetime.now(UTC) + timedelta(seconds=15)
    client.update_deployment_schedule(
        nightly.id,
        schedule.id,
        active=True,
        schedule=IntervalSchedule(interval=timedelta(days=1), anchor_date=soon),
        parameters={
            "folders": {"input_dir": str(pictures), "output_dir": str(ui.project / "morning")},
            "model": {"model": str(CHECKPOINT)},
            "prompts": {"preset": "caption"},
        },
    )
    by_nightly = DeploymentFilter(id=DeploymentFilterId(any_=[nightly.id]))

    def first() -> FlowRun | None:
        runs = client.read_flow_runs(deployment_filter=by_nightly)
        return next((run for run in runs if run.start_time), None)

    run = wait_for(first, lambda: client.read_flow_runs(deployment_filter=by_nightly))
    again = ui.command("flows.hosting.deploying")
    assert again.returncode == 0, again.stderr
    assert run.auto_scheduled
    assert ended(client, run.id).is_completed(), log_of(client, run.id)
    assert captions(ui.project / "morning").keys() == {"p1.json"}
    entry = json.loads((ui.project / "morning" / "p1.json").read_bytes())
    assert entry["prompt"].startswith("Write a caption for this image")
    (schedule,) = deployment(client, "nightly").schedules
    assert schedule.schedule == CronSchedule(cron="0 2 * * *", timezone=ZONE)
    assert schedule.active


def test_cancelling_stops_a_run_and_keeps_what_is_finished(
    ui: Ui, client: SyncPrefectClient
) -> None:
    """And a run from a terminal keeps out of the folder meanwhile, as the other way round."""
    pictures, out = ui.pictures("many", 30), ui.project / "some"
    run = start(client, "on-demand", pictures, out)
    wait_for(lambda: len(captions(out)) >= 2, lambda: log_of(client, run.id))
    process = pid_of(client, run.id)
    in_use = f"Output directory {out} is in use by another run (process "
    with halted(process), in_terminal(ui, pictures, out) as refused:
        _, said = refused.communicate(timeout=PATIENCE)
    assert refused.returncode == 2
    assert f" - ERROR - {in_use}{process} on " in said.splitlines()[-1]
    assert said.count("is in use by another run") == 1 and "Traceback" not in said
    client.set_flow_run_state(run.id, Cancelling())

    state = ended(client, run.id)
    assert state.is_cancelled() and state.name == "Cancelled"
    wait_for(lambda: is_gone(process))  # and with it, what it held on the device
    kept = captions(out)
    assert 2 <= len(kept) < 30
    assert json.loads((out / "summary.json").read_bytes())["state"] == "interrupted"
    assert not any("Traceback" in line for line in log_of(client, run.id))

    when = {name: (out / name).stat().st_mtime_ns for name in kept}
    for number in range(len(kept) + 4, 31):
        (pictures / f"p{number}.png").unlink()
    with in_terminal(ui, pictures, out) as again:
        wait_for(lambda: len(captions(out)) > len(kept) or again.poll() is not None)
        with halted(again.pid):
            late = start(client, "on-demand", pictures, out)
            state = ended(client, late.id)
        _, said = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, said
    assert state.is_failed() and state.message
    assert state.message.startswith(f"{in_use}{again.pid} on ")
    assert state.message.endswith("has ended, or name another with “Output directory”.")
    log = log_of(client, late.id)
    assert log.count(state.message) == 1 and not any("Traceback" in line for line in log)
    assert captions(out).keys() == {f"{path.stem}.json" for path in pictures.iterdir()}
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == when  # it went on from there


@pytest.mark.parametrize(
    ("group", "values", "said"),
    [
        ("decoding", {"max_tokens": 0}, "less than the minimum of 1"),
        ("decoding", {"max_token": 9}, "'max_token' was unexpected"),
        ("device", {"batch_size": "all"}, "'auto' was expected"),
        ("model", {"repo_id": "Qwen3"}, "'Qwen3' does not match"),
        ("folders", {"input_dir": ""}, "should be non-empty"),
    ],
)
def test_a_bad_parameter_is_refused_before_there_is_a_run(
    client: SyncPrefectClient, group: str, values: dict[str, Any], said: str
) -> None:
    before = len(client.read_flow_runs())
    with pytest.raises(PrefectHTTPStatusError) as refused:
        client.create_flow_run_from_deployment(
            deployment(client, "on-demand").id, parameters={group: values}
        )
    assert said in refused.value.response.text
    assert len(client.read_flow_runs()) == before


def test_a_bad_parameter_that_is_let_through_fails_at_once_with_a_sentence(
    client: SyncPrefectClient,
) -> None:
    asked = {"parameters": {"decoding": {"max_tokens": 0}}, "enforce_parameter_schema": False}
    made = client.request(
        "POST",
        "/deployments/{id}/create_flow_run",
        path_params={"id": deployment(client, "on-demand").id},
        json=asked,
    )
    run = FlowRun.model_validate(made.json())
    state = ended(client, run.id)
    assert state.is_failed()
    assert state.message and "decoding.max_tokens: Input should be greater than" in state.message


# --- notifications ---


class Listener(BaseHTTPRequestHandler):
    """Notes the texts that are posted to it."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.texts.append(json.loads(body)["text"])  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """The address of a webhook, and the texts that were sent there."""
    server = HTTPServer(("127.0.0.1", 0), Listener)
    texts: list[str] = []
    server.texts = texts  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", texts
    finally:
        server.shutdown()
        server.server_close()


def test_what_is_to_be_looked_at_is_told_to_a_webhook(ui: Ui, client: SyncPrefectClient) -> None:
    patient = deployment(client, "on-demand")
    client.update_deployment(
        patient.id,
        DeploymentUpdate(parameters=patient.parameters | {"prompts": {"system_prompt": "Briefly"}}),
    )
    with listening() as (hook, texts):
        notify("http://127.0.0.1:1/nobody")
        told = ui.command("flows.notify", hook)
        assert told.returncode == 0, told.stderr
        assert len(client.read_automations()) == 3  # changed, not made twice
        # the fleet says what came of its shards
        shard = client.create_flow_run(caption_flow, name="in: 9 pictures: shard 3 of 12, run 2")
        client.set_flow_run_state(shard.id, Completed(name="Flagged"), force=True)
        flagged = client.create_flow_run(caption_flow, name="some are cut")
        done: State[Any] = Completed(name="Flagged", message="9 captioned (2 flagged)")
        client.set_flow_run_state(flagged.id, done, force=True)

        # a place for a video, and no video: the model cannot take this prompt
        one = ui.pictures("one", 1)
        prompts = {"user_prompt": "<|video_pad|>"}
        failed = start(client, "on-demand", one, ui.project / "none", prompts=prompts)
        lost = start(client, "on-demand", ui.project / "lost", ui.project / "none")
        zombie = running_without_a_process(client)
        assert ended(client, failed.id).is_failed() and ended(client, lost.id).is_failed()
        wait_for(lambda: len(texts) == 4, lambda: texts)
    said = {text.rpartition("/")[2]: text for text in texts}
    page = f"{ui.url}/runs/flow-run/"
    assert said[str(failed.id)] == (
        f"caption-images, one: 1 picture: Failed. 0 captioned, 1 failed {page}{failed.id}"
    )
    assert said[str(lost.id)] == (
        f"caption-images, lost: Failed. Input directory {ui.project}/lost does not exist; "
        f"create it or name another with “Input directory”. {page}{lost.id}"
    )
    assert said[str(flagged.id)] == (
        f"caption-images, some are cut: Flagged. 9 captioned (2 flagged) {page}{flagged.id}"
    )
    assert said[str(zombie)].startswith("caption-images, asleep: Crashed. No sign of life for ")
    log = log_of(client, failed.id)
    assert not any("Traceback" in line for line in log)
    # what was given in part has the rest from the deployment, and says so
    assert "Left out, so as the deployment has it: System prompt" in log
    known = client.read_flow_run(failed.id).parameters
    assert known["prompts"].items() >= (prompts | {"system_prompt": "Briefly"}).items()
    assert (
        json.loads((ui.project / "none" / "summary.json").read_bytes())["settings"]["system_prompt"]
        == "Briefly"
    )


def running_without_a_process(client: SyncPrefectClient) -> UUID:
    """A run that has given one sign of life, and gives no other. It crashes in ten seconds, not in
    ten minutes, and it alone: a real run may take longer. Its sign is that of a real one."""
    run = client.create_flow_run(caption_flow, name="asleep")
    subject = {"prefect.resource.id": f"prefect.flow-run.{run.id}"}
    (made,) = client.read_automations_by_name("caption-images: a run without a sign of life")
    assert isinstance(made.trigger, EventTrigger)
    soon = {"match": ResourceSpecification(subject), "within": timedelta(seconds=10)}
    automation = AutomationCore(
        name=made.name, trigger=made.trigger.model_copy(update=soon), actions=made.actions
    )
    client.update_automation(made.id, automation)
    client.set_flow_run_state(run.id, Running(), force=True)
    real = wait_for(lambda: signs_of_life(client))[0]
    emit_event(
        real["event"],
        resource=real["resource"] | subject,
        related=[r for r in real["related"] if r["prefect.resource.role"] == "flow"],
    )
    send_what_is_queued()
    return run.id


def signs_of_life(client: SyncPrefectClient) -> list[dict[str, Any]]:
    """The events of runs that say that they are there."""
    chosen = {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}}}
    found: list[dict[str, Any]] = client.request("POST", "/events/filter", json=chosen).json()[
        "events"
    ]
    return found


@pytest.mark.parametrize("file", ["crashed.yaml", "message.yaml"])
def test_prefect_s_own_command_takes_the_automations(
    ui: Ui, client: SyncPrefectClient, file: str, tmp_path: Path
) -> None:
    block = client.read_block_document_by_name("caption-images-webhook", "webhook")
    text = (ROOT / "automations" / file).read_text()
    copy = tmp_path / file
    copy.write_text(text.replace("00000000-0000-0000-0000-000000000000", str(block.id)))
    before = len(client.read_automations())
    made = ui.command("prefect", "automation", "create", "--from-file", str(copy))
    assert made.returncode == 0, made.stderr + made.stdout
    assert len(client.read_automations()) == before + 1


# --- the form, in a browser ---


def test_the_form_explains_itself_and_refuses_a_bad_value(
    ui: Ui, client: SyncPrefectClient
) -> None:
    before = len(client.read_flow_runs())
    identifier = deployment(client, "on-demand").id
    with Browser(ui.url) as browser:
        page = browser.open(f"/deployments/deployment/{identifier}/run")
        for group in GROUPS.values():
            page.get_by_text(str(group.__doc__)).first.wait_for()
        for field in Settings.model_fields.values():
            page.get_by_text(f"{field.title} (Optional)").first.wait_for()
            page.get_by_text(str(field.description)).first.wait_for()
        tokens = page.get_by_role("spinbutton").first
        assert tokens.input_value() == "512"
        browser.keep("form", full_page=True)
        tokens.fill("0")
        page.get_by_role("button", name="Submit").click()
        assert not tokens.evaluate("box => box.validity.valid")
        tokens.fill("9")
        page.get_by_text("Hugging Face repository (Optional)").wait_for()
        boxes = page.locator("textarea").all()
        next(box for box in boxes if box.input_value() == DEFAULTS.repo_id).fill("nonsense")
        page.get_by_role("button", name="Submit").click()
        page.get_by_text("'nonsense' does not match").first.wait_for()
    assert len(client.read_flow_runs()) == before


# --- the other ways ---


def test_a_served_flow_runs_and_is_cancelled(ui: Ui, client: SyncPrefectClient) -> None:
    pictures, out = ui.pictures("served", 30), ui.project / "dishes"
    elsewhere = ui.project / "elsewhere"
    elsewhere.mkdir()
    shutil.move(pictures, elsewhere / "plates")
    flags = ["--input-dir=plates", f"--output-dir={out}", f"--model={CHECKPOINT}"]
    with subprocess.Popen(
        [sys.executable, "-m", "flows.serve", *flags, "--cron", "0 3 * * *"],
        cwd=elsewhere,
        env=ui.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as serving:
        try:
            wait_for(lambda: is_served(client) or serving.poll() is not None)
            made = deployment(client, "served")
            assert made.parameters == {
                "folders": {"input_dir": "plates", "output_dir": str(out)},
                "model": {"model": str(CHECKPOINT)},
            }
            (schedule,) = made.schedules
            assert schedule.schedule == CronSchedule(cron="0 3 * * *", timezone=ZONE)
            run = client.create_flow_run_from_deployment(made.id)
            wait_for(lambda: len(captions(out)) >= 2, lambda: log_of(client, run.id))
            client.set_flow_run_state(run.id, Cancelling())
            assert ended(client, run.id).is_cancelled()
            assert 2 <= len(captions(out)) < 30
        finally:
            serving.send_signal(signal.SIGINT)
            printed, _ = serving.communicate(timeout=PATIENCE)
    assert "Traceback" not in printed


def is_served(client: SyncPrefectClient) -> bool:
    try:
        deployment(client, "served")
    except ObjectNotFound:
        return False
    return True


def test_a_schedule_that_serve_cannot_read_is_one_sentence(ui: Ui) -> None:
    run = ui.command("flows.serve", "--cron", "at night")
    assert run.returncode == 2
    assert run.stderr == "--cron or --timezone is wrong: 'at night', 'Europe/Paris'.\n"


def test_serve_says_when_there_is_no_server(ui: Ui, tmp_path: Path) -> None:
    kept = {k: v for k, v in ui.environment.items() if not k.startswith("PREFECT_")}
    run = subprocess.run(
        [sys.executable, "-m", "flows.serve"],
        env=kept | {"PREFECT_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert run.returncode == 2
    assert run.stderr.startswith("There is no Prefect server to serve for: ")


# --- make ui ---


def test_a_port_in_use_and_a_server_that_does_not_answer_are_sentences(ui: Ui) -> None:
    environment = {k: v for k, v in ui.environment.items() if k != "PREFECT_API_URL"}
    taken = replace(ui, environment=environment).command("flows.hosting.ui")
    assert taken.returncode == 1
    assert taken.stderr.startswith(f"Port {ui.port} is in use. ")
    silent = {"PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api"}
    gone = replace(ui, environment=environment | silent).command("flows.hosting.ui")
    assert gone.returncode == 1
    assert "cannot be used" in gone.stderr and "Traceback" not in gone.stderr


def test_ctrl_c_ends_server_worker_and_run(ui: Ui, client: SyncPrefectClient) -> None:
    shown = ui.output.read_text()
    assert f"Prefect's UI: {ui.url}\n" in shown
    assert f"export PREFECT_API_URL={ui.api}\n" in shown
    pictures, out = ui.pictures("last", 30), ui.project / "kept"
    run = start(client, "on-demand", pictures, out)
    wait_for(lambda: len(captions(out)) >= 2, lambda: log_of(client, run.id))
    process = pid_of(client, run.id)
    started = descendants(ui.process.pid)
    assert {process} < started

    ui.process.send_signal(signal.SIGINT)
    assert ui.process.wait(PATIENCE) == 130
    assert all(map(is_gone, started))
    assert 2 <= len(captions(out)) < 30
    assert json.loads((out / "summary.json").read_bytes())["state"] == "interrupted"
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", ui.port)) != 0
    database = Path(ui.environment["PREFECT_HOME"]) / "prefect.db"
    with closing(sqlite3.connect(database)) as connection:
        states = "SELECT DISTINCT state_type FROM flow_run WHERE name != 'asleep'"
        names = connection.execute(states).fetchall()
        errors = "SELECT message FROM log WHERE level >= 40 AND flow_run_id IN (?, ?)"
        said = connection.execute(errors, (str(run.id), run.id.hex)).fetchall()
    assert [message.partition(":")[0] for (message,) in said] == ["Interrupted"]
    assert {name for (name,) in names} <= {"COMPLETED", "FAILED", "CANCELLED", "SCHEDULED"}

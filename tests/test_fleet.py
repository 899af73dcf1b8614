"""One folder and two machines on a team's server, of which one is lost in the midst of a shard.

Each downloads the model, which the one that is lost finds too large for its memory at first. One
fleet serves all tests of the module; `python -m tests.lost_machines` is the same in full size, and
loses more.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events import emit_event
from prefect.events.schemas.automations import AutomationCore, EventTrigger
from prefect.events.schemas.events import ResourceSpecification
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from captioner.checkpoint.memory import memory_bytes
from flows.endings import REFUSED
from flows.hosting.recorded import send_what_is_queued
from tests.browser import Browser
from tests.conftest import CHECKPOINT, draw_picture
from tests.fleets import (
    PASSWORD,
    Machine,
    Team,
    captioned_twice,
    captions,
    flags,
    in_mid_shard,
    shards_of,
    stop,
    team,
    wait_for,
    without_times,
)
from tests.hub_server import HubServer, Sized

pytestmark = [
    *(pytest.mark.server, pytest.mark.browser, pytest.mark.model),
    pytest.mark.timeout(900),  # two machines on the cores of one
]

PICTURES, SHARDS = 24, 3
REPO_ID, WEIGHTS = "someone/flowcharts", "model.safetensors"
ZOMBIES = "caption-fleet: a run without a sign of life"


@contextmanager
def connected(its: Team) -> Iterator[SyncPrefectClient]:
    """A client of the team's server."""
    there = {PREFECT_API_URL: its.api, PREFECT_API_AUTH_STRING: PASSWORD}
    with temporary_settings(there), get_client(sync_client=True) as client:
        yield client


@dataclass(frozen=True)
class Captioned:
    """What became of the folder."""

    team: Team
    boss: Machine
    hub: HubServer
    lost: FlowRun
    exit_code: int

    def shards(self) -> list[FlowRun]:
        """The runs of its shards."""
        with connected(self.team) as client:
            return shards_of(client)


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Captioned]:
    """A fleet that lost a machine, and has ended."""
    with (
        team(tmp_path_factory.mktemp("team")) as its,
        HubServer(CHECKPOINT, REPO_ID, its.network.address) as hub,
        its.machine("anna") as anna,
        its.machine("ben") as ben,
        connected(its) as client,
    ):
        for number in range(PICTURES - 1):
            draw_picture(its.shared / "in" / f"p{number}.png", f"N {number}")
        (its.shared / "in" / "broken.png").write_bytes(b"no picture")
        for machine in (anna, ben):
            machine.environment.update(hub.environment(machine.home / "huggingface"))
        hub.fail(WEIGHTS, Sized(memory_bytes() + 1), method="HEAD")
        deploying = anna.start("flows.hosting.deploying")
        assert deploying.wait() == 0, anna.said()
        ben.start_worker()
        command = ("flows.fleet", "--shards", str(SHARDS), *flags(REPO_ID))
        fleet = anna.start(*command, log="fleet")
        lost = in_mid_shard(client, ben, its.output, do=stop).run
        ben.kill_worker()
        crash(client, lost)
        anna.start_worker()  # added in mid-run
        exit_code = fleet.wait(200)
        yield Captioned(its, anna, hub, lost, exit_code)


def crash(client: SyncPrefectClient, lost: FlowRun) -> None:
    """Have the automation notice it in seconds, and not in two minutes; it alone, since real runs
    give a sign every half a minute. Its last sign is that of a real one, since its own may not have
    been sent yet when it was stopped."""
    subject = {"prefect.resource.id": f"prefect.flow-run.{lost.id}"}
    (made,) = client.read_automations_by_name(ZOMBIES)
    assert isinstance(made.trigger, EventTrigger)
    soon = {"match": ResourceSpecification(subject), "within": timedelta(seconds=10)}
    automation = AutomationCore(
        name=made.name, trigger=made.trigger.model_copy(update=soon), actions=made.actions
    )
    client.update_automation(made.id, automation)
    chosen = {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}}}

    def signs() -> list[dict[str, Any]]:
        found = client.request("POST", "/events/filter", json=chosen).json()["events"]
        return [sign for sign in found if "prefect.tag.fleet" in json.dumps(sign["related"])]

    sign = wait_for(signs)[0]
    emit_event(sign["event"], resource=sign["resource"] | subject, related=sign["related"])
    send_what_is_queued()


def test_every_picture_is_captioned_once_but_those_in_flight(captioned: Captioned) -> None:
    output = captioned.team.shared / "out"
    said = captioned.boss.said("fleet")
    assert captioned.exit_code == 0, said
    assert len(captions(output)) == PICTURES - 1
    assert len(captioned_twice(output)) <= 2  # on the device, and about to be saved
    assert "is given out again (Crashed on ben): No sign of life" in said
    assert f"{PICTURES - 1} captioned" in said and "1 skipped" in said
    assert "Traceback" not in said
    summary = json.loads((output / "summary.json").read_bytes())
    assert summary["counts"]["captioned"] == len(summary["captions"]) == PICTURES - 1
    assert summary["model"]["weight_bytes"] > 1_000_000
    assert summary["seconds"]["device_busy"] > 0 and summary["tokens"]["generated"] > PICTURES
    left = {path.name for path in output.iterdir()} - captions(output).keys()
    assert left == {
        *(".run.lock", "captions.json", "summary.json", "provenance.jsonl"),
        *("index.html", "gallery"),
    }


def test_a_machine_without_enough_memory_refuses_its_shard_which_goes_elsewhere(
    captioned: Captioned,
) -> None:
    runs = {run.name: run for run in captioned.shards()}
    (refused,) = [run for run in runs.values() if run.state_name == REFUSED]
    assert refused.state and "Try a smaller model" in str(refused.state.message)
    assert refused.labels["prefect.worker.name"] == "ben"
    again = runs[f"{refused.name}, run 2"]
    assert again.state_type == StateType.COMPLETED
    assert again.labels["prefect.worker.name"] == "anna"
    assert "is given out again (Refused on ben): " in captioned.boss.said("fleet")


def test_the_model_is_downloaded_once_by_each_machine(captioned: Captioned) -> None:
    assert len(captioned.shards()) > SHARDS
    size = (CHECKPOINT / WEIGHTS).stat().st_size
    assert [request.sent for request in captioned.hub.fetched(WEIGHTS)] == [size, size]


def test_of_what_is_made_with_captions_a_shard_is_asked_for_thumbnails_alone(
    captioned: Captioned,
) -> None:
    assert all(run.parameters["results"] == {"gallery": True} for run in captioned.shards())


def test_one_machine_would_have_left_the_same(captioned: Captioned, tmp_path: Path) -> None:
    alone = captioned.team.shared / "alone"
    anna = captioned.boss
    run = anna.start("flows.caption_flow", *flags(REPO_ID), "--output-dir", str(alone), log="alone")
    assert run.wait(200) == 0, anna.said("alone")
    expected, found = without_times(alone), without_times(captioned.team.shared / "out")
    for name in {*expected, *found}:
        assert found.get(name) == expected.get(name), name
    # and over the fleet's own folder it has nothing to do
    again = anna.start("flows.caption_flow", *flags(REPO_ID), "--plan", log="again")
    assert again.wait(200) == 0
    assert re.search(rf"Up to date +{PICTURES - 1}\n", anna.said("again"))


def test_the_run_s_page_has_its_shards_by_name(captioned: Captioned) -> None:
    shards = captioned.shards()
    with connected(captioned.team) as client:
        of_fleets = FlowFilter(name=FlowFilterName(any_=["caption-fleet"]))
        (fleet,) = client.read_flow_runs(flow_filter=of_fleets)
        both = FlowRunFilter(id=FlowRunFilterId(any_=[fleet.id, captioned.lost.id]))
        tasks = client.read_task_runs(flow_run_filter=both)
    assert fleet.name == "in: 24 pictures"
    assert all(task.state and task.state.is_final() for task in tasks)  # also of what was lost
    names = {run.name: run.state_name for run in shards if run.state_name != REFUSED}
    lost = captioned.lost.name
    assert names.pop(lost) == "Crashed"
    assert {f"{lost}, run 2"} < names.keys() and set(names.values()) <= {"Completed", "Flagged"}
    with Browser(captioned.team.api.removesuffix("/api")) as browser:
        page = browser.open("/")
        page.locator("input[type=password]").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.get_by_text("Flow Runs").first.wait_for()
        browser.open(f"/runs/flow-run/{fleet.id}")
        page.get_by_role("tab", name="Subflow Runs").click()
        for name in (lost, *names):
            page.get_by_text(name, exact=True).first.wait_for()
        page.get_by_text("Crashed").first.wait_for()
        browser.keep("fleet-run")
        page.get_by_role("tab", name="Artifacts").click()
        page.get_by_text("captioning").first.wait_for()

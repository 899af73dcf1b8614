"""One folder and two machines on a team's server, of which one is lost in the midst of a shard.

One fleet serves all tests of the module; `python -m tests.lost_machines` is the same in full size,
and loses more.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.events import emit_event
from prefect.events.schemas.automations import AutomationCore, EventTrigger
from prefect.events.schemas.events import ResourceSpecification
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows.hosting.recorded import send_what_is_queued
from tests.browser import Browser
from tests.conftest import draw_picture
from tests.fleets import (
    PASSWORD,
    Machine,
    Team,
    captioned_twice,
    captions,
    flags,
    in_mid_shard,
    shards_of,
    team,
    wait_for,
    without_times,
)

pytestmark = [
    *(pytest.mark.server, pytest.mark.browser, pytest.mark.model),
    pytest.mark.timeout(900),  # two machines on the cores of one
]

PICTURES, SHARDS = 24, 3
ZOMBIES = "caption-fleet: a run without a sign of life"


@dataclass(frozen=True)
class Captioned:
    """What became of the folder."""

    team: Team
    boss: Machine
    lost: FlowRun
    exit_code: int


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Captioned]:
    """A fleet that lost a machine, and has ended."""
    with (
        team(tmp_path_factory.mktemp("team")) as its,
        its.machine("anna") as anna,
        its.machine("ben") as ben,
        temporary_settings({PREFECT_API_URL: its.api, PREFECT_API_AUTH_STRING: PASSWORD}),
        get_client(sync_client=True) as client,
    ):
        for number in range(PICTURES - 1):
            draw_picture(its.shared / "in" / f"p{number}.png", f"N {number}")
        (its.shared / "in" / "broken.png").write_bytes(b"no picture")
        deploying = anna.start("flows.hosting.deploying")
        assert deploying.wait() == 0, anna.said()
        ben.start_worker()
        command = ("flows.fleet", "--shards", str(SHARDS), *flags())
        fleet = anna.start(*command, log="fleet")
        lost = in_mid_shard(client, ben, its.output, stop=True).run
        ben.kill_worker()
        crash(client, lost)
        anna.start_worker()  # added in mid-run
        exit_code = fleet.wait(200)
        yield Captioned(its, anna, lost, exit_code)


def crash(client: SyncPrefectClient, lost: FlowRun) -> None:
    """Have the automation notice it in seconds, and not in two minutes; it alone, since real runs
    give a sign every half a minute. Its last sign is one of its own."""
    subject = {"prefect.resource.id": f"prefect.flow-run.{lost.id}"}
    (made,) = client.read_automations_by_name(ZOMBIES)
    assert isinstance(made.trigger, EventTrigger)
    soon = {"match": ResourceSpecification(subject), "within": timedelta(seconds=10)}
    automation = AutomationCore(
        name=made.name, trigger=made.trigger.model_copy(update=soon), actions=made.actions
    )
    client.update_automation(made.id, automation)
    chosen = {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}}}

    def signs() -> list[dict[str, object]]:
        found = client.request("POST", "/events/filter", json=chosen).json()["events"]
        return [sign for sign in found if str(lost.id) in json.dumps(sign["resource"])]

    sign = wait_for(signs)[0]
    emit_event(sign["event"], resource=sign["resource"], related=sign["related"])
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


def test_one_machine_would_have_left_the_same(captioned: Captioned, tmp_path: Path) -> None:
    alone = captioned.team.shared / "alone"
    anna = captioned.boss
    run = anna.start("flows.caption_flow", *flags(), "--output-dir", str(alone), log="alone")
    assert run.wait(200) == 0, anna.said("alone")
    expected, found = without_times(alone), without_times(captioned.team.shared / "out")
    for name in {*expected, *found}:
        assert found.get(name) == expected.get(name), name
    # and over the fleet's own folder it has nothing to do
    again = anna.start("flows.caption_flow", *flags(), "--plan", log="again")
    assert again.wait(200) == 0
    assert re.search(rf"Up to date +{PICTURES - 1}\n", anna.said("again"))


def test_the_run_s_page_has_its_shards_by_name(captioned: Captioned) -> None:
    with (
        temporary_settings(
            {PREFECT_API_URL: captioned.team.api, PREFECT_API_AUTH_STRING: PASSWORD}
        ),
        get_client(sync_client=True) as client,
    ):
        shards = shards_of(client)
        of_fleets = FlowFilter(name=FlowFilterName(any_=["caption-fleet"]))
        (fleet,) = client.read_flow_runs(flow_filter=of_fleets)
        both = FlowRunFilter(id=FlowRunFilterId(any_=[fleet.id, captioned.lost.id]))
        tasks = client.read_task_runs(flow_run_filter=both)
    assert fleet.name == "in: 24 pictures"
    assert all(task.state and task.state.is_final() for task in tasks)  # also of what was lost
    names = {run.name: run.state_name for run in shards}
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

"""Prefect's real pages in a real browser: what a person who watches a run gets to see."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import Artifact

from captioner.pages.table import CAPTIONED, FAILED, FLAGGED, SKIPPED, STATES
from captioner.records import Caption, Failure, Picture, Skipped
from captioner.settings import Settings
from tasks.artifacts import publish_report
from tests.browser import Browser
from tests.conftest import ROOT, FlowRun, draw_picture
from tests.test_run_page import artifacts, run_of

pytestmark = pytest.mark.browser

HOSTILE = [  # with the three other rows as many as the new UI shows at once
    "<img src=x onerror=\"window.pwned='image'\">",
    "<script>window.pwned='script'</script><svg onload=\"window.pwned='svg'\">",
    "</td></tr></table><h1>outside</h1>",
    "**bold** _leaning_ `code` ~~struck~~ # heading",
    "[a link](javascript:window.pwned='link') ![](http://picture.invalid/x.png)",
    "http://auto.invalid/link www.auto.invalid someone@auto.invalid",
    "a | table | row &lt;b&gt; &amp; <!-- a comment -->",
]
INVISIBLE = ("one\ntwo \x1b[31mred \u202efilename", "\\x1b[31mred \\u202efilename")
UIS = ["v2", "v1"]


def artifact_of(flow_run_id: object, kind: str) -> Artifact:
    (found,) = [artifact for artifact in artifacts(flow_run_id) if artifact.type == kind]
    return found


@pytest.fixture(scope="module")
def hostile(
    prefect_api: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Artifact, Artifact]:
    """The page and the table of a run whose captions, names and reasons mean harm."""
    home = tmp_path_factory.mktemp("hostile")
    settings = Settings(input_dir=home / "<b>in", output_dir=home / "out")
    settings.input_dir.mkdir()
    names = ["plain.png", "<img src=x onerror=alert(1)>.png", *(f"{n}.png" for n in range(6))]
    pictures = [draw_picture(settings.input_dir / name, size=(64, 64)) for name in names]
    run, output = run_of(pictures, settings, [*HOSTILE, INVISIBLE[0]])
    broken = Picture("gone.png", Path())
    run.skipped.append(Skipped(broken, "damaged: <img src=x onerror=window.pwned=1>", None))
    run.failures.append(Failure(run.plan.todo[0], "No memory"))
    flagged = run.captioned.pop()
    cut = replace(flagged.generation, flags=("truncated",))
    run.captioned.append(Caption(flagged.job, flagged.prompt, cut, flagged.stamp))

    @task
    def write_summary() -> None:
        publish_report(run, output)

    @flow
    def run_of_a_liar() -> None:
        write_summary()

    state: Any = run_of_a_liar(return_state=True)
    flow_run_id = state.state_details.flow_run_id
    return artifact_of(flow_run_id, "markdown"), artifact_of(flow_run_id, "table")


def test_a_run_reads_as_what_happened(
    run_flow: Callable[[Settings], FlowRun], folders: Settings, prefect_ui: str
) -> None:
    for name, sample in {"a.png": "diagram05.png", "b.png": "diagram03.png"}.items():
        shutil.copy(ROOT / "input" / sample, folders.input_dir / name)
    (folders.input_dir / "broken.png").touch()
    run = run_flow(folders.model_copy(update={"max_tokens": 24}))  # b.png needs no more
    flow_run_id = run.state.state_details.flow_run_id
    report, results = (artifact_of(flow_run_id, kind) for kind in ("markdown", "table"))
    rows = json.loads(str(results.data))
    assert [row["state"] for row in rows] == [SKIPPED, FLAGGED, CAPTIONED]
    the_timeline_is_that_of_the_device(flow_run_id, rows[1:])
    with Browser(prefect_ui) as browser:
        for version in UIS:
            page = browser.open(f"/runs/flow-run/{flow_run_id}", version)
            page.get_by_text("in: 3 pictures").first.wait_for()
            page.get_by_text("Flagged", exact=True).first.wait_for()
            tab(page, "Task Runs").click()
            page.get_by_role("link", name="validate broken.png", exact=True).wait_for()
            page.get_by_text("Skipped", exact=True).first.wait_for()
            browser.keep(f"task-runs-{version}", full_page=True)
            page.get_by_role("link", name="caption b.png", exact=True).click()  # one click
            caption = json.loads((folders.output_dir / "b.json").read_bytes())["caption"]
            page.get_by_text(f"b.png: “{caption}”", exact=True).wait_for()
            browser.keep(f"caption-{version}")
        page = browser.open(f"/runs/flow-run/{flow_run_id}?tab=Artifacts")
        page.get_by_text("3 of 3: 2 captioned (1 flagged), 1 skipped; ").first.wait_for()
        browser.keep("artifacts")
        page.get_by_text(str(report.key)).click()  # leads to this run's version of the page
        page.wait_for_url("**/artifacts/artifact/*")
        expect(page.locator("td img")).to_have_count(2, timeout=30_000)
        page.wait_for_function(
            "[...document.querySelectorAll('td img')]"
            ".every(image => Math.max(image.naturalWidth, image.naturalHeight) == 160)"
        )
        page.locator("td", has_text="empty file").wait_for()
        browser.keep("report", full_page=True)
        # Prefect's timeline draws once more after it was left, when the machine is slow
        assert [e for e in browser.errors if "(reading 'position')" not in e] == []


def tab(page: Page, name: str) -> Locator:
    """A tab of the page; the classic UI gives the role to the row of them alone."""
    return page.get_by_role("tablist").get_by_text(name, exact=True)


def the_timeline_is_that_of_the_device(flow_run_id: object, rows: list[dict[str, Any]]) -> None:
    """What the timeline is drawn from: no caption's task run is longer than twice the device's own
    time for it, but for what a busy machine needs besides."""
    with get_client(sync_client=True) as client:
        drawn = client.request("GET", "/flow_runs/{id}/graph-v2", path_params={"id": flow_run_id})
    nodes = {node["label"]: node for _, node in drawn.json()["nodes"]}
    for row in rows:
        node = nodes[f"caption {row['picture'][0]}"]
        begun, ended = (datetime.fromisoformat(node[f"{when}_time"]) for when in ("start", "end"))
        assert (ended - begun).total_seconds() <= 2 * row["seconds"] + 1.0


@pytest.mark.parametrize("version", UIS)
def test_hostile_texts_are_text_on_the_page_and_in_the_table(
    hostile: tuple[Artifact, Artifact], prefect_ui: str, version: str
) -> None:
    with Browser(prefect_ui) as browser:
        page = browser.open(f"/artifacts/artifact/{hostile[0].id}", version)
        page.locator("td img").last.wait_for()
        browser.keep(f"hostile-page-{version}", full_page=True)
        cells = page.locator("td").all_inner_texts()
        for text in HOSTILE:
            assert text in cells
        assert "(truncated) one\ntwo " + INVISIBLE[1] in cells
        assert "damaged: <img src=x onerror=window.pwned=1>" in cells
        assert "<img src=x onerror=alert(1)>.png" in page.locator("td b").all_inner_texts()
        nothing_happened(browser)
        assert page.locator("td").locator("a, h1, em, code, del, script, svg").count() == 0

        page = browser.open(f"/artifacts/artifact/{hostile[1].id}", version)
        page.locator("td").last.wait_for()
        browser.keep(f"hostile-table-{version}", full_page=True)
        cells = [re.sub(r'^\[ "|" \]$', "", c) for c in page.locator("td").all_inner_texts()]
        for text in [*HOSTILE, "(truncated) one two " + INVISIBLE[1]]:
            assert text in [cell if version == "v2" else unquoted(cell) for cell in cells]
        nothing_happened(browser)
        assert page.locator("td").locator("a, h1, em, strong, code, del, script").count() == 0
        states = [cell for cell in cells if cell in STATES]  # the troubled ones come first
        assert states[:3] == [FAILED, SKIPPED, FLAGGED] and set(states[3:]) == {CAPTIONED}


def unquoted(text: str) -> str:
    """What the old UI shows of a text in a list: as JSON does."""
    return text.replace('\\"', '"').replace("\\\\", "\\")


def nothing_happened(browser: Browser) -> None:
    assert browser.page.evaluate("window.pwned") is None
    assert browser.page.locator('img[src="x"]').count() == 0
    assert not [address for address in browser.asked if ".invalid" in address]
    assert not browser.errors

"""What the page of a flow run shows from its beginning: its name, and how far it has come."""

import re
from contextlib import AbstractContextManager
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from captioner.pages.table import run_name
from captioner.run import Run
from tasks.artifacts import failing_softly, moving_progress

GENERATED = re.compile(r"[a-z]+-[a-z]+")  # `wise-otter`, as Prefect names runs


def name_run(run: Run) -> None:
    """Name the flow run after its directory and number of pictures, unless somebody named it."""
    if run.scan is None or not GENERATED.fullmatch(flow_run.name or ""):
        return
    with failing_softly("The run's name"):
        name = run_name(run.settings.input_dir, len(run.scan.pictures))
        get_client(sync_client=True).update_flow_run(UUID(flow_run.id), name=name)


def captioning_progress(run: Run) -> AbstractContextManager[None]:
    """A progress artifact of the pictures, for as long as the block runs."""
    return moving_progress("captioning", lambda: run.progress)

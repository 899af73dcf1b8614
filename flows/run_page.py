"""What the page of a flow run shows from its beginning: its name and its tags, and how far it has
come."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from captioner.pages.table import run_name, run_tags
from captioner.run import Run
from captioner.text import printable
from flows.run_names import filled_in, filled_in_by_a_form
from tasks.artifacts import failing_softly, moving_progress

TAGS = ("mlx", "captions")  # as in prefect.yaml


@contextmanager
def named(run: Run) -> Iterator[None]:
    """From the beginning of the block on, the flow run is named after its directory, and tagged
    with its model and its output directory. A name that somebody gave it stays."""
    before = flow_run.name or ""
    if filled_in_by_a_form(before):
        get_run_logger().info("This run was called %s before it began.", printable(before))
    _update(run, list(dict.fromkeys([*flow_run.tags, *TAGS, *run_tags(run.settings)])))
    yield


def count_in_name(run: Run) -> None:
    """Put the number of its pictures into the name, unless somebody gave the run another."""
    if filled_in(flow_run.name or ""):
        _update(run)


def _update(run: Run, tags: Iterable[str] | None = None) -> None:
    pictures = len(run.scan.pictures) if run.scan else None
    name = run_name(run.settings.input_dir, pictures) if filled_in(flow_run.name or "") else None
    with failing_softly("The run's name"), get_client(sync_client=True) as client:
        client.update_flow_run(UUID(flow_run.id), name=name, tags=tags)


def captioning_progress(run: Run) -> AbstractContextManager[None]:
    """A progress artifact of the pictures, for as long as the block runs."""
    return moving_progress("captioning", lambda: run.progress)

"""What a run shows in Prefect's UI besides its task runs: artifacts.

The one module here that is no state; the states and the flow use it. Nothing in it may stop a run,
or hold it up while the server is away.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import cast
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from captioner.errors import first_line
from captioner.output.folder import OutputFolder
from captioner.pages.report import page
from captioner.pages.table import artifact_key, table
from captioner.records import Progress
from captioner.run import Run

UPDATE_SECONDS = 1.0
LAST_UPDATE_SECONDS = 5.0


@contextmanager
def failing_softly(what: str) -> Iterator[None]:
    """Turn whatever goes wrong in the block into a warning in the run's log.

    A server that does not answer is asked once more, not for the minute that Prefect waits.
    """
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}):
            yield
    except Exception as error:
        _warn(what, error)


@contextmanager
def moving_progress(key: str, measure: Callable[[], Progress]) -> Iterator[None]:
    """A progress artifact for as long as the block runs, which a thread moves to what `measure`
    says: once a second at most, and only when that has changed."""
    ended = threading.Event()
    thread = threading.Thread(
        target=copy_context().run, args=(_move, key, measure, ended), name=key, daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(LAST_UPDATE_SECONDS)


def _move(key: str, measure: Callable[[], Progress], ended: threading.Event) -> None:
    artifact: UUID | None = None
    moment = None
    warned = False
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):  # once: it reads all settings again
        while True:
            last = ended.wait(UPDATE_SECONDS if moment else 0)
            now = measure()
            try:
                if artifact is None:
                    made = create_progress_artifact(now.percent, key, now.sentence)
                    artifact = cast(UUID, made)
                elif now != moment or (last and now.sentence != moment.sentence):
                    update_progress_artifact(artifact, now.percent, now.sentence)
            except Exception as error:  # the server may come back
                if not warned:
                    _warn("The progress", error)
                warned = True
            moment = now
            if last:
                return


def publish_report(run: Run, output: OutputFolder) -> None:
    """A table and a page about the run; those of all runs over the same directories are versions
    of one another."""
    with failing_softly("The report"):
        entries, description = table(run, output)
        create_table_artifact(
            entries, key=artifact_key("results", run.settings), description=description
        )
        create_markdown_artifact(
            page(run, output),
            key=artifact_key("report", run.settings),
            description=run.counts(),
        )


def _warn(what: str, error: Exception) -> None:
    get_run_logger().warning("%s is not shown in the UI: %s", what, first_line(error))

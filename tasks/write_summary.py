"""WriteSummary: captions.json, rebuilt from the caption files, and summary.json, last of all."""

import time

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from captioner.devices import device_of
from captioner.records import DeviceFigures, LoadedModel, Outcome
from captioner.results import Times, write_combined_files
from captioner.settings import Settings
from captioner.text import printable
from tasks.artifacts import publish_report


@task(task_run_name="write_summary", cache_policy=NO_CACHE)
def write_summary(
    outcome: Outcome, settings: Settings, model: LoadedModel | None, began: float, loaded: float
) -> None:
    """Write both files; the run began and its model was loaded at `time.perf_counter` moments.

    There is no `model` when there was nothing to do.

    Raises:
        OutputError: one of them cannot be written.
    """
    times = Times(began, loaded, time.perf_counter())
    figures = device_of(model).figures() if model else DeviceFigures(0.0, 0.0, 0)
    write_combined_files(outcome, settings, model, figures, times)
    _log(outcome, settings)
    publish_report(outcome, settings, model, figures, times)


def _log(outcome: Outcome, settings: Settings) -> None:
    logger = get_run_logger()
    if not outcome.plan.todo:
        logger.info("%s", outcome.counts())
        return
    logger.info(
        "Wrote %d %s to %s",
        len(outcome.captioned),
        "caption file" if len(outcome.captioned) == 1 else "caption files",
        printable(str(settings.output_dir)),
        extra={"plain": True},
    )

"""WriteSummary: captions.json, rebuilt from the caption files, and summary.json, last of all."""

import time

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from captioner.devices import device_of
from captioner.records import LoadedModel, Outcome, printable
from captioner.results import Times, write_combined_files
from captioner.settings import Settings


@task(task_run_name="write_summary", cache_policy=NO_CACHE)
def write_summary(
    outcome: Outcome, settings: Settings, model: LoadedModel, began: float, loaded: float
) -> None:
    """Write both files; the run began and its model was loaded at `time.perf_counter` moments.

    Raises:
        OutputError: one of them cannot be written.
    """
    times = Times(began, loaded, time.perf_counter())
    write_combined_files(outcome, settings, model, device_of(model).figures(), times)
    files = "caption file" if len(outcome.captioned) == 1 else "caption files"
    get_run_logger().info(
        "Wrote %d %s to %s",
        len(outcome.captioned),
        files,
        printable(str(settings.output_dir)),
        extra={"plain": True},
    )

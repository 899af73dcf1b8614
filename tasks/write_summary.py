"""WriteSummary: captions.json, rebuilt from the caption files, and summary.json, last of all."""

import time

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from captioner.devices import device_of
from captioner.records import LoadedModel, Outcome
from captioner.results import write_combined_files
from captioner.settings import Settings


@task(task_run_name="write_summary", cache_policy=NO_CACHE)
def write_summary(outcome: Outcome, settings: Settings, model: LoadedModel, began: float) -> None:
    """Write both files; `began` is when the run did, by `time.perf_counter`.

    Raises:
        OutputError: one of them cannot be written.
    """
    peak_memory = device_of(model).peak_memory_bytes
    seconds = time.perf_counter() - began
    write_combined_files(outcome, settings, model, seconds, peak_memory)
    files = "caption file" if outcome.captioned == 1 else "caption files"
    get_run_logger().info(
        "Wrote %d %s to %s",
        outcome.captioned,
        files,
        settings.output_dir,
        extra={"plain": True},
    )

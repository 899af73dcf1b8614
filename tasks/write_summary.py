"""WriteSummary: captions.json, rebuilt from the caption files, and summary.json, last of all."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from captioner.output.folder import OutputFolder
from captioner.run import Run
from captioner.text import listed, printable
from tasks.artifacts import publish_report


@task(task_run_name="write_summary", cache_policy=NO_CACHE)
def write_summary(run: Run, output: OutputFolder) -> None:
    """Write both files, and a report about the run for the UI.

    Raises:
        OutputError: one of them cannot be written.
    """
    left_out = output.finish(run)
    run.complete = not run.interrupted
    if left_out:
        get_run_logger().warning(
            "Not in captions.json, since another picture is there now: %s",
            listed(map(printable, left_out)),
        )
    _log(run, output)
    publish_report(run, output)


def _log(run: Run, output: OutputFolder) -> None:
    logger = get_run_logger()
    if not run.plan.todo:
        logger.info("%s", run.counts(), extra={"results": run})
        return
    logger.info(
        "Wrote %d %s to %s",
        len(run.captioned),
        "caption file" if len(run.captioned) == 1 else "caption files",
        output,
        extra={"plain": True, "results": run},  # in a terminal they stand above this line
    )

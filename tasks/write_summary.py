"""WriteSummary: captions.json, rebuilt from the caption files, and summary.json; then what the
settings ask for besides. A shard leaves all of that to the merge, but for a report in the UI."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from captioner.export.exporting import Choice, export
from captioner.export.place import Options
from captioner.output.folder import OutputFolder
from captioner.pages.gallery import write_gallery
from captioner.run import Run
from captioner.settings import Settings
from captioner.text import listed, printable
from tasks.artifacts import publish_report

NOT_BY_A_SHARD = (
    "A shard writes no exports: when all shards are done, run the same command without --shard, "
    "which merges them and writes the exports."
)


@task(task_run_name="write_summary", cache_policy=NO_CACHE)
def write_summary(run: Run, output: OutputFolder) -> None:
    """Write both files, the gallery, the exports, and a report about the run for the UI.

    Raises:
        OutputError: one of them cannot be written.
        InputError: the pictures that exports are to go beside are not there any more.
    """
    left_out = output.finish(run)
    if not run.settings.shard:
        if run.settings.gallery:
            write_gallery(run, output)
        _export(run.settings)
    elif run.settings.export:
        get_run_logger().warning("%s", NOT_BY_A_SHARD)
    run.complete = not run.interrupted
    if left_out:
        get_run_logger().warning(
            "Not in captions.json, since another picture is there now: %s",
            listed(map(printable, left_out)),
        )
    _log(run, output)
    publish_report(run, output)


def _export(settings: Settings) -> None:
    if settings.export:
        options = Options(settings.input_dir, settings.beside, settings.xmp_name)
        choice = Choice(settings.include_flagged)
        for sentence in export(settings.output_dir, settings.export, options, choice):
            get_run_logger().info("%s", sentence)


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

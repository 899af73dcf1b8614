"""CheckCaptions: what is up to date, and what is to be captioned, and why."""

from collections import defaultdict

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from captioner.asking.prompts import Prompts
from captioner.checkpoint.find import known_revision
from captioner.output.folder import OutputFolder
from captioner.pictures.evicted import evicted
from captioner.plan import (
    Plan,
    Scan,
    unasked_in_words,
    unreadable_in_words,
    unreadable_together,
)
from captioner.records import Recipe
from captioner.run import Run
from captioner.text import counted, listed, printable

UNREADABLE_LINES = 5


@task(task_run_name="check_captions", cache_policy=NO_CACHE)
def check_captions(scan: Scan, run: Run, output: OutputFolder) -> Plan:
    """What of the pictures is to be done, by what earlier runs left in the output directory.

    Raises:
        OutputError: the directory can be neither read nor written.
        InputError: the pictures are in iCloud, and this process may not fetch them; or the prompt
            of a folder cannot be used.
    """
    recipe = Recipe.of(run.settings, known_revision(run.settings))
    prompts = Prompts(run.settings)
    plan = output.plan(scan, run.settings, recipe, prompts.of)
    for remark in prompts.remarks():
        get_run_logger().info("%s", remark)
    _log(plan, overwrite=run.settings.overwrite)
    if plan.unasked:
        get_run_logger().info("Kept: %s", unasked_in_words(plan, run.settings))
    _log_evicted(plan)
    return plan


def _log(plan: Plan, overwrite: bool) -> None:
    logger = get_run_logger()
    if plan.up_to_date:
        n = len(plan.up_to_date)
        logger.info("%s up to date", counted(n, "caption is", "captions are"))
    if plan.edited:
        edited = listed(map(printable, plan.edited))
        if overwrite:
            logger.warning("Captions edited by hand are overwritten: %s", edited)
        else:
            logger.info("Captions edited by hand are kept: %s", edited)
    reasons: dict[str, list[str]] = defaultdict(list)
    for job in plan.todo:
        if job.reason:
            reasons[job.reason].append(job.picture.label)
    for reason, labels in reasons.items():
        logger.info("%d to caption again (%s): %s", len(labels), reason, listed(labels))
    if plan.left:
        logger.info("%d left as they are: only flagged captions are retried", len(plan.left))
    if plan.later:
        logger.info("%d left for the next run: --limit is %d", len(plan.later), len(plan.todo))
    if plan.skipped:
        labels = [skipped.picture.label for skipped in plan.skipped]
        logger.info("%d unreadable as before: %s", len(labels), listed(labels))
    unreadable = unreadable_together(plan)
    for together in unreadable[:UNREADABLE_LINES]:
        logger.warning("%s", unreadable_in_words(together))
    if more := sum(map(len, unreadable[UNREADABLE_LINES:])):
        logger.warning("%d more are none either; summary.json lists them", more)
    if plan.gone:
        gone = listed(printable(g.image) for g in plan.gone)
        logger.info("%d not in the input directory any more: %s", len(plan.gone), gone)


def _log_evicted(plan: Plan) -> None:
    if labels := evicted(plan.todo):
        get_run_logger().warning(
            "%d of the %d to caption are in iCloud and not on this Mac: each is fetched when it is "
            "read, which takes time and the network. Download Now in Finder fetches them at once "
            "(%s)",
            len(labels),
            len(plan.todo),
            listed(labels),
        )

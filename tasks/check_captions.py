"""CheckCaptions: what is up to date, and what is to be captioned, and why."""

from collections import defaultdict

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from captioner.planning import plan_work
from captioner.provenance import mend
from captioner.records import Picture, Plan
from captioner.settings import Settings
from captioner.text import listed, printable
from captioner.writing import remove_temporary_files


@task(task_run_name="check_captions", cache_policy=NO_CACHE)
def check_captions(pictures: list[Picture], settings: Settings) -> Plan:
    """What of the pictures is to be done, by what earlier runs left in the output directory.

    Raises:
        OutputError: the directory can be neither read nor written.
    """
    remove_temporary_files(settings.output_dir)
    mend(settings.output_dir)
    plan = plan_work(pictures, settings)
    _log(plan, settings)
    return plan


def _log(plan: Plan, settings: Settings) -> None:
    logger = get_run_logger()
    if plan.up_to_date:
        logger.info("%d caption(s) are up to date", len(plan.up_to_date))
    if plan.edited:
        edited = listed(map(printable, plan.edited))
        if settings.overwrite:
            logger.warning("Captions edited by hand are overwritten: %s", edited)
        else:
            logger.info("Captions edited by hand are kept: %s", edited)
    reasons: dict[str, list[str]] = defaultdict(list)
    for picture in plan.todo:
        reasons[picture.again].append(picture.label)
    for reason, labels in reasons.items():
        if reason:
            logger.info("%d to caption again (%s): %s", len(labels), reason, listed(labels))
    if plan.left:
        logger.info("%d left as they are: only flagged captions are retried", len(plan.left))
    if plan.skipped:
        labels = [skipped.picture.label for skipped in plan.skipped]
        logger.info("%d unreadable as before: %s", len(labels), listed(labels))
    if plan.gone:
        gone = listed(printable(g.image) for g in plan.gone)
        logger.info("%d not in the input directory any more: %s", len(plan.gone), gone)

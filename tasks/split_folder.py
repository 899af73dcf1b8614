"""SplitFolder: what is to be captioned, and into which shards that is split."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from captioner.asking.prompts import Prompts
from captioner.checkpoint.find import known_revision
from captioner.errors import InputError
from captioner.output.gathering import Gathering
from captioner.plan import Plan, Scan
from captioner.records import Recipe
from captioner.run import Run
from captioner.text import counted


@task(task_run_name="split_folder", cache_policy=NO_CACHE)
def split_folder(scan: Scan, run: Run, gathering: Gathering, shards: int) -> Plan:
    """What of the pictures is to be done, by what earlier runs left in the output directory, and
    the shards that it falls to.

    Raises:
        OutputError: the directory can be neither read nor written.
        InputError: another run is at work there, or only so many pictures are asked for.
    """
    if run.settings.limit:
        raise InputError("--limit is for one machine: several caption the whole folder.")
    # which revision of a repository this machine has is no other one's affair
    revision = known_revision(run.settings) if run.settings.model else None
    recipe, prompts = Recipe.of(run.settings, revision), Prompts(run.settings)
    plan = gathering.split(scan, run.settings, recipe, prompts.of, shards)
    logger = get_run_logger()
    if plan.up_to_date:
        up_to_date = counted(len(plan.up_to_date), "caption is", "captions are")
        logger.info("%s up to date", up_to_date)
    left = gathering.left()
    if done := len(plan.todo) - left.total():
        logger.info("%s done by shards that were given out before", counted(done, "picture"))
    if left:
        pictures, parts = counted(left.total(), "picture"), counted(len(left), "shard")
        logger.info("%s to caption in %s", pictures, parts)
    return plan

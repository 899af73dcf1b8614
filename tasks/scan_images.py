"""ScanImages: which pictures there are."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from captioner.pictures.scan import scan
from captioner.plan import Scan
from captioner.run import Run
from captioner.text import printable


@task(task_run_name="scan_images", cache_policy=NO_CACHE)
def scan_images(run: Run) -> Scan:
    """The pictures of the input directory, in natural order.

    Raises:
        InputError: the directory cannot be listed any more.
    """
    found = scan(run.settings.input_dir)
    logger = get_run_logger()
    where = printable(str(run.settings.input_dir))
    logger.info("Found %d image(s) in %s", len(found.pictures), where)
    if found.ignored:
        logger.info("Ignored: %s", found.ignored)
    if not found.pictures:
        logger.warning("There is no PNG, JPG or JPEG file to caption in %s.", where)
    return found

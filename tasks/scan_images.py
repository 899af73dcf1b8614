"""ScanImages: which pictures there are, and where each caption goes."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from captioner.records import Picture
from captioner.scanning import scan
from captioner.settings import Settings
from captioner.text import printable


@task(task_run_name="scan_images", cache_policy=NO_CACHE)
def scan_images(settings: Settings) -> list[Picture]:
    """The pictures of the input directory, in natural order.

    Raises:
        InputError: the directory cannot be listed any more.
    """
    pictures = scan(settings.input_dir)
    logger = get_run_logger()
    where = printable(str(settings.input_dir))
    logger.info("Found %d image(s) in %s", len(pictures), where)
    if not pictures:
        logger.warning("There is no PNG, JPG or JPEG file to caption in %s.", where)
    return pictures

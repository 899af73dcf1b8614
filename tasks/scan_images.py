"""ScanImages: which pictures there are."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from captioner.pictures.ignored import unread_in_words
from captioner.pictures.scan import scan
from captioner.plan import Scan
from captioner.run import Run
from captioner.text import counted, printable


@task(task_run_name="scan_images", cache_policy=NO_CACHE)
def scan_images(run: Run) -> Scan:
    """The pictures of the input directory, in natural order.

    Raises:
        InputError: the directory cannot be listed any more.
    """
    settings, logger = run.settings, get_run_logger()
    found = scan(
        settings.input_dir,
        settings.formats,
        recursive=settings.recursive,
        output_dir=settings.output_dir,
    )
    where = printable(str(settings.input_dir))
    if settings.recursive:
        where += f" and {counted(found.folders, 'folder')} below"
    logger.info("Found %d image(s) in %s", len(found.pictures), where)
    if found.unread:
        logger.warning("%s", unread_in_words(found.unread))
    if found.ignored:
        logger.info("Ignored: %s", found.ignored)
    if not found.pictures:
        logger.warning(
            "There is no %s file to caption in %s%s.",
            settings.format_names,
            where,
            f"; {found.deeper}" if found.deeper else "",
        )
    return found

"""CheckInputDir: the directories can be read from and written to, and what to ask is known."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from captioner.asking.in_full import in_full
from captioner.asking.language import is_installed
from captioner.fields import LANGUAGES
from captioner.output.folder import OutputFolder
from captioner.pictures.kinds import check_formats
from captioner.pictures.scan import check_input
from captioner.run import Run


@task(task_run_name="check_input_dir", cache_policy=NO_CACHE)
def check_input_dir(run: Run, output: OutputFolder) -> None:
    """Check that the input directory can be read, its formats too, and that the output directory
    can be made and written; then the settings are in full, with the preset and the prompts that
    are in files.

    Raises:
        InputError: one of them cannot be used.
    """
    check_input(run.settings.input_dir)
    check_formats(run.settings.formats)
    output.check()
    run.settings = in_full(run.settings)
    logger = get_run_logger()
    logger.info("Output directory: %s", output)
    if (language := run.settings.language) and not is_installed():
        logger.warning(
            "Whether captions are in %s is not checked, since py3langid is not installed: "
            "pip install 'mlx-image-captioning[language]'",
            LANGUAGES[language],
        )

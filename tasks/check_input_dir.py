"""CheckInputDir: the directories can be read from and written to."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from captioner.scanning import check_input, check_output
from captioner.settings import Settings
from captioner.text import printable


@task(task_run_name="check_input_dir", cache_policy=NO_CACHE)
def check_input_dir(settings: Settings) -> None:
    """Check the input directory and that the output directory can be made and written.

    Raises:
        InputError: one of them cannot be used.
    """
    check_input(settings.input_dir)
    check_output(settings.output_dir)
    get_run_logger().info("Output directory: %s", printable(str(settings.output_dir)))

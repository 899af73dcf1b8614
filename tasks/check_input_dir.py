"""CheckInputDir: the directories can be read from and written to."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from captioner.output.folder import OutputFolder
from captioner.pictures.kinds import check_formats
from captioner.pictures.scan import check_input
from captioner.run import Run


@task(task_run_name="check_input_dir", cache_policy=NO_CACHE)
def check_input_dir(run: Run, output: OutputFolder) -> None:
    """Check that the input directory can be read, its formats too, and that the output directory
    can be made and written.

    Raises:
        InputError: one of them cannot be used.
    """
    check_input(run.settings.input_dir)
    check_formats(run.settings.formats)
    output.check()
    get_run_logger().info("Output directory: %s", output)

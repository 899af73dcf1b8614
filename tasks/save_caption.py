"""SaveJSON: the caption file of one picture, whole or not at all."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from captioner.output.folder import OutputFolder
from captioner.records import Caption
from captioner.run import Run
from captioner.text import printable


@task(task_run_name="save {caption.job.picture.label}", cache_policy=NO_CACHE)
def save_caption(caption: Caption, run: Run, output: OutputFolder) -> None:
    """Note what the caption was made from, then write the caption file.

    Raises:
        OutputError: one of the two cannot be written.
    """
    name = output.save(caption, run.recipe)
    get_run_logger().info("✓ Saved caption to %s", printable(name))

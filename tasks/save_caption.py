"""SaveJSON: the caption file of one picture, whole or not at all."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from captioner.provenance import record_caption
from captioner.records import Caption, LoadedModel
from captioner.results import save_caption_file
from captioner.settings import Settings
from captioner.text import printable


@task(task_run_name="save {caption.picture.label}", cache_policy=NO_CACHE)
def save_caption(caption: Caption, model: LoadedModel, settings: Settings) -> None:
    """Note what the caption was made from, then write the caption file.

    Raises:
        OutputError: one of the two cannot be written.
    """
    record_caption(caption, settings, model.checkpoint, settings.output_dir)
    path = save_caption_file(caption, settings.output_dir)
    get_run_logger().info("✓ Saved caption to %s", printable(path.name))

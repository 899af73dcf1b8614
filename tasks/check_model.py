"""CheckModel: is the checkpoint here, and whole?"""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from captioner.checkpoint.find import MissingCheckpoint, find_checkpoint
from captioner.mlx_model import require_mlx_vlm
from captioner.records import Checkpoint
from captioner.settings import Settings


@task(task_run_name="check_model", cache_policy=NO_CACHE)
def check_model(settings: Settings) -> Checkpoint | MissingCheckpoint:
    """The checkpoint in `--model` or in the Hub cache, or what a download has to bring.

    Raises:
        CheckpointError: mlx-vlm is not installed, or the directory cannot be mended by a download.
    """
    require_mlx_vlm()
    checkpoint = find_checkpoint(settings)
    if isinstance(checkpoint, MissingCheckpoint):
        for problem in checkpoint.problems:
            get_run_logger().warning("Model file %s", problem)
    return checkpoint

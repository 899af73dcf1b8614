"""CheckModel: is the checkpoint here, and whole?"""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from captioner.checkpoint.find import MissingCheckpoint, find_checkpoint
from captioner.device.installed import require_mlx
from captioner.records import Checkpoint
from captioner.run import Run


@task(task_run_name="check_model", cache_policy=NO_CACHE)
def check_model(run: Run) -> Checkpoint | MissingCheckpoint:
    """The checkpoint in `--model` or in the Hub cache, or what a download has to bring.

    Raises:
        CheckpointError: MLX or mlx-vlm is missing, or the directory cannot be mended by a download.
    """
    require_mlx()
    checkpoint = find_checkpoint(run.settings)
    if isinstance(checkpoint, MissingCheckpoint):
        for problem in checkpoint.problems:
            get_run_logger().warning("Model file %s", problem)
    return checkpoint

"""DownloadModel: fetch what is missing of the checkpoint. The only state that is retried."""

from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import task_run
from prefect.states import get_state_exception
from prefect.tasks import Task, exponential_backoff

from captioner.checkpoint.download import download
from captioner.checkpoint.find import MissingCheckpoint, find_checkpoint, model_location
from captioner.checkpoint.progress import Received
from captioner.device.model import usable_memory_bytes
from captioner.errors import CheckpointError, DownloadInterrupted
from captioner.records import Checkpoint
from captioner.run import Run
from captioner.text import listed, printable
from tasks.artifacts import moving_progress

RETRIES = 5


def can_pass(task: Task[..., Any], run: TaskRun, state: State) -> bool:
    """Whether the download failed for a reason that may pass."""
    return isinstance(get_state_exception(state), DownloadInterrupted)


@task(
    task_run_name="download_model",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=exponential_backoff(backoff_factor=2),  # 2, 4, 8, 16, 32 seconds
    retry_jitter_factor=0.5,
    retry_condition_fn=can_pass,
)
def download_model(missing: MissingCheckpoint, run: Run) -> Checkpoint:
    """The checkpoint, downloaded from the Hub; keeps the files that an earlier download finished.

    Raises:
        DownloadInterrupted: the download broke off; it is tried again, later and later.
        DownloadError: trying again cannot help.
        CheckpointError: what was downloaded is no whole checkpoint, or does not fit into memory.
    """
    logger, settings = get_run_logger(), run.settings
    attempt = task_run.run_count
    if attempt == 1:
        logger.info(
            "Model files not found at %s. Initiating download for %r.",
            printable(str(model_location(settings))),
            settings.repo_id,
            extra={"plain": True},
        )
    received = Received()
    run.downloading = received.progress
    try:
        progress = moving_progress("model-download", received.progress)
        with progress, received.noting_the_end():
            download(settings.repo_id, missing, received, usable_memory_bytes())
    except DownloadInterrupted as error:
        if attempt <= RETRIES:
            reason, _, _ = str(error).partition(";")
            logger.warning("%s. Trying again (%d of %d).", reason, attempt, RETRIES)
        raise
    finally:
        run.downloading = None
    checkpoint = find_checkpoint(settings)
    if isinstance(checkpoint, MissingCheckpoint):
        raise CheckpointError(
            f"{settings.repo_id} was downloaded, but is not a complete checkpoint "
            f"({listed(checkpoint.problems)}): choose another with --repo-id."
        )
    return checkpoint

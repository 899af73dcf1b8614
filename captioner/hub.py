"""Downloads a checkpoint from the Hugging Face Hub, and says in a sentence why it cannot.

The client resumes what was begun, checks what it gets and honours HF_HOME, HF_HUB_CACHE,
HF_HUB_OFFLINE, HF_TOKEN and HF_ENDPOINT; nothing of that is done here.
"""

import errno
from pathlib import Path

from captioner.checkpoints import MissingCheckpoint
from captioner.errors import (
    CaptionerError,
    CheckpointError,
    DownloadError,
    DownloadInterrupted,
    first_line,
)
from captioner.machine import check_fits
from captioner.records import printable

# Weights, configurations and tokenizers: nothing that could hold code, such as *.py or pickles.
WANTED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken"]
UNWANTED = ["*/*", "consolidated*.safetensors"]
TRANSIENT_STATUS = {408, 425, 429}


def download(repo_id: str, missing: MissingCheckpoint) -> Path:
    """Download what is missing of `repo_id`; returns the directory of the snapshot.

    Raises:
        DownloadInterrupted: a timeout, a broken connection or the server's own trouble.
        DownloadError: trying again cannot help: no such repository, no access, no space.
        CheckpointError: the weights would not fit into this machine's memory.
    """
    from huggingface_hub import HfApi, snapshot_download

    for path in missing.damaged:
        # a file of the Hub cache is a link to its blob, which has to go as well
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    try:
        info = HfApi().model_info(repo_id, files_metadata=True, timeout=30)
        sizes = [f.size or 0 for f in info.siblings or [] if f.rfilename.endswith(".safetensors")]
        check_fits(sum(sizes), repo_id)
        return Path(
            snapshot_download(
                repo_id,
                local_dir=missing.target,
                allow_patterns=WANTED,
                ignore_patterns=UNWANTED,
            )
        )
    except CheckpointError:
        raise
    except Exception as error:
        raise explain(error, repo_id, missing.target) from error


def explain(error: Exception, repo_id: str, target: Path | None) -> CaptionerError:
    """The sentence for what the Hub client raised, as an error that says whether to try again."""
    from huggingface_hub import constants, errors

    where = printable(str(target or constants.HF_HUB_CACHE))
    chain = _causes(error)
    for cause in chain:
        if isinstance(cause, errors.GatedRepoError):
            return DownloadError(
                f"{repo_id} is gated: accept its terms on https://huggingface.co/{repo_id} "
                "and set HF_TOKEN to a token of that account."
            )
        if isinstance(cause, errors.RepositoryNotFoundError):
            return DownloadError(
                f"There is no model {repo_id} on the Hub, or it is private: check --repo-id, "
                "or set HF_TOKEN to a token that may read it."
            )
        if isinstance(cause, errors.OfflineModeIsEnabled):
            return DownloadError(
                f"{repo_id} is not in {where} and HF_HUB_OFFLINE is set: unset it to download "
                "the model, or name a directory that holds it with --model."
            )
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return DownloadError(
                f"No space is left in {where} for {repo_id}: free some, or choose another place "
                "with HF_HOME or --model. What was downloaded is kept."
            )
        if isinstance(cause, PermissionError):
            return DownloadError(f"{where} cannot be written to: check its permissions.")
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status and 400 <= status < 500 and status not in TRANSIENT_STATUS:
            return DownloadError(
                f"The Hub refused {repo_id} with status {status}: check --repo-id and HF_TOKEN."
            )
    return DownloadInterrupted(
        f"The download of {repo_id} broke off ({first_line(chain[-1])}); "
        "start again to go on where it stopped."
    )


def _causes(error: BaseException) -> list[BaseException]:
    """The error, what caused it, what caused that, and so on."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain

"""What the Hub client raises, as a sentence with the next step that says whether to try again.

Knows nothing of how a download goes.
"""

import errno
from collections.abc import Callable
from pathlib import Path

from captioner.errors import CaptionerError, DownloadError, DownloadInterrupted, first_line
from captioner.macos import why_refused
from captioner.text import printable

TRANSIENT_STATUS = {408, 425, 429}


def broken_off(repo_id: str, reason: str) -> DownloadInterrupted:
    """The error for a download that broke off and keeps what it has finished."""
    return DownloadInterrupted(
        f"The download of {repo_id} broke off ({reason}); "
        "start again to go on: the files that are finished are kept."
    )


def not_asked(repo_id: str, reason: str) -> DownloadInterrupted:
    """The error for a Hub that cannot be asked what a download would bring."""
    return DownloadInterrupted(f"the Hub cannot be asked how large {repo_id} is ({reason})")


def explain(
    error: Exception,
    repo_id: str,
    target: Path | None,
    may_pass: Callable[[str, str], DownloadInterrupted] = broken_off,
) -> CaptionerError:
    """The sentence for what the Hub client raised, as an error that says whether to try again.

    `may_pass` makes the error for trouble that may pass, of the repository and the reason.
    """
    from huggingface_hub import errors

    where = place(target)
    chain = _causes(error)
    reason = first_line(chain[-1])
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
        if isinstance(cause, errors.HFValidationError):
            return DownloadError(f"{repo_id} is no name of a model on the Hub: check --repo-id.")
        if isinstance(cause, errors.OfflineModeIsEnabled):
            return DownloadError(
                f"{repo_id} is not complete in {where} and HF_HUB_OFFLINE is set: unset it to "
                "download the model, or name a directory that holds it with --model."
            )
        if isinstance(cause, OSError) and (refusal := _disk_refusal(cause, repo_id, where)):
            return refusal
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status:  # its own sentence quotes an address, perhaps with a signature in it
            reason = f"the Hub answered with status {status}"
        if status and 400 <= status < 500 and status not in TRANSIENT_STATUS:
            return DownloadError(
                f"The Hub refused {repo_id} with status {status}: check --repo-id and HF_TOKEN."
            )
    return may_pass(repo_id, reason)


def _disk_refusal(error: OSError, repo_id: str, where: str) -> DownloadError | None:
    """The sentence for an error of the file system; None for one of the network."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DownloadError(
            f"No space is left in {where} for {repo_id}: free some, or choose another place "
            "with HF_HOME or --model. The files that are finished are kept."
        )
    if error.errno == errno.EFBIG:
        return DownloadError(
            f"{where} cannot hold files as large as those of {repo_id}: "
            "choose another place with HF_HOME or --model."
        )
    if error.errno is not None and error.filename is not None:  # a network error names no file
        return DownloadError(
            f"{where} cannot be written to ({why_refused(error)}): check its permissions, or "
            "choose another place with HF_HOME or --model."
        )
    return None


def _causes(error: BaseException) -> list[BaseException]:
    """The error, what caused it, what caused that, and so on."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain


def place(target: Path | None) -> str:
    """Where a download goes, as text: the directory, or the Hub cache."""
    from huggingface_hub import constants

    return printable(str(target or constants.HF_HUB_CACHE))

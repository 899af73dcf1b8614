"""Downloads a checkpoint from the Hugging Face Hub, and says in a sentence why it cannot.

The client keeps every finished file, goes on within a file when the connection breaks, and honours
HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_TOKEN and HF_ENDPOINT. What it does not do is done here:
it compares no checksums, does not refuse what the disk cannot hold, and may wait for ever. It also
throws an unfinished file away when it gives up.
"""

import errno
import hashlib
import logging
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from captioner.checkpoint.inspect import MissingCheckpoint, storage
from captioner.checkpoint.memory import check_fits
from captioner.checkpoint.progress import counting_bar
from captioner.errors import CaptionerError, DownloadError, DownloadInterrupted, first_line
from captioner.progress import Received
from captioner.text import gigabytes, listed, printable

# Weights, configurations and tokenizers: nothing that could hold code, such as *.py or pickles.
WANTED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken"]
UNWANTED = ["*/*", "consolidated*.safetensors"]
AT_ONCE = 4  # files; the client's 8 would lose twice as much when a download is broken off
TRANSIENT_STATUS = {408, 425, 429}

logger = logging.getLogger(__name__)


def download(repo_id: str, missing: MissingCheckpoint, received: Received | None = None) -> Path:
    """Download what is missing of `repo_id`; returns the directory of the snapshot.

    Every file in it has the checksum that the Hub gives for it. `received` counts the bytes while
    they come in.

    Raises:
        DownloadInterrupted: a timeout, a broken connection or the server's own trouble.
        DownloadError: trying again cannot help: no such repository, no access, no space.
        CheckpointError: the weights would not fit into this machine's memory.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    received = received or Received()
    try:
        _bound_waiting()
        info = HfApi().model_info(
            repo_id, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
        )
        files = {f.rfilename: f for f in info.siblings or [] if _is_wanted(f.rfilename)}
        weights = [file.size or 0 for name, file in files.items() if name.endswith(".safetensors")]
        check_fits(sum(weights), repo_id)
        for path in missing.damaged:
            # unless an attempt before this one has replaced it
            if path.name not in files or not _is_sound(path, files[path.name]):
                _discard(path, missing.target)
        received.total = sum(file.size or 0 for file in files.values())
        needed = _bytes_needed(repo_id, list(files.values()), missing.target)
        received.present = received.total - needed
        _check_space(repo_id, needed, missing.target)
        directory = Path(
            snapshot_download(
                repo_id,
                local_dir=missing.target,
                allow_patterns=WANTED,
                ignore_patterns=UNWANTED,
                max_workers=AT_ONCE,
                tqdm_class=counting_bar(received),
            )
        )
        _verify(repo_id, directory, files, missing.target)
        return directory
    except CaptionerError:
        raise
    except Exception as error:
        raise explain(error, repo_id, missing.target) from error


def explain(error: Exception, repo_id: str, target: Path | None) -> CaptionerError:
    """The sentence for what the Hub client raised, as an error that says whether to try again."""
    from huggingface_hub import errors

    where = _place(target)
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
    return _broken_off(repo_id, reason)


def _broken_off(repo_id: str, reason: str) -> DownloadInterrupted:
    return DownloadInterrupted(
        f"The download of {repo_id} broke off ({reason}); "
        "start again to go on: the files that are finished are kept."
    )


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
            f"{where} cannot be written to ({error.strerror}): check its permissions, or choose "
            "another place with HF_HOME or --model."
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


def _is_wanted(name: str) -> bool:
    """Whether `snapshot_download` fetches the file, by its own rule."""
    chosen = any(fnmatch(name, pattern) for pattern in WANTED)
    return chosen and not any(fnmatch(name, pattern) for pattern in UNWANTED)


def _place(target: Path | None) -> str:
    from huggingface_hub import constants

    return printable(str(target or constants.HF_HUB_CACHE))


def _bound_waiting() -> None:
    """Give a time limit to the client's requests that have none, such as the list of files."""
    from huggingface_hub import get_session

    hooks = get_session().event_hooks["request"]
    if _limit not in hooks:
        hooks.append(_limit)


def _limit(request: Any) -> None:
    # the client asks for a file's ETag six times with a minute each: that is for nobody to wait
    from huggingface_hub import constants

    longest = max(constants.HF_HUB_ETAG_TIMEOUT, constants.HF_HUB_DOWNLOAD_TIMEOUT)
    limits = request.extensions.get("timeout") or {}
    request.extensions["timeout"] = {
        kind: min(limits.get(kind) or longest, longest)
        for kind in ("connect", "read", "write", "pool")
    }


def _bytes_needed(repo_id: str, files: list[Any], target: Path | None) -> int:
    """How much of the files is still to be downloaded."""
    if target:
        present = [target.expanduser() / file.rfilename for file in files]
    else:
        blobs = storage(repo_id) / "blobs"
        present = [blobs / (_checksum(file) or "unknown") for file in files]
    return sum(
        file.size or 0 for file, path in zip(files, present, strict=True) if not path.is_file()
    )


def _check_space(repo_id: str, needed: int, target: Path | None) -> None:
    """Refuse a download that the disk cannot hold, before hours are spent on it.

    Raises:
        DownloadError: fewer bytes are free than are needed.
    """
    directory = target.expanduser() if target else storage(repo_id)
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    total, _, free = shutil.disk_usage(existing)
    if needed > free and total:  # some file systems tell nothing
        raise DownloadError(
            f"{repo_id} needs {gigabytes(needed)} more and {_place(target)} has {gigabytes(free)} "
            "free: free some, or choose another place with HF_HOME or --model."
        )


def _verify(repo_id: str, directory: Path, files: dict[str, Any], target: Path | None) -> None:
    """Compare every file with the Hub's checksum, which the client does not; drop what differs.

    Raises:
        DownloadInterrupted: a file is missing, or is not what the Hub has.
    """
    logger.info("Comparing %d files of %s with the Hub's checksums", len(files), repo_id)
    absent = [name for name in files if not (directory / name).exists()]
    if absent:  # the client takes what is there for enough when the list of files does not come
        raise _broken_off(repo_id, f"without {listed(map(printable, absent))}")
    wrong = [name for name, file in files.items() if not _is_sound(directory / name, file)]
    for name in wrong:
        _discard(directory / name, target)
    if wrong:
        raise DownloadInterrupted(
            f"The download of {repo_id} brought damaged files, which were thrown away "
            f"({listed(map(printable, wrong))}); start again to download them anew."
        )


def _checksum(file: Any) -> str | None:
    """The SHA-256 of a large file, the hash of git's blob of a small one; the ETag of both."""
    checksum: str | None = file.lfs.sha256 if file.lfs else file.blob_id
    return checksum


def _is_sound(path: Path, file: Any) -> bool:
    """Whether the file on disk has the checksum that the Hub gives for it."""
    expected = _checksum(file)
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        if file.lfs:
            return hashlib.file_digest(stream, "sha256").hexdigest() == expected
        content = stream.read()
    blob = b"blob %d\0%b" % (len(content), content)
    return expected in (None, hashlib.sha1(blob, usedforsecurity=False).hexdigest())


def _discard(path: Path, target: Path | None) -> None:
    """Remove a file, so that the client fetches it again."""
    if target is None:  # a file of the Hub cache is a link to its blob, which has to go as well
        path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)

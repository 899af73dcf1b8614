"""Downloads a checkpoint from the Hugging Face Hub, and compares it with the Hub's checksums.

The Hub client lists the files, knows which of them are here, fetches the others, goes on within a
file when the connection breaks, compares checksums, and honours HF_HOME, HF_HUB_CACHE,
HF_HUB_OFFLINE, HF_TOKEN and HF_ENDPOINT. What it lacks is done here: it does not verify what it
downloads unless it is asked to, keeps a damaged file, only warns when the disk is too small, and
may wait for ever. It also throws an unfinished file away when it gives up.

Knows nothing of retries, or of where a progress is shown.
"""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.checkpoint.failures import broken_off, explain, not_asked, place
from captioner.checkpoint.find import MissingCheckpoint
from captioner.checkpoint.inspect import inspect
from captioner.checkpoint.memory import check_fits
from captioner.checkpoint.progress import Received, counting_bar, hidden_bar
from captioner.errors import CaptionerError, CheckpointError, DownloadError, DownloadInterrupted
from captioner.text import gigabytes, listed, printable

if TYPE_CHECKING:
    from huggingface_hub import DryRunFileInfo

# Weights, configurations and tokenizers: nothing that could hold code, such as *.py or pickles.
WANTED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken"]
UNWANTED = ["*/*", "consolidated*.safetensors"]
AT_ONCE = 4  # files; the client's 8 would lose twice as much when a download is broken off

logger = logging.getLogger(__name__)


def download(
    repo_id: str,
    missing: MissingCheckpoint,
    received: Received | None = None,
    usable: int | None = None,
) -> Path:
    """Download what is missing of `repo_id`; returns the directory of the snapshot.

    Every file in it has the checksum that the Hub gives for it. `received` counts the bytes while
    they come in; `usable` is what a model may take of the memory, where that is not all of it.

    Raises:
        DownloadInterrupted: a timeout, a broken connection or the server's own trouble.
        DownloadError: trying again cannot help: no such repository, no access, no space.
        CheckpointError: there are no files of a checkpoint, or its weights would not fit into this
            machine's memory.
    """
    received = received or Received()
    try:
        _bound_waiting()
        files = _wanted_files(repo_id, missing.target)
        if _drop_damaged(missing):
            files = _wanted_files(repo_id, missing.target)
        if not files:
            raise CheckpointError(f"{repo_id} holds no checkpoint: choose another with --repo-id.")
        weights = [file for file in files if file.filename.endswith(".safetensors")]
        check_fits(_bytes(weights), repo_id, usable)
        needed = _bytes([file for file in files if file.will_download])
        received.total = _bytes(files)
        received.present = received.total - needed
        _check_space(repo_id, needed, missing.target)
        directory = _fetch(repo_id, missing.target, received)
        _verify(repo_id, directory, files, missing.target)
        return directory
    except CaptionerError:
        raise
    except Exception as error:
        raise explain(error, repo_id, missing.target) from error


@dataclass(frozen=True, slots=True)
class Offer:
    """What a download would bring."""

    weight_bytes: int  # of all weights, whether they are here or not
    to_fetch: int  # bytes of all files that are not here


def offered(repo_id: str, target: Path | None) -> Offer:
    """What a download into the Hub cache, or into `target`, would bring; writes nothing.

    Raises:
        DownloadInterrupted: the Hub cannot be asked just now.
        DownloadError: there is no such repository, or no access to it.
    """
    from huggingface_hub import HfApi, errors

    try:
        _bound_waiting()
        # by the commit, and for the cache: else the client notes what it found out
        files = _wanted_files(repo_id, None, HfApi().model_info(repo_id).sha)
    except errors.OfflineModeIsEnabled as error:
        raise not_asked(repo_id, "HF_HUB_OFFLINE is set") from error
    except Exception as error:
        raise explain(error, repo_id, target, not_asked) from error
    weights = [file for file in files if file.filename.endswith(".safetensors")]
    absent = [file for file in files if _is_absent(file, target)]
    return Offer(_bytes(weights), _bytes(absent))


def _is_absent(file: "DryRunFileInfo", target: Path | None) -> bool:
    if target is None:
        return file.will_download
    path = target / file.filename
    return not path.is_file() or path.stat().st_size != file.file_size


def free_bytes(target: Path | None) -> int | None:
    """How many bytes are free where a download goes; None when the file system does not tell."""
    from huggingface_hub import constants

    directory = target or Path(constants.HF_HUB_CACHE)
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    total, _, free = shutil.disk_usage(existing)
    return free if total else None


def _wanted_files(
    repo_id: str, target: Path | None, commit: str | None = None
) -> "list[DryRunFileInfo]":
    """The files that a download would bring or find here; raises when the Hub does not answer."""
    from huggingface_hub import snapshot_download

    files: list[DryRunFileInfo] = snapshot_download(
        repo_id, revision=commit, dry_run=True, tqdm_class=hidden_bar(), **_choice(target)
    )
    return files


def _fetch(repo_id: str, target: Path | None, received: Received) -> Path:
    from huggingface_hub import snapshot_download

    bar = counting_bar(received)
    return Path(snapshot_download(repo_id, tqdm_class=bar, **_choice(target)))


def _choice(target: Path | None) -> dict[str, Any]:
    return {
        "local_dir": target,
        "allow_patterns": WANTED,
        "ignore_patterns": UNWANTED,
        "max_workers": AT_ONCE,
    }


def _bytes(files: "list[DryRunFileInfo]") -> int:
    return sum(file.file_size or 0 for file in files)


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


def _drop_damaged(missing: MissingCheckpoint) -> bool:
    """Remove what was found damaged, unless an attempt before this one has replaced it."""
    dropped = False
    for path in missing.damaged:
        if path.name in {problem.file for problem in inspect(path.parent) if problem.damaged}:
            _discard(path, missing.target)
            dropped = True
    return dropped


def _check_space(repo_id: str, needed: int, target: Path | None) -> None:
    """Refuse a download that the disk cannot hold, before hours are spent on it.

    Raises:
        DownloadError: fewer bytes are free than are needed.
    """
    free = free_bytes(target)
    if free is not None and needed > free:
        raise DownloadError(
            f"{repo_id} needs {gigabytes(needed)} more and {place(target)} has {gigabytes(free)} "
            "free: free some, or choose another place with HF_HOME or --model."
        )


def _verify(
    repo_id: str, directory: Path, files: "list[DryRunFileInfo]", target: Path | None
) -> None:
    """Let the client compare the files with the Hub's checksums; drop what differs.

    Raises:
        DownloadInterrupted: a file is missing, or is not what the Hub has.
    """
    from huggingface_hub import HfApi

    logger.info("Comparing %d files of %s with the Hub's checksums", len(files), repo_id)
    found = HfApi().verify_repo_checksums(
        repo_id, revision=files[0].commit_hash, local_dir=directory
    )
    wanted = {file.filename for file in files}  # of all that the repository has
    absent = [name for name in found.missing_paths if name in wanted]
    if absent:  # the client takes what is there for enough when the Hub stops answering
        raise broken_off(repo_id, f"without {listed(map(printable, absent))}")
    wrong = [differing["path"] for differing in found.mismatches if differing["path"] in wanted]
    for name in wrong:
        _discard(directory / name, target)
    if wrong:
        raise DownloadInterrupted(
            f"The download of {repo_id} brought damaged files, which were thrown away "
            f"({listed(map(printable, wrong))}); start again to download them anew."
        )


def _discard(path: Path, target: Path | None) -> None:
    """Remove a file, so that the client fetches it again.

    The client's own `HFCacheInfo.delete_files` cannot: it passes over a repository in which a link
    is broken. Source of the cache's layout: https://huggingface.co/docs/hub/local-cache
    """
    blob = path.resolve()
    # a file of the Hub cache is a link to its blob, which has to go as well; nothing outside goes
    if target is None and blob.is_relative_to(path.parents[2].resolve()):
        blob.unlink(missing_ok=True)
    path.unlink(missing_ok=True)

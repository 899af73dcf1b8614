"""Where the checkpoint of the settings is, and whether it can be loaded from there.

Knows nothing of MLX, and asks nobody: a checkpoint that is here is found without a network. The
Hub's cache is looked into by the Hub client. What the client does not know is whether a checkpoint
can be loaded: it takes for complete what has all the files of its list, whatever is in them, and
everything when it has no list. It also follows a reference that leads out of the cache.
"""

from dataclasses import dataclass
from pathlib import Path

from captioner.checkpoint.bounds import check_bounds
from captioner.checkpoint.files import check_files
from captioner.checkpoint.fingerprint import checkpoint_fingerprint
from captioner.checkpoint.inspect import inspect, refuse_code, tensor_count, weight_bytes
from captioner.errors import CheckpointError
from captioner.macos import why_refused
from captioner.records import Checkpoint
from captioner.settings import Settings
from captioner.text import listed, printable


@dataclass(frozen=True, slots=True)
class MissingCheckpoint:
    """A checkpoint that has to be downloaded before it can be loaded."""

    target: Path | None  # the directory to download into; None for the Hub cache
    problems: tuple[str, ...]  # each file that is missing or damaged, and how
    damaged: tuple[Path, ...]  # the files that a download has to replace


def find_checkpoint(settings: Settings) -> Checkpoint | MissingCheckpoint:
    """The checkpoint that the settings name, when it is whole; otherwise what is wrong with it.

    Raises:
        CheckpointError: `--model` names a directory that is not there while nobody named a
            repository for it, or one that is damaged and was not begun by a download of ours; the
            checkpoint carries code or absurd numbers, or it cannot be read.
    """
    directory = settings.model
    try:
        directory = directory or _snapshot(settings.repo_id)
        if directory is None or not directory.exists():
            if settings.model and not settings.may_download_into_model:
                raise CheckpointError(
                    f"--model {printable(str(settings.model))} does not exist: check the path. "
                    "To download a model into it, name its repository with --repo-id, "
                    "or make an empty directory there."
                )
            return MissingCheckpoint(settings.model, (), ())
        return _examine(directory.absolute(), settings)
    except OSError as error:
        raise CheckpointError(
            f"{printable(str(error.filename or directory))} cannot be read ({why_refused(error)}): "
            "check its permissions, or name another directory with --model."
        ) from error


def _examine(directory: Path, settings: Settings) -> Checkpoint | MissingCheckpoint:
    shown = printable(str(directory))
    if not directory.is_dir():
        raise CheckpointError(f"--model {shown} is not a directory; name one with the weights.")
    check_files(directory)
    problems = inspect(directory)
    if not problems:
        refuse_code(directory, cached=settings.model is None)
        check_bounds(directory, tensor_count(directory))
        # a snapshot directory of the Hub cache is named by its commit
        revision = checkpoint_fingerprint(directory) if settings.model else directory.name
        repo_id = None if settings.model else settings.repo_id
        return Checkpoint(directory, repo_id, revision, weight_bytes(directory))
    if settings.model and any(directory.iterdir()) and not _begun_by_a_download(directory):
        raise CheckpointError(
            f"The model in {shown} is not complete "
            f"({listed(map(str, problems))}). Mend it, or name an empty directory to download into."
        )
    damaged = tuple(directory / problem.file for problem in problems if problem.damaged)
    return MissingCheckpoint(settings.model, tuple(map(str, problems)), damaged)


def known_revision(settings: Settings) -> str | None:
    """The revision of the checkpoint that the settings name; None when it is not here.

    Looks at no more than that takes, so a run that has nothing to do needs no whole checkpoint.

    Raises:
        CheckpointError: no repository can have that name.
    """
    try:
        if settings.model is None:
            return _cached_revision(settings.repo_id)
        directory = settings.model
        return checkpoint_fingerprint(directory) if (directory / "config.json").is_file() else None
    except OSError:
        return None


def model_location(settings: Settings) -> Path:
    """Where the checkpoint is looked for: `--model`, or the repository's place in the Hub cache.

    Source of the latter: https://huggingface.co/docs/hub/local-cache
    """
    from huggingface_hub import constants

    folder = "models--" + settings.repo_id.replace("/", "--")
    return settings.model or Path(constants.HF_HUB_CACHE) / folder


def _snapshot(repo_id: str) -> Path | None:
    """The newest snapshot of the repository's main branch in the Hub cache, whole or not."""
    from huggingface_hub import errors, snapshot_download

    try:
        directory = Path(snapshot_download(repo_id, local_files_only=True))
    except errors.IncompleteSnapshotError as error:
        directory = Path(error.snapshot_path)
    except errors.HFValidationError as error:
        raise _impossible(repo_id) from error
    except (errors.LocalEntryNotFoundError, UnicodeDecodeError):  # none, or a garbled reference
        return None
    return directory if directory.parent.name == "snapshots" else None


def _cached_revision(repo_id: str) -> str | None:
    """The commit of the main branch that the Hub cache has a configuration of."""
    # imported in a third of the time that `snapshot_download` takes
    from huggingface_hub import errors, try_to_load_from_cache

    try:
        config = try_to_load_from_cache(repo_id, "config.json")
    except errors.HFValidationError as error:
        raise _impossible(repo_id) from error
    except UnicodeDecodeError:
        return None
    return Path(config).parent.name if isinstance(config, str) else None


def _impossible(repo_id: str) -> CheckpointError:
    return CheckpointError(f"{repo_id} is no name of a model on the Hub: check --repo-id.")


def _begun_by_a_download(directory: Path) -> bool:
    # where `snapshot_download(local_dir=...)` keeps its notes, by its docstring
    return (directory / ".cache" / "huggingface").is_dir()

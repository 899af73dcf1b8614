"""Whether the model of a run is here, how large it is, and what a download would bring.

Reads headers, asks the Hub when a download is necessary, and knows nothing of pictures.
"""

from dataclasses import dataclass
from pathlib import Path

from captioner.checkpoint.download import free_bytes, offered
from captioner.checkpoint.find import MissingCheckpoint, find_checkpoint, model_location
from captioner.errors import DownloadInterrupted
from captioner.settings import Settings


@dataclass(frozen=True, slots=True)
class Download:
    """What has to be fetched before a model can be loaded."""

    to_fetch: int  # bytes
    free: int | None  # bytes, where it goes; None when nobody knows


@dataclass(frozen=True, slots=True)
class Model:
    """The model that a run would caption with."""

    repo_id: str | None  # None when it is a directory named with --model
    place: Path  # where it is, or would be
    directory: Path | None  # None when it is not here as a whole
    weight_bytes: int | None = None  # None when nobody can be asked
    download: Download | None = None
    not_asked: str = ""  # why nobody could be asked


def model_of(settings: Settings) -> Model:
    """The model that the settings name.

    Raises:
        CheckpointError: it cannot be used, and no download mends it.
        DownloadError: it has to be downloaded, and cannot be.
    """
    found, place = find_checkpoint(settings), model_location(settings)
    if not isinstance(found, MissingCheckpoint):
        return Model(found.repo_id, place, found.directory, found.weight_bytes)
    try:
        offer = offered(settings.repo_id, found.target)
    except DownloadInterrupted as error:
        return Model(settings.repo_id, place, None, not_asked=str(error))
    download = Download(offer.to_fetch, free_bytes(found.target))
    return Model(settings.repo_id, place, None, offer.weight_bytes, download)

"""ValidateImage: a picture that cannot be decoded is skipped, with the reason."""

from dataclasses import replace

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, StateType

from captioner.fingerprints import stamp_of
from captioner.image_files import UnreadableImage
from captioner.images import check_image
from captioner.provenance import record_skipped
from captioner.records import Picture, Skipped, Stamp
from captioner.settings import Settings


@task(task_run_name="validate {picture.label}", cache_policy=NO_CACHE)
def validate_image(picture: Picture, settings: Settings) -> Picture | State[Skipped]:
    """The picture with its size when all of it can be decoded; otherwise a `Skipped`, in a state
    of that name.

    Raises:
        OutputError: it cannot be noted that the picture is skipped.
    """
    picture = replace(picture, source=_stamp(picture))
    try:
        return replace(picture, size=check_image(picture.path))
    except UnreadableImage as error:
        skipped = Skipped(picture, str(error))
    get_run_logger().warning(
        "[%d/%d] Skipped %s: %s", picture.number, picture.total, picture.label, skipped.reason
    )
    record_skipped(skipped, settings.output_dir)
    # the UI chooses the colour by the type, and Completed would be as green as a caption
    return State(type=StateType.CANCELLED, name="Skipped", message=skipped.reason, data=skipped)


def _stamp(picture: Picture) -> Stamp | None:
    try:
        return stamp_of(picture.path)
    except OSError:  # gone, or not ours to read: perhaps not the next time
        return None

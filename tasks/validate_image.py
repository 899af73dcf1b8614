"""ValidateImage: a picture that cannot be decoded is skipped, with the reason."""

from dataclasses import replace

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, StateType

from captioner.image_files import UnreadableImage
from captioner.images import check_image
from captioner.records import Picture, Skipped


@task(task_run_name="validate {picture.label}", cache_policy=NO_CACHE)
def validate_image(picture: Picture) -> Picture | State[Skipped]:
    """The picture with its size when all of it can be decoded; otherwise a `Skipped`, in a state
    of that name."""
    try:
        return replace(picture, size=check_image(picture.path))
    except UnreadableImage as error:
        get_run_logger().warning(
            "[%d/%d] Skipped %s: %s", picture.number, picture.total, picture.label, error
        )
        # the UI chooses the colour by the type, and Completed would be as green as a caption
        return State(
            type=StateType.CANCELLED,
            name="Skipped",
            message=str(error),
            data=Skipped(picture, str(error)),
        )

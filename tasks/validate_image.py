"""ValidateImage: a picture is read and decoded; what cannot be is skipped, with the reason."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, StateType

from captioner.errors import CaptionError
from captioner.output.folder import OutputFolder
from captioner.pictures.reading import Valid, validate
from captioner.pictures.scan import check_still_there
from captioner.records import Job, Skipped
from captioner.run import Run


@task(task_run_name="validate {job.picture.label}", cache_policy=NO_CACHE)
def validate_image(
    job: Job, run: Run, output: OutputFolder, thumbnail: bool
) -> Valid | State[Skipped]:
    """The picture with its pixels when all of it can be decoded; otherwise a `Skipped`, in a state
    of that name. With a `thumbnail` for the gallery, where one is wanted.

    Raises:
        InputGone: the whole input directory has gone.
        CaptionError: the machine cannot read the picture now; nothing is noted of it.
        OutputError: it cannot be noted that the picture is skipped.
    """
    settings = run.settings
    look = settings.formats, settings.max_pixels, settings.background
    try:
        result = validate(job, *look, thumbnail=thumbnail)
    except CaptionError as error:
        check_still_there(run.scan, settings.input_dir)
        raise CaptionError(
            f"No caption for {job.picture.label}: {error}; the next run tries again"
        ) from error
    if isinstance(result, Valid):
        return result
    check_still_there(run.scan, settings.input_dir)
    output.skip(result)
    # the UI chooses the colour by the type, and Completed would be as green as a caption
    return State(type=StateType.CANCELLED, name="Skipped", message=result.reason, data=result)

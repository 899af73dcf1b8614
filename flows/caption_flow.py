"""The state machine: caption every picture of a directory with a local MLX model.

    CheckInputDir → ScanImages → CheckCaptions
        → CheckModel → (DownloadModel) → LoadModel
        → for each picture that is not up to date: ValidateImage → GenerateCaption → SaveJSON
        → WriteSummary

`python flows/caption_flow.py` runs it here; `prefect.yaml` deploys it.
"""

if __name__ == "__main__":
    # Before anything slow is imported: --help and a wrong flag answer at once.
    from flows.terminal import begin

    COMMAND = begin()

import time

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from captioner import devices
from captioner.checkpoint.find import MissingCheckpoint
from captioner.errors import CaptionerError
from captioner.locking import locked
from captioner.records import Outcome, Plan
from captioner.settings import (
    AgainSettings,
    DecodingSettings,
    DeviceSettings,
    FolderSettings,
    ModelSettings,
    PromptSettings,
    Settings,
)
from captioner.text import printable
from flows.forgetting import forget_all
from flows.plain_errors import plain_errors
from flows.processing import INTERRUPTS, MAX_WORKERS, process_images, whole
from flows.run_page import captioning_progress, name_run
from tasks.check_captions import check_captions
from tasks.check_input_dir import check_input_dir
from tasks.check_model import check_model
from tasks.download_model import download_model
from tasks.load_model import load_model
from tasks.scan_images import scan_images
from tasks.write_summary import write_summary


@flow(
    name="caption-images",
    task_runner=ThreadPoolTaskRunner(max_workers=MAX_WORKERS),  # type: ignore[arg-type]
)
def caption_flow(
    folders: FolderSettings = FolderSettings(),
    again: AgainSettings = AgainSettings(),
    prompts: PromptSettings = PromptSettings(),
    decoding: DecodingSettings = DecodingSettings(),
    model: ModelSettings = ModelSettings(),
    device: DeviceSettings = DeviceSettings(),
) -> State:
    """Caption every PNG, JPG and JPEG of a directory with a local MLX vision-language model.

    Completed when every readable picture has its caption, Failed when one has none or when the
    run cannot start, Cancelled when it was interrupted; the state's message says which.
    """
    settings = Settings.of(folders, again, prompts, decoding, model, device)
    began = time.perf_counter()
    outcome = Outcome(Plan([]))
    with plain_errors():
        try:
            check_input_dir(settings)
            pictures = scan_images(settings)
            name_run(settings, pictures)
            if not pictures:
                where = printable(str(settings.input_dir))
                return Completed(message=f"No PNG, JPG or JPEG files in {where}")
            with locked(settings.output_dir):
                outcome = Outcome(check_captions(whole(pictures), settings))
                forget_all()
                if outcome.plan.todo:
                    caption_pictures(outcome, settings, began)
                else:
                    write_summary(whole(outcome), settings, None, began, began)
        except CaptionerError as error:
            return Failed(message=str(error), data=error)
        except INTERRUPTS:
            outcome.interrupted = True
    if outcome.interrupted:
        counts = outcome.counts() if outcome.captioned else "before the first caption"
        return Cancelled(message=f"Interrupted: {counts}")
    if outcome.failures:
        return Failed(message=outcome.counts())
    return Completed(message=outcome.counts())


def caption_pictures(outcome: Outcome, settings: Settings, began: float) -> None:
    """The states from CheckModel on: only a run that has something to do gets here.

    Raises:
        CaptionerError: the run cannot go on.
    """
    checkpoint = check_model(settings)
    if isinstance(checkpoint, MissingCheckpoint):
        checkpoint = download_model(settings, checkpoint)
    model = load_model(checkpoint, settings)
    loaded = time.perf_counter()
    with devices.released(model):
        with captioning_progress(outcome):
            process_images(outcome, model, settings)
        write_summary(whole(outcome), settings, model, began, loaded)


if __name__ == "__main__":
    from flows.terminal import run

    raise SystemExit(run(caption_flow, COMMAND))

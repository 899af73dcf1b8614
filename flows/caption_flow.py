"""The state machine: caption every picture of a directory with a local MLX model.

    CheckInputDir → ScanImages → CheckModel → (DownloadModel) → LoadModel
        → for each picture: ValidateImage → GenerateCaption → SaveJSON
        → WriteSummary

`python flows/caption_flow.py` runs it here; `prefect.yaml` deploys it.
"""

if __name__ == "__main__":
    # Before anything slow is imported: --help and a wrong flag answer at once.
    from flows.terminal import begin

    COMMAND = begin()

import time
from typing import cast

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.annotations import quote

from captioner import devices
from captioner.checkpoints import MissingCheckpoint
from captioner.errors import CaptionerError
from captioner.records import Outcome, printable
from captioner.settings import DEFAULTS, Settings
from flows.plain_errors import plain_errors
from flows.processing import MAX_WORKERS, process_images
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
def caption_flow(settings: Settings = DEFAULTS) -> State:
    """Caption every PNG, JPG and JPEG of a directory with a local MLX vision-language model.

    Completed when every readable picture has its caption, Failed when one has none or when the
    run cannot start, Cancelled when it was interrupted; the state's message says which.
    """
    began = time.perf_counter()
    with plain_errors():
        try:
            check_input_dir(settings)
            pictures = scan_images(settings)
            if not pictures:
                where = printable(str(settings.input_dir))
                return Completed(message=f"No PNG, JPG or JPEG files in {where}")
            checkpoint = check_model(settings)
            if isinstance(checkpoint, MissingCheckpoint):
                checkpoint = download_model(settings, checkpoint)
            model = load_model(checkpoint, settings)
            loaded = time.perf_counter()
            outcome = Outcome(pictures)
            with devices.released(model):
                process_images(outcome, model, settings)
                # quoted: Prefect would walk through every picture in it
                write_summary(cast(Outcome, quote(outcome)), settings, model, began, loaded)
        except CaptionerError as error:
            return Failed(message=str(error), data=error)
    if outcome.interrupted:
        return Cancelled(message=f"Interrupted: {outcome.counts()}")
    if outcome.failures:
        return Failed(message=outcome.counts())
    return Completed(message=outcome.counts())


if __name__ == "__main__":
    from flows.terminal import run

    raise SystemExit(run(caption_flow, COMMAND))

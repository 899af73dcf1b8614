"""The state machine: caption every picture of a directory with a local MLX model.

CheckInputDir → ScanImages → CheckCaptions
    → CheckModel → (DownloadModel) → LoadModel
    → for each picture that is not up to date: ValidateImage → GenerateCaption → SaveJSON
    → WriteSummary
"""

if __name__ == "__main__":
    import sys

    sys.path.insert(0, __file__.rsplit("/", 2)[0])  # also where the project is not installed
    from flows.hosting.terminal import begin  # first: --help and a wrong flag answer at once

    COMMAND = begin()

from prefect import State, flow

from captioner import groups as given
from captioner.checkpoint.find import MissingCheckpoint
from captioner.macos import kept_awake
from captioner.output.folder import OutputFolder
from captioner.run import Run
from flows.asked import asked
from flows.endings import ending_noted, interrupts_deferred, state_of
from flows.hosting.log_lines import plain_errors
from flows.processing import THREADS, process_images
from flows.run_page import captioning_progress, count_in_name, named
from tasks.check_captions import check_captions
from tasks.check_input_dir import check_input_dir
from tasks.check_model import check_model
from tasks.download_model import download_model
from tasks.load_model import load_model
from tasks.scan_images import scan_images
from tasks.write_summary import write_summary


@flow(name="caption-images", task_runner=THREADS)
def caption_flow(
    folders: given.FolderSettings = given.FolderSettings(),
    again: given.AgainSettings = given.AgainSettings(),
    prompts: given.PromptSettings = given.PromptSettings(),
    decoding: given.DecodingSettings = given.DecodingSettings(),
    model: given.ModelSettings = given.ModelSettings(),
    pictures: given.PictureSettings = given.PictureSettings(),
    device: given.DeviceSettings = given.DeviceSettings(),
    results: given.ResultSettings = given.ResultSettings(),
) -> State:
    """Caption every PNG, JPG and JPEG of a directory with a local MLX vision-language model."""
    run = Run.begin(asked(folders, again, prompts, decoding, model, pictures, device, results))
    output = OutputFolder(run.settings.output_dir, run.settings.shard)
    with plain_errors(), ending_noted(run), named(run), kept_awake(run.settings.keep_awake):
        check_input_dir(run, output)
        run.scan = scan_images(run)
        count_in_name(run)
        if run.scan.pictures:
            with output:
                run.plan = check_captions(run.scan, run, output)
                if run.plan.todo:
                    caption_pictures(run, output)
                with interrupts_deferred():
                    write_summary(run, output)
    return state_of(run)


def caption_pictures(run: Run, output: OutputFolder) -> None:
    """The states from CheckModel on: only a run that has something to do gets here."""
    checkpoint = check_model(run)
    if isinstance(checkpoint, MissingCheckpoint):
        checkpoint = download_model(checkpoint, run)
    device = load_model(checkpoint, run)
    with device, captioning_progress(run):
        process_images(run, device, output)


if __name__ == "__main__":
    from flows.hosting.terminal import run as run_here

    raise SystemExit(run_here(caption_flow, COMMAND))

"""One folder, captioned by several machines: the state machine of the one that gives out shards.

CheckInputDir → ScanImages → SplitFolder
    → for each shard that has something to do: a run of the deployment `caption-images/shard`
    → WriteSummary → MergeShards
"""

from prefect import State, flow

from captioner import groups as given
from captioner.asking.in_full import with_texts
from captioner.macos import kept_awake
from captioner.output.folder import OutputFolder
from captioner.output.gathering import Gathering
from captioner.run import Run
from captioner.settings import FleetSettings
from flows.asked import asked
from flows.dispatching import SHARDS_A_WORKER, caption_shards
from flows.endings import ending_noted, interrupts_deferred, state_of
from flows.hosting.log_lines import plain_errors
from flows.run_page import captioning_progress, count_in_name, named
from flows.workers import online_workers
from tasks.check_input_dir import check_input_dir
from tasks.merge_shards import merge_shards
from tasks.scan_images import scan_images
from tasks.split_folder import split_folder
from tasks.write_summary import write_summary


@flow(name="caption-fleet")
def fleet_flow(
    folders: given.FolderSettings = given.FolderSettings(),
    again: given.AgainSettings = given.AgainSettings(),
    prompts: given.PromptSettings = given.PromptSettings(),
    decoding: given.DecodingSettings = given.DecodingSettings(),
    model: given.ModelSettings = given.ModelSettings(),
    pictures: given.PictureSettings = given.PictureSettings(),
    device: given.DeviceSettings = given.DeviceSettings(),
    results: given.ResultSettings = given.ResultSettings(),
    fleet: FleetSettings = FleetSettings(),
) -> State:
    """Caption every PNG, JPG and JPEG of a directory with the workers of a work pool."""
    groups = (folders, again, prompts, decoding, model, pictures, device, results)
    run = Run.begin(asked(*groups, several_machines=True))
    output = OutputFolder(run.settings.output_dir)
    gathering = Gathering(run.settings.output_dir)
    with plain_errors(), ending_noted(run), named(run), kept_awake(run.settings.keep_awake):
        asked_of_shards = with_texts(run.settings)
        check_input_dir(run, output)
        run.scan = scan_images(run)
        count_in_name(run)
        if run.scan.pictures:
            shards = fleet.shards or SHARDS_A_WORKER * len(online_workers())
            run.plan = split_folder(run.scan, run, gathering, shards)
            if gathering.left():
                with captioning_progress(run):
                    caption_shards(run, gathering, asked_of_shards)
            with output, interrupts_deferred():
                gathering.end(run)
                write_summary(run, output)
                merge_shards(run, gathering)
    return state_of(run)

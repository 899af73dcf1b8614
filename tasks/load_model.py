"""LoadModel: the checkpoint goes onto the MLX device."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from captioner.checkpoint.inspect import is_embedded
from captioner.checkpoint.memory import check_fits
from captioner.checkpoint.prompts import remark_on_length
from captioner.checkpoint.trial import try_out
from captioner.device.device import Device
from captioner.device.families import BATCHED
from captioner.device.model import usable_memory_bytes
from captioner.macos import wires_no_memory
from captioner.records import Asked, Checkpoint
from captioner.run import Run
from captioner.text import gigabytes, printable


@task(task_run_name="load_model", cache_policy=NO_CACHE)
def load_model(checkpoint: Checkpoint, run: Run) -> Device:
    """A device that has loaded the checkpoint; it works until it is stopped.

    Raises:
        CheckpointError: it does not fit into memory, its chat template or tokenizer never ends, or
            MLX cannot load it.
        InputError: the prompts are longer than the model takes.
    """
    settings = run.settings
    name = checkpoint.repo_id or printable(str(checkpoint.directory))
    check_fits(checkpoint.weight_bytes, name, usable_memory_bytes())
    logger = get_run_logger()
    logger.info("Loading %s (%s)", name, gigabytes(checkpoint.weight_bytes))
    if is_embedded(checkpoint):
        logger.warning(
            "This is the embedded demonstration model: it knows synthetic flowcharts and "
            "nothing else. Leave --model out to caption with the real one."
        )
    if old := wires_no_memory():
        logger.warning(
            "macOS %s cannot keep a model wired in memory, which macOS 15 can: "
            "one that fills most of the memory may be slow.",
            old,
        )
    longest = max((job.asked for job in run.plan.todo), key=Asked.characters)
    tokens = try_out(checkpoint.directory, longest.prompt, longest.system_prompt)
    if tokens and (remark := remark_on_length(tokens, checkpoint.directory, settings)):
        logger.warning("%s", remark)
    device = Device(
        checkpoint.directory, settings.batch_size, settings.max_tokens, settings.answer_schema
    )
    run.load(checkpoint, device.batch_size, device.load_seconds)
    logger.info("Model loaded in %.1f s", device.load_seconds)
    if device.batch_size > 1:
        logger.info("Captioning %d pictures at a time", device.batch_size)
    elif settings.batch_size != 1 and device.model_type not in BATCHED:
        logger.warning(
            "Captioning one picture at a time, whatever --batch-size says: with a model of type "
            "%s a batch is not known to give the same captions (docs/models.md)",
            printable(device.model_type),
        )
    return device

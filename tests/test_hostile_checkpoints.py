"""A checkpoint that hangs, ends the process or fills the memory: one sentence, and exit code 2.

Each test is named after a row of the second round on faults and hostile input.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from captioner.checkpoint.find import find_checkpoint, known_revision
from captioner.checkpoint.prompts import remark_on_length
from captioner.checkpoint.trial import try_out
from captioner.device.model import MlxModel
from captioner.device.rows import Request
from captioner.errors import CaptionError, CheckpointError, InputError
from captioner.groups import DEFAULT_USER_PROMPT
from captioner.pictures.decoding import load_image
from captioner.records import Checkpoint
from captioner.settings import Settings
from tests.bad_checkpoints import backtracking, numbered, replaced, templated
from tests.conftest import CHECKPOINT, ROOT, FlowRun, draw_picture

LOOPING = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
GIGABYTES = '{{ ("x" * 99999999999)|length }}'


def refused(directory: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        find_checkpoint(Settings(model=directory))
    assert str(error.value).isprintable()
    return str(error.value)


# --- row 6: what is no file in the place of one ---


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["FIFO", "directory", "/dev/zero"])
@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "model.safetensors", "model.safetensors.index.json"),
        *("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"),
        *("chat_template.jinja", "generation_config.json", "other.safetensors"),
    ],
)
def test_row_6_what_is_no_file_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    directory = replaced(CHECKPOINT, tmp_path / "model", name, kind)
    known_revision(Settings(model=directory))  # looks at it first, and does not hang either
    assert f"/{name} is no regular file: remove it, or name another" in refused(directory)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "chat_template.jinja"])
def test_row_6_a_text_of_20_gb_is_not_read(name: str, tmp_path: Path) -> None:
    directory = replaced(CHECKPOINT, tmp_path / "model", name, "20 GB")
    began = time.process_time()
    assert known_revision(Settings(model=directory))
    assert f"/{name} has 21.5 GB, which no honest file" in refused(directory)
    assert time.process_time() - began < 2


@pytest.mark.timeout(20)
def test_row_6_a_fifo_in_a_folder_that_transformers_reads_is_refused(tmp_path: Path) -> None:
    directory = templated(CHECKPOINT, tmp_path / "model", "")
    (directory / "additional_chat_templates").mkdir()
    os.mkfifo(directory / "additional_chat_templates" / "a.jinja")
    assert "a.jinja is no regular file" in refused(directory)


# --- row 14: numbers, templates and tokenizers ---


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [
        ("config.json", "quantization.group_size", 0),
        ("config.json", "quantization.language_model.lm_head.group_size", 0),
        ("config.json", "text_config.num_hidden_layers", 100_000_000),
        ("config.json", "text_config.num_experts", 10**15),
        ("config.json", "text_config.head_dim", 100_000_000),
        ("config.json", "vision_config.depth", 100_000_000),
        ("config.json", "vision_config.patch_size", 0),
        ("config.json", "vision_config.spatial_merge_size", -1),
        ("preprocessor_config.json", "patch_size", 10**6),
        ("preprocessor_config.json", "size.shortest_edge", 10**12),
    ],
)
def test_row_14_absurd_numbers_are_refused_before_anything_is_loaded(
    file: str, name: str, value: int, tmp_path: Path
) -> None:
    sentence = refused(numbered(CHECKPOINT, tmp_path / "model", file, name, value))
    assert f"/{file} says {name}: {value:.6g}, which is not between " in sentence


def test_row_14_a_shard_whose_shapes_are_not_those_of_its_data_is_damaged(tmp_path: Path) -> None:
    directory = numbered(CHECKPOINT, tmp_path / "model", "config.json", "seen", 1)
    shard = directory / "model.safetensors"
    data = shard.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    tensor = next(value for name, value in header.items() if name != "__metadata__")
    tensor["shape"] = [10**9, 10**9]
    text = json.dumps(header).encode()
    shard.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    assert "model.safetensors: damaged header" in refused(directory)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: templated(CHECKPOINT, path, LOOPING), "chat template takes more than 2 s"),
        (lambda path: templated(CHECKPOINT, path, GIGABYTES), "takes more than 2.1 GB of memory"),
        (lambda path: backtracking(CHECKPOINT, path), "its tokenizer "),
    ],
    ids=["a template that loops", "a template of gigabytes", "a tokenizer that backtracks"],
)
def test_row_14_what_never_ends_is_tried_in_a_process_that_does(
    make: Callable[[Path], Path], why: str, tmp_path: Path
) -> None:
    directory = make(tmp_path / "model")
    assert isinstance(find_checkpoint(Settings(model=directory)), Checkpoint)
    with pytest.raises(CheckpointError, match="cannot be used: its ") as refused:
        try_out(directory, "a" * 60, None, seconds=2)
    assert why in str(refused.value)
    assert str(refused.value).endswith("Choose another with --model or --repo-id.")


@pytest.mark.model
def test_row_14_a_good_checkpoint_is_tried_with_the_prompt_that_it_gets(tmp_path: Path) -> None:
    model = MlxModel(CHECKPOINT)
    picture = load_image(draw_picture(tmp_path / "a.png"), 0)
    for system in (None, "You are brief."):
        prepared = model.prepare(picture, Request(DEFAULT_USER_PROMPT, system, 8, 0.0))
        # where the picture goes there is one token for all of it
        of_the_text = prepared.prompt_tokens - prepared.image_tokens + 1
        assert try_out(CHECKPOINT, DEFAULT_USER_PROMPT, system) == of_the_text


def test_row_14_what_libraries_have_reserved_before_is_not_the_checkpoints() -> None:
    # as they do for each of many cores, or for a GPU: not a byte of it is used
    script = (
        "import mmap, runpy, sys; reserved = mmap.mmap(-1, 3 << 30); "
        f"sys.argv = ['trial', {str(CHECKPOINT)!r}, '30']; "
        "runpy.run_module('captioner.checkpoint.trial', run_name='__main__')"
    )
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, cwd=ROOT, input=b'["What?", null]', capture_output=True)
    assert (run.returncode, run.stdout.split()[-1].isdigit()) == (0, True)


@pytest.mark.server
def test_row_14_the_command_says_so_and_ends_with_2(prefect_api: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    draw_picture(tmp_path / "in" / "a.png")
    bad = {
        "says quantization.group_size: 0, which": numbered(
            CHECKPOINT, tmp_path / "zero", "config.json", "quantization.group_size", 0
        ),
        "its chat template takes more than 2.1 GB": templated(
            CHECKPOINT, tmp_path / "bytes", GIGABYTES
        ),
    }
    command = [sys.executable, "flows/caption_flow.py", f"--input-dir={tmp_path / 'in'}"]
    processes = {
        sentence: subprocess.Popen(
            [*command, f"--output-dir={directory}-out", f"--model={directory}"],
            cwd=ROOT,
            env=os.environ | {"PREFECT_API_URL": prefect_api},
            stderr=subprocess.PIPE,
            text=True,
        )
        for sentence, directory in bad.items()
    }
    for sentence, process in processes.items():
        _, errors = process.communicate()
        assert process.returncode == 2, errors
        assert sentence in errors.splitlines()[-1]
        assert "Traceback" not in errors


# --- row 16: the length of the prompts ---


@pytest.mark.model
def test_row_16_long_prompts_are_said_before_the_run(
    folders: Settings, run_flow: Callable[[Settings], FlowRun]
) -> None:
    draw_picture(folders.input_dir / "a.png")
    long = {"user_prompt": "Describe the diagram. " * 20, "max_pixels": 64 * 1024, "max_tokens": 4}
    run = run_flow(folders.model_copy(update=long))
    assert run.state.is_completed()
    (remark,) = [line for line in run.logs if line.startswith("The prompts are ")]
    assert remark.endswith(
        " tokens long, more than the 64 of the largest picture; "
        "the model reads them again for each caption"
    )
    assert run.logs.index(remark) < next(
        number for number, line in enumerate(run.logs) if line.startswith("Model loaded")
    )
    run = run_flow(folders.model_copy(update={"user_prompt": "Describe the diagram. " * 1_800}))
    assert run.state.is_failed()
    assert " tokens long, and the model takes 8,192 together with the picture" in run.state.message


def test_row_16_a_prompt_of_a_megabyte_is_refused_in_one_sentence() -> None:
    """By the command as by the form: Prefect takes no more than 524,288 bytes of parameters."""
    environment = os.environ | {"CAPTION_SYSTEM_PROMPT": "a" * 100_000}  # Linux takes no more
    command = [sys.executable, "flows/caption_flow.py"]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert line.startswith("CAPTION_SYSTEM_PROMPT must be at most 40000 characters long, not aaa")
    for kind in ("user_prompt", "system_prompt"):
        with pytest.raises(ValidationError, match="at most 40000 characters"):
            Settings.model_validate({kind: "a" * (1 << 20)})


def test_row_16_prompts_of_the_usual_length_are_not_remarked_on() -> None:
    settings = Settings()
    assert remark_on_length(18, CHECKPOINT, settings) is None
    assert remark_on_length(2_048, CHECKPOINT, settings) is None
    assert remark_on_length(2_049, CHECKPOINT, settings)
    with pytest.raises(InputError, match="shorten --user-prompt or --system-prompt"):
        remark_on_length(8_192, CHECKPOINT, settings)


# --- row 19: what a processor may hand out ---


class Odd:
    """A processor that hands out something odd under a name."""

    def __init__(self, processor: object, name: str, odd: Callable[[], object]) -> None:
        self._processor, self._name, self._odd = processor, name, odd

    def __getattr__(self, name: str) -> object:
        return getattr(self._processor, name)

    def __call__(self, *args: object, **kwargs: object) -> object:
        inputs = self._processor(*args, **kwargs)  # type: ignore[operator]
        inputs[self._name] = self._odd()
        return inputs


def bfloat16() -> object:
    import mlx.core as mx

    return mx.ones((2, 2), mx.bfloat16)


@pytest.mark.model
@pytest.mark.parametrize(
    ("name", "odd"),
    [("image_grid_thw", lambda: [[1], [1, 2]]), ("more", bfloat16)],
    ids=["ragged", "bfloat16"],
)
def test_row_19_what_numpy_cannot_take_fails_one_picture(
    name: str, odd: Callable[[], object], tmp_path: Path
) -> None:
    model = MlxModel(CHECKPOINT)
    picture = load_image(draw_picture(tmp_path / "a.png"), 0)
    request = Request(DEFAULT_USER_PROMPT, None, 8, 0.0)
    assert isinstance(model.prepare(picture, request).arrays["input_ids"], np.ndarray)
    vars(model)["_processor"] = Odd(vars(model)["_processor"], name, odd)
    with pytest.raises(CaptionError, match=r"^the model's processor "):
        model.prepare(picture, request)

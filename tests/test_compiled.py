"""What the device does on an NVIDIA GPU alone, as far as a CPU can show it: the same captions."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx import nn
from mlx.utils import tree_flatten
from mlx_vlm.models import qwen3_vl_moe
from PIL import Image

from benchmarks.checkpoint import TEXT, reachable, write_the_rest
from benchmarks.published import config_of
from captioner.device import cuda
from captioner.device.compiled import CompiledSteps, compile_blocks
from captioner.device.model import MlxModel
from captioner.device.qwen3_vl import together
from captioner.device.rows import Request, Row
from tests.conftest import CHECKPOINT, ROOT, draw_picture
from tests.float32 import WEIGHTS, dequantise, seeing_small_pictures

PROMPT = "Describe the contents of this image."
LENGTHS = (9, 24, 12, 18, 6)  # so that rows leave and join while others go on
SIZES = [(192, 128), (96, 256), (90, 90), (160, 160), (224, 64)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> MlxModel:
    directory = tmp_path_factory.mktemp("checkpoints")
    seeing_small_pictures(CHECKPOINT, directory / "8-bit")
    return MlxModel(dequantise(directory / "8-bit", directory / "float32"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Image.Image]:
    folder = tmp_path_factory.mktemp("pictures")
    paths = [draw_picture(folder / f"{n}.png", f"WORD{n}", size) for n, size in enumerate(SIZES)]
    return [Image.open(path).convert("RGB") for path in paths]


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """Steps are made anew each time: compiling them for a CPU takes a C++ compiler and minutes."""
    mx.disable_compile()
    yield
    mx.enable_compile()


def said(model: MlxModel, pictures: list[Image.Image], capacity: int) -> list[list[int]]:
    rows = model.rows(capacity)
    waiting = [Request(PROMPT, None, length, 0.0) for length in LENGTHS]
    asked = [Row(model.prepare(*one), one[1]) for one in zip(pictures, waiting, strict=True)]
    todo = list(asked)
    while todo or len(rows):
        while todo and len(rows) < capacity:
            row = todo.pop(0)
            rows.add(row, model.encode(row.prepared))
        rows.step()
    return [row.tokens for row in asked]


@pytest.mark.model
@pytest.mark.timeout(120)
def test_steps_in_slots_say_the_same(
    model: MlxModel,
    pictures: list[Image.Image],
    uncompiled: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one_by_one = said(model, pictures, 1)
    assert [len(tokens) for tokens in one_by_one] == list(LENGTHS)
    monkeypatch.setattr(model, "_decoder", CompiledSteps(model._model.language_model))
    monkeypatch.setattr("captioner.device.compiled.STEP", 32)  # slots that grow while rows go on
    for capacity in (1, 3, 5):
        assert said(model, pictures, capacity) == one_by_one


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> MlxModel:
    """A random checkpoint in float32 with few and small experts, as the default model has many."""
    directory = tmp_path_factory.mktemp("experts")
    config = config_of("30b")
    del config["quantization"]
    rope = {**config["text_config"]["rope_scaling"], "mrope_section": [6, 5, 5]}
    config["text_config"] |= {
        "dtype": "float32",
        "vocab_size": TEXT["vocab_size"],
        "hidden_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "rope_scaling": rope,
    }
    small = {"depth": 3, "hidden_size": 64, "intermediate_size": 128, "out_hidden_size": 128}
    config["vision_config"] |= small | {"num_heads": 4, "deepstack_visual_indexes": [0, 1, 2]}
    mx.random.seed(3)
    made: Any = qwen3_vl_moe.Model(qwen3_vl_moe.ModelConfig.from_dict(config))
    made.language_model.lm_head.weight *= reachable(config["text_config"]["vocab_size"])
    for layer in made.language_model.model.layers:  # the next token depends on the whole prompt
        layer.self_attn.q_norm.weight *= 2.5
        layer.self_attn.k_norm.weight *= 2.5
    weights = dict(tree_flatten(made.parameters()))
    mx.save_safetensors(str(directory / WEIGHTS), weights, {"format": "mlx"})
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, WEIGHTS)}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    write_the_rest(directory, config, (1024, 40_000))
    return MlxModel(directory)


@pytest.mark.model
@pytest.mark.timeout(120)
def test_experts_say_the_same_in_slots(
    experts: MlxModel,
    pictures: list[Image.Image],
    uncompiled: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one_by_one = said(experts, pictures, 1)
    assert len({tuple(tokens) for tokens in one_by_one}) == len(pictures)
    monkeypatch.setattr(experts, "_decoder", CompiledSteps(experts._model.language_model))
    for capacity in (1, 3):
        assert said(experts, pictures, capacity) == one_by_one


@pytest.mark.model
@pytest.mark.timeout(120)
def test_questions_that_share_a_picture_are_answered_the_same_in_slots(
    model: MlxModel,
    pictures: list[Image.Image],
    uncompiled: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests = [Request(prompt, None, 8, 0.0) for prompt in (PROMPT, "What is this?", "Why?")]

    def answers() -> list[list[int]]:
        prepared = model.prepare_each(pictures[0], requests)
        look, found = model.look(prepared), []
        for one, request in zip(prepared, requests, strict=True):
            rows, row = model.rows(1), Row(one, request)
            rows.add(row, look.encode(one))
            while len(rows):
                rows.step()
            found.append(row.tokens)
        return found

    before = answers()
    monkeypatch.setattr(model, "_decoder", CompiledSteps(model._model.language_model))
    assert answers() == before


@pytest.mark.model
def test_a_picture_comes_among_the_tokens_as_mlx_vlm_puts_it(
    model: MlxModel, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = [model.prepare(one, Request(PROMPT, None, 1, 0.0)) for one in pictures[:2]]
    with monkeypatch.context() as only_ours:
        only_ours.delattr(type(model._model), "get_input_embeddings")
        ours = [model.encode(one).features.to_dict() for one in prepared]
    monkeypatch.setattr("captioner.device.encoding.WRITTEN_OUT", frozenset())
    for one, features in zip(prepared, ours, strict=True):
        theirs = model.encode(one).features.to_dict()
        assert theirs.keys() == features.keys()
        for name, value in theirs.items():
            both = zip(value, features[name], strict=True) if value is not None else ()
            assert all(mx.array_equal(a, b) for a, b in both), name


@pytest.mark.model
def test_the_blocks_of_the_tower_see_the_same(
    model: MlxModel, pictures: list[Image.Image], uncompiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = model._model.vision_tower
    prepared = [model.prepare(one, Request(PROMPT, None, 1, 0.0)) for one in pictures[:2]]
    before = [model.encode(one).features for one in prepared]
    monkeypatch.setattr(tower, "__class__", type(tower))  # as it was, afterwards
    compile_blocks(tower)
    for one, features in zip(prepared, before, strict=True):
        now = model.encode(one).features
        assert mx.allclose(now.inputs_embeds, features.inputs_embeds, atol=1e-4)
        both = zip(now.deepstack_visual_embeds, features.deepstack_visual_embeds, strict=True)
        assert all(mx.allclose(a, b, atol=1e-4) for a, b in both)


@pytest.mark.parametrize("other", [{"bits": 4}, {"group_size": 32}, None], ids=str)
def test_layers_that_cannot_be_one_product_stay_apart(other: dict[str, int] | None) -> None:
    kind = {"group_size": 64, "bits": 8}
    rest = nn.Linear(64, 32)
    layers = [
        nn.Linear(64, 64).to_quantized(**kind),
        rest.to_quantized(**kind | other) if other else rest,
    ]
    x = mx.random.normal((3, 1, 64))
    expected = [layer(x) for layer in layers]
    mx.eval(expected)
    for before, now in zip(expected, together(layers)(x), strict=True):
        assert mx.array_equal(before, now)


def test_layers_for_a_gpu_multiply_as_before() -> None:
    network: Any = nn.Sequential(nn.Linear(128, 64), nn.Linear(64, 128), nn.Linear(128, 512))
    nn.quantize(network, 64, 4)
    few, many = mx.random.normal((16, 1, 128)), mx.random.normal((1, 300, 128))
    expected = network(few), network(many)
    mx.eval(expected)
    cuda.multiply_rows_together(network)
    for before, rows in zip(expected, (few, many), strict=True):
        assert mx.allclose(network(rows), before, atol=1e-4)
    # room for the two small ones of the three, of which half of what is free is taken
    cuda.keep_in_full(network, mx.get_active_memory() + 2 * (2 * 4 * 128 * 64 + 1000))
    kinds = [type(layer) is nn.Linear for layer in network.layers]
    assert kinds == [True, True, False]
    for before, rows in zip(expected, (few, many), strict=True):
        assert mx.allclose(network(rows), before, atol=1e-4)


def test_mlx_without_what_it_computes_with_is_one_sentence(tmp_path: Path) -> None:
    """As `pip install .` without an extra leaves it on Linux."""
    (tmp_path / "mlx").mkdir()
    for part in Path(mx.__file__).parent.iterdir():
        if part.name.startswith("core.") and part.suffix == ".so":
            (tmp_path / "mlx" / part.name).write_bytes(part.read_bytes())
    script = "from captioner.device.installed import require_mlx; require_mlx()"
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
    )
    last = run.stderr.splitlines()[-1]
    assert "CheckpointError: MLX cannot be loaded (libmlx.so: cannot open" in last
    assert "--editable '.[cpu]'`, or with '.[cuda]' for an NVIDIA GPU" in last

"""The BLAS is shared between the two streams, and the tower works in parts beside the captions."""

import ctypes.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks.checkpoint import make_checkpoint
from captioner.device.encoding import cache_kept, computed_in_parts, encode
from captioner.device.model import MlxModel
from captioner.device.rows import Request
from tests.conftest import ROOT

SCRIPT = """
import ctypes
from captioner.device.encoding import blas_shared
threads = getattr(ctypes.CDLL(None), "openblas_get_num_threads", lambda: None)
print(threads())
with blas_shared():
    print(threads())
print(threads())
"""

TAKEN = ("LD_PRELOAD", "OPENBLAS_NUM_THREADS")


def threads_around_and_within(**more: str) -> tuple[str, str]:
    """What the BLAS says of its threads, in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if k not in TAKEN}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        env=environment | more,
        capture_output=True,
        text=True,
        check=True,
    )
    before, within, after = run.stdout.split()
    assert before == after
    return before, within


@pytest.mark.parametrize("told", [None, "2"])
def test_two_streams_share_the_threads_of_openblas(told: str | None) -> None:
    library = ctypes.util.find_library("openblas") if sys.platform == "linux" else None
    if library is None:
        pytest.skip("needs OpenBLAS on Linux (Debian: apt-get install libopenblas0-pthread)")
    more = {"OPENBLAS_NUM_THREADS": told} if told else {}
    before, within = threads_around_and_within(LD_PRELOAD=library, **more)
    assert int(within) == (int(before) if told else max(1, int(before) // 2))


def test_another_blas_is_left_alone() -> None:
    assert threads_around_and_within() == ("None", "None")


@pytest.mark.model
def test_a_tower_in_parts_says_the_same_and_is_whole_again(tmp_path: Path) -> None:
    import mlx.core as mx

    make_checkpoint(tmp_path, tiny=True)
    model = MlxModel(tmp_path)
    prepared = model.prepare(Image.new("RGB", (192, 128), "red"), Request("What?", None, 8, 0.0))
    network: Any = model._model
    tower = network.vision_tower
    blocks, mergers = tower.blocks, tower.deepstack_merger_list
    whole = encode(network, prepared).features.inputs_embeds
    with computed_in_parts(tower):
        assert not any(part in blocks for part in tower.blocks)
        assert not any(part in mergers for part in tower.deepstack_merger_list)
        parts = encode(network, prepared).features.inputs_embeds
    assert tower.blocks is blocks and tower.deepstack_merger_list is mergers
    assert mx.array_equal(whole, parts)


def test_the_cache_is_cleared_again_when_nobody_encodes_any_more() -> None:
    import mlx.core as mx

    clear = mx.clear_cache
    with cache_kept():
        assert mx.clear_cache is not clear
        mx.clear_cache()
    assert mx.clear_cache is clear

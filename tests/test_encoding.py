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


@pytest.mark.parametrize("told", [None, "2"])
def test_two_streams_share_the_threads_of_openblas(told: str | None) -> None:
    library = ctypes.util.find_library("openblas") if sys.platform == "linux" else None
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    environment |= {"LD_PRELOAD": library} if library else {}
    environment |= {"OPENBLAS_NUM_THREADS": told} if told else {}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    before, within, after = run.stdout.split()
    assert before == after
    if library is None or told:
        assert within == before
    else:
        assert int(within) == max(1, int(before) // 2)


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

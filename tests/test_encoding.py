"""The BLAS is shared between the two streams, where there is one to share."""

import ctypes.util
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

SCRIPT = """
import ctypes
from captioner.mlx_encoding import blas_shared
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

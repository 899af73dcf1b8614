"""What is said to the system about memory, where the system is Linux with glibc."""

import os
import platform
import subprocess
import sys

import pytest

from tests.conftest import ROOT

SCRIPT = """
import ctypes, threading
from captioner.checkpoint.memory import share_arenas

share_arenas()
libc, barrier = ctypes.CDLL(None), threading.Barrier(12)

def get_memory():
    libc.malloc(1000)
    barrier.wait()

threads = [threading.Thread(target=get_memory) for _ in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc, which has arenas")
@pytest.mark.parametrize(("told", "arenas"), [(None, 2), ("5", 5)])
def test_threads_share_two_arenas_unless_told_otherwise(told: str | None, arenas: int) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "MALLOC_ARENA_MAX"}
    environment |= {"MALLOC_ARENA_MAX": told} if told else {}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.count("<heap nr=") == arenas

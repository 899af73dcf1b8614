"""The first and the last moments of the command: interrupts, closed streams, a bare Python."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.hosting.interrupts import AT_ONCE, TOO_LONG
from tests.conftest import ROOT, hears_hangups

HELP = [sys.executable, "flows/caption_flow.py", "--help"]

# A main thread that hangs outside of Python: a mutex of the C library that is locked twice.
HANGING = """
import ctypes, sys
from flows.hosting.interrupts import Interrupts
from flows.hosting.screen import SCREEN
Interrupts(SCREEN.last_words, lambda: None).take_over()
library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(128)
library.pthread_mutex_lock(mutex)
try:
    print("hanging", flush=True)
    library.pthread_mutex_lock(mutex)
except KeyboardInterrupt:  # it came before that
    library.pthread_mutex_lock(mutex)
"""


def test_a_python_without_the_packages_is_one_sentence_with_the_command() -> None:
    bare = [sys.executable, "-I", "-S", "flows/caption_flow.py"]
    run = subprocess.run(bare, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (2, "")
    (line,) = run.stderr.splitlines()
    assert "has no package prefect: use the Python of the environment that has it, or " in line
    assert f"`cd {ROOT} && {sys.executable} -m pip install --constraint constraints.txt " in line


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-", "| true", ">/dev/full"])
def test_a_stream_that_takes_nothing_is_no_trouble(closed: str) -> None:
    shell = f'set -o pipefail; "{sys.executable}" flows/caption_flow.py --help {closed}'
    run = subprocess.run(["bash", "-c", shell], cwd=ROOT, capture_output=True, timeout=60)
    assert run.returncode == 0
    assert run.stderr == b""


def test_an_interrupt_in_the_first_moments_is_no_traceback() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = set()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        command = [sys.executable, "-c", "import time; from flows.hosting import starting; "
                   "starting.begin(); print(flush=True); time.sleep(60)"]  # fmt: skip
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=hears_hangups,
        ) as process:
            assert process.stdout
            process.stdout.readline()
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
        ended.add((process.returncode, errors))
    assert ended == {(130, b"Interrupted before anything began.\n")}


def test_an_interrupt_ends_the_process_within_ten_seconds_and_a_second_one_at_once() -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HANGING],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    patient, impatient = processes
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "hanging\n"
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)  # as `timeout` does; it counts as one
    began = time.monotonic()
    time.sleep(0.5)
    assert impatient.poll() is None
    impatient.send_signal(signal.SIGINT)
    assert impatient.communicate(timeout=5)[1] == AT_ONCE + "\n"
    assert patient.communicate(timeout=15)[1] == TOO_LONG + "\n"
    assert time.monotonic() - began < 10
    assert [process.returncode for process in processes] == [130, 130]


def test_a_hang_up_means_nothing_to_nohup() -> None:
    shell = 'trap "" HUP; exec "$0" -c "$1"'
    asked = "import signal; from flows.hosting import starting; starting.begin(); " \
            "signal.raise_signal(signal.SIGHUP); print('alive')"  # fmt: skip
    run = subprocess.run(
        ["sh", "-c", shell, sys.executable, asked],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.stdout == "alive\n", run.stderr


@pytest.mark.parametrize(
    ("path", "why"), [("", "Is a directory"), ("nowhere/a.log", "No such file or directory")]
)
def test_a_log_file_that_cannot_be_written_is_one_sentence(
    path: str, why: str, tmp_path: Path
) -> None:
    flag = f"--log-file={tmp_path / path}"
    command = [sys.executable, "flows/caption_flow.py", flag]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 2
    assert run.stderr == f"--log-file cannot be written to: {tmp_path / path}: {why}.\n"

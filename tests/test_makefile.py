"""The Makefile on a Mac as it comes: GNU make 3.81, its awk, and Python 3.9 as `python3`."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

# what make has learned since 3.81, by its release notes
NEWER = re.compile(
    r"^\.ONESHELL|^\.RECIPEPREFIX|::=|[^!]!=|\$\(file |^undefine |&:|^private |\$\(intcmp|\$\(let ",
    re.MULTILINE,
)


def make(folder: Path, tools: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join([str(tools), os.environ["PATH"]])
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        # as a person calls it, not as `make test` would
        env={k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
        | {"PATH": path, "LC_ALL": "C"},
        capture_output=True,
        text=True,
    )


def test_it_uses_nothing_newer_than_make_3_81() -> None:
    assert NEWER.search("x != ls") and NEWER.search("a b &: c")
    assert NEWER.findall((ROOT / "Makefile").read_text()) == []


def test_help_with_the_awk_of_a_mac(tmp_path: Path) -> None:
    if not (awk := shutil.which("original-awk")):
        pytest.skip("needs original-awk, which is what macOS has as awk")
    (tmp_path / "awk").symlink_to(awk)
    run = make(ROOT, tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    targets = re.findall(r"^([a-z]+):.*## (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert len(targets) > 10
    assert run.stdout.splitlines() == [f"{name:16}{does}" for name, does in targets]


def test_a_python_that_is_too_old_is_said_before_anything_is_installed(tmp_path: Path) -> None:
    tools, folder = tmp_path / "tools", tmp_path / "project"
    tools.mkdir()
    folder.mkdir()
    (tools / "python3").write_text(
        '#!/bin/sh\nif [ "$1" = -V ]; then echo Python 3.9.6; else exit 1; fi\n'
    )
    (tools / "python3").chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    run = make(folder, tools, "run")
    assert run.returncode != 0
    assert run.stderr.startswith(
        "Python 3.11 or newer is needed, and python3 is Python 3.9.6. Install one "
        "(on a Mac: brew install python@3.13), then make PYTHON=python3.13 run\n"
    )
    assert run.stdout == ""
    assert not (folder / ".venv").exists()

"""Every shell block of the documentation can be pasted into zsh as it stands: a Mac's shell."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(?:bash|sh|shell|zsh|console)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FENCE = re.compile(r"^ *```(\w*)", re.MULTILINE)
NOT_SHELL = {"", "text", "json", "yaml", "python", "mermaid", "toml", "xml"}
BLOCKS = [
    pytest.param(block, id=f"{path.name}-{number}")
    for path in PAGES
    for number, block in enumerate(BLOCK.findall(path.read_text("utf-8")), start=1)
]
# what the blocks call; each stand-in notes its arguments
COMMANDS = (
    *("brew", "git", "launchctl", "make", "mlx-caption", "mypy", "pip", "prefect", "pytest"),
    *("python", "python3", "python3.13", "ruff", "sudo", "sysctl", "xcode-select"),
)
STAND_IN = '#!/bin/sh\nprintf "%s" "${0##*/}"; printf " [%s]" "$@"; echo\n'


@pytest.fixture
def zsh() -> str:
    if not (found := shutil.which("zsh")):
        pytest.skip("needs zsh")
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder like this project's, whose commands are stand-ins."""
    stand_in = tmp_path / "stand-in"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    for folder, names in {
        "bin": COMMANDS,
        "project/.venv/bin": ("python", "prefect", "pre-commit", "mlx-caption"),
    }.items():
        (tmp_path / folder).mkdir(parents=True)
        for name in names:
            (tmp_path / folder / name).symlink_to(stand_in)
    (tmp_path / "home").mkdir()
    (tmp_path / "project" / ".venv" / "bin" / "activate").touch()
    shutil.copytree(ROOT / "docs" / "launchd", tmp_path / "project" / "docs" / "launchd")
    return tmp_path / "project"


def test_no_block_is_overlooked() -> None:
    assert len(BLOCKS) > 15
    for path in PAGES:
        kinds = FENCE.findall(path.read_text("utf-8"))[::2]
        shell = len(BLOCK.findall(path.read_text("utf-8")))
        assert len([kind for kind in kinds if kind not in NOT_SHELL]) == shell, path.name


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_can_be_pasted(block: str, zsh: str, project: Path) -> None:
    home = project.parent / "home"
    environment = {
        "PATH": os.pathsep.join([str(project.parent / "bin"), "/usr/bin", "/bin"]),
        "HOME": str(home),
        "LANG": "C.UTF-8",
    }
    parsed = subprocess.run(
        [zsh, "-f", "-n"], input=block, env=environment, capture_output=True, text=True
    )
    assert (parsed.returncode, parsed.stderr) == (0, "")
    # as typed: to an interactive zsh `#` begins no comment, and a `*` has to fit something
    typed = subprocess.run(
        [zsh, "-f", "-i", "-s"],
        input=f"setopt err_exit\nPS1= PS2=\n{block}exit 0\n",
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
    )
    assert typed.returncode == 0, typed.stderr
    for complaint in ("not found", "no matches", "no such", "parse error"):
        assert complaint not in typed.stderr, typed.stderr
    assert not re.search(r"(^|\s)#", block), "a comment"
    if "launchctl bootstrap" in block:
        agents = home / "Library" / "LaunchAgents"
        lists = sorted(agents.glob("*.plist"))
        assert [path.stem for path in lists] == ["local.prefect-server", "local.prefect-worker"]
        for path in lists:
            assert f"launchctl [bootstrap] [gui/{os.getuid()}] [{path}]" in typed.stdout
            assert not re.search("PROJECT|LOGS|HUB<", path.read_text())
        assert f"<string>{home}/.cache/huggingface</string>" in lists[1].read_text()


@pytest.mark.parametrize("block", ["make run  # now\n", "pip install .[test]\n", "nothing-here\n"])
def test_what_cannot_be_pasted_is_noticed(block: str, zsh: str, project: Path) -> None:
    with pytest.raises(AssertionError):
        test_a_block_can_be_pasted(block, zsh, project)

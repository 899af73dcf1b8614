"""The property lists for launchd say what docs/launchd.md says."""

import plistlib
from pathlib import Path

import pytest

from tests.conftest import ROOT

PLISTS = sorted((ROOT / "docs" / "launchd").glob("*.plist"))


@pytest.mark.parametrize("path", PLISTS, ids=lambda path: path.stem)
def test_a_property_list_is_whole_and_keeps_its_command_running(path: Path) -> None:
    text = path.read_text().replace("PROJECT", "/p").replace("LOGS", "/l")
    agent = plistlib.loads(text.encode())
    assert agent["Label"] == path.stem
    assert agent["RunAtLoad"] is agent["KeepAlive"] is True
    assert agent["ProgramArguments"][0] == "/p/.venv/bin/prefect"
    assert agent["StandardOutPath"] == agent["StandardErrorPath"]
    assert agent["StandardOutPath"].startswith("/l/")
    assert all(isinstance(value, str) for value in agent["EnvironmentVariables"].values())
    assert path.stem in (ROOT / "docs" / "launchd.md").read_text()

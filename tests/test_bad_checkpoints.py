"""Checkpoints that mean harm, loaded and asked for a caption by the real device."""

import json
import shutil
import tempfile
from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import constants

from captioner.checkpoint.find import find_checkpoint
from captioner.device.device import Device
from captioner.device.rows import Request
from captioner.errors import CheckpointError
from captioner.pictures.decoding import load_image
from captioner.records import Checkpoint, Generation
from captioner.settings import Settings
from tests.bad_checkpoints import carrying_code, saying_nothing
from tests.conftest import CHECKPOINT, draw_picture
from tests.test_checkpoints import cached

pytestmark = pytest.mark.model


@pytest.fixture
def sprung(tmp_path: Path) -> Path:
    """The file that harm would leave."""
    return tmp_path / "sprung"


def captioned(directory: Path, tmp_path: Path) -> Generation:
    """What the product does with `--model`, from the look at the files to the caption."""
    return captioned_with(Settings(model=directory), tmp_path)


def captioned_with(settings: Settings, tmp_path: Path) -> Generation:
    found = find_checkpoint(settings)
    assert isinstance(found, Checkpoint)
    picture = draw_picture(tmp_path / "a.png")
    request = Request("Describe the contents of this image.", None, 16, 0.0)
    with Device(found.directory) as device:
        return device.begin(partial(load_image, picture, 0), request).result()


def test_code_and_pickles_beside_the_weights_are_left_alone(tmp_path: Path, sprung: Path) -> None:
    directory = carrying_code(CHECKPOINT, tmp_path / "code", sprung)
    assert captioned(directory, tmp_path).text.startswith("A ")
    assert not sprung.exists()


def test_code_that_another_tool_fetched_into_the_hub_cache_is_left_out(
    tmp_path: Path, sprung: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    blobs = carrying_code(CHECKPOINT, tmp_path / "blobs", sprung)
    asks = {"AutoModel": "modeling_trap.Model", "AutoProcessor": "processing_trap.Processor"}
    for name in ("config.json", "preprocessor_config.json"):
        config = json.loads((blobs / name).read_text())
        (blobs / name).write_text(json.dumps(config | {"auto_map": asks}))
    snapshot = cached(tmp_path / "hub")
    snapshot.mkdir(parents=True)
    for blob in blobs.iterdir():
        (snapshot / blob.name).symlink_to(blob)
    assert captioned_with(Settings(repo_id="owner/model"), tmp_path).text.startswith("A ")
    assert not sprung.exists()
    assert list((tmp_path / "temporary").iterdir()) == []
    with pytest.raises(CheckpointError, match="carries code of its own"):  # named by a person
        find_checkpoint(Settings(model=snapshot))


@pytest.mark.parametrize(
    "reach",
    [
        "cycler.__init__.__globals__.os",
        "self.__init__.__globals__.__builtins__.__import__('os')",
        "''.__class__.__mro__[1].__subclasses__()",
        "messages.__class__.__base__",
    ],
)
def test_a_chat_template_is_kept_in_its_sandbox(reach: str, tmp_path: Path, sprung: Path) -> None:
    directory = tmp_path / "template"
    shutil.copytree(CHECKPOINT, directory)
    template = "{{ " + reach + " }}{{ (" + reach + f").system('touch {sprung}') }}}}"
    for name in ("chat_template.json", "tokenizer_config.json"):
        config = json.loads((directory / name).read_text())
        (directory / name).write_text(json.dumps(config | {"chat_template": template}))
    (directory / "chat_template.jinja").write_text(template)
    with pytest.raises(CheckpointError, match="the model's processor refuses it: access to"):
        captioned(directory, tmp_path)
    assert not sprung.exists()


def test_a_caption_of_no_words_is_flagged_empty(tmp_path: Path) -> None:
    done = captioned(saying_nothing(CHECKPOINT, tmp_path / "silent"), tmp_path)
    assert (done.text, done.finish_reason, done.flags) == ("", "stop", ("empty",))


def test_what_a_checkpoint_says_of_itself_is_harmless_in_a_sentence(tmp_path: Path) -> None:
    directory = tmp_path / "named \x1b[31m"
    shutil.copytree(CHECKPOINT, directory)
    config = json.loads((directory / "config.json").read_text())
    config["model_type"] = "nothing\x1b]0;owned\x07\u202e"
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="MLX cannot load ") as refused:
        captioned(directory, tmp_path)
    assert str(refused.value).isprintable()
    assert "owned" in str(refused.value)

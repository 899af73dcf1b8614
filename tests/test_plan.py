"""`--plan` and what it stands on: the real command on real folders, and a Hub on loopback."""

import json
import os
import pty
import random
import select
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from captioner.errors import UnreadableImage
from captioner.forecast.seconds import predicted
from captioner.forecast.tokens import Eyes
from captioner.pictures.decoding import fitted
from captioner.pictures.sizes import sizes
from captioner.records import Cost, Picture
from captioner.settings import Settings
from tests.checking import check_image
from tests.conftest import CHECKPOINT, ROOT, draw_picture
from tests.hub_server import GATED, INFO, REPO_NOT_FOUND, HubServer
from tests.test_checkpoints import write_checkpoint
from tests.test_planning import caption_all

OFFLINE = {"HF_HUB_OFFLINE": "1"}
QWEN3_VL = {"min_pixels": 65_536, "max_pixels": 16_777_216}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "flows/caption_flow.py", "--plan", *map(str, arguments)]


def plan(
    settings: Settings, *more: object, **environment: str
) -> "subprocess.CompletedProcess[str]":
    folders = (settings.input_dir, f"--output-dir={settings.output_dir}")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("CAPTION_", "PREFECT_"))}
    return subprocess.run(
        command(*folders, *more),
        cwd=ROOT,
        env=clean | OFFLINE | environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


def said(run: "subprocess.CompletedProcess[str]") -> dict[str, str]:
    """What the plan says, by the first word of each line; lines that go on belong to the last."""
    assert (run.returncode, run.stderr) == (0, ""), run.stderr
    found: dict[str, str] = {}
    title = ""
    for line in filter(None, run.stdout.splitlines()):
        begins = line[:12].strip()
        title = begins or title
        found[title] = (
            f"{found[title]}\n{line[12:]}" if not begins and title in found else line[12:]
        )
    return found


def everything_in(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*")
    }


def strange_folder(folder: Path) -> None:
    """Pictures, and every kind of file that is none."""
    for number in range(1, 13):
        draw_picture(folder / f"p{number}.png", size=(100 * number, 50 * number))
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (4000, 3000), "blue").save(folder / "0phone.jpg", exif=turned)
    (folder / "empty.png").write_bytes(b"")
    (folder / "bad\x1b[31m.jpg").write_bytes(b"GIF89a, in truth")
    for name in ("a.heic", "b.HEIC", "c.webp", "notes", "x.\x1b[31m", ".DS_Store", "._p1.png"):
        (folder / name).write_bytes(b"")
    for name in ("sub", "holidays.png", ".git"):
        (folder / name).mkdir()
    os.mkfifo(folder / "fifo.png")
    (folder / "out.png").symlink_to("/etc/hosts")


def test_a_plan_of_a_folder_with_everything_in_it(folders: Settings, tmp_path: Path) -> None:
    strange_folder(folders.input_dir)
    before = everything_in(tmp_path)
    home = {"PREFECT_HOME": str(tmp_path / "prefect"), "HF_HOME": str(tmp_path / "hub")}
    run = plan(folders, f"--model={CHECKPOINT}", "--limit=11", **home)
    assert everything_in(tmp_path) == before  # no folder, no lock, no database
    assert "\x1b" not in run.stdout
    lines = said(run)
    assert lines["Pictures"] == f"15 in {folders.input_dir}"
    assert lines["Ignored"] == (
        "2 HEIC, 1 WEBP, 2 other files (--formats png,jpg,jpeg,webp,heic captions HEIC and WEBP "
        "too); 1 link that leads nowhere or elsewhere; 1 special file; 3 hidden; "
        "2 subfolders not looked into"
    )
    assert lines["Skipped"] == (
        "2\n1: not a PNG or JPEG file (bad\\x1b[31m.jpg)\n1: empty file (empty.png)"
    )
    assert lines["To caption"] == "9\n9 new"
    assert lines["Left"] == "4 for the next run: --limit is 11"
    assert lines["Model"] == str(CHECKPOINT)
    assert lines["Memory"].startswith("9.0 MB of weights; ")
    assert lines["Time"].startswith("not known: this model has captioned nothing into ")
    table = run.stdout.split("Image tokens, as this model sees ")[1].splitlines()
    assert table[1].split() == ["--max-pixels", "1,048,576", "2,097,152", "4,194,304"]
    assert table[3].split() == ["0phone.jpg,", "3000×4000", "63", "63", "63"]
    assert len(table) == 3 + 9


def test_a_plan_without_a_checkpoint_and_without_a_network(
    folders: Settings, tmp_path: Path
) -> None:
    for number in range(12):
        Image.new("RGB", (2000 + number, 1000)).save(folders.input_dir / f"p{number}.jpg")
    run = plan(folders, "--repo-id=owner/model", HF_HOME=str(tmp_path / "hub"))
    lines = said(run)
    assert not (tmp_path / "hub").exists()
    assert lines["Model"] == (
        f"owner/model, to be downloaded into {tmp_path}/hub/hub/models--owner--model"
    )
    assert lines["Download"] == (
        "necessary; the Hub cannot be asked how large owner/model is (HF_HUB_OFFLINE is set)"
    )
    assert "Image tokens, as Qwen3-VL would see " in run.stdout
    table = run.stdout.splitlines()[-11:]  # in all, and the ten largest
    eyes = Eyes()
    caps = (1_048_576, 2_097_152, 4_194_304)
    every = [[eyes.tokens((2000 + n, 1000), cap) for n in range(12)] for cap in caps]
    assert table[0].split() == ["in", "all", *(f"{sum(tokens):,}" for tokens in every)]
    assert [line.split()[0] for line in table[1:]] == [f"p{n}.jpg," for n in range(11, 1, -1)]
    assert table[1].split()[2:] == [f"{tokens[11]:,}" for tokens in every]


def test_the_plan_of_a_folder_that_was_captioned_before(folders: Settings) -> None:
    for number in range(1, 5):
        draw_picture(folders.input_dir / f"p{number}.png")
    caption_all(folders)
    provenance = folders.output_dir / "provenance.jsonl"
    lines = [json.loads(line) for line in provenance.read_bytes().splitlines()]
    for line, seconds in zip(lines, (10.0, 20.0, 30.0, "NaN"), strict=True):
        line |= {"seconds": seconds, "image_tokens": 60}
        del line["batch_size"]  # as lines were before 0.3.0
    provenance.write_text("".join(json.dumps(line) + "\n" for line in lines))
    os.utime(
        folders.input_dir / "p1.png", ns=(1, 1)
    )  # a run would note that its bytes are the same
    (folders.output_dir / "p2.json").write_text('{"image": "p2.png", "prompt": "", "caption": ""}')
    (folders.output_dir / "p3.json").unlink()
    draw_picture(folders.input_dir / "new.png", size=(64, 64))
    (folders.input_dir / "p4.png").unlink()
    before = everything_in(folders.output_dir)
    asked = (f"--model={CHECKPOINT}", f"--max-tokens={folders.max_tokens}")
    told = said(plan(folders, *asked))
    assert everything_in(folders.output_dir) == before
    assert told["Up to date"] == "2 (1 edited by hand)"
    assert told["To caption"] == "2\n1 new\n1 again: caption missing (p3.png)"
    assert told["Gone"] == "1 not in the input directory any more: p4.png"
    assert told["Time"] == (
        "about 40 s once the model is loaded: "
        f"3 captions by it in {folders.output_dir} took 20 s each"
    )
    told = said(plan(folders, *asked, "--overwrite", "--user-prompt=What?"))
    assert "1 caption edited by hand overwritten: p2.png" in told["To caption"]
    caption_all(folders)
    done = said(plan(folders, *asked, "--max-pixels=0"))
    assert done["To caption"].startswith("3\n3 again: pixel cap changed (new.png, p1.png, ")
    assert done["--max-pixels"].split() == ["no", "cap"]
    nothing = said(plan(folders, *asked))
    assert nothing["To caption"] == "nothing"
    assert not {"Model", "Time", "Memory"} & set(nothing)  # a run would not look for it either


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--input-dir=nowhere"], "Input directory nowhere does not exist; "),
        (["--model=nowhere"], "--model nowhere does not exist: check the path. "),
        (["--repo-id=owner/a--b"], "owner/a--b is no name of a model on the Hub: "),
    ],
)
def test_what_a_run_refuses_is_refused_by_a_plan(
    flags: list[str], sentence: str, folders: Settings
) -> None:
    draw_picture(folders.input_dir / "a.png")
    where = [] if "--input-dir" in flags[0] else [f"--input-dir={folders.input_dir}"]
    run = subprocess.run(
        command(*where, f"--output-dir={folders.output_dir}", *flags),
        cwd=ROOT,
        env=os.environ | OFFLINE,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (run.returncode, run.stdout) == (2, "")
    (line,) = run.stderr.splitlines()
    assert line.startswith(sentence)


def test_the_hub_is_asked_what_a_download_would_bring_and_nothing_is_written(
    folders: Settings, tmp_path: Path
) -> None:
    draw_picture(folders.input_dir / "a.png")
    repository = write_checkpoint(tmp_path / "repository", size=2_000_000)
    weights = sum(path.stat().st_size for path in repository.glob("*.safetensors"))
    home = tmp_path / "home"
    with HubServer(repository, "owner/model") as hub:
        online = hub.environment(home)
        for target in ([], [f"--model={tmp_path / 'weights'}"]):
            before = everything_in(tmp_path)
            told = said(plan(folders, "--repo-id=owner/model", *target, **online))
            assert everything_in(tmp_path) == before
            assert told["Download"].startswith(f"{weights / 1e6:.1f} MB, and ")
            assert told["Download"].endswith(" are free there")
            assert told["Memory"].startswith(f"{weights / 1e6:.1f} MB of weights; ")
        assert not hub.fetched("model-00001-of-00002.safetensors")
        hub.fail(INFO, REPO_NOT_FOUND, GATED, times=1)
        for sentence in ("There is no model owner/model on the Hub", "owner/model is gated: "):
            run = plan(folders, "--repo-id=owner/model", **online)
            assert (run.returncode, run.stdout) == (2, "")
            assert run.stderr.startswith(sentence) and run.stderr.count("\n") == 1


def test_a_terminal_gets_a_table_as_wide_as_it_is(folders: Settings) -> None:
    (folders.input_dir / ("long " * 30 + ".png")).write_bytes(b"")
    draw_picture(folders.input_dir / "a.png")
    ours, theirs = pty.openpty()
    flags = (folders.input_dir, f"--output-dir={folders.output_dir}", f"--model={CHECKPOINT}")
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    environment = clean | {"COLUMNS": "60", "TERM": "xterm-256color"}
    with subprocess.Popen(command(*flags), cwd=ROOT, env=environment, stdout=theirs) as process:
        os.close(theirs)
        shown = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                shown += os.read(ours, 1 << 16)
            except OSError:  # the end, on Linux
                break
    os.close(ours)
    assert process.returncode == 0
    text = shown.decode()
    assert "\x1b[1mPictures" in text
    plain = text.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert max(map(len, plain.split("\r\n"))) <= 60
    assert plain.count("long") == 30


# --- what it stands on ---


def test_tokens_are_what_the_real_processor_makes_of_a_size() -> None:
    from mlx_vlm.models.qwen3_vl.processing_qwen3_vl import Qwen3VLImageProcessor

    chance = random.Random(3)
    embedded = Eyes.of(CHECKPOINT)
    assert embedded == Eyes(16, 2, 49_152, 73_728)
    kinds = [(Eyes(), QWEN3_VL), (embedded, {"min_pixels": 49_152, "max_pixels": 73_728})]
    for eyes, bounds in kinds:
        processor = Qwen3VLImageProcessor(**bounds)
        for _ in range(1_000):
            wide = round(10 ** chance.uniform(0, 4.3))
            high = max(1, round(wide * 10 ** chance.uniform(-2.2, 2.2)))
            if max(wide, high) > 200 * min(wide, high):
                continue  # these are refused
            cap = chance.choice([0, 1_000, 100_000, 1_048_576, 2_097_152])
            width, height = fitted((wide, high), cap)
            expected = processor.num_image_tokens(height, width)
            assert eyes.tokens((wide, high), cap) == expected, (wide, high, cap)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"size": 3}', '{"patch_size": "16"}'])
def test_a_processor_that_does_not_tell_is_none(content: str, tmp_path: Path) -> None:
    assert Eyes.of(tmp_path) is None
    (tmp_path / "preprocessor_config.json").write_text(content)
    assert Eyes.of(tmp_path) is None


def test_sizes_are_those_that_decoding_finds(tmp_path: Path) -> None:
    strange_folder(tmp_path)
    Image.new("L", (70, 30)).save(tmp_path / "grey.jpeg", progressive=True, comment=b"x" * 60_000)
    Image.new("RGB", (9000, 40)).save(tmp_path / "long.png")
    shutil.copy(ROOT / "input" / "broken.png", tmp_path)
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "0phone.jpg").read_bytes()[:300])
    (tmp_path / "nothing.jpg").write_bytes(b"\xff\xd8\xff\xd9")
    paths = sorted([*tmp_path.glob("*.png"), *tmp_path.glob("*.jp*g"), tmp_path / "gone.png"])
    for path, found in zip(paths, sizes(Picture(p.name, p.parent) for p in paths), strict=True):
        try:
            assert found == check_image(path), path
        except UnreadableImage as error:
            # what is damaged further on still has a size; the reasons for no size are the same
            assert isinstance(found, tuple) or str(found).startswith(str(error)[:20]), path


@pytest.mark.parametrize(
    ("costs", "tokens", "batch", "seconds"),
    [
        ([(100, 2.0, 1)] * 3, [100, 9_000], 1, 4.0),  # too few to tell
        ([(100 * n, 1.0 + n, 1) for n in range(1, 11)], [2_000], 1, 21.0),
        ([(100 * n, 10.0 - n, 1) for n in range(1, 10)], [50, 60], 1, 10.0),  # no sense in it
        ([(100, 8.0, 8)] * 9 + [(100, 2.0, 1)], [100] * 4, 8, 4.0),
        ([(100, 8.0, 8)] * 9 + [(100, 2.0, 1)], [100] * 4, 1, 8.0),
        ([(100, 8.0, 8)] * 9, [100] * 4, "auto", 4.0),
    ],
)
def test_predictions(costs: list[Any], tokens: list[int], batch: Any, seconds: float) -> None:
    found = predicted([Cost(*cost) for cost in costs], tokens, batch)
    assert found and found.seconds == pytest.approx(seconds)


def test_without_history_there_is_no_prediction() -> None:
    assert predicted([], [100], 1) is None

"""`--recursive`: which pictures of a tree there are, where their captions go, and that nothing is
written or read outside of the two folders. On real files, without a model."""

import dataclasses
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from captioner.asking.prompts import Prompts
from captioner.errors import OutputError
from captioner.export.exporting import export
from captioner.export.place import Options
from captioner.output.folder import OutputFolder
from captioner.output.planning import MISSING
from captioner.output.results import results
from captioner.pictures.ignored import DEEPER
from captioner.pictures.names import caption_file_names
from captioner.pictures.reading import validate
from captioner.pictures.scan import scan
from captioner.pictures.sizes import sizes
from captioner.pictures.stamps import stamp_of
from captioner.plan import Plan, Scan, unreadable_in_words, unreadable_together
from captioner.records import Caption, Generation, Job, Picture, Recipe, Skipped
from captioner.run import Run
from captioner.settings import DEFAULTS, Settings
from tests.checking import check_image
from tests.conftest import draw_picture
from tests.test_scanning import same_file

FIGURES: dict[str, Any] = {field.name: 0 for field in dataclasses.fields(Generation)}
FIGURES |= {"banned": ()}


def fill(directory: Path, *keys: str) -> Path:
    """Empty files, with the folders that they are in."""
    for key in keys:
        (directory / key).parent.mkdir(parents=True, exist_ok=True)
        (directory / key).write_bytes(key.encode())
    return directory


def scanned(directory: Path, output_dir: Path | None = None) -> list[str]:
    found = scan(directory, recursive=True, output_dir=output_dir)
    return [picture.key for picture in found.pictures]


# --- which pictures ---


def test_the_order_is_natural_and_a_folder_s_own_pictures_come_first(tmp_path: Path) -> None:
    order = ["2.png", "10.png", "a 2/b/1.png", "a 10/1.png", "a 10/2.png", "B/c/d/9.png"]
    order += ["B/c/d/10.png", "b/1.png", "b/x/1.png", "c.png/1.png"]
    fill(tmp_path, *reversed(order))
    found = scan(tmp_path, recursive=True)
    assert [picture.key for picture in found.pictures] == order
    assert all(p.path == tmp_path / p.key and p.root == tmp_path for p in found.pictures)
    assert (found.folders, found.ignored, found.unread) == (9, "", ())


def test_without_the_flag_only_the_folder_itself_is_looked_at(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b/c/d.png")
    found = scan(tmp_path)
    assert [picture.key for picture in found.pictures] == ["a.png"]
    assert (found.ignored, found.deeper) == ("1 subfolder not looked into", "")
    (tmp_path / "a.png").unlink()
    assert scan(tmp_path).deeper == DEEPER
    (tmp_path / "b" / "c" / "d.png").rename(tmp_path / "b" / "c" / "d.txt")
    assert scan(tmp_path).deeper == ""


def test_what_is_hidden_ours_or_of_a_photo_library_is_never_scanned(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", ".git/x.png", "b/.hidden.png", "b/.thumbs/x.png", "b/c.png")
    fill(tmp_path, "Photos Library.photoslibrary/originals/0/x.jpg")
    fill(tmp_path, "out/a.png", "gallery/theirs.png", "gallery/thumbnails/theirs.jpg")
    ours = f"gallery/thumbnails/{'0a' * 32}.jpg"
    fill(tmp_path, ours, f"earlier/{ours}", "earlier/own.png")
    found = scan(tmp_path, recursive=True, output_dir=tmp_path / "b" / ".." / "out")
    assert [picture.key for picture in found.pictures] == [
        *("a.png", "b/c.png", "earlier/own.png", "gallery/theirs.png"),
        "gallery/thumbnails/theirs.jpg",
    ]
    assert found.ignored == "3 hidden; 1 photo library not looked into"
    assert "out/a.png" in scanned(tmp_path)  # it is not that of another run
    # the folder of the captions may be that of the pictures
    assert scanned(tmp_path, tmp_path) == scanned(tmp_path)


def test_links_lead_nowhere_outside_and_those_to_folders_are_not_followed(tmp_path: Path) -> None:
    folder, outside = tmp_path / "in", tmp_path / "outside"
    fill(folder, "a/real.png", "b/c/deep.png")
    fill(outside, "secret.png")
    (folder / "a" / "up.png").symlink_to("../b/c/deep.png")
    (folder / "a" / "out.png").symlink_to(outside / "secret.png")
    (folder / "a" / "out too.png").symlink_to("../../outside/secret.png")
    (folder / "b" / "loop").symlink_to("..")
    (folder / "b" / "door").symlink_to(outside)
    (folder / "b" / "picture.png").symlink_to("c")  # a folder
    found = scan(folder, recursive=True)
    assert [p.key for p in found.pictures] == ["a/real.png", "a/up.png", "b/c/deep.png"]
    assert (
        found.ignored == "2 links that lead nowhere or elsewhere; 3 links to folders not followed"
    )
    through = tmp_path / "link"
    through.symlink_to(folder)
    assert scanned(through) == ["a/real.png", "a/up.png", "b/c/deep.png"]


def test_a_tree_may_be_as_deep_as_paths_may_be_long(tmp_path: Path) -> None:
    """Where the system takes no longer path, the run goes on with all the others."""
    fill(tmp_path, "z/last.png")
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        for level in range(1066):
            name = "d" if level < 1050 else "x" * 200
            os.mkdir(name, dir_fd=here)
            here, outer = os.open(name, os.O_RDONLY, dir_fd=here), here
            os.close(outer)
            if level in (0, 1020):
                os.close(os.open("a.png", os.O_CREAT, dir_fd=here))
    finally:
        os.close(here)
    found = scan(tmp_path, recursive=True)
    assert [p.key for p in found.pictures] == ["d/a.png", "d/" * 1021 + "a.png", "z/last.png"]
    ((folder, reason),) = found.unread
    assert folder.startswith("d/d/d/") and reason == "File name too long"
    deep = Prompts(Settings(input_dir=tmp_path)).of(found.pictures[1])  # looks upwards for one
    assert deep.user_prompt == DEFAULTS.user_prompt
    # neither is it mirrored where its path would be too long with the output folder's
    files = caption_file_names([p.key for p in found.pictures], longest=2100)
    assert [files[0], files[2]] == ["d/a.json", "z/last.json"]
    assert files[1].startswith("a~") and len(files[1]) == len("a~0123456789ab.json")
    subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)  # shutil does not get there


# --- where each caption goes ---


@pytest.mark.parametrize(
    ("keys", "files"),
    [
        (["a.png", "b/a.png", "b/c/a.png"], ["a.json", "b/a.json", "b/c/a.json"]),
        (["b/a.png", "b/a.jpg", "c/a.jpg"], ["b/a.png.json", "b/a.jpg.json", "c/a.json"]),
        (["captions.png", "b/captions.png"], ["captions.png.json", "b/captions.json"]),
        # a folder that is named like a file of ours is not
        (["x.png", "x.json/y.png"], ["x.json", "x~json/y.json"]),
        (
            ["captions.json/a.png", "index.HTML/a.png"],
            ["captions~json/a.json", "index~HTML/a.json"],
        ),
        (["a/b.txt/c.png", "a/b.png"], ["a/b~txt/c.json", "a/b.json"]),
        (["x~json/y.png", "x.json/y.jpg"], ["x~json/y.png.json", "x~json/y.jpg.json"]),
    ],
)
def test_the_naming_rule_in_a_tree(keys: list[str], files: list[str]) -> None:
    assert caption_file_names(keys) == files


def test_files_of_others_are_left_in_every_folder() -> None:
    assert caption_file_names(["a.png", "b/a.png"], ["b/A.json"]) == ["a.json", "b/a.png.json"]
    assert caption_file_names(["B/a.png"], ["b/a.json"]) == ["B/a.png.json"]  # one folder, perhaps


@pytest.mark.parametrize("seed", range(25))
def test_distinct_for_any_tree_on_any_file_system(seed: int) -> None:
    numbers = random.Random(seed)
    folders = [
        "",
        "a/",
        "A/",
        "a/b/",
        "A/B/",
        "é/",
        "e\u0301/",
        "a.json/",
        "a~json/",
        "x" * 250 + "/",
    ]
    stems = ["a", "A", "é", "e\u0301", "captions", "a.png", "x" * 251, "ß", "ss", "\udc80"]
    keys = {
        numbers.choice(folders) + numbers.choice(stems) + numbers.choice([".png", ".PNG", ".jpg"])
        for _ in range(numbers.randint(1, 80))
    }
    listed = sorted(keys)
    numbers.shuffle(listed)
    files = caption_file_names(listed, longest=260)
    owners: dict[str, str] = {}
    places = {folder for file in files for folder in _folders(file)}
    for reserved in ("captions.json", "summary.json", *places):
        owners.update(dict.fromkeys(same_file(reserved), reserved))
    for key, file in zip(listed, files, strict=True):
        assert len(os.fsencode(file.rpartition("/")[2])) <= 255 and file.endswith(".json")
        for form in same_file(file):
            assert form not in owners, f"{key!r} and {owners[form]!r} share {file!r}"
            owners[form] = key
    mapped = dict(zip(listed, files, strict=True))
    numbers.shuffle(listed)
    again = dict(zip(listed, caption_file_names(listed, longest=260), strict=True))
    assert again == mapped, "depends on the order"


def _folders(file: str) -> list[str]:
    parts = file.split("/")[:-1]
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


# --- nothing outside is read ---


def test_a_folder_that_becomes_a_link_does_not_lead_a_reader_out(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    draw_picture(outside / "a.png")
    (tmp_path / "in" / "b" / "c").mkdir(parents=True)
    draw_picture(tmp_path / "in" / "b" / "c" / "a.png")
    (picture,) = scan(tmp_path / "in", recursive=True).pictures
    assert check_image(picture.path, root=picture.root) == (192, 128)
    shutil.rmtree(tmp_path / "in" / "b" / "c")
    (tmp_path / "in" / "b" / "c").symlink_to(outside)
    reason = "a link that leads out of the folder"
    assert validate(Job(picture, "b/c/a.json", 1, 1)) == Skipped(picture, reason, None)
    assert [str(found) for found in sizes([picture])] == [reason]
    (tmp_path / "in" / "b" / "c").unlink()
    (tmp_path / "in" / "b" / "d").mkdir()
    draw_picture(tmp_path / "in" / "b" / "d" / "a.png")
    (tmp_path / "in" / "b" / "c").symlink_to("d")  # within the folder it is as good as any
    assert [*sizes([picture])] == [(192, 128)]


# --- what is written ---


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    fill(tmp_path / "in", "top.png", "a/1.png", "a/b/2.png", "a/b/c/3.png", "d/4.png")
    return Settings(input_dir=tmp_path / "in", output_dir=tmp_path / "out", recursive=True)


def run_through(
    settings: Settings, meanwhile: Callable[[Plan], object] = lambda plan: None
) -> tuple[Run, Plan]:
    """What a run does, but for the captioning; `meanwhile` is done between the plan and that."""
    run, recipe = Run(settings), Recipe.of(settings, "1")
    run.scan = scan(
        settings.input_dir,
        settings.formats,
        recursive=settings.recursive,
        output_dir=settings.output_dir,
    )
    with OutputFolder(settings.output_dir) as output:
        run.plan = output.plan(run.scan, settings, recipe, Prompts(settings).of)
        meanwhile(run.plan)
        for job in run.plan.todo:
            text = f"What {job.picture.key} shows."
            made = Generation(**FIGURES | {"text": text, "finish_reason": "stop", "flags": ()})
            caption = Caption(
                job, job.asked.user_prompt, made, stamp_of(job.picture.path, job.picture.root)
            )
            output.save(caption, recipe)
            run.add(caption)
        output.finish(run)
    return run, run.plan


def images(settings: Settings) -> list[str]:
    """Those that captions.json has, in its order."""
    entries = json.loads((settings.output_dir / "captions.json").read_bytes())
    return [entry["image"] for entry in entries]


KEYS = ["top.png", "a/1.png", "a/b/2.png", "a/b/c/3.png", "d/4.png"]


def test_the_tree_is_mirrored_and_nothing_is_done_twice(settings: Settings) -> None:
    (settings.input_dir / "empty" / "folder").mkdir(parents=True)
    run_through(settings)
    files = sorted(
        str(path.relative_to(settings.output_dir)) for path in settings.output_dir.rglob("*")
    )
    ours = [".run.lock", "captions.json", "provenance.jsonl", "summary.json"]
    mirrored = ["a", "a/1.json", "a/b", "a/b/2.json", "a/b/c", "a/b/c/3.json", "d", "d/4.json"]
    assert files == sorted([*ours, *mirrored, "top.json"])
    assert images(settings) == KEYS
    assert [result.key for result in results(settings.output_dir)] == KEYS
    (settings.output_dir / "a" / "b" / f".{'0' * 32}.tmp").write_text("half")
    (settings.output_dir / "d" / "4.json").unlink()
    _, plan = run_through(settings)
    assert [(job.picture.key, job.reason) for job in plan.todo] == [("d/4.png", MISSING)]
    assert not list((settings.output_dir / "a" / "b").glob(".*"))
    assert json.loads((settings.output_dir / "d" / "4.json").read_text())["image"] == "d/4.png"


def test_a_run_without_the_flag_keeps_the_captions_below(settings: Settings) -> None:
    run_through(settings)
    flat = settings.model_copy(update={"recursive": False})
    (settings.input_dir / "d" / "4.png").unlink()
    _, plan = run_through(flat)
    assert plan.todo == ()
    assert plan.up_to_date == ("top.png",)
    assert [earlier.image for earlier in plan.unasked] == KEYS[1:4]
    assert [earlier.image for earlier in plan.gone] == ["d/4.png"]
    assert images(settings) == KEYS[:4]
    summary = json.loads((settings.output_dir / "summary.json").read_text())
    assert (summary["counts"]["unasked"], summary["counts"]["gone"]) == (3, 1)


def test_a_format_that_is_not_asked_for_any_more_keeps_its_captions(settings: Settings) -> None:
    fill(settings.input_dir, "a/5.webp")
    run_through(settings.model_copy(update={"formats": ("all",)}))
    _, plan = run_through(settings)
    assert (plan.todo, plan.gone) == ((), ())
    assert [earlier.image for earlier in plan.unasked] == ["a/5.webp"]
    assert images(settings) == [*KEYS[:2], "a/5.webp", *KEYS[2:]]


def test_a_folder_that_cannot_be_read_does_not_take_its_captions_along(settings: Settings) -> None:
    run_through(settings)
    found = scan(settings.input_dir, recursive=True)
    left = [picture for picture in found.pictures if not picture.key.startswith("a/b/")]
    run = Run(settings)
    # root, who may be running this, is refused nothing
    run.scan = Scan(left, found.directory, unread=[("a/b", "Permission denied")])
    with OutputFolder(settings.output_dir) as output:
        run.plan = output.plan(run.scan, settings, Recipe.of(settings, "1"), Prompts(settings).of)
        output.finish(run)
    assert run.plan.gone == ()
    assert images(settings) == KEYS
    summary = json.loads((settings.output_dir / "summary.json").read_text())
    assert summary["unread"] == [{"folder": "a/b", "reason": "Permission denied"}]


def test_without_provenance_caption_files_say_themselves_whose_they_are(settings: Settings) -> None:
    run_through(settings)
    (settings.output_dir / "provenance.jsonl").unlink()
    (settings.output_dir / "a" / "b" / "2.json").rename(settings.output_dir / "a" / "b" / "x.json")
    fill(settings.input_dir, "a/x.png", "a/y.png")
    (settings.output_dir / "a" / "y.json").write_text('{"of": "somebody else"}')
    _, plan = run_through(settings)
    assert plan.caption_files["a/b/2.png"] == "a/b/x.json"
    assert [job.caption_file for job in plan.todo] == ["a/x.json", "a/y.png.json"]
    assert plan.edited == tuple(KEYS)
    assert (settings.output_dir / "a" / "y.json").read_text() == '{"of": "somebody else"}'


IN_THE_WAY: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "link": (lambda path, outside: path.symlink_to(outside), "a, is a link"),
    "link to nowhere": (lambda path, outside: path.symlink_to("nowhere"), "a, is a link"),
    "file": (lambda path, outside: path.write_text("mine"), "a, is no folder"),
}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", IN_THE_WAY)
def test_nothing_is_written_through_what_is_in_the_place_of_a_folder(
    kind: str, overwrite: bool, settings: Settings, tmp_path: Path
) -> None:
    plant, why = IN_THE_WAY[kind]
    outside = tmp_path / "outside"
    fill(outside, "1.json")
    (outside / "1.json").write_text('{"image": "a/1.png", "prompt": "p", "caption": "theirs"}')
    settings.output_dir.mkdir()
    plant(settings.output_dir / "a", outside)
    _, plan = run_through(settings.model_copy(update={"overwrite": overwrite}))
    assert [(u.image, u.reason) for u in plan.unreadable] == [
        (key, f"what should be its folder, {why}") for key in KEYS[1:4]
    ]
    assert [unreadable_in_words(together) for together in unreadable_together(plan)] == [
        "a/1.json, a/b/2.json, a/b/c/3.json are no caption files (what should be its folder, "
        f"{why}): mend them, or remove what is there to have a/1.png, a/b/2.png, a/b/c/3.png "
        "captioned again"
    ]
    assert images(settings) == ["top.png", "d/4.png"]
    assert [result.key for result in results(settings.output_dir)] == ["top.png", "d/4.png"]
    assert [path.name for path in outside.iterdir()] == ["1.json"]
    assert "theirs" in (outside / "1.json").read_text()


def test_a_folder_that_becomes_a_link_during_a_run_ends_it(
    settings: Settings, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()

    def replaced(plan: Plan) -> None:
        (settings.output_dir / "d").symlink_to(outside)

    with pytest.raises(
        OutputError, match=r"4\.json cannot be written: .* its folder, d, is a link"
    ):
        run_through(settings, replaced)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    "file",
    [
        *("../x.json", "/x.json", "a/../x.json", "a//x.json", "./x.json", ".a/x.json"),
        *("a/x\0.json", "\ud800.json", "x/" * 2_100 + "x.json"),
    ],
    ids=lambda file: ascii(file)[:20],
)
def test_a_provenance_that_leads_elsewhere_is_not_believed(file: str, settings: Settings) -> None:
    run_through(settings)
    path = settings.output_dir / "provenance.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line["image"] == "a/1.png":
            line["caption_file"] = file
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    _, plan = run_through(settings)
    assert plan.caption_files["a/1.png"] == "a/1.json"
    assert "a/1.png" in plan.edited  # no line speaks of it
    assert not list(settings.output_dir.parent.glob("x*"))


def test_exports_are_in_the_tree_and_beside_the_pictures(settings: Settings) -> None:
    run_through(settings)
    kinds = ["txt", "jsonl", "csv", "xmp", "html"]
    export(settings.output_dir, kinds, Options(settings.input_dir))
    for key, name in zip(KEYS, ("top", "a/1", "a/b/2", "a/b/c/3", "d/4"), strict=True):
        assert (settings.output_dir / f"{name}.txt").read_text() == f"What {key} shows.\n"
        assert (settings.output_dir / f"{name}.png.xmp").is_file()
    page = (settings.output_dir / "alt-texts.html").read_text()
    assert '<img src="../in/a/b/c/3.png" alt="What a/b/c/3.png shows.">' in page
    assert (
        "\na/b/2.png,What a/b/2.png shows.," in (settings.output_dir / "captions.csv").read_text()
    )
    before = set(settings.input_dir.rglob("*"))
    export(settings.output_dir, kinds, Options(settings.input_dir, beside=True))
    lines = (settings.input_dir / "metadata.jsonl").read_text().splitlines()
    assert [json.loads(line)["file_name"] for line in lines] == KEYS
    assert (settings.input_dir / "a" / "b" / "c" / "3.txt").is_file()
    assert len(set(settings.input_dir.rglob("*")) - before) == 2 * len(KEYS) + 3
    assert scanned(settings.input_dir, settings.output_dir) == KEYS
    _, plan = run_through(settings)
    assert plan.todo == ()


def test_sidecars_of_folders_that_may_be_one_are_distinct(tmp_path: Path) -> None:
    fill(tmp_path / "in", "a/x.png", "A/x.png")
    if len(list((tmp_path / "in").iterdir())) < 2:
        pytest.skip("here they are one")
    settings = Settings(input_dir=tmp_path / "in", output_dir=tmp_path / "out", recursive=True)
    run_through(settings)
    export(settings.output_dir, ["xmp", "txt"], Options(settings.input_dir))
    names = [path.name for path in settings.output_dir.rglob("x*")]
    assert len(names) == len({name.lower() for name in names}) == 6


def test_pictures_and_captions_may_share_a_tree(settings: Settings) -> None:
    shared = settings.model_copy(update={"output_dir": settings.input_dir})
    run_through(shared)
    assert (shared.input_dir / "a" / "b" / "2.json").is_file()
    _, plan = run_through(shared)
    assert (plan.todo, list(plan.up_to_date)) == ((), KEYS)


def test_a_backslash_is_no_folder(tmp_path: Path) -> None:
    fill(tmp_path / "in", "a/b\\..\\x.png")
    settings = Settings(input_dir=tmp_path / "in", output_dir=tmp_path / "out", recursive=True)
    run_through(settings)
    assert [result.key for result in results(settings.output_dir)] == ["a/b\\..\\x.png"]
    assert (settings.output_dir / "a" / "b\\..\\x.json").is_file()
    assert Picture("a/b\\..\\x.png", settings.input_dir).path.is_file()

"""What is up to date and what is done again, and why: on real files, without a model."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from captioner.asking.prompts import Prompts
from captioner.checkpoint.find import find_checkpoint, known_revision
from captioner.checkpoint.fingerprint import checkpoint_fingerprint
from captioner.errors import InputError
from captioner.output.folder import PROVENANCE, OutputFolder
from captioner.output.lock import locked
from captioner.output.provenance import PROGRAM, Provenance
from captioner.pictures.scan import scan
from captioner.pictures.stamps import stamp_of
from captioner.plan import Plan
from captioner.records import Caption, Checkpoint, Generation, Picture, Recipe, Skipped
from captioner.settings import RECIPE, Settings
from tests.conftest import CHECKPOINT, ROOT


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Three files that are named like pictures; the planning opens none of them."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for name in ("a.png", "b.jpg", "c.png"):
        (tmp_path / "in" / name).write_bytes(f"bytes of {name}".encode())
    return Settings(input_dir=tmp_path / "in", output_dir=tmp_path / "out", model=CHECKPOINT)


def planned(settings: Settings) -> Plan:
    recipe = Recipe.of(settings, known_revision(settings))
    with OutputFolder(settings.output_dir) as output:
        return output.plan(scan(settings.input_dir), settings, recipe, Prompts(settings).of)


def files_of(plan: Plan) -> dict[str, str]:
    """The caption file of each picture."""
    return {picture.key: plan.caption_files[picture.key] for picture in plan.pictures}


def todo(settings: Settings) -> dict[str, str | None]:
    """The pictures that are to be captioned, and why again."""
    return {job.picture.key: job.reason for job in planned(settings).todo}


def caption_all(
    settings: Settings,
    flags: tuple[str, ...] = (),
    text: str = "A picture.",
    finish_reason: str = "stop",
) -> None:
    """What a run does with everything that is to be done, but for the captioning."""
    checkpoint = find_checkpoint(settings)
    assert isinstance(checkpoint, Checkpoint)
    recipe = Recipe.of(settings, checkpoint.revision)
    figures: dict[str, Any] = {field.name: 0 for field in dataclasses.fields(Generation)}
    figures |= {"text": text, "finish_reason": finish_reason, "flags": flags}
    figures |= {"fields": None, "said": "", "banned": ()}
    for job in planned(settings).todo:
        caption = Caption(
            job, job.asked.user_prompt, Generation(**figures), stamp_of(job.picture.path)
        )
        OutputFolder(settings.output_dir).save(caption, recipe)


def provenance(settings: Settings) -> Path:
    return settings.output_dir / PROVENANCE


def lines(settings: Settings) -> list[dict[str, Any]]:
    """What the provenance says, line by line."""
    return [json.loads(line) for line in provenance(settings).read_bytes().splitlines()]


def append(settings: Settings, line: dict[str, Any]) -> None:
    with provenance(settings).open("a") as file:
        file.write(json.dumps(line) + "\n")


def changed(settings: Settings, **values: Any) -> Settings:
    return settings.model_copy(update=values)


def edit(settings: Settings, file: str, **values: str) -> None:
    path = settings.output_dir / file
    path.write_text(json.dumps(json.loads(path.read_bytes()) | values), "utf-8")


def test_at_first_everything_is_new_and_afterwards_nothing_is(settings: Settings) -> None:
    assert todo(settings) == {"a.png": None, "b.jpg": None, "c.png": None}
    assert [(j.number, j.total) for j in planned(settings).todo] == [(1, 3), (2, 3), (3, 3)]
    caption_all(settings)
    plan = planned(settings)
    assert (plan.todo, plan.up_to_date) == ((), ("a.png", "b.jpg", "c.png"))
    assert not (plan.gone or plan.skipped or plan.edited or plan.left)


def test_a_limit_takes_the_first_and_leaves_the_others_for_the_next_run(
    settings: Settings,
) -> None:
    two = changed(settings, limit=2)
    plan = planned(two)
    assert [(j.picture.key, j.number, j.total) for j in plan.todo] == [
        ("a.png", 1, 2),
        ("b.jpg", 2, 2),
    ]
    assert plan.later == ("c.png",)
    caption_all(two)
    plan = planned(two)  # up to date is not what needs it
    assert ([j.picture.key for j in plan.todo], plan.later) == (["c.png"], ())
    assert plan.up_to_date == ("a.png", "b.jpg")


def touch(settings: Settings) -> Settings:
    os.utime(settings.input_dir / "b.jpg", ns=(1, 1))
    return settings


def same_size(settings: Settings) -> Settings:
    (settings.input_dir / "b.jpg").write_bytes(b"other of b.jpg")
    return settings


def longer(settings: Settings) -> Settings:
    (settings.input_dir / "b.jpg").write_bytes(b"much more than the bytes of b.jpg")
    return settings


def no_caption(settings: Settings) -> Settings:
    (settings.output_dir / "b.json").unlink()
    return settings


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (touch, {}),
        (same_size, {"b.jpg": "image changed"}),
        (longer, {"b.jpg": "image changed"}),
        (no_caption, {"b.jpg": "caption missing"}),
        (lambda s: changed(s, user_prompt="What?"), "user prompt changed"),
        (lambda s: changed(s, system_prompt="Be brief."), "system prompt changed"),
        (lambda s: changed(s, max_pixels=1000), "pixel cap changed"),
        (lambda s: changed(s, max_tokens=9, seed=4), "seed changed"),
        (lambda s: changed(s, background="black"), "background changed"),
        (lambda s: changed(s, temperature=0.5), "temperature changed"),
        (lambda s: changed(s, overwrite=True), "--overwrite"),
        (lambda s: changed(s, batch_size=8), {}),
        (lambda s: changed(s, repo_id="someone/else"), {}),  # --model goes before it
        (lambda s: changed(s, model=None, repo_id="someone/else"), "model changed"),
        (lambda s: changed(s, retry_flagged=True), {}),
    ],
)
def test_why_a_picture_is_captioned_again(
    settings: Settings,
    change: Callable[[Settings], Settings],
    expected: str | dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    caption_all(settings)
    if isinstance(expected, str):
        expected = dict.fromkeys(("a.png", "b.jpg", "c.png"), expected)
    assert todo(change(settings)) == expected


# for each setting that a caption depends on, another value than the default
OTHERS = {
    "user_prompt": "What?",
    "system_prompt": "Be brief.",
    "banned_phrase": ("A picture",),
    "remove_openings": ("This is", "Here is"),
    "max_tokens": 9,
    "temperature": 0.5,
    "seed": 4,
    "max_pixels": 1000,
    "background": "black",
    "answer_schema": '{"type":"object"}',
    "ask": ("mood=Which mood?", "alt_text=Write an alt text, in a line."),
}


@pytest.mark.parametrize("name", RECIPE)
def test_a_setting_of_the_recipe_makes_a_caption_stale_and_is_named(
    settings: Settings, name: str
) -> None:
    caption_all(settings, finish_reason="length")
    other = changed(settings, **{name: OTHERS[name]})
    assert set(todo(other).values()) == {f"{RECIPE[name]} changed"}
    caption_all(other, finish_reason="length")
    assert todo(other) == {}
    assert set(todo(settings).values()) == {f"{RECIPE[name]} changed"}


def test_a_new_name_makes_a_caption_stale_only_where_the_prompt_tells_it(
    settings: Settings,
) -> None:
    """The folder's name is what can change without the picture being another one."""
    plain = changed(settings, user_prompt="What?")
    naming = changed(settings, user_prompt="What is in {folder}?")
    for each, again in ((plain, {}), (naming, dict.fromkeys("abc"))):
        caption_all(each)
        moved = each.input_dir.rename(each.input_dir.with_name(f"moved{len(again)}"))
        now = changed(each, input_dir=moved)
        assert len(todo(now)) == len(again)
        assert set(todo(now).values()) <= {"user prompt changed"}
        assert lines(each)[-1]["user_prompt"] == f"What{' is in in' if again else ''}?"
        moved.rename(each.input_dir)
        assert todo(each) == {}


def test_a_folder_s_prompt_makes_its_captions_stale(settings: Settings) -> None:
    caption_all(settings)
    (settings.input_dir / "prompt.txt").write_text("What is {stem}?")
    assert set(todo(settings).values()) == {"user prompt changed"}
    caption_all(settings)
    assert todo(settings) == {}
    assert [line["user_prompt"] for line in lines(settings)[-2:]] == ["What is b?", "What is c?"]
    (settings.input_dir / "prompt.txt").write_text("What is c?")
    assert set(todo(settings)) == {"a.png", "b.jpg"}


@pytest.mark.parametrize("limit", [9, 2048])
def test_a_caption_that_ended_by_itself_stays_when_the_token_limit_changes(
    settings: Settings, limit: int
) -> None:
    """So one that was mended with a higher limit is not cut by the next run without."""
    caption_all(changed(settings, limit=1), finish_reason="length", flags=("truncated",))
    caption_all(settings)
    other = changed(settings, max_tokens=limit)
    assert todo(other) == {"a.png": "token limit changed"}
    caption_all(other)
    assert todo(other) == todo(settings) == {}
    assert [line["max_tokens"] for line in lines(settings)] == [512, 512, 512, limit]


def test_a_clock_that_went_back_changes_nothing(settings: Settings) -> None:
    """The order of the lines counts, not their times."""
    caption_all(settings)
    caption_all(changed(settings, overwrite=True), text="The second.")
    *before, last = lines(settings)
    provenance(settings).unlink()
    for line in before:
        append(settings, line)
    append(settings, last | {"at": "2001-01-01T00:00:00+00:00"})
    plan = planned(settings)
    assert (plan.todo, plan.edited) == ((), ())


def test_a_line_that_does_not_say_how_its_caption_ended_depends_on_the_token_limit(
    settings: Settings,
) -> None:
    caption_all(settings)
    text = provenance(settings).read_text("utf-8")
    provenance(settings).write_text(text.replace('"finish_reason": "stop", ', ""), "utf-8")
    assert set(todo(changed(settings, max_tokens=9)).values()) == {"token limit changed"}
    assert todo(settings) == {}


def test_all_that_changed_is_named(settings: Settings) -> None:
    caption_all(settings, finish_reason="length")
    assert set(todo(changed(settings, **OTHERS)).values()) == {
        f"{', '.join(RECIPE[name] for name in RECIPE)} changed"
    }


def test_a_touched_file_is_read_only_once(settings: Settings) -> None:
    caption_all(settings)
    touch(settings)
    planned(settings)
    assert [line["result"] for line in lines(settings)] == [*["captioned"] * 3, "touched"]
    planned(settings)
    assert len(lines(settings)) == 4


def test_another_checkpoint_in_the_same_place_is_noticed(
    settings: Settings, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(CHECKPOINT, model)
    caption_all(changed(settings, model=model))
    assert todo(changed(settings, model=model)) == {}
    assert todo(settings) == {}  # the very same files in another place
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[len(weights) // 2] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    assert set(todo(changed(settings, model=model)).values()) == {"model changed"}


def test_when_the_checkpoint_is_not_here_any_more_its_captions_are_up_to_date(
    settings: Settings, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(CHECKPOINT, model)
    caption_all(changed(settings, model=model))
    shutil.rmtree(model)
    assert todo(changed(settings, model=model)) == {}


def test_a_fingerprint_is_of_the_files_that_matter(tmp_path: Path) -> None:
    shutil.copytree(CHECKPOINT, tmp_path / "model")
    before = checkpoint_fingerprint(tmp_path / "model")
    assert before == checkpoint_fingerprint(CHECKPOINT)
    (tmp_path / "model" / "README.md").write_text("Another card.")
    (tmp_path / "model" / ".DS_Store").write_text("")
    assert before == checkpoint_fingerprint(tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ messages }}")
    assert before != checkpoint_fingerprint(tmp_path / "model")


# --- captions that a person wrote or changed ---


def test_an_edited_caption_is_done_whatever_else_changes(settings: Settings) -> None:
    caption_all(settings)
    edit(settings, "b.json", caption="What a person sees.")
    same_size(settings)
    plan = planned(changed(settings, user_prompt="What?"))
    assert [job.picture.key for job in plan.todo] == ["a.png", "c.png"]
    assert plan.edited == plan.up_to_date == ("b.jpg",)


def test_another_layout_of_the_file_is_no_edit(settings: Settings) -> None:
    caption_all(settings, text="Größe")
    edit(settings, "b.json")
    assert planned(settings).edited == ()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"image": "b.jpg",\n  oops', "it is no JSON from line 2 on"),
        (b'{"image": "b.jpg\xff"', "it is no text in UTF-8"),
        (b'{"image": "b.jpg", "fields": {"n": NaN}}', "it is no JSON: it holds NaN"),
        (b'{"image": "b.jpg", "fields": {"n": 1e999}}', "it holds a number that is too large"),
        (b"1" * 5_000, "it holds a number that is too long"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b"[]", "it has not image, prompt and caption"),
        (b'{"image": "b.jpg", "prompt": "", "caption": 1}', "it has not image, prompt and caption"),
        (
            b'{"image": "b.jpg", "prompt": "", "caption": "", "more": '
            + b"[" * 30
            + b"]" * 30
            + b"}",
            "it is nested too deeply",
        ),
        (
            b'{"image": "c\\n.png", "prompt": "", "caption": ""}',
            "it is the caption of c\\n.png",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_row_7_a_caption_file_that_is_none_any_more_is_kept_and_reported(
    settings: Settings, content: bytes, why: str
) -> None:
    caption_all(settings)
    (settings.output_dir / "b.json").write_bytes(content)
    plan = planned(settings)
    assert [(u.image, u.caption_file, u.reason) for u in plan.unreadable] == [
        ("b.jpg", "b.json", why)
    ]
    assert (plan.todo, plan.edited, plan.up_to_date) == ((), (), ("a.png", "c.png"))
    assert todo(changed(settings, overwrite=True))["b.jpg"] == "--overwrite"
    assert (settings.output_dir / "b.json").read_bytes() == content


@pytest.mark.parametrize("content", [b"", b" \n", bytes(4096)])
def test_row_7_an_empty_caption_file_is_no_edit(settings: Settings, content: bytes) -> None:
    (settings.output_dir / "b.json").write_bytes(content)
    assert planned(settings).caption_files["b.jpg"] == "b.json"
    caption_all(settings)
    (settings.output_dir / "b.json").write_bytes(content)
    assert planned(settings).edited == ()
    assert todo(settings) == {"b.jpg": "caption missing"}


def test_row_6_what_is_no_regular_file_is_no_caption_file(settings: Settings) -> None:
    """None of them is waited for, or read to its end, which two of them have not."""
    caption_all(settings)
    for name in ("a.json", "b.json", "c.json"):
        (settings.output_dir / name).unlink()
    (settings.output_dir / "a.json").symlink_to("/dev/zero")
    os.mkfifo(settings.output_dir / "b.json")
    (settings.output_dir / "c.json").touch()
    os.truncate(settings.output_dir / "c.json", 20_000_000_000)  # with nothing in it
    assert {u.caption_file: u.reason for u in planned(settings).unreadable} == {
        "a.json": "it is a link",
        "b.json": "it is a FIFO",
        "c.json": "it is larger than 64 MB",
    }


def test_overwriting_an_edited_caption_makes_it_ours_again(settings: Settings) -> None:
    caption_all(settings)
    edit(settings, "b.json", caption="What a person sees.")
    again = changed(settings, overwrite=True)
    assert planned(again).edited == ("b.jpg",)
    assert planned(again).up_to_date == ()
    caption_all(again)
    assert planned(settings).edited == ()


def test_a_caption_that_was_there_before_any_run_is_kept(settings: Settings) -> None:
    entry = {"image": "b.jpg", "prompt": "?", "caption": "Written by hand."}
    (settings.output_dir / "b.json").write_text(json.dumps(entry))
    assert planned(settings).edited == ("b.jpg",)
    assert list(todo(settings)) == ["a.png", "c.png"]


def test_a_stranger_s_file_is_never_taken_for_a_caption_file(settings: Settings) -> None:
    (settings.output_dir / "b.json").write_text('{"shapes": []}')
    (settings.output_dir / "C.json").write_text('{"shapes": []}')
    plan = planned(changed(settings, overwrite=True))
    assert {job.picture.key: job.caption_file for job in plan.todo} == files_of(plan)
    files = {"a.png": "a.json", "b.jpg": "b.jpg.json", "c.png": "c.png.json"}
    assert files_of(plan) == files


def test_row_10_without_provenance_every_caption_file_counts_as_edited(
    settings: Settings,
) -> None:
    """Also those whose names nobody could guess: hashed ones, and those of a picture that got its
    name before another one of the same stem came."""
    caption_all(settings)
    long = ("x" * 251 + ".png", "captions.json.png", "a.jpg")  # a.png has a.json
    for name in long:
        (settings.input_dir / name).write_bytes(b"new")
    caption_all(settings)
    files = files_of(planned(settings))
    assert "~" in files[long[0]] and files["a.png"] == "a.json"
    edit(settings, files[long[0]], caption="What a person sees.")
    provenance(settings).unlink()
    plan = planned(settings)
    assert plan.todo == ()
    assert set(plan.edited) == set(plan.up_to_date) == {"a.png", "b.jpg", "c.png", *long}
    assert files_of(plan) == files


def test_a_copy_of_a_caption_file_is_not_taken_for_it(settings: Settings) -> None:
    caption_all(settings)
    for copy in ("a (1).json", "0.json"):
        shutil.copy(settings.output_dir / "a.json", settings.output_dir / copy)
    assert planned(settings).caption_files["a.png"] == "a.json"
    provenance(settings).unlink()
    assert planned(settings).caption_files["a.png"] == "a.json"


# --- a run that ended between the line of a caption and its file ---


def unsaved(settings: Settings, text: str) -> None:
    """The lines of captions whose files were not written any more."""
    before = {path: (path.read_bytes(), path.stat()) for path in settings.output_dir.glob("*.json")}
    caption_all(changed(settings, overwrite=True), text=text)
    for path, (data, stat) in before.items():
        path.write_bytes(data)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_an_older_caption_that_a_run_could_not_replace_any_more_is_no_edit(
    settings: Settings,
) -> None:
    """Also after several runs that ended so, and by the lines of 0.1.0, which are the same."""
    caption_all(settings, text="The first.")
    unsaved(settings, "The second.")
    assert todo(settings) == dict.fromkeys(("a.png", "b.jpg", "c.png"), "not saved last time")
    unsaved(settings, "The third.")
    edit(settings, "b.json", caption="What a person sees.")
    plan = planned(settings)
    assert {job.picture.key: job.reason for job in plan.todo} == dict.fromkeys(
        ("a.png", "c.png"), "not saved last time"
    )
    assert plan.edited == ("b.jpg",)
    caption_all(settings, text="The fourth.")
    assert todo(settings) == {}


def test_a_caption_that_a_person_takes_back_is_an_edit(settings: Settings) -> None:
    caption_all(settings, text="The first.")
    first = (settings.output_dir / "b.json").read_bytes()
    caption_all(changed(settings, overwrite=True), text="The second.")
    path = settings.output_dir / "b.json"
    path.write_bytes(first)
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime + 2))  # some seconds later
    assert planned(settings).edited == ("b.jpg",)
    assert todo(settings) == {}


# --- flags, files that cannot be read, files that have gone ---


def test_only_flagged_captions_are_retried(settings: Settings) -> None:
    caption_all(settings)
    (settings.output_dir / "b.json").unlink()
    caption_all(settings, flags=("truncated",))
    (settings.input_dir / "d.png").write_bytes(b"new")
    plan = planned(changed(settings, retry_flagged=True, max_tokens=2000, seed=1))
    assert {j.picture.key: j.reason for j in plan.todo} == {"b.jpg": "flagged last time"}
    assert plan.left == ("a.png", "c.png", "d.png")
    assert list(todo(settings)) == ["d.png"]


def test_a_picture_that_could_not_be_read_is_looked_at_again_when_it_changes(
    settings: Settings,
) -> None:
    caption_all(settings)
    longer(settings)
    (job,) = planned(settings).todo
    skipped = Skipped(job.picture, "empty file", stamp_of(job.picture.path))
    OutputFolder(settings.output_dir).skip(skipped)

    plan = planned(settings)
    assert plan.skipped == (skipped,)
    assert not (plan.todo or plan.edited)

    same_size(settings)
    assert todo(settings) == {"b.jpg": "image changed"}
    longer(settings)
    append(settings, lines(settings)[-1] | {"program": "0.0.1"})
    assert todo(settings) == {"b.jpg": "could not be read by an earlier version"}


def test_pictures_that_have_gone_are_listed_and_their_files_are_nobody_else_s(
    settings: Settings,
) -> None:
    caption_all(settings)
    (settings.input_dir / "b.jpg").rename(settings.input_dir / "b.png")
    plan = planned(settings)
    assert [(gone.image, gone.caption_file) for gone in plan.gone] == [("b.jpg", "b.json")]
    assert [(j.picture.key, j.caption_file) for j in plan.todo] == [("b.png", "b.png.json")]


def test_a_picture_keeps_its_caption_file_when_another_of_its_name_appears(
    settings: Settings,
) -> None:
    caption_all(settings)
    (settings.input_dir / "b.png").write_bytes(b"new")
    plan = planned(settings)
    assert [(j.picture.key, j.caption_file) for j in plan.todo] == [("b.png", "b.png.json")]
    assert plan.up_to_date == ("a.png", "b.jpg", "c.png")


# --- the file itself ---


def test_a_half_written_last_line_is_cut_off(settings: Settings) -> None:
    caption_all(settings)
    path = provenance(settings)
    whole = path.read_bytes()
    for cut in (1, 10, 100_000):
        path.write_bytes(whole + (whole.splitlines()[0] * 200)[:cut])
        Provenance(path).mend()
        assert path.read_bytes() == whole
    path.write_bytes(b'{"version": 1, ')
    Provenance(path).mend()
    assert path.read_bytes() == b""
    path.unlink()
    Provenance(path).mend()
    assert not path.exists()


@pytest.mark.parametrize(
    "line",
    [
        b"no JSON",
        b"[]",
        b"null",
        b"{}",
        b'{"version": 2, "image": "a.png"}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"version": 1, "image": "a.png", "result": "touched", "image_bytes": 1e999, '
        b'"image_mtime_ns": 1, "image_sha256": ""}',  # row 13
        b'{"version": 1, "image": "z.png", "result": "touched", "image_bytes": 1, '
        b'"image_mtime_ns": 1, "image_sha256": ""}',
    ],
    ids=lambda line: line[:12].decode(errors="replace"),
)
def test_lines_that_nobody_understands_do_not_count(
    settings: Settings, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caption_all(settings)
    with provenance(settings).open("ab") as file:
        file.write(line + b"\n")
    assert todo(settings) == {}
    assert "1 line of" in caplog.text


def test_row_8_a_whole_last_line_without_its_end_is_completed(settings: Settings) -> None:
    caption_all(settings)
    whole = provenance(settings).read_bytes()
    provenance(settings).write_bytes(whole[:-1])
    assert todo(settings) == {}
    assert provenance(settings).read_bytes() == whole
    provenance(settings).write_bytes(whole + b"what somebody has noted")  # and no line of ours
    assert todo(settings) == {}
    assert provenance(settings).read_bytes() == whole + b"what somebody has noted\n"


def test_row_8_what_a_power_failure_leaves_behind_a_line_is_cut_off(settings: Settings) -> None:
    caption_all(settings)
    whole = provenance(settings).read_bytes()
    for tail in (bytes(5000), b'{"version": 1, "at": "2026' + bytes(70_000)):
        provenance(settings).write_bytes(whole + tail)
        assert todo(settings) == {}
        assert provenance(settings).read_bytes() == whole


@pytest.mark.parametrize(
    "content",
    [
        b"notes of somebody, who ends no line",
        b'[{"image": "a.png"}]',
        b"a,b\n1,2\n",
        b'{"version": 3}\n',
        b"x" * 100_000_000,
    ],
    ids=lambda content: content[:12].decode(),
)
def test_row_8_a_file_of_another_form_is_refused_and_untouched(
    settings: Settings, content: bytes
) -> None:
    provenance(settings).write_bytes(content)
    began = time.process_time()
    with pytest.raises(InputError, match="move it away, or name another directory"):
        planned(settings)
    assert time.process_time() - began < 10  # 100 MB took 71 s
    assert provenance(settings).read_bytes() == content


def test_what_could_not_be_undone_costs_no_other_line(settings: Settings) -> None:
    """A part of a line stayed, since the disk did not let it be cut off: the next one is whole."""
    caption_all(settings)
    whole = provenance(settings).read_bytes()
    provenance(settings).write_bytes(whole + b'{"version": 1, "at": "2026-')
    Provenance(provenance(settings)).add_touched(
        Picture("a.png", settings.input_dir), stamp_of(settings.input_dir / "a.png")
    )
    *before, torn, last = provenance(settings).read_bytes().splitlines()
    assert b"\n".join(before) + b"\n" == whole
    assert torn == b'{"version": 1, "at": "2026-'
    assert json.loads(last)["result"] == "touched"


@pytest.mark.parametrize(
    "file",
    ["../a.json", "/etc/a.json", "a.txt", "", "captions.json", "a\0.json", "x" * 300 + ".json"],
)
def test_a_line_cannot_send_a_caption_somewhere_else(settings: Settings, file: str) -> None:
    caption_all(settings)
    path = provenance(settings)
    line = json.loads(path.read_bytes().splitlines()[0]) | {"caption_file": file}
    path.write_text(json.dumps(line) + "\n")
    with Provenance(path).read() as history:
        assert list(history) == []


def test_names_that_are_not_utf_8_and_any_caption_fit_on_a_line(settings: Settings) -> None:
    name = os.fsdecode(b"caf\xe9\n.png")
    (settings.input_dir / name).write_bytes(b"x")
    caption_all(settings, text="\n\u2028\x00 ü \U0001f408")
    assert len(provenance(settings).read_bytes().split(b"\n")) == 5
    assert todo(settings) == {}
    with Provenance(provenance(settings)).read() as history:
        assert [made.image for made in history] == ["a.png", "b.jpg", "c.png", name]


# --- what version 0.1.0 wrote ---


def line_of_0_1_0(settings: Settings, image: str, result: str, **more: Any) -> dict[str, Any]:
    stamp = stamp_of(settings.input_dir / image)
    return {
        "version": 1,
        "at": "2026-10-01T00:00:00+00:00",
        "program": "0.1.0",
        "result": result,
        "image": image,
        "image_bytes": stamp.bytes,
        "image_mtime_ns": stamp.mtime_ns,
        "image_sha256": stamp.sha256,
        **more,
    }


def captioned_by_0_1_0(
    settings: Settings, image: str, file: str, flags: tuple[str, ...] = (), **recipe: Any
) -> None:
    """The caption file of a picture, and its line with exactly the keys that it had."""
    line = line_of_0_1_0(
        settings,
        image,
        "captioned",
        caption_file=file,
        caption="A caption.",
        flags=flags,
        finish_reason="stop",
        attempts=1,
        width=24,
        height=16,
        prompt_tokens=40,
        image_tokens=12,
        generated_tokens=5,
        seconds=0.25,
        repo_id=None,
        revision=known_revision(settings),
        user_prompt="Describe the contents of this image.",
        system_prompt=None,
        max_pixels=2_097_152,
        background="white",
        max_tokens=512,
        temperature=0.0,
        seed=0,
    )
    append(settings, line | recipe)
    entry = {"image": image, "prompt": (line | recipe)["user_prompt"], "caption": "A caption."}
    (settings.output_dir / file).write_text(json.dumps(entry))


def test_captions_of_0_1_0_are_up_to_date(settings: Settings) -> None:
    captioned_by_0_1_0(settings, "a.png", "a.json")
    captioned_by_0_1_0(settings, "b.jpg", "other.json", flags=("truncated",))
    captioned_by_0_1_0(settings, "c.png", "c.json", seed=3, system_prompt="Be brief.")
    touch(settings)
    append(settings, line_of_0_1_0(settings, "b.jpg", "touched"))
    plan = planned(settings)
    assert plan.up_to_date == ("a.png", "b.jpg")
    assert {j.picture.key: j.reason for j in plan.todo} == {"c.png": "system prompt, seed changed"}
    assert not (plan.edited or plan.skipped or plan.gone)
    assert files_of(plan) == {"a.png": "a.json", "b.jpg": "other.json", "c.png": "c.json"}
    assert todo(changed(settings, retry_flagged=True)) == {"b.jpg": "flagged last time"}
    assert todo(changed(settings, seed=3, system_prompt="Be brief.", max_pixels=1)) == {
        "a.png": "system prompt, seed, pixel cap changed",
        "b.jpg": "system prompt, seed, pixel cap changed",
        "c.png": "pixel cap changed",
    }


def test_a_line_has_the_keys_that_it_had_in_0_1_0_and_one_more(settings: Settings) -> None:
    captioned_by_0_1_0(settings, "a.png", "a.json")
    caption_all(settings)
    before, *now = lines(settings)
    assert [line["image"] for line in now] == ["b.jpg", "c.png"]
    assert all(line.keys() == before.keys() | {"batch_size"} for line in now)
    assert {line["program"] for line in now} == {PROGRAM}


def test_a_picture_that_0_1_0_could_not_read_is_tried_again(settings: Settings) -> None:
    assert PROGRAM != "0.1.0", "the installed project is an old one: install it again"
    append(settings, line_of_0_1_0(settings, "b.jpg", "skipped", reason="not a PNG or JPEG file"))
    reason = "could not be read by an earlier version"
    assert todo(settings) == {"a.png": None, "b.jpg": reason, "c.png": None}
    append(settings, lines(settings)[0] | {"program": PROGRAM})
    assert [skipped.reason for skipped in planned(settings).skipped] == ["not a PNG or JPEG file"]


def test_a_setting_that_a_line_lacks_had_its_default(settings: Settings) -> None:
    captioned_by_0_1_0(settings, "a.png", "a.json")
    (line,) = lines(settings)
    del line["background"], line["seed"]
    provenance(settings).write_text(json.dumps(line) + "\n")
    assert planned(settings).up_to_date == ("a.png",)
    assert todo(changed(settings, background="black"))["a.png"] == "background changed"


# --- one run at a time ---


def test_a_second_run_is_told_who_holds_the_output_directory(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from captioner.output.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    with holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match=f"in use by another run .process {holder.pid} on"):
            locked(tmp_path / "out").__enter__()
        holder.kill()
    with locked(tmp_path / "out"):
        pass

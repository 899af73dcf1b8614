"""Exports of a finished output folder, each read back by the program that it is for."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from PIL import Image

from captioner.export.__main__ import main
from captioner.export.exporting import Choice
from captioner.export.exporting import export as write_exports
from captioner.export.kinds import KINDS
from captioner.export.place import LEDGER, Options
from captioner.export.xmp import with_description
from captioner.pictures.stamps import stamp_of
from captioner.settings import Settings
from tests.conftest import ROOT
from tests.finished import CAPTIONS, EDITED, FAILED, SKIPPED, finished

FIELDS_ALT = ["A sheet\nof numbers", '<b onmouseover="alert(2)">Ω</b>']


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return finished(tmp_path)


def export(settings: Settings, *flags: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "captioner.export", str(settings.output_dir)]
    command += ["--input-dir", str(settings.input_dir), *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_an_alt_text_that_was_asked_for_is_the_alt(settings: Settings) -> None:
    assert export(settings, "--to", "html").returncode == 0
    page = (settings.output_dir / "alt-texts.html").read_text("utf-8")
    assert '<img src="../in/a.png" alt="A sheet of numbers">' in page
    assert 'alt="&lt;b onmouseover=&quot;alert(2)&quot;&gt;Ω&lt;/b&gt;">' in page
    assert 'alt="Eine Kiste">' in page


def test_a_run_knows_the_same_kinds() -> None:
    (kinds, _) = get_args(Settings.model_fields["export"].annotation)
    assert get_args(kinds) == tuple(KINDS)


def test_every_form_is_written_and_the_captions_stay(settings: Settings) -> None:
    before = {path: path.read_bytes() for path in settings.output_dir.glob("*.json")}
    done = export(settings, "--to", ",".join(KINDS))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"Exported 3 caption(s) as {', '.join(KINDS)} into {settings.output_dir}: "
        "10 file(s) written.",
        "1 flagged caption(s) left out; --include-flagged takes them in.",
    ]
    assert (settings.output_dir / "ordner ü.txt").read_text("utf-8") == "Eine Kiste\n"
    assert (settings.output_dir / "a.txt").read_text("utf-8") == CAPTIONS["a.png"] + "\n"
    assert not (settings.output_dir / "cut.txt").exists()
    assert {path: path.read_bytes() for path in before} == before

    again = export(settings, "--to", ",".join(KINDS))
    assert again.stdout.splitlines()[0].endswith(": 0 file(s) written, 10 unchanged.")


def test_wording_is_of_the_export_alone(settings: Settings) -> None:
    flags = ("--prefix", "sks, ", "--suffix", ".", "--replace", "Eine", "Keine")
    assert export(settings, "--to", "txt", "--include-flagged", *flags).returncode == 0
    assert (settings.output_dir / "ordner ü.txt").read_text("utf-8") == "sks, Keine Kiste.\n"
    assert (settings.output_dir / "cut.txt").read_text("utf-8") == f"sks, {CAPTIONS['cut.png']}.\n"
    assert "Eine Kiste" in (settings.output_dir / "ordner ü.json").read_text("utf-8")


def test_files_of_somebody_else_are_left(settings: Settings) -> None:
    theirs = settings.input_dir / "a.txt"
    theirs.write_text("my own notes")
    outside = settings.input_dir.parent / "outside.txt"
    outside.write_text("not to be touched")
    (settings.input_dir / "ordner ü.txt").symlink_to(outside)
    done = export(settings, "--to", "txt", "--beside")
    assert done.returncode == 2
    assert "ordner ü.txt cannot be written" in done.stderr
    (settings.input_dir / "ordner ü.txt").unlink()

    done = export(settings, "--to", "txt", "--beside")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == (
        f"1 file left as it is, since no export of this folder wrote it: {theirs}; "
        "move them away to have them written."
    )
    assert theirs.read_text() == "my own notes"
    assert outside.read_text() == "not to be touched"

    # what an export wrote and a person changed is theirs from then on
    changed = settings.input_dir / "ordner ü.txt"
    assert changed.read_text("utf-8") == "Eine Kiste\n"
    changed.write_text("by hand")
    done = export(settings, "--to", "txt", "--beside", "--prefix", "sks ")
    assert "2 files left as they are" in done.stdout
    assert changed.read_text("utf-8") == "by hand"
    # what it wrote and nobody changed is made anew
    assert (settings.input_dir / "b & <c>'\".txt").read_text("utf-8").startswith("sks A <script>")


def test_pictures_of_one_stem_do_not_share_a_file(settings: Settings) -> None:
    shutil.copy(settings.input_dir / "a.png", settings.input_dir / "a.jpg")
    entry = {"image": "a.jpg", "prompt": "p", "caption": "another"}
    (settings.output_dir / "a.jpg.json").write_text(json.dumps(entry))
    done = export(settings, "--to", "txt", "--beside")
    assert done.stdout.splitlines()[-1] == (
        "1 caption not written, since the file has that of another picture of the same stem: "
        f"{settings.input_dir / 'a.txt'}; other names for the pictures help."
    )
    assert (settings.input_dir / "a.txt").read_text("utf-8") in ("another\n", CAPTIONS["a.png"])


@pytest.mark.parametrize("beside", [True, False], ids=["beside", "in one folder"])
def test_a_caption_does_not_become_the_prompt_of_its_folder(tmp_path: Path, beside: bool) -> None:
    pictures, captions = tmp_path / "in", tmp_path / ("out" if beside else "in")
    captions.mkdir()
    pictures.mkdir(exist_ok=True)
    for name in ("Prompt.png", "b.png"):  # a Mac's disk takes prompt.txt for Prompt.txt
        Image.new("RGB", (8, 8)).save(pictures / name)
        entry = {"image": name, "prompt": "p", "caption": "A box."}
        (captions / f"{name[:-4]}.json").write_text(json.dumps(entry))
    told = write_exports(captions, ["txt"], Options(pictures, beside=beside))
    assert sorted(file.name for file in pictures.glob("*.txt")) == ["b.txt"]
    assert told[-1] == (
        "1 caption not written, since the next run would take it for the prompt of its folder: "
        f"{pictures / 'Prompt.txt'}; give the picture another name."
    )


@pytest.mark.parametrize(
    "key", ["../x.png", "/etc/x.png", "a\\..\\x.png", "", "..", "\ud800.png"], ids=ascii
)
def test_a_key_that_leads_out_of_the_folder_is_no_caption(settings: Settings, key: str) -> None:
    entry = {"image": key, "prompt": "p", "caption": "planted"}
    (settings.output_dir / "planted.json").write_text(json.dumps(entry))
    options = Options(settings.input_dir, beside=True)
    write_exports(settings.output_dir, ["txt", "jsonl"], options)
    assert "planted" not in (settings.input_dir / "metadata.jsonl").read_text("utf-8")
    assert not list(settings.input_dir.parent.glob("*.txt"))


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--to", "txt,docx"], "docx is no export: choose of txt, jsonl, csv, parquet, xmp, html."),
        (["--to", "txt", "--beside", "--input-dir", "nowhere"], "nowhere is not a directory; "),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    settings: Settings, flags: list[str], sentence: str
) -> None:
    done = export(settings, *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(sentence)
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    done = export(Settings(output_dir=tmp_path), "--to", "txt")
    assert done.returncode == 2
    assert done.stderr == (
        f"{tmp_path} is not the output folder of a run, which has a summary.json.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_only_shards_wrote_says_how_to_merge_them(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    (settings.output_dir / "summary.json").unlink()
    provenance = settings.output_dir / "provenance.jsonl"
    provenance.rename(provenance.with_name("provenance-1-of-2-0123abcd.jsonl"))
    assert main([str(settings.output_dir), "--to", "txt"]) == 2
    assert capsys.readouterr().err == (
        f"{settings.output_dir} holds the captions of shards, which are not merged yet: run the "
        "flow on it once without --shard, and export then.\n"
    )


def test_caption_files_that_cannot_be_read_are_named(settings: Settings) -> None:
    outside = settings.output_dir.parent / "outside.json"
    outside.write_text(json.dumps({"image": "cut.png", "prompt": "p", "caption": "planted"}))
    (settings.output_dir / "a.json").write_text('{"image": "a.png", "cap')
    (settings.output_dir / "cut.json").unlink()
    (settings.output_dir / "cut.json").symlink_to(outside)
    (settings.output_dir / "labels.json").write_text("[1]")  # somebody else's
    options, everything = Options(settings.input_dir), Choice(include_flagged=True)
    assert write_exports(settings.output_dir, ["txt"], options, everything)[1:] == [
        "2 caption files cannot be read and are left out: a.json (it is no JSON from line 1 on), "
        "cut.json (it is a link); mend or remove what is there, run again, and export again."
    ]
    assert (settings.output_dir / "ordner ü.txt").exists()
    assert not (settings.output_dir / "cut.txt").exists()

    (settings.output_dir / "a.json").unlink()  # what is not there cannot be read either
    (settings.output_dir / "cut.json").unlink()
    assert len(write_exports(settings.output_dir, ["txt"], options)) == 1


@pytest.mark.parametrize("file", ["9" * 5_000, "a/" * 2_040 + "a.json"], ids=("number", "long"))
def test_a_provenance_that_names_absurd_files_hinders_no_export(
    settings: Settings, file: str
) -> None:
    provenance = settings.output_dir / "provenance.jsonl"
    lines = provenance.read_text().splitlines()
    made = next(line for line in map(json.loads, lines) if line["result"] == "captioned")
    absurd = made | {"image": "absurd.png", "caption_file": file}
    provenance.write_text("\n".join([*lines, json.dumps(absurd)]) + "\n")
    said = write_exports(settings.output_dir, ["txt"], Options(settings.input_dir))
    assert said[0].startswith("Exported 3 caption(s) as txt into ")


def test_a_ledger_that_is_a_link_is_not_written_through(settings: Settings) -> None:
    outside = settings.output_dir.parent / "outside"
    outside.write_text("")
    (settings.output_dir / LEDGER).symlink_to(outside)
    done = export(settings, "--to", "txt")
    assert done.returncode == 2
    assert "(it is a link); move it away and export again." in done.stderr
    assert outside.read_text() == ""


def test_csv_holds_no_formula(settings: Settings) -> None:
    import pandas

    assert export(settings, "--to", "csv").returncode == 0
    path = settings.output_dir / "captions.csv"
    table = pandas.read_csv(path)
    assert list(table.image) == ["a.png", "b & <c>'\".jpg", "ordner ü.png"]
    assert table.caption[0] == "'" + CAPTIONS["a.png"]
    assert table.edited.tolist() == [False, False, True]
    assert list(table.columns)[-5:] == [
        *("alt_text", "fields.image", "keywords", "mood & <i>", "people"),
    ]
    assert table.alt_text.fillna("").tolist() == [*FIELDS_ALT, ""]
    assert table["keywords"][0] == '["=1+1", "sheet"]'
    assert table["mood & <i>"][1] == '{"is": ["calm", 0.5]}'
    assert table.people[0] == 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


def test_load_dataset_reads_imagefolder_and_parquet(settings: Settings, tmp_path: Path) -> None:
    import datasets

    to = ("--to", "jsonl,parquet", "--thumbnails", "--include-flagged")
    assert export(settings, *to).returncode == 0
    assert export(settings, "--to", "jsonl", "--beside", "--include-flagged").returncode == 0
    cache = str(tmp_path / "cache")
    for name in (FAILED, SKIPPED):  # imagefolder wants a line for each picture
        (settings.input_dir / name).unlink()
    folder: Any = datasets.load_dataset(
        "imagefolder", data_dir=str(settings.input_dir), split="train", cache_dir=cache
    )
    expected = CAPTIONS | EDITED
    assert sorted(folder["text"]) == sorted(expected.values())
    assert folder[0]["image"].size == (192, 128)
    assert {row["alt_text"] for row in folder} == {*FIELDS_ALT, None}

    table: Any = datasets.load_dataset(
        "parquet",
        data_files=str(settings.output_dir / "captions.parquet"),
        split="train",
        cache_dir=cache,
    )
    rows = {row["image"]: row for row in table}
    assert {name: row["caption"] for name, row in rows.items()} == expected
    assert rows["cut.png"]["flags"] == ["truncated", "banned"]
    assert rows["a.png"]["thumbnail"].size == (160, 107)
    assert (rows["a.png"]["seconds"], rows["a.png"]["width"]) == (2.5, 24)
    assert (rows["a.png"]["people"], rows["cut.png"]["people"]) == (0, None)
    assert rows["b & <c>'\".jpg"]["fields.image"] == "not a column twice"
    assert rows["a.png"]["image_sha256"] == stamp_of(settings.input_dir / "a.png").sha256


SIDECAR = b"""<?xpacket begin='\xef\xbb\xbf' id='W5M0MpCehiHzreSzNTczkc9d'?>
<x:xmpmeta xmlns:x='adobe:ns:meta/'><!-- mine -->
<r:RDF xmlns:r='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>
<r:Description xmlns:xmp='http://ns.adobe.com/xap/1.0/' r:about='' xmp:Rating='4'/>
<r:Description r:about='' xmlns:d='http://purl.org/dc/elements/1.1/'>
<d:description><r:Alt><r:li xml:lang='de'>Ein Bild</r:li>
<r:li xml:lang='x-default'>old</r:li></r:Alt></d:description>
<d:subject><r:Bag><r:li>tree</r:li></r:Bag></d:subject>
</r:Description></r:RDF></x:xmpmeta>
<?xpacket end='w'?>"""


def exiftool(path: Path) -> dict[str, Any]:
    if shutil.which("exiftool") is None:
        pytest.skip("needs exiftool (Debian: apt-get install libimage-exiftool-perl)")
    said = subprocess.run(["exiftool", "-json", path], capture_output=True, text=True, check=True)
    facts: dict[str, Any] = json.loads(said.stdout)[0]
    return facts


def test_exiftool_reads_the_sidecars(settings: Settings) -> None:
    (settings.input_dir / "a.png.xmp").write_bytes(SIDECAR)
    (settings.input_dir / "ordner ü.png.xmp").write_text("<html>not one of these")
    done = export(settings, "--to", "xmp", "--beside")
    assert "ordner ü.png.xmp is no sidecar that can be added to" in done.stderr
    facts = exiftool(settings.input_dir / "a.png.xmp")
    assert facts["Description"] == CAPTIONS["a.png"].replace("\n", "\n")
    assert facts["Description-de"] == "Ein Bild"
    assert (facts["Rating"], facts["Subject"]) == (4, ["tree", "=1+1", "sheet"])
    assert facts["AltTextAccessibility"] == "A sheet of numbers"
    assert "<!-- mine -->" in (settings.input_dir / "a.png.xmp").read_text("utf-8")
    fresh = exiftool(settings.input_dir / "b & <c>'\".jpg.xmp")
    assert fresh["Description"] == CAPTIONS["b & <c>'\".jpg"]
    assert fresh["AltTextAccessibility"] == FIELDS_ALT[1]
    assert fresh["Subject"] == ["script", "red"]

    assert export(settings, "--to", "xmp", "--beside", "--xmp-name", "adobe").returncode == 0
    assert exiftool(settings.input_dir / "a.xmp")["Description"] == CAPTIONS["a.png"]


def test_a_sidecar_that_was_written_is_found_again() -> None:
    more = ("an\x00alt", ("a\ud800", "b"))
    once = with_description(None, "first\x00\ud800", *more)
    assert with_description(once, "first\x00\ud800", *more) == once
    assert with_description(SIDECAR, "second").count(b"second") == 1
    assert b"old" not in with_description(SIDECAR, "second")


def test_a_sidecar_that_declares_entities_is_left() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>'
    with pytest.raises(ValueError, match="document type"):
        with_description(bomb, "text")

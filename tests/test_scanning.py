"""Which files are pictures, in which order, and that no two of them share a caption file."""

import hashlib
import os
import random
import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from captioner.errors import InputError
from captioner.output.folder import OutputFolder
from captioner.pictures.names import caption_file_names
from captioner.pictures.scan import check_input, natural_key, scan
from captioner.records import Picture


def check_output(directory: Path) -> None:
    OutputFolder(directory).check()


def touch(directory: Path, *names: str) -> Path:
    for name in names:
        (directory / name).write_bytes(b"")
    return directory


def scanned(directory: Path) -> list[str]:
    return [picture.key for picture in scan(directory).pictures]


# --- which files, in which order ---


def test_natural_order(tmp_path: Path) -> None:
    order = ["1.png", "2.png", "10.png", "a1b2.png", "a1b10.png", "a2.png", "a10.png", "b.png"]
    touch(tmp_path, *reversed(order))
    assert scanned(tmp_path) == order


@pytest.mark.parametrize(
    "order",
    [
        ["diagram2.png", "diagram10.png"],
        ["Apple.png", "banana.png", "Cherry.png"],
        ["a.png", "a1.png", "a1a.png"],
        ["x1.png", "x01.png", "x2.png"],
        ["1.png", "a.png"],
        ["9" * 200 + ".png", "1" + "0" * 200 + ".png"],
        ["٣.png", "10.png"],  # an Arabic three
        ["a2.jpeg", "a2.jpg", "a2.png"],
    ],
)
def test_order_of_a_few(order: list[str]) -> None:
    for seed in range(5):
        names = order.copy()
        random.Random(seed).shuffle(names)
        names.sort(key=natural_key)
        assert [natural_key(name)[1] for name in names] == [natural_key(n)[1] for n in order]
        if "01" not in "".join(order):
            assert names == order


def test_the_order_is_total_and_does_not_depend_on_the_disk() -> None:
    names = ["a.png", "A.png", "\u00e9.png", "e\u0301.png", "01.png", "1.png", "001.png"]
    expected = sorted(names, key=natural_key)
    for seed in range(20):
        random.Random(seed).shuffle(names)
        assert sorted(names, key=natural_key) == expected


def test_pictures_know_their_key_and_path(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a.jpg")
    assert scan(tmp_path).pictures == (
        Picture("a.jpg", tmp_path),
        Picture("b.png", tmp_path),
    )


def test_suffixes_in_any_case_and_no_others(tmp_path: Path) -> None:
    kept = ["1.png", "2.PNG", "3.Png", "4.jpg", "5.JPG", "6.jpeg", "7.JPEG", "8.JpEg"]
    touch(tmp_path, *kept)
    touch(
        tmp_path, "a.gif", "b.webp", "c.png.txt", "d", "png", "e.pngx", "f.jpe", "g.png ", "h.tiff"
    )
    assert scanned(tmp_path) == kept


def test_hidden_files_and_doubles_of_macos_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, ".hidden.png", "._a.png", ".png", "..png", "a.png")
    assert scanned(tmp_path) == ["a.png"]


def test_directories_sockets_and_fifos_are_left_out_and_never_opened(tmp_path: Path) -> None:
    (tmp_path / "directory.png").mkdir()
    touch(tmp_path / "directory.png", "inside.png")
    os.mkfifo(tmp_path / "fifo.png")  # to open it would wait for a writer for ever
    (tmp_path / "link to fifo.png").symlink_to("fifo.png")
    (tmp_path / "link to directory.png").symlink_to("directory.png")
    touch(tmp_path, "a.png")
    assert scanned(tmp_path) == ["a.png"]


def test_links_are_followed_inside_of_the_folder_only(tmp_path: Path) -> None:
    folder, outside = tmp_path / "in", tmp_path / "outside"
    for directory in (folder, outside, folder / "sub"):
        directory.mkdir()
    touch(outside, "secret.png")
    touch(folder / "sub", "deep.png")
    touch(folder, "real.png")
    (folder / "a inside.png").symlink_to("real.png")
    (folder / "b inside.png").symlink_to(folder / "real.png")
    (folder / "c deep.png").symlink_to("sub/deep.png")
    (folder / "d around.png").symlink_to("../in/real.png")
    (folder / "e twice.png").symlink_to("a inside.png")
    (folder / "out.png").symlink_to("../outside/secret.png")
    (folder / "out absolute.png").symlink_to(outside / "secret.png")
    (folder / "door").symlink_to(outside)
    (folder / "out by the door.png").symlink_to("door/secret.png")
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "dangling.png").symlink_to("nothing.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "loop1.png").symlink_to("loop2.png")
    (folder / "loop2.png").symlink_to("loop1.png")
    (tmp_path / "in2").mkdir()  # its path begins like that of the folder
    touch(tmp_path / "in2", "x.png")
    (folder / "neighbour.png").symlink_to("../in2/x.png")
    expected = ["a inside.png", "b inside.png", "c deep.png", "d around.png", "e twice.png"]
    assert scanned(folder) == [*expected, "real.png"]


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    touch(tmp_path / "real", "a.png")
    (tmp_path / "real" / "b.png").symlink_to("a.png")
    (tmp_path / "link").symlink_to("real")
    assert scanned(tmp_path / "link") == ["a.png", "b.png"]


# how they would be pictures too
HINT = " (--formats png,jpg,jpeg,webp,heic captions HEIC and WEBP too)"


def test_what_is_no_picture_is_counted_by_kind(tmp_path: Path) -> None:
    assert scan(tmp_path).ignored == ""
    touch(tmp_path, "a.png", ".DS_Store", "._a.png")
    assert scan(tmp_path).ignored == ""  # every folder of a Mac has those
    touch(tmp_path, *(f"{n}.heic" for n in range(14)), "a.WEBP", "b.webp", "c.webp", "d.Heic")
    assert scan(tmp_path).ignored == f"15 HEIC, 3 WEBP{HINT}; 2 hidden"
    touch(tmp_path, "notes", "x.\x1b[31m", "y.ünï", "z.farTooLongToBeOne")
    (tmp_path / "one").mkdir()
    (tmp_path / "link.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo.png")
    assert scan(tmp_path).ignored == (
        f"15 HEIC, 3 WEBP, 4 other files{HINT}; 1 link that leads nowhere or elsewhere; "
        "1 special file; "
        "2 hidden; 1 subfolder not looked into"
    )
    touch(tmp_path, *(f"x.k{n}" for n in range(20)))
    assert scan(tmp_path).ignored.startswith("15 HEIC, 3 WEBP, 1 K0, 1 K1, 1 K10, 1 K11, 1 K12, ")
    assert f", 1 K13, 18 other files{HINT}; " in scan(tmp_path).ignored
    assert scanned(tmp_path) == ["a.png"]


STRANGE = [
    "two\nlines.png",
    'it\'s "quoted".png',
    "100% %s %d {x} ${HOME}.png",
    "a cat 🐈\u200d⬛.png",
    "\u202egnp.exe.png",
    "cafe\u0301.png",
    "-rf.png",
    "--help.png",
    "~.png",
    "$(reboot).png",
    "a;b&c|d.png",
    " space first.png",
    "tab\there.png",
    "\x1b[31mred.png",
    "back\\slash.png",
    "<script>alert(1)</script>.png".replace("/", "∕"),
    "x" * 251 + ".png",
    "é" * 125 + "x.png",
]


def test_strange_names_are_pictures_like_any_other(tmp_path: Path) -> None:
    touch(tmp_path, *STRANGE)
    pictures = scan(tmp_path).pictures
    keys = [picture.key for picture in pictures]
    assert sorted(keys) == sorted(STRANGE)
    for picture, file in zip(pictures, caption_file_names(keys), strict=True):
        assert picture.path.is_file()
        assert picture.label.isprintable()
        (tmp_path / file).write_text("")  # the file system takes the name
    assert len(list(tmp_path.glob("*.json"))) == len(STRANGE)


@pytest.mark.skipif(sys.platform == "darwin", reason="APFS refuses such names")
def test_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9 \xff.png"
    os.close(os.open(raw, os.O_CREAT))
    (picture,) = scan(tmp_path).pictures
    assert os.fsencode(picture.key) == b"caf\xe9 \xff.png"
    assert picture.path.is_file()
    assert picture.label.isprintable() and picture.label.encode("utf-8")
    (file,) = caption_file_names([picture.key])
    (tmp_path / file).write_text("")


def test_ten_thousand_files(tmp_path: Path) -> None:
    for number in range(10_000):
        os.close(os.open(tmp_path / f"p{number}.png", os.O_CREAT))
    keys = scanned(tmp_path)
    assert keys == [f"p{n}.png" for n in range(10_000)]
    assert caption_file_names(keys) == [f"p{n}.json" for n in range(10_000)]


def test_a_folder_that_has_gone_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone cannot be listed: No such file or directory\.$"):
        scan(tmp_path / "gone")


# --- where each caption goes ---


@pytest.mark.parametrize(
    ("names", "files"),
    [
        ([], []),
        (["a.png"], ["a.json"]),
        (["a.png", "b.jpg"], ["a.json", "b.json"]),
        (["a.png", "a.jpg"], ["a.png.json", "a.jpg.json"]),
        (["a.png", "a.jpg", "a.jpeg"], ["a.png.json", "a.jpg.json", "a.jpeg.json"]),
        (["A.png", "a.jpg"], ["A.png.json", "a.jpg.json"]),
        (["captions.png"], ["captions.png.json"]),
        (["summary.png"], ["summary.png.json"]),
        (["Captions.PNG"], ["Captions.PNG.json"]),
        (["captions.png", "captions.jpg"], ["captions.png.json", "captions.jpg.json"]),
        (["a.png", "a.png.png"], ["a.json", "a.png.png.json"]),
        (["captions.png", "captions.png.png"], ["captions.png.json", "captions.png.png.json"]),
        (["archive.tar.png"], ["archive.tar.json"]),
        (["captions.json.png"], ["captions.json.json"]),
    ],
)
def test_the_naming_rule(names: list[str], files: list[str]) -> None:
    assert caption_file_names(names) == files


def same_file(name: str) -> set[str]:
    """What a file system may take for the same name: any case, any Unicode form."""
    forms = {unicodedata.normalize(form, name) for form in ("NFC", "NFD")}
    cased = {change(form) for form in forms for change in (str.lower, str.upper, str.casefold)}
    return {unicodedata.normalize("NFC", form) for form in forms | cased}


def check_distinct(names: list[str]) -> list[str]:
    files = caption_file_names(names)
    assert len(files) == len(names)
    owners: dict[str, str] = {}
    for reserved in ("captions.json", "summary.json"):
        owners.update(dict.fromkeys(same_file(reserved), reserved))
    for name, file in zip(names, files, strict=True):
        assert len(os.fsencode(file)) <= 255
        assert file.endswith(".json") and not file.startswith(".") and "/" not in file
        for form in same_file(file):
            assert form not in owners, f"{name!r} and {owners[form]!r} share {file!r}"
            owners[form] = name
    return files


@pytest.mark.parametrize(
    "names",
    [
        ["A.png", "a.png", "A.PNG", "a.jpg"],
        ["\u00e9.png", "e\u0301.png"],
        ["\u00c9.png", "e\u0301.jpg", "\u00e9.jpg"],
        ["\u1fb3\u0301.png", "\u03b1\u0301\u0345.png", "\u1fb4.png"],  # one Greek letter
        ["\u1fb3\u0301.png", "\u1fb4.png"],
        ["\u01f0.png", "J\u030c.png", "j\u030c.jpg"],
        ["Straße.png", "STRASSE.png", "strasse.jpg"],
        ["x" * 251 + ".png", "x" * 251 + ".jpg", "x" * 250 + "y.png"],
        ["x" * 246 + ".png", "x" * 246 + ".jpg"],
        ["é" * 125 + ".png", "é" * 125 + ".jpg"],
        ["\udcff.png", "\udcfe.png", "\udcff.jpg"],
        ["\udcff" * 251 + ".png", "\udcfe" * 251 + ".png"],
        ["a.png", "a.jpg", "a.png.png", "a.png.jpg", "a.jpg.png", "a.png.png.png"],
    ],
)
def test_no_two_pictures_share_a_caption_file(names: list[str]) -> None:
    check_distinct(names)


def test_a_picture_named_like_the_hash_of_another() -> None:
    """Someone who knows the rule could aim at another picture's caption."""
    digest = hashlib.sha256(b"a.png").hexdigest()[:12]
    for names in (
        ["a.png", "A.png", f"a~{digest}.png"],
        ["a.png", "A.png", f"A~{digest}.jpg"],
        ["a.png", "A.png", f"a~{digest}.png", f"A~{digest}.png", f"a~{digest}.jpg"],
    ):
        check_distinct(names)
        check_distinct(names[::-1])


@pytest.mark.parametrize("seed", range(60))
def test_distinct_for_any_set_of_names(seed: int) -> None:
    numbers = random.Random(seed)
    stems = ["a", "A", "é", "e\u0301", "É", "captions", "summary", "a.png", "ß", "ss", "\udc80"]
    stems += ["x" * 246, "X" * 247, "x" * 251, "~", "a~", "ſ", "s", "K", "k", "Å", "å"]
    suffixes = [".png", ".PNG", ".jpg", ".jpeg", ".Jpg"]
    names = set()
    for _ in range(numbers.randint(1, 60)):
        name = numbers.choice(stems)
        for _ in range(numbers.choice([0, 0, 1, 2])):
            name += numbers.choice([*stems, *suffixes, ".json"])
        name += numbers.choice(suffixes)
        if len(os.fsencode(name)) <= 255:
            names.add(name)
    listed = sorted(names)
    numbers.shuffle(listed)
    files = dict(zip(listed, check_distinct(listed), strict=True))
    numbers.shuffle(listed)
    assert dict(zip(listed, check_distinct(listed), strict=True)) == files, "depends on the order"


# --- directories ---


def refusal(check: object, path: Path) -> str:
    assert callable(check)
    with pytest.raises(InputError) as raised:
        check(path)
    sentence = str(raised.value)
    assert sentence.endswith(".") and len(sentence.splitlines()) == 1
    return sentence


def test_input_that_can_be_used(tmp_path: Path) -> None:
    check_input(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    check_input(tmp_path / "link")


def test_input_that_is_missing(tmp_path: Path) -> None:
    assert refusal(check_input, tmp_path / "no") == (
        f"Input directory {tmp_path}/no does not exist; create it or name another with --input-dir."
    )


@pytest.mark.parametrize("name", ["x" * 300, "nul\0byte", "file/in a file", "loop"])
def test_input_that_cannot_exist(name: str, tmp_path: Path) -> None:
    touch(tmp_path, "file")
    (tmp_path / "loop").symlink_to("loop")
    assert "does not exist" in refusal(check_input, tmp_path / name)


def test_input_that_is_a_file(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    assert refusal(check_input, tmp_path / "a.png") == (
        f"{tmp_path}/a.png is not a directory; name a directory with --input-dir."
    )


def test_names_in_sentences_are_harmless(tmp_path: Path) -> None:
    for check, name in ((check_input, "a\nb\x1b[31m"), (check_output, "a\nb\x1b[31m/c")):
        (tmp_path / "a\nb\x1b[31m").unlink(missing_ok=True)
        if check is check_output:
            touch(tmp_path, "a\nb\x1b[31m")
        assert "a\\nb\\x1b[31m" in refusal(check, tmp_path / name)


def test_output_that_can_be_made_is_not_made_yet(tmp_path: Path) -> None:
    for output in (tmp_path / "out", tmp_path / "a" / "b" / "c", tmp_path):
        check_output(output)
    assert list(tmp_path.iterdir()) == []


def test_output_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_output(Path("output"))
    check_output(Path("a/../b"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/out", "file/a/b"])
def test_output_that_is_or_lies_in_a_file(name: str, tmp_path: Path) -> None:
    touch(tmp_path, "file")
    assert refusal(check_output, tmp_path / name) == (
        f"Output directory {tmp_path}/{name} cannot be made, since {tmp_path}/file is a file; "
        "name a directory with --output-dir."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["link", "link/out"])
def test_output_that_is_a_link_to_nowhere(name: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert f"since {tmp_path}/link is a link to nowhere" in refusal(check_output, tmp_path / name)


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A directory that anyone may enter, while this process is not root; root may do anything."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        if os.getuid() != 0:
            yield Path(directory)
            return
        if not hasattr(os, "setresuid"):
            pytest.skip("needs an ordinary user, or Linux")
        os.chown(directory, 65534, 65534)
        os.setresuid(65534, 65534, 0)
        try:
            yield Path(directory)
        finally:
            os.setresuid(0, 0, 0)


def test_directories_without_permission(unprivileged: Path) -> None:
    closed = unprivileged / "closed"
    closed.mkdir()
    for mode in (0o000, 0o100, 0o400):  # neither entered nor listed, the one, the other
        closed.chmod(mode)
        assert refusal(check_input, closed) == (
            f"Input directory {closed} cannot be read; check its permissions."
        )
    closed.chmod(0o000)
    assert "does not exist" in refusal(check_input, closed / "inside")
    for mode in (0o000, 0o500, 0o200):
        closed.chmod(mode)
        for output in (closed, closed / "out"):
            sentence = refusal(check_output, output)
            assert sentence == (
                f"Output directory {output} cannot be written to; check its permissions "
                "or name another with --output-dir."
            )
    closed.chmod(0o700)


def test_links_that_may_not_be_followed_are_left_out(unprivileged: Path) -> None:
    closed = unprivileged / "closed"
    closed.mkdir()
    touch(closed, "x.png")
    touch(unprivileged, "a.png")
    (unprivileged / "b.png").symlink_to("closed/x.png")
    closed.chmod(0o000)
    assert scanned(unprivileged) == ["a.png"]
    closed.chmod(0o700)
    assert scanned(unprivileged) == ["a.png", "b.png"]

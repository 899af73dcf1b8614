"""A tree of pictures that nobody here drew, in every format: Debian's `tuxpaint-stamps-default`.

    python -m tests.public_pictures FOLDER [--count 24] [--more FOLDER ...]

Each picture goes into the next format of the table, under the first two folders that it is in. One
in nine is cut off in its middle. `--more` names folders of other pictures, such as those that
scikit-image's wheel holds; they are put in as they are.
"""

import argparse
import io
import itertools
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

STAMPS = Path("/usr/share/tuxpaint/stamps")
BROKEN = 9
OPTIONS: dict[str, dict[str, object]] = {"webp": {"quality": 80}, "avif": {"speed": 9}}
SUFFIXES = ("png", "webp", "avif", "gif", "tiff", "bmp", "heic", "jpg")


def make_tree(folder: Path, count: int, more: Iterable[Path] = ()) -> tuple[int, int]:
    """Fill the folder with `count` of the stamps; how many are whole, and how many cut off."""
    stamps = sorted(STAMPS.rglob("*.png"))
    chosen = stamps[:: max(1, len(stamps) // count)][:count]
    cut = 0
    for number, (stamp, suffix) in enumerate(zip(chosen, itertools.cycle(SUFFIXES), strict=False)):
        place = folder.joinpath(*stamp.relative_to(STAMPS).parts[:-1][:2])
        place.mkdir(parents=True, exist_ok=True)
        data = in_format(stamp, suffix)
        if number % BROKEN == BROKEN - 1:
            data, cut = data[: len(data) // 2], cut + 1
        (place / f"{number:04d} {stamp.stem}.{suffix}").write_bytes(data)
    whole = len(chosen) - cut
    for source in more:
        for path in sorted(source.iterdir()):
            if path.suffix in (".png", ".jpg", ".gif", ".tif"):
                (folder / source.name).mkdir(exist_ok=True)
                (folder / source.name / path.name).write_bytes(path.read_bytes())
                whole += 1
    return whole, cut


def in_format(path: Path, suffix: str) -> bytes:
    """The picture in another format, with its transparency where the format has some."""
    if suffix == "png":
        return path.read_bytes()
    file = io.BytesIO()
    with Image.open(path) as image:
        picture = image.convert("RGB" if suffix in ("jpg", "bmp") else "RGBA")
    if suffix == "heic":
        from pillow_heif import from_pillow

        from_pillow(picture).save(file, quality=70)
    else:
        name = "jpeg" if suffix == "jpg" else suffix
        picture.save(file, name, **OPTIONS.get(suffix, {}))
    return file.getvalue()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=10_000, help="all when there are no more")
    parser.add_argument("--more", type=Path, nargs="*", default=[])
    asked = parser.parse_args()
    whole, cut = make_tree(asked.folder, asked.count, asked.more)
    print(f"{whole} whole, {cut} cut off")


if __name__ == "__main__":
    main()

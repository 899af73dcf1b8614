"""How large a picture is once all of it was decoded, or why it cannot be."""

from collections.abc import Iterable
from pathlib import Path

from captioner.pictures.decoding import decoded, reasons
from captioner.pictures.kinds import DEFAULT
from captioner.pictures.stamps import content_of


def check_image(
    path: Path, formats: Iterable[str] = DEFAULT, root: Path | None = None
) -> tuple[int, int]:
    """Width and height, as a viewer shows the picture.

    Raises:
        UnreadableImage: it is no whole picture.
    """
    with reasons():
        content = content_of(path, root)
    return decoded(content, path.name, 0, formats=formats, remark=True).size

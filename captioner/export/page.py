"""Alt texts as `<img>` lines to paste into a page. Knows nothing of which captions are left out."""

import html
import os
from collections.abc import Iterable
from urllib.parse import quote_from_bytes

from captioner.export.place import Place
from captioner.output.results import Result


def write_html(results: Iterable[Result], place: Place) -> None:
    """`alt-texts.html`: a line a picture, its address relative to the file.

    Raises:
        OutputError: it cannot be written.
    """
    lines = [
        "<!doctype html>",
        '<meta charset="utf-8">',
        "<title>Pictures with their alt texts</title>",
    ]
    for result in results:
        path = os.path.relpath(place.options.input_dir / result.key, place.home)
        source = quote_from_bytes(os.fsencode(path), safe="/")
        text = html.escape(" ".join(result.caption.split()))
        lines.append(f'<img src="{html.escape(source)}" alt="{text}">')
    data = ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")
    place.write(place.home / "alt-texts.html", data)

"""Alt texts as `<img>` lines to paste into a page. Knows nothing of which captions are left out."""

import html
from collections.abc import Iterable

from captioner.export.place import Place
from captioner.export.tables import encoded
from captioner.output.results import Result
from captioner.pages.gallery import address


def write_html(results: Iterable[Result], place: Place) -> None:
    """`alt-texts.html`: a line a picture, its address relative to the file; where no alt text was
    asked for, the caption is it.

    Raises:
        OutputError: it cannot be written.
    """
    lines = [
        "<!doctype html>",
        '<meta charset="utf-8">',
        "<title>Pictures with their alt texts</title>",
    ]
    for result in results:
        source = address(place.options.input_dir / result.key, place.home)
        text = html.escape(result.alt_text or " ".join(result.caption.split()))
        lines.append(f'<img src="{html.escape(source)}" alt="{text}">')
    place.write(place.home / "alt-texts.html", encoded("\n".join(lines) + "\n"))

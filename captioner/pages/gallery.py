"""index.html: the pictures of an output folder with their captions, to look through in a browser.

A page, a style sheet and a script that are the same for every folder, and `gallery/data.js` with
what is shown. It opens from the file system, without a server. Names, captions and reasons are
somebody else's: they travel as JSON and are set as text, and the page's Content-Security-Policy
lets nothing run or load that is not beside it. Knows nothing of Prefect.
"""

import json
import logging
import os
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

from captioner.output.folder import OutputFolder
from captioner.output.results import Result
from captioner.pages.answers import as_texts, cut
from captioner.pages.escaping import shown
from captioner.pictures.scan import natural_key
from captioner.run import Run
from captioner.text import printable

PAGE, MARK = "index.html", b'src="gallery/gallery.js"'
ASSETS = ("gallery.css", "gallery.js")
TITLE_CHARACTERS = 100
CAPTION_CHARACTERS = 100_000  # that a page shows of one; about what the most tokens make
FLAGS = 20

logger = logging.getLogger(__name__)


def write_gallery(run: Run, output: OutputFolder) -> None:
    """Write the page and what belongs to it: every caption whose picture is in the input folder,
    and what this run skipped or failed. A page that is not ours is left, with a warning.

    Raises:
        OutputError: a file cannot be written.
    """
    if not is_ours(output):
        logger.warning(
            "%s is not a gallery of ours: no gallery is written. Move it away, or leave the "
            "gallery out with --no-gallery.",
            PAGE,
        )
        return
    assets = files("captioner.pages") / "assets"
    for name in ASSETS:
        output.write(f"gallery/{name}", (assets / name).read_text("utf-8"))
    results = output.results()
    output.write("gallery/data.js", data(entries(run, output, results)))
    output.write(PAGE, page(run.settings.input_dir, run.counts()))
    output.thumbnails.tidy({r.figures.sha256 for r in results if r.figures.sha256})


def is_ours(output: OutputFolder) -> bool:
    """Whether the page may be written: none is there, or one of ours."""
    return output.is_free(PAGE, MARK)


def page(input_dir: Path, about: str, *, review: bool = False) -> str:
    """The HTML, which holds nothing of a picture; for a review with what belongs to that."""
    from jinja2 import Environment  # here: most of what imports this module shows no page

    template = (files("captioner.pages") / "assets" / "index.html.j2").read_text("utf-8")
    name = input_dir.resolve().name or str(input_dir)
    html = Environment(autoescape=True).from_string(template)
    return html.render(title=shown(name, TITLE_CHARACTERS), about=about, review=review) + "\n"


def data(entries: Iterable[dict[str, Any]]) -> str:
    """The script that holds `RESULTS`: JSON, a line a picture."""
    lines = (json.dumps(entry, ensure_ascii=True, separators=(",", ":")) for entry in entries)
    return "const RESULTS = [\n" + ",\n".join(lines) + "\n];\n"


def entries(run: Run, output: OutputFolder, results: Iterable[Result]) -> Iterator[dict[str, Any]]:
    """What the page shows of each picture, in natural order; troubled ones among the others."""
    new = {caption.job.picture.key for caption in run.captioned}
    trouble = {s.picture.key: ("skipped", s.reason) for s in run.all_skipped}
    trouble |= {f.job.picture.key: ("failed", f.reason) for f in run.failures}
    there = {picture.key for picture in run.plan.pictures}
    there |= {earlier.image for earlier in run.plan.unasked}  # and not looked for
    captions = {r.key: r for r in results if r.key in there}
    for key in sorted({*captions, *trouble}, key=natural_key):
        state, reason = trouble.get(key, ("captioned", ""))
        picture = address(run.settings.input_dir / key, run.settings.output_dir)
        entry: dict[str, Any] = {
            "name": key,
            "state": state,
            "text": cut(reason),
            "picture": picture,
            "flags": [],
            "edited": False,
            "new": key in new,
        }
        if state == "captioned":
            result = captions[key]
            entry |= about(result)
            path = run.settings.input_dir / key
            if small := output.thumbnails.of(result.figures.source, path):
                entry["thumbnail"] = small
        yield entry


def about(result: Result) -> dict[str, Any]:
    """What the page shows of a caption. A caption file may hold anything: a browser gets no more of
    it than it can show."""
    made = result.figures
    shown = text(result.caption, result.file) | {
        "flags": [cut(flag) for flag in result.flags[:FLAGS]],
        "edited": result.edited,
        "at": made.at and cut(made.at),
        "seconds": made.seconds,
        "figures": {name: cut(value) for name, value in figures(result)},
    }
    if fields := as_texts(result.fields, result.caption):
        shown["fields"] = fields
    if result.alt_text:
        shown["alt"] = cut(result.alt_text)
    return shown


def text(caption: str, file: Path) -> dict[str, str]:
    """The caption; of a very long one the beginning, and the sentence that says so."""
    if len(caption) <= CAPTION_CHARACTERS:
        return {"text": caption}
    sentence = (
        f"These are the first {CAPTION_CHARACTERS:,} of {len(caption):,} characters: "
        f"all of them are in {printable(str(file))}."
    )
    return {"text": caption[:CAPTION_CHARACTERS], "cut": sentence}


def address(path: Path, home: Path) -> str:
    """The relative address of a file for a page in `home`."""
    return quote_from_bytes(os.fsencode(os.path.relpath(path, home)), safe="/")


def figures(result: Result) -> Iterator[tuple[str, str]]:
    """How a caption was made, as names and values for a reader."""
    made = result.figures
    if made.banned and not result.edited:
        yield "Banned phrases in it", ", ".join(made.banned)
    if made.width and made.height:
        yield "Seen as", f"{made.width:,} × {made.height:,} pixels"
    if made.image_tokens is not None:
        yield "Image tokens", f"{made.image_tokens:,}"
    if made.generated_tokens is not None:
        yield "Tokens of the caption", f"{made.generated_tokens:,}"
    if made.seconds is not None:
        yield "Seconds on the device", f"{made.seconds:,.2f}"
    yield "Prompt", result.prompt
    if made.repo_id or made.revision:
        yield "Model", " ".join(filter(None, (made.repo_id, (made.revision or "")[:12])))
    if made.at:
        yield "Captioned", made.at

"""The page about a run, with thumbnails, as Markdown.

Captions, reasons and file names are text that somebody else wrote. They stand in HTML blocks, which
Markdown leaves alone, so that HTML's own escapes are all that they need. Knows nothing of Prefect.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from captioner.output.folder import OutputFolder
from captioner.pages.escaping import as_html
from captioner.pages.table import (
    CAPTIONED,
    FAILED,
    FLAGGED,
    NAME_CHARACTERS,
    SKIPPED,
    Row,
    Said,
    rows,
)
from captioner.pages.thumbnails import SIDE, thumbnail
from captioner.plan import Plan
from captioner.records import Picture
from captioner.run import Run
from captioner.text import gigabytes, listed

FIRST_PICTURES = 12
TROUBLED_PICTURES = 24  # of each kind: failed, skipped, flagged
THUMBNAIL_CHARACTERS = 300_000  # of all of them; what comes later goes without
WORDS_CHARACTERS = 600  # of a caption or a reason
CELL = SIDE + 20  # pixels; a table would squeeze the thumbnails


def page(run: Run, output: OutputFolder) -> str:
    """The page as Markdown; less than half a megabyte."""
    thumbnails = _Thumbnails(run.settings.formats)

    def section(title: str, chosen: list[Row], limit: int) -> list[str]:
        spoken = [(row, Said.of(row, run, output)) for row in chosen[:limit]]
        return _section(title, len(chosen), spoken, thumbnails)

    every = rows(run)
    parts = [f"## {run.counts()}" + (", then interrupted" if run.interrupted else "")]
    for state in (FAILED, SKIPPED, FLAGGED):
        parts += section(state, [row for row in every if row.state == state], TROUBLED_PICTURES)
    captioned = [row for row in every if row.state == CAPTIONED]
    parts += section(CAPTIONED, captioned, FIRST_PICTURES)
    parts += ["### Figures", _figures(run)]
    values = run.settings.model_dump(mode="json")
    titles = {name: field.title or name for name, field in type(run.settings).model_fields.items()}
    parts += ["### Settings", _pairs((titles[name], values[name]) for name in titles)]
    return "\n\n".join(parts) + "\n"


class _Thumbnails:
    """Thumbnails until all that fit into a page are made."""

    def __init__(self, formats: Iterable[str]) -> None:
        self._formats = tuple(formats)
        self._left = THUMBNAIL_CHARACTERS

    def __call__(self, picture: Picture) -> str:
        path, root = picture.path, picture.root
        address = thumbnail(path, self._formats, root) if self._left > 0 else None
        if address is None or len(address) > self._left:
            return ""
        self._left -= len(address)
        return f'<img src="{address}" alt="">'


def _section(
    title: str, number: int, spoken: list[tuple[Row, Said]], thumbnail_of: Callable[[Picture], str]
) -> list[str]:
    """A heading, and a table of thumbnails with their captions or reasons: all of `number`, or the
    first."""
    if not spoken:
        return []
    lines = ["<table>"]
    for row, of_it in spoken:
        name = as_html(row.picture.key, NAME_CHARACTERS)
        said = as_html(of_it.words, WORDS_CHARACTERS)
        if of_it.fields:
            said += f"<br><i>{as_html(of_it.fields, WORDS_CHARACTERS)}</i>"
        small = thumbnail_of(row.picture)
        lines.append(f'<tr><td width="{CELL}"><b>{name}</b>{small}</td><td>{said}</td></tr>')
    lines.append("</table>")
    count = f"{number:,}" if len(spoken) == number else f"the first {len(spoken)} of {number:,}"
    return [f"### {title}: {count}", "\n".join(lines)]


def _figures(run: Run) -> str:
    pairs = _earlier(run.plan)
    pairs.append(("Seconds in all", f"{run.seconds:,.1f}"))
    if model := run.model:
        pairs += [
            ("Model", model.checkpoint.repo_id or model.checkpoint.directory.name),
            ("Revision", model.checkpoint.revision),
            ("Seconds for loading it", f"{model.seconds:,.1f}"),
        ]
    if a_minute := run.a_minute:
        pairs += [
            ("Pictures a minute", f"{a_minute:,.1f}"),
            ("Seconds a picture", f"{60 / a_minute:,.2f}"),
        ]
    if run.device.busy_seconds > 0:
        tokens = sum(caption.generation.generated_tokens for caption in run.captioned)
        pairs.append(("Tokens a second", f"{tokens / run.device.busy_seconds:,.1f}"))
    if model:
        pairs.append(("Memory at most", gigabytes(run.device.peak_memory_bytes)))
    return _pairs(pairs)


def _earlier(plan: Plan) -> list[tuple[str, object]]:
    """What earlier runs left, and why some of it is done again."""
    pairs: list[tuple[str, object]] = []
    if plan.up_to_date:
        pairs.append(("Up to date", f"{len(plan.up_to_date):,}"))
    if plan.edited:
        pairs.append(("Captions edited by hand", listed(plan.edited)))
    if plan.gone:
        pairs.append(("Gone from the folder", listed(gone.image for gone in plan.gone)))
    again = Counter(job.reason for job in plan.todo if job.reason)
    pairs += [(f"Again: {reason}", f"{count:,}") for reason, count in again.items()]
    return pairs


def _pairs(pairs: Iterable[tuple[str, object]]) -> str:
    lines = [
        f"<tr><td>{as_html(str(name), NAME_CHARACTERS)}</td>"
        f"<td>{as_html(str(value), WORDS_CHARACTERS)}</td></tr>"
        for name, value in pairs
        if value is not None
    ]
    return "\n".join(["<table>", *lines, "</table>"])

"""The page about a run, with thumbnails, as Markdown.

Captions, reasons and file names are text that somebody else wrote. They stand in HTML blocks, which
Markdown leaves alone, so that HTML's own escapes are all that they need. Knows nothing of Prefect.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from captioner.escaping import as_html
from captioner.records import DeviceFigures, LoadedModel, Outcome, Plan
from captioner.report import (
    CAPTIONED,
    FAILED,
    FLAGGED,
    NAME_CHARACTERS,
    SKIPPED,
    Row,
    rows,
    words,
)
from captioner.results import Times
from captioner.settings import Settings
from captioner.text import gigabytes, listed
from captioner.thumbnails import SIDE, thumbnail

FIRST_PICTURES = 12
TROUBLED_PICTURES = 24  # of each kind: failed, skipped, flagged
THUMBNAIL_CHARACTERS = 300_000  # of all of them; what comes later goes without
WORDS_CHARACTERS = 600  # of a caption or a reason
CELL = SIDE + 20  # pixels; a table would squeeze the thumbnails


def page(
    outcome: Outcome,
    settings: Settings,
    model: LoadedModel | None,
    device: DeviceFigures | None,
    times: Times,
) -> str:
    """The page as Markdown; less than half a megabyte."""
    thumbnails = _Thumbnails()
    every = rows(outcome)
    parts = [f"## {outcome.counts()}" + (", then interrupted" if outcome.interrupted else "")]
    for state in (FAILED, SKIPPED, FLAGGED):
        chosen = [row for row in every if row.state == state]
        parts += _section(state, chosen, TROUBLED_PICTURES, settings, thumbnails)
    captioned = [row for row in every if row.state == CAPTIONED]
    parts += _section(CAPTIONED, captioned, FIRST_PICTURES, settings, thumbnails)
    parts += ["### Figures", _figures(outcome, model, device, times)]
    values = settings.model_dump(mode="json")
    titles = {name: field.title or name for name, field in type(settings).model_fields.items()}
    parts += ["### Settings", _pairs((titles[name], values[name]) for name in titles)]
    return "\n\n".join(parts) + "\n"


class _Thumbnails:
    """Thumbnails until all that fit into a page are made."""

    def __init__(self) -> None:
        self._left = THUMBNAIL_CHARACTERS

    def __call__(self, path: Path) -> str:
        address = thumbnail(path) if self._left > 0 else None
        if address is None or len(address) > self._left:
            return ""
        self._left -= len(address)
        return f'<img src="{address}" alt="">'


def _section(
    title: str,
    chosen: list[Row],
    limit: int,
    settings: Settings,
    thumbnail_of: Callable[[Path], str],
) -> list[str]:
    """A heading, and a table of thumbnails with their captions or reasons."""
    if not chosen:
        return []
    lines = ["<table>"]
    for row in chosen[:limit]:
        name = as_html(row.picture.name, NAME_CHARACTERS)
        said = as_html(words(row, settings), WORDS_CHARACTERS)
        small = thumbnail_of(row.picture.path)
        lines.append(f'<tr><td width="{CELL}"><b>{name}</b>{small}</td><td>{said}</td></tr>')
    lines.append("</table>")
    count = f"the first {limit} of {len(chosen):,}" if len(chosen) > limit else f"{len(chosen):,}"
    return [f"### {title}: {count}", "\n".join(lines)]


def _figures(
    outcome: Outcome, model: LoadedModel | None, device: DeviceFigures | None, times: Times
) -> str:
    captioning = times.now - times.loaded
    tokens = sum(caption.generation.generated_tokens for caption in outcome.captioned)
    pairs = _earlier(outcome.plan)
    pairs.append(("Seconds in all", f"{times.now - times.began:,.1f}"))
    if model is not None:
        pairs += [
            ("Model", model.checkpoint.repo_id or model.checkpoint.directory.name),
            ("Revision", model.checkpoint.revision),
            ("Seconds for loading it", f"{model.seconds:,.1f}"),
        ]
    if outcome.captioned and captioning > 0:
        pairs += [
            ("Pictures a minute", f"{60 * len(outcome.captioned) / captioning:,.1f}"),
            ("Seconds a picture", f"{captioning / len(outcome.captioned):,.2f}"),
        ]
    if device is not None and device.busy_seconds > 0:
        pairs.append(("Tokens a second", f"{tokens / device.busy_seconds:,.1f}"))
    if device is not None:
        pairs.append(("Memory at most", gigabytes(device.peak_memory_bytes)))
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
    again = Counter(picture.again for picture in plan.todo if picture.again)
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

"""`--plan`: what a run would do, in words, on stdout. Begins nothing, and imports no Prefect.

A table on a terminal; through a pipe the same as plain lines, however long. Names are escaped.
"""

import io
from collections import defaultdict
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from captioner.checkpoint.memory import SMALLER, memory_bytes
from captioner.device.installed import require_mlx
from captioner.device.model import usable_memory_bytes
from captioner.forecast.forecast import Forecast, Look, forecast
from captioner.forecast.model import Model
from captioner.pictures.ignored import unread_in_words
from captioner.plan import unasked_in_words, unreadable_in_words, unreadable_together
from captioner.records import Skipped
from captioner.settings import Settings
from captioner.text import counted, duration, gigabytes, listed, printable

SMALLER_FLAG = f"--repo-id {SMALLER[-1]}"
PIPE_WIDTH = 10_000  # characters; what reads a pipe breaks lines itself, or not

Row = tuple[str, str]  # what it is about, which may be empty, and what there is to say


def show_plan(settings: Settings) -> None:
    """Print what a run with these settings would do.

    Raises:
        CaptionerError: what the run would end with before its first caption.
    """
    found = forecast(settings)
    if found.model:
        require_mlx()
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for title, words in _rows(found, settings):
        facts.add_row(title, Text(words))
    _print([facts] if found.look is None else [facts, "", *_tokens(found.look)])


def _print(parts: Iterable[Table | Text | str]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(file=io.StringIO(), width=PIPE_WIDTH, highlight=False, color_system=None)
    for part in parts:
        console.print(part)
    if isinstance(console.file, io.StringIO):
        for line in console.file.getvalue().splitlines():
            print(line.rstrip())


def _rows(found: Forecast, settings: Settings) -> Iterator[Row]:
    plan = found.plan
    where = printable(str(settings.input_dir))
    if settings.recursive:
        where += f" and {counted(found.scan.folders, 'folder')} below"
    yield "Pictures", f"{len(found.scan.pictures):,} in {where}"
    if not found.scan.pictures:
        more = f"; {found.scan.deeper}" if found.scan.deeper else ""
        yield "", f"There is no {settings.format_names} file to caption{more}."
    if found.scan.unread:
        yield "Left out", unread_in_words(found.scan.unread)
    if found.scan.ignored:
        yield "Ignored", found.scan.ignored
    yield from (("Prompt", remark) for remark in found.remarks)
    if not found.scan.pictures:
        return
    if plan.up_to_date:
        edited = len(set(plan.edited).intersection(plan.up_to_date))
        note = f" ({edited:,} edited by hand)" if edited else ""
        yield "Up to date", f"{len(plan.up_to_date):,}{note}"
    yield from _grouped("Skipped", found.skipped)
    yield from _todo(found)
    yield from _grouped("Not readable", found.failing)
    for together in unreadable_together(plan):
        yield "No caption", unreadable_in_words(together)
    if plan.later:
        limit = f"--limit is {settings.limit:,}"
        yield "Left", f"{len(plan.later):,} for the next run: {limit}"
    if plan.left:
        yield "Left", f"{len(plan.left):,} as they are: only flagged captions are retried"
    if plan.gone:
        names = listed(printable(gone.image) for gone in plan.gone)
        yield "Gone", f"{len(plan.gone):,} not in the input directory any more: {names}"
    if plan.unasked:
        yield "Kept", unasked_in_words(plan, settings)
    yield "Results", f"in {printable(str(settings.output_dir))}"
    if found.model:
        yield from _model(found.model)
        yield "Time", _time(found, settings)


def _grouped(title: str, pictures: tuple[Skipped, ...]) -> Iterator[Row]:
    reasons: dict[str, list[str]] = defaultdict(list)
    for skipped in pictures:
        reasons[skipped.reason].append(skipped.picture.label)
    if reasons:
        yield title, f"{len(pictures):,}"
    for reason, names in reasons.items():
        yield "", f"{len(names):,}: {printable(reason)} ({listed(names)})"


def _todo(found: Forecast) -> Iterator[Row]:
    if not found.todo:
        yield "To caption", "nothing"
        return
    yield "To caption", f"{len(found.todo):,}"
    new, overwritten, edited = 0, list[str](), {*found.plan.edited}
    reasons: dict[str, list[str]] = defaultdict(list)
    for job in found.todo:
        if job.reason:
            reasons[job.reason].append(job.picture.label)
        else:
            new += 1
        if job.picture.key in edited:
            overwritten.append(job.picture.label)
    if new:
        yield "", f"{new:,} new"
    for reason, names in reasons.items():
        yield "", f"{len(names):,} again: {reason} ({listed(names)})"
    if overwritten:
        number = counted(len(overwritten), "caption")
        yield "", f"{number} edited by hand overwritten: {listed(sorted(overwritten))}"


def _model(model: Model) -> Iterator[Row]:
    place = printable(str(model.directory or model.place))
    yield "Model", place if model.repo_id is None else f"{model.repo_id}, {_here(model)} {place}"
    if model.not_asked:
        yield "Download", f"necessary; {model.not_asked}"
    if model.download:
        yield "Download", _download(model)
    yield "Memory", _memory(model)


def _here(model: Model) -> str:
    return "in" if model.directory else "to be downloaded into"


def _download(model: Model) -> str:
    assert model.download is not None
    size, free = model.download.to_fetch, model.download.free
    if free is None:
        return gigabytes(size)
    sizes = f"{gigabytes(size)}, and {gigabytes(free)} are free there"
    if size <= free:
        return sizes
    return f"{sizes}: too little; free some, or choose another place with HF_HOME or --model"


def _memory(model: Model) -> str:
    total, usable = memory_bytes(), usable_memory_bytes()
    here = f"{gigabytes(total)} on this machine"
    if usable < total:
        here += f", of which its GPU may use {gigabytes(usable)}"
    if model.weight_bytes is None:
        return here
    sizes = f"{gigabytes(model.weight_bytes)} of weights; {here}"
    return sizes if model.weight_bytes <= usable else f"{sizes}: too little; try {SMALLER_FLAG}"


def _time(found: Forecast, settings: Settings) -> str:
    output = printable(str(settings.output_dir))
    if found.time is None:
        return f"not known: this model has captioned nothing into {output} yet"
    time = found.time
    each = f"{time.each:.1f} s each" if time.each < 10 else f"{time.each:.0f} s each"
    batch = ""
    if time.batch_size != settings.batch_size and time.batch_size is not None:
        batch = f", {time.batch_size} at a time"
    return (
        f"about {duration(max(1.0, time.seconds))} once the model is loaded: "
        f"{counted(time.captions, 'caption')} by it in {output} took {each}{batch}"
    )


def _tokens(look: Look) -> Iterator[Table | Text]:
    whose = "this model sees" if look.is_of_the_model else "Qwen3-VL would see"
    yield Text(f"Image tokens, as {whose} the pictures that are to be captioned", style="bold")
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="")
    table.add_column("--max-pixels", overflow="fold")
    for cap in look.caps:
        table.add_column(f"{cap:,}" if cap else "no cap", justify="right", no_wrap=True)
    table.add_row("in all", *(f"{n:,}" for n in look.total))
    for picture, (width, height), tokens in look.largest:
        name = Text(f"{picture.label}, {width}×{height}")
        table.add_row(name, *(f"{n:,}" for n in tokens))
    yield table

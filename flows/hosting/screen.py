"""What is seen of a run: its log lines, one live line under them, and its results.

All of it goes to stderr, which may be a terminal, a pipe or nothing; lines go to a log file too,
when there is one. It moves on a terminal alone. Knows nothing of what the lines say.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import IO, TYPE_CHECKING

from captioner.run import Run, Watch
from captioner.text import printable
from flows.hosting import results
from flows.hosting.live_line import LiveLine
from flows.hosting.log_lines import TerminalFormatter

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

COLOURS = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}
CLEAR = "\r\x1b[2K\x1b[?25h"  # the line, and the cursor is shown again


class Screen(logging.Handler):
    """The handler of all log lines of this process."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(TerminalFormatter())
        self._quiet = False
        self._file: IO[str] | None = None
        self._console: Console | None = None  # None where nothing may move
        self._live: Live | None = None

    def open(self, quiet: bool, log_file: Path | None) -> None:
        """Show problems and the end only when it is to be `quiet`, and append all lines to the log
        file."""
        self._quiet = quiet
        if log_file:
            self._file = log_file.open("a", encoding="utf-8", errors="backslashreplace")
        if sys.stderr.isatty() and (os.environ.get("TERM") or "dumb") not in ("dumb", "unknown"):
            from rich.console import Console

            self._console = Console(
                file=sys.stderr, force_terminal=True, highlight=False, markup=False, emoji=False
            )
            # the live line says it; their own bars would tear it
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

    @contextmanager
    def watching(self, watch: Watch) -> Iterator[None]:
        """A live line about the run, while the block runs or until its results are shown."""
        if self._console and not self._quiet:
            from rich.live import Live
            from rich.text import Text

            line, console = LiveLine(watch), self._console

            def renderable() -> Text:
                text = Text(line.text(console.width), style="cyan", no_wrap=True, end="")
                text.truncate(console.width, overflow="ellipsis")
                return text

            self._live = Live(
                console=console,
                get_renderable=renderable,
                redirect_stdout=sys.stdout.isatty(),
                transient=True,
            )
            self._live.start()
        try:
            yield
        finally:
            self._still()

    def say(self, text: str) -> None:
        """Show a line that everybody wants to see."""
        self._show(text, logging.WARNING)

    def remark(self, text: str) -> None:
        """Show a line that is not for the quiet."""
        self._show(text)

    def log(self, level: int, text: str) -> None:
        """Show a line as a run's own log lines are."""
        record = {"msg": text, "levelno": level, "levelname": logging.getLevelName(level)}
        self.handle(logging.makeLogRecord(record))

    def last_words(self, text: str) -> None:
        """Say something in the moment before the process is ended, whatever other threads hold."""
        clear = CLEAR if self._live else ""
        with suppress(OSError):
            os.write(2, f"{clear}{text}\n".encode())
        with suppress(OSError, ValueError):
            if self._file:
                os.write(self._file.fileno(), f"{text}\n".encode())

    def emit(self, record: logging.LogRecord) -> None:
        """Show the record, below the results of a run when it carries any."""
        try:
            if run := getattr(record, "results", None):
                self.results(run)
            stamped = not getattr(record, "plain", False)
            self._show(self.format(record), record.levelno, stamped=stamped, end=bool(run))
        except Exception:
            self.handleError(record)

    def results(self, run: Run) -> None:
        """Show what became of the pictures, when there was anything to do."""
        self._still()
        if not run.plan.todo:
            return
        if self._console:
            self._table(self._console, run)
            self._write(results.sentence(run))
        else:
            self._show(results.sentence(run), end=True)
        for line in results.advice(run):
            self._show(line, end=True)

    def _table(self, console: "Console", run: Run) -> None:
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        table.add_column()
        table.add_column(justify="right")
        for name, value in results.figures(run):
            table.add_row(name, value)
        console.print(table)

    def _show(
        self, text: str, level: int = logging.INFO, *, stamped: bool = False, end: bool = False
    ) -> None:
        text = "\n".join(printable(line) for line in text.split("\n"))
        self._write(f"{date.today()} {text}" if stamped else text)
        if self._quiet and level < logging.WARNING and not end:
            return
        if self._console:
            from rich.text import Text

            style = COLOURS.get(level, "") if stamped else ""
            self._console.print(Text(text, style=style), soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def _write(self, line: str) -> None:
        if self._file:
            with suppress(OSError):  # a full disk: captions are wanted more
                self._file.write(line + "\n")
                self._file.flush()

    def _still(self) -> None:
        live, self._live = self._live, None
        if live:
            live.stop()


SCREEN = Screen()


def the_screen() -> Screen:
    """The one screen of this process, as logging.yml asks for it."""
    return SCREEN

"""A command in a pseudo-terminal, and what a person sees there: as much as our lines ask for."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CONTROL = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+")
STYLE = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """Its rows as they stand when all output has been read, and how it came to that."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.raw = ""
        self.rows = [""]
        self.wrapped: list[str] = []  # what was too long for its row
        self._row = self._column = 0

    @property
    def coloured(self) -> bool:
        """Whether anything was shown in a colour."""
        codes = {code for style in STYLE.findall(self.raw) for code in style[2:-1].split(";")}
        return any(30 <= int(code or 0) <= 107 for code in codes)

    def feed(self, text: str) -> None:
        """Show what the command wrote."""
        self.raw += text
        for found in CONTROL.finditer(text):
            match found[0], found[2]:
                case "\r", _:
                    self._column = 0
                case "\n", _:
                    self._down()
                case _, None:
                    self._write(found[0])
                case _, "A":
                    self._row = max(0, self._row - int(found[1] or 1))
                case _, "K":
                    self.rows[self._row] = ""  # our lines are always erased whole
                case _, "m" | "h" | "l":
                    pass
                case unknown:
                    raise AssertionError(f"the terminal does not know {unknown}")

    def _write(self, text: str) -> None:
        row = self.rows[self._row]
        before, after = row[: self._column], row[self._column + len(text) :]
        self.rows[self._row] = before.ljust(self._column) + text + after
        self._column += len(text)
        if self._column > self.columns:
            self.wrapped.append(text)

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self.rows):
            self.rows.append("")


@contextmanager
def in_terminal(
    command: list[str], cwd: Path, environment: dict[str, str], columns: int
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command with a terminal of its own: its process, and where its output is read."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        try:
            yield process, ours
        finally:
            process.kill()
            with suppress(OSError):
                os.close(ours)


def seen_in_terminal(
    command: list[str], cwd: Path, environment: dict[str, str], columns: int
) -> tuple[int, Terminal]:
    """The exit code of the command, and the terminal when it has ended."""
    terminal, data = Terminal(columns), b""
    with in_terminal(command, cwd, environment, columns) as (process, output):
        with suppress(OSError):  # the terminal is gone: all has been read
            while read := os.read(output, 1 << 16):
                data += read
        code = process.wait(60)
    terminal.feed(data.decode())
    return code, terminal

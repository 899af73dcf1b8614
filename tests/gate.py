"""A gate on loopback in front of a server, which can be shut: then the server is gone.

Or be narrow: then each answer takes long.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Gate:
    """Forwards connections to a port of this machine, while it is open."""

    def __init__(self, port: int, delay: float = 0.0) -> None:
        """Each request reaches the server `delay` seconds late, fewer than the five after which it
        closes a connection that is idle."""
        self.delay = delay
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self._open = True
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def shut(self) -> None:
        """Break all connections, and every new one."""
        self._open = False
        for connection in self._connections:
            _close(connection)

    def open(self) -> None:
        """Let connections through again."""
        self._open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Shut it, and listen no more."""
        self.shut()
        _close(self._listener)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if not self._open:
                    _close(near)
                    continue
                try:
                    far = socket.create_connection(self._target)
                except OSError:  # the server itself is gone
                    _close(near)
                    continue
                self._connections += [near, far]
                for pump, *ends in ((self._ask, near, far), (_pump, far, near)):
                    threading.Thread(target=pump, args=ends, daemon=True).start()

    def _ask(self, source: socket.socket, sink: socket.socket) -> None:
        _pump(source, sink, lambda: time.sleep(self.delay))


def _pump(
    source: socket.socket, sink: socket.socket, wait: Callable[[], None] = lambda: None
) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            wait()
            sink.sendall(data)
    _close(source)
    _close(sink)


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()

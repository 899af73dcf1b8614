"""A Prefect server that is slow or stops answering: captions are made all the same, and a sentence
says what is waited for.

Prefect's engine runs tasks without its server and only raises when the flow run begins or ends.
Knows nothing of what the flow does.
"""

import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from captioner.run import Watch
from captioner.text import printable

PATIENCE_SECONDS = 5.0


def is_of_server(error: BaseException | None) -> bool:
    """Whether Prefect raised it because its server does not answer, or only with errors."""
    from httpx import TransportError
    from prefect.exceptions import PrefectHTTPStatusError

    if isinstance(error, TransportError | PrefectHTTPStatusError):
        return True
    return isinstance(error, RuntimeError) and is_of_server(error.__cause__)


def server_name() -> str:
    """`The Prefect server at` and its address."""
    return f"The Prefect server at {server_address()}"


def server_address() -> str:
    """Where the server is, without the password that the address may hold."""
    from prefect.settings import PREFECT_API_URL

    return re.sub("//[^/]*@", "//", printable(str(PREFECT_API_URL.value())))


@contextmanager
def waiting_said(watch: Watch, to: Callable[[str], None]) -> Iterator[None]:
    """Say what the block waits for when the server takes long to let the run begin, or to hear how
    it ended."""
    left = threading.Event()
    server = server_name()  # here: on another thread the settings are not those of this block

    def say() -> None:
        if not watch.begun.wait(PATIENCE_SECONDS) and not left.is_set():
            to(f"{server} is slow: the run begins when it has answered about ten times.")
        watch.over.wait()
        if not left.wait(PATIENCE_SECONDS):
            to(f"{server} has not heard all of how the run ended yet; waiting.")

    threading.Thread(target=say, name="waiting", daemon=True).start()
    try:
        yield
    finally:
        left.set()


@contextmanager
def said_when_slow(sentence: str, to: Callable[[str], None]) -> Iterator[None]:
    """Say the sentence once the block has lasted some seconds."""
    timer = threading.Timer(PATIENCE_SECONDS, to, [sentence])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def leave(code: int) -> NoReturn:
    """End the process without telling the server what it has not heard yet: Prefect would try for
    seconds with every event."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

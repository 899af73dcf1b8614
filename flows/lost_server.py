"""A Prefect server that stops answering: captions are made all the same, and a sentence says so.

Prefect's engine runs tasks without its server and only raises when the flow run begins or ends, so
what the flow returned is kept here. Knows nothing of what the flow does.
"""

import functools
import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, NoReturn, Self, cast

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.schemas.objects import State

CONNECTION_LOGGER = "prefect.events.clients"  # complains, for every event, of a lost server
QUEUE_LOGGERS = ("EventsWorker", "APILogWorker")  # count what they have still to send at the end
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
    from prefect.settings import PREFECT_API_URL

    return f"The Prefect server at {PREFECT_API_URL.value()}"


class Remembered:
    """The flow, and the state that its function returned, whether the server hears of it or not.

    Says what the run waits for when the server takes long to hear it.
    """

    def __init__(self, flow: "Flow[Any, Any]") -> None:
        self.state: State[Any] | None = None
        self.began = False
        self._waiting: threading.Timer | None = None
        self.flow = flow.with_options()
        self.flow.fn = self._kept(flow.fn)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._waiting:
            self._waiting.cancel()

    def _kept(self, function: Any) -> Any:
        @functools.wraps(function)
        def keep(*args: Any, **kwargs: Any) -> "State[Any]":
            self.began = True
            self.state = cast("State[Any]", function(*args, **kwargs))
            self._waiting = threading.Timer(PATIENCE_SECONDS, _say_what_for)
            self._waiting.daemon = True
            self._waiting.start()
            return self.state

        return keep


class SaidOnce(logging.Filter):
    """Reduces all complaints of a server that does not answer to one sentence."""

    def __init__(self) -> None:
        super().__init__()
        self._said = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown, the first complaint in our own words."""
        error = record.exc_info[1] if record.exc_info else None
        if is_of_server(error):
            return False  # the run's end says it
        if record.name != CONNECTION_LOGGER or record.levelno < logging.WARNING:
            return record.name not in QUEUE_LOGGERS
        if self._said:
            return False
        self._said = True
        record.msg = f"{server_name()} does not answer; captioning goes on without it."
        record.args = ()
        return True


def leave(code: int) -> NoReturn:
    """End the process without telling the server what it has not heard yet: Prefect would try for
    seconds with every event."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _say_what_for() -> None:
    print(f"{server_name()} has not heard yet how the run ended; waiting.", file=sys.stderr)

"""The Prefect server that a run reports to, when one is named: who named it, and is it one?

An unpacked archive of pictures may hold a `.env` or a `prefect.toml`, which Prefect reads in the
folder in which the command is started. Knows nothing of the temporary server.
"""

import logging
import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from captioner.text import printable
from flows.hosting.lost_server import said_when_slow, server_address, server_name
from flows.hosting.screen import SCREEN
from flows.hosting.server import ServerError

VARIABLE = "PREFECT_API_URL"
IN_THIS_FOLDER = (".env", "prefect.toml", "pyproject.toml")  # which Prefect reads, in this order
EXAMPLE = f"{VARIABLE} is an address such as http://127.0.0.1:4200/api."
CONNECT_SECONDS = 10.0  # with a machine that does not take the call


def name_server() -> None:
    """Say which server the run reports to, when one is named, and ask it for something.

    Raises:
        ServerError: it cannot be reported to.
    """
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value():
        return
    reporting = f"Reporting to the Prefect server at {server_address()}"
    # what stands in the environment or the profile is the person's own
    if path := _file_of_this_folder(str(PREFECT_API_URL.value())):
        SCREEN.log(logging.WARNING, f"{reporting}, as {path} says")
    else:
        SCREEN.log(logging.INFO, reporting)
    _check()


def _file_of_this_folder(url: str) -> str | None:
    """The file in the current folder that names the server, if one does."""
    if any(name.upper() == VARIABLE for name in os.environ):
        return None
    for path in map(Path, IN_THIS_FOLDER):
        with suppress(OSError, ValueError):
            if url in path.read_text("utf-8"):
                return printable(str(path.resolve()))
    return None


def _check() -> None:
    """Ask the server for something, as a run will.

    Raises:
        ServerError: it is no server of Prefect, refuses, or does not answer.
    """
    from httpx import Timeout, TransportError
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import (
        PREFECT_API_REQUEST_TIMEOUT,
        PREFECT_API_URL,
        PREFECT_CLIENT_MAX_RETRIES,
        temporary_settings,
    )

    url = urlsplit(str(PREFECT_API_URL.value()))
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ServerError(f"{server_name()} has no address: {EXAMPLE}")
    # a server that is busy or far away takes the call at once; the answer may take longer
    patience = Timeout(PREFECT_API_REQUEST_TIMEOUT.value(), connect=CONNECT_SECONDS)
    waiting = f"{server_name()} has not answered yet; waiting."
    try:
        with (
            said_when_slow(waiting, SCREEN.say),
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(sync_client=True, httpx_settings={"timeout": patience}) as client,
        ):
            client.read_flow_runs(limit=1)
    except TransportError as error:
        raise ServerError(f"{server_name()} does not answer: start it, or name another.") from error
    except PrefectHTTPStatusError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise ServerError(
                f"{server_name()} refuses this run (HTTP {status}): set PREFECT_API_AUTH_STRING, "
                "or PREFECT_API_KEY for Prefect Cloud."
            ) from error
        raise ServerError(f"{server_name()} answers with HTTP {status}: {EXAMPLE}") from error
    except ValueError as error:  # not what was asked for
        raise ServerError(f"{server_name()} is no server of Prefect: {EXAMPLE}") from error

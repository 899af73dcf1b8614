"""`python -m captioner.review OUTPUT`: correct captions in a browser."""

import argparse
import socket
import sys
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from captioner.errors import CaptionerError
from captioner.review.desk import Desk


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the review until Ctrl-C; 0, or 2 with one sentence when it cannot be done."""
    flags = _parser().parse_args(arguments)
    try:
        desk = Desk(flags.output, flags.input_dir)
    except CaptionerError as error:
        print(error, file=sys.stderr)
        return 2
    import uvicorn

    from captioner.review.serving import HOST, application, secret

    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, flags.port))
            listening.listen()  # who reads the address is not turned away
        except OSError as error:
            print(f"Port {flags.port} cannot be used ({error.strerror}).", file=sys.stderr)
            return 2
        port, word = listening.getsockname()[1], secret()
        address = f"http://{HOST}:{port}/{word}/"
        print(f"Review at {address}\nCtrl-C ends it. What you save is written at once.", flush=True)
        if flags.browser:
            webbrowser.open(address)
        app = application(desk, flags.input_dir, port, word)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listening])
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m captioner.review",
        description="Look through the captions of an output folder in a browser, correct them, "
        "or send them back. Served to this machine alone.",
    )
    add = parser.add_argument
    add("output", type=Path, help="the output folder of a run")
    add("--input-dir", type=Path, default=Path("input"), help="where the pictures are (input)")
    add("--port", type=int, default=0, help="a free one when it is not given")
    add("--no-browser", dest="browser", action="store_false", help="open no browser")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

"""What keeps a run from going on, as the terminal tells it: one sentence with the next step, once
and last, an exit code, and no traceback."""

import json
import os
import re
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from captioner.checkpoint.memory import memory_bytes
from tests.conftest import ROOT, draw_picture
from tests.test_checkpoints import write_checkpoint

pytestmark = pytest.mark.server


@dataclass
class Place:
    """What a command is given; each case spoils one thing."""

    top: Path
    api: str
    flags: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def output(self) -> Path:
        return self.top / "out"


@dataclass(frozen=True)
class Case:
    """How something is spoilt, and what is said of it."""

    spoil: Callable[[Place], None]
    said: str  # a regular expression for the end of the last line
    code: int


def flag(name: str, value: str) -> Callable[[Place], None]:
    return lambda place: place.flags.update({name: value.format(top=place.top)})


def server(url: str) -> Callable[[Place], None]:
    return lambda place: place.environment.update(PREFECT_API_URL=url.format(api=place.api))


def silent_server(place: Place) -> None:
    server("{api}/silence")(place)
    place.environment.update(PREFECT_API_REQUEST_TIMEOUT="6")


def nothing(place: Place) -> None:
    (place.top / "in" / "a.png").unlink()


def a_file_as_output(place: Place) -> None:
    place.output.write_text("mine")


def no_provenance(place: Place) -> None:
    (place.output / "provenance.jsonl").mkdir(parents=True)


def incomplete(place: Place) -> None:
    (place.top / "model" / "tokenizer.json").unlink()


def with_code(place: Place) -> None:
    asks = {"auto_map": {"AutoModel": "owner/name--x.Y"}}
    (place.top / "model" / "config.json").write_text(json.dumps(asks))


def too_large(place: Place) -> None:
    size = memory_bytes() + 1
    header = {"weight": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    said = json.dumps(header).encode()
    path = place.top / "model" / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(said)) + said)
    os.truncate(path, 8 + len(said) + size)  # a hole


def unheard_of(place: Place) -> None:
    (place.top / "model" / "config.json").write_text(json.dumps({"model_type": "unheard_of"}))


def no_temporary_server(place: Place) -> None:
    place.environment.update(PREFECT_API_URL="", PREFECT_HOME=str(place.top / "in" / "a.png"))


def no_hub(place: Place) -> None:
    place.environment.update(HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(place.top / "hub"))
    place.flags.update({"model": str(place.top / "new"), "repo-id": "someone/model"})


ADDRESS = r"PREFECT_API_URL is an address such as http://127\.0\.0\.1:4200/api\."
CASES = {
    "download breaks off": Case(  # first: it tries again for a minute, beside the others
        no_hub, r"download of someone/model broke off .*; start again to go on: .* are kept\.", 2
    ),
    "input is no directory": Case(
        flag("input-dir", "{top}/in/a.png"), r"a\.png is not a directory; .*--input-dir\.", 2
    ),
    "output is a file": Case(
        a_file_as_output, r"cannot be made, since .*out is a file; .*--output-dir\.", 2
    ),
    "provenance is a folder": Case(
        no_provenance, r"provenance\.jsonl cannot be .*, since it is a directory: .*\.", 2
    ),
    "model is a file": Case(
        flag("model", "{top}/in/a.png"), r"is not a directory; name one with the weights\.", 2
    ),
    "model is incomplete": Case(
        incomplete, r"is not complete \(tokenizer\.json: missing\)\. Mend it, or name an .*\.", 2
    ),
    "model carries code": Case(with_code, r"carries code of its own .*", 2),
    "model is too large": Case(too_large, r"needs .* GB .* Try a smaller model: --repo-id .*\.", 2),
    "model is unheard of": Case(unheard_of, r"MLX cannot load .*model: .*unheard_of.*", 2),
    "server is no address": Case(server("nonsense"), rf"at nonsense has no address: {ADDRESS}", 2),
    "server answers HTML": Case(
        server("{api}/html"), rf"/html is no server of Prefect: {ADDRESS}", 2
    ),
    "server refuses": Case(
        server("{api}/401"), r"refuses this run \(HTTP 401\): set PREFECT_API_AUTH_STRING, .*\.", 2
    ),
    "server says nothing": Case(
        silent_server, r"/silence does not answer: start it, or name another\.", 2
    ),
    "no home for a server": Case(
        no_temporary_server, r"PREFECT_HOME cannot be used: .*a\.png: .*PREFECT_API_URL\.", 2
    ),
}


class Impostor(BaseHTTPRequestHandler):
    """Says what a Prefect server does not."""

    leave = threading.Event()

    def do_POST(self) -> None:
        kind = self.path.split("/")[1]
        if kind == "silence":
            self.leave.wait(60)
            return
        self.send_response(200 if kind == "html" else int(kind))
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", "16")
        self.end_headers()
        self.wfile.write(b"<html>Hi</html>\n")

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def impostor() -> Iterator[str]:
    """The address of a server that is none of Prefect's."""
    Impostor.leave.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Impostor) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_address[1]}"
        finally:
            Impostor.leave.set()
            listening.shutdown()
            thread.join()


Ended = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def ends(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """How the command ended in each case; several at a time, since they wait a lot."""
    top = tmp_path_factory.mktemp("told")
    with impostor() as other, ThreadPoolExecutor(3) as pool:
        futures: dict[str, Future[Ended]] = {}
        for number, (name, case) in enumerate(CASES.items()):
            place = Place(top / str(number), other)
            (place.top / "in").mkdir(parents=True)
            draw_picture(place.top / "in" / "a.png")
            write_checkpoint(place.top / "model", ("model.safetensors",))
            case.spoil(place)
            futures[name] = pool.submit(run, place, prefect_api)
        return {name: future.result() for name, future in futures.items()}


def run(place: Place, api: str) -> Ended:
    given = {
        "input-dir": f"{place.top}/in",
        "output-dir": f"{place.output}",
        "model": f"{place.top}/model",
    } | place.flags
    return subprocess.run(
        [sys.executable, "flows/caption_flow.py", *(f"--{n}={v}" for n, v in given.items())],
        cwd=ROOT,
        env=os.environ | {"PREFECT_API_URL": api} | place.environment,
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.mark.parametrize("name", CASES)
def test_what_keeps_a_run_from_going_on_is_the_last_line(name: str, ends: dict[str, Ended]) -> None:
    case, ended = CASES[name], ends[name]
    assert ended.returncode == case.code, ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert re.search(f"{case.said}$", last), last
    sentence = re.sub(r"^\d\d:\d\d:\d\d - ERROR - ", "", last)
    assert ended.stderr.count(sentence) == 1
    assert ended.stderr.count(" - ERROR - ") == (sentence != last)


def test_a_server_that_takes_long_is_waited_for_in_so_many_words(ends: dict[str, Ended]) -> None:
    _, waiting, last = ends["server says nothing"].stderr.splitlines()
    assert waiting.endswith("/silence has not answered yet; waiting.")
    assert last.endswith("/silence does not answer: start it, or name another.")

"""A small Hugging Face Hub on loopback: serves one repository from a folder, fails to order.

It speaks what `huggingface_hub` needs for a download: the model's description, the list of its
files, and HEAD and GET of a file with ETag, X-Repo-Commit, X-Linked-Size and Range. It knows
nothing of this project. It never offers Xet, so every byte of a file passes through here.

    with HubServer(folder, "owner/name") as hub:
        hub.fail("model.safetensors", Cut(after=70_000), method="GET")
        subprocess.run(command, env=os.environ | hub.environment(home))
        assert hub.fetched("model.safetensors")[1].start == 70_000

In the process of the tests, where `huggingface_hub` has read its environment already, `hub.patch`
points the client here with pytest's monkeypatch.
"""

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import pytest

INFO = "info"  # what `fail` calls the request for the model's description
TREE = "tree"  # and the one for the list of files
LARGE = (".safetensors", ".bin", ".pkl")  # kept in Git LFS by the Hub, known by their SHA-256
PIECE = 1 << 14


@dataclass(frozen=True)
class Status:
    """Answer with an HTTP status in place of the file."""

    code: int
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cut:
    """Close the connection after so many bytes of the body; None: before the status line."""

    after: int | None = None


@dataclass(frozen=True)
class Stall:
    """Say nothing for so many seconds, after so many bytes of the body, and then close."""

    seconds: float
    after: int | None = None


@dataclass(frozen=True)
class WrongBytes:
    """Serve a body of the right length in which one byte is another."""

    position: int = -1


@dataclass(frozen=True)
class Meanwhile:
    """Do something else on this machine first, and then answer as always."""

    action: Callable[[], object]


@dataclass(frozen=True)
class Sized:
    """Say that the file has this size: an answer to HEAD, which has no body."""

    size: int


Fault = Status | Cut | Stall | WrongBytes | Meanwhile | Sized

REPO_NOT_FOUND = Status(404, {"X-Error-Code": "RepoNotFound"})
GATED = Status(403, {"X-Error-Code": "GatedRepo"})


@dataclass
class Request:
    """A request that the server has answered, or has been told not to."""

    method: str
    what: str  # INFO, TREE or the name of a file
    start: int = 0  # the first byte that was asked for
    authorization: str | None = None
    status: int = 0
    sent: int = 0  # bytes of the body


@dataclass
class _Order:
    fault: Fault
    method: str | None
    times: int | None


class HubServer:
    """A Hub with one repository, on a free port of 127.0.0.1 or of another `host` of this machine,
    for as long as a `with` lasts."""

    def __init__(self, folder: Path, repo_id: str = "owner/model", host: str = "127.0.0.1") -> None:
        self.folder = folder
        self.repo_id = repo_id
        self.requests: list[Request] = []
        self._trees: dict[str, list[dict[str, Any]]] = {}  # of each commit that was described
        self._orders: dict[str, list[_Order]] = {}
        self._lock = threading.Lock()
        self.closing = threading.Event()
        self._server = _Server((host, 0), _Handler)
        self._server.hub = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """The address for HF_ENDPOINT."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    @property
    def commit(self) -> str:
        """The commit of the main branch: another one whenever a file has changed."""
        digest = hashlib.sha1()
        for name in self.names():
            digest.update(f"{name} {self.checksum(name)}\n".encode())
        return digest.hexdigest()

    def names(self) -> list[str]:
        """The files of the repository, as paths below its root."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return sorted(path.relative_to(self.folder).as_posix() for path in files)

    def checksum(self, name: str) -> str:
        """The SHA-256 of a large file, git's hash of a small one; the ETag of both."""
        content = (self.folder / name).read_bytes()
        if name.endswith(LARGE):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()

    def fail(
        self, what: str, *faults: Fault, times: int | None = 1, method: str | None = None
    ) -> None:
        """Let the next requests for `what` (INFO, TREE or a file's name) meet these faults in turn.

        Each fault is met `times` times, or for ever when it is None; only requests of `method`
        meet it when that is given.
        """
        with self._lock:
            orders = self._orders.setdefault(what, [])
            orders.extend(_Order(fault, method, times) for fault in faults)

    def heal(self) -> None:
        """Forget all faults that were ordered and not met."""
        with self._lock:
            self._orders.clear()

    def fetched(self, name: str) -> list[Request]:
        """The GET requests for the content of a file, in order."""
        return [r for r in self.requests if r.method == "GET" and r.what == name]

    def environment(self, home: Path) -> dict[str, str]:
        """Variables that point another process's client here, with all its files in `home`."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": str(self._server.server_address[0]),
        }

    def patch(self, monkeypatch: pytest.MonkeyPatch, home: Path) -> Path:
        """Point this process's client here, with all its files in `home`; returns its cache.

        `huggingface_hub.constants` holds what it read from the environment when it was imported,
        and all of the client looks there.
        """
        from huggingface_hub import close_session, constants

        close_session()  # its open connections lead to another server
        values = {
            "ENDPOINT": self.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": self.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_HUB_DISABLE_TELEMETRY": True,
            "HF_HUB_OFFLINE": False,
        }
        for name, value in values.items():
            monkeypatch.setattr(constants, name, value)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
            monkeypatch.delenv(name, raising=False)
        return home / "hub"

    def take_fault(self, request: Request) -> Fault | None:
        """The fault that this request is to meet."""
        with self._lock:
            self.requests.append(request)
            for order in self._orders.get(request.what, []):
                if order.times != 0 and order.method in (None, request.method):
                    if order.times is not None:
                        order.times -= 1
                    return order.fault
        return None

    def description(self) -> dict[str, Any]:
        """What the Hub says of the model and its files."""
        self._trees[self.commit] = self._entries()
        files = [self._entry(name, "rfilename", "blobId", "sha256") for name in self.names()]
        return {
            "_id": "1",
            "id": self.repo_id,
            "modelId": self.repo_id,
            "sha": self.commit,
            "private": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": files,
        }

    def tree(self, revision: str) -> list[dict[str, Any]]:
        """The list of the files at a commit, also at an earlier one, or at the main branch."""
        return self._trees.get(revision) or self._entries()

    def _entries(self) -> list[dict[str, Any]]:
        files = [self._entry(name, "path", "oid", "oid") for name in self.names()]
        return [{"type": "file"} | file for file in files]

    def _entry(self, name: str, path_key: str, id_key: str, sha_key: str) -> dict[str, Any]:
        size = (self.folder / name).stat().st_size
        entry: dict[str, Any] = {path_key: name, "size": size, id_key: self.checksum(name)}
        if name.endswith(LARGE):
            entry["lfs"] = {sha_key: self.checksum(name), "size": size, "pointerSize": 134}
            entry[id_key] = hashlib.sha1(name.encode()).hexdigest()  # of the pointer file
        return entry


class _Server(ThreadingHTTPServer):
    hub: HubServer
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is nothing to print."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every small answer waits 40 ms for an acknowledgement
    server: _Server

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        hub = self.server.hub
        path = unquote(urlsplit(self.path).path)
        repo = re.escape(hub.repo_id)
        if re.fullmatch(rf"/api/models/{repo}(/revision/[^/]+)?", path):
            self._serve(INFO, lambda: json.dumps(hub.description()).encode())
        elif match := re.fullmatch(rf"/api/models/{repo}/tree/([^/]+)", path):
            revision = match[1]
            self._serve(TREE, lambda: json.dumps(hub.tree(revision)).encode())
        elif match := re.fullmatch(rf"/{repo}/resolve/[^/]+/(.+)", path):
            name = match[1]
            if name in hub.names():
                self._serve(name, (hub.folder / name).read_bytes, self._file_headers(name))
            else:
                self._refuse(Status(404, {"X-Error-Code": "EntryNotFound"}), Request("", name))
        else:
            self._refuse(REPO_NOT_FOUND, Request("", path))

    def _file_headers(self, name: str) -> dict[str, str]:
        hub = self.server.hub
        headers = {"ETag": f'"{hub.checksum(name)}"', "X-Repo-Commit": hub.commit}
        if name.endswith(LARGE):
            headers["X-Linked-ETag"] = headers["ETag"]
            headers["X-Linked-Size"] = str((hub.folder / name).stat().st_size)
        return headers

    def _serve(
        self, what: str, load: Callable[[], bytes], headers: dict[str, str] | None = None
    ) -> None:
        hub = self.server.hub
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        request = Request(self.command, what, start, self.headers.get("Authorization"))
        fault = hub.take_fault(request)
        if isinstance(fault, Status):
            self._refuse(fault, request)
            return
        if isinstance(fault, Cut | Stall) and fault.after is None:
            self._break_off(fault)
            return
        if isinstance(fault, Meanwhile):
            fault.action()
        content = bytearray(load())
        if isinstance(fault, WrongBytes):
            content[fault.position] ^= 0xFF
        headers = dict(headers or {"Content-Type": "application/json"})
        headers["Content-Length"] = str(len(content) - start)
        if isinstance(fault, Sized):
            headers |= {"Content-Length": str(fault.size), "X-Linked-Size": str(fault.size)}
        request.status = 206 if asked else 200
        self.send_response(request.status)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self._send_body(bytes(content[start:]), request, fault)

    def _send_body(self, body: bytes, request: Request, fault: Fault | None) -> None:
        broken = fault if isinstance(fault, Cut | Stall) else None
        end = len(body) if broken is None or broken.after is None else broken.after
        for offset in range(0, end, PIECE):
            piece = body[offset : min(offset + PIECE, end)]
            self.wfile.write(piece)
            request.sent += len(piece)
        if broken:
            self.wfile.flush()
            self._break_off(broken)

    def _break_off(self, fault: Cut | Stall) -> None:
        if isinstance(fault, Stall):
            until = time.monotonic() + fault.seconds
            while time.monotonic() < until and not self.server.hub.closing.is_set():
                time.sleep(0.01)
        self.close_connection = True

    def _refuse(self, status: Status, request: Request) -> None:
        request.status = status.code
        self.send_response(status.code)
        for name, value in status.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

"""The review over HTTP, on this machine alone.

Whoever may read or write has the secret in the address. `Host` and `Origin` are checked as well, so
that no page from elsewhere can ask through the reader's browser. Nothing is read but the page, the
captions and the pictures that they are of.
"""

import json
import secrets
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from captioner.errors import CaptionerError, UnreadableImage
from captioner.output.reviews import Changed
from captioner.pages.gallery import data, page
from captioner.pictures.files import opened
from captioner.pictures.kinds import ALL, START, kind_of
from captioner.review.desk import Desk

HOST = "127.0.0.1"
MAX_BODY = 1_000_000  # bytes of one request
TYPES = {".js": "text/javascript", ".css": "text/css"}


def application(desk: Desk, input_dir: Path, port: int, secret: str) -> ASGIApp:
    """The application, under the path `/SECRET/`."""

    async def index(_: Request) -> Response:
        html = page(input_dir, "Review: what you save is written at once.", review=True)
        return Response(html, media_type="text/html")

    async def results(_: Request) -> Response:
        script = await run_in_threadpool(lambda: data(desk.entries()))
        return Response(script, media_type=TYPES[".js"])

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in ("gallery.css", "gallery.js", "review.js"):
            raise HTTPException(404)
        text = (files("captioner.pages") / "assets" / name).read_text("utf-8")
        return Response(text, media_type=TYPES[Path(name).suffix])

    async def picture(request: Request) -> Response:
        path = desk.picture(request.path_params["name"])
        if path is None:
            raise HTTPException(404)
        return FileResponse(path, media_type=_kind(path))

    async def made(request: Request, make: Callable[[str], bytes | None]) -> Response:
        data = await run_in_threadpool(make, request.path_params["name"])
        if data is None:
            raise HTTPException(404)
        return Response(data, media_type="image/jpeg")

    async def jpeg(request: Request) -> Response:
        return await made(request, desk.jpeg)

    async def thumbnail(request: Request) -> Response:
        return await made(request, desk.thumbnail)

    async def save(request: Request) -> Response:
        asked = await _body(request, "image", "before", "caption")
        try:
            after = await run_in_threadpool(desk.save, *asked.values())
        except Changed as error:
            now = desk.shown(asked["image"], error.caption)
            return JSONResponse({**now, "digest": error.digest}, 409)
        return JSONResponse({"digest": after})

    async def judge(request: Request) -> Response:
        asked = await _body(request, "image", "verdict", "digest")
        await run_in_threadpool(desk.judge, *asked.values())
        return JSONResponse({})

    async def busy(_: Request) -> Response:
        return JSONResponse({"busy": desk.busy()})

    routes = [
        Route("/", index),
        Route("/gallery/data.js", results),
        Route("/gallery/{name}", asset),
        Route("/picture/{name}", picture),
        Route("/jpeg/{name}", jpeg),
        Route("/thumbnail/{name}", thumbnail),
        Route("/busy", busy),
        Route("/save", save, methods=["POST"]),
        Route("/judge", judge, methods=["POST"]),
    ]
    errors: dict[Any, Callable[[Request, Exception], Response]] = {
        KeyError: lambda *_: JSONResponse({"error": "There is no such caption."}, 404),
        CaptionerError: lambda _, error: JSONResponse({"error": str(error)}, 500),
    }
    app = Starlette(routes=[Mount(f"/{secret}", routes=routes)], exception_handlers=errors)
    return _Guard(app, {f"{HOST}:{port}", f"localhost:{port}"})


def secret() -> str:
    """A secret that nobody guesses."""
    return secrets.token_urlsafe(24)


class _Guard:
    """Lets in what was sent to this machine, by the page itself, and nothing else."""

    def __init__(self, app: ASGIApp, hosts: set[str]) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = {name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]}
            origin = headers.get("origin")
            ours = headers.get("host") in self._hosts
            if scope["method"] not in ("GET", "HEAD"):
                ours &= origin is not None and origin in {f"http://{h}" for h in self._hosts}
            if not ours:
                await Response("Not from here.", 403)(scope, receive, send)
                return
        await self._app(scope, receive, _with_headers(send))


def _with_headers(send: Send) -> Send:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                *message["headers"],
                (b"x-content-type-options", b"nosniff"),
                (b"cache-control", b"no-store"),
                (b"referrer-policy", b"no-referrer"),
                (b"cross-origin-resource-policy", b"same-origin"),
                (b"x-frame-options", b"DENY"),
            ]
        await send(message)

    return sending


async def _body(request: Request, *names: str) -> dict[str, str]:
    """The texts of a JSON object; anything else is refused."""
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BODY:
            raise HTTPException(413)
    try:
        value = json.loads(raw)
        asked = {name: value[name] for name in names}
    except (ValueError, LookupError, TypeError, RecursionError):
        raise HTTPException(400) from None
    if not all(isinstance(text, str) for text in asked.values()):
        raise HTTPException(400)
    return asked


def _kind(path: Path) -> str:
    """The media type of a picture by its bytes, not by its name."""
    try:
        with opened(path) as file:
            return kind_of(file.read(START), (ALL,)).media_type
    except (OSError, UnreadableImage):
        return "application/octet-stream"

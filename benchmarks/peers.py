"""The other ways to caption a folder with mlx-vlm, each in a process of its own.

    python -m benchmarks.peers loop|batch CHECKPOINT TOKENS OUTPUT PICTURE...

loads the checkpoint, captions the pictures, writes a JSON file for each, and prints the seconds
from "loaded" to the last file as JSON. `through_server` does it with `mlx_vlm.server`.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from benchmarks.environment import ROOT, measured
from benchmarks.processes import free_port, stopped

PROMPT = "Describe the contents of this image."
IN_FLIGHT = 8
TIMEOUT = 900.0
HOST = "127.0.0.1"


def in_process(
    way: str, checkpoint: Path, pictures: list[Path], tokens: int, output: Path
) -> float:
    """The seconds that `loop` or `batch` takes."""
    command = [sys.executable, "-m", "benchmarks.peers", way, str(checkpoint), str(tokens)]
    done = subprocess.run(
        [*command, str(output), *map(str, pictures)],
        env=measured(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        timeout=TIMEOUT,
        check=True,
    )
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def through_server(
    checkpoint: Path, pictures: list[Path], tokens: int, output: Path, in_flight: int = IN_FLIGHT
) -> float:
    """The seconds that `mlx_vlm.server` takes with so many requests in flight."""
    output.mkdir(parents=True, exist_ok=True)
    with _server(checkpoint, output.with_suffix(".log")) as port:

        def caption(picture: Path) -> None:
            _write(output, picture, _asked(port, checkpoint, picture, tokens))

        began = time.perf_counter()
        with ThreadPoolExecutor(in_flight) as threads:
            list(threads.map(caption, pictures))
        return time.perf_counter() - began


@contextmanager
def _server(checkpoint: Path, log: Path) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "mlx_vlm.server", "--model", str(checkpoint)]
    where = ["--host", HOST, "--port", str(port), "--log-level", "WARNING"]
    with (
        log.open("w") as file,
        stopped(
            subprocess.Popen(
                [*command, *where], env=measured(), stdout=file, stderr=subprocess.STDOUT
            )
        ) as process,
    ):
        deadline = time.monotonic() + 120
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"mlx_vlm.server did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield port


def _answers(port: int) -> bool:
    try:
        return b"loaded" in _request(port, "GET", "/health") or True
    except OSError:
        return False


def _asked(port: int, checkpoint: Path, picture: Path, tokens: int) -> str:
    content = [
        {"type": "image_url", "image_url": {"url": str(picture)}},
        {"type": "text", "text": PROMPT},
    ]
    body = {
        "model": str(checkpoint),
        "messages": [{"role": "user", "content": content}],
        "max_tokens": tokens,
        "temperature": 0.0,
    }
    answer = json.loads(_request(port, "POST", "/v1/chat/completions", json.dumps(body)))
    if answer["usage"]["completion_tokens"] != tokens:
        raise RuntimeError(f"mlx_vlm.server made {answer['usage']} for {picture.name}")
    return str(answer["choices"][0]["message"]["content"])


def _request(port: int, method: str, path: str, body: str | None = None) -> bytes:
    connection = HTTPConnection(HOST, port, timeout=TIMEOUT)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise RuntimeError(f"{path}: {response.status} {content[:500]!r}")
    return content


# What follows runs in the measured process.


def _loop(model: Any, processor: Any, pictures: list[Path], tokens: int, output: Path) -> None:
    """The seed's way: one picture after the other, and a JSON file for each."""
    from mlx_vlm import generate
    from mlx_vlm.prompt_utils import apply_chat_template

    for picture in pictures:
        prompt = apply_chat_template(processor, model.config, PROMPT, num_images=1)
        result = generate(
            model,
            processor,
            prompt,
            image=[str(picture)],
            max_tokens=tokens,
            temperature=0.0,
            verbose=False,
        )
        _check_length(result.generation_tokens, tokens)
        _write(output, picture, result.text)


def _batch(model: Any, processor: Any, pictures: list[Path], tokens: int, output: Path) -> None:
    """All pictures in one call; mlx-vlm groups them by their exact size."""
    from mlx_vlm import batch_generate

    names = [str(picture) for picture in pictures]
    response = batch_generate(
        model, processor, images=names, prompts=[PROMPT] * len(names), max_tokens=tokens
    )
    for picture, text in zip(pictures, response.texts, strict=True):
        _write(output, picture, text)


def _check_length(generated: int, tokens: int) -> None:
    if generated != tokens:
        raise RuntimeError(f"{generated} tokens where {tokens} were asked for")


def _write(output: Path, picture: Path, text: str) -> None:
    entry = {"image": picture.name, "prompt": PROMPT, "caption": text.strip()}
    path = output / f"{picture.stem}.json"
    path.write_text(json.dumps(entry, indent=2, ensure_ascii=False), encoding="utf-8")


def _main() -> None:
    from mlx_vlm import load

    way, checkpoint, tokens, output, *pictures = sys.argv[1:]
    ways: dict[str, Callable[[Any, Any, list[Path], int, Path], None]] = {
        "loop": _loop,
        "batch": _batch,
    }
    directory = Path(output)
    directory.mkdir(parents=True, exist_ok=True)
    model, processor = load(checkpoint)
    began = time.perf_counter()
    ways[way](model, processor, [Path(picture) for picture in pictures], int(tokens), directory)
    print(json.dumps({"seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    _main()

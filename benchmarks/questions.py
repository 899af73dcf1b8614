"""Three questions about a picture: in one look, and one by one.

    python -m benchmarks.questions [--pictures N] [--tokens N] [--rounds N] [--batch-sizes 1,8]
        [--without-peer]

Random weights of about 48 M parameters in float32, pictures of 2,000 image tokens. The peer is
`mlx_vlm.generate`, which is asked three times; `one by one` is our device, which is asked three
times; `one look` is our device, asked once. All in one process, interleaved, each with one small
picture before the clock runs; whether all three give the same answers is said. Prints ratios, each
the median of the rounds'. `--without-peer` leaves the first out.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image

from benchmarks.checkpoint import TOKEN_PIXELS, make_checkpoint
from benchmarks.environment import MISSING_OPENBLAS, ROOT, measured, openblas, this_machine
from captioner.device.device import Device
from captioner.device.rows import Request
from captioner.pictures.decoding import load_image

PROMPT = "Describe the contents of this image."
ASKED = ("alt_text=Write an alt text of one sentence.", "keywords=List keywords, with commas.")
SIDES = (50, 40)  # of a picture, in image tokens
Answers = list[str]
Way = Callable[[list[Path]], Answers]


def main(
    pictures: int, tokens: int, rounds: int, batch_sizes: Sequence[int], with_peer: bool
) -> None:
    """Measure, and print a line for each way at each batch size."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        made = _pictures(folder, pictures)
        checkpoint = _checkpoint(folder / "model")
        peer = {"mlx_vlm.generate": _peer(checkpoint, tokens)} if with_peer else {}
        for batch_size in batch_sizes:
            with Device(checkpoint, batch_size) as device:
                ours: dict[str, Way] = {
                    "one by one": partial(_one_by_one, device, tokens),
                    "one look": partial(_one_look, device, tokens),
                }
                _compare(peer | ours, batch_size, made, rounds)


def _compare(ways: dict[str, Way], batch_size: int, pictures: list[Path], rounds: int) -> None:
    answers: dict[str, Answers] = {}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way([_small(pictures[0])])
    for number in range(rounds):
        for name in list(ways) if number % 2 else list(ways)[::-1]:
            began = time.perf_counter()
            answers[name] = ways[name](pictures)
            seconds[name].append(time.perf_counter() - began)
    different = {name for name, said in answers.items() if said != answers["one by one"]}
    for name, took in seconds.items():
        ratio = median(a / b for a, b in zip(seconds["one by one"], took, strict=True))
        rate = 60 * len(pictures) / median(took)
        note = "; other answers" if name in different else ""
        print(f"batch size {batch_size}, {name}: {rate:.2f} pictures/min, {ratio:.2f} ×{note}")


def _one_by_one(device: Device, tokens: int, pictures: list[Path]) -> Answers:
    prompts = [PROMPT, *(ask.partition("=")[2] for ask in ASKED)]
    requests = [Request(prompt, None, tokens, 0.0) for prompt in prompts]
    works = [
        device.begin(partial(load_image, path, 0), request)
        for path in pictures
        for request in requests
    ]
    return [work.result().text for work in works]


def _one_look(device: Device, tokens: int, pictures: list[Path]) -> Answers:
    request = Request(PROMPT, None, tokens, 0.0, ask=ASKED)
    done = [
        work.result()
        for work in [device.begin(partial(load_image, path, 0), request) for path in pictures]
    ]
    return [text for made in done for text in (made.text, *(made.fields or {}).values())]


def _peer(checkpoint: Path, tokens: int) -> Way:
    from mlx_vlm import generate, load
    from mlx_vlm.prompt_utils import apply_chat_template

    model, processor = load(str(checkpoint))
    prompts = [PROMPT, *(ask.partition("=")[2] for ask in ASKED)]

    def ask(pictures: list[Path]) -> Answers:
        said = []
        for path in pictures:
            for prompt in prompts:
                text = apply_chat_template(processor, model.config, prompt, num_images=1)
                more: dict[str, Any] = {"max_tokens": tokens, "temperature": 0.0, "verbose": False}
                said.append(
                    generate(model, processor, text, image=[str(path)], **more).text.strip()
                )
        return said

    return ask


def _checkpoint(directory: Path) -> Path:
    make_checkpoint(directory)
    path = directory / "preprocessor_config.json"
    processor = json.loads(path.read_bytes())
    processor["size"]["longest_edge"] = 2_048 * TOKEN_PIXELS
    path.write_text(json.dumps(processor))
    return directory


def _pictures(folder: Path, number: int) -> list[Path]:
    paths = [folder / f"{n}.png" for n in range(number)]
    for n, path in enumerate(paths):
        noise = Image.effect_noise(SIDES, 90 + n)
        noise.resize((32 * SIDES[0], 32 * SIDES[1])).convert("RGB").save(path)
    return paths


def _small(picture: Path) -> Path:
    path = picture.with_name(f"small-{picture.name}")
    Image.open(picture).resize((64, 64)).save(path)
    return path


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Three questions in one look, and one by one.")
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-sizes", default="1,8")
    parser.add_argument("--without-peer", action="store_true")
    parser.add_argument("--measured", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    if not given.measured:  # once more, under the environment of what is measured
        command = [sys.executable, "-m", "benchmarks.questions", *sys.argv[1:], "--measured"]
        raise SystemExit(subprocess.run(command, cwd=ROOT, env=measured(), check=False).returncode)
    print(this_machine().described() if openblas() else MISSING_OPENBLAS)
    sizes = [int(size) for size in given.batch_sizes.split(",")]
    main(given.pictures, given.tokens, given.rounds, sizes, not given.without_peer)

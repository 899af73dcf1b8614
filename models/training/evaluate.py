"""How well a checkpoint captions held-out pictures.

    python models/training/evaluate.py --seed 1 --n 500

Draws the pictures into a temporary folder as PNG, JPG and JPEG files of mixed sizes,
captions them with the whole product, and prints the figures; the last line is a JSON object with
``layout, count, colour, shape, label, exact`` as fractions. Refuses seeds that belong to
training. Needs the product and the font packages, no torch.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import drawing
from flowcharts import plan, refuse_training_seed
from scoring import score_all, score_caption
from vocabulary import DEFAULT_PROMPT

ROOT = Path(__file__).resolve().parent.parent.parent
CHECKPOINT = ROOT / "models" / "flowcharts-3m-8bit"


def draw_folder(folder: Path, seed: int, count: int) -> dict[str, str]:
    """Write ``count`` pictures of this seed; their right captions by file name."""
    refuse_training_seed(seed)
    truths = {}
    for index in range(count):
        chart = plan(seed, index)
        ending = "png" if not chart.look.jpeg else ("jpg", "jpeg")[index % 2]
        name = f"flowchart{index:04d}.{ending}"
        image = drawing.draw(chart, seed, index)
        (folder / name).write_bytes(drawing.encode(chart, image))
        truths[name] = chart.caption
    return truths


def caption_folder(
    folder: Path, checkpoint: Path = CHECKPOINT, prompt: str = DEFAULT_PROMPT, system: str = ""
) -> dict[str, str]:
    """Captions by file name, from the whole product as a user runs it."""
    with tempfile.TemporaryDirectory() as results:
        command = [sys.executable, ROOT / "flows" / "caption_flow.py"]
        command += [f"--input-dir={folder}", f"--output-dir={results}", f"--model={checkpoint}"]
        command += [f"--user-prompt={prompt}", *([f"--system-prompt={system}"] if system else [])]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        captions = json.loads(Path(results, "captions.json").read_bytes())
    return {entry["image"]: entry["caption"] for entry in captions}


def report(captions: dict[str, str], truths: dict[str, str], shown: int) -> dict[str, float]:
    """Print the first captions that are not exact, then the figures."""
    wrong = [name for name in truths if score_caption(captions[name], truths[name]).exact == 0]
    for name in wrong[:shown]:
        print(f"{name}\n  said  {captions[name]}\n  right {truths[name]}")
    figures = score_all((captions[name], truths[name]) for name in truths).fractions()
    for part, value in figures.items():
        print(f"{part:7} {100 * value:6.2f} %")
    return figures


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure a checkpoint on held-out pictures.")
    parser.add_argument("--seed", type=int, default=1, help="which pictures")
    parser.add_argument("--n", type=int, default=500, help="how many")
    parser.add_argument("--model", type=Path, default=CHECKPOINT, help="checkpoint directory")
    parser.add_argument("--prompt", default=DEFAULT_PROMPT)
    parser.add_argument("--system", default="", help="system prompt, none by default")
    parser.add_argument("--wrong", type=int, default=10, help="wrong captions to show")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truths = draw_folder(folder, options.seed, options.n)
        began = time.monotonic()
        captions = caption_folder(folder, options.model, options.prompt, options.system)
        seconds = time.monotonic() - began
    figures = report(captions, truths, options.wrong)
    print(f"{options.n} pictures of seed {options.seed} in {seconds:.0f} s")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

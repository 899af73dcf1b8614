"""Train the flowchart captioner from scratch and write its checkpoint, in one command:

    python models/training/train.py --out models/flowcharts-3m-8bit

Uses CUDA when torch finds it, else the CPU, which takes many hours. Needs torch,
tokenizers, Pillow, the font packages of fonts.py, safetensors, and mlx-vlm for the last
step; without mlx-vlm it leaves the weights in ``--state`` and says how to go on. Pictures
are drawn by worker processes while the network learns; a picture is used about
``--reuse`` times, each time with other noise and light. The state is saved every minute,
and the same command goes on from it. ``accuracy.csv`` in ``--state`` is the log that
lies beside this file for the published checkpoint.
"""

from __future__ import annotations

import argparse
import csv
import time
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from batches import Pool, measure_whitening
from flowcharts import TRAINING_SEEDS
from pool import BLOCK, Stream
from shape import Shape
from trainer import STAGES, Plan, Trainer
from validation import Validation


def log(folder: Path, trainer: Trainer, means: dict[str, float], figures: dict[str, float]) -> None:
    """Append to accuracy.csv and show it."""
    now = trainer.counters
    row: dict[str, float | int] = {
        "stage": now.stage + 1,
        "seconds": round(now.seconds),
        "views": now.steps * trainer.plan.batch,
        "drawn": now.blocks * BLOCK,
    }
    row |= {f"{name}_loss": round(value, 4) for name, value in means.items()}
    row |= {name: round(value, 4) for name, value in figures.items()}
    path = folder / "accuracy.csv"
    fresh = not path.exists()
    with path.open("a", newline="") as handle:
        writer = csv.DictWriter(handle, row, lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerow(row)
    print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)


def run_stage(trainer: Trainer, state: Path) -> None:
    """Train to the end of the current stage."""
    plan, now, device = trainer.plan, trainer.counters, trainer.device
    shape, texts = trainer.network.shape, STAGES[now.stage].texts
    pool = Pool(plan.pool, shape, texts, device)
    started, before, stage_before = time.monotonic(), now.seconds, now.stage_seconds
    saved = measured = started
    sums: dict[str, Tensor] = {}
    counted, owed = 0, 0.0
    seed = plan.seed + TRAINING_SEEDS
    with Stream(seed, shape, texts, plan.workers, now.blocks) as stream:
        validation = Validation(shape, device, 256 if device.type == "cuda" else 32)

        def top_up() -> None:
            pool.insert(stream.take())
            stream.give_back()
            now.blocks += 1

        while pool.filled < min(plan.first_fill, plan.pool):
            top_up()
        if now.steps == 0:
            measure_whitening(trainer.network, pool, trainer.tables)
        while trainer.done < 1:
            for name, part in trainer.step(pool).items():
                sums[name] = sums[name] + part if name in sums else part
            counted += 1
            owed += plan.batch / plan.reuse / BLOCK
            while owed >= 1:
                top_up()
                owed -= 1
            clock = time.monotonic()
            now.seconds, now.stage_seconds = (
                past + clock - started for past in (before, stage_before)
            )
            last = trainer.done >= 1
            if clock - measured > 30 or last:
                means = {name: value.item() / counted for name, value in sums.items()}
                log(state, trainer, means, validation.measure(trainer.network, trainer.tables))
                sums, counted, measured = {}, 0, clock
            if clock - saved > 60 or last:
                trainer.save(state)
                saved = clock


def train(plan: Plan, state: Path, device: torch.device) -> Path:
    """Train through all stages; returns the float32 weights' file."""
    state.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(plan, Shape(), device)
    if (state / "network.pt").exists():
        trainer.load(state)
    while True:
        run_stage(trainer, state)
        if trainer.counters.stage + 1 == len(STAGES):
            return state / "float32.safetensors"
        trainer.counters.stage += 1
        trainer.counters.stage_steps, trainer.counters.stage_seconds = 0, 0.0


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the flowchart captioner.")
    parser.add_argument("--out", type=Path, required=True, help="directory of the checkpoint")
    parser.add_argument("--state", type=Path, default=Path("build/flowcharts-3m"),
                        help="training state, to go on after a stop")  # fmt: skip
    parser.add_argument("--minutes", type=float, default=0, help="for each stage, 0: no limit")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--reuse", type=int, default=12)
    parser.add_argument("--pool", type=int, default=65_536)
    parser.add_argument("--first-fill", type=int, default=8_192)
    parser.add_argument("--matrix-rate", type=float, default=0.02)
    parser.add_argument("--rate", type=float, default=0.003)
    parser.add_argument("--decay", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="0: one a core, less one")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    return parser.parse_args()


def main() -> None:
    """Train, then export where mlx-vlm is installed."""
    options = vars(parse())
    out, state = options.pop("out"), options.pop("state")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high")
    plan = Plan(**options)
    print(asdict(plan), flush=True)
    weights = train(plan, state, device)
    try:
        import mlx_vlm  # noqa: F401
    except ImportError:
        print(f"mlx-vlm is missing; where it is: python models/training/export.py {weights} "
              f"--out {out}")  # fmt: skip
        return
    from export import export

    export(weights, out)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()

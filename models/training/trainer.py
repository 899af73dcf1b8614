"""The training's plan and its state: network, optimisers and counters, saved as one.

Does one step at a time; train.py says when, and draws the pictures.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from batches import Pool, place, vary
from hub_names import hub_state
from network import Captioner, build_tables
from objectives import WEIGHTS, losses
from optimiser import Muon
from shape import Shape
from views import LETTERS, LONG, NODE_CLASSES, SHORT, Texts


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of the training, with a rise and fall of the rates of its own."""

    views: int  # pictures looked at, repeats counted
    texts: Texts
    peak: float  # the highest rates, as a share of the plan's


# Long prompts come last, because their texts cost twice as much and little is learnt from them.
STAGES = (Stage(2_600_000, SHORT, 1.0), Stage(815_000, LONG, 0.3))


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train."""

    minutes: float  # end each stage by then with fewer views, 0 for no limit
    batch: int
    reuse: int  # looks at one drawn picture, on average
    pool: int  # drawn pictures kept to choose from
    first_fill: int  # drawn before the first step
    matrix_rate: float  # Muon
    rate: float  # Adam
    decay: float
    seed: int
    workers: int
    compile: bool

    @staticmethod
    def rate_factor(done: float) -> float:
        """Warm-up over two percent, full rate to the middle, then down to nothing."""
        return min(1.0, done / 0.02 + 0.01, (1.0 - done) / 0.55)


@dataclass(slots=True)
class Counters:
    """How far training is."""

    stage: int = 0
    stage_steps: int = 0
    stage_seconds: float = 0.0
    steps: int = 0
    blocks: int = 0  # taken from the stream
    seconds: float = 0.0


class Trainer:
    """Network, optimisers and counters, saved and resumed as one."""

    def __init__(self, plan: Plan, shape: Shape, device: torch.device) -> None:
        torch.manual_seed(plan.seed)
        self.plan, self.device = plan, device
        self.network = Captioner(shape, LETTERS, NODE_CLASSES).to(device)
        matrices, others = self.network.parameter_kinds()
        self.muon = Muon(matrices, momentum=0.95)
        self.adam = torch.optim.Adam(others, lr=plan.rate, betas=(0.9, 0.98), eps=1e-9)
        self.tables = build_tables(shape).to(device)
        self.random = torch.Generator(device).manual_seed(plan.seed)
        self.counters = Counters()
        self.passes = torch.compile(self._pass) if plan.compile else self._pass

    @property
    def done(self) -> float:
        """Share of the current stage behind us."""
        now = self.counters
        spent = now.stage_seconds / (60 * self.plan.minutes) if self.plan.minutes else 0.0
        seen = now.stage_steps * self.plan.batch
        return min(1.0, max(seen / STAGES[now.stage].views, spent))

    def _pass(
        self, patches: Tensor, labels: Tensor, tokens: Tensor, facts: Tensor
    ) -> dict[str, Tensor]:
        positions, slots = place(tokens, facts, self.tables)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            outputs = self.network(
                patches, self.tables, facts[:, 0].long(), tokens.long(), positions, slots
            )
        return losses(outputs, tokens, labels, facts)

    def step(self, pool: Pool) -> dict[str, Tensor]:
        """One batch."""
        patches, labels, tokens, facts = pool.sample(self.plan.batch, self.random)
        parts = self.passes(vary(patches, self.random), labels, tokens, facts)
        loss = torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.adam.param_groups[0]["params"], 1.0)
        factor = STAGES[self.counters.stage].peak * self.plan.rate_factor(self.done)
        self.adam.param_groups[0]["lr"] = self.plan.rate * factor
        self.muon.step(self.plan.matrix_rate * factor, self.plan.decay)
        self.adam.step()
        self.network.zero_grad(set_to_none=True)
        self.counters.stage_steps += 1
        self.counters.steps += 1
        return {name: part.detach() for name, part in parts.items()}

    def save(self, folder: Path) -> None:
        """Everything needed to go on, in two files that are each complete or absent."""
        adam = {
            index: {name: value.cpu() for name, value in state.items()}
            for index, state in self.adam.state_dict()["state"].items()
        }
        halves = {
            "network.pt": {"network": self.network.state_dict(), "counters": asdict(self.counters)},
            "optimisers.pt": {"muon": self.muon.state_dict(), "adam": adam},
        }
        for name, half in halves.items():
            torch.save(half, folder / f"{name}.new")
        for name in halves:
            (folder / f"{name}.new").replace(folder / name)
        save_file(hub_state(self.network), folder / "float32.safetensors", {"format": "pt"})

    def load(self, folder: Path) -> None:
        """Go on from ``save``."""
        half = torch.load(folder / "network.pt", map_location=self.device)
        self.network.load_state_dict(half["network"])
        self.counters = Counters(**half["counters"])
        other = torch.load(folder / "optimisers.pt", map_location=self.device)
        self.muon.load_state_dict(other["muon"])
        groups = self.adam.state_dict()["param_groups"]
        self.adam.load_state_dict({"state": other["adam"], "param_groups": groups})
        self.random.manual_seed(self.plan.seed + self.counters.steps)

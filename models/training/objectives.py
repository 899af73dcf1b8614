"""What the network is asked to get right, and how much each part counts.

Beside the caption, heads on the patches are asked for letters, words, shapes and
colours: without them labels stay at chance for long. They are dropped at export.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from network import Outputs
from views import IGNORE, LETTERS
from vocabulary import COLOURS, SHAPES, WORDS

WEIGHTS = {
    "caption": 1.0, "letter": 0.15, "word": 0.4, "shape": 0.2, "colour": 0.1, "imbalance": 0.01,
}  # fmt: skip


def losses(outputs: Outputs, tokens: Tensor, labels: Tensor, facts: Tensor) -> dict[str, Tensor]:
    """The caption's loss and those of the training-only heads."""
    _, _, start, end, _, _ = facts.long().unbind(1)
    steps = torch.arange(1, tokens.shape[1], device=tokens.device)[None]
    wanted = (steps >= start[:, None]) & (steps < end[:, None])
    targets = torch.where(wanted, tokens[:, 1:].long(), -100)
    targets_of = labels.long()
    targets_of = torch.where(targets_of == IGNORE, -100, targets_of)

    def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits.flatten(0, -2).float(), target.flatten())

    left, right = torch.split(outputs.letters, LETTERS, dim=-1)
    word, node_shape, colour = torch.split(
        outputs.nodes, [len(WORDS), len(SHAPES), len(COLOURS)], dim=-1
    )
    return {
        "caption": cross_entropy(outputs.logits[:, :-1], targets),
        "letter": cross_entropy(left, targets_of[..., 0])
        + cross_entropy(right, targets_of[..., 1]),
        "word": cross_entropy(word, targets_of[..., 2]),
        "shape": cross_entropy(node_shape, targets_of[..., 3]),
        "colour": cross_entropy(colour, targets_of[..., 4]),
        "imbalance": outputs.imbalance,
    }

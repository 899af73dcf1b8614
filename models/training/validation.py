"""Accuracy on held-out pictures while training goes on, with the training network.

Greedy captions without a cache: slow for long texts, simple, and quick enough in batches.
The published figures come from evaluate.py instead, from the finished checkpoint.
"""

from __future__ import annotations

import torch
from torch import Tensor

import vocabulary
from batches import place
from flowcharts import refuse_training_seed
from network import Captioner, GridTables
from pool import empty_fields, fill
from scoring import score_all
from shape import Shape
from views import SHORT, default_prompt_tokens

SEED = 77
LONGEST = 64  # tokens of a caption


class Validation:
    """Pictures drawn once, captioned as often as asked."""

    def __init__(self, shape: Shape, device: torch.device, pictures: int) -> None:
        refuse_training_seed(SEED)
        fields = empty_fields(pictures, shape, SHORT)
        self.truths = fill(fields, SEED, 0, shape, SHORT)
        self.patches = fields[0].to(device)
        self.grid = fields[3][:, 0].long().to(device)
        self.tokenizer = vocabulary.build_tokenizer()
        self.end = vocabulary.token_ids(self.tokenizer).end
        self.pad = vocabulary.token_ids(self.tokenizer).pad

    def _prompts(self, tables: GridTables) -> tuple[Tensor, Tensor]:
        """Padded prompts with room for the caption, and their lengths."""
        counts = (tables.present[self.grid].sum(1) // 4).tolist()
        prompts = [default_prompt_tokens(count)[0] for count in counts]
        longest = max(map(len, prompts)) + LONGEST
        rows = [prompt + [self.pad] * (longest - len(prompt)) for prompt in prompts]
        device = self.grid.device
        return torch.tensor(rows, device=device), torch.tensor(
            [len(prompt) for prompt in prompts], device=device
        )

    @torch.no_grad()
    def captions(self, network: Captioner, tables: GridTables) -> list[str]:
        """Greedy captions of all pictures."""
        tokens, lengths = self._prompts(tables)
        _, image_start = default_prompt_tokens(1)
        facts = torch.zeros(len(lengths), 6, dtype=torch.long, device=tokens.device)
        facts[:, 0], facts[:, 1] = self.grid, image_start
        positions, slots = place(tokens, facts, tables)
        patches = self.patches.float() / 127.5 - 1
        image, deep, _, _ = network.see(patches, tables, self.grid)
        rows = torch.arange(len(lengths), device=tokens.device)
        finished = torch.zeros_like(lengths, dtype=torch.bool)
        for step in range(LONGEST):
            logits, _ = network.read(tokens, positions, slots, image, deep)
            best = logits[rows, lengths + step - 1].argmax(-1)
            tokens[rows, lengths + step] = torch.where(finished, self.pad, best)
            finished |= best == self.end
            if bool(finished.all()):
                break
        answers = [
            row[length:].tolist()
            for row, length in zip(tokens.cpu(), lengths.tolist(), strict=True)
        ]
        return [self.tokenizer.decode(answer, skip_special_tokens=True) for answer in answers]

    def measure(self, network: Captioner, tables: GridTables) -> dict[str, float]:
        """The six figures."""
        captions = self.captions(network, tables)
        return score_all(zip(captions, self.truths, strict=True)).fractions()

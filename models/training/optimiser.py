"""Muon for matrices, Adam for the rest.

Muon replaces a matrix's momentum by the nearest orthogonal matrix (Jordan et al.,
2024), found with five Newton-Schulz steps; matrices of one size are done together, since
the network is small and many tiny products would wait on launches. Knows parameters and
gradients, nothing of the network that they belong to.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

# Coefficients of the quintic iteration, as published with Muon.
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalise(matrices: Tensor) -> Tensor:
    """[count, rows, columns], rows <= columns, to about orthonormal rows."""
    x = matrices.bfloat16() if matrices.is_cuda else matrices.float()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    result: Tensor = x
    return result


class Muon:
    """Steps for lists of matrices; a parameter may be a stack of several."""

    def __init__(self, parameters: Iterable[tuple[nn.Parameter, int]], momentum: float) -> None:
        """``parameters`` come with how many matrices lie stacked along their rows."""
        self.momentum = momentum
        self.groups: dict[tuple[int, int], list[tuple[nn.Parameter, int]]] = {}
        for parameter, stack in parameters:
            rows, columns = parameter.shape[0] // stack, parameter.shape[1]
            self.groups.setdefault((rows, columns), []).append((parameter, stack))
        self.buffers = {
            size: torch.zeros(
                sum(stack for _, stack in members), *size, device=members[0][0].device
            )
            for size, members in self.groups.items()
        }

    @torch.no_grad()
    def step(self, rate: float, decay: float) -> None:
        """One update of every parameter; gradients are left as they are."""
        for size, members in self.groups.items():
            rows, columns = size
            gradient = torch.cat(
                [parameter.grad.reshape(-1, rows, columns) for parameter, _ in members
                 if parameter.grad is not None]
            )  # fmt: skip
            buffer = self.buffers[size]
            buffer.lerp_(gradient, 1 - self.momentum)
            ahead = gradient.lerp(buffer, self.momentum)
            tall = rows > columns
            update = orthogonalise(ahead.mT if tall else ahead)
            update = (update.mT if tall else update).float()
            scale = rate * max(1.0, rows / columns) ** 0.5
            parts = torch.split(update, [stack for _, stack in members])
            for (parameter, _), part in zip(members, parts, strict=True):
                parameter.mul_(1 - rate * decay).sub_(part.reshape(parameter.shape), alpha=scale)

    def state_dict(self) -> dict[str, Tensor]:
        """Momentum in half the bytes."""
        return {f"{rows}x{columns}": buffer.bfloat16() for (rows, columns), buffer in
                self.buffers.items()}  # fmt: skip

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take momentum back."""
        for (rows, columns), buffer in self.buffers.items():
            buffer.copy_(state[f"{rows}x{columns}"])

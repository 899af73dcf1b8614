"""Views drawn by worker processes, handed over in blocks through shared memory.

Block j is always drawn by worker j modulo the number of workers and holds the indices
j * BLOCK onward, and blocks are taken in order, so the stream is the same on every run
and every machine. Knows nothing of learning.
"""

from __future__ import annotations

import multiprocessing as mp
import multiprocessing.connection
import os
from types import TracebackType

import torch
from torch import Tensor

from shape import Shape
from views import LABEL_CHANNELS, Texts, make_view

BLOCK = 64
DEPTH = 3  # blocks that a worker may be ahead
FACTS = 6

Fields = tuple[Tensor, Tensor, Tensor, Tensor]  # patches, labels, tokens, facts


def empty_fields(
    count: int, shape: Shape, texts: Texts, device: torch.device | None = None
) -> Fields:
    """Room for ``count`` views."""
    patches = shape.max_patches
    return (
        torch.zeros(count, patches, shape.patch_values, dtype=torch.uint8, device=device),
        torch.zeros(count, patches, LABEL_CHANNELS, dtype=torch.uint8, device=device),
        torch.zeros(count, texts.length, dtype=torch.int16, device=device),
        torch.zeros(count, FACTS, dtype=torch.int16, device=device),
    )


def fill(fields: Fields, seed: int, start: int, shape: Shape, texts: Texts) -> list[str]:
    """Draw views ``start`` onward into ``fields``; the captions come back."""
    captions = []
    for row in range(fields[0].shape[0]):
        view, caption = make_view(seed, start + row, shape, texts)
        arrays = (view.patches, view.labels, view.tokens, view.facts)
        for field, array in zip(fields, arrays, strict=True):
            field[row] = torch.from_numpy(array)
        captions.append(caption)
    return captions


def _work(
    number: int,
    workers: int,
    first: int,
    seed: int,
    shape: Shape,
    texts: Texts,
    slots: list[Fields],
    pipe: multiprocessing.connection.Connection,
) -> None:
    """Draw this worker's blocks for ever; each waits until its slot is free."""
    torch.set_num_threads(1)
    job = first + (number - first) % workers
    turn = 0
    try:
        while True:
            if turn >= len(slots):
                pipe.recv()
            fill(slots[turn % len(slots)], seed, job * BLOCK, shape, texts)
            pipe.send(job)
            job, turn = job + workers, turn + 1
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass


class Stream:
    """Blocks of fresh views, in order, from ``first`` on."""

    def __init__(
        self, seed: int, shape: Shape, texts: Texts, workers: int = 0, first: int = 0
    ) -> None:
        context = mp.get_context("spawn")
        self.workers = workers or max(1, (os.cpu_count() or 2) - 1)
        self.next = first
        self._slots: list[list[Fields]] = []
        self._turns = [0] * self.workers
        self._pipes: list[multiprocessing.connection.Connection] = []
        self._processes = []
        for number in range(self.workers):
            slots = [empty_fields(BLOCK, shape, texts) for _ in range(DEPTH)]
            for fields in slots:
                for field in fields:
                    field.share_memory_()  # type: ignore[no-untyped-call]
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work,
                args=(number, self.workers, first, seed, shape, texts, slots, theirs),
                daemon=True,
            )
            process.start()
            theirs.close()
            self._slots.append(slots)
            self._pipes.append(ours)
            self._processes.append(process)

    def take(self) -> Fields:
        """The next block; it stays valid until ``give_back``."""
        worker = self.next % self.workers
        job = self._pipes[worker].recv()
        if job != self.next:
            raise RuntimeError(f"worker {worker} sent block {job} instead of {self.next}")
        return self._slots[worker][self._turns[worker] % DEPTH]

    def give_back(self) -> None:
        """Let the worker overwrite the block taken last."""
        worker = self.next % self.workers
        self._pipes[worker].send(None)
        self._turns[worker] += 1
        self.next += 1

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.terminate()

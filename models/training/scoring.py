"""How right a caption is, part by part.

Pure functions over two texts; knows nothing of pictures, models or files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from vocabulary import COLOURS, COUNTS, LAYOUTS, SHAPES

_HEAD = re.compile(rf"^A ({'|'.join(LAYOUTS)}) flowchart of ({'|'.join(COUNTS.values())}) nodes")
_NODE = re.compile(
    rf"\ban? ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)}) labelled (\S+?)(?=[,.]|\s|$)"
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a caption says."""

    layout: str | None
    count: str | None
    nodes: tuple[tuple[str, str, str], ...]  # colour, shape, label


@dataclass(frozen=True, slots=True)
class Score:
    """Right answers out of pictures, or out of nodes, for any number of captions."""

    pictures: int = 0
    nodes: int = 0
    layout: int = 0
    count: int = 0
    colour: int = 0
    shape: int = 0
    label: int = 0
    exact: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))

    def fractions(self) -> dict[str, float]:
        """The six figures; colour, shape and label are of nodes, the rest of pictures."""
        of_pictures, of_nodes = max(1, self.pictures), max(1, self.nodes)
        return {
            "layout": self.layout / of_pictures,
            "count": self.count / of_pictures,
            "colour": self.colour / of_nodes,
            "shape": self.shape / of_nodes,
            "label": self.label / of_nodes,
            "exact": self.exact / of_pictures,
        }


def read_caption(caption: str) -> Reading:
    """What the caption says, as far as it follows the form; the rest is None or missing."""
    head = _HEAD.match(caption)
    nodes = tuple((match[1], match[2], match[3]) for match in _NODE.finditer(caption))
    return Reading(head[1] if head else None, head[2] if head else None, nodes)


def score_caption(caption: str, truth: str) -> Score:
    """One caption against the right one.

    Nodes are compared place by place, so a node that is missing counts as wrong, and a
    node too many makes the count of nodes wrong.
    """
    said, right = read_caption(caption), read_caption(truth)
    pairs = list(zip(said.nodes, right.nodes, strict=False))
    return Score(
        pictures=1,
        nodes=max(len(said.nodes), len(right.nodes)),
        layout=int(said.layout == right.layout),
        count=int(said.count == right.count and len(said.nodes) == len(right.nodes)),
        colour=sum(one[0] == other[0] for one, other in pairs),
        shape=sum(one[1] == other[1] for one, other in pairs),
        label=sum(one[2] == other[2] for one, other in pairs),
        exact=int(caption.strip() == truth),
    )


def score_all(pairs: Iterable[tuple[str, str]]) -> Score:
    """The sum over (caption, truth) pairs."""
    total = Score()
    for caption, truth in pairs:
        total = total + score_caption(caption, truth)
    return total

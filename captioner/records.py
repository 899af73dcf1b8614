"""The facts that travel between states: small, frozen, picklable.

Knows nothing of MLX or Prefect.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file that the scan found."""

    path: Path  # where the file is
    name: str  # its file name, as `image` in the caption file
    caption_file: str  # the name of its caption file in the output directory
    number: int  # its place in the scan order, from 1
    total: int  # how many pictures the scan found

    @property
    def label(self) -> str:
        """The name with control characters made visible: harmless in a log line or a terminal."""
        return printable(self.name)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A picture that cannot be captioned because of what is in its file."""

    picture: Picture
    reason: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A picture that should have been captioned, and was not."""

    picture: Picture
    reason: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    directory: Path
    repo_id: str | None  # None when the directory was named with --model
    revision: str | None  # the commit hash of the snapshot, when it is known
    weight_bytes: int  # the size of all safetensors files


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A reference to a checkpoint that a device of this process has loaded."""

    checkpoint: Checkpoint
    seconds: float  # how long loading took


@dataclass(frozen=True, slots=True)
class Generation:
    """What the device returned for one picture."""

    text: str
    finish_reason: str  # "stop", or "length" when max_tokens cut it
    prompt_tokens: int  # text and image tokens
    image_tokens: int
    width: int  # pixels of the picture as the model saw it
    height: int
    generated_tokens: int
    prefill_seconds: float
    decode_seconds: float


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption, ready to be saved."""

    picture: Picture
    prompt: str  # the user prompt
    generation: Generation


@dataclass(slots=True)
class Totals:
    """Sums over the captions of a run."""

    prompt_tokens: int = 0
    image_tokens: int = 0
    generated_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0

    def add(self, generation: Generation) -> None:
        """Count one more caption."""
        self.prompt_tokens += generation.prompt_tokens
        self.image_tokens += generation.image_tokens
        self.generated_tokens += generation.generated_tokens
        self.prefill_seconds += generation.prefill_seconds
        self.decode_seconds += generation.decode_seconds


@dataclass(slots=True)
class Outcome:
    """What became of the pictures of one run; it holds no captions, so it stays small."""

    pictures: list[Picture]
    captioned: int = 0
    totals: Totals = field(default_factory=Totals)
    skipped: list[Skipped] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    interrupted: bool = False

    def counts(self) -> str:
        """For example `7 captioned, 1 skipped`."""
        parts = [f"{self.captioned} captioned"]
        if self.skipped:
            parts.append(f"{len(self.skipped)} skipped")
        if self.failures:
            parts.append(f"{len(self.failures)} failed")
        return ", ".join(parts)


def printable(text: str) -> str:
    """`text` with everything that a terminal would act upon written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def listed(names: Iterable[str], limit: int = 5) -> str:
    """The first few of `names` in one line, and how many more there are."""
    names = list(names)
    shown = ", ".join(names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")

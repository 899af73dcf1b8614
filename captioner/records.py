"""The facts that travel between states: small, frozen, picklable.

Knows nothing of MLX or Prefect.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file that the scan found."""

    path: Path  # where the file is
    name: str  # its file name, as `image` in the caption file
    caption_file: str  # the name of its caption file in the output directory
    number: int  # its place in the scan order, from 1
    total: int  # how many pictures the scan found
    size: tuple[int, int] = (0, 0)  # width and height in pixels, once it was validated

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
    batch_size: int  # how many pictures it captions at a time
    seconds: float  # how long loading took


@dataclass(frozen=True, slots=True)
class Generation:
    """What the device returned for one picture."""

    text: str
    finish_reason: str  # "stop", "length" when max_tokens cut it, "loop" when it was stuck
    prompt_tokens: int  # text and image tokens
    image_tokens: int
    width: int  # pixels of the picture as the model saw it
    height: int
    generated_tokens: int
    prefill_seconds: float
    decode_seconds: float
    flags: tuple[str, ...] = ()  # of "truncated", "repetitive" and "empty"


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption, ready to be saved."""

    picture: Picture
    prompt: str  # the user prompt
    generation: Generation
    attempts: int = 1  # how often it was generated, with another sampling after a loop


@dataclass(frozen=True, slots=True)
class DeviceFigures:
    """What the device did during a run."""

    busy_seconds: float  # with at least one picture on it
    idle_seconds: float  # with none, between the first picture and the last
    peak_memory_bytes: int

    @property
    def busy_fraction(self) -> float | None:
        """The busy part of the time between the first picture and the last; None without one."""
        worked = self.busy_seconds + self.idle_seconds
        return self.busy_seconds / worked if worked else None


@dataclass(slots=True)
class Outcome:
    """What became of the pictures of one run. It holds no caption's text, so it stays small."""

    pictures: list[Picture]
    captioned: list[Caption] = field(default_factory=list)  # without their texts
    skipped: list[Skipped] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    interrupted: bool = False

    def add(self, caption: Caption) -> None:
        """Note a caption that was saved."""
        self.captioned.append(replace(caption, generation=replace(caption.generation, text="")))

    def counts(self) -> str:
        """For example `7 captioned, 1 skipped`."""
        parts = [f"{len(self.captioned)} captioned"]
        if flagged := sum(1 for caption in self.captioned if caption.generation.flags):
            parts[0] += f" ({flagged} flagged)"
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

"""The facts that travel between states: small, frozen, picklable.

Knows nothing of MLX or Prefect.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

from captioner.text import printable


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a file was when it was read."""

    bytes: int
    mtime_ns: int  # when it was last modified, in nanoseconds since 1970
    sha256: str  # of all its bytes, in hexadecimal


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file that the scan found."""

    path: Path  # where the file is
    name: str  # its file name, as `image` in the caption file
    caption_file: str  # the name of its caption file in the output directory
    number: int  # its place among the pictures that are to be captioned, from 1
    total: int  # how many these are
    size: tuple[int, int] = (0, 0)  # width and height in pixels, once it was validated
    source: Stamp | None = None  # the file as it was validated
    again: str = ""  # why it is captioned once more; empty when it never was

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
class Gone:
    """A picture that was captioned in an earlier run, and is not in the input directory now."""

    image: str
    caption_file: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run has to do, and what it need not do."""

    pictures: list[Picture]  # all that the scan found, in its order
    todo: list[Picture] = field(default_factory=list)  # numbered among themselves
    up_to_date: list[str] = field(default_factory=list)  # captioned already; also the edited
    edited: list[str] = field(default_factory=list)  # whose caption a person wrote or changed
    left: list[str] = field(default_factory=list)  # not what --retry-flagged asks for
    skipped: list[Skipped] = field(default_factory=list)  # in an earlier run; the file is the same
    gone: list[Gone] = field(default_factory=list)


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
    revision: str  # the commit hash of the snapshot, or a hash of the directory's files
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
    source: Stamp  # the file that it is the caption of
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

    plan: Plan
    captioned: list[Caption] = field(default_factory=list)  # without their texts
    skipped: list[Skipped] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    interrupted: bool = False

    def add(self, caption: Caption) -> None:
        """Note a caption that was saved."""
        self.captioned.append(replace(caption, generation=replace(caption.generation, text="")))

    @property
    def all_skipped(self) -> list[Skipped]:
        """The pictures that cannot be captioned, whether this run or an earlier one found out."""
        return self.plan.skipped + self.skipped

    def counts(self) -> str:
        """For example `7 captioned, 20 up to date, 1 skipped`; `Nothing new: ...` without work."""
        parts = [f"{len(self.captioned)} captioned"] if self.plan.todo else []
        if flagged := sum(1 for caption in self.captioned if caption.generation.flags):
            parts[0] += f" ({flagged} flagged)"
        if self.plan.up_to_date:
            edited = len(set(self.plan.edited).intersection(self.plan.up_to_date))
            note = f" ({edited} edited by hand)" if edited else ""
            parts.append(f"{len(self.plan.up_to_date)} up to date{note}")
        if self.plan.left:
            parts.append(f"{len(self.plan.left)} left as they are")
        if skipped := len(self.all_skipped):
            parts.append(f"{skipped} skipped")
        if self.failures:
            parts.append(f"{len(self.failures)} failed")
        nothing = [] if self.plan.todo else ["Nothing new"]
        return ": ".join(nothing + ([", ".join(parts)] if parts else []))

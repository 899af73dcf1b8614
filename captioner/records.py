"""The facts that travel between states: small, frozen, picklable.

A picture's own, in the order in which they come about: `Picture` (found by the scan), `Job` (what
the plan has to do with it), `Skipped` or `Valid` (what validation says; the latter is in
`pictures/reading.py`, since it has pixels), `Caption`, or `Failure`.

What many task runs return is a plain class, not a dataclass: Prefect walks through those, notes
every field as a result, and draws wrong edges where two share one. Knows nothing of MLX.
"""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Self

from captioner.groups import DEFAULT_USER_PROMPT
from captioner.settings import RECIPE, Settings
from captioner.text import listed, printable

BANNED = "banned"  # the flag of a caption that holds such a phrase


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a file was when it was read."""

    bytes: int
    mtime_ns: int  # when it was last modified, in nanoseconds since 1970
    sha256: str  # of all its bytes, in hexadecimal; empty when it is too large for a picture


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file that the scan found."""

    key: str  # its path within the input directory, with `/`, as `image` in the caption file
    root: Path  # the input directory, which no link may lead out of

    @property
    def path(self) -> Path:
        """Where the file is; not kept, since it takes ten times as much memory as the rest."""
        return self.root / self.key

    @property
    def label(self) -> str:
        """The key with control characters made visible: harmless in a log line or a terminal."""
        return printable(self.key)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the model is asked about one picture, in the settings that a person gives it with."""

    user_prompt: str = DEFAULT_USER_PROMPT
    system_prompt: str | None = None
    ask: tuple[str, ...] = ()  # further questions, each as NAME=PROMPT

    @property
    def prompt(self) -> str:
        """The longest of all questions about it."""
        further = [ask.partition("=")[2] for ask in self.ask]
        return max([self.user_prompt, *further], key=len)

    def characters(self) -> int:
        """How many the model reads at most for one answer."""
        return len(self.prompt) + len(self.system_prompt or "")


@dataclass(frozen=True, slots=True)
class Job:
    """A picture that is to be captioned."""

    picture: Picture
    caption_file: str  # its path within the output directory
    number: int  # its place among the pictures that are to be captioned, from 1
    total: int  # how many these are
    reason: str | None = None  # why it is captioned once more; None when it never was
    asked: Asked = Asked()


@dataclass(frozen=True, slots=True)
class Skipped:
    """A picture that cannot be captioned because of what is in its file."""

    picture: Picture
    reason: str
    stamp: Stamp | None  # the file that this was said of; None when it could not even be read


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    directory: Path
    repo_id: str | None  # None when the directory was named with --model
    revision: str  # the commit hash of the snapshot, or a hash of the directory's files
    weight_bytes: int  # the size of all safetensors files


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A checkpoint that a device has loaded."""

    checkpoint: Checkpoint
    batch_size: int  # how many pictures it captions at a time
    seconds: float  # how long loading took


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that a caption depends on besides its picture.

    Of a run, whose prompts still have their placeholders, or of one picture (`asking`).
    """

    values: tuple[object, ...]  # of the settings in `RECIPE`, in its order
    repo_id: str | None  # None when the checkpoint is a directory named with --model
    revision: str | None  # of the checkpoint; None when it is not here: then any will do
    within_limit: bool = False  # the caption ended by itself: the token limit had no part in it

    @classmethod
    def of(cls, settings: Settings, revision: str | None) -> Self:
        """The recipe that the settings ask for, with that revision of their checkpoint."""
        values = tuple(getattr(settings, name) for name in RECIPE)
        return cls(values, None if settings.model else settings.repo_id, revision)

    def asking(self, asked: Asked) -> Self:
        """The recipe of one picture, which is asked that."""
        values = self.settings() | {f.name: getattr(asked, f.name) for f in fields(asked)}
        return replace(self, values=tuple(values.values()))

    def settings(self) -> dict[str, Any]:
        """The values of its settings by their names."""
        return dict(zip(RECIPE, self.values, strict=True))

    def changed_since(self, before: "Recipe") -> str | None:
        """For example `user prompt, pixel cap changed`; None when nothing has."""
        pairs = zip(RECIPE, before.values, self.values, strict=True)
        changed = [name for name, old, new in pairs if old != new]
        if before.within_limit:
            changed = [name for name in changed if name != "max_tokens"]
        if changed:
            return f"{', '.join(RECIPE[name] for name in changed)} changed"
        return None if before.is_of_the_model_of(self) else "model changed"

    def is_of_the_model_of(self, now: "Recipe") -> bool:
        """Whether the checkpoint is that of `now`, or may be, as far as that one is known."""
        return self.repo_id == now.repo_id and now.revision in (None, self.revision)


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
    flags: tuple[str, ...] = ()  # of "truncated", "repetitive", "empty", "banned" and "language"
    batch_size: int = 1  # how many captions the device made at a time, this one among them
    attempts: int = 1  # how often it was generated, with another sampling each time
    fields: dict[str, Any] | None = None  # the answers by their names, where more was asked for
    said: str = ""  # what the model said, where the text is made of it
    banned: tuple[str, ...] = ()  # phrases that it holds, and was not to hold

    @property
    def seconds(self) -> float:
        """How long the device took for it."""
        return self.prefill_seconds + self.decode_seconds

    @property
    def flags_in_words(self) -> str:
        """For example `truncated, banned (evokes)`; empty without one."""
        phrases = f" ({listed(map(printable, self.banned))})" if self.banned else ""
        return ", ".join(flag + phrases * (flag == BANNED) for flag in self.flags)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a caption of an earlier run cost."""

    image_tokens: int
    seconds: float  # on the device, which captioned others meanwhile in a batch
    batch_size: int


class Caption:
    """A caption, ready to be saved."""

    def __init__(
        self,
        job: Job,
        prompt: str,
        generation: Generation,
        stamp: Stamp,
        thumbnail: bytes | None = None,
    ) -> None:
        self.job: Final = job
        self.prompt: Final = prompt  # the user prompt
        self.generation: Final = generation
        self.stamp: Final = stamp  # the file that it is the caption of
        self.thumbnail: Final = thumbnail  # a small JPEG of it; None where no gallery is wanted

    def without_text(self) -> "Caption":
        """The same with an empty text and no thumbnail: all captions of a run stay small."""
        generation = replace(self.generation, text="", fields=None, said="")
        return Caption(self.job, self.prompt, generation, self.stamp)


@dataclass(frozen=True, slots=True)
class Failure:
    """A picture that should have been captioned, and was not."""

    job: Job
    reason: str


@dataclass(frozen=True, slots=True)
class DeviceFigures:
    """What the device did during a run."""

    busy_seconds: float = 0.0  # with at least one picture on it
    idle_seconds: float = 0.0  # with none, between the first picture and the last
    peak_memory_bytes: int = 0

    @property
    def busy_fraction(self) -> float | None:
        """The busy part of the time between the first picture and the last; None without one."""
        worked = self.busy_seconds + self.idle_seconds
        return self.busy_seconds / worked if worked else None


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of something that takes a while."""

    percent: float  # 0 to 100
    text: str
    pace: str = field(default="", compare=False)  # alone it is no news

    @classmethod
    def of(cls, done: int, total: int, text: str, pace: str = "") -> Self:
        """`done` of `total`, which `text` says in words."""
        return cls(round(100 * done / total, 1) if total else 0.0, text, pace)

    @property
    def sentence(self) -> str:
        """For example `12 of 31: 12 captioned; 14.0 a minute, 2 min to go`."""
        return f"{self.text}; {self.pace}" if self.pace else self.text

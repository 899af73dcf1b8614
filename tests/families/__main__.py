"""Compare our captions with those of mlx-vlm for every family, and write docs/models.md.

    python -m tests.families              all of them, each in a process of its own
    python -m tests.families gemma3 ...   only these; nothing is written

Takes a few minutes. Knows nothing of any one family.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from captioner.device.families import BATCHED, REFUSED
from captioner.errors import CheckpointError, first_line
from tests.families.cases import FAMILIES, NOT_TRIED
from tests.families.checkpoint import Family, make_checkpoint
from tests.families.compare import differences, ours, theirs

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
TOGETHER = 4
PATIENCE = 600  # seconds for one family, compiling included
MARK = "result: "
PAGE_TEXT = """\
# Which models

<!-- Written by `python -m tests.families`: change that, not this. -->

Any folder or repository that mlx-vlm loads, and that passes a trial when it is loaded: one token of
a blank picture. Where that fails, the run ends with exit code 2 and says why, before any picture is
captioned.

`--batch-size` is for the families below whose captions are proven to be the same in a batch. All
others are captioned one picture at a time, and the log says so.

What is compared: a tiny checkpoint of each architecture with random float32 weights and its own
processor, on six pictures of mixed sizes. Captions of 6 to 12 tokens by `mlx_vlm.generate` are held
against ours, token for token: one at a time, and {together} at a time, where captions begin while
others are being made. The last column is how many of the six captions differ from one another: were
it 1, the picture would not matter, and equal captions would show nothing. So this shows that we run
a family as mlx-vlm does, on MLX's CPU backend and with one kind of text model each; not how well a
checkpoint captions.

`python -m tests.families`, {made}, {machine}, {seconds} s:

| `model_type` | found | different |
| --- | --- | --- |
{rows}

Never loaded:

{refused}

Not tried:

{not_tried}
"""


@dataclass
class Result:
    """What was found for one family. Differences are numbers of pictures."""

    model_type: str
    distinct: int = 0  # different captions among those of the reference
    reference: str = ""  # why mlx-vlm itself cannot
    refused: str = ""  # our sentence
    alone: list[int] | None = None
    together: list[int] | None = None
    failed: str = ""  # with what a batch fails

    @property
    def batches(self) -> bool:
        """Whether a batch is proven to give the same captions."""
        return self.together == []


def tried(family: Family) -> Result:
    """Make its checkpoint and caption with it: mlx-vlm, we one at a time, and we in a batch."""
    result = Result(family.model_type)
    with tempfile.TemporaryDirectory() as folder:
        directory = make_checkpoint(family, Path(folder) / "checkpoint")
        try:
            reference = theirs(directory, Path(folder))
        except Exception as error:
            result.reference = first_line(error)
        try:
            alone = ours(directory, 1)
        except CheckpointError as error:
            result.refused = str(error).replace(str(directory), "…")
            return result
        if result.reference:
            return result
        result.distinct = len({tuple(caption) for caption in reference})
        result.alone = differences(reference, alone)
        try:
            result.together = differences(reference, ours(directory, TOGETHER))
        except Exception as error:
            result.failed = first_line(error)
    return result


def in_a_process(family: Family) -> Result:
    """The same, so that a crash or a hang is one family's."""
    command = [sys.executable, "-m", "tests.families", family.model_type]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        return Result(family.model_type, reference=f"no caption within {PATIENCE} s")
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if not lines:
        last = (done.stderr.strip().splitlines() or ["it crashed"])[-1]
        return Result(family.model_type, reference=last)
    return Result(**json.loads(lines[-1].removeprefix(MARK)))


def row(result: Result) -> str:
    """One line of the table."""
    if result.refused:
        said = f"refused at load: “{result.refused}”"
    elif result.reference:
        said = f"not comparable: mlx-vlm itself fails with “{result.reference}”"
    elif result.alone:
        said = f"**other captions than mlx-vlm's** for {len(result.alone)} pictures"
    elif result.batches:
        said = "works, in batches too"
    elif result.failed:
        said = f"works one at a time; a batch fails: “{result.failed}”"
    else:
        said = f"works one at a time; in a batch {len(result.together or [])} captions differ"
    return f"| `{result.model_type}` | {said} | {result.distinct or ''} |"


def page(results: list[Result], seconds: float) -> str:
    """docs/models.md."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("mlx-vlm", "mlx", "transformers"))
    return PAGE_TEXT.format(
        together=TOGETHER,
        made=f"{datetime.now(UTC):%Y-%m-%d}, {versions}",
        machine=f"{platform.system()} {platform.machine()}",
        seconds=f"{seconds:.0f}",
        rows="\n".join(map(row, results)),
        refused="\n".join(f"- `{name}`: {reason}." for name, reason in REFUSED.items()),
        not_tried="\n".join(f"- {names}: {reason}." for names, reason in NOT_TRIED.items()),
    )


def main(names: list[str]) -> int:
    """The exit code: 1 when a family does otherwise than captioner/device/families.py says."""
    if len(names) == 1:
        (family,) = (family for family in FAMILIES if family.model_type == names[0])
        print(MARK + json.dumps(asdict(tried(family))), flush=True)
        return 0
    began = time.monotonic()
    results = []
    for family in FAMILIES:
        if not names or family.model_type in names:
            results.append(in_a_process(family))
            print(row(results[-1]), flush=True)
    if not names:
        PAGE.write_text(page(results, time.monotonic() - began), encoding="utf-8")
    wrong = [r.model_type for r in results if r.batches != (r.model_type in BATCHED)]
    print(f"Otherwise than families.py says: {', '.join(wrong) or 'none'}")
    return 1 if wrong or any(r.alone for r in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

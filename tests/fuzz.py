"""What scan, validate and prepare do with mutated files (`mutants.py`), and what a run does where
something else is in the place of its own files (`hostile_folders.py`).

    python -m tests.fuzz --files 5000            # the figures, as a JSON object
    python -m tests.fuzz --seed 3 --keep FOLDER  # the files stay there, to look into one of them
    python -m tests.fuzz --folders 600 --checkpoints 200

Each file has to end as a picture or be skipped with a reason. A crash, a hang, an error that is no
reason, a warning or a log line that is not harmless ends it with another exit code than 0.
"""

import argparse
import faulthandler
import itertools
import json
import logging
import re
import shutil
import tempfile
import time
import warnings
from collections import Counter
from itertools import chain, islice
from pathlib import Path

from captioner.device.model import MlxModel
from captioner.device.rows import Request
from captioner.errors import UnreadableImage
from captioner.pictures.decoding import load_image
from captioner.pictures.scan import scan
from captioner.settings import DEFAULTS
from tests.hostile_folders import (
    CHECKPOINT_FILES,
    MOMENTS,
    PLACES,
    combinations,
    end_of_checkpoint,
    end_of_folder,
    prepared,
)
from tests.memory import peak_kilobytes
from tests.mutants import mutant, other_files, whole_files

CHECKPOINT = Path(__file__).resolve().parent.parent / "models" / "flowcharts-3m-8bit"
REQUEST = Request(DEFAULTS.user_prompt, None, 1, 0.0)
AT_A_TIME = 250  # files in the folder
HANG_SECONDS = 60  # for one file
LONGEST_REASON = 200


class Harmless(logging.Handler):
    """Counts log records, and checks that each is one short line."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Check the record."""
        message = record.getMessage()
        assert message.isprintable() and len(message) <= 2 * LONGEST_REASON, repr(message)
        self.count += 1


def end_of(path: Path, model: MlxModel) -> str:
    """Why the file is skipped; empty when it is a picture that the model's processor takes."""
    try:
        image = load_image(path, DEFAULTS.max_pixels, formats=("all",))
    except UnreadableImage as error:
        reason = str(error)
        assert reason.isprintable() and 0 < len(reason) <= LONGEST_REASON, repr(reason)
        return reason
    except Exception as error:
        error.add_note(f"with {path.name}")
        raise
    try:  # what validation lets through cannot be skipped any more
        model.prepare(image, REQUEST)
    except Exception as error:
        error.add_note(f"with {path.name}, which is valid")
        raise
    return ""


def fuzz(seed: int, files: int, keep: Path | None) -> dict[str, object]:
    """Make the files, put each through, and say what became of them."""
    handler = Harmless()
    logging.getLogger("captioner").addHandler(handler)
    logging.getLogger("captioner").propagate = False
    sources, reasons = [*whole_files(), *other_files()], Counter[str]()
    model, slowest, largest = MlxModel(CHECKPOINT), (0.0, ""), (0, "")
    model.prepare(load_image(next(Path("input").glob("*.jpg")), 0), REQUEST)
    peak = before = peak_kilobytes()
    for start in range(0, files, AT_A_TIME):
        with tempfile.TemporaryDirectory() as name:
            folder = keep or Path(name)
            names = set()
            for index in range(start, min(files, start + AT_A_TIME)):
                file, data = mutant(sources, seed, index)
                (folder / file).write_bytes(data)
                names.add(file)
            for picture in [
                found for found in scan(folder, ("all",)).pictures if found.key in names
            ]:
                faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
                began = time.process_time()
                reasons[re.sub(r"\d[\d,]*", "N", end_of(picture.path, model))] += 1
                faulthandler.cancel_dump_traceback_later()
                slowest = max(slowest, (time.process_time() - began, picture.key))
                largest, peak = (
                    max(largest, (peak_kilobytes() - peak, picture.key)),
                    peak_kilobytes(),
                )
    return {
        "files": files,
        "valid": reasons.pop("", 0),
        "skipped": reasons.total(),
        "log_records": handler.count,
        "slowest_seconds": round(slowest[0], 3),
        "slowest": slowest[1],
        "peak_megabytes": before >> 10,
        "more_for_the_files": peak - before >> 10,
        "largest": largest[1],
        "reasons": dict(reasons.most_common()),
    }


def fuzz_folders(seed: int, folders: int, checkpoints: int) -> dict[str, object]:
    """Put a run through hostile output folders and checkpoints, and say what became of them."""
    ends, slowest = Counter[str](), (0.0, "")
    logging.getLogger("captioner").addHandler(Harmless())
    logging.getLogger("captioner").propagate = False
    in_output = zip(combinations(PLACES, seed), itertools.cycle(MOMENTS), strict=False)
    in_checkpoint = ((what, "checkpoint") for what in combinations(CHECKPOINT_FILES, seed))
    for what, moment in chain(islice(in_output, folders), islice(in_checkpoint, checkpoints)):
        with tempfile.TemporaryDirectory() as name:
            settings, victim = prepared(Path(name))
            model = (
                shutil.copytree(CHECKPOINT, Path(name) / "model")
                if moment == "checkpoint"
                else None
            )
            faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
            began = time.process_time()
            try:
                if model:
                    why = end_of_checkpoint(model, victim, what)
                else:
                    why = end_of_folder(settings, victim, what, moment)
            except BaseException as error:
                error.add_note(f"with {what}, {moment}")
                raise
            faulthandler.cancel_dump_traceback_later()
            slowest = max(slowest, (time.process_time() - began, f"{what}, {moment}"))
            ends[f"{moment}: {'a sentence' if why else 'goes on'}"] += 1
    return {
        "combinations": ends.total(),
        "ends": dict(sorted(ends.items())),
        "slowest_seconds": round(slowest[0], 3),
        "slowest": slowest[1],
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folders", type=int, default=0, help="hostile ones, in place of files")
    parser.add_argument("--checkpoints", type=int, default=0, help="hostile ones")
    parser.add_argument("--keep", type=Path, help="a folder that keeps the files")
    asked = parser.parse_args()
    warnings.simplefilter("error")
    if asked.folders or asked.checkpoints:
        figures = fuzz_folders(asked.seed, asked.folders, asked.checkpoints)
    else:
        figures = fuzz(asked.seed, asked.files, asked.keep)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()

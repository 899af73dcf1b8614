"""How much memory a plan takes for each picture, and what happens where it has no room."""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from benchmarks.tree import caption_all
from captioner.asking.prompts import Prompts
from captioner.output.folder import PROVENANCE, OutputFolder
from captioner.output.provenance import Provenance
from captioner.pictures.scan import scan
from captioner.pictures.stamps import stamp_of
from captioner.plan import Plan
from captioner.records import Caption, Generation, Recipe
from captioner.settings import Settings

PICTURES, FOLDERS = 1_000, 20
MOST_BYTES = 300  # of a picture, of which its key is about a hundred
SAID = Generation("A picture.", "stop", 100, 80, 64, 64, 4, 0.1, 0.1)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A tree of files that are named like pictures."""
    home = tmp_path_factory.mktemp("large")
    for number in range(PICTURES):
        path = home / "in" / f"event {number % FOLDERS}" / f"IMG_{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a picture")
    return Settings(input_dir=home / "in", output_dir=home / "out", recursive=True)


def planned(settings: Settings) -> Plan:
    found = scan(settings.input_dir, recursive=True)
    output, ask = OutputFolder(settings.output_dir), Prompts(settings).of
    return output.preview(found, settings, Recipe.of(settings, "1"), ask)[0]


def bytes_a_picture(settings: Settings) -> tuple[Plan, float]:
    """The plan, and what the process had at most while it was made."""
    planned(settings)  # what is imported, and kept for the next one
    peaks = []
    tracemalloc.start()
    try:
        for _ in range(2):  # Python's table of all names grows in one of them at most
            tracemalloc.clear_traces()
            plan = planned(settings)
            peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    return plan, min(peaks) / PICTURES


def test_a_picture_takes_little_memory(settings: Settings) -> None:
    plan, each = bytes_a_picture(settings)
    assert len(plan.todo) == PICTURES
    assert each < MOST_BYTES
    caption_all(settings, "1")
    plan, each = bytes_a_picture(settings)
    assert len(plan.up_to_date) == PICTURES
    assert each < MOST_BYTES


NO_ROOM = """
import resource, sys
from pathlib import Path
from captioner.errors import OutputError
from captioner.output.provenance import Provenance
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    with Provenance(Path(sys.argv[1])).read() as history:
        print(sum(1 for _ in history))
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize("lines, said", [(100, "100"), (20_000, "make room there")])
def test_where_the_temporary_folder_has_no_room(tmp_path: Path, lines: int, said: str) -> None:
    """A small folder needs none; for a large one it is said."""
    (tmp_path / "a.png").write_bytes(b"a picture")
    settings = Settings(input_dir=tmp_path, output_dir=tmp_path / "out")
    (job,) = planned(settings).todo
    path = tmp_path / PROVENANCE
    caption = Caption(job, "Describe.", SAID, stamp_of(job.picture.path))
    Provenance(path).add_caption(caption, Recipe.of(settings, "1"))
    line = path.read_text()
    path.write_text("".join(line.replace("a.png", f"{n}.png") for n in range(lines)))
    ended = subprocess.run(
        [sys.executable, "-c", NO_ROOM, str(path)], capture_output=True, text=True, check=True
    )
    assert said in ended.stdout

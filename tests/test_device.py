"""The device: order, batches, sampling, further attempts, faults, and a clean end, on real weights.

What a caption says matters with the embedded checkpoint alone; the others say `a blue box`.
"""

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.checkpoint import make_checkpoint
from captioner.device.device import Device
from captioner.device.encoding import Prepared
from captioner.device.model import MlxModel, usable_memory_bytes
from captioner.device.rows import Request
from captioner.device.troubles import cannot_compile, is_out_of_memory
from captioner.device.work import Work
from captioner.errors import (
    CaptionError,
    CheckpointError,
    DeviceError,
    DeviceStopped,
    UnreadableImage,
)
from captioner.pictures.decoding import load_image
from captioner.records import Generation
from tests.conftest import CHECKPOINT, ROOT, draw_picture
from tests.float32 import dequantise, in_bfloat16, looping, seeing_small_pictures

pytestmark = [pytest.mark.model, pytest.mark.timeout(120)]

SIZES = [(192, 128), (96, 256), (90, 90), (160, 160), (224, 64)]
# As MLX says it: mlx/backend/metal/allocator.cpp, and ml-explore/mlx#479 for the last one.
OUT_OF_MEMORY = [
    "[metal::malloc] Attempting to allocate 48736917632 bytes which is greater than the maximum "
    "allowed buffer size of 30150672384 bytes.",
    "[metal::malloc] Resource limit (499000) exceeded.",
    "[malloc] Unable to allocate 1073741824 bytes.",
    "[METAL] Command buffer execution failed: Insufficient Memory "
    "(00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)",
]
# As Metal says it once a process has made the GPU fail (jundot/omlx#3706, flutter/flutter#146011).
GPU_REFUSES = (
    "[METAL] Command buffer execution failed: Ignored (for causing prior/excessive GPU errors) "
    "(00000004:kIOGPUCommandBufferCallbackErrorSubmissionsIgnored)."
)
# As the CPU's backend says it, shortened.
NO_SPACE = (
    "[Compile::eval_cpu] Failed to compile function Cf4IBroadcastADf4OMultiplyCB_CV_f4_contiguous: "
    'Failed to execute command with return code 1: "g++ -shared", the output is: '
    "mlx/allocator.h:8: error closing /tmp/ccLfjV2q.s: No space left on device\n"
    "compilation terminated."
)
NO_FOLDER = "filesystem error: temp_directory_path: No such file or directory"
PROMPT = "Describe the contents of this image."
GREEDY = Request(PROMPT, None, 24, 0.0)
SHORT = Request(PROMPT, None, 3, 0.0)
ENDLESS = Request(PROMPT, None, 4_000, 0.0)

Kept = Callable[..., Device]


def read(path: Path, before: Callable[[], object] = lambda: None) -> Callable[[], Image.Image]:
    """Gives the picture's pixels, and does something before that."""

    def take() -> Image.Image:
        before()
        return load_image(path, 0)

    return take


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a checkpoint of each kind."""
    directory = tmp_path_factory.mktemp("checkpoints")
    seeing_small_pictures(CHECKPOINT, directory / "8-bit")
    dequantise(directory / "8-bit", directory / "float32")
    make_checkpoint(directory / "tiny", tiny=True)
    looping(directory / "stuck")
    looping(directory / "stuck-when-greedy", way_out=True)
    return directory


@pytest.fixture(scope="module")
def kept(made: Path) -> Iterator[Kept]:
    """Devices that several tests share."""
    devices: dict[tuple[object, ...], Device] = {}
    with ExitStack() as stack:

        def device(checkpoint: str, batch_size: int = 1) -> Device:
            asked = checkpoint, batch_size
            if asked not in devices:
                new = Device(made / checkpoint, batch_size)
                devices[asked] = stack.enter_context(new)
            return devices[asked]

        yield device


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    return [
        draw_picture(folder / f"{number}.png", f"WORD{number}", size)
        for number, size in enumerate(SIZES)
    ]


def begin_all(on: Device, pictures: list[Path], *requests: Request) -> list[Work]:
    """One request for each picture, or one for all."""
    each = requests if len(requests) > 1 else requests * len(pictures)
    return [on.begin(read(path), request) for path, request in zip(pictures, each, strict=True)]


def caption_all(on: Device, pictures: list[Path], *requests: Request) -> list[Generation]:
    return [work.result() for work in begin_all(on, pictures, *requests)]


def ended_of(works: list[Work]) -> list[BaseException | Generation]:
    """What became of each."""

    def one(work: Work) -> BaseException | Generation:
        try:
            return work.result()
        except Exception as error:
            return error

    return [one(work) for work in works]


def test_batches_of_any_size_give_the_same_captions(kept: Kept, pictures: list[Path]) -> None:
    # of different lengths, so that rows leave and join while others go on
    requests = [Request(PROMPT, None, tokens, 0.0) for tokens in (9, 24, 12, 18, 6)]
    found: list[list[tuple[str, int, str]]] = []
    for batch_size in (1, 3, 8):
        done = caption_all(kept("float32", batch_size), pictures, *requests)
        found.append([(g.text, g.generated_tokens, g.finish_reason) for g in done])
    assert found[1:] == found[:-1]
    assert all(text for text, _, _ in found[0])


def test_a_sampled_caption_depends_on_the_seed_and_the_picture_alone(
    kept: Kept, pictures: list[Path]
) -> None:
    request = Request(PROMPT, None, 16, temperature=1.5, seed=7)
    other = Request(PROMPT, None, 16, temperature=1.5, seed=8)
    alone = [g.text for g in caption_all(kept("float32"), pictures, request)]
    backwards = [g.text for g in caption_all(kept("float32", 3), pictures[::-1], request)]
    otherwise = [g.text for g in caption_all(kept("float32", 3), pictures, other)]
    assert backwards[::-1] == alone
    assert otherwise != alone


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_caption_with_a_banned_phrase_is_asked_for_twice_more_and_then_flagged(
    kept: Kept, pictures: list[Path], batch_size: int
) -> None:
    on = kept("stuck-when-greedy", batch_size)
    sampled = [Request(PROMPT, None, 4_000, 0.4, seed) for seed in range(8)]
    texts = [made.text for made in caption_all(on, pictures[:1] * 8, *sampled)]
    # of which the next attempt, with the next seed, rids the caption
    avoidable = [seed for seed in range(7) if texts[seed] not in texts[seed + 1]]
    assert avoidable
    requests = [replace(sampled[seed], banned=(texts[seed],)) for seed in avoidable]
    works = begin_all(on, pictures[:1] * (len(requests) + 1), *requests, sampled[0])
    for seed, work in zip(avoidable, works, strict=False):
        assert work.result().text == texts[seed + 1]
        assert (work.result().attempts, work.result().flags) == (2, ())
        assert (list(work.attempts()), work.why(2)) == (
            [1, 2],
            f"holds a banned phrase ({texts[seed]})",
        )
    (always,) = caption_all(on, pictures[:1], replace(sampled[0], banned=("BLUE  box",)))
    assert (always.attempts, always.flags_in_words) == (3, "banned (BLUE  box)")


def test_captions_are_cut_at_max_tokens_and_say_so(kept: Kept, pictures: list[Path]) -> None:
    long = Request(PROMPT, None, 64, 0.0)
    cut, whole = caption_all(kept("8-bit"), pictures[:1] * 2, SHORT, long)
    assert (cut.generated_tokens, cut.finish_reason) == (3, "length")
    assert cut.flags == ("truncated",)
    assert (whole.finish_reason, whole.flags) == ("stop", ())
    assert whole.text.startswith(cut.text)


def test_the_figures_of_a_caption(pictures: list[Path]) -> None:
    with Device(CHECKPOINT) as on:
        (done,) = caption_all(on, pictures[:1], GREEDY)
        figures = on.figures()
    assert done.width % 32 == done.height % 32 == 0
    assert done.image_tokens == done.width * done.height // 32**2
    assert done.prompt_tokens > done.image_tokens
    assert done.prefill_seconds > 0 < done.decode_seconds
    assert figures.busy_seconds >= done.prefill_seconds + done.decode_seconds
    assert figures.peak_memory_bytes > 1_000_000


# --- the order of `begin` ---


def test_pictures_are_taken_in_order_and_the_next_is_ready(pictures: list[Path]) -> None:
    order: list[int] = []
    started: list[int] = []
    with Device(CHECKPOINT) as on:
        works = []
        for number, path in enumerate(pictures):
            works.append(on.begin(read(path, partial(order.append, number)), GREEDY))
            works[-1].when_begun(partial(started.append, number))
        assert not any(work.begun for work in works[1:])  # `begin` waits for nothing
        done = [work.result() for work in works]
        figures = on.figures()
    assert order == started == list(range(len(pictures)))
    assert all(generation.text for generation in done)
    assert figures.busy_fraction is not None
    assert figures.busy_fraction > 0.9


def test_pictures_begun_by_several_threads_all_get_their_captions(
    kept: Kept, pictures: list[Path]
) -> None:
    works: list[Work] = []
    threads = [
        threading.Thread(target=lambda: works.extend(begin_all(kept("tiny", 3), pictures, GREEDY)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [work.result().text for work in works] == ["a blue box"] * 4 * len(pictures)


def test_no_more_than_a_few_pictures_are_read_ahead(kept: Kept, pictures: list[Path]) -> None:
    on = kept("8-bit", 1)
    order: list[int] = []
    ahead: list[int] = []

    def note(number: int) -> None:
        ahead.append(len(order) - number)

    works = []
    for number in range(9):
        # the first ones take so long that all could be read meanwhile
        request = Request(PROMPT, None, 24 if number < 2 else 1, 0.0)
        work = on.begin(read(pictures[2], partial(order.append, number)), request)
        work.when_begun(partial(note, number))
        works.append(work)
    assert all(work.result() for work in works)
    assert order == list(range(9))
    # itself, the next, one in the queue, one that waits for its place there
    assert max(ahead) <= 4
    assert Device.ahead == 3


def test_a_picture_that_cannot_be_read_fails_alone_and_in_its_turn(
    kept: Kept, pictures: list[Path], tmp_path: Path
) -> None:
    order: list[int] = []
    (tmp_path / "bad.png").write_bytes(b"no picture")
    paths = [pictures[0], tmp_path / "bad.png", pictures[1], tmp_path / "gone.png", pictures[2]]
    works = [
        kept("tiny").begin(read(path, partial(order.append, number)), GREEDY)
        for number, path in enumerate(paths)
    ]
    for work in works[1], works[3]:
        with pytest.raises(UnreadableImage):
            work.result()
        assert work.begun
        assert list(work.attempts()) == []
    assert [works[n].result().text for n in (0, 2, 4)] == ["a blue box"] * 3
    assert order == [0, 1, 2, 3, 4]


class Panic(BaseException):
    """As Rust's in Python: no Exception."""


def test_a_panic_while_a_picture_is_prepared_is_a_failure_of_that_picture(
    kept: Kept, pictures: list[Path]
) -> None:
    def panic() -> None:
        raise Panic("index out of bounds")

    bad = kept("tiny").begin(read(pictures[0], panic), GREEDY)
    good = kept("tiny").begin(read(pictures[0]), GREEDY)
    with pytest.raises(CaptionError, match="index out of bounds"):
        bad.result()
    assert good.result().text


def test_nothing_of_the_pixels_outlives_the_caption(kept: Kept, pictures: list[Path]) -> None:
    """A work may be held by a task run that ended; a full-HD picture is prepared as 50 MB."""
    works = begin_all(kept("tiny"), pictures, GREEDY)
    assert all(work.result() for work in works)
    deadline = time.monotonic() + 20
    while held := [each for each in gc.get_objects() if type(each) is Prepared]:
        assert time.monotonic() < deadline
        del held
        time.sleep(0.05)


# --- captions that are stuck ---


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_caption_that_is_stuck_is_tried_again_then_stopped_and_trimmed(
    kept: Kept, pictures: list[Path], batch_size: int
) -> None:
    works = begin_all(kept("stuck", batch_size), pictures[:2], ENDLESS)
    assert [list(work.attempts()) for work in works] == [[1, 2, 3]] * 2
    for work in works:
        done = work.result()
        assert (done.finish_reason, done.flags) == ("loop", ("repetitive",))
        assert done.attempts == 3
        assert done.generated_tokens < 4_000
        assert done.text == "a blue box"
        assert list(work.attempts()) == []  # whoever asks once more is not left waiting


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_further_attempt_is_a_caption_of_its_own_temperature_and_seed(
    kept: Kept, pictures: list[Path], batch_size: int
) -> None:
    on = kept("stuck-when-greedy", batch_size)
    requests = [Request(PROMPT, None, 4_000, 0.0, seed) for seed in range(5)]
    works = begin_all(on, pictures, *requests)
    texts = [work.result().text for work in works]
    assert [list(work.attempts()) for work in works] == [[1, 2]] * 5
    assert [work.result().attempts for work in works] == [2] * 5
    sampled = [Request(PROMPT, None, 4_000, 0.4, seed + 1) for seed in range(5)]
    assert [g.text for g in caption_all(on, pictures, *sampled)] == texts
    assert len(set(texts)) > 1


def test_a_stuck_caption_is_tried_again_before_those_behind_it(
    kept: Kept, pictures: list[Path]
) -> None:
    order: list[str] = []
    works = begin_all(kept("stuck-when-greedy"), pictures[:3], ENDLESS)
    for number, work in enumerate(works):
        work.when_begun(partial(order.append, f"{number} begins"))
        work.when_ended(partial(lambda end, _: order.append(end), f"{number} ends"))
    assert [work.result().attempts for work in works] == [2, 2, 2]
    assert order == [f"{n} {what}" for n in range(3) for what in ("begins", "ends")]


# --- faults ---


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_row_that_mlx_cannot_do_fails_alone(
    kept: Kept, pictures: list[Path], batch_size: int
) -> None:
    # a place for a video in the prompt, and no video: the features do not fit the tokens
    impossible = Request("<|video_pad|>", None, 4, 0.0)
    requests = [impossible if number == 1 else SHORT for number in range(4)]
    works = begin_all(kept("8-bit", batch_size), pictures[:4], *requests)
    with pytest.raises(CaptionError, match="MLX failed"):
        works.pop(1).result()
    assert all(work.result().text for work in works)


class Unlucky(int):
    """A seed that makes the first `times` attempts at a row fail on the device's thread, and with
    `next_fails` the beginning of a further attempt."""

    error: BaseException
    times = 0
    next_fails = False

    def __str__(self) -> str:
        self.times -= 1
        if self.times >= 0:
            raise self.error
        return super().__str__()

    def __add__(self, other: int) -> int:
        if self.next_fails:
            raise self.error
        return super().__add__(other)


def unlucky(request: Request, error: BaseException, **more: int) -> Request:
    seed = Unlucky(1)
    vars(seed).update(error=error, **more)
    return Request(PROMPT, None, request.max_tokens, request.temperature, seed)


SAMPLED = Request(PROMPT, None, 8, 0.5, 1)


@pytest.fixture(scope="module")
def sampled_alone(kept: Kept, pictures: list[Path]) -> list[str]:
    return [g.text for g in caption_all(kept("8-bit"), pictures[:4], SAMPLED)]


@pytest.mark.parametrize(
    ("error", "times", "halved"),
    [(OUT_OF_MEMORY[2], 1, True), ("[matmul] no", 1, False), ("[matmul] no", 2, False)],
    ids=["memory", "passing", "lasting"],
)
def test_a_batch_that_fails_is_done_again_one_by_one(
    made: Path,
    pictures: list[Path],
    sampled_alone: list[str],
    caplog: pytest.LogCaptureFixture,
    error: str,
    times: int,
    halved: bool,
) -> None:
    bad = unlucky(SAMPLED, RuntimeError(error), times=times)
    with Device(made / "8-bit", 4) as on:
        works = begin_all(on, pictures[:4], SAMPLED, SAMPLED, SAMPLED, bad)
        # done again, and yet no further attempt
        assert [list(work.attempts()) for work in works] == [[1]] * 4
        if times > 1:
            with pytest.raises(CaptionError, match="no"):
                works.pop().result()
        assert [work.result().text for work in works] == sampled_alone[: len(works)]
    assert ("going on with --batch-size 2" in caplog.text) is halved


def test_a_stuck_caption_of_a_batch_that_failed_is_still_tried_again(
    made: Path, pictures: list[Path]
) -> None:
    stuck = Request(PROMPT, None, 4_000, 0.1)
    with Device(made / "stuck", 3) as on:
        bad = unlucky(stuck, RuntimeError("no"), times=1)
        works = begin_all(on, pictures[:2], stuck, bad)
        assert [list(work.attempts()) for work in works] == [[1, 2, 3]] * 2
        assert [work.result().text for work in works] == ["a blue box"] * 2


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_failure_at_the_end_of_a_caption_fails_it_and_nothing_else(
    kept: Kept, pictures: list[Path], batch_size: int
) -> None:
    on = kept("stuck-when-greedy", batch_size)
    bad = unlucky(ENDLESS, RuntimeError("no next one"), next_fails=True)
    works = begin_all(on, pictures[:3], ENDLESS, bad, ENDLESS)
    with pytest.raises(CaptionError, match="no next one"):
        works.pop(1).result()
    assert all(work.result().text.startswith("a blue box") for work in works)


@pytest.mark.parametrize("message", OUT_OF_MEMORY)
def test_what_mlx_says_when_there_is_no_memory(message: str) -> None:
    assert is_out_of_memory(RuntimeError(message))


@pytest.mark.parametrize(
    "message",
    [
        "[METAL] Command buffer execution failed: Caused GPU Timeout Error "
        "(00000002:kIOGPUCommandBufferCallbackErrorTimeout)",
        "[broadcast_shapes] Shapes (3,1) and (2,4) cannot be broadcast.",
        NO_SPACE,
    ],
)
def test_other_errors_are_not_for_lack_of_memory(message: str) -> None:
    assert not is_out_of_memory(RuntimeError(message))


def test_a_temporary_folder_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    said = cannot_compile(RuntimeError(NO_FOLDER))
    assert f"in the temporary folder {tmp_path}/nowhere, since there is no such folder: " in said
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    said = cannot_compile(RuntimeError(NO_SPACE.replace("No space left on device", "\x1b no")))
    assert "the compiler fails (mlx/allocator.h:8: error closing /tmp/ccLfjV2q.s: \\x1b no)" in said
    assert not cannot_compile(RuntimeError("[matmul] no"))


def test_a_directory_that_is_no_checkpoint_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(CheckpointError, match="MLX cannot load"):
        Device(tmp_path)


# --- the end ---


def test_a_stopped_device_lets_everyone_go(pictures: list[Path]) -> None:
    with Device(CHECKPOINT) as on:
        works = begin_all(on, pictures, ENDLESS)
        begun = threading.Event()
        works[0].when_begun(begun.set)
        assert begun.wait(60)
    assert all(isinstance(ended, DeviceStopped) for ended in ended_of(works))
    assert all(work.begun for work in works)
    figures = on.figures()
    assert figures.busy_seconds > 0
    assert on.figures() == figures
    on.stop()  # once more is nothing
    late = on.begin(read(pictures[0]), GREEDY)
    assert isinstance(ended_of([late])[0], DeviceStopped)
    assert late.begun
    assert list(late.attempts()) == []


@pytest.mark.parametrize("afterwards", [None, UnreadableImage("gone")], ids=["reads", "fails"])
def test_a_reader_that_hangs_keeps_nobody_from_stopping(
    made: Path, pictures: list[Path], afterwards: Exception | None
) -> None:
    hanging, free = threading.Event(), threading.Event()

    def hang() -> None:
        hanging.set()
        free.wait()
        if afterwards:
            raise afterwards

    on = Device(made / "tiny")
    preparing = [thread for thread in threading.enumerate() if thread.name == "prepare"][-1]
    first = on.begin(read(pictures[0]), GREEDY)
    works = [on.begin(read(pictures[1], hang), GREEDY), *begin_all(on, pictures, GREEDY)]
    assert hanging.wait(60)
    assert first.result().text == "a blue box"
    began = time.monotonic()
    on.stop()
    assert time.monotonic() - began < 20
    assert all(isinstance(ended, DeviceStopped) for ended in ended_of(works))
    assert preparing.daemon  # or the process could not end
    free.set()  # what it then reads or fails with comes too late, and does no harm
    preparing.join(60)
    assert not preparing.is_alive()
    assert all(isinstance(ended, DeviceStopped) for ended in ended_of(works))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_device_that_has_died_says_so_to_everyone(made: Path, pictures: list[Path]) -> None:
    with Device(made / "tiny", 3) as on:
        sampled = Request(PROMPT, None, 4, 0.5)
        fatal = unlucky(sampled, Panic("out of bounds"), times=1)
        works = begin_all(on, pictures, sampled, sampled, sampled, fatal, sampled)
        late_end = ended_of(works)[3:]
        late = on.begin(read(pictures[0]), GREEDY)
        assert late.begun
        for ended in (*late_end, *ended_of([late])):
            assert isinstance(ended, DeviceError) and not isinstance(ended, DeviceStopped)
            assert "has died" in str(ended)


@pytest.mark.parametrize(
    ("batch_size", "error", "said"),
    [
        (1, GPU_REFUSES, "has died ([METAL] Command buffer execution failed: Ignored"),
        (3, GPU_REFUSES, "has died ([METAL] Command buffer execution failed: Ignored"),
        (3, NO_SPACE, ", since it is full: free space there, or name another folder with TMPDIR."),
    ],
    ids=["GPU", "GPU, batch", "compiler, batch"],
)
def test_row_18_a_gpu_that_refuses_everything_is_a_dead_device(
    made: Path, pictures: list[Path], batch_size: int, error: str, said: str
) -> None:
    """And so is one whose kernels cannot be compiled, on a CPU."""
    with Device(made / "tiny", batch_size) as on:
        sampled = Request(PROMPT, None, 4, 0.5)
        fatal = unlucky(sampled, RuntimeError(error), times=9)
        works = begin_all(on, pictures, sampled, fatal, sampled, sampled, sampled)
        last, *others = reversed(ended_of(works))
        for ended in (last, *others[:3]):  # each of them said why it failed, one by one
            assert isinstance(ended, DeviceError) and not isinstance(ended, CaptionError)
            assert said in str(ended)
            assert str(ended).lower().endswith(" run again to go on where it stopped.")


def test_the_process_ends_cleanly_after_a_device(made: Path, pictures: list[Path]) -> None:
    """MLX aborted one process in two at exit while its threads' streams were not released."""
    script = (
        "import sys; from pathlib import Path; from captioner.device.device import Device;"
        "from captioner.device.rows import Request;"
        "from PIL import Image; picture = Image.open(sys.argv[2]).convert('RGB')\n"
        "with Device(Path(sys.argv[1])) as device:\n"
        "    device.begin(picture.copy, Request('Describe', None, 2, 0.0)).result()"
    )
    command = [sys.executable, "-c", script, str(made / "tiny"), str(pictures[0])]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    ends = [(process.communicate()[1], process.returncode) for process in processes]
    assert ends == [("", 0)] * 4


def test_auto_chooses_a_batch_size(made: Path, pictures: list[Path]) -> None:
    with Device(made / "tiny", "auto") as on:
        assert 1 < on.batch_size <= 16
        assert len(caption_all(on, pictures, GREEDY)) == len(pictures)


def test_auto_counts_a_number_of_the_cache_as_large_as_it_is(made: Path, tmp_path: Path) -> None:
    directories = {4: made / "tiny", 2: in_bfloat16(made / "tiny", tmp_path / "bfloat16")}
    models = {size: MlxModel(directory) for size, directory in directories.items()}
    numbers_of_a_token = 2 * 64  # a key and a value of one head in one layer
    # so long that about four rows of float32 fill half of the memory
    tokens = int(usable_memory_bytes() / 2 / (4.4 * 4 * numbers_of_a_token))
    found = {size: model.batch_size("auto", tokens) for size, model in models.items()}
    assert found == {4: 4, 2: 8}

"""The device: order, batches, sampling, faults, and a clean end, on the real checkpoint."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image

from captioner.device.device import Device
from captioner.errors import CaptionError, CheckpointError, DeviceStopped
from captioner.pictures.formats import UnreadableImage
from captioner.pictures.decoding import load_image
from captioner.device.model import is_out_of_memory
from captioner.device.rows import Request
from captioner.records import Generation
from tests.conftest import CHECKPOINT, ROOT, draw_picture
from tests.float32 import dequantise, never_ending

SIZES = [(192, 128), (300, 300), (128, 400), (640, 200), (90, 90), (256, 144), (500, 480)]
# As MLX says it: mlx/backend/metal/allocator.cpp, and ml-explore/mlx#479 for the last one.
OUT_OF_MEMORY = [
    "[metal::malloc] Attempting to allocate 48736917632 bytes which is greater than the maximum "
    "allowed buffer size of 30150672384 bytes.",
    "[metal::malloc] Resource limit (499000) exceeded.",
    "[malloc] Unable to allocate 1073741824 bytes.",
    "[METAL] Command buffer execution failed: Insufficient Memory "
    "(00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)",
]
GREEDY = Request("Describe the contents of this image.", None, 40, 0.0)


@pytest.fixture(scope="session")
def float32_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dequantise(CHECKPOINT, tmp_path_factory.mktemp("checkpoint") / "float32")


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    return [
        draw_picture(tmp_path / f"{number}.png", f"WORD{number}", size)
        for number, size in enumerate(SIZES)
    ]


@contextmanager
def device(
    checkpoint: Path, batch_size: int | Literal["auto"] = 1, encode_ahead: bool = True
) -> Iterator[Device]:
    made = Device(checkpoint, batch_size, encode_ahead=encode_ahead)
    try:
        yield made
    finally:
        made.stop()


def caption_all(on: Device, pictures: list[Path], request: Request = GREEDY) -> list[Generation]:
    def one(turn: int, path: Path) -> Generation:
        return on.caption(turn, lambda: load_image(path, 0), request, lambda: None)

    with ThreadPoolExecutor(len(pictures)) as threads:
        return list(threads.map(one, range(len(pictures)), pictures))


def test_batches_of_any_size_give_the_same_captions(
    float32_checkpoint: Path, pictures: list[Path]
) -> None:
    texts: list[list[tuple[str, int, str]]] = []
    for batch_size, encode_ahead in ((1, False), (1, True), (3, True), (3, False), (8, True)):
        with device(float32_checkpoint, batch_size, encode_ahead) as on:
            done = caption_all(on, pictures)
            texts.append([(g.text, g.generated_tokens, g.finish_reason) for g in done])
    assert texts[1:] == texts[:-1]
    assert all(text for text, _, _ in texts[0])


def test_a_sampled_caption_depends_on_the_seed_and_the_picture_alone(
    float32_checkpoint: Path, pictures: list[Path]
) -> None:
    request = Request(GREEDY.user_prompt, None, 40, temperature=1.5, seed=7)
    other = Request(GREEDY.user_prompt, None, 40, temperature=1.5, seed=8)
    with device(float32_checkpoint) as on:
        alone = [g.text for g in caption_all(on, pictures, request)]
    with device(float32_checkpoint, 4) as on:
        backwards = [g.text for g in caption_all(on, pictures[::-1], request)]
    with device(float32_checkpoint, 4) as on:
        otherwise = [g.text for g in caption_all(on, pictures, other)]
    assert backwards[::-1] == alone
    assert otherwise != alone


def test_captions_are_cut_at_max_tokens_and_say_so(pictures: list[Path]) -> None:
    with device(CHECKPOINT) as on:
        (cut,) = caption_all(on, pictures[:1], Request(GREEDY.user_prompt, None, 3, 0.0))
        turn_one = on.caption(1, lambda: load_image(pictures[0], 0), GREEDY, lambda: None)
    assert (cut.generated_tokens, cut.finish_reason) == (3, "length")
    assert cut.flags == ("truncated",)
    assert turn_one.finish_reason == "stop"
    assert turn_one.text.startswith(cut.text)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_caption_that_is_stuck_is_stopped_and_trimmed(
    tmp_path: Path, pictures: list[Path], batch_size: int
) -> None:
    endless = never_ending(CHECKPOINT, tmp_path / "endless")
    with device(CHECKPOINT) as on:
        usual = caption_all(on, pictures[:2])
    with device(endless, batch_size) as on:
        stuck = caption_all(on, pictures[:2], Request(GREEDY.user_prompt, None, 4_000, 0.0))
    for ended, looped in zip(usual, stuck, strict=True):
        assert ended.flags == ()
        assert (looped.finish_reason, looped.flags) == ("loop", ("repetitive",))
        assert looped.generated_tokens < 4_000
        assert looped.text.startswith(ended.text)
        assert len(looped.text.split()) < looped.generated_tokens / 2


def test_the_figures_of_a_caption(pictures: list[Path]) -> None:
    with device(CHECKPOINT) as on:
        (done,) = caption_all(on, pictures[:1])
        figures = on.figures()
    assert done.width % 32 == done.height % 32 == 0
    assert done.image_tokens == done.width * done.height // 32**2
    assert done.prompt_tokens > done.image_tokens
    assert done.prefill_seconds > 0 < done.decode_seconds
    assert figures.busy_seconds >= done.prefill_seconds + done.decode_seconds
    assert figures.peak_memory_bytes > 1_000_000


def test_a_picture_that_cannot_be_opened_fails_alone(pictures: list[Path]) -> None:
    def refuse() -> Image.Image:
        raise UnreadableImage("gone")

    with device(CHECKPOINT) as on, ThreadPoolExecutor(2) as threads:
        bad = threads.submit(on.caption, 0, refuse, GREEDY, lambda: None)
        good = threads.submit(
            on.caption, 1, lambda: load_image(pictures[0], 0), GREEDY, lambda: None
        )
        with pytest.raises(UnreadableImage, match="gone"):
            bad.result()
        assert good.result().text


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_row_that_mlx_cannot_do_fails_alone(pictures: list[Path], batch_size: int) -> None:
    # a place for a video in the prompt, and no video: the features do not fit the tokens
    impossible = Request("<|video_pad|>", None, 40, 0.0)

    with device(CHECKPOINT, batch_size) as on, ThreadPoolExecutor(4) as threads:

        def one(turn: int) -> Generation:
            request = impossible if turn == 1 else GREEDY
            return on.caption(turn, lambda: load_image(pictures[turn], 0), request, lambda: None)

        done = [threads.submit(one, turn) for turn in range(4)]
        with pytest.raises(CaptionError, match="MLX failed"):
            done[1].result()
        assert all(done[turn].result().text for turn in (0, 2, 3))


class Unlucky(int):
    """A seed that makes the first `times` attempts at a row fail on the device's thread."""

    times: int
    error: str

    def __str__(self) -> str:
        self.times -= 1
        if self.times >= 0:
            raise RuntimeError(self.error)
        return super().__str__()


def sampled(times: int, error: str) -> Request:
    seed = Unlucky(1)
    seed.times, seed.error = times, error
    return Request(GREEDY.user_prompt, None, 40, 0.5, seed)


@pytest.mark.parametrize(
    ("error", "times", "halved"),
    [(OUT_OF_MEMORY[2], 1, True), ("[matmul] no", 1, False), ("[matmul] no", 2, False)],
    ids=["memory", "passing", "lasting"],
)
def test_a_batch_that_fails_is_done_again_one_by_one(
    pictures: list[Path],
    caplog: pytest.LogCaptureFixture,
    error: str,
    times: int,
    halved: bool,
) -> None:
    usual = sampled(0, "")
    # without an encoder a row joins as soon as it is prepared, and finds the others in the batch
    with device(CHECKPOINT, 4, encode_ahead=False) as on, ThreadPoolExecutor(4) as threads:

        def one(turn: int) -> Generation:
            request = sampled(times, error) if turn == 3 else usual
            return on.caption(turn, lambda: load_image(pictures[turn], 0), request, lambda: None)

        done = [threads.submit(one, turn) for turn in range(4)]
        if times > 1:
            with pytest.raises(CaptionError, match="no"):
                done.pop().result()
        failed_once = [future.result().text for future in done]
    with device(CHECKPOINT) as on:
        alone = [g.text for g in caption_all(on, pictures[: len(done)], usual)]
    assert failed_once == alone
    assert ("going on with --batch-size 2" in caplog.text) is halved


@pytest.mark.parametrize("message", OUT_OF_MEMORY)
def test_what_mlx_says_when_there_is_no_memory(message: str) -> None:
    assert is_out_of_memory(RuntimeError(message))


@pytest.mark.parametrize(
    "message",
    [
        "[METAL] Command buffer execution failed: Caused GPU Timeout Error "
        "(00000002:kIOGPUCommandBufferCallbackErrorTimeout)",
        "[broadcast_shapes] Shapes (3,1) and (2,4) cannot be broadcast.",
    ],
)
def test_other_errors_are_not_for_lack_of_memory(message: str) -> None:
    assert not is_out_of_memory(RuntimeError(message))


@pytest.mark.parametrize("encode_ahead", [True, False])
def test_no_more_than_a_few_pictures_are_opened_ahead(
    pictures: list[Path], encode_ahead: bool
) -> None:
    opened: list[int] = []
    ahead: list[int] = []

    def one(turn: int) -> None:
        def open_image() -> Image.Image:
            opened.append(turn)
            return load_image(pictures[0], 0)

        on.caption(turn, open_image, GREEDY, lambda: ahead.append(len(opened) - turn))

    with device(CHECKPOINT, encode_ahead=encode_ahead) as on, ThreadPoolExecutor(12) as threads:
        list(threads.map(one, range(12)))
    assert len(opened) == 12
    # itself, two encoded, one in the queue, one that waits for its place there
    assert max(ahead) <= 5


def test_a_stopped_device_lets_everyone_go(pictures: list[Path]) -> None:
    on = Device(CHECKPOINT)
    stopper = threading.Timer(0.5, on.stop)
    stopper.start()
    long = Request(GREEDY.user_prompt, None, 30_000, 0.0)
    with ThreadPoolExecutor(6) as threads:
        waiting = [
            threads.submit(on.caption, turn, lambda: load_image(pictures[0], 0), long, lambda: None)
            for turn in range(6)
        ]
        outcomes = [future.exception(timeout=60) for future in waiting]
    stopper.join()
    assert isinstance(outcomes[-1], DeviceStopped)
    with pytest.raises(DeviceStopped):
        on.caption(9, lambda: load_image(pictures[0], 0), GREEDY, lambda: None)


def test_a_directory_that_is_no_checkpoint_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(CheckpointError, match="MLX cannot load"):
        Device(tmp_path)


def test_the_process_ends_cleanly_after_a_device(pictures: list[Path]) -> None:
    """MLX aborted one process in three at exit while its thread's streams were not released."""
    script = (
        "import sys; from pathlib import Path; from captioner.device.device import Device;"
        "from captioner.device.rows import Request; from captioner.pictures.decoding import load_image;"
        "d = Device(Path(sys.argv[1]));"
        "r = Request('Describe', None, 2, 0.0);"
        "d.caption(0, lambda: load_image(Path(sys.argv[2]), 0), r, lambda: None); d.stop()"
    )
    for _ in range(5):
        run = subprocess.run(
            [sys.executable, "-c", script, str(CHECKPOINT), str(pictures[0])],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert (run.returncode, run.stderr) == (0, "")


def test_auto_chooses_a_batch_size(pictures: list[Path]) -> None:
    with device(CHECKPOINT, "auto") as on:
        assert 1 < on.batch_size <= 16
        assert len(caption_all(on, pictures)) == len(pictures)


def test_pictures_are_taken_in_order_and_the_next_is_ready(pictures: list[Path]) -> None:
    started: list[int] = []
    with device(CHECKPOINT) as on, ThreadPoolExecutor(7) as threads:

        def one(turn: int) -> Generation:
            time.sleep(0.02 * (7 - turn))  # arrive in the opposite order
            return on.caption(
                turn, lambda: load_image(pictures[turn], 0), GREEDY, lambda: started.append(turn)
            )

        list(threads.map(one, range(7)))
        figures = on.figures()
    assert started == sorted(started)
    assert figures.busy_fraction is not None
    assert figures.busy_fraction > 0.9

"""A picture on its way through the device, without a device: every end is an end, and the first."""

import threading
from dataclasses import replace

import pytest
from PIL import Image

from captioner.device.rows import Request
from captioner.device.work import Work
from captioner.errors import CaptionError, DeviceStopped
from captioner.records import Generation

REQUEST = Request("What?", None, 8, 0.0, seed=7)
DONE = Generation("A box.", "stop", 9, 4, 64, 64, 3, 0.1, 0.1)


@pytest.fixture
def work() -> Work:
    return Work(Image.Image, REQUEST)


def test_the_attempts_of_a_caption_sample_more_and_more_freely(work: Work) -> None:
    work.begin(work.questions[0])
    (question,) = work.questions
    made = [question.request]
    while question.again("repeats itself"):
        work.begin(question)
        made.append(question.request)
    work.finish(DONE)
    assert [(each.temperature, each.seed) for each in made] == [(0.0, 7), (0.4, 8), (0.8, 9)]
    assert list(work.attempts()) == [1, 2, 3]
    assert work.result() == DONE


def test_an_attempt_is_never_less_free_than_what_was_asked_for() -> None:
    request = Request("What?", None, 8, 0.6, seed=1)
    further = [request.again(attempts) for attempts in (1, 2)]
    assert [each and each.temperature for each in further] == [0.6, 0.8]
    assert request.again(3) is None


def test_an_attempt_that_is_done_again_is_told_once(work: Work) -> None:
    work.begin(work.questions[0])
    work.begin(work.questions[0])
    assert work.questions[0].again("repeats itself")
    work.begin(work.questions[0])
    work.begin(work.questions[0])
    work.finish(DONE)
    assert list(work.attempts()) == [1, 2]


def test_a_caption_has_its_answers_and_their_trouble_and_cost() -> None:
    work = Work(Image.Image, replace(REQUEST, ask=("mood=How?", "place=Where?")))
    caption, mood, place = work.questions
    assert [each.request.user_prompt for each in work.questions] == ["What?", "How?", "Where?"]
    assert mood.again("repeats itself")  # which concerns no other
    assert [each.request.seed for each in work.questions] == [7, 8, 7]
    cut = replace(DONE, text="A cell", finish_reason="length", flags=("truncated",))
    work.answer(place, cut)
    work.answer(mood, replace(DONE, text="Calm.", attempts=2, generated_tokens=5))
    assert not work.ended
    work.answer(caption, replace(DONE, fields={"n": 1}))
    made = work.result()
    assert (made.text, made.fields) == ("A box.", {"n": 1, "mood": "Calm.", "place": "A cell"})
    assert (made.finish_reason, made.flags, made.attempts) == ("length", ("truncated",), 2)
    assert (made.generated_tokens, round(made.seconds, 6)) == (11, 0.6)


def test_the_first_end_counts(work: Work) -> None:
    work.fail(CaptionError("first"))
    work.fail(DeviceStopped("second"))
    work.finish(DONE)
    for _ in range(2):
        with pytest.raises(CaptionError, match="first"):
            work.result()
        assert list(work.attempts()) == []


def test_a_caption_stays_when_the_device_stops_afterwards(work: Work) -> None:
    work.begin(work.questions[0])
    work.finish(DONE)
    work.fail(DeviceStopped("too late"))
    assert work.result() == DONE
    assert list(work.attempts()) == [1]


def test_one_end_is_the_end_also_when_several_threads_bring_it_about(work: Work) -> None:
    ends: list[Work] = []
    begins: list[int] = []
    work.when_ended(ends.append)
    work.when_begun(lambda: begins.append(1))
    together = threading.Barrier(8)

    def fail() -> None:
        together.wait()
        work.fail(DeviceStopped("stopped"))

    threads = [threading.Thread(target=fail) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (ends, begins) == ([work], [1])


@pytest.mark.parametrize("fails", [False, True])
def test_whoever_waits_for_its_beginning_is_told(work: Work, fails: bool) -> None:
    told: list[str] = []
    work.when_begun(lambda: told.append("early"))
    assert (work.begun, told) == (False, [])
    if fails:
        work.fail(CaptionError("no"))
    else:
        work.begin(work.questions[0])
    work.when_begun(lambda: told.append("late"))
    assert (work.begun, told) == (True, ["early", "late"])

"""Thinking blocks go, quotations of them stay, and what says nothing is empty."""

import time

import pytest

from captioner.device.cleaning import is_empty, to_sentence_end, without_thinking

CAT = "A cat on a mat."


@pytest.mark.parametrize(
    "text",
    [
        CAT,
        f"  {CAT}\n",
        f"<think>\nA picture of a cat.\n</think>\n\n{CAT}",
        f"<think></think>{CAT}",
        f"<think>\n\n</think>\n\n{CAT}",
        f"<think>one</think><think>two</think>{CAT}",
        f"{CAT}\n<think>Was that all?</think>",
        f"{CAT}\n<think>Was that",  # never closed
        f"Got it, a cat.\n</think>\n\n{CAT}",  # opened by the chat template
        f"Got it.</think>{CAT}",
        f"Got it: <thi\n</think>\n{CAT}",
        f"\n</think>\n{CAT}",
        f"<think>So they ask for `<think>`.\n```\ncode\n</think>{CAT}",
        f"Let me see.</think>{CAT}</think>",
        f"◁think▷A picture of a cat.◁/think▷{CAT}",
        f'<think>"A cat"</think>{CAT}',
    ],
)
def test_thinking_goes(text: str) -> None:
    assert without_thinking(text) == CAT


def test_what_is_around_a_block_stays() -> None:
    text = "Before <think>hm</think>after <think>hm</think>it"
    assert without_thinking(text) == "Before after it"


@pytest.mark.parametrize(
    "text",
    [
        "A terminal that shows `<think>` and then `</think>`.",
        'The log says "</think>".',
        "A page of XML:\n```xml\n<think>\nhello\n</think>\n```\nin white on black.",
        "1 < 2, <thinking> hard, and a <|box|> with </thinker>.",
        "think> /think",
    ],
)
def test_what_the_picture_shows_stays(text: str) -> None:
    assert without_thinking(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t\u00a0\u3000",
        "\u200b\ufeff\u200e",
        "\x00\x1b",
        "\ufffd\ufffd",
        "<|im_end|>",
        "<|im_start|>\n<|endoftext|> <|vision_pad|>",
        "<｜end▁of▁sentence｜>",
        "<s></s><pad><eos><end_of_turn>",
        "<think>A picture of a cat.</think>",
        "<think>A picture of a c",
        "A picture of a cat.\n</think>\n\n",
        "<think>x</think>\n<|im_end|>",
        "<think></think>",
    ],
)
def test_what_says_nothing_is_empty(text: str) -> None:
    assert is_empty(text)


@pytest.mark.parametrize(
    "text",
    [CAT, "7", "?", "猫", "<b>", "<>", "||", "<|im_end|>a", "<think>a</think>b", "`<think>`"],
)
def test_what_says_something_is_not_empty(text: str) -> None:
    assert not is_empty(text)


@pytest.mark.parametrize(
    ("kept", "more", "expected"),
    [
        (CAT, " A dog. A dog.", CAT),  # it ends where a sentence ends
        ("A cat. A dog", " on a mat. A dog", "A cat. A dog on a mat."),
        ("A cat. A dog", ' said "no." A dog', 'A cat. A dog said "no."'),
        ("It costs 3", ".50 euros. It", "It costs 3.50 euros."),
        ("| 0 | 0 |\n", "| 0 | 0 |\n", "| 0 | 0 |"),
        ("| 0 | 0", " |\n| 0 | 0", "| 0 | 0 |"),
        ("socks, hats", ", hats", "socks, hats"),  # nothing ends there
        ("Rows of hats...", "...", "Rows of hats..."),
        ("猫在垫子上。狗", "在跑。狗", "猫在垫子上。狗在跑。"),
        ("A caf\ufffd", "", "A caf"),  # half a character
        ("", " A cat.", ""),
        ("Hi. A", " man. A", "Hi. A man."),
        ("He is", "", "He is"),
    ],
)
def test_a_cut_sentence_is_finished(kept: str, more: str, expected: str) -> None:
    assert to_sentence_end(kept, kept + more) == expected


def test_a_text_that_does_not_go_on_is_kept() -> None:
    assert to_sentence_end("A caf\ufffd", "A café. It is") == "A café."
    assert to_sentence_end("A cat", "Another text.") == "A cat"


@pytest.mark.parametrize(
    "text",
    [
        "<think>" * 150_000,
        "</think>" * 125_000,
        "<think></think>" * 70_000,
        "`<think>`" * 110_000,
        "```\n" * 250_000,
        " " * 1_000_000,
        "\n" * 1_000_000,
        "<|" * 500_000,
        "<|a" * 333_000,
        "<" * 1_000_000,
        "." * 1_000_000,
        '."' * 500_000 + "x",
        "a" * 1_000_000,
        "\ufffd" * 1_000_000,
    ],
)
def test_a_million_characters_take_no_time(text: str) -> None:
    began = time.process_time()
    without_thinking(text)
    is_empty(text)
    to_sentence_end("", text)
    to_sentence_end(text, text + "x.")
    to_sentence_end("x", "x" + text)
    assert time.process_time() - began < 5

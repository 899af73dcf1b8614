"""What the benchmarks rest on: no caption of theirs ends before its time."""

import json

from benchmarks.checkpoint import EMBEDDED, plain_text_tokens


def test_no_token_that_ends_a_text_or_is_special_can_win() -> None:
    tokenizer = json.loads((EMBEDDED / "tokenizer.json").read_bytes())
    numbers = tokenizer["model"]["vocab"] | {
        t["content"]: t["id"] for t in tokenizer["added_tokens"]
    }
    plain = plain_text_tokens()
    assert len(plain) > 100
    assert "<|endoftext|>" in numbers
    for name in ("config.json", "generation_config.json"):
        ends = json.loads((EMBEDDED / name).read_bytes()).get("eos_token_id", [])
        assert not plain & set(ends if isinstance(ends, list) else [ends])
    assert not plain & {token["id"] for token in tokenizer["added_tokens"]}
    assert not plain & {numbers["<|endoftext|>"], numbers["<|im_end|>"]}

"""What the benchmarks rest on: no caption of theirs ends before its time, and limits are right."""

import json
from pathlib import Path

import numpy as np
import pytest
from mlx_vlm import load

from benchmarks import limits
from benchmarks.checkpoint import EMBEDDED, plain_text_tokens
from captioner.device.encoding import Prepared
from tests.float32 import dequantise


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


@pytest.mark.model
def test_quantised_weights_are_counted_as_they_are_read_and_multiplied(tmp_path: Path) -> None:
    arrays = {"input_ids": np.zeros((1, 20)), "pixel_values": np.zeros((64, 8))}
    rows = [Prepared(arrays, 16, 64, 64)]
    found = {}
    for directory in (EMBEDDED, dequantise(EMBEDDED, tmp_path / "float32")):
        network, _ = load(str(directory))
        read = limits._decode_bytes(directory, network, rows)
        found[directory] = limits._prefill_operations(network, rows[0]), read
    (operations, read), (of_full, read_in_full) = found.values()
    assert operations == of_full > 0
    assert 3 < read_in_full / read < 4  # float32 in place of 8 bits with scales, and what is kept

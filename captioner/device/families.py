"""What is known of the architectures that mlx-vlm loads, by the `model_type` of their config.json.

`python -m tests.families` shows it and writes docs/models.md. What is not named here gets the
careful way: its captions one at a time, its pictures prepared on the device's thread. Knows nothing
of MLX.
"""

# Their captions in a batch over pictures of mixed sizes are those made one at a time, token for
# token. Others are not so, or have not been tried: GLM-4V, GLM-OCR, PaddleOCR-VL, Hunyuan-VL and
# MiniCPM-V keep the positions of the latest picture in the language model, PaliGemma decodes
# without a mask and sees the padding of shorter rows, and Florence-2's cache cannot be merged.
BATCHED = frozenset(
    {
        "aya_vision",
        "gemma3",
        "gemma4",
        "idefics2",
        "idefics3",
        "internvl",
        "internvl_chat",
        "kimi_vl",
        "lfm2_vl",
        "llava_next",
        "llava_onevision",
        "mistral3",
        "molmo",
        "pixtral",
        "qwen2_5_vl",
        "qwen2_vl",
        "qwen3_5",
        "qwen3_vl",
        "qwen3_vl_moe",
        "smolvlm",
    }
)

# Their processors compute with numpy and Pillow, so another thread may prepare pictures while the
# device works. What computes in MLX (InternVL, Kimi-VL, DeepSeek-VL2, DeepSeek-OCR, Jina-VLM) may
# not: MLX's Metal backend is not for two threads at a time.
PREPARED_AHEAD = frozenset(
    {
        "aya_vision",
        "gemma3",
        "gemma4",
        "glm4v",
        "glm_ocr",
        "idefics2",
        "idefics3",
        "lfm2_vl",
        "llava_next",
        "llava_onevision",
        "mistral3",
        "molmo",
        "paligemma",
        "phi3_v",
        "pixtral",
        "qwen2_5_vl",
        "qwen2_vl",
        "qwen3_5",
        "qwen3_vl",
        "qwen3_vl_moe",
        "smolvlm",
    }
)

# Those whose picture `qwen3_vl.py` puts among the tokens, on every backend.
WRITTEN_OUT = frozenset({"qwen3_vl", "qwen3_vl_moe"})

# Those whose decode steps and vision tower `compiled.py` compiles on CUDA. It gives the same tokens
# with qwen3_vl_moe too; whether it is faster was not measured there.
COMPILED = frozenset({"qwen3_vl"})

# Several questions in one look get the answers that they get one by one, token for token, also in
# a batch. Of families that are prepared ahead.
SHARED = frozenset({"idefics3", "mistral3", "qwen2_5_vl", "qwen3_5", "qwen3_vl", "qwen3_vl_moe"})

# Never loaded, and why.
_ANOTHER_TOKENIZER = (
    "mlx-vlm takes its tokenizer from another repository, and would run code that comes with it"
)
REFUSED = {"moondream1": _ANOTHER_TOKENIZER, "moondream2": _ANOTHER_TOKENIZER}

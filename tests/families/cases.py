"""The architectures of the matrix, as small as each of them can be."""

from typing import Any

from tests.families.checkpoint import Family

TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
VISION: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_heads": 4,
    "depth": 2,
    "patch_size": 14,
    "image_size": 56,
    "num_channels": 3,
    "in_channels": 3,
}
MROPE = {"type": "mrope", "rope_type": "default", "mrope_section": [2, 3, 3]}
QWEN = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "<|vision_pad|>")
QWEN_IDS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
    "vision_token_id": "<|vision_pad|>",
}
QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"


def qwen_files(patch: int, processor: str) -> dict[str, dict[str, Any]]:
    return {
        "preprocessor_config.json": {
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": processor,
            "patch_size": patch,
            "merge_size": 2,
            "temporal_patch_size": 2,
            "min_pixels": 1024,
            "max_pixels": 128 * 128,
            "size": {"shortest_edge": 1024, "longest_edge": 128 * 128},
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
        }
    }


FAMILIES = [
    Family(
        "qwen2_vl",
        {
            **TEXT,
            "rope_scaling": MROPE,
            "vision_config": VISION | {"embed_dim": 64, "hidden_size": 64, "mlp_ratio": 2},
        },
        QWEN_IMAGE,
        QWEN,
        QWEN_IDS,
        qwen_files(14, "Qwen2VLProcessor"),
    ),
    Family(
        "qwen2_5_vl",
        {
            **TEXT,
            "rope_scaling": MROPE,
            "vision_config": VISION
            | {"out_hidden_size": 64, "window_size": 56, "fullatt_block_indexes": [1]},
        },
        QWEN_IMAGE,
        QWEN,
        QWEN_IDS,
        qwen_files(14, "Qwen2_5_VLProcessor"),
    ),
    Family(
        "gemma3",
        {
            "text_config": TEXT
            | {
                "model_type": "gemma3_text",
                "sliding_window": 16,
                "sliding_window_pattern": 2,
                "query_pre_attn_scalar": 16,
                "mm_tokens_per_image": 4,
            },
            "vision_config": VISION | {"model_type": "siglip_vision_model", "hidden_size": 64},
            "hidden_size": 64,
        },
        "<start_of_image>",
        ("<start_of_image>", "<end_of_image>", "<image_soft_token>"),
        {"image_token_index": "<image_soft_token>"},
        {
            "preprocessor_config.json": {
                "image_processor_type": "Gemma3ImageProcessor",
                "processor_class": "Gemma3Processor",
                "size": {"height": 56, "width": 56},
                "image_seq_length": 4,
            },
            "processor_config.json": {"image_seq_length": 4, "processor_class": "Gemma3Processor"},
        },
        named={
            "image_token": "<image_soft_token>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
        },
        spread=0.02,
    ),
    *(
        Family(
            name,
            {
                "text_config": TEXT | {"model_type": "llama"},
                "vision_config": VISION | {"model_type": "idefics3", "image_size": 56},
                "scale_factor": 2,
            },
            "<image>",
            ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"),
            {"image_token_id": "<image>"},
            {
                "preprocessor_config.json": {
                    "image_processor_type": f"{cls}ImageProcessor",
                    "processor_class": f"{cls}Processor",
                    "size": {"longest_edge": 112},
                    "max_image_size": {"longest_edge": 56},
                    "do_image_splitting": True,
                    "image_mean": [0.5] * 3,
                    "image_std": [0.5] * 3,
                },
                "processor_config.json": {"image_seq_len": 4, "processor_class": f"{cls}Processor"},
            },
            named={
                "image_token": "<image>",
                "fake_image_token": "<fake_token_around_image>",
                "global_image_token": "<global-img>",
                "end_of_utterance_token": "<end_of_utterance>",
            },
        )
        for name, cls in (("idefics3", "Idefics3"), ("smolvlm", "SmolVLM"))
    ),
    Family(
        "internvl_chat",
        {
            "text_config": TEXT | {"model_type": "qwen2"},
            "vision_config": VISION | {"model_type": "intern_vit_6b"},
            "force_image_size": 56,
            "max_dynamic_patch": 4,
            "downsample_ratio": 0.5,
        },
        "<image>",
        ("<img>", "</img>", "<IMG_CONTEXT>"),
        {"image_token_index": "<IMG_CONTEXT>"},
    ),
    *(
        Family(
            name,
            {
                "text_config": TEXT | {"model_type": "llama"},
                "vision_config": VISION | {"model_type": "clip_vision_model", "image_size": 56},
                **more,
            },
            "<image>",
            ("<image>",),
            {"image_token_index": "<image>"},
            {
                "preprocessor_config.json": {
                    "image_processor_type": f"{cls}ImageProcessor",
                    "processor_class": f"{cls2}Processor",
                    "size": {"shortest_edge": 56},
                    "crop_size": {"height": 56, "width": 56},
                    "image_mean": [0.5] * 3,
                    "image_std": [0.5] * 3,
                    **pre,
                },
                "processor_config.json": {
                    "patch_size": 14,
                    "vision_feature_select_strategy": "default",
                    "processor_class": f"{cls2}Processor",
                    "num_additional_image_tokens": 1,
                },
            },
            named={"image_token": "<image>"},
        )
        for name, cls, cls2, more, pre in (
            ("llava", "CLIP", "Llava", {}, {}),
            (
                "llava_next",
                "LlavaNext",
                "LlavaNext",
                {"image_grid_pinpoints": [[56, 112], [112, 56], [112, 112]]},
                {"image_grid_pinpoints": [[56, 112], [112, 56], [112, 112]]},
            ),
        )
    ),
    *(
        Family(
            name,
            {
                "text_config": TEXT | {"model_type": "mistral"},
                "vision_config": VISION
                | {"model_type": "pixtral", "head_dim": 16, "image_size": 112},
                "spatial_merge_size": 2 if name == "mistral3" else 1,
            },
            "[IMG]",
            ("[IMG]", "[IMG_BREAK]", "[IMG_END]"),
            {"image_token_index": "[IMG]"},
            {
                "preprocessor_config.json": {
                    "image_processor_type": "PixtralImageProcessor",
                    "processor_class": "PixtralProcessor",
                    "size": {"longest_edge": 112},
                    "patch_size": {"height": 14, "width": 14},
                    "image_mean": [0.5] * 3,
                    "image_std": [0.5] * 3,
                },
                "processor_config.json": {
                    "patch_size": 14,
                    "spatial_merge_size": 2 if name == "mistral3" else 1,
                    "processor_class": "PixtralProcessor",
                    "image_token": "[IMG]",
                    "image_break_token": "[IMG_BREAK]",
                    "image_end_token": "[IMG_END]",
                },
            },
        )
        for name in ("pixtral", "mistral3")
    ),
    Family(
        "glm4v",
        {
            "text_config": TEXT
            | {
                "partial_rotary_factor": 0.5,
                "rope_scaling": {"rope_type": "default", "mrope_section": [1, 1, 2]},
            },
            "vision_config": VISION
            | {"model_type": "glm4v", "out_hidden_size": 64, "intermediate_size": 64},
        },
        "<|begin_of_image|><|image|><|end_of_image|>",
        (
            "<|begin_of_image|>",
            "<|image|>",
            "<|end_of_image|>",
            "<|video|>",
            "<|begin_of_video|>",
            "<|end_of_video|>",
        ),
        {
            "image_token_id": "<|image|>",
            "image_token_index": "<|image|>",
            "video_token_id": "<|video|>",
            "video_token_index": "<|video|>",
            "vision_start_token_id": "<|begin_of_image|>",
            "vision_end_token_id": "<|end_of_image|>",
        },
        {
            "preprocessor_config.json": {
                "image_processor_type": "Glm4vImageProcessor",
                "processor_class": "Glm4vProcessor",
                "size": {"shortest_edge": 1024, "longest_edge": 128 * 128},
                "patch_size": 14,
                "merge_size": 2,
                "temporal_patch_size": 2,
            },
        },
        named={"image_token": "<|image|>", "video_token": "<|video|>"},
    ),
    Family(
        "paligemma",
        {
            "text_config": TEXT
            | {
                "model_type": "gemma2",
                "query_pre_attn_scalar": 16,
                "attn_logit_softcapping": 50.0,
                "final_logit_softcapping": 30.0,
                "sliding_window": 4096,
                "num_image_tokens": 16,
            },
            "vision_config": VISION | {"model_type": "siglip_vision_model", "projection_dim": 64},
            "hidden_size": 64,
            "projection_dim": 64,
        },
        "",
        ("<image>",),
        {"image_token_index": "<image>"},
        {
            "preprocessor_config.json": {
                "image_processor_type": "SiglipImageProcessor",
                "processor_class": "PaliGemmaProcessor",
                "size": {"height": 56, "width": 56},
                "image_seq_length": 16,
            },
            "processor_config.json": {"processor_class": "PaliGemmaProcessor"},
        },
        chat=None,
        named={"image_token": "<image>"},
        spread=0.02,
    ),
    Family(
        "lfm2_vl",
        {
            "text_config": TEXT
            | {
                "model_type": "lfm2",
                "layer_types": [
                    "conv",
                    "full_attention",
                    "full_attention",
                    "conv",
                    "full_attention",
                ],
                "num_hidden_layers": 5,
                "norm_eps": 1e-5,
                "block_dim": 64,
                "conv_dim": 64,
                "conv_dim_out": 64,
                "num_heads": 4,
                "block_ff_dim": 128,
                "block_auto_adjust_ff_dim": False,
            },
            "vision_config": VISION
            | {"model_type": "siglip2_vision_model", "patch_size": 16, "num_patches": 16},
            "projector_hidden_size": 64,
            "downsample_factor": 2,
        },
        "<image>",
        (
            "<image>",
            "<|image_start|>",
            "<|image_end|>",
            "<|img_thumbnail|>",
            *(f"<|img_row_{r}_col_{c}|>" for r in range(1, 3) for c in range(1, 3)),
        ),
        {"image_token_id": "<image>"},
        {
            "preprocessor_config.json": {
                "image_processor_type": "Lfm2VlImageProcessorFast",
                "processor_class": "Lfm2VlProcessor",
                "encoder_patch_size": 16,
                "tile_size": 64,
                "max_tiles": 4,
                "min_tiles": 2,
                "min_image_tokens": 2,
                "max_image_tokens": 8,
                "max_num_patches": 16,
                "downsample_factor": 2,
            },
        },
        named={
            "image_token": "<image>",
            "image_start_token": "<|image_start|>",
            "image_end_token": "<|image_end|>",
            "image_thumbnail": "<|img_thumbnail|>",
        },
        spread=0.1,
    ),
    *(
        Family(
            name,
            {
                "text_config": TEXT
                | {
                    "model_type": f"{name}_text",
                    "rope_scaling": MROPE | {"type": "default", "mrope_interleaved": True},
                    **moe,
                },
                "vision_config": VISION
                | {
                    "model_type": name,
                    "patch_size": 16,
                    "out_hidden_size": 64,
                    "spatial_merge_size": 2,
                    "temporal_patch_size": 2,
                    "num_position_embeddings": 64,
                    "deepstack_visual_indexes": [0],
                },
            },
            QWEN_IMAGE,
            QWEN,
            QWEN_IDS,
            qwen_files(16, "Qwen3VLProcessor"),
        )
        for name, moe in (
            ("qwen3_vl", {}),
            (
                "qwen3_vl_moe",
                {
                    "num_experts": 4,
                    "num_experts_per_tok": 2,
                    "decoder_sparse_step": 1,
                    "mlp_only_layers": [],
                    "moe_intermediate_size": 64,
                    "norm_topk_prob": True,
                },
            ),
        )
    ),
    Family(
        "qwen3_5",
        {
            "text_config": TEXT
            | {
                "model_type": "qwen3_5_text",
                "linear_num_value_heads": 4,
                "linear_num_key_heads": 2,
                "linear_key_head_dim": 32,
                "linear_value_head_dim": 32,
                "linear_conv_kernel_dim": 4,
                "full_attention_interval": 2,
                "num_hidden_layers": 6,
                "rope_parameters": {
                    "type": "default",
                    "rope_type": "default",
                    "mrope_section": [1, 1, 0],
                    "rope_theta": 10000.0,
                    "partial_rotary_factor": 0.25,
                },
            },
            "vision_config": VISION
            | {
                "model_type": "qwen3_5",
                "patch_size": 16,
                "out_hidden_size": 64,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
                "num_position_embeddings": 64,
                "deepstack_visual_indexes": [],
            },
        },
        QWEN_IMAGE,
        QWEN,
        QWEN_IDS,
        qwen_files(16, "Qwen3VLProcessor"),
    ),
    Family(
        "gemma4",
        {
            "text_config": TEXT
            | {
                "model_type": "gemma4_text",
                "sliding_window": 16,
                "sliding_window_pattern": 2,
                "global_head_dim": 16,
                "num_kv_shared_layers": 0,
                "hidden_size_per_layer_input": 0,
                "num_hidden_layers": 4,
                "tie_word_embeddings": True,
                "vocab_size_per_layer_input": 300,
            },
            "vision_config": VISION
            | {
                "model_type": "gemma4_vision",
                "patch_size": 16,
                "head_dim": 16,
                "global_head_dim": 16,
                "num_key_value_heads": 4,
                "position_embedding_size": 64,
                "pooling_kernel_size": 2,
                "default_output_length": 16,
            },
            "vision_soft_tokens_per_image": 16,
            "hidden_size": 64,
            "audio_config": None,
        },
        "<|image|>",
        ("<|image|>", "<|image>", "<image|>", "<|audio|>", "<|audio>", "<audio|>", "<|video|>"),
        {
            "image_token_id": "<|image|>",
            "boi_token_id": "<|image>",
            "eoi_token_id": "<image|>",
            "audio_token_id": "<|audio|>",
            "video_token_id": "<|video|>",
        },
        {
            "processor_config.json": {
                "processor_class": "Gemma4Processor",
                "image_processor": {
                    "patch_size": 16,
                    "max_soft_tokens": 16,
                    "pooling_kernel_size": 2,
                },
            },
        },
        named={
            "image_token": "<|image|>",
            "boi_token": "<|image>",
            "eoi_token": "<image|>",
            "audio_token": "<|audio|>",
            "boa_token": "<|audio>",
            "eoa_token": "<audio|>",
        },
        spread=0.1,
    ),
    Family(
        "glm_ocr",
        {
            "text_config": {k: v for k, v in TEXT.items() if k != "rope_theta"}
            | {
                "model_type": "glm_ocr_text",
                "rope_parameters": {
                    "rope_type": "default",
                    "mrope_section": [2, 3, 3],
                    "partial_rotary_factor": 1.0,
                    "rope_theta": 10000,
                },
            },
            "vision_config": {
                k: v
                for k, v in VISION.items()
                if k not in ("num_hidden_layers", "num_attention_heads", "num_channels")
            }
            | {"model_type": "glm_ocr_vision", "out_hidden_size": 64},
        },
        "<|begin_of_image|><|image|><|end_of_image|>",
        (
            "<|begin_of_image|>",
            "<|image|>",
            "<|end_of_image|>",
            "<|video|>",
            "<|begin_of_video|>",
            "<|end_of_video|>",
        ),
        {
            "image_token_id": "<|image|>",
            "video_token_id": "<|video|>",
            "image_start_token_id": "<|begin_of_image|>",
            "image_end_token_id": "<|end_of_image|>",
        },
        {
            "preprocessor_config.json": {
                "image_processor_type": "Glm46VImageProcessor",
                "processor_class": "Glm46VProcessor",
                "size": {"shortest_edge": 1024, "longest_edge": 2 * 128 * 128},
                "patch_size": 14,
                "merge_size": 2,
                "temporal_patch_size": 2,
                "image_mean": [0.5] * 3,
                "image_std": [0.5] * 3,
            },
        },
        named={"image_token": "<|image|>", "video_token": "<|video|>"},
    ),
    Family(
        "paddleocr_vl",
        {
            **TEXT,
            "hidden_size": 1024,  # which its projector takes for granted
            "rope_scaling": MROPE | {"type": "default"},
            "use_bias": False,
            "hidden_act": "silu",
            "pad_token_id": 0,
            "bos_token_id": 1,
            "vision_config": VISION
            | {"model_type": "paddleocr_vl", "image_size": 112, "spatial_merge_size": 2},
        },
        "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>",
        ("<|IMAGE_START|>", "<|IMAGE_PLACEHOLDER|>", "<|IMAGE_END|>", "<|video_pad|>"),
        {
            "image_token_id": "<|IMAGE_PLACEHOLDER|>",
            "video_token_id": "<|video_pad|>",
            "vision_start_token_id": "<|IMAGE_START|>",
            "vision_end_token_id": "<|IMAGE_END|>",
        },
        {
            "preprocessor_config.json": {
                "image_processor_type": "PaddleOCRVLImageProcessor",
                "processor_class": "PaddleOCRVLProcessor",
                "min_pixels": 1024,
                "max_pixels": 128 * 128,
                "size": {"shortest_edge": 1024, "longest_edge": 128 * 128},
                "patch_size": 14,
                "merge_size": 2,
                "temporal_patch_size": 1,
                "image_mean": [0.5] * 3,
                "image_std": [0.5] * 3,
            },
        },
    ),
    Family(
        "molmo",
        {
            "text_config": {
                "d_model": 64,
                "n_heads": 4,
                "n_kv_heads": 2,
                "n_layers": 2,
                "mlp_hidden_size": 128,
                "hidden_size": 64,
            },
            "vision_config": {
                "d_model": 64,
                "hidden_size": 128,
                "image_emb_dim": 64,
                "image_num_heads": 4,
                "image_num_key_value_heads": 4,
                "image_num_layers": 3,
                "image_head_dim": 16,
                "image_mlp_dim": 128,
                "image_num_pos": 17,
                "image_default_input_size": [56, 56],
                "vit_layers": [-2, -3],
            },
        },
        "",
        ("<im_patch>", "<im_start>", "<im_end>", "<im_col>", "<|image|>"),
        {},
        {
            "preprocessor_config.json": {
                "base_image_input_size": [56, 56],
                "image_token_length_w": 2,
                "image_token_length_h": 2,
                "max_crops": 2,
                "overlap_margins": [0, 0],
            }
        },
        chat="{% for m in messages %} User: {{ m['content'] }}{% endfor %} Assistant:",
    ),
    Family(
        "kimi_vl",
        {
            "text_config": TEXT
            | {
                "model_type": "deepseek_v3",
                "num_key_value_heads": 4,
                "kv_lora_rank": 32,
                "q_lora_rank": None,
                "qk_rope_head_dim": 8,
                "v_head_dim": 16,
                "qk_nope_head_dim": 16,
                "moe_intermediate_size": 32,
                "n_routed_experts": 4,
                "n_shared_experts": 1,
                "num_experts_per_tok": 2,
                "n_group": 1,
                "topk_group": 1,
                "first_k_dense_replace": 1,
            },
            "vision_config": VISION
            | {
                "model_type": "moonvit",
                "embed_dim": 64,
                "init_pos_emb_height": 8,
                "init_pos_emb_width": 8,
            },
        },
        "<|media_start|>image<|media_content|><|media_pad|><|media_end|>",
        ("<|media_start|>", "<|media_content|>", "<|media_pad|>", "<|media_end|>"),
        {"media_placeholder_token_id": "<|media_pad|>"},
        {"preprocessor_config.json": {"patch_size": 14, "in_token_limit": 64}},
    ),
    Family(
        "idefics2",
        {
            "text_config": TEXT | {"model_type": "mistral"},
            "vision_config": VISION | {"model_type": "idefics2", "image_size": 112},
            "perceiver_config": {
                "model_type": "idefics2",
                "num_key_value_heads": 2,
                "resampler_depth": 1,
                "resampler_head_dim": 16,
                "resampler_n_heads": 4,
                "resampler_n_latents": 8,
            },
        },
        "<image>",
        ("<image>", "<fake_token_around_image>", "<end_of_utterance>"),
        {"image_token_id": "<image>"},
        {
            "preprocessor_config.json": {
                "image_processor_type": "Idefics2ImageProcessor",
                "processor_class": "Idefics2Processor",
                "size": {"longest_edge": 112, "shortest_edge": 56},
                "do_image_splitting": False,
                "image_mean": [0.5] * 3,
                "image_std": [0.5] * 3,
            },
            "processor_config.json": {"image_seq_len": 8, "processor_class": "Idefics2Processor"},
        },
    ),
    Family(
        "aya_vision",
        {
            "text_config": TEXT
            | {
                "model_type": "cohere2",
                "layer_norm_eps": 1e-5,
                "sliding_window": 16,
                "sliding_window_pattern": 2,
            },
            "vision_config": VISION | {"model_type": "siglip_vision_model"},
            "max_splits_per_img": 2,
            "alignment_intermediate_size": 128,
        },
        "<image>",
        (
            "<image>",
            "<|IMG_PATCH|>",
            "<|START_OF_IMG|>",
            "<|END_OF_IMG|>",
            "<|IMG_LINE_BREAK|>",
            "TILE",
            "TILE_GLOBAL",
        ),
        {"image_token_index": "<|IMG_PATCH|>"},
        {
            "preprocessor_config.json": {
                "image_processor_type": "GotOcr2ImageProcessor",
                "processor_class": "AyaVisionProcessor",
                "size": {"height": 56, "width": 56},
                "crop_to_patches": True,
                "min_patches": 1,
                "max_patches": 2,
                "image_mean": [0.5] * 3,
                "image_std": [0.5] * 3,
            },
            "processor_config.json": {
                "patch_size": 14,
                "img_size": 56,
                "downsample_factor": 2,
                "processor_class": "AyaVisionProcessor",
            },
        },
        spread=0.1,
    ),
    Family(
        "llava_onevision",
        {
            "text_config": TEXT | {"model_type": "qwen2"},
            "vision_config": VISION | {"model_type": "siglip_vision_model"},
            "image_grid_pinpoints": [[56, 56], [56, 112], [112, 56], [112, 112]],
        },
        "<image>",
        ("<image>", "<video>"),
        {"image_token_index": "<image>", "video_token_index": "<video>"},
        {
            "preprocessor_config.json": {
                "image_processor_type": "LlavaOnevisionImageProcessor",
                "processor_class": "LlavaOnevisionProcessor",
                "size": {"height": 56, "width": 56},
                "image_grid_pinpoints": [[56, 56], [56, 112], [112, 56], [112, 112]],
                "image_mean": [0.5] * 3,
                "image_std": [0.5] * 3,
            },
            "processor_config.json": {
                "num_image_tokens": 16,
                "vision_feature_select_strategy": "full",
                "processor_class": "LlavaOnevisionProcessor",
            },
        },
        named={"image_token": "<image>", "video_token": "<video>"},
    ),
    Family(
        "florence2",
        {
            "text_config": {
                "model_type": "florence2_language",
                "d_model": 64,
                "encoder_attention_heads": 4,
                "decoder_attention_heads": 4,
                "encoder_ffn_dim": 128,
                "decoder_ffn_dim": 128,
                "encoder_layers": 2,
                "decoder_layers": 2,
                "max_position_embeddings": 1024,
                "vocab_size": 1400,
                "bos_token_id": 1,
                "eos_token_id": 3,
                "pad_token_id": 0,
                "decoder_start_token_id": 3,
            },
            "vision_config": {
                "model_type": "davit",
                "depths": [1, 1],
                "dim_embed": [32, 64],
                "num_heads": [2, 4],
                "num_groups": [2, 4],
                "patch_size": [7, 3],
                "patch_stride": [4, 2],
                "patch_padding": [3, 1],
                "patch_prenorm": [False, True],
                "window_size": 4,
                "hidden_size": 64,
                "image_size": [64, 64],
                "projection_dim": 64,
            },
            "vocab_size": 1400,
            "projection_dim": 64,
        },
        "",
        ("<image>",),
        {"image_token_id": "<image>", "image_token_index": "<image>"},
        {
            "preprocessor_config.json": {
                "image_processor_type": "CLIPImageProcessor",
                "processor_class": "Florence2Processor",
                "size": {"height": 64, "width": 64},
                "crop_size": {"height": 64, "width": 64},
                "do_center_crop": False,
                "image_seq_length": 65,
                "image_mean": [0.5] * 3,
                "image_std": [0.5] * 3,
            },
        },
        named={"image_token": "<image>"},
        chat=None,
        spread=0.1,
    ),
    Family(
        "internvl",
        {
            "text_config": TEXT | {"model_type": "qwen3"},
            "vision_config": VISION | {"model_type": "internvl_vision"},
            "max_dynamic_patch": 4,
        },
        "<IMG_CONTEXT>",
        ("<img>", "</img>", "<IMG_CONTEXT>"),
        {"image_token_id": "<IMG_CONTEXT>"},
        {"processor_config.json": {"image_seq_length": 4}},
    ),
]

# Why there is none: as a person reads it in docs/models.md.
NOT_TRIED = {
    "`phi3_v`": "its vision tower has a fixed size of 300 million parameters",
    "`deepseekocr`": "no caption within 200 s: its pictures are 1024 by 1024 pixels",
    "`fastvlm`": "its vision tower has a fixed size too",
    "`hunyuan_vl`": "its processor knows its tokens by their numbers in the real vocabulary",
    "`minicpmv4_6`": "the captions of a tiny random one do not depend on the picture, so equal "
    "ones would show nothing",
    "`deepseek_vl_v2`, `gemma3n`, `granite_vision`, `jina_vlm`, "
    "`moondream3`, `phi4mm`, `llama4`, `mllama`, "
    "`molmo2` and the others that mlx-vlm has": "nobody has made a tiny one yet",
}

"""What single families need, what is refused, and what is left out: all that the zoo knows of a model by its name."""

from __future__ import annotations

from typing import Any

WORDPIECE = "albert bert convbert distilbert electra ernie funnel mobilebert squeezebert tapas layoutlm roc_bert rembert".split()

ROPE = {"rope_type": "default", "rope_theta": 10000.0}

LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "head_dim": 16}
DOTS = {**LATENT, **{f"swa_{name}": size for name, size in {**LATENT, "num_attention_heads": 4, "num_key_value_heads": 4}.items()}}
INDEXER = {
    f"indexer_{name}": size for name, size in zip("n_heads kv_heads head_dim budget compress_ratio".split(), (2, 1, 8, 16, 4), strict=True)
}
FUNNEL = {"block_sizes": [1, 1], "d_head": 8, "d_inner": 64}
MIXED = {"layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"], "num_hidden_layers": 4}

# By model type, or by kind and type: settings beside those that follow from the names of fields (`shrink.py`).
OVERRIDES: dict[str, dict[str, Any]] = {
    "bamba": {"num_hidden_layers": 4, "attn_layer_indices": [1, 3]},
    "big_bird": {"attention_type": "original_full"},
    "rwkv": {"use_cache": False},  # with its cache, transformers computes no gradient of it
    "bigbird_pegasus": {"attention_type": "original_full"},
    "blt": {
        "encoder_hash_byte_group_vocab": 100,
        **{f"{part}_config": {"hidden_size_global": 32, "num_hidden_layers": 2} for part in ("encoder", "decoder")},
    },
    "codegen": {"rotary_dim": 4},
    "cohere_compass_text": {"rope_parameters": {"sliding_attention": ROPE, "full_attention": ROPE}},
    "dbrx": {"max_seq_len": 256, "attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8.0}},
    "decoder:bert-generation": {"is_decoder": True},
    "dots1": {"num_hidden_layers": 3, "layer_types": ["full_attention", "sliding_attention", "full_attention"]},
    "dots3_note": {
        "text_config": DOTS,
        "vision_config": {"pyramid_num_routed": [-1, 4], "adapter_in_dim": 32, "adapter_out_dim": 32},
        "audio_config": {"adapter_input_size": 32, "adapter_out_dim": 32},
    },
    "dots3_note_text": DOTS,
    "encoder-decoder": {"decoder": {"is_decoder": True, "add_cross_attention": True}},
    "encoder:funnel": {**FUNNEL, "architectures": ["FunnelModel"]},
    "encoder:mobilebert": {"normalization_type": "layer_norm"},  # without a norm, random weights make numbers of any size
    "esmc": {"num_key_value_heads": 4},
    "falcon_h1": {"mamba_d_ssm": 64, "num_logits_to_keep": None},
    "fsmt": {"src_vocab_size": 600, "tgt_vocab_size": 600, "langs": ["en", "de"]},
    "funnel": FUNNEL,
    "gemma3n_text": {"vocab_size_per_layer_input": 600},
    "gemma4_text": {"vocab_size_per_layer_input": 600},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 16},
    "gptj": {"rotary_dim": 4},
    "granitemoehybrid": {"num_hidden_layers": 4, "layer_types": ["mamba", "attention", "mamba", "attention"]},
    "jamba": {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": {"linear_head_dim": 8, "linear_num_heads": 4},
    "led": {"attention_window": 8, "max_encoder_position_embeddings": 256, "max_decoder_position_embeddings": 64},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"], "num_hidden_layers": 4},
    "longcat_flash": {"n_routed_experts": 4, "zero_expert_num": 2},
    "longformer": {"attention_window": 8, "max_position_embeddings": 256},
    "longt5": {"local_radius": 7, "global_block_size": 4},
    "luke": {"entity_vocab_size": 50, "entity_emb_size": 16},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 2},
    "neomme": {"head_dim": 16, "embedding_rank": 16},
    "perceiver": {
        "num_latents": 8,
        "d_latents": 32,
        "num_self_attends_per_block": 1,
        "num_self_attention_heads": 2,
        "num_cross_attention_heads": 2,
    },
    "qwen4_exp": {"text_config": INDEXER},
    "qwen4_exp_text": INDEXER,
    "recurrent_gemma": {"num_hidden_layers": 3, "attention_window_size": 16, "lru_width": 32},
    "reformer": {
        "axial_pos_shape": [16, 16],
        "axial_pos_embds_dim": [16, 16],
        "attention_head_size": 8,
        "feed_forward_size": 64,
        "attn_layers": ["local", "lsh"],
        "local_attn_chunk_length": 16,
        "lsh_attn_chunk_length": 16,
        "num_buckets": 4,
        "hash_seed": 0,
    },
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 24},
    "roc_bert": {"shape_vocab_size": 50, "shape_embed_dim": 16, "pronunciation_vocab_size": 50, "pronunciation_embed_dim": 16},
    "xmod": {"default_language": "en_XX"},
    "zamba": MIXED,
    "zamba2": {**MIXED, "chunk_size": 16, "adapter_rank": 4},
    "zaya": {"num_experts_per_tok": 1, "sliding_window": None, "router_hidden_size": 16},
}

BOTH = (
    "bert big_bird camembert data2vec-text electra ernie megatron-bert reformer rembert roberta roberta-prelayernorm roc_bert roformer xlm "
    "xlm-roberta xlm-roberta-xl xmod"
)
SOUND = (
    "audioflamingo3 glmasr granite_speech granite_speech_plus moss_transcribe_diarize musicflamingo nemo_speechlm qwen2_audio qwen3_asr "
    "vibevoice_asr voxtral voxtral_realtime"
)

# What is refused in words before a run starts, and why. First what is refused by its type alone, before any weight is read.
BY_TYPE: dict[str, str] = {
    **{f"decoder:{name}": "a type of masked models: read it as `masked`, or by a `head`" for name in BOTH.split()},
    **{f"{kind}:{name}": "a type of encoder-decoders" for kind in ("decoder", "masked", "encoder") for name in ("bart", "mbart", "mvp")},
    **{f"encoder_decoder:{name}": "a decoder that listens: it has no text encoder" for name in SOUND.split()},
    "decoder:musicgen": "it speaks codes of sound",
    "decoder:musicgen_melody": "it speaks codes of sound",
}
REFUSED: dict[str, str] = {
    **BY_TYPE,
    "decoder:blt": "transformers cannot run it by itself: its config does not say how many layers there are",
    "decoder:deepseek_v4": "which experts some of its layers take follows from the token's id, which a soft prompt has not",
    "decoder:cpmant": "it takes no input embeddings",
    **{
        f"{kind}:{name}": why
        for kind in ("masked", "encoder")
        for name, why in {
            "esm": "what it makes of an embedding depends on how many masks the text has",
            "esmc": "it takes no input embeddings",
            "ibert": "it takes no input embeddings",
            "neomme": "it takes no input embeddings",
            "perceiver": "it takes no input embeddings",
            "reformer": "transformers computes its gradient in training mode alone",
        }.items()
    },
    "decoder:xlstm": "transformers cannot run it without the package xlstm",
    "decoder:xlnet": "it reads in both directions: no causal model",
    "decoder:gemma3n_text": "each layer looks up the token's own row, which a soft prompt has not",
    "decoder:gemma4": "each layer looks up the token's own row, which a soft prompt has not",
    "decoder:gemma4_text": "each layer looks up the token's own row, which a soft prompt has not",
}

# Of which no tiny model can be made, and why.
LEFT_OUT: dict[str, str] = {
    "masked:mra": "transformers computes nothing in its attention without its own kernels",
    "encoder:mra": "transformers computes nothing in its attention without its own kernels",
    "decoder:gemma3n": "its picture tower needs the package timm; its text model is `gemma3n_text`",
    "decoder:gemma4_assistant": "it drafts for another model, whose states it reads: it is no language model by itself",
    "decoder:gemma4_unified_assistant": "it drafts for another model, whose states it reads: it is no language model by itself",
}

# Cases that need more than 1e-5 of the largest logit, and why.
TOLERANCE: dict[str, float] = {}

# What the page says beside.
REMARKS: dict[str, str] = {
    f"{kind}:{name}": "with full attention: transformers itself leaves its sparse one for good at the first text that is short"
    for kind, name in (
        ("masked", "big_bird"),
        ("encoder", "big_bird"),
        ("encoder_decoder", "bigbird_pegasus"),
        ("decoder", "bigbird_pegasus"),
    )
}

# What is known to be wrong and not mended yet: `make test-zoo` fails as long as one stands here.
OPEN: dict[str, str] = {}

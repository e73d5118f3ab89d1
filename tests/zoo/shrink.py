"""Small configs from the default ones: sizes are set by the names that fields have, and by family where names do not suffice."""

from __future__ import annotations

import dataclasses
from typing import Any

LAYERS = "num_hidden_layers num_layers n_layer n_layers num_decoder_layers encoder_layers decoder_layers num_encoder_layers "
WIDTH = "hidden_size d_model n_embd embed_dim dim emb_dim embedding_size word_embed_proj_dim hidden_dim block_dim rnn_hidden_size"
HEADS = (
    "num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads attention_heads "
    "num_encoder_attention_heads "
    "num_decoder_attention_heads num_query_heads attn_num_heads swa_num_attention_heads linear_num_attention_heads"
)
KEY_HEADS = "num_key_value_heads n_kv_heads num_kv_heads n_head_kv attn_num_kv_heads swa_num_key_value_heads"
INNER = (
    "intermediate_size ffn_hidden_size ffn_dim encoder_ffn_dim decoder_ffn_dim d_ff n_inner dim_ff hidden_ff moe_intermediate_size "
    "shared_expert_intermediate_size moe_shared_expert_intermediate_size dff shared_intermediate_size dense_intermediate_size "
    "intermediate_size_mlp prefix_dense_intermediate_size expert_ffn_hidden_size mlp_hidden_size"
)
EXPERTS = "num_experts num_local_experts n_routed_experts moe_num_experts num_moe_experts"
ACTIVE = "num_experts_per_tok moe_k moe_topk top_k_experts num_experts_per_token moe_top_k num_selected_experts"

SIZES: dict[str, int] = {
    **dict.fromkeys(LAYERS.split(), 2),
    **dict.fromkeys(WIDTH.split(), 32),
    **dict.fromkeys(HEADS.split(), 4),
    **dict.fromkeys(KEY_HEADS.split(), 2),
    **dict.fromkeys(INNER.split(), 64),
    **dict.fromkeys(EXPERTS.split(), 4),
    **dict.fromkeys(ACTIVE.split(), 2),
    "head_dim": 8,
    "global_head_dim": 16,
    "d_kv": 8,
    "kv_channels": 8,
    "attention_head_dim": 8,
    "swa_head_dim": 8,
    "sliding_window": 16,
    "sliding_window_size": 16,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "o_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "swa_v_head_dim": 8,
    "qk_head_dim": 16,
    "index_n_heads": 2,
    "index_head_dim": 16,
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_num_heads": 8,
    "mamba_head_dim": 8,
    "ssm_state_size": 8,
    "state_size": 8,
    "hidden_size_per_layer_input": 8,
    "num_kv_shared_layers": 0,
    "chunk_size": 16,
    "attention_chunk_size": 16,
    "image_size": 32,
    "patch_size": 8,
    "max_window_layers": 0,
}
PATTERNS = ("layer_types", "layers_block_type")  # which kind each layer is of


def small_config(config_class: Any, overrides: dict[str, Any], vocabulary: dict[str, int]) -> Any:
    """Return a small config of a class; `vocabulary` are its size and special ids, `overrides` what a family needs beside.

    Nested configs are made small in the same way: an override under the name of one is a dict of overrides of its own. Every kind of layer
    that the default config has occurs.
    """
    settings = {name: size for name, size in {**SIZES, **vocabulary}.items() if name in _names(config_class)}
    for name, nested in _nested_classes(config_class).items():
        settings[name] = small_config(nested, overrides.get(name, {}), vocabulary).to_dict()
    if "kv_lora_rank" in settings:  # latent attention has as many heads for keys
        settings |= {name: SIZES["num_attention_heads"] for name in KEY_HEADS.split() if name in settings}
    settings |= {name: value for name, value in overrides.items() if name not in settings or not isinstance(value, dict)}
    kinds = _kinds_of_layers(config_class)
    if len(kinds) > 1 and not any(name in overrides for name in (*PATTERNS, *LAYERS.split())):
        settings |= {name: max(4, len(kinds)) for name in LAYERS.split() if name in settings}
        few = config_class(**settings)
        for name in PATTERNS:
            if name in _names(config_class) and set(getattr(few, name)) < set(kinds):
                settings[name] = [kinds[i % len(kinds)] for i in range(max(4, len(kinds)))]
    return config_class(**settings)


def _kinds_of_layers(config_class: Any) -> list[str]:
    """Return the kinds of layers of a class's default config."""
    default = config_class()
    for name in PATTERNS:
        layers = getattr(default, name, None) if name in _names(config_class) else None
        if layers:
            return sorted(set(layers))
    return []


def _nested_classes(config_class: Any) -> dict[str, Any]:
    """Return the classes of nested configs; which one it is, a class that takes any says in its default."""
    from transformers import AutoConfig

    found = dict(config_class.sub_configs)
    if AutoConfig in found.values():
        default = config_class()
        found |= {name: type(getattr(default, name, None)) for name, nested in found.items() if nested is AutoConfig}
    return {name: nested for name, nested in found.items() if nested is not type(None)}


def _names(config_class: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(config_class)}

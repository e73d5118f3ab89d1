"""What both recipes of emoji towers do: a vision transformer with a stem, features of texts, colours turned, the pair on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maao.problems.towers.dual_loading import image_model
from maao.problems.towers.pooling import pooled
from maao.problems.towers.text.loading import load_frozen

TEXT = "packaged:all-minilm-l6-v2"
SIZE, DIM = 64, 384  # pixels of a side, width of MiniLM


def vision_transformer(stem: Sequence[int], layers: int, heads: int) -> tuple[Any, Any]:
    """Return a tower with fresh weights, as wide as its stem's last convolution, and its config. The mean of its tokens is read."""
    from transformers import ViTConfig

    config = ViTConfig(
        hidden_size=stem[-1],
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * stem[-1],
        image_size=SIZE,
        patch_size=2 ** len(stem),
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    config.architectures = ["ViTModel"]
    tower = image_model(config, stem)
    tower.pooler = None
    return tower, config


def embed(texts: Sequence[str]) -> Tensor:
    """Return MiniLM's normalised features ``(num_texts, 384)``."""
    frozen = load_frozen(TEXT, kind="encoder")
    ordered = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = torch.empty(len(texts), DIM)
    with torch.no_grad():
        for begin in range(0, len(ordered), 256):
            which = ordered[begin : begin + 256]
            given = frozen.tokenizer([texts[i] for i in which], return_tensors="pt", padding=True, truncation=True, max_length=32)
            found[which] = F.normalize(pooled(frozen.model(**given), given.attention_mask, "mean"), dim=-1)
    return found


def hue(angle: Tensor) -> Tensor:
    """Return ``(batch, 3, 3)`` turns of colours about the grey axis by radians."""
    cos, sin = angle.cos(), angle.sin() / math.sqrt(3)
    same, up, down = cos + (1 - cos) / 3, (1 - cos) / 3 + sin, (1 - cos) / 3 - sin
    return torch.stack([torch.stack([same, down, up], 1), torch.stack([up, same, down], 1), torch.stack([down, up, same], 1)], 1)


def save(folder: Path, tower: Any, config: Any, projection: nn.Linear, logit_scale: float, stem: Sequence[int]) -> None:
    """Write the pair as `maao` reads it, weights in fp16."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = {f"vision.{name}": value for name, value in tower.state_dict().items()} | {"image_projection.weight": projection.weight}
    save_file({name: value.detach().half().contiguous() for name, value in weights.items()}, folder / "model.safetensors")
    config.save_pretrained(folder)
    about = {
        "format": "maao-dual-encoder",
        "version": 1,
        "text": {"name": TEXT, "pooling": "mean"},
        "vision": {"name": ".", "pooling": "mean", "stem": list(stem)},
        "embed_dim": DIM,
        "logit_scale": round(logit_scale, 6),
        "image": {"size": SIZE, "mean": [0.5] * 3, "std": [0.5] * 3, "resample": "bicubic"},
    }
    (folder / "dual_encoder.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")

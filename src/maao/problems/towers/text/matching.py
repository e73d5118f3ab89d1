"""Dual encoders whose inputs are texts: one sentence encoder that reads both sides, or a pair of two.

A pair is a folder with ``dual_encoder.json``, as for pictures: ``text`` names what reads the classes and ``input`` what reads the inputs,
each with its pooling where it does not say its own. Where their features differ in width, ``model.safetensors`` holds
``text_projection.weight`` and ``input_projection.weight``, ``(embed_dim, width)`` each, onto a common space; one of them alone is enough
where the other encoder's own space is the common one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from maao.errors import ModelError
from maao.problems.towers.dual import DualEncoder
from maao.problems.towers.pooling import POOLINGS, Pooling
from maao.problems.towers.text.loading import model_file
from maao.problems.towers.text.sentence import TWO_THIRDS, HiddenLayers, SentenceEncoder, load_sentence_encoder
from maao.progress import job

PAIR = "dual_encoder.json"
SCALE = 20.0  # what sentence-transformers trains with (MultipleNegativesRankingLoss)


@job("loading the model")
def load_text_matcher(
    name: str,
    *,
    pooling: Pooling | None = None,
    max_length: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    revision: str | None = None,
    hidden_layers: HiddenLayers = (),
    trust_remote_code: bool = False,
) -> DualEncoder:
    """Load a frozen dual encoder of texts.

    Args:
        name: a hub name or folder of any text encoder, "packaged:all-minilm-l6-v2", or a folder with ``dual_encoder.json``.
        pooling: of an encoder that does not say its own.
        max_length: tokens of an input and of a class text.
        hidden_layers: of the encoder, whose states stand beside its own vector. Of a pair there are none: their layers have no space in
            common.

    Raises:
        ModelError: nothing of that name, weights that are missing, or two encoders whose features do not meet.
    """
    about = model_file(name, PAIR, revision)
    if about is not None:
        if hidden_layers not in ((), TWO_THIRDS):
            raise ModelError(f"{name} is a pair of two encoders, whose hidden layers have no space in common: drop model.hidden_layers.")
        return _pair(about.parent, name, max_length=max_length, device=device, dtype=dtype)
    encoder = load_sentence_encoder(
        name,
        pooling=pooling,
        max_length=max_length,
        device=device,
        dtype=dtype,
        revision=revision,
        hidden_layers=hidden_layers,
        trust_remote_code=trust_remote_code,
    )
    return matcher_of(encoder, encoder, name, revision=revision)


def matcher_of(
    classes: SentenceEncoder, inputs: SentenceEncoder, name: str, *, scale: float = SCALE, revision: str | None = None
) -> DualEncoder:
    """Return the dual encoder in which `classes` reads the texts of the classes and `inputs` what is classified.

    Raises:
        ModelError: their features have different widths.
    """
    if classes.embed_dim != inputs.embed_dim:
        raise ModelError(
            f"{name}: the features of classes have width {classes.embed_dim}, and those of inputs {inputs.embed_dim}, so there is no "
            "cosine between them: give text_projection.weight or input_projection.weight in model.safetensors."
        )
    notes = tuple(
        f"every text that {encoder.name} reads begins with {encoder.reading.prompt!r}, as it says itself"
        for encoder in dict.fromkeys((classes, inputs))
        if encoder.reading.prompt
    )
    alike = classes is inputs
    held: nn.Module = inputs.modules if alike else nn.ModuleDict({"classes": classes.modules, "inputs": inputs.modules})
    return DualEncoder(
        name,
        classes.classes,
        inputs.inputs,
        scale,
        inputs.embed_dim,
        None,
        held,
        revision,
        trains_scale=True,
        notes=notes,
        own_dim=inputs.own_dim,
    )


def _pair(folder: Path, name: str, *, max_length: int | None, device: str, dtype: str) -> DualEncoder:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        about = json.loads((folder / PAIR).read_text(encoding="utf-8"))
        weights = load_file(folder / "model.safetensors") if (folder / "model.safetensors").is_file() else {}
        scale = math.exp(float(about["logit_scale"])) if "logit_scale" in about else SCALE
        sides = [dict(about[key]) for key in ("text", "input")]
        names = [_named(folder, str(side["name"])) for side in sides]
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ModelError(f"{folder / PAIR} or what it names cannot be read: {type(error).__name__} {error}.") from error
    both = [
        _side(place, side, weights.get(f"{key}_projection.weight"), max_length, device, dtype, folder)
        for key, place, side in zip(("text", "input"), names, sides, strict=True)
    ]
    return matcher_of(both[0], both[1], name, scale=scale)


def _named(folder: Path, name: str) -> str:
    return str(folder / name) if (folder / name).is_dir() else name


def _side(
    name: str, about: Mapping[str, Any], projection: Tensor | None, max_length: int | None, device: str, dtype: str, folder: Path
) -> SentenceEncoder:
    """Return one encoder of a pair, projected onto the common space."""
    pooling = about.get("pooling")
    if pooling is not None and pooling not in POOLINGS:
        raise ModelError(f"{folder / PAIR}: unknown pooling '{pooling}'. Known: {', '.join(POOLINGS)}.")
    own = None if projection is None else projection.float()
    return load_sentence_encoder(name, pooling=pooling, max_length=max_length, device=device, dtype=dtype, projection=own)

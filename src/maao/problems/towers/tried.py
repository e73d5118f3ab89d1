"""Text towers are tried before they are used: what a model makes of a text must not depend on what is read beside it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from maao.errors import ModelError
from maao.problems.towers.class_prompts import Prompt
from maao.problems.towers.dual import TextTower

PROBES = ("a", "a photo of a small dog")  # texts of unequal length
NEAR = 1e-4  # how far features of length one may lie apart by rounding


def reads_alike(text: TextTower, name: str, own: Callable[[str], Tensor] | None = None) -> None:
    """Try a text tower on texts of unequal length: each alone must be as the model itself has it (`own`), and as beside the other.

    Where a tower's answer depends on padding, its texts are run by length from then on.

    Raises:
        ModelError: a text alone is not what the model itself makes of it.
    """
    prompts = [Prompt(tuple(text.tokenizer(words, truncation=True, max_length=text.most).input_ids)) for words in PROBES]
    if (largest := max(max(prompt.ids) for prompt in prompts)) >= len(text.table):
        raise ModelError(
            f"{name}: its tokenizer gives the token {largest}, and the text tower knows {len(text.table)}: they do not belong together."
        )
    with torch.no_grad():
        alone = torch.cat([text.features([prompt]) for prompt in prompts])
        if own is not None:
            theirs = torch.cat([own(words) for words in PROBES])
            if (apart := float((alone - theirs).abs().max())) > NEAR:
                raise ModelError(
                    f"{name}: the features of a text differ from those that the model itself gives by {apart:.2g}. "
                    "Where it reads a text's end "
                    "(eos_token_id) or its tokenizer pads (padding_side, pad_token) is probably set otherwise than it was trained."
                )
        text.by_length = float((text.features(prompts) - alone).abs().max()) > NEAR
        if text.by_length and float((text.features(prompts) - alone).abs().max()) > NEAR:
            raise ModelError(f"{name}: the features of a text depend on which texts are read beside it, so they cannot be relied on.")


def heeds_slots(text: TextTower, name: str) -> None:
    """Try whether what stands in the slots reaches the features.

    Raises:
        ModelError: it changes nothing, so that nothing could be tuned there.
    """
    ids = tuple(text.tokenizer(PROBES[1], truncation=True, max_length=text.most).input_ids)
    with torch.no_grad():
        plain = text.features([Prompt(ids)])
        changed = text.features([Prompt(ids, tuple(range(len(ids))))], torch.zeros(len(ids), text.width))
    if torch.equal(plain, changed):
        raise ModelError(f"{name} pays no heed to its input embeddings. A soft prompt has no place in it: choose another model.")

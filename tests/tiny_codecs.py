"""The nearest-token codec over a random table, and points to put into words."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from maao.codecs.nearest_token import NearestTokenCodec
from tests.tiny import bpe_tokenizer, roberta_tokenizer, wordpiece_tokenizer

TOKENIZERS = {"bpe": bpe_tokenizer, "roberta": roberta_tokenizer, "wordpiece": wordpiece_tokenizer}
WIDTH = 24
ROWS = 5


def nearest_codec(kind: str = "bpe", **options: Any) -> NearestTokenCodec:
    tokenizer = TOKENIZERS[kind]()
    table = torch.randn(len(tokenizer), WIDTH, generator=torch.Generator().manual_seed(0))
    return NearestTokenCodec(tokenizer, table, **{"num_virtual_tokens": ROWS, **options})


def point(seed: int) -> dict[str, Tensor]:
    return {"prompt": torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(seed))}

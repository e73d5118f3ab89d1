"""Every codec, through the suite that is shipped to authors. A new codec joins by one row: the codec, texts, and points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from experiments.paper.released import ReleasedCodec
from maao.codecs.fluent import FluentCodec, causal_log_probs
from maao.codecs.nearest_token import NearestTokenCodec
from maao.codecs.numbers import NumberCodec
from maao.testing import CodecConformance
from tests.conformance.parts import kept_problem
from tests.tiny import bpe_tokenizer, roberta_tokenizer, tiny_model, wordpiece_tokenizer

PROSE = (
    "topic of the news",
    "music",
    "the market was good and the bank is bad",  # longer than there are rows
    "  sport \n and  world ",
    "Topic: It was great!",
    "unbelievable",  # in pieces that are no words of their own
    "pre-election e-mail, 24/7",
)


@dataclass(frozen=True)
class Row:
    name: str
    codec: Any
    texts: tuple[str, ...]
    points: tuple[Any, ...]


def numbers(dim: int, digits: int) -> Row:
    points = tuple({"x": torch.randn(dim, generator=torch.Generator().manual_seed(i), dtype=torch.float64) * 10**i} for i in range(5))
    texts = (" ".join(["-0.5"] * dim), " ".join(["1e-3"] * dim), ", ".join(["2.00049"] * dim))
    return Row(f"numbers {dim}", NumberCodec(dim, digits), texts, points)


def tokens(kind: str, distance: Any, length: Any) -> Row:
    tokenizer = {"bpe": bpe_tokenizer, "roberta": roberta_tokenizer, "wordpiece": wordpiece_tokenizer}[kind]()
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(len(tokenizer), 32, generator=generator)
    points = tuple({"prompt": torch.randn(5, 32, generator=generator)} for _ in range(6))
    codec = NearestTokenCodec(tokenizer, table, num_virtual_tokens=5, length=length, distance=distance)
    texts = PROSE if kind != "wordpiece" else tuple(text for text in PROSE if text.isascii() and not set("-/,!:24") & set(text))
    return Row(f"{kind} {distance} {length}", codec, texts, points)


def over(made: Row, name: str, codec: Any) -> Row:
    """Another codec that stands on a row's own."""
    return Row(f"{name} over {made.name}", codec(made.codec), made.texts, made.points)


def method(name: str, model: dict[str, Any]) -> Row:
    """The codec of a prompt method's params, and of what a proposal fills beside them."""
    problem = kept_problem("llama", "{text} {slots} Topic:", model=model)
    points = tuple(problem.initial(seed) for seed in range(3))
    return Row(name, problem.codec, ("topic of the news", "music"), points)


ROWS = [
    numbers(1, 3),
    numbers(3, 2),
    method("prompt tuning", {}),
    method("p-tuning", {"method": "p_tuning"}),
    method("prefix tuning", {"method": "prefix_tuning"}),
    *(tokens("bpe", distance, length) for distance in ("cosine", "l2", "dot") for length in ("fixed", "free")),
    *(tokens("wordpiece", distance, length) for distance in ("cosine", "l2", "dot") for length in ("fixed", "free")),
    tokens("roberta", "cosine", "fixed"),
    *(
        over(tokens("bpe", "cosine", length), name, codec)
        for length in ("fixed", "free")
        for name, codec in (
            ("fluent", lambda nearest: FluentCodec(nearest, causal_log_probs(tiny_model("llama").model), context="the news")),
            ("released", ReleasedCodec),
            ("released, few ids", lambda nearest: ReleasedCodec(nearest, narrow_vocabulary=True)),
        )
    ),
]


class TestCodecConformance(CodecConformance):
    @pytest.fixture(params=ROWS, ids=lambda row: row.name)
    def row(self, request):
        return request.param

    @pytest.fixture
    def codec(self, row):
        return row.codec

    @pytest.fixture
    def texts(self, row):
        return row.texts

    @pytest.fixture
    def points(self, row):
        return row.points

"""Every chat model that can be asked without a network, through the suite that is shipped to authors. A new provider joins by one row."""

from __future__ import annotations

from pathlib import Path

import pytest

from maao import choices
from maao.llm.provider import Here
from maao.testing import ChatModelConformance
from tests.tiny import tiny_model

MODELS = [  # the provider, its settings, and the style in which it is asked
    ("scripted", {"replies": ["music", "sport"]}, "chat"),
    ("scripted", {"replies": ["music", "sport"]}, "completion"),
    ("batch", {"name": "m", "replies": str(Path(__file__).with_name("replies.jsonl"))}, "chat"),  # on record: what the suite asks
    ("local", {}, "completion"),
]


class TestChatModelConformance(ChatModelConformance):
    @pytest.fixture(params=MODELS, ids=lambda row: f"{row[0]} {row[2]}")
    def row(self, request):
        return request.param

    @pytest.fixture
    def model(self, row):
        provider, settings, _ = row
        return choices.load("chat", provider)(**settings).build(Here("tiny", lambda name: tiny_model("llama")))

    @pytest.fixture
    def style(self, row):
        return row[2]

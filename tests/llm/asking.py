"""The request that tests of chat models ask."""

from __future__ import annotations

from typing import Any

from maao.llm.chat import Message, Request


def ask(text: str = "hi", **settings: Any) -> Request:
    return Request("m", (Message("user", text),), **settings)

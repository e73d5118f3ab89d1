"""A stand-in for a provider, in a process of its own: it answers slowly, always the same to the same, and writes down what it answered."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cases.provider_server import Step, chat, http, serving

SECONDS = 0.04  # what an answer takes, in two halves
WORDS = ("market", "economy", "bank", "team", "coach", "goal", "album", "song", "film", "star", "news", "label", "topic", "good", "great")
LINES = "lines"  # the model that says lines of classes


def answer(asked: str, model: str) -> str:
    """Return what is said to a text, another to each: three lists of four words, or lines of the classes that it names."""
    chance = random.Random(hashlib.sha256(asked.encode()).digest())
    if model != LINES:
        return "\n".join(f"{number}. {' '.join(chance.choices(WORDS, k=4))}" for number in (1, 2, 3))
    labels = [label for label in ("business", "music", "sport") if re.search(rf"\b{label}\b", asked)]
    return json.dumps({label: {"examples": [" ".join(chance.choices(WORDS, k=5)) for _ in range(2)]} for label in labels})


@dataclass(frozen=True)
class Provider:
    base_url: str
    served: Path

    def answered(self) -> list[str]:
        """Return all that was answered, or begun to be, in order."""
        return [json.loads(line) for line in self.served.read_text(encoding="utf-8").splitlines()] if self.served.exists() else []

    def settings(self, model: str = "texts") -> dict[str, Any]:
        return {
            "provider": "openai", "name": model, "base_url": self.base_url, "api_key_env": "", "attempts": 2, "first_pause": 0.0,
            "usd_per_million_input": 1.0, "usd_per_million_output": 1.0,
        }  # fmt: skip


@contextmanager
def provider(folder: Path) -> Iterator[Provider]:
    """Serve from a fork of this process, whose threads are then no matter of those who fork others."""
    served = folder / "served.jsonl"
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reader)
        _serve(served, writer)
    os.close(writer)
    with os.fdopen(reader) as told:
        base_url = told.readline().strip()
    try:
        yield Provider(base_url, served)
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def _serve(served: Path, writer: int) -> None:
    def play(body: dict[str, Any], number: int) -> Sequence[Step]:
        text = answer(json.dumps(body, sort_keys=True), body["model"])
        with served.open("a", encoding="utf-8") as file:
            file.write(json.dumps(text) + "\n")
        whole = http(chat(text))
        return [SECONDS / 2, whole[: len(whole) // 2], SECONDS / 2, whole[len(whole) // 2 :]]

    with serving() as server:
        server.play = play
        os.write(writer, f"{server.base_url}\n".encode())
        signal.pause()

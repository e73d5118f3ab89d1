"""Small whole runs: a tiny model on the disk, made-up headlines, a scripted language model as the mentor."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import maao
from maao.config import Config, make_config, without_unread
from maao.types import Example
from tests.tiny import LABELS, tiny_splits

REPLIES = [
    "1. music team bank\n2. the news of the world",
    '1. "sport and music"\n2. business news',
    "Sure! Here are two:\n- label of the text\n- topic of the news",
]


# A chat model elsewhere; nobody is ever called.
KEY_NAME = "A_KEY_FOR_TESTS"
REMOTE = {"provider": "openai", "name": "big", "base_url": "https://models.example.com/v1", "api_key_env": KEY_NAME}


def examples(split: str) -> list[Example]:
    return list(getattr(tiny_splits(), split))


def pairs(split: str) -> list[tuple[str, str]]:
    return [(example.fields["text"], example.label) for example in examples(split)]


def write_csv(path: Path, rows: list[tuple[str, str]], separator: str = ",") -> Path:
    return write_table(path, ["text", "label"], rows, separator)


def write_table(path: Path, header: list[str], rows: list[tuple[str, str]], separator: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def write_data(folder: Path) -> dict[str, str]:
    """Write the three splits as CSV files; return the data section that names them."""
    return {name: str(write_csv(folder / f"{name}.csv", pairs(name))) for name in ("train", "select", "test")}


def values(model: Path, data: dict[str, Any], /, **changes: Any) -> dict[str, Any]:
    """Return the settings of a small run: 4 legs, of which 2 ask. `changes` by dotted key with `__` for the dots.

    What nothing reads then is left out.
    """
    found: dict[str, Any] = {
        "threads": 1,
        "baselines": [],
        "model": {"name": str(model), "num_virtual_tokens": 4, "template": "{text} {slots} Topic:"},
        "data": dict(data),
        "stage": {"batch_size": 8},
        "plan": {"rounds": 2, "steps": 4, "store_every": 2, "proposals": 2, "first": "ask"},
        "accept": {"rule": "race", "steps": 2},
        "mentor": {"retries": 0, "chat": {"provider": "scripted", "replies": REPLIES}},
    }
    for key, value in changes.items():
        node = found
        *parents, last = key.split("__")
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = value
    without_unread(found, [key.replace("__", ".") for key in changes])
    return found


def config(model: Path, data: dict[str, Any], /, **changes: Any) -> Config:
    return make_config(values(model, data, **changes))


def to_toml(settings: dict[str, Any], prefix: str = "") -> str:
    """Return nested settings as TOML."""
    import json

    lines = [
        f"{key} = {json.dumps(value, ensure_ascii=False)}"
        for key, value in settings.items()
        if not isinstance(value, dict)  # JSON's scalars and lists of scalars are TOML's
    ]
    for key, value in settings.items():
        if isinstance(value, dict):
            lines += [f"\n[{prefix}{key}]", to_toml(value, f"{prefix}{key}.")]
    return "\n".join(lines)


def write_config(folder: Path, settings: dict[str, Any]) -> Path:
    path = folder / "config.toml"
    path.write_text(to_toml(settings), encoding="utf-8")
    return path


def digests(result: Any) -> list[str]:
    """Return what two equal runs agree in: the hash of each round, and the final parameters'."""
    from maao.optimizers.serializer import TorchSerializer
    from maao.store.digest import round_digest

    return [*(round_digest(r, TorchSerializer()) for r in result.history), result.digest]


class StopAt(maao.Watch):
    """Interrupts a run once the round with this number is stored."""

    def __init__(self, index: int) -> None:
        self.index = index

    def round(self, finished: Any) -> None:
        if finished.index == self.index:
            raise KeyboardInterrupt


class Notes(maao.Watch):
    """Keeps what there is to note about a run as it begins."""

    notes: tuple[str, ...] = ()

    def started(self, parts: Any, asked: Any, folder: Path, done: Any) -> None:
        self.notes = parts.notes


__all__ = [
    "KEY_NAME",
    "LABELS",
    "REMOTE",
    "REPLIES",
    "Notes",
    "StopAt",
    "config",
    "digests",
    "examples",
    "pairs",
    "to_toml",
    "values",
    "write_config",
    "write_csv",
    "write_data",
    "write_table",
]

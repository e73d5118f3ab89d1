"""Tokenized examples, kept in the user's cache by the hash of all they follow from.

Long texts are cut by trying, and every run of a comparison would tokenize its thousands of examples anew. Small sets are not
kept: reading them back would take as long. What cannot be read or written is done without: a cache is never needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from maao.problems.towers.text.loading import cache_folder
from maao.problems.towers.text.template import TemplateTokenizer, Tokenized
from maao.types import JSON, Example

FEWEST = 200  # examples that are worth keeping
FORM = "v2"  # raise when `Tokenized` or what a template means changes


def tokenize_all(tokenizer: TemplateTokenizer, examples: Sequence[Example], *, fewest: int = FEWEST) -> tuple[Tokenized, ...]:
    """Return the inputs of examples, read from the cache where they are there. A tokenizer that cannot be told from others keeps none."""
    if len(examples) < fewest or tokenizer.identity is None:
        return tuple(map(tokenizer.example, examples))
    file = cache_folder() / "tokenized" / f"{_key(tokenizer, examples)}.json"
    kept = _read(file, len(examples))
    if kept is not None:
        return kept
    made = tuple(map(tokenizer.example, examples))
    _write(file, made)
    return made


def _key(tokenizer: TemplateTokenizer, examples: Sequence[Example]) -> str:
    """Return a hash of the tokenizer, the template, the room for a text, and the examples."""
    digest = hashlib.sha256(f"{FORM}\n{tokenizer.identity}\n".encode())
    for example in examples:
        digest.update(json.dumps([dict(example.fields), list(example.choices)]).encode())
    return digest.hexdigest()[:32]


def _read(file: Path, count: int) -> tuple[Tokenized, ...] | None:
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        found = tuple(map(_row, rows))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return found if len(found) == count else None


def _row(values: JSON) -> Tokenized:
    return Tokenized(
        tuple(values["before"]),
        tuple(values["after"]),
        values["cut"],
        values["mask_at"],
        values["second"],
        tuple(map(tuple, values["words"])),
        tuple(map(_row, values["choices"])),
    )


def _write(file: Path, rows: Sequence[Tokenized]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".writing-", dir=file.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                json.dump([asdict(row) for row in rows], out)
            os.replace(name, file)
        except OSError:
            Path(name).unlink(missing_ok=True)
    except OSError:
        return

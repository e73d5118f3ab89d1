"""What a run came to, as hashes: equal for equal runs."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import maao
from maao.config import make_config
from maao.types import JSON, Clues


def outcome(settings: JSON, folder: Path) -> JSON:
    """Run a config into a folder; return what another version must come to as well, seconds apart."""
    result = maao.run(make_config(settings), folder)
    history = result.history
    cost = asdict(result.cost)
    del cost["seconds"]
    advice = [
        ([(p.text, sorted(p.fields.items()), p.note) for p in r.advice.proposals], [x.text for x in r.advice.rejected]) for r in history
    ]
    return {
        "params": result.digest,
        "finals": {name: _hash((final.score.loss, sorted(final.score.metrics.items()))) for name, final in result.finals.items()},
        "losses": _hash([(r.score.loss, [seen.loss for seen in r.observations]) for r in history]),
        "advice": _hash(advice),
        "verdicts": _hash([(r.verdict.chosen, [(c.proposal, c.score.loss, c.age) for c in r.verdict.considered]) for r in history]),
        "clues": _hash([_told(r.clues) for r in history]),
        "cost": cost,
    }


def _told(clues: Clues) -> object:
    words = clues.projection.text if clues.projection else None
    tokens = [
        [(token.text, token.similarity) for token in row] for kind in (clues.nearest, clues.gradient, clues.displacement) for row in kind
    ]
    return words, tokens


def _hash(value: object) -> str:
    return hashlib.sha256(repr(value).encode("utf-8", "surrogatepass")).hexdigest()[:16]

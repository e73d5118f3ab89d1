"""What commands print as JSON (docs/commands.md): one document each, of plain data; what is no finite number is null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from maao.baselines.headroom import Headroom
from maao.report.story import ending_of, story
from maao.result import Result
from maao.store.listing import RunSummary
from maao.types import JSON, P, Round, S, Score


def dumped(held: JSON) -> str:
    """Return a document as text.

    Example:
        >>> print(dumped({"loss": float("nan"), "labels": ("a", "b")}))
        {
         "loss": null,
         "labels": [
          "a",
          "b"
         ]
        }
    """
    return json.dumps(finite(held), ensure_ascii=False, indent=1, allow_nan=False, default=str)


def finite(value: object) -> object:
    """Return a value for JSON, which knows no NaN and no infinities: None stands for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: finite(inner) for name, inner in value.items()}
    return [finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def run_document(result: Result) -> JSON:
    """Return what a run came to: its story, its figures and its rounds. Loads no model and no data."""
    ending, beside, begun = ending_of(result), result.baselines, bool(result.history)
    gains = {} if beside is None else {"over_baseline": beside.gain, "over_untuned": beside.over_untuned}
    return {
        "run": str(result.folder),
        "status": result.status,
        "status_reason": result.status_reason,
        "warning": result.warning if begun else "",
        "story": [asdict(said) for said in story(ending)],
        "troubles": [asdict(one) for one in result.troubles],
        "judged": result.where_judged,
        "chosen": {"round": result.chosen.index, **_score(result.chosen.score), "text": result.text} if begun else None,
        "test": {name: {**_score(final.score), "text": final.text} for name, final in result.finals.items()},
        "gain": {name: None if gain is None else asdict(gain) for name, gain in gains.items()},
        "baselines": [] if beside is None else beside.to_json()["baselines"],
        "baselines_on": None if beside is None else beside.where,
        "left_out": [] if beside is None else list(beside.left_out),
        "mentor": asdict(ending.mentor),
        "rounds": [_round(r) for r in result.history],
        "learning_rate": None if result.lr_search is None else result.lr_search.to_json(),
        "thresholds": None if result.thresholds is None else result.thresholds.to_json(),
        "cost": asdict(result.cost),
        "unanswered": asdict(result.unanswered),
        "sent": None if result.sent is None else asdict(result.sent),
        "labels": list(result.environment["labels"]),
        "params": result.digest if begun else None,
    }


def _score(score: Score) -> JSON:
    return {
        "loss": score.loss,
        "metrics": dict(score.metrics),
        "num_examples": score.num_examples,
        "unread": score.unread,
        "always": score.always,
    }


def _round(r: Round[P, S]) -> JSON:
    looked = {c.proposal: c for c in r.verdict.considered}
    proposals = [
        {
            "text": proposal.text,
            "fields": dict(proposal.fields),
            "source": proposal.source,
            "loss": looked[i].score.loss if i in looked else None,
            "age": looked[i].age if i in looked else None,
            "accepted": r.verdict.chosen == i,
        }
        for i, proposal in enumerate(r.advice.proposals)
    ]
    return {
        "round": r.index,
        "step": r.state.step,
        **_score(r.score),
        "words": r.clues.projection.text if r.clues.projection else "",
        "asked": r.leg.ask,
        "proposals": proposals,
        "rejected": [asdict(one) for one in r.advice.rejected],
        "verdict": r.verdict.reason,
        "cost": asdict(r.cost),
    }


def clues_document(result: Result) -> list[JSON]:
    """Return what was said in words about every round."""
    return [
        {
            "round": r.index,
            "words": None if r.clues.projection is None else r.clues.projection.text,
            "gap": None if r.clues.projection is None else r.clues.projection.gap,
            "gradient": [[token.text for token in slot] for slot in r.clues.gradient],
            "displacement": [[token.text for token in slot] for slot in r.clues.displacement],
            "confusions": [asdict(one) for one in r.clues.confusions],
            "misclassified": [asdict(one) for one in r.clues.misclassified],
            "self_continuation": r.clues.self_continuation,
        }
        for r in result.history
    ]


def runs_document(summaries: Sequence[RunSummary], folder: object) -> JSON:
    """Return the runs of a folder."""
    return {"folder": str(folder), "runs": [{**asdict(summary), "path": str(summary.path)} for summary in summaries]}


def headroom_document(found: Headroom) -> JSON:
    """Return what tuning from random starts gains."""
    mean, low, high = found.tuning
    return {
        "steps": found.steps,
        "prior": found.prior,
        "majority": found.majority,
        "zero_shot": None if found.zero_shot is None else _score(found.zero_shot),
        "untuned": [_score(score) for score in found.untuned],
        "tuned": [_score(score) for score in found.tuned],
        "gained": {"mean": mean, "low": low, "high": high},
        "told": found.told(),
        "cost": asdict(found.cost),
    }

"""What the candidates of a finished run are worth on `test`: how far any choice among them could have come.

It is read when everything is chosen, and chooses nothing.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

from maao.baselines.outcome import Figures, spent
from maao.compare.rows import Each, Walked
from maao.core.candidates import candidates
from maao.core.loop import best_round
from maao.core.scoring import score_all
from maao.runner import rebuild
from maao.sharing import shared_stage
from maao.store.digest import params_digest
from maao.stored_run import open_run, torch_serializer
from maao.types import Cost, Score


def walked_on_test(folder: Path) -> Walked | None:
    """Return what the candidates of a finished run are worth on `test`; None where it has none.

    Candidates are those that the races of the run compared, each where it was compared, and the point that is reported, once. They are
    walked again from what is stored, so that it does not matter who made the run, and nothing in its folder changes.

    Raises:
        StoreError: the run cannot be rebuilt.
        ProblemError: its walks come out otherwise than they are on record.
    """
    began = time.perf_counter()
    with open_run(folder, write=False) as stored:
        history, finals = stored.history(), {final.name: final.score for final in stored.finals()}
        if "chosen" not in finals:
            return None
        parts = rebuild(stored)
    found, cost = candidates(parts.problem, shared_stage(parts), parts.accept, history, seed=parts.config.seed)
    reported = best_round(history)
    digests = [params_digest(point, torch_serializer()) for point in (reported.state.params, *(c.params for c in found))]
    scores = score_all(parts.problem, [c.params for c in found], "test")
    each = []
    for c, score, digest in zip(found, scores, digests[1:], strict=True):
        proposed = None if c.proposal is None else history[c.leg].advice.proposals[c.proposal]
        source = "incumbent" if proposed is None else proposed.mentor or proposed.source or parts.config.mentor.name
        is_final = digest == digests[0]
        on_test = finals["chosen"] if is_final else score  # one point, one figure: read with others it may differ in its last bits
        each.append(_each(c.leg, c.proposal, source, c.age, c.score, on_test, chosen=c.chosen, final=is_final))
    if digests[0] not in digests[1:]:
        each.append(_each(reported.index, None, "final", reported.state.age, reported.score, finals["chosen"], chosen=True, final=True))
    cost += sum((score.cost for score in scores), Cost(seconds=time.perf_counter() - began))
    return Walked(
        count=len(each),
        mean={name: sum(_figures(one)[name] for one in each) / len(each) for name in ("accuracy", "loss")},
        best=_figures(min(each, key=lambda one: (-one.accuracy, _worth(one)))),
        best_by_loss=_figures(min(each, key=lambda one: (_worth(one), -one.accuracy))),
        each=each,
        cost=spent(cost),
    )


def _each(leg: int, proposal: int | None, source: str, age: int, select: Score, test: Score, *, chosen: bool, final: bool) -> Each:
    judged = None if math.isnan(select.loss) else select.loss
    return Each(
        leg=leg,
        proposal=proposal,
        source=source,
        age=age,
        accuracy=test.metrics["accuracy"],
        loss=test.loss,
        select_loss=judged,
        chosen=chosen,
        final=final,
    )


def _figures(one: Each) -> Figures:
    return {"accuracy": one.accuracy, "loss": one.loss}


def _worth(one: Each) -> float:
    return one.loss if math.isfinite(one.loss) else math.inf

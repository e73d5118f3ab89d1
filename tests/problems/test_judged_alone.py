"""Class lines judged by themselves: no label trains, all labels judge, and what is there without lines is walked as far."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from maao.core.acceptance import Race
from maao.core.alone import NONE_LEFT, judged_alone
from maao.members import fold_name
from maao.optimizers.torch import TorchStage
from maao.problems.cross_validated import CrossValidated
from maao.problems.lined import lined, lines_of, says_nothing
from maao.types import Proposal
from tests.problems.test_lined import ANCHOR, CLASS_EXAMPLES, FIELDS, WORDINGS, folded, residual, said, slow_start, text_features
from tests.tiny import LABELS, tiny_splits
from tests.tiny_sentence import tiny_matcher

STEPS, LONG, LR = 3, 100, 2.0  # after long even the features of a random tower tell right lines from wrong ones
STAGE = TorchStage(optimizer="SGD", lr=LR, max_grad_norm=None)


def folds() -> CrossValidated:
    return CrossValidated(lined(residual(folded(tiny_splits(2))), 0, whole=True))


def saying(shift: int = 0) -> dict[str, str]:
    """Return lines that are nearly the labelled texts, each under its own class, or so many classes on."""
    texts = {label: [e.fields["text"] for e in tiny_splits(2).train if e.label == label] for label in LABELS}
    moved = {LABELS[(i + shift) % len(LABELS)]: texts[label] for i, label in enumerate(LABELS)}
    return {**{f"examples.{label}": "\n".join(f"{text}." for text in own) for label, own in moved.items()}, "lines_weight": "0.5"}


def proposal(made: CrossValidated, fields: dict[str, str]) -> Proposal[Any]:
    return Proposal("", made.codec.encode("", fields).params, "script", fields=fields)


# -- a slow computation: row after row, by the formulas alone


def slow_loss_of_labels(weight: Any, bias: Any) -> float:
    found = []
    for example in folded(tiny_splits(2)).train:
        scores = weight @ text_features([example.fields["text"]])[0].numpy() + bias
        found.append(np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[LABELS.index(example.label)])
    return float(np.mean(found))


def slow_walk() -> float:
    """Return the loss of all labels after a walk on lines and class texts alone, every line at half the weight of an example."""
    rows = [(text, label, 0.5) for label in LABELS for text in said(label)]
    weights = {text: weight for text, _, weight in rows}
    rows += [(wording.replace("{class}", label), label, CLASS_EXAMPLES) for label in LABELS for wording in WORDINGS]
    start = np.stack([slow_start(label, (), weights).numpy() for label in LABELS])
    scale, total = tiny_matcher().scale / 2, sum(weight for _, _, weight in rows)
    moved, bias = np.zeros_like(start), np.zeros(len(LABELS))
    for _ in range(STEPS):
        slope, bias_slope = ANCHOR * moved, np.zeros_like(bias)
        for text, label, weight in rows:
            feature = text_features([text])[0].numpy()
            scores = (scale * start + moved) @ feature + bias
            pull = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
            pull[LABELS.index(label)] -= 1
            slope, bias_slope = slope + weight * np.outer(pull, feature), bias_slope + weight * pull
        moved, bias = moved - LR * slope / total, bias - LR * bias_slope / total
    return slow_loss_of_labels(scale * start + moved, bias)


def test_the_losses_are_those_of_a_slow_computation() -> None:
    made = folds()
    found = judged_alone(made, STAGE, [proposal(made, FIELDS)], STEPS, seed=0)
    names = np.stack([slow_start(label, (), {}).numpy() for label in LABELS]) * tiny_matcher().scale
    with_them, without = slow_walk(), slow_loss_of_labels(names, np.zeros(len(LABELS)))
    told = re.fullmatch(r"trained on no label log-loss (\S+) with them, (\S+) without", found.told)
    assert told is not None and list(map(float, told.groups())) == pytest.approx([with_them, without], abs=0.002)
    assert bool(found.left) == (with_them < without) or abs(with_them - without) < 0.002
    assert found.cost.gradient_steps == 2 * STEPS and found.cost.scored_examples == 2 * len(made.splits.train)


def test_lines_that_know_less_than_the_names_are_not_raced() -> None:
    made = folds()
    wrong, right = proposal(made, saying(1)), proposal(made, saying())
    start = STAGE.init(made, made.initial(0), seed=0)
    race = Race(STEPS, alone=LONG)
    verdict = race(made, STAGE, (), start, [wrong, right], seed=0)
    alone = Race(STEPS)(made, STAGE, (), start, [right], seed=0)  # what is left is raced as ever, and told by its own place
    assert {c.proposal for c in verdict.considered} == {None, 1}
    assert verdict.chosen == (None if alone.chosen is None else 1) and verdict.reason.startswith(alone.reason)
    assert "; trained on no label log-loss " in verdict.reason
    left_out = race(made, STAGE, (), start, [wrong], seed=0)
    assert left_out.chosen is None and left_out.state is start and not left_out.considered
    assert left_out.reason.startswith(f"{NONE_LEFT}; trained on no label log-loss ")
    assert left_out.cost.gradient_steps == 2 * LONG
    read = made.prefill_cost([wrong.params], []).model_tokens  # lines that are left out were read, too
    assert left_out.cost.model_tokens >= read > 0
    assert left_out.cost.model_tokens - read == judged_alone(made, STAGE, [right], LONG, seed=0).cost.model_tokens
    assert verdict.cost.gradient_steps == 2 * 2 * LONG + alone.cost.gradient_steps
    assert verdict.cost.gradient_steps <= race.max_steps(2) + STEPS  # and the incumbent's own way to the age of the race


def test_it_is_asked_of_lines_alone_and_against_none() -> None:
    made = folds()
    start = STAGE.init(made, made.initial(0), seed=0)
    other = Proposal("", made.initial(0), "random restart")
    assert judged_alone(made, STAGE, [other], STEPS, seed=0).left == (0,)
    assert not judged_alone(made, STAGE, [other], STEPS, seed=0).told
    lined_start = STAGE.init(made, made.codec.encode("", saying()).params, seed=0)
    race = Race(STEPS, alone=STEPS, asks_share=says_nothing)
    assert "trained on no label" not in race(made, STAGE, (), lined_start, [proposal(made, saying(1))], seed=0).reason
    assert "trained on no label" in race(made, STAGE, (), start, [proposal(made, saying(1))], seed=0).reason


def test_lines_that_are_said_to_each_fold_apart_are_judged_by_its_own_labels() -> None:
    made = folds()
    wrong = {fold_name(fold, name): text for fold in range(made.num_folds) for name, text in saying(1).items() if name != "lines_weight"}
    apart, encoded = made.without_labels({**saying(), **wrong})
    assert isinstance(apart, CrossValidated)
    alike, other = made.without_labels(saying(1))
    (found,), (same,) = apart.score([encoded.params], "select"), alike.score([other.params], "select")
    assert found.num_examples == same.num_examples == len(made.splits.train)
    assert found.loss == pytest.approx(same.loss, rel=1e-5)  # what the full member is told plays no part
    ends = []
    for problem, params in ((apart, encoded.params), (alike, other.params)):
        state = STAGE.init(problem, params, seed=0)
        for _ in range(STEPS):
            state, _ = STAGE.step(problem, state)
        ends.append(problem.score([state.params], "select")[0].loss)
    assert ends[0] == pytest.approx(ends[1], rel=1e-4) and ends[0] != pytest.approx(found.loss, rel=1e-3)


def test_where_labels_judge_lines_count_whole_and_the_mentor_is_told_how_far_they_are_believed() -> None:
    made, doubting = folds(), CrossValidated(lined(residual(folded(tiny_splits(2))), 0))
    params = made.codec.encode("", FIELDS).params
    assert {line.weight for line in lines_of(params)} == {0.5}
    weights = doubting.codec.encode("", FIELDS).params
    clues = made.clues(params)
    assert [line.weight for line in clues.line_weights] == [0.5] * 4
    assert [line.belief for line in clues.line_weights] == pytest.approx([line.weight / 0.5 for line in lines_of(weights)], rel=1e-5)
    assert {line.belief for line in doubting.clues(weights).line_weights} == {None}

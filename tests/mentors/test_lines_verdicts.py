"""A run says what became of a mentor's lines: taken, at which weight, or left out, and what the figures were."""

from __future__ import annotations

from dataclasses import replace

import pytest

from maao.codecs.numbers import NumberCodec
from maao.core.acceptance import AlwaysFirst, Race
from maao.core.loop import alternate
from maao.core.plan import rounds
from maao.mentors.class_lines.base import LinesOptions, Said, Wanted
from maao.mentors.class_lines.controls import ClassNamesOptions
from maao.optimizers.torch import TorchStage
from maao.problems.functions import FunctionProblem
from maao.report.class_lines import lines_rule, lines_verdicts
from maao.report.lines import line_of_proposal
from maao.types import Considered, Proposal, Score
from tests.mentors.histories import finished
from tests.mentors.lines import CLASSES, LinesCodec, Sayer, lines

LINES = {"examples.recipe": "how do i make a pie\nhow do i bake", "descriptions.recipe": "how a dish is made"}
LEFT_OUT = "The mentor's lines were left out"
TOLD = lines(("calories", ["how many calories are in rice"]), ("recipe", ["how do i make a pie"]))


def judged(index, *losses, own=0.79, chosen=None, fields=LINES):
    """A round with proposals of lines at weights 0.5, 1, ... and these losses; the incumbent's is `own`."""
    weighed = {i: {**fields, "lines_weight": weight} for i, weight in zip(range(len(losses)), ("0.5", "1"), strict=False)}
    found = finished(index, None, 0.5, proposals=tuple(("", loss, 5) for loss in losses), fields=weighed, chosen=chosen)
    first = () if own is None else (Considered(None, Score(own), 5),)
    return replace(found, verdict=replace(found.verdict, considered=(*first, *found.verdict.considered)))


@pytest.mark.parametrize(
    ("history", "told"),
    [
        (
            (judged(0, 0.84, 0.9),),
            "The mentor's lines were left out: out of fold they did worse (log-loss 0.840 with them, 0.790 without).",
        ),
        (
            (judged(0, 0.7901),),
            "The mentor's lines were left out: out of fold they did no better (log-loss 0.790 with them, 0.790 without).",
        ),
        (
            (judged(0, 0.7, 0.61, chosen=1),),
            "The mentor's lines count, at 1 of the weight of a labelled example: out of fold log-loss 0.610 with them, 0.790 without.",
        ),
        (
            (judged(0, 0.7),),
            f"{LEFT_OUT}: out of fold they did better by less than the rule's margin (log-loss 0.700 with them, 0.790 without).",
        ),
        ((judged(0, float("nan")),), f"{LEFT_OUT}: none was walked from and judged."),
    ],
)
def test_what_became_of_lines_is_a_sentence(history, told):
    assert lines_verdicts(history, "out of fold") == [told]


def test_what_lines_are_worth_where_no_label_trains_is_told_too():
    told = "trained on no label log-loss 0.900 with them, 1.100 without"

    def sentence(found):
        reason = f"won: incumbent 0.790; {told}; the mentor's lines count, at 0.5"
        return lines_verdicts((replace(found, verdict=replace(found.verdict, reason=reason)),), "out of fold")[0]

    assert sentence(judged(0, 0.61, chosen=0)).endswith(f": out of fold log-loss 0.610 with them, 0.790 without; {told}.")
    assert sentence(judged(0, 0.84)) == f"{LEFT_OUT}: out of fold they did worse (log-loss 0.840 with them, 0.790 without); {told}."
    nowhere = replace(judged(0, 0.84), verdict=replace(judged(0, 0.84).verdict, considered=()))
    assert sentence(nowhere) == f"{LEFT_OUT}: by themselves they know less than the names do, {told}."


def test_lines_that_nothing_judged_say_so():
    taken = judged(0, float("nan"), own=None, chosen=0)
    assert lines_verdicts((taken,), "out of fold") == [
        "The mentor's lines count, at 0.5 of the weight of a labelled example: they were taken unjudged."
    ]


def test_later_lines_are_compared_with_those_before():
    history = (judged(1, 0.6, chosen=0), judged(2, 0.65, own=0.6), judged(3, 0.5, own=0.6, chosen=0))
    second, third = lines_verdicts(history, "on select")[1:]
    assert second.endswith("lines of round 2 were left out: on select they did worse (log-loss 0.650 with them, 0.600 with those before).")
    assert third.startswith(
        "The mentor's lines of round 3 count, at 0.5 of the weight of a labelled example: on select log-loss 0.500 with"
    )
    assert third.endswith(" with them, 0.600 with those before.")


def test_a_point_that_is_older_than_the_lines_is_told():
    history = (finished(0, None, 0.45), judged(1, 0.6, chosen=0))
    assert lines_verdicts(history, "out of fold")[1:] == [
        "But the point that is used has none of them: that of round 0 did best (log-loss 0.450)."
    ]
    assert len(lines_verdicts((finished(0, None, 0.55), judged(1, 0.6, chosen=0)), "out of fold")) == 1


def test_lines_may_lose_to_another_proposal():
    mixed = judged(0, 0.7, 0.6, chosen=1)
    proposals = (mixed.advice.proposals[0], Proposal("other", {}, "random restart"))
    mixed = replace(mixed, advice=replace(mixed.advice, proposals=proposals))
    assert lines_verdicts((mixed,), "out of fold") == [
        "The mentor's lines were left out: out of fold another proposal did better (log-loss 0.700 with them, 0.600 with that)."
    ]


def test_rounds_without_lines_say_nothing():
    assert lines_verdicts((judged(0, 0.7, fields={}), finished(1, "words", 0.5)), "out of fold") == []


def test_lines_are_shown_by_their_number():
    assert (
        line_of_proposal(Proposal("", {}, fields={**LINES, "lines_weight": "0.5"}))
        == "2 examples and 1 description of 1 class at weight 0.5"
    )
    assert line_of_proposal(Proposal("words", {})) == "words"


def reasons(accept, weights):
    problem = FunctionProblem("ackley", codec=NumberCodec(2))
    mentor = Sayer(LinesCodec(), Wanted(CLASSES, weights=weights), "someone", Said(TOLD))
    stage = TorchStage(lr=0.01)
    return [r.verdict.reason for r in alternate(problem, stage, mentor, plan=rounds(1, steps=1, proposals=1), accept=accept, seed=1)][-1:]


def test_a_verdict_says_what_became_of_the_lines():
    assert reasons(AlwaysFirst(), (0.25,)) == ["the first proposal, taken unscored; the mentor's lines count, at 0.25"]
    assert reasons(Race(1), (0.25,))[0].startswith("won: ") and reasons(Race(1), (0.25,))[0].endswith("; the mentor's lines count, at 0.25")
    assert reasons(Race(1, margin=1e6), (0.25,))[0].endswith("; the mentor's lines were left out")


def test_before_a_run_it_is_said_what_is_asked_for_what_it_weighs_and_what_judges_it() -> None:
    opening = "Class lines: 8 examples a class, each at 0.25 or 1 of a labelled example, times how far it is believed; "
    options = LinesOptions(descriptions=0, weights=[0.25, 1.0])
    assert lines_rule(options, Race(share=0.4), "out of fold") == f"{opening}out of fold they must lower the loss by more than 40 %."
    assert lines_rule(options, None, "on select") == f"{opening}on select they must lower the loss."
    assert lines_rule(options, Race(share=0.4, alone=9), "") == f"{opening}there is no label to judge them by."
    assert lines_rule(ClassNamesOptions(), Race(), "").startswith("Class lines: the name of each class, each at 0.5 ")
    whole = opening.replace(", times how far it is believed", "")
    assert lines_rule(options, Race(alone=9), "out of fold") == f"{whole}they must lower the loss out of fold, and where no label trains."

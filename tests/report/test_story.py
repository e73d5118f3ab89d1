"""What the end of a run says, whole, compared with files that are read in review. Set MAAO_GOLDEN=1 to write them anew."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from maao.config import make_config
from maao.evaluation.beside import Beside, Compared, Gain
from maao.llm.ledger import Totals
from maao.report.story import Ending, Mentor, ending_of, mentor_in, story
from maao.runner import run
from maao.types import Advice, Clues, Considered, Cost, Leg, Proposal, Round, Score, Verdict

GOLDEN = Path(__file__).parents[1] / "golden"
NONE = float("nan")

BEGAN, CHOSEN = Score(1.31, {"accuracy": 0.5}, 20), Score(0.84, {"accuracy": 0.65}, 20)
UNTUNED, TUNED = Score(1.302, {"accuracy": 0.48}, 500), Score(0.811, {"accuracy": 0.71}, 500)
OVER_UNTUNED = Gain("untuned model", 500, 0.23, 0.184, 0.276, -0.491, -0.55, -0.432)
OVER_BASELINE = Gain("linear probe with class names", 500, 0.032, 0.004, 0.06, -0.1, -0.15, -0.05, best_of=4)
PLAIN = Ending(
    "runs/a",
    began=BEGAN,
    chosen=CHOSEN,
    untuned=UNTUNED,
    tuned=TUNED,
    over_baseline=OVER_BASELINE,
    over_untuned=OVER_UNTUNED,
    labels=5,
    labelled=40,
    cost=Cost(gradient_steps=120, model_tokens=80_000, selection_evals=5, seconds=41.2),
)
CHOSEN_ALONE = replace(PLAIN, untuned=None, tuned=None, over_baseline=None, over_untuned=None)
ASKED = replace(PLAIN, cost=Cost(180, 120_000, 0, 17, 3, 2_400, 310, 0.0123, 77.0))


def beside(best: Beside, count: int = 1) -> Compared:
    return Compared((best, *[Beside("zero_shot", "", 1.0, {}, 20)] * (count - 1)), where="on select")


CASES = {
    "no_mentor": PLAIN,
    "lines_were_given": replace(PLAIN, given_lines=246, where="out of fold"),
    "mentor_helped": replace(ASKED, mentor=Mentor("language_model", "race", 3, 9, 9, 2, 0, True, ((0.91, 0.88),), 60)),
    "mentor_lost": replace(
        ASKED, mentor=Mentor("language_model", "race", 3, 9, 9, 0, 0, False, ((1.2, 0.9), (0.871, 0.862), (1.0, 0.84)), 60)
    ),
    "lines_lost": replace(
        ASKED,
        mentor=Mentor(
            "class_lines", "race", 1, 1, 1, lines=("The mentor's lines were left out: out of fold they did worse (log-loss 0.9, 0.8).",)
        ),
    ),
    "taken_unjudged": replace(ASKED, mentor=Mentor("language_model", "always_first", 3, 9, 0, 3, 3, True)),
    "older_point_is_used": replace(ASKED, mentor=Mentor("language_model", "best_of", 2, 6, 6, 1, 0, False, (), 0)),
    "no_labels": Ending(
        "runs/a",
        reason="no label was given: the mentor's first lines were taken as they came, and nothing could be checked",
        began=Score(NONE),
        chosen=Score(NONE),
        labels=5,
        labelled=0,
        mentor=Mentor("class_lines", "race", 1, 1, 0, 1, 1, True, lines=("The mentor's lines count: they were taken unjudged.",)),
        cost=Cost(model_tokens=900, llm_calls=1, input_tokens=120, output_tokens=600, seconds=8.0),
    ),
    "no_test": CHOSEN_ALONE,
    "a_baseline_leads_by_chance_where_it_chose": replace(
        CHOSEN_ALONE, beside=beside(Beside("linear_probe", "", 0.8, {"accuracy": 0.7}, 20), 4)
    ),
    "a_baseline_is_better_where_it_chose": replace(
        CHOSEN_ALONE, beside=beside(Beside("linear_probe", "", 0.8, {"accuracy": 0.7}, 2000), 4)
    ),
    "a_baseline_is_better_by_another_metric": replace(
        CHOSEN_ALONE,
        chosen=Score(0.84, {"f1_macro": 0.61}, 20),
        beside=beside(Beside("knn", "", 0.9, {"f1_macro": 0.65}, 20)),
        where="out of fold",
    ),
    "better_than_a_baseline_where_it_chose": replace(CHOSEN_ALONE, beside=beside(Beside("knn", "", 0.8, {"accuracy": 0.65}, 20))),
    "undecided": replace(PLAIN, over_baseline=Gain("knn", 500, 0.006, -0.02, 0.032, -0.01, -0.04, 0.02)),
    "worse_than_a_baseline": replace(PLAIN, over_baseline=Gain("knn", 500, -0.05, -0.08, -0.02, best_of=4, is_lost=True)),
    "below_a_baseline_by_chance": replace(PLAIN, over_baseline=Gain("knn", 500, -0.03, -0.055, -0.005, best_of=4)),
    "nothing_was_walked": replace(
        PLAIN,
        over_untuned=Gain("untuned model", 500, 0.0, -0.01, 0.01),
        walked=False,
        is_first=True,
        is_trained=False,
        cost=Cost(model_tokens=900, selection_evals=1, seconds=2.0),
    ),
    "untuned_is_used": replace(PLAIN, over_untuned=Gain("untuned model", 500, 0.0, -0.01, 0.01), is_first=True),
    "began_from_an_earlier_run": replace(PLAIN, over_untuned=replace(OVER_UNTUNED, over="point it began from"), earlier="runs/old"),
    "earlier_run_was_better": replace(
        PLAIN, over_untuned=Gain("point it began from", 500, -0.05, -0.08, -0.02, is_lost=True), earlier="runs/old"
    ),
    "earlier_point_is_used": replace(
        PLAIN, over_untuned=Gain("point it began from", 500, 0.0, -0.01, 0.01), is_first=True, earlier="runs/old"
    ),
    "earlier_run_and_another_metric": replace(
        PLAIN,
        tuned=Score(0.8, {"f1_macro": 0.7}, 500),
        untuned=Score(1.3, {"f1_macro": 0.4}, 500),
        over_baseline=None,
        over_untuned=None,
        earlier="runs/old",
    ),
    "capped": replace(
        ASKED,
        reason="the budget kept the mentor from being asked 2 times",
        capped=2,
        mentor=Mentor("language_model", "race", 3, 3, 3, 1, 0, True),
        unanswered=Totals(1, 800, 200, 0.004),
    ),
    "gave_nothing": replace(
        ASKED,
        warning="The mentor gave no reply: all 3 calls failed. The last time: no\nroute to host",
        mentor=Mentor("language_model", "race", 3),
    ),
    "waiting": Ending("runs/a", "waiting", "it waits for 1 reply (maao requests)", labels=5),
    "stopped": replace(PLAIN, status="stopped", reason="interrupted", untuned=None, tuned=None, over_baseline=None, over_untuned=None),
    "another_metric": replace(
        PLAIN, tuned=Score(0.8, {"f1_macro": 0.7}, 500), untuned=Score(1.3, {"f1_macro": 0.4}, 500), over_baseline=None, over_untuned=None
    ),
    "function": Ending("runs/a", began=Score(3.2), chosen=Score(0.01), cost=Cost(gradient_steps=15, selection_evals=4)),
}


@pytest.mark.parametrize("case", CASES)
def test_story_matches_its_golden_file(case):
    told = "".join(f"{said.topic}: {said.text}{' $ ' * bool(said.command)}{said.command}\n" for said in story(CASES[case]))
    path = GOLDEN / f"story_{case}.txt"
    if os.environ.get("MAAO_GOLDEN") == "1":
        path.write_text(told, encoding="utf-8")
    assert told == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("chosen", "best", "count", "lead", "warns"),
    [
        (Score(0.8, {"accuracy": 0.65}, 20), Beside("knn", "", 0.7, {"accuracy": 0.9}, 20), 1, "by 25.0 points of accuracy", False),
        (Score(0.8, {"accuracy": 0.6}, 20), Beside("knn", "", 0.7, {"accuracy": 0.9}, 20), 1, "by 30.0 points of accuracy", True),
        (Score(0.8, {"accuracy": 0.6}, 20), Beside("knn", "", 0.7, {"accuracy": 0.9}, 20), 4, "by 30.0 points of accuracy", False),
        (Score(0.8, {"f1_macro": 0.1}, 900), Beside("knn", "", 0.7, {"f1_macro": 0.9}, 900), 1, "by 0.800 in f1 macro", False),
        (Score(0.8, {}, 900), Beside("knn", "", 0.7, {}, 900), 1, "by 0.100 in loss", False),
        (Score(0.8, {"accuracy": 0.65}, 9000), Beside("knn", "", 0.7, {"accuracy": 0.6501}, 9000), 1, "", False),
        (Score(0.8, {}, 900), Beside("knn", "", 0.7999, {}, 900), 1, "", False),
        (Score(math.inf, {}, 900), Beside("knn", "", 0.7, {}, 900), 1, "", False),
        (Score(0.8, {"accuracy": 0.65}, 20), Beside("knn", "", math.inf, {}, 20), 1, "", False),
    ],
)
def test_a_lead_of_a_baseline_where_it_chose_is_called_better_where_chance_gives_less(chosen, best, count, lead, warns):
    said = story(replace(CHOSEN_ALONE, chosen=chosen, beside=beside(best, count)))
    told = [one for one in said if " leads there " in one.text]
    assert len(told) == bool(lead) and (said[-1].command == "maao evaluate runs/a TEST.csv --baselines") == warns
    for one in told:
        assert f"leads there {lead} ({best.num_examples} examples): " in one.text and one.is_warning == warns
        assert ("(maao evaluate --baselines)" in one.text) != warns and (
            f"which these examples picked as the best of {count}, " in one.text
        ) == (count > 1)


def test_a_point_that_lost_to_where_it_began_is_never_said_to_be_of_use():
    lost = replace(PLAIN, over_untuned=replace(OVER_UNTUNED, accuracy=-0.05, low=-0.08, high=-0.02, is_lost=True))
    for over_baseline in (None, OVER_BASELINE, replace(OVER_BASELINE, low=-0.1), CASES["worse_than_a_baseline"].over_baseline):
        alone = story(replace(lost, over_baseline=over_baseline))[-1]
        assert "use it" not in alone.text and not alone.command.startswith("maao predict")
        later = story(replace(lost, over_baseline=over_baseline, earlier="runs/old"))[-1]
        assert "keep the run that it began from" in later.text and later.command == "maao predict runs/old --file TEXTS.txt"


def test_of_a_later_run_nothing_is_called_untuned():
    for case in (name for name in CASES if CASES[name].earlier):
        assert "ntuned" not in " ".join(said.text for said in story(CASES[case])), case
    kept = replace(PLAIN, over_baseline=None, over_untuned=None, earlier="runs/old")
    assert "Where it began it read 48.0 % right" in " ".join(said.text for said in story(kept))


def test_what_comes_from_outside_stands_in_one_printable_line():
    said = story(replace(PLAIN, reason="a\nb \x1b[2J", warning="no\x07"))
    assert not any(char in sentence.text for sentence in said for char in "\n\x1b\x07")


# -- a mentor's part, read off a history


@dataclass(frozen=True)
class At:
    params: float = 0.0
    start: float = 0.0
    step: int = 0
    age: int = 0


def asked(index, chosen, losses, *, scored=True, closing=False):
    """A round whose race came out so; the last loss is that of going on."""
    *proposed, own = losses
    considered = tuple(Considered(i, Score(loss), 5) for i, loss in enumerate(proposed)) if scored else ()
    considered += (Considered(None, Score(own), 5),) if own is not None else ()
    advice = Advice(tuple(Proposal(f"text {i}", 0.0) for i in range(len(proposed))))
    verdict = Verdict(At(), chosen, considered, cost=Cost(gradient_steps=10))
    return Round(index, Leg(5, ask=not closing, closing=closing), advice, verdict, (), Score(0.5), Clues(), At(), Cost())


def test_a_mentors_part_says_what_was_tried_taken_and_used():
    history = (asked(0, None, [0.9, 0.8, 0.7]), asked(1, 1, [0.6, 0.4, 0.5]), asked(2, 0, [0.3, NONE, 0.5]))
    part = mentor_in(history, "opro", "race", 1, "on select")
    assert part == Mentor("opro", "race", 3, 6, 6, 2, 0, True, ((0.8, 0.7),), 30)
    assert mentor_in(history, "opro", "race", 0, "on select").in_use is False


def test_a_restart_without_a_score_is_unjudged():
    part = mentor_in((asked(0, 0, [0.9, 0.8, None], scored=False),), "opro", "always_first", 0, "on select")
    assert (part.taken, part.tried, part.unjudged, part.beaten) == (1, 0, 1, ())


def test_of_an_average_of_walks_it_is_not_said_whose_point_it_is():
    history = (asked(0, 0, [0.4, 0.5]), asked(1, None, [None], scored=False, closing=True))
    assert mentor_in(history, "opro", "race", 1, "on select").in_use is None


def test_the_ending_of_a_run_is_read_off_its_folder(tmp_path):
    made = {"problem": "function", "mentor": {"name": "random_restart"}, "plan": {"rounds": 2, "steps": 5}}
    result = run(make_config(made), tmp_path / "a run")
    ending = ending_of(result)
    assert (ending.folder, ending.status, ending.labels, ending.tuned) == (f"'{tmp_path}/a run'", "finished", 0, None)
    assert (ending.began, ending.chosen) == (result.history[0].score, result.chosen.score)
    assert (ending.mentor.name, ending.mentor.asked, ending.cost) == ("random_restart", 2, result.cost)
    assert story(ending)[-1].command == f"maao show '{tmp_path}/a run' --clues"


def test_where_nothing_was_walked_nothing_is_said_to_be_gained_over_what_it_is():
    score = Score(0.7, {"accuracy": 0.6}, 100)
    gain = Gain("untuned model", 100, 0.0, -0.1, 0.1)
    still = Ending("runs/a", tuned=score, untuned=score, chosen=score, over_untuned=gain, labels=2, labelled=8, walked=False, is_first=True)
    told = " ".join(said.text for said in story(still))
    assert "and nothing was walked" in told and "untuned model" not in told and "gradient descent" not in told

"""What came of a run, told in sentences: what was gained, how sure that is, the mentor's part in it, what it cost, and what to do next.

`ending_of` reads a run into a value, `story` makes sentences of it and reads nothing: the terminal and the page print the same.
"""

from __future__ import annotations

import math
import shlex
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from maao.class_lines import has_lines
from maao.evaluation.beside import LEVEL, Beside, Compared, Gain
from maao.evaluation.statistics import difference_interval, wilson_interval
from maao.llm.ledger import Totals
from maao.printable import printable_line, times
from maao.protocols import History
from maao.report.class_lines import lines_verdicts
from maao.report.lines import cost_told, score_line, unanswered_told
from maao.result import Result
from maao.types import Cost, P, Round, S, Score, choice_name, readable

Topic = Literal["state", "result", "numbers", "gain", "sure", "mentor", "cost", "next"]


@dataclass(frozen=True)
class Sentence:
    """One thing to say. Text that came from outside (a label, a reason) is printable and stands in one line.

    Attributes:
        topic: what it is about: "state" (not finished, cut short), "result", "numbers" (what went wrong with them), "gain", "sure",
            "mentor", "cost" or "next".
        text: a sentence or two; it says nothing that `command` does not need.
        command: what to type at a shell, where there is something to do; "": nothing.
        is_warning: it should not be overlooked.
    """

    topic: Topic
    text: str
    command: str = ""
    is_warning: bool = False


@dataclass(frozen=True)
class Mentor:
    """A mentor's part in a run.

    Attributes:
        name: as in `mentor.name`.
        rule: that judged its proposals, `accept.name`.
        asked: how often it was.
        proposals: how many could be used; of these `tried` were walked from or scored, `taken` became a restart.
        unjudged: of the taken ones, those that were taken without a score.
        in_use: whether the point that is used comes from a restart of its; None: it is an average of walks.
        beaten: of each race that it lost, its best loss and that of going on.
        judging: gradient steps that were walked to judge it.
        lines: a sentence for each round with class lines.
    """

    name: str = "none"
    rule: str = ""
    asked: int = 0
    proposals: int = 0
    tried: int = 0
    taken: int = 0
    unjudged: int = 0
    in_use: bool | None = False
    beaten: tuple[tuple[float, float], ...] = ()
    judging: int = 0
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ending:
    """All that the story of a run is made of.

    Attributes:
        folder: as it is to be typed.
        earlier: the run that it began from, as it is to be typed; "": none.
        status: "finished", "waiting", "stopped", "interrupted" or "running"; `reason` says why it is not all that was planned.
        began, chosen: the first point and the one that is used, by the examples that choose; None before there is a round.
        where: which examples these are: "on select", "out of fold".
        untuned, tuned: the same on `test`; None: there is none.
        over_baseline, over_untuned: what was gained on `test`, with intervals; None: it was not read.
        beside: the baselines by the examples that chose, of a run without `test`; None: none was read so.
        labels: how many classes there are; 0: a function is tuned.
        labelled: how many labelled examples were tuned on or chose; None: an older run did not keep it.
        given_lines: lines of classes that joined them (`data.lines`).
        warning: why this is no run with a mentor; "" where it is one.
        capped: calls that a cap did not allow.
        cost: what it took; `is_about`: the tokens of its calls are estimated.
        pictures: whether inputs are pictures.
        walked: whether a gradient step was taken; without one the point that is used is the first.
        is_first: whether the point that is used is the one that the run began with.
        is_trained: whether the method has anything to train; one that has not (zero shot) reads no label either.
        code: Python files that come with the frozen model, and that it may run (`model.trust_remote_code`).
        troubles: what went wrong with its numbers, a sentence each.
    """

    folder: str
    status: str = "finished"
    reason: str = ""
    began: Score | None = None
    chosen: Score | None = None
    where: str = "on select"
    untuned: Score | None = None
    tuned: Score | None = None
    over_baseline: Gain | None = None
    over_untuned: Gain | None = None
    beside: Compared | None = None
    labels: int = 0
    labelled: int | None = None
    given_lines: int = 0
    mentor: Mentor = field(default_factory=Mentor)
    warning: str = ""
    capped: int = 0
    cost: Cost = field(default_factory=Cost)
    is_about: bool = False
    unanswered: Totals | None = None
    pictures: bool = False
    walked: bool = True
    is_first: bool = False
    is_trained: bool = True
    earlier: str = ""
    code: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()

    @property
    def is_unlabelled(self) -> bool:
        """Whether there was no label to tune on or to judge by."""
        return self.labels > 0 and self.chosen is not None and self.chosen.is_unjudged


def story(ending: Ending) -> tuple[Sentence, ...]:
    """Return what there is to say of a run, in order. Reads nothing, and computes no more than the interval of an accuracy.

    Example:
        >>> gain = Gain("linear probe", 1000, 0.053, 0.031, 0.075)
        >>> tuned = Score(0.74, {"accuracy": 0.797}, 1000)
        >>> said = story(Ending("runs/a", tuned=tuned, chosen=tuned, over_baseline=gain, labels=77, labelled=154))
        >>> said[1].text
        'Tuning gained 5.3 points of accuracy over the linear probe (95 % interval +3.1 to +7.5, the same 1000 test examples).'
        >>> said[-1].command
        'maao predict runs/a --file TEXTS.txt'
    """
    return (
        *_state(ending),
        *_result(ending),
        *_troubles(ending),
        *_gains(ending),
        *_sure(ending),
        *_mentor(ending),
        *_cost(ending),
        *_next(ending),
    )


def ending_of(result: Result) -> Ending:
    """Return what the story of a run is made of. Reads its folder; loads no model and no data."""
    history, finals = result.history, result.finals
    sizes: dict[str, int] = result.environment.get("sizes", {})
    scores = {name: finals[name].score if name in finals else None for name in ("untuned", "chosen")}
    beside = result.baselines
    return Ending(
        shlex.quote(str(result.folder)),
        result.status,
        result.status_reason,
        history[0].score if history else None,
        result.chosen.score if history else None,
        result.where_judged,
        scores["untuned"],
        scores["chosen"],
        None if beside is None else beside.gain,
        None if beside is None else beside.over_untuned,
        None if beside is None or beside.where == "test" else beside,
        len(result.environment["labels"]),
        sizes["train"] + sizes["select"] if sizes else None,
        sizes.get("lines", 0),
        _mentor_in(result) if history else Mentor(result.config.mentor.name),
        result.warning,
        result.capped,
        *result.cost_about,
        result.unanswered if result.unanswered.calls else None,
        result.config.texts is None and bool(result.environment["labels"]),
        not history or any(r.state.step for r in history),
        bool(history)
        and not any(r.state.step or r.verdict.chosen is not None or r.leg.closing for r in history[: result.chosen.index + 1]),
        result.config.model.method.options.is_trained,
        "" if result.config.from_run is None else shlex.quote(result.config.from_run),
        _code(result),
        tuple(trouble.text for trouble in result.troubles),
    )


def _code(result: Result) -> tuple[str, ...]:
    """Return the Python files that the frozen model may run, with the beginning of their hashes."""
    if not result.config.model.trust_remote_code:
        return ()
    files: dict[str, str] = result.environment.get("remote_code", {})
    return tuple(f"{name} (sha256 {digest[:12]})" for name, digest in files.items())


def _mentor_in(result: Result) -> Mentor:
    history = result.history
    name, rule = result.config.mentor.name, result.config.accept.name
    return mentor_in(history, name, rule, result.chosen.index, result.where_judged)


def mentor_in(history: History[P, S], name: str, rule: str, used: int, where: str) -> Mentor:
    """Return the part that a mentor had in a history.

    Args:
        used: index of the round whose point is used.
    """
    asked = [r for r in history if r.leg.ask]
    restarts = [r for r in asked if r.verdict.chosen is not None]
    return Mentor(
        name,
        rule,
        len(asked),
        sum(len(r.advice.proposals) for r in asked),
        sum(len({c.proposal for c in r.verdict.considered if c.proposal is not None}) for r in asked),
        len(restarts),
        sum(all(c.proposal != r.verdict.chosen for c in r.verdict.considered) for r in restarts),
        None if history[used].leg.closing else any(r.index <= used for r in restarts),
        tuple(lost for r in asked if (lost := _beaten(r)) is not None),
        sum(r.verdict.cost.gradient_steps for r in asked),
        tuple(lines_verdicts(history, where)) if any(has_lines(p.fields) for r in asked for p in r.advice.proposals) else (),
    )


def _beaten(r: Round[P, S]) -> tuple[float, float] | None:
    """Return the best loss of a round's proposals and the incumbent's, where the incumbent went on after a race with them."""
    if r.verdict.chosen is not None:
        return None
    last = {c.proposal: c.score.loss for c in r.verdict.considered if c.score.loss == c.score.loss}
    own = last.pop(None, None)
    return (min(last.values()), own) if last and own is not None else None


# -- sentences


def _state(ending: Ending) -> Iterator[Sentence]:
    if ending.warning:  # first of all: without a mentor this is another run than was asked for
        yield Sentence("mentor", printable_line(ending.warning), is_warning=True)
    if ending.status != "finished":
        why = f": {printable_line(ending.reason)}" if ending.reason else ""
        yield Sentence("state", f"The run is not finished, but {ending.status}{why}.", is_warning=True)
    elif ending.reason:
        yield Sentence("state", f"Note: {printable_line(ending.reason)}.", is_warning=True)
    if ending.code:
        told = printable_line(", ".join(ending.code))
        yield Sentence("state", f"The frozen model may run Python code of its own (model.trust_remote_code): {told}.", is_warning=True)


def _result(ending: Ending) -> Iterator[Sentence]:
    if ending.tuned is not None:
        yield Sentence("result", _on_test(ending, ending.tuned))
    elif ending.chosen is not None and not ending.chosen.is_unjudged:
        began = "" if ending.began is None else f", from {score_line(ending.began)} where it began"
        yield Sentence("result", f"The point that is used has {score_line(ending.chosen)} {ending.where}{began}.")
        if ending.beside is not None and (best := ending.beside.best) is not None:
            there = score_line(Score(best.loss, best.metrics))
            yield Sentence("gain", f"Best of the baselines there: {best.title}, {there}.")
            if lead := _lead(best, ending.chosen):
                count = len(ending.beside.baselines)
                picked = f", which these examples picked as the best of {count}," if count > 1 else ""
                shown = _shown_better(ending) is not None
                yield Sentence("gain", f"The {best.title}{picked} leads there {lead}{_by_chance(ending.chosen, shown)}", is_warning=shown)
    elif ending.chosen is not None:
        yield Sentence("result", "There is no labelled example, so how good the result is cannot be said.")


def _lead(beside: Beside, chosen: Score) -> str:
    """Say by how much a baseline is better than the chosen point; "": it is not, or by less than is shown, or by no finite number."""
    name, own = chosen.primary or ("loss", -chosen.rank)
    lead = beside.metrics.get(name, own if chosen.primary else -beside.loss) - own
    if not 0.0005 < lead < math.inf:
        return ""
    told = f"{100 * lead:.1f} points of accuracy" if name == "accuracy" else f"{lead:.3f} in {printable_line(readable(name))}"
    return f"by {told} ({beside.num_examples:,} examples)"


def _shown_better(ending: Ending) -> Beside | None:
    """Return the best baseline where it leads by more accuracy than chance gives, it being the best of so many."""
    best = None if ending.beside is None else ending.beside.best
    if ending.beside is None or best is None or ending.chosen is None or not _by_accuracy(ending.chosen):
        return None
    z = statistics.NormalDist().inv_cdf(1 - LEVEL / len(ending.beside.baselines) / 2)
    theirs, ours = (metrics.get("accuracy", 0.0) for metrics in (best.metrics, ending.chosen.metrics))
    return best if difference_interval(theirs, ours, best.num_examples, z)[0] > 0 else None


def _by_chance(chosen: Score, shown: bool) -> str:
    if shown:
        return ": more than chance gives, although they also chose the point that is used."
    may = "that may be chance" if _by_accuracy(chosen) else "whether by chance was not tested"
    return f": {may}, and rows that chose nothing decide (maao evaluate --baselines)."


def _troubles(ending: Ending) -> Iterator[Sentence]:
    for told in ending.troubles:
        yield Sentence("numbers", printable_line(told), is_warning=True)


def _on_test(ending: Ending, tuned: Score) -> str:
    knows = [f"{ending.labelled:,} labelled example{'s' * (ending.labelled != 1)}"] if ending.labelled else []
    knows += [f"{ending.given_lines:,} lines about the classes"] if ending.given_lines else []
    begin = f"From {' and '.join(knows)} it" if knows else "Without a labelled example it" if ending.is_unlabelled else "It"
    begin = begin if ending.is_trained else "Without having read a label it"
    if not _by_accuracy(tuned):
        reads = f"{begin} reads {tuned.num_examples:,} test examples with {score_line(tuned)}"
        began = "where it began" if ending.earlier else "untuned"
        return f"{reads}." if ending.untuned is None else f"{reads}; {began} {score_line(ending.untuned)}."
    accuracy = tuned.accuracy or 0.0
    low, high = wilson_interval(accuracy, tuned.num_examples)
    share = f"{100 * accuracy:.1f} %, 95 % interval {100 * low:.1f} to {100 * high:.1f}"
    right = f"{round(accuracy * tuned.num_examples):,} of {tuned.num_examples:,} test examples"
    return f"{begin} puts {right} into the right one of {ending.labels} classes ({share})."


def _gains(ending: Ending) -> Iterator[Sentence]:
    first = "The point it began from" if ending.earlier else "The untuned model"
    if ending.over_baseline is not None:
        yield Sentence("gain", ending.over_baseline.told_of(first if ending.is_first else "Tuning"))
    if ending.untuned is None or not _by_accuracy(ending.tuned):
        return  # of another metric, the result tells both figures
    if ending.is_first:
        why = f"no other was better {ending.where}" if ending.walked else "nothing was tuned"
        yield Sentence("gain", f"The point that is used is the {'one it began from' if ending.earlier else 'untuned one'}: {why}.")
        return
    if ending.over_untuned is not None:
        yield Sentence("gain", ending.over_untuned.told)
    elif ending.tuned is not None:
        before, after = (100 * (score.accuracy or 0.0) for score in (ending.untuned, ending.tuned))
        began = "Where it began" if ending.earlier else "Untuned"
        yield Sentence("gain", f"{began} it read {before:.1f} % right, {after - before:+.1f} points; no interval of that was kept.")


def _by_accuracy(score: Score | None) -> bool:
    return score is not None and score.primary is not None and score.primary[0] == "accuracy"


def _sure(ending: Ending) -> Iterator[Sentence]:
    if ending.labels and ending.tuned is None and ending.chosen is not None and not ending.is_unlabelled:
        unread = "no test examples were given" if ending.status == "finished" else "test is read at the end"
        chose = f"The same examples chose the point, which flatters it; {unread}, so what was gained is not known"
        yield Sentence("sure", f"{chose}{'' if ending.status == 'finished' else ' yet'}.", is_warning=True)
    elif ending.tuned is not None:
        if not ending.is_trained:  # another seed would give the same
            yield Sentence("sure", "The intervals say how far chance in these test examples reaches.")
            return
        told = "The intervals say how far chance in these test examples reaches. Another seed, or other labels, may land elsewhere"
        part = ", nor what it would be without the mentor" if ending.mentor.in_use or ending.mentor.taken else ""
        yield Sentence("sure", f"{told}: one run cannot say how far{part} (maao compare can).")


def _mentor(ending: Ending) -> Iterator[Sentence]:
    part = ending.mentor
    if not part.asked:
        if ending.chosen is not None:
            lines = f"; what the {ending.given_lines:,} lines of data.lines gave it was not measured" if ending.given_lines else ""
            how = (
                ": plain gradient descent"
                if ending.walked
                else f", and nothing was walked{'' if ending.is_trained else ': no label was read'}"
            )
            yield Sentence("mentor", f"No mentor was asked{how}{lines}.")
        return
    made = f"{part.proposals} proposal{'s' * (part.proposals != 1)} that could be used"
    asked = f"The mentor ({choice_name(part.name)}) was asked {times(part.asked)} and made {made}"
    if not part.proposals:
        yield Sentence("mentor", f"{asked}: it had no part in the result.")
        return
    if part.lines:
        yield Sentence("mentor", f"{asked}. {' '.join(part.lines)}")
        return
    yield Sentence("mentor", f"{asked}. {_judged(part, ending.where)}")


def _judged(part: Mentor, where: str) -> str:
    if not part.taken:
        return f"{_refused(part, where)} It had no part in the result{_spent(part)}."
    became = f"{part.taken} became a restart by the rule '{choice_name(part.rule)}'"
    if part.unjudged == part.taken:
        became += ", unjudged"
    elif part.unjudged:
        became += f", {part.unjudged} of them unjudged"
    else:
        became += f", judged {where}"
    if part.in_use is None:
        return f"{became}; the point that is used averages walks, its own and others."
    if not part.in_use:
        return f"{became}, but the point that is used is older: the mentor had no part in it{_spent(part)}."
    return f"{became}, and the point that is used comes from there{_lost(part)}."


def _refused(part: Mentor, where: str) -> str:
    if not part.beaten:
        return "None of them became a restart."
    best, own = min(part.beaten, key=lambda lost: lost[0] - lost[1])
    races = "the race" if len(part.beaten) == 1 else f"all {len(part.beaten)} races"
    closest = "" if len(part.beaten) == 1 else " where it came closest"
    return f"They lost {races}: {where} the best of them reached loss {best:.3f}{closest}, going on without them {own:.3f}."


def _lost(part: Mentor) -> str:
    return f"; it lost {len(part.beaten)} other race{'s' * (len(part.beaten) > 1)}" if part.beaten else ""


def _spent(part: Mentor) -> str:
    return f", and judging it took {part.judging} gradient steps" if part.judging else ""


def _cost(ending: Ending) -> Iterator[Sentence]:
    if ending.chosen is not None:
        yield Sentence("cost", cost_told(ending.cost, ending.where, about=ending.is_about))
    if ending.unanswered is not None:
        yield Sentence("cost", unanswered_told(ending.unanswered))


def _next(ending: Ending) -> Iterator[Sentence]:
    run = ending.folder
    further = f"maao tune --from {run} --set data.train="
    inputs = "PICTURE.png" if ending.pictures else "--file TEXTS.txt"
    fell = not ending.is_first and ending.over_untuned is not None and ending.over_untuned.is_lost
    gain = ending.over_baseline or (None if ending.is_first else ending.over_untuned)
    if ending.status == "waiting":
        yield Sentence("next", "Next: see what it waits for.", f"maao requests list {run}")
    elif ending.status != "finished":
        yield Sentence("next", "Next: go on with it.", f"maao resume {run}")
    elif ending.warning:
        yield Sentence("next", "Next: see what the mentor was asked and what it answered.", f"maao show {run} --calls")
    elif not ending.labels:
        yield Sentence("next", "Next: see what was said in words about every round.", f"maao show {run} --clues")
    elif ending.is_unlabelled:
        yield Sentence("next", "Next: label a few examples, so that what was said is judged.", f"{further}LABELLED.csv")
    elif ending.tuned is None and (better := _shown_better(ending)) is not None:
        check = f"evaluate both on labelled examples that neither has seen; where it stays better, use the {better.title}"
        yield Sentence("next", f"Next: {check}.", f"maao evaluate {run} TEST.csv --baselines")
    elif ending.tuned is None:
        yield Sentence("next", "Next: evaluate it on labelled examples that it has not seen.", f"maao evaluate {run} TEST.csv")
    elif fell and ending.earlier:
        kept = "keep the run that it began from, which puts more of these test examples into the right class"
        yield Sentence("next", f"Next: {kept}.", f"maao predict {ending.earlier} {inputs}")
    elif ending.capped:
        yield Sentence("next", "Next: go further from here under a higher cap.", f"maao tune --from {run} --set budget.llm_calls=NUMBER")
    elif gain is not None and gain.is_lost and ending.over_baseline is gain:
        check = f"before you switch to the {gain.over}, evaluate both on further labelled rows, since test has chosen it"
        yield Sentence("next", f"Next: {check}.", f"maao evaluate {run} MORE.csv")
    elif fell or (gain is not None and gain.low <= 0 and ending.is_trained):
        yield Sentence("next", "Next: give it more labels: ALL.csv holds old rows and new in one file.", f"{further}ALL.csv")
    else:
        yield Sentence("next", "Next: use it.", f"maao predict {run} {inputs}")

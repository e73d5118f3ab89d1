"""What a page says of a run: values that a template lays out. They hold text as it came; the template makes it harmless."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from maao.errors import MaaoError
from maao.evaluation.evaluation import ClassReport, Evaluation
from maao.llm.chat import Reply, reply_from_json, request_from_json
from maao.printable import dollars
from maao.protocols import Pictured
from maao.report.class_lines import beliefs
from maao.report.evaluation import in_words
from maao.report.html.drawings import Drawing, Way, loss_curve, restarts, way_drawing, way_of
from maao.report.html.pictures import thumbnail
from maao.report.lines import columns, line_of_proposal, metric_name, refusal, tokens_told
from maao.report.on_test import baseline_rows, rows_on_test
from maao.report.run import undecided_line
from maao.report.story import Sentence, ending_of, story
from maao.types import Confusion, Cost, Example, Mistake, Split, readable

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

    from maao.deploy import Judged
    from maao.evaluation.beside import Compared
    from maao.result import Result
    from maao.store.ledger import Call
    from maao.stored_run import Finished

MOST_MATRIX = 12  # classes of a whole confusion matrix; of more, pairs are shown


@dataclass(frozen=True)
class Caps:
    """How much of a long listing a page holds, so that it stays small: entries, and characters of a text."""

    rounds: int = 200
    proposals: int = 400
    calls: int = 60
    text: int = 6000
    classes: int = 200
    lines: int = 400
    confusions: int = 15
    mistakes: int = 12
    settings: int = 20_000

    def smaller(self) -> Caps:
        """Return the next smaller ones.

        Example:
            >>> Caps().smaller().mistakes
            6
        """
        return Caps(**{name: max(3, held // 2) for name, held in self.__dict__.items()})


@dataclass(frozen=True)
class Figure:
    """A number that stands large at the top: what it is, the number, what to know of it."""

    name: str
    value: str
    told: str = ""


@dataclass(frozen=True)
class Table:
    """A table: its caption, heads, rows of texts, and which columns hold numbers. `strong`: rows to stress."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[int] = frozenset()
    strong: frozenset[int] = frozenset()
    cut: str = ""  # what was left out, and how to see it


@dataclass(frozen=True)
class Answer:
    """A call: what was sent, message by message with who says it, what came back, and what is to know of it."""

    number: int
    model: str
    sent: Sequence[tuple[str, str]]
    reply: str
    told: str


@dataclass(frozen=True)
class Asked:
    """A time that the mentor was asked: what it proposed and what became of it, and the calls."""

    index: int
    number: int  # of the restart; 0: it became none
    told: str
    proposals: Table
    calls: Sequence[Answer]


@dataclass(frozen=True)
class Wrong:
    """An example that is read wrongly. `picture` is a `data:` address; "": it is a text."""

    text: str
    picture: str
    label: str
    predicted: str
    probability: str
    label_probability: str


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: for each label a row of counts with their share of the row, from 0 to 1."""

    labels: Sequence[str]
    rows: Sequence[Sequence[tuple[int, float]]]


@dataclass(frozen=True)
class Evaluated:
    """How the point does on labelled examples. `chose`: the point was chosen by them."""

    of: str
    chose: bool
    figures: Table
    classes: Table
    matrix: Matrix | None
    confusions: Table | None
    coverage: Table
    wrong: Sequence[Wrong]
    num_wrong: int
    notes: Sequence[str]


@dataclass(frozen=True)
class RunView:
    """All that a page says of a run. What is None or empty is left out, and `not_shown` says why where that is to be known."""

    anchor: str
    name: str
    status: str
    created: str
    facts: Sequence[tuple[str, str]]
    figures: Sequence[Figure]
    story: Sequence[Sentence]
    test: Table | None  # without `test`, of the examples that chose
    has_test: bool
    beside: Sequence[str]
    curve: Drawing | None
    rounds: Table
    way: Drawing | None
    places: Table | None
    why_no_way: str
    asked: Sequence[Asked]
    other_calls: Sequence[Answer]
    calls_cut: str
    no_mentor: str
    lines: Sequence[Table]
    lines_told: Sequence[str]
    evaluated: Evaluated | None
    why_not_evaluated: str
    cost: Table
    reproduce: Sequence[tuple[str, str]]
    hashes: Table
    settings: str
    template: str = "run.html"

    @property
    def title(self) -> str:
        return f"What became of {self.name}"


@dataclass(frozen=True)
class Wanted:
    """What a page is to hold of runs.

    Attributes:
        split: which labelled examples the point is judged on anew, class by class; None: none.
        examples: whether texts and pictures of the data, and what was sent to the mentor, stand in it.
    """

    split: Split | None = "select"
    examples: bool = True


def run_view(result: Result, anchor: str, judged: Judged | str, wanted: Wanted, caps: Caps) -> RunView:
    """Return what a page says of a run.

    Args:
        anchor: the id of its section.
        judged: what the chosen point reads of labelled examples; or why that is not known.
    """
    where = result.where_judged
    history = result.history
    try:
        way = way_of(history)
        why_no_way = "" if way else "The way of the tuned point is not drawn: fewer than three different points are stored."
    except MaaoError as error:
        way, why_no_way = None, f"The way of the tuned point is not drawn: {error}"
    asked, other, cut = _mentor(result, wanted, caps)
    evaluated, why_not = _evaluated_or_why(result, judged, wanted, caps)
    return RunView(
        anchor,
        result.folder.name,
        result.status,
        result.created[:16].replace("T", " "),
        list(_facts(result)),
        list(_figures(result, where)),
        story(ending_of(result)),
        _test(result) if result.finals else _where_chosen(result),
        bool(result.finals),
        _beside(result.baselines),
        loss_curve(result, f"{anchor}-curve", where),
        _rounds(result, where, caps),
        None if way is None else way_drawing(way, f"{anchor}-way", result.chosen.index),
        None if way is None else _places(way, result, caps),
        why_no_way,
        asked,
        other,
        cut,
        "" if asked else _no_mentor(result),
        _lines(result, None if isinstance(judged, str) or not wanted.examples else judged, caps),
        _lines_told(result, None if isinstance(judged, str) else judged, wanted),
        evaluated,
        why_not,
        _cost(*result.cost_about),
        _reproduce(result),
        _hashes(result),
        _cut(json.dumps(result.settings, indent=2, ensure_ascii=False), caps.settings),
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}\n… ({len(text) - most:,} characters more: maao show --calls, or the run folder)"


def _no_mentor(result: Result) -> str:
    walked = any(r.observations for r in result.history)
    return f"No mentor was asked in this run{': all of it is gradient descent' if walked else ', and nothing was walked'}."


def typed(result: Result) -> str:
    """Return a run's folder as it is typed in a command."""
    return shlex.quote(str(result.folder))


def few_rows(rows: Sequence[Sequence[str]], most: int, how: str) -> tuple[Sequence[Sequence[str]], str]:
    """Return the first rows, and what was left out."""
    return (rows, "") if len(rows) <= most else (rows[:most], f"{len(rows) - most:,} of {len(rows):,} are left out here: {how}.")


# -- what it is


def _facts(result: Result) -> Iterator[tuple[str, str]]:
    config = result.config
    if "model" in config.builder.sections:
        yield "Frozen model", config.model.name
        yield "What is tuned", config.model.method.name.replace("_", " ")
    labels: list[str] = result.environment["labels"]
    if labels:
        shown = ", ".join(labels[:8]) + (f" and {len(labels) - 8} more" if len(labels) > 8 else "")
        yield "Classes", f"{len(labels)}: {shown}"
    if result.text:
        yield "Its words", result.text
    for name, value in result.filled.items():
        yield f"Filled: {name}", value
    if result.thresholds is not None:
        yield "Left undecided", undecided_line(result.thresholds)
    yield "Mentor", config.mentor.name
    yield "Seed", str(config.seed)
    yield "Begun", f"{result.created[:16].replace('T', ' ')} UTC"


def _figures(result: Result, where: str) -> Iterator[Figure]:
    chosen, beside = result.finals.get("chosen"), result.baselines
    score = result.chosen.score if chosen is None else chosen.score
    if score.primary is not None and not score.is_unjudged:
        name, value = score.primary
        on = where if chosen is None else f"on test, {score.num_examples:,} examples"
        yield Figure(f"{readable(name)}, tuned", f"{value:.3f}", on)
    elif not score.is_unjudged:
        yield Figure("loss, tuned", f"{score.loss:.4g}", where if chosen is None else "on test")
    if beside is not None and (gain := beside.gain) is not None:
        picked = f"; the best of {gain.best_of} baselines as known afterwards" if gain.best_of > 1 else ""
        told = f"95 % interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f}{picked}"
        yield Figure(f"points over the {gain.over}", f"{100 * gain.accuracy:+.1f}", told)
    asked = [r for r in result.history if r.leg.ask]
    if asked:
        count = len(restarts(result.history))
        yield Figure(f"restart{'s' * (count != 1)}", str(count), f"of {sum(len(r.advice.proposals) for r in asked)} proposals")
    cost = result.cost
    yield Figure("gradient steps", f"{cost.gradient_steps:,}", f"{cost.seconds:,.0f} s")
    if cost.llm_calls:
        yield Figure("mentor calls", f"{cost.llm_calls:,}", dollars(cost.usd) if cost.usd else "no money")


# -- figures on test


def _test(result: Result) -> Table:
    first = next(iter(result.finals.values())).score
    rows = list(rows_on_test(result))
    strong = frozenset(i for i, row in enumerate(rows) if row.point == "chosen")
    caption = f"On test, {first.num_examples:,} examples, read once when the run ended"
    heads = ("", metric_name(first), "95 % interval", "loss", "what it is")
    return Table(caption, heads, [row[:5] for row in rows], frozenset({1, 2, 3}), strong)


def _where_chosen(result: Result) -> Table | None:
    """Return what one would use instead on the examples that chose, of a run without `test`."""
    beside, chosen = result.baselines, result.chosen.score
    if beside is None or not beside.baselines:
        return None
    loss, figure = columns(chosen)
    rows = [*(row[:5] for row in baseline_rows(beside)), ("tuned", figure, "", loss, "chosen by these very examples, which flatters it")]
    caption = f"{beside.where[0].upper()}{beside.where[1:]}, {chosen.num_examples:,} examples; no test examples were given"
    return Table(
        caption, ("", metric_name(chosen), "95 % interval", "loss", "what it is"), rows, frozenset({1, 2, 3}), frozenset({len(rows) - 1})
    )


def _beside(beside: Compared | None) -> Sequence[str]:
    return [] if beside is None else [f"Not shown: {reason}." for reason in beside.left_out]


# -- the walk


def _rounds(result: Result, where: str, caps: Caps) -> Table:
    metric = metric_name(result.history[0].score)
    rows, strong, numbers = list[tuple[str, ...]](), set[int](), iter(restarts(result.history))
    for r in result.history:
        if r.index == result.chosen.index:
            strong.add(len(rows))
        jump = next(numbers).number if r.verdict.chosen is not None else 0
        happened = _happened(r, jump) + (", in use" if r.index == result.chosen.index else "")
        train = f"{r.observations[-1].loss:.3f}" if r.observations else ""
        words = r.clues.projection.text if r.clues.projection else ""
        rows.append((str(r.index), str(r.state.step), train, *columns(r.score), happened, words))
    few, cut = few_rows(rows, caps.rounds, f"maao show {typed(result)}")
    heads = ("round", "step", "loss on train", f"loss {where}", f"{metric} {where}", "what happened", "its words")
    return Table("Every round", heads, few, frozenset(range(5)), frozenset(strong), cut)


def _happened(r: Finished, jump: int) -> str:
    if r.leg.closing:
        return r.verdict.reason
    if jump:
        return f"restart {jump}, then walked"
    if r.leg.ask:
        return "no proposal was taken, walked on"
    return "walked" if r.observations else "as it began"


def _places(way: Way, result: Result, caps: Caps) -> Table:
    """Return the drawn places in numbers."""
    ends = dict(zip(way.rounds, way.ends, strict=True))
    rows = []
    for index, place in ends.items():
        if index in way.begins:
            rows.append((str(index), "restart", *(f"{at:.4g}" for at in way.begins[index])))
        rows.append((str(index), "end", *(f"{at:.4g}" for at in place)))
    rows += [("", "proposed, not taken", *(f"{at:.4g}" for at in place)) for place in way.proposed]
    few, cut = few_rows(rows, caps.rounds, f"maao.load({str(result.folder)!r}).history")
    return Table("The same in numbers", ("round", "what", "first direction", "second direction"), few, frozenset({0, 2, 3}), cut=cut)


# -- the mentor


def _mentor(result: Result, wanted: Wanted, caps: Caps) -> tuple[list[Asked], list[Answer], str]:
    """Return each time that the mentor was asked, the calls that belong to none of them, and what was left out."""
    asked = [r for r in result.history if r.leg.ask]
    if not asked:
        return [], [], ""
    calls = list(result.calls)
    counts = [r.advice.cost.llm_calls for r in asked]
    told = [_answer(number, call, wanted, caps) for number, call in enumerate(calls, start=1)]
    matched = sum(counts) == len(calls)  # calls are stored as they come: where each round's are known, theirs follow each other
    shown, cut = told[: caps.calls], ""
    if len(told) > caps.calls:
        cut = f"{len(told) - caps.calls:,} of {len(told):,} calls are left out here: maao show {typed(result)} --calls."
    numbers, at, found = iter(restarts(result.history)), 0, list[Asked]()
    for r, count in zip(asked, counts, strict=True):
        own = shown[at : at + count] if matched else []
        at += count
        jump = next(numbers).number if r.verdict.chosen is not None else 0
        found.append(Asked(r.index, jump, _outcome(r), _proposals(r, result, caps), own))
    return found, [] if matched else shown, cut


def _outcome(r: Finished) -> str:
    made = f"{len(r.advice.proposals)} proposal{'s' * (len(r.advice.proposals) != 1)} could be used"
    left = sum(one.kind == "unusable" for one in r.advice.rejected)
    more = f", {left} could not" if left else ""
    became = "the walk went on" if r.verdict.chosen is None else "one became a restart"
    return f"{r.leg.proposals} wanted; {made}{more}; {became}." + (f" The rule: {r.verdict.reason}." if r.verdict.reason else "")


def _proposals(r: Finished, result: Result, caps: Caps) -> Table:
    metric = metric_name(result.history[0].score)
    scores = {c.proposal: c for c in r.verdict.considered}
    rows, strong = list[Sequence[str]](), set[int]()
    for i, proposal in enumerate(r.advice.proposals):
        looked = scores.get(i)
        if r.verdict.chosen == i:
            strong.add(len(rows))
        fate = "became the restart" if r.verdict.chosen == i else "not taken" if looked else "not scored"
        note = f" ({proposal.note})" if proposal.note else ""
        after = str(looked.age) if looked else ""
        said = line_of_proposal(proposal)[: caps.text]
        rows.append((said, fate + note, *columns(looked.score if looked else None), after, proposal.source))
    if None in scores:
        own = scores[None]
        rows.append(("(the walk as it was)", "went on" if r.verdict.chosen is None else "left", *columns(own.score), str(own.age), ""))
    for one in r.advice.rejected:
        rows.append((one.text[: caps.text], refusal(one, one.reason), "", "", "", ""))
    few, cut = few_rows(rows, caps.proposals, f"maao show {typed(result)}")
    heads: Sequence[str] = ("what was proposed", "what became of it", "loss", metric, "after steps", "from")
    if len({proposal.source for proposal in r.advice.proposals}) < 2:  # all are from one mentor, whose name stands above
        few, heads = [row[:-1] for row in few], heads[:-1]
    return Table(f"Proposals of round {r.index}", heads, few, frozenset({2, 3, 4}), frozenset(strong), cut)


def _answer(number: int, call: Call, wanted: Wanted, caps: Caps) -> Answer:
    when = call.date[:19].replace("T", " ")
    read, written, about = call.about
    counts = f"{tokens_told(read, written, about=about)}, {call.seconds:.1f} s"
    cost = f", {dollars(call.usd)}" if call.usd else ""
    told = [when, counts + cost]
    try:
        reply = reply_from_json(call.reply)
    except ValueError as error:
        reply = Reply("")
        told.append(f"the reply cannot be used: {error}")
    told += [f"ended by: {reply.finish_reason}"] * bool(reply.finish_reason)
    told += [part for part in (reply.who and f"answered by {reply.who}", reply.how, reply.why_empty, reply.note) if part]
    sent: list[tuple[str, str]] = []
    if wanted.examples:
        try:
            sent = [(one.role, _cut(one.content, caps.text)) for one in request_from_json(call.request).messages]
        except ValueError as error:
            told.append(f"the request cannot be read: {error}")
    return Answer(number, call.model, sent, _cut(reply.text, caps.text), "; ".join(told))


# -- class lines


def _lines_told(result: Result, judged: Judged | None, wanted: Wanted) -> list[str]:
    told = beliefs(result.chosen.clues.line_weights)[:1]
    splits = None if judged is None else judged.parts.splits
    if splits is not None and splits.lines and not wanted.examples:
        told.append(f"Class lines that came with the data are not shown here: {len(splits.lines):,}.")
    return told


def _lines(result: Result, judged: Judged | None, caps: Caps) -> list[Table]:
    """Return the class lines that the point was trained on: those of the mentor, and those that came with the data."""
    splits = None if judged is None else judged.parts.splits
    held = (
        ("Class lines that the mentor said", result.lines.lines),
        ("Class lines that came with the data", splits.lines if splits else ()),
    )
    found = []
    for caption, lines in held:
        if lines:
            rows = [(line.label, line.kind.removesuffix("s"), line.text[: caps.text], f"{line.weight:.2f}") for line in lines]
            few, cut = few_rows(rows, caps.lines, f"maao show {typed(result)} --lines")
            heads = ("class", "kind", "line", "weight")
            found.append(
                Table(f"{caption}: {len(lines):,}, each with its weight beside a labelled example", heads, few, frozenset({3}), cut=cut)
            )
    return found


# -- class by class


def _evaluated_or_why(result: Result, judged: Judged | str, wanted: Wanted, caps: Caps) -> tuple[Evaluated | None, str]:
    """Return how the point does class by class, or why that is not known."""
    if isinstance(judged, str):
        return None, judged
    try:
        return _evaluated(result, judged, wanted, caps), ""
    except MaaoError as error:  # scikit-learn is not there
        return None, f"Not shown: {error}"


def _evaluated(result: Result, judged: Judged, wanted: Wanted, caps: Caps) -> Evaluated:
    found = result.evaluated(judged)
    show = judged.picture if isinstance(judged.parts.problem, Pictured) else None
    mistakes = found.mistakes[: caps.mistakes] if wanted.examples else ()
    return Evaluated(
        f"{found.of}: {found.num_examples:,} examples",
        wanted.split == "select",
        _evaluation_figures(found),
        _classes(found, result, caps),
        _matrix(found) if len(found.labels) <= MOST_MATRIX else None,
        _confusions(found.confusions, result, caps) if found.confusions else None,
        Table(
            "If only the surest are decided",
            ("decided", "examples", "accuracy", "confidence at least"),
            [(f"{100 * p.coverage:.0f} %", f"{p.num_examples:,}", f"{p.accuracy:.3f}", f"{p.confidence:.3f}") for p in found.coverage],
            frozenset(range(4)),
        ),
        [_wrong(one, show, caps) for one in mistakes],
        len(found.mistakes),
        found.notes,
    )


def _evaluation_figures(found: Evaluation) -> Table:
    low, high = found.interval
    rows = [
        ("accuracy", f"{found.accuracy:.3f}", f"95 % interval {low:.3f} to {high:.3f}"),
        ("balanced accuracy", f"{found.balanced_accuracy:.3f}", "mean recall of the classes"),
        ("macro F1", f"{found.macro_f1:.3f}", "mean F1 of the classes"),
        ("log-loss", f"{found.log_loss:.3f}", "lower is better"),
        ("calibration error", f"{found.calibration.error:.3f}", "how far confidence lies from accuracy"),
    ]
    own = [
        (readable(name), f"{value:.3f}", "")
        for name, value in found.score.metrics.items()
        if name not in ("accuracy", "balanced_accuracy", "f1_macro", "log_loss")
    ]
    return Table("Figures", ("", "value", "what it says"), [*rows, *own], frozenset({1}))


def _classes(found: Evaluation, result: Result, caps: Caps) -> Table:
    worst: Sequence[ClassReport] = sorted(found.classes, key=lambda own: (own.f1, -own.num_examples))
    rows = [
        (
            own.label,
            f"{own.f1:.3f}",
            f"{own.precision:.3f}" if own.num_predicted else "–",
            f"{own.recall:.3f}" if own.num_examples else "–",
            f"{own.num_examples:,}",
            f"{own.num_predicted:,}",
        )
        for own in worst
    ]
    few, cut = few_rows(rows, caps.classes, f"maao evaluate {typed(result)} --all")
    heads = ("class", "F1", "precision", "recall", "examples", "read as it")
    return Table("Classes, the worst first", heads, few, frozenset(range(1, 6)), cut=cut)


def _matrix(found: Evaluation) -> Matrix:
    counts = found.confusion_matrix.tolist()
    rows = [[(count, count / max(1, sum(row))) for count in row] for row in counts]
    return Matrix(found.labels, rows)


def _confusions(confusions: Sequence[Confusion], result: Result, caps: Caps) -> Table:
    rows = [(one.label, one.predicted, f"{one.count:,}") for one in confusions]
    few, cut = few_rows(rows, caps.confusions, f"maao evaluate {typed(result)} --json")
    return Table("Read as another class most often", ("label", "read as", "times"), few, frozenset({2}), cut=cut)


def _wrong(one: Mistake, show: Callable[[Example], Image] | None, caps: Caps) -> Wrong:
    return Wrong(
        in_words(one.example)[: caps.text],
        "" if show is None else thumbnail(show(one.example)),
        one.example.label,
        one.predicted,
        f"{one.probability:.2f}",
        f"{one.label_probability:.2f}",
    )


# -- cost, and how to have it again


def _cost(cost: Cost, about: bool) -> Table:
    roughly = "about " if about else ""
    rows = [
        ("gradient steps", f"{cost.gradient_steps:,}"),
        ("tokens (or pictures) through the frozen model", f"{cost.model_tokens:,}"),
        ("scores that could influence a choice", f"{cost.selection_evals:,}"),
        ("mentor calls", f"{cost.llm_calls:,}"),
        ("tokens to the mentor", f"{roughly}{cost.input_tokens:,}"),
        ("tokens from the mentor", f"{roughly}{cost.output_tokens:,}"),
        ("money", dollars(cost.usd) if cost.usd else "none"),
        ("time", f"{cost.seconds:,.0f} s"),
    ]
    return Table("What the run spent", ("", "spent"), rows, frozenset({1}))


def _reproduce(result: Result) -> list[tuple[str, str]]:
    name = typed(result)
    return [
        ("run it again on the recorded replies, and compare bit for bit", f"maao replay {name}"),
        ("read it out at the terminal", f"maao show {name} --clues --calls"),
        ("use it", f"maao predict {name} --file FILE"),
    ]


def _hashes(result: Result) -> Table:
    environment = result.environment
    rows = [("parameters at the end", result.digest)]
    rows += [(told, environment.get(key, "")) for key, told in HASHES.items() if environment.get(key)]
    rows += [(f"package {name}", version) for name, version in environment["packages"].items()]
    rows += [(name, str(environment[name])) for name in ("python", "platform", "threads") if environment.get(name)]
    return Table("Hashes and versions", ("what", "is"), rows)


HASHES: Mapping[str, str] = {
    "data": "examples",
    "lines": "class lines of the data",
    "weights": "weights of the frozen model",
    "adapter": "adapter that it begins with",
    "wording": "wording of the instruction",
}

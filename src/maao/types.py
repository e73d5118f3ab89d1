"""The values that a run is made of.

All are frozen. Together with the seed they are the whole state of a run: what is stored is all there is. `P` is the type of the tuned
values (`params`), `S` the type of a gradient stage's state; nothing here knows what either looks like.

Direction is in the word: a loss is better when lower, a metric when higher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from math import inf, isfinite
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    from maao.class_lines import Line

P = TypeVar("P")
S = TypeVar("S", bound="HasParams")
JSON = dict[str, Any]  # a JSON object as it was read or is to be written: what a key holds is checked where it is used

Split = Literal["train", "select", "test"]


def known(kind: type, held: JSON) -> JSON:
    """Return what a dataclass has a field for of a stored object: further keys, of a newer maao, are no fault.

    Example:
        >>> known(Example, {"fields": {"text": "fine"}, "label": 0, "of_a_newer_maao": 1})
        {'fields': {'text': 'fine'}, 'label': 0}
    """
    return {name: held[name] for name in (each.name for each in fields(kind)) if name in held}


class HasParams(Protocol):
    """What a gradient stage's state must show to others: the point it stands at, and how far it has walked."""

    @property
    def params(self) -> Any: ...

    @property
    def start(self) -> Any:
        """The params of the last restart, where this walk began."""
        ...

    @property
    def step(self) -> int:
        """Gradient steps made since the beginning of the run, on the way that led here."""
        ...

    @property
    def age(self) -> int:
        """Gradient steps made since the last restart."""
        ...


@dataclass(frozen=True, slots=True)
class Cost:
    """What something spent. Compare mentors at equal cost, never at equal rounds.

    Example:
        >>> (Cost(gradient_steps=2, selection_evals=1) + Cost(gradient_steps=3)).gradient_steps
        5
    """

    gradient_steps: int = 0
    model_tokens: int = 0  # tokens (or images) through the frozen model: 1 for a forward pass, 1 more for its backward
    scored_examples: int = 0
    selection_evals: int = 0  # scores on `select` that could influence a choice
    llm_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    seconds: float = field(default=0.0, compare=False)  # measured, so no part of equality

    def __repr__(self) -> str:
        return f"Cost({', '.join(f'{name}={value:.6g}' for name, value in asdict(self).items() if value)})"

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.gradient_steps + other.gradient_steps,
            self.model_tokens + other.model_tokens,
            self.scored_examples + other.scored_examples,
            self.selection_evals + other.selection_evals,
            self.llm_calls + other.llm_calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.usd + other.usd,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True, slots=True)
class Score:
    """How good a point is on one split: a loss (lower is better), metrics (higher is better), and over how many examples.

    `always` is the one class that every example is put into; "": there are several, or it is not known. `unread` says for how many
    examples there is no class score that is a number; they count as read wrongly, and the loss is no number then.
    """

    loss: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    num_examples: int = 0
    cost: Cost = Cost()
    always: str = field(default="", compare=False)
    unread: int = field(default=0, compare=False)

    def __repr__(self) -> str:
        metrics = "".join(f", {readable(name)} {value:.4g}" for name, value in self.metrics.items())
        return f"Score(loss {self.loss:.4g}{metrics}, {self.num_examples} examples)"

    @property
    def is_unjudged(self) -> bool:
        """Whether there was no example to judge by."""
        return self.loss != self.loss and not self.num_examples

    @property
    def rank(self) -> float:
        """The loss to choose by: what is no finite number is worse than any.

        Example:
            >>> Score(0.5).rank, Score(float("nan")).rank, Score(float("-inf")).rank
            (0.5, inf, inf)
        """
        return self.loss if isfinite(self.loss) else inf

    @property
    def primary(self) -> tuple[str, float] | None:
        """The metric that is shown where there is room for one, the first, by name: accuracy, if `data.metrics` names no other."""
        return next(iter(self.metrics.items()), None)

    @property
    def accuracy(self) -> float | None:
        return self.metrics.get("accuracy")


def choice_name(name: str) -> str:
    """Return the name of a choice (a mentor, a method, a metric, ...) without the file that it may come from.

    Example:
        >>> choice_name("race"), choice_name("/home/me/own.py:Mine")
        ('race', 'Mine')
    """
    return name.rpartition(":")[2]


def readable(name: str) -> str:
    """Return a metric's name as people read it, without the file that it may come from.

    Example:
        >>> readable("f1_macro"), readable("/tables/own.py:rare_recall")
        ('f1 macro', 'rare recall')
    """
    return choice_name(name).replace("_", " ")


@dataclass(frozen=True, slots=True)
class Observation(Generic[P]):
    """One visited point: the loss **at** it, before the update that left it.

    `step` counts the gradient steps made before this point was measured. `params` is kept only where the leg asks for it. `note` says what
    happened here that a reader should know (a rollback, say).
    """

    step: int
    loss: float
    params: P | None = field(default=None, repr=False)
    note: str | None = None
    cost: Cost = Cost()


@dataclass(frozen=True, slots=True)
class Token:
    """A vocabulary token in words, with how well it fits (cosine similarity: higher is closer)."""

    text: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Projection:
    """A point put into words, and what the words alone are worth: `score` is that of the re-encoded text on `select`.

    `gap` is the words' loss minus the soft point's loss on the same examples. A large gap says: the words do not carry what was learnt.
    """

    text: str
    score: Score
    gap: float


@dataclass(frozen=True, slots=True)
class Confusion:
    """`count` examples of `train` whose label is `label` were read as `predicted`."""

    label: str
    predicted: str
    count: int


@dataclass(frozen=True, slots=True)
class Misclassified:
    """An example of `train` that the point reads wrongly."""

    text: str
    label: str
    predicted: str


@dataclass(frozen=True, slots=True)
class LineWeight:
    """A class line that a point was trained on, and what it weighs in the end beside a labelled example; 0: it is not believed.

    `belief` is how far the model believes it, where that is no part of its weight.
    """

    label: str
    text: str
    weight: float
    belief: float | None = None


@dataclass(frozen=True, slots=True)
class Clues:
    """What can be said in words about a point. Examples come from `train` only. Every part is empty where a problem has none."""

    projection: Projection | None = None
    nearest: tuple[tuple[Token, ...], ...] = ()  # per slot, the closest tokens
    gradient: tuple[tuple[Token, ...], ...] = ()  # per slot, the tokens that the negative gradient points to
    displacement: tuple[tuple[Token, ...], ...] = ()  # per slot, the tokens that the walk since the last restart points to
    confusions: tuple[Confusion, ...] = ()
    misclassified: tuple[Misclassified, ...] = ()
    self_continuation: str | None = None  # the tuned model's own continuation of its soft prompt
    cost: Cost = Cost()
    line_weights: tuple[LineWeight, ...] = field(default=(), compare=False)  # of each class line that the point holds, as it says itself

    def __repr__(self) -> str:
        words = None if self.projection is None else self.projection.text
        held = {
            "nearest": self.nearest,
            "gradient": self.gradient,
            "displacement": self.displacement,
            "confusions": self.confusions,
            "misclassified": self.misclassified,
            "self_continuation": self.self_continuation,
            "line_weights": self.line_weights,
        }
        return f"Clues(text={words!r}, with {', '.join(name for name, value in held.items() if value) or 'nothing else'})"


TEMPLATE, WORD = "template", "label_words."  # names of a proposal's fields; a label's word is named after the label
EXAMPLES, DESCRIPTIONS = "examples.", "descriptions."  # the same of class lines, one a line, each named after its class
LINES_WEIGHT = "lines_weight"  # what each of them weighs beside a labelled example


@dataclass(frozen=True, slots=True)
class Proposal(Generic[P]):
    """A place to start the next walk from.

    `params` may name only some of the tuned values; a restart replaces those and keeps the others. `text` is what was proposed in words
    (or what the point says, for mentors that do not speak). `note` records what was done to make it fit (cut, repeated). `fields` holds
    further parts that a proposal fills in, by name, where the problem allows it (the template, label words). `source` is for people;
    `mentor` names who made it where several mentors propose together, `replaces` the member of a population that it may replace.
    """

    text: str
    params: P = field(repr=False)
    source: str = ""
    note: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    mentor: str = ""
    replaces: int | None = None


Rejection = Literal["unusable", "failed_call", "capped"]


@dataclass(frozen=True, slots=True)
class Rejected:
    """What became no proposal, and why.

    Its kind: an "unusable" text, a "failed_call" that gave no reply, or a call that was not made since it could pass a cap ("capped").
    """

    text: str
    reason: str
    kind: Rejection = "unusable"


@dataclass(frozen=True, slots=True)
class Advice(Generic[P]):
    """What a mentor said: proposals, and what was said but cannot be used. Nothing a mentor says is dropped in silence."""

    proposals: tuple[Proposal[P], ...] = ()
    rejected: tuple[Rejected, ...] = ()
    cost: Cost = Cost()

    def __repr__(self) -> str:
        texts = ", ".join(repr(proposal.text) for proposal in self.proposals)
        return f"Advice([{texts}], {len(self.rejected)} rejected, {self.cost!r})"


@dataclass(frozen=True, slots=True)
class Considered(Generic[P]):
    """A score that an acceptance rule looked at. `proposal` is its position in the advice, or None for the incumbent.

    `params` is the scored point, where the rule keeps all walks and the point stands nowhere else.
    """

    proposal: int | None
    score: Score
    age: int = 0  # gradient steps since its own start when it was scored
    weight: float = 1.0  # how far the scored point stood on the way from the incumbent to the proposal
    params: P | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Verdict(Generic[S]):
    """What became of the proposals: the state to go on from, which proposal it came from (None: the incumbent), what was looked at, why."""

    state: S
    chosen: int | None
    considered: tuple[Considered[Any], ...] = ()
    reason: str = ""
    cost: Cost = Cost()

    def __repr__(self) -> str:
        return f"Verdict(chosen={self.chosen}, {len(self.considered)} considered, {self.reason!r}, {self.cost!r})"


@dataclass(frozen=True, slots=True)
class Leg:
    """A stretch of gradient steps, the unit of storing. If `ask`, the mentor is asked for `proposals` before it starts.

    A stored one says how far it came: where the time of a run was up it has fewer steps than were planned, and is `unjudged` where there
    was none left to judge proposals. Where a restart was taken back, `tried` is how many steps it was to walk: the time may have ended the
    leg before it came so far. The one that is `closing` takes no step: all walks of a run are averaged there (`core/averaging.py`).
    """

    steps: int
    ask: bool = False
    proposals: int = 3
    keep_every: int = 0  # keep `params` in every n-th observation; 0: never
    closing: bool = False
    unjudged: bool = field(default=False, compare=False)  # what became of the proposals says it too
    tried: int = field(default=0, compare=False)  # so does the verdict of this


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Round(Generic[P, S]):
    """A finished leg and all that led to it. `score` and `clues` speak of `state.params`, where the leg ended."""

    index: int
    leg: Leg
    advice: Advice[P]
    verdict: Verdict[S]
    observations: tuple[Observation[P], ...]
    score: Score
    clues: Clues
    state: S
    cost: Cost

    def __repr__(self) -> str:
        asked = f", {len(self.advice.proposals)} proposals" if self.leg.ask else ""
        kept = "" if self.verdict.chosen is None else f", restarted from {self.advice.proposals[self.verdict.chosen].text!r}"
        return f"Round({self.index}, {self.leg.steps} steps{asked}{kept}, {self.score!r})"


def failed_calls(history: tuple[Round[P, S], ...]) -> tuple[Rejected, ...]:
    """Return the calls of a history that gave no reply or were not made, in their order."""
    return tuple(rejected for r in history for rejected in r.advice.rejected if rejected.kind != "unusable")


def total_cost(history: tuple[Round[P, S], ...]) -> Cost:
    """Return what all rounds of a history spent together."""
    return sum((r.cost for r in history), Cost())


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled example: its text fields by name (`{"text": ...}`, or `{"premise": ..., "hypothesis": ...}`) and its label.

    `choices` are the answer texts of a multiple-choice question; its label is then the position of the right one, "0" the first. `group`
    names the question that an example belongs to where several examples make up one, which metrics judge together.
    """

    fields: Mapping[str, str]
    label: str
    choices: tuple[str, ...] = ()
    group: str = ""

    def __repr__(self) -> str:
        further = [f", {name}={value!r}" for name, value in (("choices", self.choices), ("group", self.group)) if value]
        return f"Example(fields={self.fields!r}, label={self.label!r}{''.join(further)})"


@dataclass(frozen=True, slots=True)
class Mistake:
    """An example that is read wrongly, and how probable what it was read as and its own label are."""

    example: Example
    predicted: str
    probability: float  # of what was read
    label_probability: float


@dataclass(frozen=True, slots=True)
class Splits:
    """Three disjoint sets of examples: `train` gives gradients, `select` every number that influences a choice, `test` is read once.

    `labels` fixes the order of the classes. `digest` is a hash of all of it. `notes` says what was done on the way (repeats dropped, ...).
    With `folds`, `select` is empty: `train` is cross-validated. Each of its examples then has the number of its fold, and is judged by what
    was tuned without that fold.

    `lines` are what someone said of the classes, and nobody labelled: gradients read them beside `train`, each at its own weight; nothing
    is chosen or reported by them, and `digest` is without them.
    """

    train: tuple[Example, ...]
    select: tuple[Example, ...]
    test: tuple[Example, ...]
    labels: tuple[str, ...]
    digest: str = ""
    notes: tuple[str, ...] = ()
    folds: tuple[int, ...] = ()
    lines: tuple[Line, ...] = ()

    @property
    def num_folds(self) -> int:
        """How many folds there are; 0: `select` judges, or nothing does."""
        return max(self.folds, default=-1) + 1

    @property
    def judged(self) -> tuple[Example, ...]:
        """The examples that every number that influences a choice is read from."""
        return self.train if self.folds else self.select

    @property
    def is_unlabelled(self) -> bool:
        """Whether no label is spent: nothing is tuned then, and nothing is judged."""
        return not (self.train or self.select)

    @property
    def walked(self) -> tuple[Example, ...]:
        """What gradients read: the examples of `train`, then the lines."""
        return (*self.train, *map(self.as_example, self.lines))

    def as_example(self, line: Line) -> Example:
        """Return a line in the place of an example, whose one field it fills."""
        first = next(iter((*self.train, *self.select, *self.test)), None)
        return Example({"text" if first is None else next(iter(first.fields)): line.text}, line.label)

    @property
    def parts(self) -> Mapping[Split, tuple[Example, ...]]:
        """The three by name, in that order."""
        return {"train": self.train, "select": self.select, "test": self.test}

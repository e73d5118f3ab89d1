"""Write what a mentor reads: a pure function from a selection of the history to a text.

The wording stands in ``instructions/*.txt``, one file a way of asking; a wording of your own is a file with the same ``$fields``. What may
be shown (scores, clues, training examples) is an option, so that each can be left out and its worth measured.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Literal

from pydantic import Field

from maao.errors import ConfigError
from maao.mentors.fields import WORKED, Fields, worked_lines
from maao.mentors.reply import PLACE
from maao.mentors.trajectory import Entry
from maao.options import Section
from maao.types import TEMPLATE, Clues, Score, Token, readable

GOOD_LOSS = 0.5  # what a continuation is asked to reach when nothing has been tried yet; the wording's own examples are close to it
OWN = {"image": "vision_", "matched_text": "matched_"}  # begins the name of a wording's text for such inputs
UNSCORED = "_unscored"  # ends the name of a wording's text for instructions that show no scores
FILLED = "_filled"  # ends the name of a wording's text that asks for more than the prompt

Scores = Literal["both", "reached", "words", "shuffled", "none"]


@dataclass(frozen=True, slots=True)
class Task:
    """What a mentor is told of the task: a sentence, the labels, the template around the prompt, and how long a prompt is."""

    description: str
    labels: tuple[str, ...] = ()
    template: str = ""
    max_tokens: int = 8


@dataclass(frozen=True, slots=True)
class Shown:
    """What of the evidence is shown. `examples` are misread training examples, which hold the user's data.

    `scores` "shuffled" shows all of them, dealt out anew among the prompts by the mentor: a control.

    `top_words` is how many words a position are shown at most, where a clue has words position by position; clues hold three.
    """

    scores: Scores = "both"
    nearest: bool = False
    gradient: bool = True
    displacement: bool = True
    confusions: bool = True
    examples: bool = False
    gap: bool = True
    self_continuation: bool = False
    top_words: int = 3

    def __post_init__(self) -> None:
        if self.top_words < 1:
            raise ConfigError(f"Clues show at least one word a position; got top_words = {self.top_words}.")


class ShownOptions(Section):
    """Which evidence an instruction shows."""

    scores: Scores = Field(
        "both", description="The loss reached from a prompt, that of its words alone, both, both dealt out at random (a control), or none."
    )
    nearest: bool = Field(False, description="Show the words nearest to the tuned vectors.")
    gradient: bool = Field(True, description="Show the words that the gradient asks for.")
    displacement: bool = Field(True, description="Show the words that the vectors have moved towards.")
    confusions: bool = Field(True, description="Show which labels are read as which, and how often.")
    examples: bool = Field(False, description="Show misread training examples to a model that runs on this machine.")
    gap: bool = Field(True, description="Show by how much the tuned vectors do better than their words.")
    self_continuation: bool = Field(
        False, description="Show how the tuned model continues the vectors (decoders); to a remote model only with share_examples."
    )
    top_words: int = Field(3, ge=1, le=1_000, description="Most words shown for each position where clues name words; they hold three.")

    def build(self, *, remote: bool, share_examples: bool) -> Shown:
        """Return what is shown. What holds training text, or can repeat it, leaves this machine only where the user says so."""
        shown = Shown(**self.model_dump())
        return replace(shown, examples=share_examples, self_continuation=self.self_continuation and share_examples) if remote else shown


def wording(name: str, scores: Scores = "both", filled: bool = False) -> Template:
    """Return a wording by name ("chat", "completion", "guided", ...) or by the path of a text file.

    A wording whose own examples tell of scores has a second text that does not, for an instruction that shows none (beside `mine.txt`,
    `mine_unscored.txt`). What asks for more than a prompt, `filled`, has a text of its own too.

    Raises:
        ConfigError: there is no such wording, its file is not UTF-8, or it does not say what is asked for beside the prompt.

    Example:
        >>> [wording("completion", scores).template.count("Loss") for scores in ("both", "none")]
        [4, 0]
    """
    folder = files("maao.mentors") / "instructions"
    if filled:
        return _filled_wording(name)
    named = folder / f"{name}{UNSCORED}.txt"
    path = named if scores == "none" and named.is_file() else folder / f"{name}.txt"
    if path.is_file():
        return Template(path.read_text(encoding="utf-8"))
    own = Path(name)
    unscored = own.with_name(f"{own.stem}{UNSCORED}{own.suffix}")
    if own.is_file():
        own = unscored if scores == "none" and unscored.is_file() else own
        try:
            return Template(own.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            line = own.read_bytes()[: error.start].count(b"\n") + 1
            raise ConfigError(f"{own} is not UTF-8 text: line {line} cannot be decoded.") from error
    raise ConfigError(f"Unknown wording '{name}': give one of {', '.join(named_wordings())}, or the path of a text file.")


def _filled_wording(name: str) -> Template:
    """Return the text of a wording that asks for more than a prompt."""
    path = files("maao.mentors") / "instructions" / f"{name}{FILLED}.txt"
    found = Template(path.read_text(encoding="utf-8")) if path.is_file() else wording(name)
    if "form" not in found.get_identifiers():
        raise ConfigError(
            f"The wording '{name}' does not tell a mentor how to fill what mentor.fills names: use 'guided', or a text of your own that "
            "holds $form."
        )
    return found


def named_wordings() -> list[str]:
    """Return the names of the wordings that there are; those for pictures begin with "vision_", those for matched texts with "matched_"."""
    names = sorted(p.name.removesuffix(".txt") for p in (files("maao.mentors") / "instructions").iterdir() if p.name.endswith(".txt"))
    return [name for name in names if not name.endswith((UNSCORED, FILLED))]


def write(
    template: Template,
    task: Task,
    listing: Sequence[Entry],
    clues: Clues | None,
    *,
    count: int,
    shown: Shown,
    filled: Fields | None = None,
) -> str:
    """Return the instruction: `listing` worst first, `clues` those of the last point, `filled` what is asked for beside the prompt."""
    if filled is not None:  # a line says all that is asked for
        listing = [replace(entry, text=filled.line(entry.text, entry.fields), fields={}) for entry in listing]
    placed = task.template.replace("{slots}", PLACE)
    fields = {
        "description": task.description.strip(),
        "labels": ", ".join(task.labels),
        "template": filled.own[TEMPLATE].replace("\n", "\\n") if filled and "template" in filled.names else placed,
        "listing": "\n".join(_line(entry, shown) for entry in listing) or "(nothing has been tried yet)",
        "blocks": "\n\n".join(_block(entry, shown) for entry in sorted(listing, key=lambda e: -_shown_loss(e, shown))),
        "good": "\n".join(_line(entry, shown) for entry in reversed(listing[len(listing) // 2 :])) or "(nothing has been tried yet)",
        "bad": "\n".join(_line(entry, shown) for entry in listing[: len(listing) // 2]) or "(nothing has been tried yet)",
        "texts": "\n".join(_short_line(entry, shown) for entry in listing),
        "next": _next(listing, shown),
        "clues": "\n".join(_clue_lines(clues, shown)) if clues else "",
        "count": str(count),
        "max_words": str(max(1, round(task.max_tokens * 0.8))),
        "max_tokens": str(task.max_tokens),
        "form": "a prompt" if filled is None else filled.form,
        "chosen": "" if filled is None else filled.chosen,
        **{task: "\n".join(f"- {line}" for line in worked_lines(task, filled.names if filled else ())) for task in WORKED},
    }
    try:
        text = template.substitute(fields)
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"The wording of the instruction has an unknown field: {error}. Known: {', '.join('$' + f for f in fields)}."
        ) from error
    return tidy(text)


def json_form(filled: Fields | None = None) -> str:
    """Return the sentence that asks for the lines as JSON, in the form of `json_schema`."""
    if filled is None:
        return 'Write these lines as JSON, {"prompts": ["...", "..."]}, with nothing around it.'
    template = [f'"{TEMPLATE}": "..."'] if "template" in filled.names else []
    words = ", ".join(f'{json.dumps(label, ensure_ascii=False)}: "..."' for label in filled.labels)
    parts = ['"prompt": "..."', *template, *([f'"label_words": {{{words}}}'] if "label_words" in filled.names else [])]
    return f'Write these lines as JSON, {{"prompts": [{{{", ".join(parts)}}}, ...]}}, with nothing around it.'


def json_schema(filled: Fields | None = None) -> dict[str, object]:
    """Return the JSON schema of a reply: an object with a list of prompts, each with what it fills where that is asked for.

    Every name is required and no other allowed: servers that hold a model strictly to a schema ask for both.

    Example:
        >>> json_schema()["properties"]
        {'prompts': {'type': 'array', 'items': {'type': 'string'}}}
    """
    text: dict[str, object] = {"type": "string"}
    item = text
    if filled is not None:
        template = {TEMPLATE: text} if "template" in filled.names else {}
        words = {"label_words": closed_object(dict.fromkeys(filled.labels, text))} if "label_words" in filled.names else {}
        item = closed_object({"prompt": text, **template, **words})
    return closed_object({"prompts": {"type": "array", "items": item}})


def closed_object(properties: dict[str, object]) -> dict[str, object]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def tidy(text: str) -> str:
    """Join runs of blank lines, which empty parts leave behind."""
    lines: list[str] = []
    for line in (line.rstrip() for line in text.splitlines()):
        if line or (lines and lines[-1]):
            lines.append(line)
    return "\n".join(lines).strip("\n")


def _line(entry: Entry, shown: Shown) -> str:
    alone = "the words alone" if entry.ended else "its words alone"
    words = f"{alone}: {_score(entry.words)}" if entry.words else ""
    reached = _reached(entry)
    everything = [reached, words]
    parts = {
        "both": everything,
        "shuffled": everything,
        "reached": [reached or words],
        "words": [words or f"{alone}: not measured"],
        "none": [],
    }[shown.scores]
    told = "; ".join(part for part in parts if part)
    return f"- {entry.line}" + (f" ({told})" if told else "")


def _reached(entry: Entry) -> str:
    """Return what the text led to, in words; nothing where it was scored as it stands."""
    score = _score(entry.reached)
    if entry.ended:
        return f"tuned vectors whose nearest words these are: {score}"
    walked = f" after {entry.steps} gradient steps from it" if entry.steps else ""
    if entry.weight < 1:
        return f"mixed with the incumbent: {score}{walked.removesuffix(' from it')}"
    return f"{score}{walked}" if walked else ""


def _score(score: Score) -> str:
    return f"loss {score.loss:.3f}{_primary(score)}"


def _short_line(entry: Entry, shown: Shown) -> str:
    return f"Prompt: {entry.line}" if shown.scores == "none" else f"Loss {_shown_loss(entry, shown):.2f}, prompt: {entry.line}"


def _block(entry: Entry, shown: Shown) -> str:
    """Return a text with its scores on lines of their own, as the reference release (2024) listed them."""
    if shown.scores == "none":
        return f"Template: {entry.line}"
    score = _shown_score(entry, shown)
    primary = [] if score.primary is None else [f"{readable(score.primary[0]).capitalize()}: {score.primary[1]:.3f}"]
    return "\n".join([f"Template: {entry.line}", f"Loss: {score.loss:.3f}", *primary])


def _next(listing: Sequence[Entry], shown: Shown) -> str:
    """Return how the next line of a listing begins: with a loss a little below the best, so that a better prompt is what continues it."""
    if shown.scores == "none":
        return "Prompt:"
    if not listing:
        return f"Loss {GOOD_LOSS:.2f}, prompt:"
    return f"Loss {0.9 * min(_shown_loss(entry, shown) for entry in listing):.2f}, prompt:"


def _shown_loss(entry: Entry, shown: Shown) -> float:
    return _shown_score(entry, shown).loss


def _shown_score(entry: Entry, shown: Shown) -> Score:
    """Return the one score that is told of an entry where there is room for one."""
    return entry.words if shown.scores == "words" and entry.words else entry.reached


def _primary(score: Score) -> str:
    return "" if score.primary is None else f", {readable(score.primary[0])} {score.primary[1]:.3f}"


def _clue_lines(clues: Clues, shown: Shown) -> list[str]:
    lines = []
    if shown.nearest and clues.nearest:
        lines.append(f"Words nearest to the tuned vectors, position by position: {_slots(clues.nearest, shown)}")
    if shown.gradient and clues.gradient:
        lines.append(f"Words that the gradient asks for, position by position: {_slots(clues.gradient, shown)}")
    if shown.displacement and clues.displacement:
        lines.append(f"Words that the vectors have moved towards: {_slots(clues.displacement, shown)}")
    if shown.gap and clues.projection is not None:
        lines.append(f"The tuned vectors do better than their nearest words by a loss of {clues.projection.gap:.3f}.")
    if shown.confusions and clues.confusions:
        pairs = ", ".join(f"{c.label} read as {c.predicted} ({c.count} times)" for c in clues.confusions[:5])
        lines.append(f"Mistakes on the training examples: {pairs}")
    if shown.examples and clues.misclassified:
        lines.append("Training examples that are misread:")
        lines += [f'- "{m.text}" is {m.label}, read as {m.predicted}' for m in clues.misclassified]
    if shown.self_continuation and clues.self_continuation:
        lines.append(f"How the model itself continues the tuned vectors: {clues.self_continuation}")
    return lines


def _slots(slots: Sequence[Sequence[Token]], shown: Shown) -> str:
    return " | ".join(" ".join(token.text for token in slot[: shown.top_words]) for slot in slots)

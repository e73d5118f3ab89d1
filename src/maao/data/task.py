"""A task that a data set is known by: how its rows become examples, how an example is put to a model, and what it is judged by.

A `Task` is a value; `data.task` names one of the table `task` in `choices.py` (SuperGLUE's eight are in `superglue.py`). A task decides the
fields of its examples, the order of its classes, the two wordings (`pair` for models read by a trained head, `cloze` for models that answer
with words) and the metrics. Cutting examples into splits is `splits.py`, which split is for what is `protocols.py`.

Rows come as JSON lines (`read_task`) or from the hub (`maao.data.hub.read_task_hub`); both go through the same functions. Texts stay as
they were published; what a cloze needs changed is done by `cloze_examples`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from maao import choices
from maao.data.checks import Row, fault, listing, nearest, quote, refuse
from maao.data.files import read_rows
from maao.errors import ConfigError, DataError
from maao.types import Example

TRUE_FALSE = ("false", "true")
MISSING = (None, -1)  # what stands for the label of a row that was published without


@dataclass(frozen=True, slots=True)
class Task:
    """One task: its classes in the order of their numbers, its wordings and its metrics.

    `pair` is the input of the reference release for a trained head; `{sep}` is the place of the tokenizer's separator between two segments
    (a wording without it is one segment), and `{choice}` stands for each of an example's choices in turn. `cloze` ends with `{mask}`,
    where the answer is read: one of `label_words`, or, where there are none, a choice. Both have `{slots}`, the place of the soft prompt.
    `rows` gives the examples of one row (`text_of` and its like read the columns, and say what is wrong with them); `reword` words an
    example for `cloze`, where it needs that.
    `hub` is the configuration of the hub's `super_glue`, `folder` the name of the folder that SuperGLUE and FewGLUE keep the task in.
    """

    name: str
    labels: tuple[str, ...]
    pair: str
    cloze: str
    rows: Callable[[Task, Mapping[str, object]], Iterator[Example]]
    label_words: Mapping[str, str] = field(default_factory=dict)
    reword: Callable[[Example], Example] | None = None
    metrics: tuple[str, ...] = ("accuracy",)
    hub: str = ""
    folder: str = ""

    @property
    def multiple_choice(self) -> bool:
        return "{choice}" in self.pair


def task_named(name: str) -> Task:
    """Return a task.

    Raises:
        ConfigError: there is no task of this name.

    Example:
        >>> task_named("rte").labels
        ('entailment', 'not_entailment')
    """
    known = choices.names("task")
    try:
        found: object = choices.load("task", name)
    except choices.UnknownName:
        raise ConfigError(f"There is no task {name!r}.{nearest(name, known)} Tasks: {listing(known)}.") from None
    if not isinstance(found, Task):
        raise ConfigError(f"{name} is no task: give a `maao.data.task.Task`, not a {type(found).__name__}.")
    return found


def read_task(task: str, path: str | os.PathLike[str]) -> tuple[Example, ...]:
    """Return the examples of a file in the task's own JSON lines, in the order of the file.

    The fields by task: boolq `passage`, `question`; copa `premise`, `connective` ("because" or "so") and two choices; rte and cb `premise`,
    `hypothesis`; wic `sentence1`, `sentence2`, `word`; wsc `text`, `span1` (the noun), `span2` (the pronoun), `position` (the word of the
    text, counted from 0, at which the pronoun stands); multirc `passage`, `question`, `answer`, one example an answer; record `passage`,
    `query` with the entity in the place of `@placeholder`, `entity`, one example an entity. In multirc and record the examples of one
    question have one `group`. Booleans become "true" and "false".

    Args:
        task: one of the table `task` of `choices.py`.
        path: the file (`train.jsonl`, `val.jsonl`, FewGLUE's `dev32.jsonl`).

    Raises:
        ConfigError: there is no such task.
        DataError: the file cannot be read, or rows cannot be used: a key is missing, a label is none of the task's, a WSC span does not
            stand where its index says (give or take `WSC_REACH` words; case and punctuation do not count), no entity of a ReCoRD query is
            among its answers, or the file was published without labels. All bad rows are named.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "val.jsonl")
        ...     _ = path.write_text('{"premise": "It rains.", "hypothesis": "It is wet.", "label": "entailment", "idx": 0}')
        ...     read_task("rte", path)
        (Example(fields={'premise': 'It rains.', 'hypothesis': 'It is wet.'}, label='entailment'),)

    Source: Wang et al., SuperGLUE, 2019 (https://super.gluebenchmark.com/tasks).
    """
    return _examples(task_named(task), read_rows(path), str(path))


def examples_of(task: str, rows: Iterable[Mapping[str, object]], where: str = "the rows") -> tuple[Example, ...]:
    """Return the examples of rows in SuperGLUE's own layout or in that of the hub's `super_glue`, where classes are numbers.

    Args:
        task: one of the table `task` of `choices.py`.
        rows: the columns of each row. WSC's spans may stand in `target` or be columns themselves; multirc and record may be nested (one row
            a passage) or flat (one row an answer, or a query), then `idx` tells the questions apart.
        where: the data set, for errors.

    Raises:
        ConfigError, DataError: as for `read_task`.

    Example:
        >>> row = {"premise": "It rained.", "choice1": "It was dry.", "choice2": "It was wet.", "question": "effect", "label": 1}
        >>> examples_of("copa", [row])[0].choices
        ('It was dry.', 'It was wet.')
    """
    return _examples(task_named(task), [(f"row {number}", row) for number, row in enumerate(rows, 1)], where)


def cloze_examples(task: str, examples: Sequence[Example]) -> tuple[Example, ...]:
    """Return examples worded for the task's `cloze`, which puts them into sentences; for `pair` they are used as published.

    Hypotheses (rte, cb), questions (boolq) and COPA's premises lose one full stop, question or exclamation mark at their end, since the
    cloze goes on there. COPA's choices become answers (`as_answer`). WSC's pronoun is marked in its text, as in PET (`*him*`), and
    `position` is dropped.

    Example:
        >>> copa = Example({"premise": "It rained.", "connective": "so"}, "1", choices=("It was dry.", "It was wet."))
        >>> cloze_examples("copa", [copa])[0].fields["premise"], cloze_examples("copa", [copa])[0].choices
        ('It rained', ('it was dry', 'it was wet'))

    Source: Schick and Schuetze, It's Not Just Size That Matters, 2021 (`pet/pvp.py`).
    """
    reword = task_named(task).reword
    return tuple(examples if reword is None else map(reword, examples))


# -- rows


class Unusable(Exception):
    """What is wrong with one row, or one part of it."""

    def __init__(self, found: str, place: str = "") -> None:
        super().__init__(found)
        self.found, self.place = found, place


class Unlabelled(Unusable):
    """A row was published without its label."""


def _examples(task: Task, rows: Sequence[Row], where: str) -> tuple[Example, ...]:
    if not rows:
        raise DataError(f"{where}: holds no examples.")
    examples: list[Example] = []
    faults: list[tuple[str, str]] = []
    unlabelled = 0
    for place, row in rows:
        try:
            for example in task.rows(task, row):
                if found := fault(example):
                    raise Unusable(found)
                examples.append(example)
        except Unlabelled as error:
            unlabelled += 1
            faults.append((f"{place}{error.place}", error.found))
        except Unusable as error:
            faults.append((f"{place}{error.place}", error.found))
    advice = _advice(task, rows[0][1]) if unlabelled else ""
    refuse(where, f"rows of {task.name}", len(rows), faults, advice)
    return tuple(examples)


def _advice(task: Task, row: Mapping[str, object]) -> str:
    """Say where labels are to be had: in another file, or in a column that SuperGLUE's own files do not have."""
    told = " Is this the test split? SuperGLUE publishes it without labels: take val.jsonl (validation) instead."
    others = [name for name in row if name not in {"idx", "passage", "question", "premise", "hypothesis", "text", "target", "word"}]
    if "label" in row or not others or "answers" in row:
        return told
    return (
        f" There is no column 'label'; columns: {listing(row)}. If one of them is the label, this is no file of SuperGLUE's own: drop "
        f"data.task, name the columns with data.text_fields and data.label_field ({quote(others[0])}?), and write a template.{told}"
    )


def key_of(row: object, key: str, place: str = "") -> object:
    if not isinstance(row, Mapping):
        raise Unusable(f"a {type(row).__name__} stands where an object with {quote(key)} was expected", place)
    if key not in row:
        raise Unusable(f"there is no {quote(key)}.{nearest(key, row)} Keys: {listing(row)}", place)
    return row[key]


def text_of(row: object, key: str, place: str = "") -> str:
    value = key_of(row, key, place)
    if not isinstance(value, str):
        raise Unusable(f"{quote(key)} is {'missing (null)' if value is None else f'a {type(value).__name__}'}, not text", place)
    if not value.strip():
        raise Unusable(f"{quote(key)} is empty", place)
    return value


def list_of(row: object, key: str, place: str = "") -> list[object]:
    value = key_of(row, key, place)
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise Unusable(f"{quote(key)} is not a list with something in it", place)
    return list(value)


def label_of(task: Task, row: object, place: str = "") -> str:
    """Return the name of a row's class; given as a boolean, a number in the hub's order, or a name."""
    value = row.get("label") if isinstance(row, Mapping) else None
    if value in MISSING:
        raise Unlabelled("it has no label", place)
    if isinstance(value, bool) and task.labels == TRUE_FALSE:
        return TRUE_FALSE[value]
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(task.labels):
        return task.labels[value]
    if isinstance(value, str):
        name = value.strip().lower()
        if task.multiple_choice and name in (names := [f"choice{number}" for number in range(1, len(task.labels) + 1)]):
            return task.labels[names.index(name)]
        if name in task.labels:
            return name
    raise Unusable(f"the label {quote(value) if isinstance(value, str) else repr(value)} is none of {listing(task.labels)}", place)

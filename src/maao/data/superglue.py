"""SuperGLUE's tasks: how their rows become examples, and how an example is put to a model.

What is decided here: the fields of each task, the order of its classes, the two wordings (`pair` for models read by a trained head, `cloze`
for models that answer with words) and the metrics it is judged by. Cutting examples into splits is `splits.py`, which split is for what is
`protocols.py`, and the metrics are `maao.evaluation.metrics`.

Rows come in SuperGLUE's own JSON lines (`read_task`) or in the layout of the hub's `super_glue` (`maao.data.hub.read_task_hub`); both go
through the same functions. Texts stay as they were published; what a cloze needs changed is done by `cloze_examples`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from maao.data.checks import Row, fault, listing, nearest, quote, refuse
from maao.data.files import read_rows
from maao.errors import ConfigError, DataError
from maao.types import Example

TRUE_FALSE = ("false", "true")
CONNECTIVES = {"cause": "because", "effect": "so"}  # COPA: what is asked for -> the word between premise and choice
WSC_REACH = 3  # words that a span may stand away from where its index points; one row of the validation set is off by one

MISSING = (None, -1)  # what stands for the label of a row that was published without


@dataclass(frozen=True, slots=True)
class Task:
    """One task: its classes in the order of their numbers, its wordings and its metrics.

    `pair` is the input of the reference release for a trained head; `{sep}` is the place of the tokenizer's separator between two segments
    (a wording without it is one segment), and `{choice}` stands for each of an example's choices in turn. `cloze` ends with `{mask}`,
    where the answer is read: one of `label_words`, or, where there are none, a choice. Both have `{slots}`, the place of the soft prompt.
    `hub` is the configuration of the hub's `super_glue`, `folder` the name of the folder that SuperGLUE and FewGLUE keep the task in.
    """

    name: str
    labels: tuple[str, ...]
    pair: str
    cloze: str
    label_words: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[str, ...] = ("accuracy",)
    hub: str = ""
    folder: str = ""

    @property
    def multiple_choice(self) -> bool:
        return "{choice}" in self.pair


_YES_NO = {"true": "yes", "false": "no"}

TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task(
            "boolq", TRUE_FALSE, "{slots} {question} {sep} {passage}", "{passage} Question: {question}? {slots} Answer: {mask}",
            _YES_NO, hub="boolq", folder="BoolQ",
        ),
        Task(
            "copa", ("0", "1"), "{slots} {premise} {connective} {sep} {choice}", "{premise} {slots} {connective} {mask}",
            hub="copa", folder="COPA",
        ),
        Task(
            "rte", ("entailment", "not_entailment"), "{slots} {premise} {sep} {hypothesis}",
            "{premise} Question: {hypothesis}? {slots} Answer: {mask}", {"entailment": "yes", "not_entailment": "no"},
            hub="rte", folder="RTE",
        ),
        Task(
            "wic", TRUE_FALSE, "{slots} {sentence1} {sentence2} Does {word} have the same meaning in both sentences?",
            '{sentence1} {sentence2} Question: Does "{word}" have the same meaning in both sentences? {slots} Answer: {mask}',
            _YES_NO, hub="wic", folder="WiC",
        ),
        Task(
            "wsc", TRUE_FALSE, "{slots} {span2}: {text} {sep} {span1}",
            '{text} Question: Does the pronoun "*{span2}*" refer to {span1}? {slots} Answer: {mask}',
            _YES_NO, hub="wsc.fixed", folder="WSC",
        ),
        Task(
            "cb", ("entailment", "contradiction", "neutral"), "{slots} {premise} {sep} {hypothesis}",
            "{premise} Question: {hypothesis}? {slots} Answer: {mask}", {"entailment": "yes", "contradiction": "no", "neutral": "maybe"},
            ("accuracy", "f1_macro"), hub="cb", folder="CB",
        ),
        Task(
            "multirc", TRUE_FALSE, "{slots} {passage} {sep} {question} {answer}",
            '{passage} Question: {question} Is the correct answer "{answer}"? {slots} Answer: {mask}',
            _YES_NO, ("f1a", "em"), hub="multirc", folder="MultiRC",
        ),
        Task(
            "record", TRUE_FALSE, "{slots} {passage} {sep} {query}",
            "{passage} Statement: {query} Question: Is the statement true? {slots} Answer: {mask}",
            _YES_NO, ("f1", "em"), hub="record", folder="ReCoRD",
        ),
    )
}  # fmt: skip
"""The tasks by name. `pair` follows P-tuning v2 (`tasks/superglue/dataset.py`, template 0), `cloze` the patterns of PET and P-tuning with
the slots moved right before the answer's cue, so that the keys and values of all that stands before them can be kept."""


def task_named(name: str) -> Task:
    """Return a task.

    Raises:
        ConfigError: there is no task of this name.

    Example:
        >>> task_named("rte").labels
        ('entailment', 'not_entailment')
    """
    if name not in TASKS:
        raise ConfigError(f"There is no SuperGLUE task {name!r}.{nearest(name, TASKS)} Tasks: {listing(TASKS)}.")
    return TASKS[name]


def read_task(task: str, path: str | os.PathLike[str]) -> tuple[Example, ...]:
    """Return the examples of a file in SuperGLUE's own JSON lines, in the order of the file.

    The fields by task: boolq `passage`, `question`; copa `premise`, `connective` ("because" or "so") and two choices; rte and cb `premise`,
    `hypothesis`; wic `sentence1`, `sentence2`, `word`; wsc `text`, `span1` (the noun), `span2` (the pronoun), `position` (the word of the
    text, counted from 0, at which the pronoun stands); multirc `passage`, `question`, `answer`, one example an answer; record `passage`,
    `query` with the entity in the place of `@placeholder`, `entity`, one example an entity. In multirc and record the examples of one
    question have one `group`. Booleans become "true" and "false".

    Args:
        task: one of `TASKS`.
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
        task: one of `TASKS`.
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
    reword = _REWORD.get(task_named(task).name)
    return tuple(examples if reword is None else map(reword, examples))


def as_answer(choice: str) -> str:
    """Return a choice as it goes on from a connective: its first letter lower, its final full stop dropped.

    "I" keeps its capital. A name at the beginning loses it: that it is a name cannot be told.

    Example:
        >>> as_answer("The toilet filled."), as_answer("I'm late."), as_answer("I left.")
        ('the toilet filled', "I'm late", 'I left')
    """
    first_word = choice.split(maxsplit=1)[0] if choice.strip() else ""
    keeps = first_word.strip(".,") == "I" or first_word.startswith(("I'", "I\u2019"))
    return (choice if keeps else choice[:1].lower() + choice[1:]).removesuffix(".")


# Rows


class _Unusable(Exception):
    """What is wrong with one row, or one part of it."""

    def __init__(self, found: str, place: str = "") -> None:
        super().__init__(found)
        self.found, self.place = found, place


class _Unlabelled(_Unusable):
    """A row was published without its label."""


def _examples(task: Task, rows: Sequence[Row], where: str) -> tuple[Example, ...]:
    if not rows:
        raise DataError(f"{where}: holds no examples.")
    examples: list[Example] = []
    faults: list[tuple[str, str]] = []
    unlabelled = 0
    for place, row in rows:
        try:
            for example in _ROWS[task.name](task, row):
                if found := fault(example):
                    raise _Unusable(found)
                examples.append(example)
        except _Unlabelled as error:
            unlabelled += 1
            faults.append((f"{place}{error.place}", error.found))
        except _Unusable as error:
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


def _get(row: object, key: str, place: str = "") -> object:
    if not isinstance(row, Mapping):
        raise _Unusable(f"a {type(row).__name__} stands where an object with {quote(key)} was expected", place)
    if key not in row:
        raise _Unusable(f"there is no {quote(key)}.{nearest(key, row)} Keys: {listing(row)}", place)
    return row[key]


def _text(row: object, key: str, place: str = "") -> str:
    value = _get(row, key, place)
    if not isinstance(value, str):
        raise _Unusable(f"{quote(key)} is {'missing (null)' if value is None else f'a {type(value).__name__}'}, not text", place)
    if not value.strip():
        raise _Unusable(f"{quote(key)} is empty", place)
    return value


def _list(row: object, key: str, place: str = "") -> list[object]:
    value = _get(row, key, place)
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise _Unusable(f"{quote(key)} is not a list with something in it", place)
    return list(value)


def _label(task: Task, row: object, place: str = "") -> str:
    """Return the name of a row's class; given as a boolean, a number in the hub's order, or a name."""
    value = row.get("label") if isinstance(row, Mapping) else None
    if value in MISSING:
        raise _Unlabelled("it has no label", place)
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
    raise _Unusable(f"the label {quote(value) if isinstance(value, str) else repr(value)} is none of {listing(task.labels)}", place)


def _boolq(task: Task, row: Mapping[str, object]) -> Iterator[Example]:
    yield Example({"passage": _text(row, "passage"), "question": _text(row, "question")}, _label(task, row))


def _entailment(task: Task, row: Mapping[str, object]) -> Iterator[Example]:
    yield Example({"premise": _text(row, "premise"), "hypothesis": _text(row, "hypothesis")}, _label(task, row))


def _copa(task: Task, row: Mapping[str, object]) -> Iterator[Example]:
    asked = _text(row, "question")
    if asked not in CONNECTIVES:
        raise _Unusable(f"the question {quote(asked)} is neither 'cause' nor 'effect'")
    fields = {"premise": _text(row, "premise"), "connective": CONNECTIVES[asked]}
    yield Example(fields, _label(task, row), choices=(_text(row, "choice1"), _text(row, "choice2")))


def _wic(task: Task, row: Mapping[str, object]) -> Iterator[Example]:
    yield Example({name: _text(row, name) for name in ("sentence1", "sentence2", "word")}, _label(task, row))


def _wsc(task: Task, row: Mapping[str, object]) -> Iterator[Example]:
    text, target = _text(row, "text"), row.get("target", row)
    noun, pronoun = _text(target, "span1_text"), _text(target, "span2_text")
    _place(text, noun, _get(target, "span1_index"), "span1", gaps=True)
    position = _place(text, pronoun, _get(target, "span2_index"), "span2")
    yield Example({"text": text, "span1": noun, "span2": pronoun, "position": str(position)}, _label(task, row))


def _multirc(task: Task, row: Mapping[str, object]) -> Iterator[Example]:
    if "paragraph" in row:  # the hub's rows
        index = _get(row, "idx")
        fields = {"passage": _text(row, "paragraph"), "question": _text(row, "question"), "answer": _text(row, "answer")}
        yield Example(fields, _label(task, row), group=f"{_get(index, 'paragraph')}-{_get(index, 'question')}")
        return
    nested = _get(row, "passage")
    passage = _text(nested, "text")
    for number, question in enumerate(_list(nested, "questions")):
        place = f", question {number}"
        asked = _text(question, "question", place)
        for position, answer in enumerate(_list(question, "answers", place)):
            inner = f"{place}, answer {position}"
            fields = {"passage": passage, "question": asked, "answer": _text(answer, "text", inner)}
            group = f"{_get(row, 'idx')}-{_get(question, 'idx', place)}"
            yield Example(fields, _label(task, answer, inner), group=group)


def _record(task: Task, row: Mapping[str, object]) -> Iterator[Example]:
    if "qas" not in row and "query" in row:  # the hub's rows
        index = _get(row, "idx")
        answers = row.get("answers")
        if not answers:
            raise _Unlabelled("it has no answers")
        group = f"{_get(index, 'passage')}-{_get(index, 'query')}"
        yield from _candidates(
            _text(row, "passage"), _text(row, "query"), cast(list[str], _list(row, "entities")), cast(list[str], answers), group, ""
        )
        return
    passage = _get(row, "passage")
    text = _text(passage, "text")
    entities = []
    for number, span in enumerate(_list(passage, "entities")):
        start, end = _get(span, "start", f", entity {number}"), _get(span, "end", f", entity {number}")
        if not (isinstance(start, int) and isinstance(end, int) and 0 <= start <= end < len(text)):
            raise _Unusable(f"its span {start!r} to {end!r} is not inside the text of {len(text)} characters", f", entity {number}")
        entities.append(text[start : end + 1])  # `end` is the last character
    for number, query in enumerate(_list(row, "qas")):
        place = f", query {number}"
        if isinstance(query, Mapping) and not query.get("answers"):
            raise _Unlabelled("it has no answers", place)
        answers = [_text(answer, "text", place) for answer in _list(query, "answers", place)]
        group = f"{_get(row, 'idx')}-{_get(query, 'idx', place)}"
        yield from _candidates(text, _text(query, "query", place), entities, answers, group, place)


def _candidates(passage: str, query: str, entities: Sequence[str], answers: Sequence[str], group: str, place: str) -> Iterator[Example]:
    """Yield one example an entity, each different text once."""
    if "@placeholder" not in query:
        raise _Unusable("the query has no '@placeholder'", place)
    different = tuple(dict.fromkeys(entities))
    if not set(different) & set(answers):
        raise _Unusable(f"none of its entities is among its answers {listing(answers, 3)}", place)
    passage = passage.replace("@highlight\n", "- ")  # as the reference release does
    for entity in different:
        fields = {"passage": passage, "query": query.replace("@placeholder", entity), "entity": entity}
        yield Example(fields, "true" if entity in answers else "false", group=group)


_ROWS: Mapping[str, Callable[[Task, Mapping[str, object]], Iterator[Example]]] = {
    "boolq": _boolq, "copa": _copa, "rte": _entailment, "wic": _wic, "wsc": _wsc, "cb": _entailment, "multirc": _multirc, "record": _record,
}  # fmt: skip


# WSC's spans


def _place(text: str, span: str, index: object, name: str, *, gaps: bool = False) -> int:
    """Return the word of the text at which a span begins: the closest to `index` at which its words stand.

    With `gaps`, a span may also have other words inside ("Kamenev and Zinoviev" of the training set).
    """
    words = [_bare(word) for word in text.split()]
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(words):
        raise _Unusable(f"{name}_index {index!r} is no word of its text, which has the words 0 to {len(words) - 1}")
    near = sorted(range(max(0, index - WSC_REACH), min(len(words), index + WSC_REACH + 1)), key=lambda at: (abs(at - index), at))
    for at in near:
        if _begins(words[at:], _bare(span)):
            return at
    parts = [_bare(part) for part in span.split()]
    if gaps and words[index] == parts[0] and set(parts) <= set(words):
        return index
    raise _Unusable(f"{name}_index {index} points to {quote(text.split()[index])}, but {name}_text is {quote(span)}")


def _begins(words: Sequence[str], bare: str) -> bool:
    """Whether the first words, written together, are exactly `bare`."""
    written = ""
    for word in words:
        written += word
        if len(written) >= len(bare):
            return written == bare and bool(bare)
    return False


def _bare(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())


# Rewording for a cloze


def _without_end(*names: str) -> Callable[[Example], Example]:
    def reword(example: Example) -> Example:
        shortened = {name: re.sub(r"[.?!]\s*$", "", text) or text for name, text in example.fields.items() if name in names}
        return replace(example, fields={**example.fields, **shortened})

    return reword


def _copa_cloze(example: Example) -> Example:
    return replace(_without_end("premise")(example), choices=tuple(as_answer(choice) for choice in example.choices))


def _wsc_cloze(example: Example) -> Example:
    fields = dict(example.fields)
    position, text = int(fields.pop("position")), fields["text"]
    words = list(re.finditer(r"\S+", text))
    start, end, bare = words[position].start(), 0, ""
    for word in words[position:]:
        end, bare = word.end(), bare + _bare(word[0])
        if len(bare) >= len(_bare(fields["span2"])):
            break
    while not text[start].isalnum():
        start += 1
    while not text[end - 1].isalnum():
        end -= 1
    return replace(example, fields={**fields, "text": f"{text[:start]}*{text[start:end]}*{text[end:]}"})


_REWORD: Mapping[str, Callable[[Example], Example]] = {
    "boolq": _without_end("question"), "rte": _without_end("hypothesis"), "cb": _without_end("hypothesis"),
    "copa": _copa_cloze, "wsc": _wsc_cloze,
}  # fmt: skip

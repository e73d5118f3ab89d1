"""SuperGLUE's eight tasks, in the layout of its own JSON lines or in that of the hub's `super_glue`, where classes are numbers.

`pair` follows P-tuning v2 (`tasks/superglue/dataset.py`, template 0), `cloze` the patterns of PET and P-tuning with the slots moved right
before the answer's cue, so that the keys and values of all that stands before them can be kept.

Source: Wang et al., SuperGLUE, 2019 (https://super.gluebenchmark.com/tasks).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from maao.data.checks import listing, quote
from maao.data.task import TRUE_FALSE, Task, Unlabelled, Unusable, key_of, label_of, list_of, text_of
from maao.types import Example

CONNECTIVES = {"cause": "because", "effect": "so"}  # COPA: what is asked for -> the word between premise and choice
WSC_REACH = 3  # words that a span may stand away from where its index points; one row of the validation set is off by one
_YES_NO = {"true": "yes", "false": "no"}


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


# -- rows


def _boolq(task: Task, row: Mapping[str, object]) -> Iterator[Example]:
    yield Example({"passage": text_of(row, "passage"), "question": text_of(row, "question")}, label_of(task, row))


def _entailment(task: Task, row: Mapping[str, object]) -> Iterator[Example]:
    yield Example({"premise": text_of(row, "premise"), "hypothesis": text_of(row, "hypothesis")}, label_of(task, row))


def _copa(task: Task, row: Mapping[str, object]) -> Iterator[Example]:
    asked = text_of(row, "question")
    if asked not in CONNECTIVES:
        raise Unusable(f"the question {quote(asked)} is neither 'cause' nor 'effect'")
    fields = {"premise": text_of(row, "premise"), "connective": CONNECTIVES[asked]}
    yield Example(fields, label_of(task, row), choices=(text_of(row, "choice1"), text_of(row, "choice2")))


def _wic(task: Task, row: Mapping[str, object]) -> Iterator[Example]:
    yield Example({name: text_of(row, name) for name in ("sentence1", "sentence2", "word")}, label_of(task, row))


def _wsc(task: Task, row: Mapping[str, object]) -> Iterator[Example]:
    text, target = text_of(row, "text"), row.get("target", row)
    noun, pronoun = text_of(target, "span1_text"), text_of(target, "span2_text")
    _place(text, noun, key_of(target, "span1_index"), "span1", gaps=True)
    position = _place(text, pronoun, key_of(target, "span2_index"), "span2")
    yield Example({"text": text, "span1": noun, "span2": pronoun, "position": str(position)}, label_of(task, row))


def _multirc(task: Task, row: Mapping[str, object]) -> Iterator[Example]:
    if "paragraph" in row:  # the hub's rows
        index = key_of(row, "idx")
        fields = {"passage": text_of(row, "paragraph"), "question": text_of(row, "question"), "answer": text_of(row, "answer")}
        yield Example(fields, label_of(task, row), group=f"{key_of(index, 'paragraph')}-{key_of(index, 'question')}")
        return
    nested = key_of(row, "passage")
    passage = text_of(nested, "text")
    for number, question in enumerate(list_of(nested, "questions")):
        place = f", question {number}"
        asked = text_of(question, "question", place)
        for position, answer in enumerate(list_of(question, "answers", place)):
            inner = f"{place}, answer {position}"
            fields = {"passage": passage, "question": asked, "answer": text_of(answer, "text", inner)}
            group = f"{key_of(row, 'idx')}-{key_of(question, 'idx', place)}"
            yield Example(fields, label_of(task, answer, inner), group=group)


def _record(task: Task, row: Mapping[str, object]) -> Iterator[Example]:
    if "qas" not in row and "query" in row:  # the hub's rows
        index = key_of(row, "idx")
        answers = row.get("answers")
        if not answers:
            raise Unlabelled("it has no answers")
        group = f"{key_of(index, 'passage')}-{key_of(index, 'query')}"
        yield from _candidates(
            text_of(row, "passage"), text_of(row, "query"), cast(list[str], list_of(row, "entities")), cast(list[str], answers), group, ""
        )
        return
    passage = key_of(row, "passage")
    text = text_of(passage, "text")
    entities = []
    for number, span in enumerate(list_of(passage, "entities")):
        start, end = key_of(span, "start", f", entity {number}"), key_of(span, "end", f", entity {number}")
        if not (isinstance(start, int) and isinstance(end, int) and 0 <= start <= end < len(text)):
            raise Unusable(f"its span {start!r} to {end!r} is not inside the text of {len(text)} characters", f", entity {number}")
        entities.append(text[start : end + 1])  # `end` is the last character
    for number, query in enumerate(list_of(row, "qas")):
        place = f", query {number}"
        if isinstance(query, Mapping) and not query.get("answers"):
            raise Unlabelled("it has no answers", place)
        answers = [text_of(answer, "text", place) for answer in list_of(query, "answers", place)]
        group = f"{key_of(row, 'idx')}-{key_of(query, 'idx', place)}"
        yield from _candidates(text, text_of(query, "query", place), entities, answers, group, place)


def _candidates(passage: str, query: str, entities: Sequence[str], answers: Sequence[str], group: str, place: str) -> Iterator[Example]:
    """Yield one example an entity, each different text once."""
    if "@placeholder" not in query:
        raise Unusable("the query has no '@placeholder'", place)
    different = tuple(dict.fromkeys(entities))
    if not set(different) & set(answers):
        raise Unusable(f"none of its entities is among its answers {listing(answers, 3)}", place)
    passage = passage.replace("@highlight\n", "- ")  # as the reference release does
    for entity in different:
        fields = {"passage": passage, "query": query.replace("@placeholder", entity), "entity": entity}
        yield Example(fields, "true" if entity in answers else "false", group=group)


# -- WSC's spans


def _place(text: str, span: str, index: object, name: str, *, gaps: bool = False) -> int:
    """Return the word of the text at which a span begins: the closest to `index` at which its words stand.

    With `gaps`, a span may also have other words inside ("Kamenev and Zinoviev" of the training set).
    """
    words = [_bare(word) for word in text.split()]
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(words):
        raise Unusable(f"{name}_index {index!r} is no word of its text, which has the words 0 to {len(words) - 1}")
    near = sorted(range(max(0, index - WSC_REACH), min(len(words), index + WSC_REACH + 1)), key=lambda at: (abs(at - index), at))
    for at in near:
        if _begins(words[at:], _bare(span)):
            return at
    parts = [_bare(part) for part in span.split()]
    if gaps and words[index] == parts[0] and set(parts) <= set(words):
        return index
    raise Unusable(f"{name}_index {index} points to {quote(text.split()[index])}, but {name}_text is {quote(span)}")


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


# -- rewording for a cloze


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


# -- the tasks


BOOLQ = Task(
    "boolq",
    TRUE_FALSE,
    "{slots} {question} {sep} {passage}",
    "{passage} Question: {question}? {slots} Answer: {mask}",
    label_words=_YES_NO,
    rows=_boolq,
    reword=_without_end("question"),
    hub="boolq",
    folder="BoolQ",
)

COPA = Task(
    "copa",
    ("0", "1"),
    "{slots} {premise} {connective} {sep} {choice}",
    "{premise} {slots} {connective} {mask}",
    rows=_copa,
    reword=_copa_cloze,
    hub="copa",
    folder="COPA",
)

RTE = Task(
    "rte",
    ("entailment", "not_entailment"),
    "{slots} {premise} {sep} {hypothesis}",
    "{premise} Question: {hypothesis}? {slots} Answer: {mask}",
    label_words={"entailment": "yes", "not_entailment": "no"},
    rows=_entailment,
    reword=_without_end("hypothesis"),
    hub="rte",
    folder="RTE",
)

WIC = Task(
    "wic",
    TRUE_FALSE,
    "{slots} {sentence1} {sentence2} Does {word} have the same meaning in both sentences?",
    '{sentence1} {sentence2} Question: Does "{word}" have the same meaning in both sentences? {slots} Answer: {mask}',
    label_words=_YES_NO,
    rows=_wic,
    hub="wic",
    folder="WiC",
)

WSC = Task(
    "wsc",
    TRUE_FALSE,
    "{slots} {span2}: {text} {sep} {span1}",
    '{text} Question: Does the pronoun "*{span2}*" refer to {span1}? {slots} Answer: {mask}',
    label_words=_YES_NO,
    rows=_wsc,
    reword=_wsc_cloze,
    hub="wsc.fixed",
    folder="WSC",
)

CB = Task(
    "cb",
    ("entailment", "contradiction", "neutral"),
    "{slots} {premise} {sep} {hypothesis}",
    "{premise} Question: {hypothesis}? {slots} Answer: {mask}",
    label_words={"entailment": "yes", "contradiction": "no", "neutral": "maybe"},
    metrics=("accuracy", "f1_macro"),
    rows=_entailment,
    reword=_without_end("hypothesis"),
    hub="cb",
    folder="CB",
)

MULTIRC = Task(
    "multirc",
    TRUE_FALSE,
    "{slots} {passage} {sep} {question} {answer}",
    '{passage} Question: {question} Is the correct answer "{answer}"? {slots} Answer: {mask}',
    label_words=_YES_NO,
    metrics=("f1a", "em"),
    rows=_multirc,
    hub="multirc",
    folder="MultiRC",
)

RECORD = Task(
    "record",
    TRUE_FALSE,
    "{slots} {passage} {sep} {query}",
    "{passage} Statement: {query} Question: Is the statement true? {slots} Answer: {mask}",
    label_words=_YES_NO,
    metrics=("f1", "em"),
    rows=_record,
    hub="record",
    folder="ReCoRD",
)

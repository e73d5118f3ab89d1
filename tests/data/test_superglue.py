"""SuperGLUE's rows, in its own layout and in the hub's; what is refused; and the wordings."""

import json
import os
import re
from pathlib import Path

import pytest

from maao import choices
from maao.data.splits import from_parts
from maao.data.superglue import as_answer
from maao.data.task import cloze_examples, examples_of, read_task, task_named
from maao.errors import ConfigError, DataError
from maao.types import Example

FEWGLUE = Path(os.environ.get("MAAO_DATA", "data"), "fewglue")
needs_fewglue = pytest.mark.skipif(not FEWGLUE.is_dir(), reason=f"{FEWGLUE} is not there: set MAAO_DATA")
TASKS = {name: task_named(name) for name in choices.names("task")}
IN_FEWGLUE = ("boolq", "copa", "rte", "wic", "wsc")

TEXT = "Mark told Pete many lies, which Pete put in his book. He was sorry."
WSC = {"span1_text": "Pete", "span1_index": 2, "span2_text": "He", "span2_index": 11}
PLAIN = {
    "boolq": {"passage": "Fog is a cloud.", "question": "is fog a cloud", "label": True},
    "copa": {"premise": "It rained.", "choice1": "It was dry.", "choice2": "It was wet.", "question": "effect", "label": 1},
    "rte": {"premise": "It rains.", "hypothesis": "It is wet.", "label": "entailment"},
    "cb": {"premise": "It rains.", "hypothesis": "It is dry.", "label": "contradiction"},
    "wic": {"word": "class", "sentence1": "A class act.", "sentence2": "He cut class.", "label": False},
    "wsc": {"text": TEXT, "target": WSC, "label": False},
}
MULTIRC = {
    "idx": 7,
    "passage": {
        "text": "Ann bought two apples and a pear.",
        "questions": [
            {"idx": 1, "question": "What did Ann buy?", "answers": [{"text": "apples", "label": 1}, {"text": "a car", "label": 0}]},
            {"idx": 2, "question": "How many apples?", "answers": [{"text": "two", "label": 1}]},
        ],
    },
}
NEWS = "Bob met Ann.\n@highlight\nBob left with Eve"
RECORD = {
    "idx": 3,
    "passage": {
        "text": NEWS,
        "entities": [{"start": 0, "end": 2}, {"start": 8, "end": 10}, {"start": 24, "end": 26}, {"start": 38, "end": 40}],
    },
    "qas": [{"idx": 5, "query": "@placeholder was seen with Eve.", "answers": [{"text": "Bob", "start": 0, "end": 2}]}],
}


def changed(task: str, **columns) -> dict:
    return {key: value for key, value in {**PLAIN[task], **columns}.items() if value is not ...}


def message(task: str, *rows, error=DataError) -> str:
    with pytest.raises(error) as caught:
        examples_of(task, rows)
    return str(caught.value)


# What is read


@needs_fewglue
@pytest.mark.parametrize("task", IN_FEWGLUE)
def test_fewglue_is_read_whole_and_becomes_splits(task):
    train, select, test = (read_task(task, FEWGLUE / TASKS[task].folder / f"{name}.jsonl") for name in ("train", "dev32", "val"))
    assert (len(train), len(select)) == (32, 32)
    assert len(test) == {"boolq": 3270, "copa": 100, "rte": 277, "wic": 638, "wsc": 104}[task]
    repeats = {"wsc": 3}.get(task, 0)
    assert len({str(example) for example in test}) == len(test) - repeats
    for form in (lambda examples: examples, lambda examples: cloze_examples(task, examples)):
        splits = from_parts(form(train), form(select), form(test), labels=TASKS[task].labels)
        assert len(splits.test) == len(test)


@needs_fewglue
def test_the_classes_of_fewglue_are_the_published_ones():
    counts = {task: [e.label for e in read_task(task, FEWGLUE / TASKS[task].folder / "val.jsonl")] for task in IN_FEWGLUE}
    assert counts["boolq"].count("true") == 2033
    assert counts["rte"].count("entailment") == 146
    assert counts["wic"].count("true") == 319
    assert counts["wsc"].count("true") == 38
    assert counts["copa"].count("0") == 55


@needs_fewglue
def test_the_pronoun_whose_index_is_off_by_one_is_found():
    example = read_task("wsc", FEWGLUE / "WSC" / "val.jsonl")[42]
    assert example.fields["position"] == "31"
    assert "use *it* , but" in cloze_examples("wsc", [example])[0].fields["text"]


@pytest.mark.parametrize(
    ("task", "fields", "label", "choices"),
    [
        ("boolq", {"passage": "Fog is a cloud.", "question": "is fog a cloud"}, "true", ()),
        ("copa", {"premise": "It rained.", "connective": "so"}, "1", ("It was dry.", "It was wet.")),
        ("rte", {"premise": "It rains.", "hypothesis": "It is wet."}, "entailment", ()),
        ("cb", {"premise": "It rains.", "hypothesis": "It is dry."}, "contradiction", ()),
        ("wic", {"sentence1": "A class act.", "sentence2": "He cut class.", "word": "class"}, "false", ()),
        ("wsc", {"text": TEXT, "span1": "Pete", "span2": "He", "position": "11"}, "false", ()),
    ],
)
def test_rows_become_examples(task, fields, label, choices):
    assert examples_of(task, [PLAIN[task]]) == (Example(fields, label, choices),)


@pytest.mark.parametrize("task", PLAIN)
def test_the_hub_s_rows_give_the_same_examples(task):
    expected = examples_of(task, [PLAIN[task]])
    row = {**PLAIN[task], "idx": 0, "label": TASKS[task].labels.index(expected[0].label)}
    if task == "wsc":
        row = {**row, **row.pop("target")}
    assert examples_of(task, [row]) == expected


@pytest.mark.parametrize(
    ("task", "label", "name"),
    [("boolq", "True", "true"), ("boolq", 0, "false"), ("copa", "choice2", "1"), ("cb", 2, "neutral"), ("rte", 1, "not_entailment")],
)
def test_labels_are_read_as_numbers_and_as_the_hub_s_names(task, label, name):
    assert examples_of(task, [changed(task, label=label)])[0].label == name


def test_multirc_gives_an_example_an_answer_and_a_group_a_question():
    nested = examples_of("multirc", [MULTIRC])
    assert [(e.fields["question"], e.fields["answer"], e.label, e.group) for e in nested] == [
        ("What did Ann buy?", "apples", "true", "7-1"),
        ("What did Ann buy?", "a car", "false", "7-1"),
        ("How many apples?", "two", "true", "7-2"),
    ]
    flat = [
        {
            "paragraph": MULTIRC["passage"]["text"],
            "question": question["question"],
            "answer": answer["text"],
            "label": answer["label"],
            "idx": {"paragraph": 7, "question": question["idx"], "answer": position},
        }
        for question in MULTIRC["passage"]["questions"]
        for position, answer in enumerate(question["answers"])
    ]
    assert examples_of("multirc", flat) == nested


def test_record_gives_an_example_an_entity_and_a_group_a_query():
    nested = examples_of("record", [RECORD])
    assert [(e.fields["entity"], e.fields["query"], e.label, e.group) for e in nested] == [
        ("Bob", "Bob was seen with Eve.", "true", "3-5"),
        ("Ann", "Ann was seen with Eve.", "false", "3-5"),
        ("Eve", "Eve was seen with Eve.", "false", "3-5"),
    ]
    assert nested[0].fields["passage"] == "Bob met Ann.\n- Bob left with Eve"
    query = RECORD["qas"][0]["query"]
    flat = {"passage": NEWS, "query": query, "entities": ["Bob", "Ann", "Eve"], "answers": ["Bob"], "idx": {"passage": 3, "query": 5}}
    assert examples_of("record", [flat]) == nested


# What is refused


def test_an_unknown_task_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"no task 'bolq'. Did you mean 'boolq'"):
        task_named("bolq")


def test_a_bad_line_names_file_line_and_trouble(tmp_path):
    path = tmp_path / "val.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in (PLAIN["rte"], changed("rte", label="maybe"), changed("rte", premise=...))))
    with pytest.raises(DataError) as caught:
        read_task("rte", path)
    text = str(caught.value)
    assert f"{path}: 2 of 3 rows of rte" in text
    assert "line 2 (the label 'maybe' is none of 'entailment', 'not_entailment')" in text
    assert "line 3 (there is no 'premise'." in text


@pytest.mark.parametrize(
    ("task", "columns", "found"),
    [
        ("boolq", {"label": "maybe"}, "the label 'maybe' is none of 'false', 'true'"),
        ("boolq", {"label": 2}, "the label 2 is none of"),
        ("boolq", {"passage": " "}, "'passage' is empty"),
        ("boolq", {"passage": None}, "'passage' is missing (null), not text"),
        ("boolq", {"passage": 3}, "'passage' is a int, not text"),
        ("boolq", {"question": ..., "qestion": "is it"}, "there is no 'question'. Did you mean 'qestion'?"),
        ("rte", {"label": True}, "the label True is none of"),
        ("copa", {"label": 2}, "the label 2 is none of '0', '1'"),
        ("copa", {"label": -2}, "the label -2 is none of"),
        ("copa", {"question": "reason"}, "neither 'cause' nor 'effect'"),
        ("copa", {"choice2": "It was dry."}, "two of its choices are the same"),
        ("wsc", {"target": {**WSC, "span2_index": 3}}, "span2_index 3 points to 'many', but span2_text is 'He'"),
        ("wsc", {"target": {**WSC, "span2_index": 99}}, "span2_index 99 is no word of its text, which has the words 0 to 13"),
        ("wsc", {"target": {**WSC, "span1_index": "2"}}, "span1_index '2' is no word"),
        ("wsc", {"target": {**WSC, "span1_text": "Paul"}}, "span1_text is 'Paul'"),
        ("wsc", {"target": ...}, "there is no 'span1_text'"),
        ("wsc", {"target": "it"}, "a str stands where an object with 'span1_text' was expected"),
    ],
)
def test_a_bad_row_is_named_with_its_trouble(task, columns, found):
    text = message(task, PLAIN[task], changed(task, **columns))
    assert f"1 of 2 rows of {task} cannot be used: row 2 (" in text and found in text


@pytest.mark.parametrize("label", [..., None, -1])
def test_rows_without_labels_point_to_the_validation_set(label):
    text = message("cb", changed("cb", label=label))
    assert "row 1 (it has no label)" in text and "take val.jsonl (validation) instead" in text


def test_bad_parts_of_nested_rows_are_named():
    def multirc(change) -> dict:
        row = json.loads(json.dumps(MULTIRC))
        change(row["passage"]["questions"][0])
        return row

    assert "row 1, question 0, answer 1 (the label 5" in message("multirc", multirc(lambda q: q["answers"][1].update(label=5)))
    assert "row 1, question 0 ('answers' is not a list" in message("multirc", multirc(lambda q: q.update(answers=[])))
    assert "row 1, question 0, answer 0 (it has no label)" in message("multirc", multirc(lambda q: q["answers"][0].pop("label")))
    assert "there is no 'passage'" in message("multirc", {"idx": 0})


def test_bad_parts_of_record_are_named():
    def record(**query) -> dict:
        return {**RECORD, "qas": [{**RECORD["qas"][0], **query}]}

    assert "query 0 (the query has no '@placeholder')" in message("record", record(query="Who?"))
    assert "query 0 (none of its entities is among its answers 'Zoe')" in message("record", record(answers=[{"text": "Zoe"}]))
    assert "query 0 (it has no answers)" in message("record", record(answers=[]))
    spans = {**RECORD["passage"], "entities": [{"start": 0, "end": 400}]}
    assert "entity 0 (its span 0 to 400 is not inside the text" in message("record", {**RECORD, "passage": spans})


def test_no_rows_are_refused():
    assert "holds no examples" in message("rte")


# WSC's spans


@pytest.mark.parametrize(
    ("text", "span", "index", "at"),
    [
        ('He said "tell him," and left.', "him", 3, 3),
        ("He put it away.", "IT", 2, 2),
        ("He saw the table.", "The table", 2, 2),
        ("He saw it and it fell.", "it", 3, 2),  # as near as word 4: the earlier
        ("Parents because they scold.", "theyscold", 2, 2),
        ("The captain ’s illness.", "captain ’s", 1, 1),
    ],
)
def test_spans_are_found_whatever_their_case_and_punctuation(text, span, index, at):
    row = {"text": text, "span1_text": text.split()[0], "span1_index": 0, "span2_text": span, "span2_index": index, "label": 1}
    assert examples_of("wsc", [row])[0].fields["position"] == str(at)


def test_a_noun_may_have_words_inside():
    row = {"text": "Kamenev , and also Zinoviev lost since they erred.", "label": 1}
    row |= {"span1_text": "Kamenev and Zinoviev", "span1_index": 0, "span2_text": "they", "span2_index": 7}
    assert examples_of("wsc", [row])[0].fields["span1"] == "Kamenev and Zinoviev"


# Wordings


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_wordings_name_only_fields_that_the_examples_have(task):
    row = {"multirc": MULTIRC, "record": RECORD}.get(task.name) or PLAIN[task.name]
    published = examples_of(task.name, [row])[0]
    pair, cloze = (set(re.findall(r"\{(\w+)\}", wording)) for wording in (task.pair, task.cloze))
    assert pair - {"slots", "sep", "choice"} <= published.fields.keys()
    assert cloze - {"slots", "mask"} <= cloze_examples(task.name, [published])[0].fields.keys()
    assert task.pair.startswith("{slots} ") and task.cloze.endswith("{mask}")
    assert task.cloze.count("{slots}") == task.cloze.count("{mask}") == 1
    assert task.multiple_choice == bool(published.choices) == (not task.label_words)
    assert task.multiple_choice or set(task.label_words) == set(task.labels)


def test_the_pairs_are_those_of_the_reference_release():
    filled = {}
    for name, row in PLAIN.items():
        example = examples_of(name, [row])[0]
        filled[name] = re.sub(r"\{(\w+)\}", lambda match, e=example: e.fields.get(match[1], match[0]), TASKS[name].pair)
    assert filled["wic"] == "{slots} A class act. He cut class. Does class have the same meaning in both sentences?"
    assert filled["wsc"] == "{slots} He: " + TEXT + " {sep} Pete"
    assert filled["copa"] == "{slots} It rained. so {sep} {choice}"


def test_a_cloze_goes_on_where_a_sentence_ended():
    (copa,) = cloze_examples("copa", examples_of("copa", [PLAIN["copa"]]))
    assert copa == Example({"premise": "It rained", "connective": "so"}, "1", ("it was dry", "it was wet"))
    (rte,) = cloze_examples("rte", examples_of("rte", [PLAIN["rte"]]))
    assert rte.fields == {"premise": "It rains.", "hypothesis": "It is wet"}
    (boolq,) = cloze_examples("boolq", examples_of("boolq", [changed("boolq", question="Is fog a cloud?")]))
    assert boolq.fields["question"] == "Is fog a cloud"
    (wsc,) = cloze_examples("wsc", examples_of("wsc", [PLAIN["wsc"]]))
    assert wsc.fields["text"].endswith("in his book. *He* was sorry.") and "position" not in wsc.fields
    wic = examples_of("wic", [PLAIN["wic"]])
    assert cloze_examples("wic", wic) == wic


@pytest.mark.parametrize(
    ("choice", "answer"),
    [
        ("It was wet.", "it was wet"),
        ("I left.", "I left"),
        ("I'll go.", "I'll go"),
        ("I’m in.", "I’m in"),
        ("Ice fell.", "ice fell"),
        ("A", "a"),
    ],
)
def test_answers_go_on_in_lower_case_but_i(choice, answer):
    assert as_answer(choice) == answer

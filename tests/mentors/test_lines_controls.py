"""Mentors of class lines that know nothing: as many lines as one that knows, at the same weights, and no label given away."""

from __future__ import annotations

import weakref
from collections import Counter

import pytest

from maao.choices import load
from maao.class_lines import ClassLines, alike
from maao.errors import ConfigError
from maao.members import fold_member, full_member
from maao.mentors.class_lines.controls import corpus_sentences
from maao.mentors.context import MentorContext
from maao.problems.cross_validated import codec_for_all
from maao.types import Example
from tests.mentors.histories import finished
from tests.mentors.lines import CLASSES, LinesCodec

NAMES = ("calories", "cook time", "recipe")  # in words
TEXTS = {
    "calories": ("how many calories are in rice", "is a cookie more than 200 calories", "calories of one apple please"),
    "cook_time": ("how long do i boil an egg", "when is the pie done in the oven", "minutes for rice on the stove"),
    "recipe": ("how do i make a curry", "what goes into a pie", "walk me through some bread"),
}
TRAIN = tuple(Example({"text": TEXTS[label][i]}, label) for i in range(3) for label in CLASSES)
FOLDS = tuple(i for i in range(3) for _ in CLASSES)
CORPUS = "\n".join(f"{word} number {i}" for word in ("calories", "minutes", "curry") for i in range(30))


class Vocabulary:
    def random_words(self, count, seed):
        return [f"{chr(97 + (seed + i) % 26)}{chr(97 + i % 26)}word" for i in range(count)]

    def near(self, word):
        return [f"{word}{end}" for end in ("s", "ed", "ing")]


def read_by_name(texts):
    """A text is read as the class of its word, with the less confidence the higher its number is."""
    sure = [1 - int(text.split()[-1]) / 100 for text in texts]
    place = [("calories", "minutes", "curry").index(text.split()[0]) for text in texts]
    return [[p if i == k else (1 - p) / 2 for i in range(3)] for p, k in zip(sure, place, strict=True)]


def context(**given):
    known = {
        "train": TRAIN,
        "folds": FOLDS,
        "labels": NAMES,
        "classes": CLASSES,
        "vocabulary": Vocabulary(),
        "read_by_name": read_by_name,
        "input": "matched_text",
        **given,
    }
    codec = codec_for_all(LinesCodec(), [LinesCodec()] * len(set(known["folds"]))) if known["folds"] else LinesCodec()
    return MentorContext(codec, lambda model: model, lambda options: None, **known)


def mentor(name, tmp_path, run=None, **settings):
    if name == "corpus_lines":
        (tmp_path / "corpus.txt").write_text(CORPUS, encoding="utf-8")
        settings = {"corpus": str(tmp_path / "corpus.txt"), **settings}
    options = load("mentor", name)(**settings)
    options.check()
    return options.build(run or context())


def lines_of(proposal, member=full_member):
    fields = {name: text for name, text in member(proposal.fields).items() if name != "lines_weight"}
    return ClassLines.from_fields(fields, CLASSES)


CONTROLS = ["class_wordings", "near_words", "random_class_words", "edited_examples", "corpus_lines"]


@pytest.mark.parametrize("name", CONTROLS)
def test_each_control_says_as_many_lines_as_are_wanted_at_each_weight(name, tmp_path):
    made = mentor(name, tmp_path, examples=4, descriptions=2, weights=[1.0, 0.5])
    advice = made.propose((), count=3, seed=1)
    assert not advice.rejected and advice.cost.llm_calls == 0
    assert [p.fields["lines_weight"] for p in advice.proposals] == ["1", "0.5"]
    one, other = map(lines_of, advice.proposals)
    assert one == other
    assert Counter((line.label, line.kind) for line in one) == {
        (label, kind): count for label in CLASSES for kind, count in (("examples", 4), ("descriptions", 2))
    }
    assert len({alike(line.text) for line in one}) == len(one) == 18


@pytest.mark.parametrize(("name", "draws"), [(name, name in ("near_words", "random_class_words", "edited_examples")) for name in CONTROLS])
def test_what_is_random_is_drawn_by_the_seed_alone(name, draws, tmp_path):
    made = mentor(name, tmp_path)
    first, again, other = (lines_of(made.propose((), count=1, seed=seed).proposals[0]) for seed in (1, 1, 2))
    assert first == again and (first != other) == draws


@pytest.mark.parametrize(
    ("name", "is_fixed"), [("class_names", True), ("class_wordings", True), ("corpus_lines", True), ("near_words", False)]
)
def test_what_is_always_the_same_is_said_once(name, is_fixed, tmp_path):
    again = mentor(name, tmp_path).propose((finished(0, None, 1.0, proposals=(("x", 1.0, 0),)),), count=1, seed=1)
    assert bool(again.proposals) != is_fixed and bool(again.rejected) == is_fixed


def test_class_names_are_one_line_each_in_words_under_the_datas_own_names(tmp_path):
    (proposal,) = mentor("class_names", tmp_path).propose((), count=1, seed=1).proposals
    assert {name: text for name, text in proposal.fields.items() if name.startswith("examples.")} == {
        "examples.calories": "calories",
        "examples.cook_time": "cook time",
        "examples.recipe": "recipe",
    }
    with pytest.raises(ValueError, match="one line, its name"):
        load("mentor", "class_names")(examples=3)


def test_names_as_labels_of_a_file_are_put_into_words(tmp_path):
    made = mentor("class_wordings", tmp_path, context(labels=CLASSES))
    assert lines_of(made.propose((), count=1, seed=1).proposals[0]).of("cook_time")[1].text == "this is about cook time"


def test_more_wordings_than_there_are_is_refused():
    with pytest.raises(ConfigError, match=r"has 24 wordings of a name, and mentor.examples \+ mentor.descriptions = 25"):
        load("mentor", "class_wordings")(examples=20, descriptions=5).check()


# -- edits


def test_no_edit_of_an_example_reaches_the_member_that_is_judged_by_it(tmp_path):
    """Edits keep nine words in ten, so whose they are can be told by their words."""
    marked = tuple(Example({"text": " ".join(f"{w}{i}" for w in "abcdefghij")}, example.label) for i, example in enumerate(TRAIN))
    (proposal,) = mentor("edited_examples", tmp_path, context(train=marked), weights=[0.5]).propose((), count=1, seed=3).proposals

    def rows_in(lines):
        return {int(word[1]) for line in lines for word in line.text.split()}

    assert rows_in(lines_of(proposal)) == set(range(9))
    for fold in range(3):
        own = lines_of(proposal, lambda fields, fold=fold: fold_member(fields, fold))
        assert rows_in(own) == {i for i in range(9) if FOLDS[i] != fold}
        assert Counter(line.label for line in own) == dict.fromkeys(CLASSES, 11)  # as many as the full member has
        assert all(marked[int(line.text.split()[0][1])].label == line.label for line in own)


def test_a_member_without_an_example_of_a_class_has_no_line_of_it(tmp_path):
    one_each = context(train=TRAIN[:3], folds=(0, 1, 2))
    (proposal,) = mentor("edited_examples", tmp_path, one_each, weights=[0.5]).propose((), count=1, seed=3).proposals
    assert [lines_of(proposal, lambda fields, fold=fold: fold_member(fields, fold)).labels() for fold in range(3)] == [
        ("cook_time", "recipe"),
        ("calories", "recipe"),
        ("calories", "cook_time"),
    ]
    assert lines_of(proposal).labels() == CLASSES


def test_without_cross_validation_there_are_no_lines_of_folds(tmp_path):
    (proposal,) = mentor("edited_examples", tmp_path, context(folds=()), weights=[0.5]).propose((), count=1, seed=3).proposals
    assert not [name for name in proposal.fields if name.startswith("fold")]


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("edited_examples", {"train": ()}, "edits labelled examples, and there are none"),
        ("edited_examples", {"input": "image"}, "these examples are pictures"),
        ("near_words", {"vocabulary": None}, "takes words of a vocabulary"),
        ("corpus_lines", {"read_by_name": None}, "no classes"),
        ("class_names", {"classes": ()}, "this problem has none"),
    ],
)
def test_what_a_problem_does_not_have_is_told(name, given, told, tmp_path):
    with pytest.raises(ConfigError, match=told):
        mentor(name, tmp_path, context(**given))


# -- sentences of a corpus


def test_the_sentences_that_are_read_with_most_confidence_become_lines(tmp_path):
    found = lines_of(mentor("corpus_lines", tmp_path, examples=3, descriptions=0).propose((), count=1, seed=1).proposals[0])
    assert [line.text for line in found.of("cook_time")] == ["minutes number 0", "minutes number 1", "minutes number 2"]


def test_probabilities_of_a_corpus_are_not_held(tmp_path):
    """Of many sentences and classes they would fill the memory."""
    alive, most = weakref.WeakSet(), []

    class Row(list):
        __hash__ = object.__hash__

    def read(texts):
        for row in read_by_name(texts):
            alive.add(found := Row(row))
            most.append(len(alive))
            yield found

    mentor("corpus_lines", tmp_path, context(read_by_name=read)).propose((), count=1, seed=1)
    assert len(most) == 90 and max(most) <= 3


def test_of_a_long_corpus_only_so_many_sentences_are_read(tmp_path):
    read = []
    run = context(read_by_name=lambda texts: read.append(texts) or read_by_name(texts))
    mentor("corpus_lines", tmp_path, run, sentences=20).propose((), count=1, seed=1)
    assert [len(texts) for texts in read] == [20]


def test_a_corpus_that_is_not_there_or_is_empty_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"name it in mentor\.corpus"):
        load("mentor", "corpus_lines")().check()
    with pytest.raises(ConfigError, match="cannot be read"):
        mentor("corpus_lines", tmp_path, corpus=str(tmp_path / "none.txt"))
    (tmp_path / "empty.txt").write_text("one\n\ntwo", encoding="utf-8")
    with pytest.raises(ConfigError, match="no sentence of two words"):
        mentor("corpus_lines", tmp_path, corpus=str(tmp_path / "empty.txt"))


def test_sentences_of_a_list_are_its_lines():
    assert corpus_sentences("my card is lost\nwhere is it? i need it now.\nno\nmy card is lost") == (
        "my card is lost",
        "where is it?",
        "i need it now.",
    )
    assert corpus_sentences("a\0b c\x1b[2Jd\u202e\n" + "long " * 300) == ("a b c [2Jd",)

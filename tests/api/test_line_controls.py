"""Whole runs with class lines of those who know nothing, or who are wrong: judged at equal age, and left out where they do harm."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import maao
from maao import run
from maao.build import build
from maao.build_mentor import build_mentor
from maao.class_lines import ClassLines, Line
from maao.config import make_config
from maao.llm.ledger import MemoryLedger
from maao.members import fold_member, full_member
from maao.mentors.class_lines.base import Said, Wanted
from maao.mentors.context import MentorContext
from maao.problems.lined import lines_of
from maao.report.run import report
from maao.result import Result
from tests import tiny_vision as tiny
from tests.api.small_runs import pairs, values, write_csv, write_data
from tests.mentors.lines import Sayer
from tests.tiny_sentence import sentence_folder

PICTURED = ("cat", "dog", "lion")
LABELS = ("business", "music", "sport")
SHORT = {"plan": {"rounds": 1, "steps": 20, "store_every": 20}, "accept": {"rule": "race", "steps": 20}}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sentence_folder(tmp_path_factory.mktemp("encoder"), max_length=24)[0]


def settings(encoder: Path, folder: Path, /, **changes: Any) -> dict[str, Any]:
    data = {name: path for name, path in write_data(folder).items() if name != "select"}
    model = {"kind": "matcher", "name": str(encoder), "method": "class_residual", "wordings": ["{class}"]}
    whole = values(encoder, {**data, "select": "cross_validation", "folds": 3}, model=model)
    return {**{key: held for key, held in whole.items() if key not in ("stage", "mentor")}, **SHORT, **changes}


def texts_of(label: str) -> list[str]:
    return [text for text, own in pairs("train") if own == label]


def saying(shift: int) -> Callable[[MentorContext], Sayer]:
    """A mentor that says right lines of each class, two of its texts in one, or (shifted) those of another."""
    lines = [
        Line(LABELS[(i + shift) % 3], "examples", f"{one} {other}")
        for i, label in enumerate(LABELS)
        for one, other in pairwise(texts_of(label))
    ]
    return lambda run: Sayer(run.codec, Wanted(run.classes, weights=(0.5,)), "someone", Said(ClassLines(tuple(lines)).in_order(LABELS)))


def write_tower(folder: Path) -> Path:
    """Save a tiny CLIP as a folder."""
    tiny.clip_model().save_pretrained(folder)
    tiny.clip_tokenizer().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}))
    return folder


def write_pictures(folder: Path) -> Path:
    for label in PICTURED:
        (folder / label).mkdir(parents=True)
        for i in range(8):
            tiny.Pictures().open(f"{label}/{i}").save(folder / label / f"{i}.png")
    return folder


def told(result: Result) -> str:
    out = StringIO()
    Console(file=out, width=200).print(report(result))
    return out.getvalue()


def test_right_lines_count_and_the_same_under_wrong_classes_are_left_out(encoder: Path, tmp_path: Path) -> None:
    """A wrong line that is well formed is not refused: the labels say what it is worth."""
    config = make_config(settings(encoder, tmp_path, mentor={"name": "custom"}))
    right = run(config, tmp_path / "right", mentor=saying(0))
    wrong = run(config, tmp_path / "wrong", mentor=saying(1))
    assert right.history[-1].verdict.chosen == 0 and "The mentor's lines count, at 0.5 of the weight" in told(right)
    assert wrong.history[-1].verdict.chosen is None and "The mentor's lines were left out: out of fold they did worse" in told(wrong)
    assert not len(lines_of(full_member(wrong.history[-1].state.params)))
    assert "the mentor's lines were left out" in wrong.history[-1].verdict.reason
    assert len(lines_of(full_member(wrong.history[-1].advice.proposals[0].params))) == 15  # they were walked with and judged


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("class_names", {}),
        ("class_wordings", {}),
        ("near_words", {}),
        ("random_class_words", {}),
        ("edited_examples", {}),
        ("corpus_lines", {"sentences": 50}),
    ],
)
def test_a_control_runs_and_replays_and_asks_nobody(name: str, own: dict[str, Any], encoder: Path, tmp_path: Path) -> None:
    if name == "corpus_lines":
        own = {**own, "corpus": str(tmp_path / "corpus.txt")}
        (tmp_path / "corpus.txt").write_text("\n".join(f"{text} {label} {i}" for text, label in pairs("train") for i in range(9)))
    counts = {} if name == "class_names" else {"examples": 2, "descriptions": 1}
    mentor = {"name": name, "weights": [0.5], **counts, **own}
    result = run(make_config(settings(encoder, tmp_path, mentor=mentor)), tmp_path / "run")
    (asked,) = [r for r in result.history if r.leg.ask]
    (proposal,) = asked.advice.proposals
    lines = lines_of(full_member(proposal.params))
    if name == "corpus_lines":  # how a random encoder reads sentences differs from process to process, as its tokenizer does
        assert 0 < len(lines) <= 9
    else:
        assert lines.labels() == LABELS and len(lines) == (3 if name == "class_names" else 9)
    assert result.cost.llm_calls == 0
    assert maao.replay(tmp_path / "run").equal


def test_no_edit_of_an_example_reaches_the_member_that_is_judged_by_it(encoder: Path, tmp_path: Path) -> None:
    """The words of each example end in its number, and an edit of five words keeps some of them."""
    marked = [" ".join(f"{word}-{i}" for word in ("one", "two", "three", "four", "five")) for i in range(len(pairs("train")))]
    own = settings(encoder, tmp_path, mentor={"name": "edited_examples", "weights": [0.5]})
    rows = [(text, label) for text, (_, label) in zip(marked, pairs("train"), strict=True)]
    own["data"]["train"] = str(write_csv(tmp_path / "marked.csv", rows))
    parts = build(make_config(own))
    (proposal,) = build_mentor(parts, MemoryLedger()).mentor.propose((), count=1, seed=1).proposals

    def sources(params: Any) -> set[str]:
        return {word.partition("-")[2] for line in lines_of(params) for word in line.text.split() if "-" in word}

    numbers = [example.fields["text"].split("-")[-1] for example in parts.examples.train]
    assert sources(full_member(proposal.params)) == set(numbers)
    for fold in range(3):
        left = {number for number, held in zip(numbers, parts.examples.folds, strict=True) if held != fold}
        assert sources(fold_member(proposal.params, fold)) == left


def test_a_corpus_is_read_by_the_names_alone(encoder: Path, tmp_path: Path) -> None:
    """With the labels exchanged among the examples the same sentences are said of the same classes."""
    (tmp_path / "corpus.txt").write_text("\n".join(f"{text} {label}" for text, label in pairs("train")))
    mentor = {"name": "corpus_lines", "corpus": str(tmp_path / "corpus.txt"), "examples": 2, "descriptions": 0, "weights": [0.5]}
    own = settings(encoder, tmp_path, mentor=mentor)
    found = []
    for shift in (0, 1):
        rows = [(text, LABELS[(LABELS.index(label) + shift) % 3]) for text, label in pairs("train")]
        own["data"]["train"] = str(write_csv(tmp_path / f"{shift}.csv", rows))
        found += build_mentor(build(make_config(own)), MemoryLedger()).mentor.propose((), count=1, seed=1).proposals
    assert dict(found[0].fields) == dict(found[1].fields)


@pytest.mark.parametrize(("kind", "name"), [("decoder", "near_words"), ("head", "corpus_lines")])
def test_controls_serve_models_that_read_texts_by_words_or_a_head(kind: str, name: str, llama: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("\n".join(f"{text} and {label}" for text, label in pairs("train")))
    own = {"corpus": str(tmp_path / "corpus.txt")} if name == "corpus_lines" else {}
    mentor = {"name": name, "examples": 2, "descriptions": 0, "weights": [0.5], **own}
    settings = values(llama, write_data(tmp_path), model__kind=kind, plan__rounds=1, plan__first="walk", mentor=mentor)
    result = run(make_config(settings), tmp_path / "run")
    first = next(r for r in result.history if r.leg.ask)
    assert len(first.advice.proposals) == 1 and 0 < len(lines_of(first.advice.proposals[0].params)) <= 6
    assert "The mentor's lines" in told(result) and maao.replay(tmp_path / "run").equal


@pytest.mark.parametrize("name", ["near_words", "corpus_lines"])
def test_controls_serve_pictures(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAAO_CACHE", str(tmp_path / "cache"))
    tower, pictures = write_tower(tmp_path / "clip"), write_pictures(tmp_path / "pictures")
    (tmp_path / "corpus.txt").write_text(
        "\n".join(f"a {what} of the {label}" for what in ("photo", "drawing", "view") for label in PICTURED)
    )
    own = {"corpus": str(tmp_path / "corpus.txt")} if name == "corpus_lines" else {}
    mentor = {"name": name, "examples": 1, "descriptions": 1, "weights": [0.5], **own}
    settings = {"model": {"name": str(tower), "method": "class_residual"}, "data": {"source": str(pictures), "shots": 3}, "mentor": mentor}
    result = run(make_config({"threads": 1, "baselines": [], **settings, **SHORT}), tmp_path / "run")
    first = next(r for r in result.history if r.leg.ask)
    assert first.advice.proposals and set(lines_of(full_member(first.advice.proposals[0].params)).labels()) <= set(PICTURED)
    assert maao.replay(tmp_path / "run").equal

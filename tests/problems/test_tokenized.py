"""The cache of tokenized examples: what it gives is what tokenizing gives, and nothing in it can go stale or end a run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from maao.problems.towers.text import tokenized
from maao.problems.towers.text.tokenized import tokenize_all
from maao.types import Example
from tests.conformance.parts import soft_prompt_problem
from tests.tiny import tiny_splits

CHOICES = tuple(Example({"text": f"the market was good {i}"}, "1", choices=("the bank won", "music film")) for i in range(3))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MAAO_CACHE", str(tmp_path))
    return tmp_path / "tokenized"


def tokenizer(architecture="llama", template="{text} {slots} Topic:", **options):
    return soft_prompt_problem(architecture, template, **options).tokenizer


def files(cache):
    return sorted(cache.glob("*.json"))


@pytest.mark.parametrize(
    ("architecture", "template", "examples"),
    [
        ("llama", "{text} {slots} Topic:", tiny_splits().train),
        ("bert_masked", "{text} {slots} Topic {mask}", tiny_splits().train),
        ("bert", "{slots} {text} {sep} news", tiny_splits().train),
        ("llama", "{text} {slots} so", CHOICES),
    ],
)
def test_what_is_read_back_is_what_was_made(cache, monkeypatch, architecture, template, examples):
    made = tokenizer(architecture, template)
    expected = tuple(map(made.example, examples))
    assert tokenize_all(made, examples, fewest=1) == expected
    assert len(files(cache)) == 1
    monkeypatch.setattr(type(made), "example", None)  # nothing is tokenized again
    assert tokenize_all(made, examples, fewest=1) == expected


def test_a_choice_that_a_head_reads_comes_back_whole(cache):
    made = tokenizer("bert", "{slots} {text} {sep} {choice}", splits=tiny_splits().__class__(CHOICES, CHOICES, (), ("0", "1")))
    first, again = (tokenize_all(made, CHOICES, fewest=1) for _ in range(2))
    assert first == again and len(again[0].choices) == 2


def test_whatever_changes_the_ids_is_another_entry(cache):
    examples = tiny_splits().train
    for made in (
        tokenizer(),
        tokenizer(template="{text} {slots} Label:"),
        tokenizer(max_length=12),
        tokenizer("gpt2"),
        tokenizer("roberta", "{text} {slots}"),
        tokenizer("roberta", "{slots} {text}"),
        tokenizer("roberta", " {slots} {text}"),  # the slots stand behind the first special token
    ):
        tokenize_all(made, examples, fewest=1)
    others = (*examples[:-1], replace(examples[-1], fields={"text": "other"}))
    tokenize_all(tokenizer(), others, fewest=1)
    assert len(files(cache)) == 7  # a llama and a gpt2 share their tokenizer here


@pytest.mark.parametrize("spoilt", ["", "[1, 2]", "[]", "{}", "null"])
def test_a_spoilt_entry_is_made_again(cache, spoilt):
    examples, made = tiny_splits().train, tokenizer()
    expected = tokenize_all(made, examples, fewest=1)
    files(cache)[0].write_text(spoilt)
    assert tokenize_all(made, examples, fewest=1) == expected
    assert len(files(cache)[0].read_text()) > 100


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    monkeypatch.setenv("MAAO_CACHE", str(tmp_path / "file"))
    (tmp_path / "file").write_text("in the way")
    made = tokenizer()
    assert tokenize_all(made, tiny_splits().train, fewest=1) == tuple(map(made.example, tiny_splits().train))


def test_small_sets_are_not_kept(cache):
    tokenize_all(tokenizer(), tiny_splits().train)
    assert not files(cache)
    assert len(tiny_splits().train) < tokenized.FEWEST

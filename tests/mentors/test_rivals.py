"""Rivals and controls behave as their papers say: one behaviour each that their own text or code states."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from maao.codecs.numbers import NumberCodec
from maao.core.acceptance import AlwaysFirst
from maao.core.loop import alternate
from maao.errors import CodecError, ConfigError
from maao.llm.scripted import Scripted
from maao.mentors.ape import APE
from maao.mentors.controls import NoMentor, Perturb, Reset
from maao.mentors.evolution import Evolution
from maao.mentors.evoprompt import EvoPrompt, de_population, roulette
from maao.mentors.opro import OPRO
from maao.mentors.population import fittest
from maao.mentors.random_text import RandomText
from maao.mentors.reply import read_one
from maao.mentors.trajectory import Entry
from maao.optimizers.torch import TorchStage
from maao.problems.functions import FunctionProblem
from maao.protocols import NO_FIELDS, Decoded, Encoded
from maao.types import Advice, Example, Leg, Proposal, Score
from tests.mentors.histories import finished


class Words:
    """A codec that takes every text but those with a hash in them."""

    fields = ()

    def encode(self, text, fields=NO_FIELDS):
        if "#" in text:
            raise CodecError(f"{text!r} cannot be written")
        return Encoded({"prompt": text}, text)

    def decode(self, params):
        return Decoded("words")


def judged(index, *pairs, replaces=None):
    """A round whose proposals were scored as they stand, and which ends where it began."""
    told = finished(index, None, 9.0, proposals=tuple((text, loss, 0) for text, loss in pairs))
    proposals = tuple(Proposal(text, {}, replaces=replaces) for text, _ in pairs)
    considered = tuple(replace(c, score=Score(c.score.loss, {"accuracy": 1 - c.score.loss / 10}, 10)) for c in told.verdict.considered)
    return replace(told, advice=Advice(proposals), verdict=replace(told.verdict, considered=considered))


def entries_of(count):
    return [Entry(f"text {i}", Score(1 + i / 100, {"accuracy": (99 - i) / 100}, 10), 0) for i in range(count)]


# -- reset


def test_reset_clears_the_moments_and_moves_nothing():
    problem, stage = FunctionProblem("rosenbrock", codec=NumberCodec(2)), TorchStage("AdamW", lr=0.1)
    plan = (Leg(3), Leg(0, ask=True), Leg(3))
    rounds = list(alternate(problem, stage, Reset(problem.codec), plan=plan, accept=AlwaysFirst(), seed=1))
    assert torch.equal(rounds[1].state.params["x"], rounds[0].state.params["x"])
    assert (rounds[0].state.age, rounds[1].state.age) == (3, 0) and rounds[0].state.moments and not rounds[1].state.moments
    plain = list(alternate(problem, stage, NoMentor(), plan=plan, accept=AlwaysFirst(), seed=1))
    assert not torch.equal(rounds[2].state.params["x"], plain[2].state.params["x"])


# -- OPRO


def test_opro_lists_at_most_twenty_with_the_best_last():
    text = OPRO(Scripted(["x"]), Words(), task="Name the topic.").instruction(entries_of(30), 0)
    scores = [int(line) for line in text.split("\n") if line.isdigit()]
    assert len(scores) == 20 and scores == sorted(scores) and scores[-1] == 99
    assert "text 0\nscore:\n99" in text and "text 25" not in text


def test_opro_shows_other_exemplars_at_another_step_and_leaves_low_scores_out():
    pairs = tuple(Example({"text": f"input {i}"}, "a") for i in range(20))
    mentor = OPRO(Scripted(["x"]), Words(), exemplars=pairs, shown=3, threshold=0.9)
    one, two = (mentor.instruction(entries_of(30), seed) for seed in (1, 2))
    assert one.count("Input: ") == 3 and one != two
    assert "score:\n90" in one and "score:\n89" not in one


def test_opro_drops_what_is_long_or_known_and_makes_a_call_for_each():
    replies = ["<INS>good one</INS>", "<INS>good one</INS>", f"<INS>{'x' * 501}</INS>", "no tags"]
    advice = OPRO(Scripted(replies), Words()).propose((), count=4, seed=0)
    assert [p.text for p in advice.proposals] == ["good one", "no tags"]
    assert [r.reason for r in advice.rejected] == ["tried before", "longer than 500 characters"]
    assert advice.cost.llm_calls == 4


# -- APE


def test_ape_shows_pairs_and_never_a_score():
    pairs = tuple(Example({"text": f"input {i}"}, "a") for i in range(9))
    mentor = APE(Scripted([" to name the topic.\n\nIt was easy."]), Words(), examples=pairs, demonstrations=4)
    text = mentor.instruction(3)
    assert text.count("Input: ") == 4 and "score" not in text.lower() and "loss" not in text.lower()
    advice = mentor.propose((judged(0, ("known", 1.0)),), count=2, seed=0)
    assert [p.text for p in advice.proposals] == ["name the topic."]


# -- EvoPrompt


def test_a_child_of_de_takes_its_members_place_only_if_it_is_better():
    first = judged(0, ("a", 3.0), ("b", 2.0), ("c", 1.0))
    worse = judged(1, ("child", 2.5), replaces=1)
    better = judged(2, ("better child", 1.5), replaces=1)
    assert [m.text for m in de_population((first, worse), 3)] == ["a", "b", "c"]
    assert [m.text for m in de_population((first, worse, better), 3)] == ["a", "better child", "c"]


def test_de_names_two_others_the_best_and_the_member_itself():
    members = de_population((judged(0, ("aa", 3.0), ("bb", 2.0), ("cc", 1.0), ("dd", 4.0)),), 4)
    for seed in range(9):
        lines = EvoPrompt(Scripted(["x"]), Words(), algorithm="de").instruction(members, 1, seed).splitlines()[-4:]
        first, second, best, basic = (line.split(": ")[1] for line in lines)
        assert (best, basic) == ("cc", "bb") and first != second and "bb" not in (first, second)


def test_children_of_de_go_round_the_members():
    history = (judged(0, ("aa", 3.0), ("bb", 2.0), ("cc", 1.0)),)
    advice = EvoPrompt(Scripted([f"<prompt>child {i}</prompt>" for i in range(3)]), Words(), algorithm="de").propose(
        history, count=3, seed=0
    )
    proposed = history[0].leg.proposals
    assert [p.replaces for p in advice.proposals] == [(proposed + i) % 3 for i in range(3)]


def test_ga_keeps_the_best_of_parents_and_children():
    history = (judged(0, ("a", 3.0), ("b", 2.0)), judged(1, ("c", 1.0), ("d", 4.0)))
    assert [entry.text for entry in fittest(history, 2)] == ["c", "b"]


def test_ga_draws_two_parents_in_proportion_to_their_fitness():
    draw, members = random.Random(0), [Entry(str(i), Score(1.0, {"accuracy": a}, 10), 0) for i, a in enumerate((0.8, 0.1, 0.1))]
    firsts = Counter(roulette(members, draw)[0].text for _ in range(2000))
    assert firsts["0"] / 2000 == pytest.approx(0.8, abs=0.04)
    assert all(a is not b for a, b in (roulette(members, draw) for _ in range(50)))


def test_an_evoprompt_begins_with_its_texts_and_says_what_it_lacks():
    mentor = EvoPrompt(Scripted(["<prompt>x</prompt>"]), Words(), initial=("one", "two #", "three"))
    first = mentor.propose((), count=2, seed=0)
    assert [p.text for p in first.proposals] == ["one"] and "two #" in first.rejected[0].text
    lonely = EvoPrompt(Scripted(["<prompt>x</prompt>"]), Words()).propose((judged(0, ("a", 1.0)),), count=1, seed=0)
    assert "DE needs 3 prompts with scores" in lonely.rejected[0].reason and not lonely.proposals


def test_an_evoprompt_begins_with_no_more_texts_than_its_population_has_members():
    """Or it would propose a longer list of texts to its end, and no child."""
    mentor = EvoPrompt(Scripted(["<prompt>x</prompt>"]), Words(), population=3, initial=("one", "two", "three", "four", "five", "six"))
    first = mentor.propose((), count=3, seed=0)
    history = (judged(0, *((p.text, 1.0) for p in first.proposals)),)
    second = mentor.propose(history, count=3, seed=1)
    assert [p.text for p in first.proposals] == ["one", "two", "three"] and {p.text for p in second.proposals} == {"x"}
    assert second.cost.llm_calls == 3


def test_what_stands_in_the_last_tags_is_the_prompt_and_else_the_whole_reply():
    assert read_one("<prompt>one</prompt> then <PROMPT>two\nlines</PROMPT>", tag="prompt", last=True)[0] == ("two lines",)
    assert read_one("no tags\nat all", tag="prompt", last=True)[0] == ("no tags at all",)


# -- controls


def test_a_jump_is_as_long_as_its_size_says():
    value = torch.randn(40, 50, generator=torch.Generator().manual_seed(0))
    history = (replace(judged(0, ("a", 1.0)), state=SimpleNamespace(params={"prompt": value, "head": torch.ones(3)}, step=1, age=1)),)

    def noise(shape, seed):
        return torch.randn(shape.shape, generator=torch.Generator().manual_seed(seed))

    for size in (0.01, 0.1, 1.0):
        advice = Perturb(Words(), noise, size, ("prompt",)).propose(history, count=2, seed=3)
        moved = [p.params["prompt"] - value for p in advice.proposals]
        assert [float(m.norm() / value.norm()) for m in moved] == pytest.approx([size, size], rel=0.05)
        assert all(set(p.params) == {"prompt"} for p in advice.proposals) and not torch.equal(*moved)
    with pytest.raises(ConfigError, match="above zero"):
        Perturb(Words(), noise, 0.0)


def test_random_text_is_the_beginning_of_sentences_and_reads_no_history():
    sentences = tuple(f"sentence {i} has some more words" for i in range(20))
    mentor = RandomText(sentences, Words(), 3)
    told = mentor.propose((), count=3, seed=1)
    assert all(p.text in {f"sentence {i} has" for i in range(20)} for p in told.proposals) and len({p.text for p in told.proposals}) == 3
    assert mentor.propose((judged(0, ("a", 1.0)),), count=3, seed=1) == told


def test_evolution_breeds_words_of_the_fittest_and_changes_about_one():
    history = (judged(0, ("a b c d e f g h", 1.0), ("i j k l m n o p", 2.0), ("q q q q q q q q", 9.0)),)
    mentor = Evolution(Words(), lambda count, seed: ["new"] * count, population=2)
    children = [p.text.split() for p in mentor.propose(history, count=20, seed=0).proposals]
    assert all(set(child) <= {*"abcdefghijklmnop", "new"} for child in children)
    assert 0.3 < sum(child.count("new") for child in children) / len(children) < 2.5
    near = replace(mentor, near=lambda word: [f"{word}{word}"])
    assert all(len(w) <= 2 and w != "new" for p in near.propose(history, count=9, seed=1).proposals for w in p.text.split())

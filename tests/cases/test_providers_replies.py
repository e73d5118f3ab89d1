"""Replies that were read wrongly, and their kind: each is a row of a table with the texts that are wanted, and what is said of the rest."""

from __future__ import annotations

import json
import random
import time
import unicodedata
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maao.codecs.numbers import NumberCodec
from maao.config import make_config
from maao.errors import ConfigError, MaaoError
from maao.llm.chat import Reply, Usage
from maao.llm.scripted import Scripted
from maao.mentors.ape import APE
from maao.mentors.evoprompt import EvoPrompt
from maao.mentors.fields import Fields
from maao.mentors.instruction import Task, json_schema, wording
from maao.mentors.language_model import LanguageModelMentor, cut_reason
from maao.mentors.opro import OPRO
from maao.mentors.random_text import sentences_of
from maao.mentors.reply import LONGEST, LONGEST_REJECTED, MAX_WORDS, MOST_REJECTED, PLACE, read_continuation, read_list, read_one
from maao.mentors.soft_input import SoftInput
from maao.optimizers.serializer import TorchSerializer
from maao.problems.framed import in_braces
from maao.problems.towers.text.template import Template
from maao.protocols import NO_FIELDS, Decoded, Encoded
from maao.runner import run
from maao.store.run import RunFolder
from maao.types import Example
from tests.mentors.histories import finished

A, B = "sort the news", "topic of a headline"

# name: (reply, wanted texts, (a rejected line begins with this, and its reason holds this) ...)
LISTS = {
    # -- thinking aloud is never a proposal
    "thought": (f"<think>\n1. no\n</think>\n1. {A}\n2. {B}", (A, B), ("<think>", "thinking aloud")),
    "thought in capitals": (f"<THINK>1. no</THINK>\n- {A}", (A,), ("<THINK>", "thinking aloud")),
    "thought with attributes": (f'<thinking budget="9">- no</thinking>\n- {A}', (A,), ("<thinking", "thinking aloud")),
    "thought, reasoning": (f"<reasoning>- no</reasoning>- {A}", (A,), ("<reasoning>", "thinking aloud")),
    "thought, analysis": (f"<analysis>\n- no\n</analysis>\n{A}", (A,), ("<analysis>", "thinking aloud")),
    "thought, nested": (f"<think>a <think>- no</think>\n- no again</think>\n- {A}", (A,), ("<think>", "thinking aloud")),
    "thought without an end": (f"- {A}\n<think>\n- no", (A,), ("<think>", "thinking aloud")),
    "thought, nested, without an end": ("<think>a <think>- no</think>\n- no again", (), ("<think>", "thinking aloud")),
    "thought without a beginning": (f"- no\n</think>\n- {A}", (A,), ("- no", "thinking aloud")),
    "thought ended twice": (f"<think>no</think>\n- {A}\n</think>", (A,), ("<think>", "thinking aloud")),
    "thoughts between items": (f"- {A}\n<think>no</think>\n- {B}", (A, B), ("<think>", "thinking aloud")),
    "thought in brackets": (f"[THINK]1. no[/THINK]\n1. {A}", (A,), ("[THINK]", "thinking aloud")),
    "thought in triangles": (f"◁think▷1. no◁/think▷\n1. {A}", (A,), ("◁think▷", "thinking aloud")),
    "thought, escaped": (f"&lt;think&gt;1. no&lt;/think&gt;\n1. {A}", (A,), ("&lt;think", "thinking aloud")),
    "thought in Cohere's marks": (f"<|START_THINKING|>1. no<|END_THINKING|>\n1. {A}", (A,), ("<|START", "thinking aloud")),
    "thought in details": (f'<details type="reasoning">\n1. no\n</details>\n1. {A}', (A,), ("<details", "thinking aloud")),
    "channels": (
        f"<|channel|>analysis<|message|>1. no<|end|><|start|>assistant<|channel|>final<|message|>1. {A}\n2. {B}<|return|>",
        (A, B),
        ("<|channel|>analysis", "thinking aloud"),
    ),
    "channels without a final one": ("<|channel|>analysis<|message|>1. no\n2. no again", (), ("<|channel|>", "thinking aloud")),
    "channels without their marks": (f"analysisWe need one.\n1. no\nassistantfinal1. {A}", (A,), ("analysisWe", "thinking aloud")),
    "Gemma's channel": (f"<|channel>thought\n1. no<channel|>1. {A}", (A,), ("<|channel>", "thinking aloud")),
    # -- JSON: texts are chosen by their names
    "an id before the prompt": ('{"id": "p1", "prompt": "sort the news"}', (A,), ("id: p1", "another name")),
    "objects with ids": (
        f'[{{"id": "p1", "prompt": "{A}"}}, {{"id": "p2", "prompt": "{B}", "why": "plain"}}]',
        (A, B),
        ("why", "another name"),
    ),
    "several lists": (f'{{"analysis": ["a is bad", "b is good"], "prompts": ["{A}", "{B}"]}}', (A, B), ("analysis", "another name")),
    "a list within": (
        f'{{"result": {{"status": "ok", "new_prompts": [{{"text": "{A}"}}, {{"text": "{B}"}}]}}}}',
        (A, B),
        ("status", "another"),
    ),
    "texts by number": (f'{{"prompts": {{"1": "{A}", "2": "{B}"}}}}', (A, B)),
    "objects by number": (f'{{"1": {{"prompt": "{A}"}}, "2": {{"prompt": "{B}"}}}}', (A, B)),
    "numbered names": (f'{{"prompt_1": "{A}", "prompt_2": "{B}"}}', (A, B)),
    "a text beside what holds the prompts": (f'{{"data": {{"prompts": ["{A}"]}}, "text": "here you go"}}', (A,), ("text", "another name")),
    "a list in one text": (json.dumps({"prompts": f"1. {A}\n2. {B}"}), (A, B)),
    "JSON in a text": (json.dumps({"prompts": json.dumps([A, B])}), (A, B)),
    "JSON lines": (f'{{"prompt": "{A}"}}\n{{"prompt": "{B}"}}', (A, B)),
    "JSON in a numbered list": (f'1. {{"prompt": "{A}"}}\n2. {{"prompt": "{B}"}}', (A, B)),
    "no name of a prompt": ('{"id": "p1", "reason": "none"}', (), ("id", "another name")),
    "an assignment": (f'Here:\n```python\nprompts = [\n    "{A}",\n    "{B}",\n]\n```', (A, B), ("```python", "a code fence")),
    "a comma too many": (f'{{"prompts": ["{A}", "{B}",]}}', (A, B)),
    "single quotes": (f"{{'prompts': ['{A}', '{B}']}}", (A, B)),
    "names without quotes": (f'{{prompts: ["{A}", "{B}"]}}', (A, B)),
    "without its end": (f'["{A}",\n"{B}"', (A, B)),
    "without its end, in a fence": (f'```json\n{{"prompts": ["{A}", "{B}"]\n```\nEnjoy!', (A, B), ("Enjoy!", "talk around")),
    "quotes in quotes": ('{"prompt": "say "yes" or "no" now"}', ('say "yes" or "no" now',)),
    "a broken list with lists in it": (f'{{"analysis": [["x", "y"]],\n"prompts": ["{A}", "{B}"],}}', (A, B), ("analysis", "another name")),
    "braces that are no JSON": ("{topic_of_words: 97}:\nOn a question\n{remarks}", ("On a question", "{remarks}")),
    "points of a function": ("[[0.5, 1.25], [2, -1]]", ("0.5 1.25", "2 -1")),
    "points of a function, lines": ("[0.5, 1.25]\n[2, -1]", ("0.5 1.25", "2 -1")),
    "a list in an item": ('- Answer one of ["good", "bad"]:\n- topic', ('Answer one of ["good", "bad"]:', "topic")),
    "half a character": ('["sort \\ud800 it", "sort the news"]', (A,), ("sort ? it", "cannot be printed")),
    # -- headings, tables, tags, numbers in words
    "a heading": (f"**Proposal 1**\n{A}\n\n**Proposal 2**\n{B}", (A, B), ("**Proposal 1**", "a heading")),
    "headings of other names": (f"Option A\n{A}\nOption B\n{B}", (A, B), ("Option A", "a heading")),
    "numbered headings": (f"Candidate #1:\n{A}\nCandidate #2:\n{B}", (A, B), ("Candidate #1:", "a heading")),
    "headings of Markdown": (f"## Analysis\nThey are short.\n## Prompts\n- {A}\n- {B}", (A, B), ("## Analysis", "a heading")),
    "a heading in bold": (f"**Analysis**\n- {A}\n- {B}", (A, B), ("**Analysis**", "talk around")),
    "a table": (f"| # | Prompt | Why |\n|---|---|---|\n| 1 | {A} | short |\n| 2 | {B} | plain |", (A, B), ("|---", "the frame of a table")),
    "a table with other names first": (f"Id | Reason | New prompt\n--|--|--\n1 | short | {A}", (A,)),
    "tags": (f"<prompt>{A}</prompt>\n<prompt>{B}</prompt>\nGood luck", (A, B), ("Good luck", "talk around")),
    "tags in tags": (
        f'<prompts>\n<prompt id="1">{A}</prompt>\n<prompt id="2">\n{B}\n</prompt>\n</prompts>',
        (A, B),
        ("<prompts>", "talk around"),
    ),
    "tags of items": (f"<item><id>1</id><text>{A}</text></item>", (A,), ("<item><id>1", "talk around")),
    "a list in a tag": (f"Let us see: maybe no.\n<answer>\n1. {A}\n2. {B}\n</answer>", (A, B), ("Let us see", "talk around")),
    "a tag that is a word": ("- Name the topic of <text> now\n- sort the news", ("Name the topic of <text> now", A)),
    "first, second": (f"First: {A}\nSecond: {B}", (A, B)),
    "prompt one, prompt two": (f"Prompt one: {A}\nPrompt two: {B}", (A, B)),
    "letters": (f"a) {A}\nb) {B}", (A, B)),
    "circled numbers": (f"① {A}\n② {B}", (A, B)),
    "keys of a telephone": (f"1️⃣ {A}\n2️⃣ {B}", (A, B)),
    "Chinese numbers": ("1、新闻的主题\n2、新闻", ("新闻的主题", "新闻")),
    "boxes to tick": (f"- [ ] {A}\n- [x] {B}", (A, B)),
    "on one line": (f"1. {A} 2. {B} 3. what is it", (A, B, "what is it")),
    "in quotes on one line": (f'"{A}", "{B}"', (A, B)),
    "the final prompt is": (f'The final prompt is: "{A}"', (A,)),
    "a greeting": (f"Dear Adam,\n{A}", (A,), ("Dear Adam,", "talk")),
    # -- remarks
    "remarks behind quotes": (f'1. "{A}" - it is short\n2. "{B}" (plain)\n3. **what is it** — direct', (A, B, "what is it")),
    "titles in bold": (f'1. **Direct**: "{A}"\n2. **Plain:** {B}', (A, B)),
    "a title before a dash": ("1. **Short prompt** - Is it good?", ("Is it good?",), ("Short prompt", "the title of a prompt")),
    "a title before a long prompt": (f"- **Plain** — {B}\n- __Short__ - {A}", (B, A), ("Plain", "the title"), ("Short", "the title")),
    "a title before quotes": ('- **Which one is asked for?** - "Is it good?"', ("Is it good?",), ("Which one", "the title")),
    "titles are told": (f"1. **Direct**: {A}\n2. **Plain:** {B}", (A, B), ("Direct", "the title"), ("Plain:", "the title")),
    "a remark behind bold": (f"1. **{A}** - it is short", (A,), ("- it is short", "a remark")),
    "a remark behind bold that ends": ("1. **Is it good?** - A plain question of few words.", ("Is it good?",), ("- A plain", "a remark")),
    "a remark behind quotes": (f'1. "{A}" - it is short\n2. "{B}" (plain)', (A, B), ("- it is short", "a remark"), ("(plain)", "a remark")),
    "a remark in a tag": (f'<prompt>"{A}" - it is short</prompt>', (A,), ("- it is short", "a remark")),
    "a remark in JSON": (json.dumps([f'"{A}" - it is short', "**In short** - Is it good?"]), (A, "Is it good?"), ("- it", "a remark")),
    "a remark in a table": (f'| # | Prompt |\n|--|--|\n| 1 | "{A}" - short |', (A,), ("- short", "a remark")),
    "bold within": ("- Is it **good** or **bad**?\n- **Sort** the news\n- 2**3 **is", ("Is it good or bad?", "Sort the news", "2**3 is")),
    "two parts in quotes": (
        '- "good" or "bad"\n- “good” or “bad”\n- Say "good" or "bad"',
        ('"good" or "bad"', "“good” or “bad”", 'Say "good" or "bad"'),
    ),
    "two parts in other marks": (
        "- 'good' or 'bad'\n- `good` or `bad`\n- *good* or *bad*",
        ("'good' or 'bad'", "`good` or `bad`", "*good* or *bad*"),
    ),
    "quotes around apostrophes": ("- 'what's the dogs' topic'\n- \"'good' or 'bad'\"", ("what's the dogs' topic", "'good' or 'bad'")),
    "a number that is no score": (
        "- In 2024, accuracy 90% matters: topic?\n- Rate (accuracy 90 is wanted) it: good?\n- Is it good - loss 5 or gain?",
        ("In 2024, accuracy 90% matters: topic?", "Rate (accuracy 90 is wanted) it: good?", "Is it good - loss 5 or gain?"),
    ),
    "a score before talk": (f"- {A} (loss 0.4, accuracy 0.9) - better\n- {B}, loss 0.3, accuracy 90%.", (A, B)),
    "a reason that is the prompt": ("1. Reason: good or bad", ("Reason: good or bad",)),
    "reasons that are prompts": ("1. Reason: good or bad\n2. Explanation: is it", ("Reason: good or bad", "Explanation: is it")),
    "points under items": (f"1. {A}\n   - short\n2. {B}\n   - plain", (A, B), ("- short", "a point under an item")),
    "reasons": (f"- {A}\n- Reason: it is short\n- {B}", (A, B), ("- Reason", "a remark")),
    "a name that is the prompt": ("- Instruction:\n- Answer:", ("Instruction:", "Answer:")),
    # -- rules
    "the template again": (f"- {{text}} {PLACE} Topic:\n- {A}", (A,), ("- {text}", "repeats the template")),
    "letters that join": ("- می‌خواهم بدانم", ("می‌خواهم بدانم",)),
    "spaces of other kinds": ("- sort\u00a0the\u202fnews", (A,)),
    "marks of direction": (f"- sort\u202e the news\n- {B}", (B,), ("- sort", "cannot be printed")),
    "an endless word": ("- " + "a" * 900 + f"\n- {A}", (A,), ("- aaa", "longer than")),
    "an endless line": ("sort " * 2000 + f"\n- {A}", (A,), ("sort sort", "prose")),
    "nothing": ("", (), ("", "the reply is empty")),
}


@pytest.mark.parametrize("name", LISTS)
def test_p8_replies_are_read(name):
    reply, wanted, *told = LISTS[name]
    texts, rejected = read_list(reply, count=3)
    assert texts == wanted
    for line, reason in told:
        assert any(one.text.startswith(line) and reason in one.reason for one in rejected), rejected


CUT = "the reply was cut at 9 tokens: raise mentor.max_tokens"
CUTS = {  # name: (reply, texts, what has the reason that it was cut; None: nothing)
    "lines": ("sort the news\nwhat is this headline ab", (A,), "what is this headline ab"),
    "items": (f"1. {A}\n2. {B[:8]}", (A,), f"2. {B[:8]}"),
    "one line": ("what is this headline ab", (), "what is this headline ab"),
    "a whole line": (f"- {A}\n- {B}\n", (A, B), None),
    "behind a title": ("- **In short** - Is it goo", (), "- **In short** - Is it goo"),
    "in a remark": (f'- "{A}" - it is sho', (A,), None),
    "talk at the end": (f"- {A}\n- {B}\n\nI hope these he", (A, B), None),
    "more than asked for": ("- a\n- b\n- c\n- d", ("a", "b", "c"), "- d"),
    "JSON": (f'["{A}", "topic of a hea', (A,), "topic of a hea"),
    "JSON, pretty": (f'{{\n  "prompts": [\n    "{A}",\n    "topic of a hea', (A,), "topic of a hea"),
    "JSON, behind an item": (f'{{"prompts": ["{A}", "{B}"', (A, B), None),
    "JSON of objects": (f'[{{"id": "1", "prompt": "{A}"}}, {{"id": "2", "prompt": "topic of', (A,), "topic of"),
    "JSON of objects, in a remark": (f'[{{"prompt": "{A}", "why": "short"}}, {{"prompt": "{B}", "why": "pla', (A, B), None),
    "JSON lines": (f'{{"prompt": "{A}"}}\n{{"prompt": "topic of', (A,), '{"prompt": "topic of'),
    "JSON, whole": (f'["{A}", "{B}"]', (A, B), None),
    "JSON in a fence": (f'```json\n["{A}", "topic', (A,), "topic"),
    "a table": (f"| # | Prompt |\n|---|---|\n| 1 | {A} |\n| 2 | topic of", (A,), "| 2 | topic of"),
    "tags": (f"<prompt>{A}</prompt>\n<prompt>topic of", (A,), "<prompt>topic of"),
    "a tag of a list": (f"<answer>\n1. {A}\n2. topic of", (A,), "2. topic of"),
    "while thinking": ("<think>\n1. sort the", (), "<think>\n1. sort the"),
}


@pytest.mark.parametrize("name", CUTS)
def test_l15_the_cut_end_of_a_reply_is_no_proposal(name):
    reply, wanted, cut = CUTS[name]
    texts, rejected = read_list(reply, count=3, cut=CUT)
    assert texts == wanted
    assert [one.text for one in rejected if CUT in one.reason] == ([] if cut is None else [cut])


def test_l15_a_continuation_is_whole_once_something_follows_it():
    assert read_continuation(" sort the ne", cut=CUT)[0] == () and read_continuation(" sort the ne", cut=CUT)[1][0].reason == CUT
    assert read_continuation(" sort the news\nLoss 0.", cut=CUT)[0] == (A,)
    assert read_continuation(" sort the news (loss 0.", cut=CUT)[0] == ("sort the news",)
    assert read_continuation(" In 2024, accuracy 90% matters: topic?")[0] == ("In 2024, accuracy 90% matters: topic?",)
    assert read_continuation(" sort the news. Loss 0.7, prompt: x")[0] == ("sort the news.",)
    assert read_continuation(" sort the news loss 0.7")[0] == (A,)
    assert read_continuation(" <think>\nhm</think>\nsort the news\nx", cut=CUT)[0] == (A,)


class Words:
    """A codec that takes every text."""

    def encode(self, text, fields=NO_FIELDS):
        return Encoded({"prompt": text, **fields}, text)

    def decode(self, params):
        return Decoded("words")


class Told(Scripted):
    """A model that replies with one text and says why it ended."""

    def __init__(self, text, finish="stop", usage=None):
        super().__init__([text])
        self.finish, self.usage = finish, usage
        self.requests = []

    def complete(self, request):
        self.requests.append(request)
        reply = super().complete(request)
        return replace(reply, finish_reason=self.finish, usage=self.usage or reply.usage)


LABELS = ("bad", "good")
FIELDS = Fields(("label_words",), LABELS)
BRED = (finished(0, "w", 0.9), finished(1, "x", 0.5, proposals=(("aa", 0.5, 0), ("bb", 0.4, 0), ("cc", 0.3, 0))))
PAIRS = (Example({"text": "a"}, "b"),)


def chat(model, **options):
    return LanguageModelMentor(model, Task("Find it.", LABELS), Words(), **options)


MENTORS = {
    "language_model": lambda model: chat(model, max_tokens=9),
    "completion": lambda model: chat(model, style="completion", template=wording("completion"), max_samples=1, max_tokens=9),
    "fills": lambda model: chat(model, template=wording("guided", filled=True), filled=FIELDS, max_tokens=9),
    "opro": lambda model: OPRO(model, Words(), max_tokens=9),
    "ape": lambda model: APE(model, Words(), examples=PAIRS, max_tokens=9),
    "evoprompt_ga": lambda model: EvoPrompt(model, Words(), algorithm="ga", max_tokens=9),
    "evoprompt_de": lambda model: EvoPrompt(model, Words(), algorithm="de", max_tokens=9),
}


def advice(name, reply, finish="stop", usage=None):
    return MENTORS[name](Told(reply, finish, usage)).propose(BRED, count=1, seed=0)


@pytest.mark.parametrize("name", MENTORS)
@pytest.mark.parametrize("finish", ["length", "MAX_TOKENS", "model_length", "content_filter"])
def test_l15_every_mentor_rejects_what_was_cut(name, finish):
    told = advice(name, "what is this headline ab", finish)
    assert not told.proposals and any("the reply was cut" in one.reason for one in told.rejected)


@pytest.mark.parametrize("name", MENTORS)
def test_l15_every_mentor_takes_what_ended_by_itself(name):
    told = advice(name, "what is it | bad: no | good: yes" if name == "fills" else "what is this headline about")
    assert [p.text for p in told.proposals] == ["what is it" if name == "fills" else "what is this headline about"]


def test_l15_a_server_that_says_nothing_has_cut_a_reply_of_all_tokens():
    assert "cut at 9 tokens" in cut_reason(Reply("a", Usage(1, 9), finish_reason=""), 9)
    assert not cut_reason(Reply("a", Usage(1, 8), finish_reason=""), 9)
    assert not cut_reason(Reply("a", Usage(1, 9, estimated=True), finish_reason=""), 9)
    assert not cut_reason(Reply("a", Usage(1, 9), finish_reason="stop"), 9)


def test_l15_the_model_that_reads_vectors_is_cut_too():
    def mentor(reply, written):
        return SoftInput(Words(), lambda *_: (reply, 5, written), Task("Find it."), max_samples=1, max_tokens=9)

    assert "cut at 9 tokens" in mentor(" sort the ne", 9).propose(BRED, count=1, seed=0).rejected[0].reason
    assert [p.text for p in mentor(" sort the news\nand", 9).propose(BRED, count=1, seed=0).proposals] == [A]
    assert [p.text for p in mentor(" sort the news", 8).propose(BRED, count=1, seed=0).proposals] == [A]


THOUGHTS = (
    "<think>try <prompt>no</prompt>, <INS>no</INS></think>\n",
    "<THINKING a=1><INS>no</INS>\n<prompt>no</prompt>\n- no\n</THINKING>",
)


@pytest.mark.parametrize("name", MENTORS)
@pytest.mark.parametrize("thought", THOUGHTS)
def test_p8_no_mentor_takes_a_prompt_out_of_thoughts(name, thought):
    answer = {"opro": f"<INS>{A}</INS>", "fills": f"{A} | bad: no | good: yes"}.get(name, f"<prompt>{A}</prompt>")
    told = advice(name, thought + (answer if "evo" in name or name in ("opro", "fills") else A))
    assert [p.text for p in told.proposals] == [A]
    assert any("thinking aloud" in one.reason for one in told.rejected)


ONE = {  # what a reply says that was asked for one prompt in a tag, the first of them
    "a tag": ("Sure!\n<INS>sort the news</INS>\nIt is short.", A),
    "a tag over lines": ("<ins>\nsort the\nnews\n</ins>", A),
    "a tag without its end": ("Here: <INS>sort the news", A),
    "quotes in a tag": ('<INS>"sort the news"</INS>', A),
    "no tag": ("Sure! Here is one:\n\nsort the\nnews\n\nI hope this helps", A),
    "a colon at the end": ("sort the news:", "sort the news:"),
    "a list": (f"1. {A}\n2. {B}", A),
    "JSON": (f'{{"id": "p1", "instruction": "{A}"}}', A),
    "JSON in a tag": (f'<answer>{{"id": "p1", "instruction": "{A}"}}</answer>', A),
    "a refusal": ("I'm sorry, but I can't help with that.", None),
    "too long": ("<INS>" + "x" * (LONGEST + 1) + "</INS>", None),
    "its own tag behind it": (f"{A} </INS> now", None),
}


@pytest.mark.parametrize("name", ONE)
def test_p8_one_prompt_is_read_by_the_same_reader(name):
    reply, wanted = ONE[name]
    texts, rejected = read_one(reply, tag="INS")
    assert texts == (() if wanted is None else (wanted,)) and (texts or rejected)


def test_p8_steps_end_in_the_prompt():
    steps = "1. Crossed: read it.\n2. <prompt>one</prompt>\n3. <prompt>sort the news</prompt>"
    assert read_one(steps, tag="prompt", last=True)[0] == (A,)
    assert read_one("1. Crossed: read it.\n2. Final prompt: sort the news", tag="prompt", last=True)[0] == (A,)


@pytest.mark.parametrize(
    "reply",
    [' to "sort the news."\n\nI hope this helps', "The instruction was to sort the news.", "sort the news.", ': "sort the news."'],
)
def test_p8_ape_leaves_out_what_leads_up_to_the_instruction(reply):
    assert [p.text for p in advice("ape", reply).proposals] == ["sort the news."]


def test_p8_a_prompt_may_have_as_many_words_as_the_instruction_allows():
    text = "word " * 60 + "end"
    mentor = LanguageModelMentor(Told(f"- {text}"), Task("Find it.", max_tokens=100), Words())
    assert [p.text for p in mentor.propose((), count=1, seed=0).proposals] == [text]
    assert "prose" in read_list(f"- {text}", count=1)[1][0].reason and MAX_WORDS == 40


def test_p8_objects_and_tables_fill_what_a_line_fills():
    objects = {
        "prompts": [{"id": 1, "prompt": A, "label_words": {"good": "yes", "bad": "no"}}, {"prompt": B, "bad": "poor", "good": "fine"}]
    }
    table = f"| Prompt | bad | good |\n|---|---|---|\n| {A} | no | yes |\n| {B} | poor | fine |"
    for reply in (json.dumps(objects), f"```json\n{json.dumps(objects, indent=2)}\n```", table):
        told = chat(Told(reply), template=wording("guided", filled=True), filled=FIELDS).propose((), count=2, seed=0)
        assert [(p.text, p.fields["label_words.bad"], p.fields["label_words.good"]) for p in told.proposals] == [
            (A, "no", "yes"),
            (B, "poor", "fine"),
        ]


def test_p8_children_keep_their_members_where_a_reply_is_empty():
    class Empty(Told):
        def complete(self, request):
            reply = super().complete(request)
            return replace(reply, text="", why_empty="it says nothing") if request.sample == 0 else reply

    told = EvoPrompt(Empty(f"<prompt>{A}</prompt>"), Words(), algorithm="de").propose(BRED, count=2, seed=0)
    proposed = sum(r.leg.proposals for r in BRED if r.leg.ask)
    assert [p.replaces for p in told.proposals] == [(proposed + 1) % 3]
    assert [one.reason for one in told.rejected] == ["it says nothing"]


# -- JSON by a schema


def test_p8_the_config_asks_for_a_schema(tmp_path):
    settings = {
        "function": {"dim": 2},
        "mentor": {"structured": True, "chat": {"provider": "scripted", "replies": ['{"prompts": ["0 1"]}']}},
    }
    config = make_config({"problem": "function", "plan": {"rounds": 1, "steps": 1, "proposals": 1}, **settings})
    result = run(config, tmp_path / "run")
    assert [p.text for r in result.history for p in r.advice.proposals] == ["0 1"]
    with RunFolder.open(tmp_path / "run", serializer=TorchSerializer(), write=False) as stored:
        assert [json.loads(call.request)["schema"] for call in stored.ledger.calls()] == [json_schema()]


def test_p8_proposals_are_asked_for_by_a_schema_only_where_the_config_says_so():
    plain, structured = Told(f"- {A}"), Told(json.dumps({"prompts": [A]}))
    chat(plain).propose((), count=1, seed=0)
    told = chat(structured, structured=True).propose((), count=1, seed=0)
    assert [p.text for p in told.proposals] == [A]
    (before,), (after,) = plain.requests, structured.requests
    assert before.schema is None and '"schema"' not in before.canonical() and after.schema == json_schema()
    assert after.text == f'{before.text}\n\nWrite these lines as JSON, {{"prompts": ["...", "..."]}}, with nothing around it.'


def test_p8_a_schema_names_all_that_is_filled():
    model = Told(json.dumps({"prompts": [{"prompt": A, "label_words": {"bad": "no", "good": "yes"}}]}))
    told = chat(model, template=wording("guided", filled=True), filled=FIELDS, structured=True).propose((), count=1, seed=0)
    assert [(p.text, dict(p.fields)) for p in told.proposals] == [(A, {"label_words.bad": "no", "label_words.good": "yes"})]
    item = model.requests[0].schema["properties"]["prompts"]["items"]
    assert item["required"] == ["prompt", "label_words"] and item["properties"]["label_words"]["required"] == list(LABELS)
    assert '{"prompts": [{"prompt": "...", "label_words": {"bad": "...", "good": "..."}}, ...]}' in model.requests[0].text


@pytest.mark.parametrize("options", [{"name": "opro"}, {"style": "completion"}, {"chat": {"provider": "local"}}])
def test_p8_a_schema_is_refused_where_nobody_reads_it(options):
    settings = {"structured": True, "chat": {"provider": "openai"}, **options}
    with pytest.raises(ConfigError, match=r"mentor\.structured"):
        make_config({"mentor": settings})


# -- time in proportion to the length

N = 1_000_000


def many(text):
    return text * (N // len(text))


HEAVY = {
    "a name and spaces": lambda: '"prompt"' + " " * N + "x",
    "names and spaces": lambda: many("prompt" + " " * 400 + "x\n"),
    "beginnings of thoughts": lambda: many("<think>"),
    "ends of thoughts": lambda: many("</think>"),
    "thoughts without a bracket": lambda: many("<think a"),
    "open brackets": lambda: many("["),
    "open parentheses": lambda: many("(" * 900 + "loss 1 " * 90 + "\n"),
    "dashes": lambda: many("-"),
    "lines of dashes": lambda: many("-\n"),
    "rulers": lambda: many("|--"),
    "quotes": lambda: many('"'),
    "lines of quotes": lambda: many('" ' * 500 + "\n"),
    "stars": lambda: many("**"),
    "emphasis": lambda: many("*a b " * 300 + "\n"),
    "losses": lambda: many("loss "),
    "lines of losses": lambda: many("loss 1 " * 280 + "\n"),
    "digits": lambda: many("7"),
    "numbers": lambda: many("1. a 2. "),
    "backslashes": lambda: many("\\"),
    "newlines": lambda: many("\n"),
    "spaces": lambda: many(" "),
    "marks that combine": lambda: "a" + many("\u0301"),
    "one word": lambda: many("a"),
    "short lines": lambda: many("a\n"),
    "nested JSON": lambda: "[" * 100_000 + "]" * 100_000,
    "nested objects": lambda: many('{"prompts":['),
    "texts without commas": lambda: '["' + many('a" "'),
    "JSON without its end": lambda: many('["a\n'),
    "a long list": lambda: json.dumps([str(i) for i in range(120_000)]),
    "many lines of JSON": lambda: many('{"prompt":"a"}\n'),
    "open tags": lambda: many("<prompt>"),
    "tags that cross": lambda: "<li>" * 100_000 + "</prompt>" * 50_000,
    "tags": lambda: many("<prompt>a</prompt>"),
    "channels": lambda: many("<|channel|>"),
    "fences": lambda: many("```\n"),
    "a table": lambda: "a|b\n|--|--|\n" + many("|x|y|\n"),
    "adjectives": lambda: many("the new "),
    "underscores": lambda: many("prompt" + "_ *" * 300 + "\n"),
}


@pytest.mark.parametrize("name", HEAVY)
def test_p12_a_reply_of_a_megabyte_takes_less_than_a_second(name):
    reply = HEAVY[name]()
    for read in (partial(read_list, count=3, cut=CUT), partial(read_one, tag="prompt", last=True), read_continuation):
        before = time.process_time()
        _, rejected = read(reply)
        assert time.process_time() - before < 1
        assert len(rejected) <= MOST_REJECTED and all(len(one.text) < LONGEST_REJECTED + 40 for one in rejected)


def test_p12_what_became_no_text_is_counted_where_it_is_too_much_to_keep():
    reply = "\n".join(f"- {i}" for i in range(6000))
    texts, rejected = read_list(reply, count=2)
    assert texts == ("0", "1") and rejected[0].text == "- 2" and rejected[0].reason == "more than the 2 asked for"
    assert "more lines became no prompt" in rejected[-2].reason and "1000 further lines were not read" in rejected[-1].reason


OUTSIDE = {  # what else reads text from outside
    "parts of a line": lambda text: FIELDS.split(f"x | {text} | y"),
    "braces of a template": in_braces,
    "fields of a template": lambda text: Template.parse(f"{{slots}} {text}"),
    "sentences": sentences_of,
    "numbers": lambda text: NumberCodec(2).encode(text),
}


@pytest.mark.parametrize("read", OUTSIDE.values(), ids=OUTSIDE)
@pytest.mark.parametrize("text", ["{", "{a", '"', "bad ", " ", "7", "7.", ". ", "| ", "-"])
def test_p12_whatever_reads_text_from_outside_takes_time_in_proportion(read, text):
    before = time.process_time()
    with suppress(MaaoError):
        read(text * 100_000)
    assert time.process_time() - before < 1


# -- any reply at all


def follows_the_rules(texts, rejected, known=()):
    assert texts or rejected
    folded = [" ".join(text.lower().split()) for text in (*texts, *known)]
    assert len(set(folded)) == len(folded)
    for text in texts:
        assert text == text.strip() and any(map(str.isalnum, text)) and len(text) <= 20 * MAX_WORDS and PLACE not in text
        assert not any(unicodedata.category(c) in ("Cc", "Cs", "Co", "Cn") for c in text)
        assert "think>" not in text.lower()
    for one in rejected:
        one.text.encode()
        assert one.reason


def mutated(draw, reply):
    """Return a reply with some of it cut out, doubled, exchanged, or put in from another."""
    pieces = [
        "<think>",
        "</think>",
        "```",
        "[",
        "]",
        "{",
        "}",
        '"',
        "\\",
        "\n",
        "|",
        "\x00",
        "\u202e",
        "\ud800",
        PLACE,
        "<prompt>",
        "</prompt>",
        ": ",
        "\\u0007",
    ]
    for _ in range(draw.randint(1, 6)):
        at = draw.randint(0, len(reply))
        to = min(len(reply), at + draw.randint(0, 12))
        piece = draw.choice([*pieces, reply[at:to] * 2, "", "", chr(draw.randint(0, 0x2FFF))])
        reply = reply[:at] + piece + reply[to:]
    return reply


def test_p12_ten_thousand_replies_that_were_spoilt_are_read():
    draw = random.Random(15)
    replies = [row[0] for row in (*LISTS.values(), *CUTS.values(), *ONE.values()) if len(row[0]) < 1000]
    for i in range(10_000):
        reply = mutated(draw, draw.choice(replies))
        if i % 4:
            follows_the_rules(*read_list(reply, count=3, known=("known",), cut=draw.choice(["", CUT])), known=("known",))
        elif i % 8:
            follows_the_rules(*read_one(reply, tag="prompt", last=draw.random() < 0.5, cut=draw.choice(["", CUT])))
        else:
            follows_the_rules(*read_continuation(reply))


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=300)
    | st.lists(st.sampled_from(["- a", "<think>", "</think>", "```json", '["b",', "]", "| c |", "|--|", "1. d", "x:", "{"])).map("\n".join)
)
def test_p12_any_reply_is_read(reply):
    follows_the_rules(*read_list(reply, count=3))
    follows_the_rules(*read_one(reply, tag="prompt"))
    follows_the_rules(*read_continuation(reply))

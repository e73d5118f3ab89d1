"""Replies as models really write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maao.mentors.reply import MAX_WORDS, read_continuation, read_list

THREE = ("sort the news", "topic of a headline", "what is it about")
PLAIN = "\n".join(THREE)

REPLIES = {
    "plain lines": (PLAIN, THREE),
    "blank lines between": (PLAIN.replace("\n", "\n\n\n"), THREE),
    "windows line ends": (PLAIN.replace("\n", "\r\n"), THREE),
    "numbered": ("1. sort the news\n2. topic of a headline\n3. what is it about", THREE),
    "numbered, without a space": ("1.sort the news\n2.topic of a headline\n3.what is it about", THREE),
    "numbered 1)": ("1) sort the news\n2) topic of a headline\n3) what is it about", THREE),
    "numbered (1)": ("(1) sort the news\n(2) topic of a headline\n(3) what is it about", THREE),
    "numbered [1]": ("[1] sort the news\n[2] topic of a headline\n[3] what is it about", THREE),
    "numbered 1:": ("1: sort the news\n2: topic of a headline\n3: what is it about", THREE),
    "numbered past nine": ("9. sort the news\n10. topic of a headline\n11. what is it about", THREE),
    "bulleted -": ("- sort the news\n- topic of a headline\n- what is it about", THREE),
    "bulleted *": ("* sort the news\n* topic of a headline\n* what is it about", THREE),
    "bulleted •": ("• sort the news\n• topic of a headline\n• what is it about", THREE),
    "indented": ("  1. sort the news\n  2. topic of a headline\n  3. what is it about", THREE),
    "quoted": ('"sort the news"\n"topic of a headline"\n"what is it about"', THREE),
    "quoted with commas": ('"sort the news",\n"topic of a headline",\n"what is it about"', THREE),
    "quoted with a stop": ('"sort the news".\n"topic of a headline".\n"what is it about".', THREE),
    "smart quotes": ("“sort the news”\n‘topic of a headline’\n«what is it about»", THREE),
    "backticks": ("`sort the news`\n`topic of a headline`\n`what is it about`", THREE),
    "numbered and quoted": ('1. "sort the news"\n2. "topic of a headline"\n3. "what is it about"', THREE),
    "bulleted, and again in quotes": ('- "- sort the news"\n- "- topic of a headline "\n- "what is it about"', THREE),
    "numbered and bold": ("1. **sort the news**\n2. **topic of a headline**\n3. **what is it about**", THREE),
    "bold and quoted": ('**"sort the news"**\n- **"topic of a headline"**\n- **"what is it about"**', THREE),
    "named": ("Prompt 1: sort the news\nPrompt 2: topic of a headline\nPrompt 3: what is it about", THREE),
    "named in bold": ("**Prompt 1:** sort the news\n**Prompt 2:** topic of a headline\n**Prompt 3:** what is it about", THREE),
    "numbered and named": ("1. Prompt: sort the news\n2. Prompt: topic of a headline\n3. Prompt: what is it about", THREE),
    "preamble": (f"Sure! Here are three prompts:\n\n{PLAIN}", THREE),
    "preamble without a colon": (f"Certainly, I can help with that.\n{PLAIN}", THREE),
    "preamble and closing talk": (
        "Here are some ideas.\n1. sort the news\n2. topic of a headline\n3. what is it about\n\nGood luck with them!",
        THREE,
    ),
    "closing talk": (f"{PLAIN}\n\nI hope these help!", THREE),
    "json list": ('["sort the news", "topic of a headline", "what is it about"]', THREE),
    "json list over lines": ('[\n  "sort the news",\n  "topic of a headline",\n  "what is it about"\n]', THREE),
    "json list, fenced": ('```json\n["sort the news", "topic of a headline", "what is it about"]\n```', THREE),
    "json list, fenced, after talk": ('Sure!\n```json\n["sort the news", "topic of a headline", "what is it about"]\n```\nEnjoy!', THREE),
    "json list in a sentence": ('Prompts: ["sort the news", "topic of a headline", "what is it about"]', THREE),
    "json objects": ('[{"prompt": "sort the news"}, {"prompt": "topic of a headline"}, {"id": 3, "prompt": "what is it about"}]', THREE),
    "json object that holds a list": ('{"prompts": ["sort the news", "topic of a headline", "what is it about"]}', THREE),
    "json object of texts": ('{"1": "sort the news", "2": "topic of a headline", "3": "what is it about"}', THREE),
    "json with null and numbers": ('[null, "sort the news"]', THREE[:1]),
    "broken json": ('["sort the news",\n"topic of a headline",\n"what is it about"', THREE),
    "fenced lines": (f"```\n{PLAIN}\n```", THREE),
    "fenced lines with a language": (f"```text\n{PLAIN}\n```", THREE),
    "fenced on one line": ("```sort the news```", THREE[:1]),
    "duplicates": ("sort the news\nSort  the News\ntopic of a headline", THREE[:2]),
    "non-Latin": ("1. ニュースの話題\n2. тема новости\n3. موضوع الخبر", ("ニュースの話題", "тема новости", "موضوع الخبر")),
    "single character": ("a", ("a",)),
    "bare bullet": ("-\n1.\n• \n- sort the news", THREE[:1]),
    "hyphenated first word": ("prompt-based topic\ntemplate-free news", ("prompt-based topic", "template-free news")),
    "points of a function": ("-0.50 1.25\n2.5 -1\n-.5 3", ("-0.50 1.25", "2.5 -1", "-.5 3")),
    "numbered points of a function": ("1. -0.50 1.25\n2. 2.5 -1\n3. +1 0", ("-0.50 1.25", "2.5 -1", "+1 0")),
    "bulleted points of a function": ("- -0.50 1.25\n- 2.5 -1", ("-0.50 1.25", "2.5 -1")),
    "a clock": ("9:30 news", ("9:30 news",)),
    "colon inside": ("Topic: the news\nLabel: sport", ("Topic: the news", "Label: sport")),
    "stop at the end": ("Sort the news.\nWhat is it about?", ("Sort the news.", "What is it about?")),
    "apostrophe": ("what's the news\nit's about sport", ("what's the news", "it's about sport")),
    "heading": ("**Prompts:**\n- sort the news", THREE[:1]),
    "names on lines of their own": ("Prompt 1:\nsort the news\n\nPrompt 2:\ntopic of a headline", THREE[:2]),
    "headings": ("**Prompt 1**\nsort the news\n\n**Prompt 2**\ntopic of a headline\n\n### Prompt 3\nwhat is it about", THREE),
    "headings, reasons below": ("**Prompt 1**\nsort the news\nIt is short.\n**Prompt 2**\ntopic of a headline\nIt is long.", THREE[:2]),
    "headings and quotes": ('**Prompt 1**\n"sort the news"\nIt is short.\n**Prompt 2**\n"topic of a headline"', THREE[:2]),
    "headings and fences": ("Prompt 1\n```\nsort the news\n```\nPrompt 2\n```text\ntopic of a headline\n```", THREE[:2]),
    "numbered headings": ("1. **Prompt 1**\nsort the news\n2. **Prompt 2**\ntopic of a headline", THREE[:2]),
    "items that end with a colon": (
        "- sort the news:\n- topic of a headline\n- what is it about:",
        ("sort the news:", THREE[1], "what is it about:"),
    ),
    "an item that introduces": ("1. new prompts to try:\nsort the news", ()),
    "one heading for all": (f"Prompts\n{PLAIN}", THREE),
    "headings alone": ("**Prompt 1**\n**Prompt 2**", ()),
    "here you go": (f"Here you go!\n{PLAIN}", THREE),
    "great": (f"Great! Here are three prompts\n{PLAIN}", THREE),
    "great, with a comma": (f"Great, here are three prompts\n{PLAIN}", THREE),
    "absolutely": (f"Absolutely, I can help with that.\n{PLAIN}", THREE),
    "i can help": (f"I can help with that.\nI'd be happy to propose prompts.\n{PLAIN}", THREE),
    "the following": (f"The following prompts should lower the loss.\n{PLAIN}", THREE),
    "the following new": (f"The following new prompts differ from those above\n{PLAIN}", THREE),
    "preamble in bold": (f"**Here are three prompts**\n{PLAIN}", THREE),
    "smart apostrophe": (f"I’d be glad to help.\n{PLAIN}", THREE),
    "words of talk in prompts": (
        "Great, good or bad?\nThe following text is about\nAbsolutely true or not",
        ("Great, good or bad?", "The following text is about", "Absolutely true or not"),
    ),
    "thought before": (f"<think>\nMaybe:\n1. think of it\n2. [no]\n</think>\n\n{PLAIN}", THREE),
    "thought without its beginning": (f"Let us see.\n- maybe this\n</think>\n{PLAIN}", THREE),
    "thought without an end": ("<think>\nMaybe:\n1. think of it", ()),
    "thought before json": ('<think>["no"]</think>["sort the news", "topic of a headline", "what is it about"]', THREE),
    "echoed scores": (
        "sort the news (loss 0.4, accuracy 0.9 after 9 gradient steps from it)\ntopic of a headline (loss 1)\nwhat is it about; loss: 0.3",
        THREE,
    ),
    "echoed score of an end": (
        "sort the news (tuned vectors whose nearest words these are: loss 0.5; the words alone: loss 1)",
        THREE[:1],
    ),
    "echoed scores and marks": (
        '1. "sort the news" (its words alone: not measured)\n2. **topic of a headline** (loss 0.5)\n3. "what is it about [Loss 0.5]"',
        THREE,
    ),
    "echoed scores in json": ('["sort the news (loss 0.5)", "topic of a headline"]', THREE[:2]),
    "a loss that is no score": (
        "predict weight loss.\nweight-loss 5 news\nis it loss (or profit)",
        ("predict weight loss.", "weight-loss 5 news", "is it loss (or profit)"),
    ),
    "a refusal": ("I'm sorry, but I can't help with that.", ()),
    "an apology": ("As an AI language model, I cannot know.", ()),
    "prose": ("word " * (MAX_WORDS + 1), ()),
    "only punctuation": ("...\n---\n***", ()),
    "empty": ("", ()),
    "white space": (" \n\t\n", ()),
    "empty json": ("[]", ()),
    "deep json": ("[" * 5000, ()),
}


@pytest.mark.parametrize("name", REPLIES)
def test_reply_is_read(name):
    reply, wanted = REPLIES[name]
    assert read_list(reply, count=3)[0] == wanted


@pytest.mark.parametrize("name", [name for name, (_, wanted) in REPLIES.items() if not wanted])
def test_reply_without_a_prompt_is_recorded_as_rejected(name):
    assert read_list(REPLIES[name][0], count=3)[1]


@pytest.mark.parametrize(
    ("reply", "line", "reason"),
    [
        ("Sure! Here you go:\n1. sort the news", "Sure! Here you go:", "talk around the list"),
        ("Here they come:\nsort the news", "Here they come:", "ends with a colon"),
        ("Of course\nsort the news", "Of course", "talk, not a prompt"),
        ("- sort the news\n-", "-", "holds no word"),
        ("**Prompt 1**\nsort the news", "**Prompt 1**", "a heading"),
        ("Prompt 1\nsort the news\nIt is short.", "It is short.", "does not follow a heading"),
        ("<think>a\nb</think>\nsort the news", "<think>a\nb</think>", "thinking aloud"),
        ("a\n</think>\nsort the news", "a\n</think>", "thinking aloud"),
        ("```\nsort the news\n```", "```", "code fence"),
        ("sort the news\nsort the news", "sort the news", "tried before"),
        ("sort\x07 it", "sort\x07 it", "cannot be printed"),
        ("word " * 41, ("word " * 41).strip(), "prose"),
        ("", "", "empty"),
    ],
)
def test_line_is_rejected_with_its_reason(reply, line, reason):
    assert any(r.text == line and reason in r.reason for r in read_list(reply, count=3)[1])


def test_more_than_asked_for_is_rejected_and_kept_on_record():
    texts, rejected = read_list(PLAIN, count=2)
    assert texts == THREE[:2]
    assert [(r.text, r.reason) for r in rejected] == [("what is it about", "more than the 2 asked for")]


def test_texts_that_were_tried_before_are_rejected_whatever_their_case():
    texts, rejected = read_list(PLAIN, count=3, known=("Sort THE news",))
    assert texts == THREE[1:] and rejected[0].reason == "tried before"


@given(st.text(max_size=200))
def test_any_reply_is_read_without_an_error(reply):
    texts, rejected = read_list(reply, count=3)
    assert len(texts) <= 3 and (texts or rejected)


LINES = st.lists(st.one_of(st.text(max_size=20), st.sampled_from(["1. a", "- b", '"c"', "Sure!", "x:", "```", "-", "(3) d"])), max_size=8)


@given(LINES)
def test_every_line_is_a_text_or_rejected(lines):
    reply = "Talk of it\n" + "\n".join(lines)  # no reply that begins like this is JSON as a whole
    texts, rejected = read_list(reply, count=3)
    given_lines = [line for line in reply.splitlines() if line.strip()]
    assert len(texts) + len(rejected) == len(given_lines)
    assert all(any(text in line for line in given_lines) for text in texts)


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (" the topic of this news", "the topic of this news"),
        ("\n\n the topic\nLoss 0.3, prompt: x", "the topic"),
        (' "the topic" (loss 0.8)', "the topic"),
        (" the topic [Loss: 0.80, accuracy 0.9]", "the topic"),
        (" the topic; accuracy 0.9", "the topic"),
        (" predict weight loss", "predict weight loss"),
        (" -0.5 1.25", "-0.5 1.25"),
        (" gloss 5 news", "gloss 5 news"),
    ],
)
def test_continuation_is_the_first_line_without_its_score(reply, text):
    assert read_continuation(reply)[0] == (text,)


@pytest.mark.parametrize("reply", ["", "  \n ", "(loss 0.5)", "..."])
def test_continuation_without_a_prompt_is_rejected(reply):
    texts, rejected = read_continuation(reply)
    assert texts == () and rejected


def test_continuation_that_was_tried_before_is_rejected():
    assert read_continuation(" The topic", known=("the topic",))[0] == ()


@given(st.text(max_size=200))
def test_any_continuation_is_read_without_an_error(reply):
    texts, rejected = read_continuation(reply)
    assert len(texts) + len(rejected) == 1


def test_a_template_said_again_is_no_prompt():
    texts, rejected = read_list("- {text} <PROMPT> Kind: animal\n- What kind of thing is it?", count=2)
    assert texts == ("What kind of thing is it?",)
    assert [(r.text, r.reason) for r in rejected] == [
        ("- {text} <PROMPT> Kind: animal", "repeats the template, with the mark of the prompt's place")
    ]


def test_a_bullet_set_twice_is_a_bullet():
    assert read_list("- - sort the news\n* * topic: a headline\n- -0.5 1.0", count=3)[0] == (
        "sort the news",
        "topic: a headline",
        "-0.5 1.0",
    )

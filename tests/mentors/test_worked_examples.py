"""What a wording shows as worked examples comes back as proposals: so these are tasks that no table and no page of ours has.

The first study was not so: `guided`, `completion` and EvoPrompt showed a review of a film, which is SST-2.
"""

from __future__ import annotations

import json
import re
import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest

from maao.mentors.evoprompt import DE, GA
from maao.mentors.fields import WORKED
from maao.mentors.instruction import named_wordings

ROOT = Path(__file__).parents[2]
FOLDER = files("maao.mentors") / "instructions"
WORDINGS = {path.name.removesuffix(".txt"): path.read_text(encoding="utf-8") for path in FOLDER.iterdir() if path.name.endswith(".txt")}
TASK = re.compile(r"Task: (.+)\n(?:Labels|Classes): (.+)\n")
SHOWN = {name: [(said, labels) for said, labels in TASK.findall(text) if "$" not in said] for name, text in WORDINGS.items()}
WITH_EXAMPLES = sorted(name for name, tasks in SHOWN.items() if tasks)
TABLES = sorted((ROOT / "experiments").rglob("*.toml"))
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "experiments").rglob("plan.md"), *TABLES]


def words(text):
    return {word.lower() for word in re.findall(r"[^\W\d_]+", text)}


@cache
def said_on_our_pages():
    return "\n".join(path.read_text(encoding="utf-8") for path in PAGES).lower()


@cache
def classes_of_ours():
    """Return the words of all labels: those that tables name, and those of the requests that are on record."""
    named = []
    for path in TABLES:
        named += labels_in(tomllib.loads(path.read_text(encoding="utf-8")))
    for path in (ROOT / "experiments" / "mentors").glob("*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            asked = json.loads(line).get("request", {"messages": [{"content": ""}]})["messages"][-1]["content"]
            named += re.findall(r"^- ([^:\n]+)", asked.partition("classes:\n")[2].partition("\n\n")[0], flags=re.MULTILINE)
    return {label.lower() for label in named}


def labels_in(settings):
    """Return the labels and label words in a part of a table."""
    if not isinstance(settings, dict):
        return [label for one in settings for label in labels_in(one)] if isinstance(settings, list) else []
    found = []
    for key, value in settings.items():
        found += (
            list(value.values())
            if key == "data.label_names"
            else [*value, *value.values()]
            if key == "model.label_words"
            else labels_in(value)
        )
    return found


def test_the_labels_of_our_tables_are_found():
    assert {"sports", "terrible", "positive", "card_arrival", "alarm_query"} <= classes_of_ours()


def test_every_style_but_those_without_examples_is_looked_at():
    assert {"completion", "completion_unscored", "guided", "guided_filled"} <= set(WITH_EXAMPLES)
    without = {"chat", "contrast", "matched_chat", "vision_chat"}
    assert set(named_wordings()) - set(WITH_EXAMPLES) == without and all(len(SHOWN[name]) == 2 for name in WITH_EXAMPLES)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_a_worked_example_is_no_task_of_a_table_or_of_a_page(name):
    for description, labels in SHOWN[name]:
        assert description.lower() not in said_on_our_pages()
        for label in labels.split(", "):
            assert re.search(rf"\b{label.lower()}\b", said_on_our_pages()) is None, label
            assert label.lower() not in classes_of_ours()


@pytest.mark.parametrize("name", [*WITH_EXAMPLES, "worked lines", "EvoPrompt-GA", "EvoPrompt-DE"])
def test_a_worked_example_has_no_label_word_of_a_table(name):
    lines = json.dumps(WORKED)
    asked = {"worked lines": lines, "EvoPrompt-GA": GA.partition("Now do")[0], "EvoPrompt-DE": DE.partition("Now do")[0]}
    text = asked.get(name) or "\n".join(
        part.partition("\n\n")[0] for part in re.split(r"\n(?=Task: )", WORDINGS[name]) if "$desc" not in part
    )
    assert not words(text.partition("Task: ")[2] or text) & classes_of_ours()
    assert not words(text) & {
        "film",
        "films",
        "movie",
        "movies",
        "review",
        "reviews",
        "critic",
        "critics",
        "news",
        "emoji",
        "question",
        "intent",
    }

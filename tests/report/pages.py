"""Runs and pages for the tests of reports: a small run whose mentor, labels and texts mean harm, and a reader of HTML."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import maao
from tests.api.small_runs import config, write_csv
from tests.tiny import tiny_splits

SCRIPT = "<script>alert('ran')</script>"
IMAGE = "<img src=x onerror=alert(1)>"
CLOSES = '</svg></pre></td><svg onload="alert(2)">'
LINK = "[see](javascript:alert(3))"
ESCAPES = "\x1b[2J\x1b]8;;http://evil.example\x07red"
TURNED = "\u202egnp.exe"
QUOTES = "\" onmouseover='alert(4)' {{ 7*7 }} {% raw %} $x^2$"
HOSTILE = (SCRIPT, IMAGE, CLOSES, LINK, QUOTES)
LABELS = {"business": "business<script>alert(5)</script>", "music": "music$\\frac{1}{2}$", "sport": 'sport" onfocus="alert(6)'}
REPLIES = [
    f"1. music {SCRIPT} team\n2. news {IMAGE} world",
    f"Sure {ESCAPES} {TURNED}!\n- topic {CLOSES} of\n- {LINK} the news {QUOTES}",
]


def hostile_run(model: Path, folder: Path) -> Path:
    """Make a run of a tiny model on texts, labels and replies that mean harm, and return its folder."""
    data = {}
    for name in ("train", "select", "test"):
        rows = [
            (f"{example.fields['text']} {HOSTILE[i % 5]} {ESCAPES} {TURNED}", LABELS[example.label])
            for i, example in enumerate(getattr(tiny_splits(), name))
        ]
        data[name] = str(write_csv(folder / f"{name}.csv", rows))
    words = {label: plain for plain, label in LABELS.items()}
    made = config(
        model,
        data,
        model__label_words=words,
        mentor__chat={"provider": "scripted", "replies": REPLIES},
        mentor__share_examples=True,
        mentor__description=f"Name the topic. {SCRIPT}",
    )
    run = folder / "run<b>bold"
    maao.run(made, run)
    return run


class Page(HTMLParser):
    """A page as a browser would read it: its elements, each with its attributes, and its text without style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def of(self, tag: str) -> list[dict[str, str]]:
        """Return the attributes of every element of a name."""
        return [attributes for name, attributes in self.elements if name == tag]


VOID = {"meta", "br", "img", "wbr", "hr", "link", "input"}

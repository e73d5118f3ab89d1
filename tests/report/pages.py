"""Runs and pages for the tests of reports: a small run whose mentor, labels and texts mean harm, and a reader of HTML."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import maao
from maao.compare.page import RESULTS
from maao.config import make_config
from tests import tiny_vision
from tests.api.small_runs import config, write_csv
from tests.tiny import tiny_splits

SCRIPT = "<script>alert('ran')</script>"
IMAGE = "<img src=x onerror=alert(1)>"
CLOSES = '</svg></pre></td><svg onload="alert(2)">'
LINK = "[see](javascript:alert(3))"
ESCAPES = "\x1b[2J\x1b]8;;http://evil.example\x07red"
NO_CHARACTER = "\uffff\ufdd0\ufffe"
TURNED = "\u202egnp.exe"
QUOTES = "\" onmouseover='alert(4)' {{ 7*7 }} {% raw %} $x^2$"
HOSTILE = (SCRIPT, IMAGE, CLOSES, LINK, QUOTES)
LABELS = {"business": "business<script>alert(5)</script>", "music": "music$\\frac{1}{2}$", "sport": 'sport" onfocus="alert(6)'}
REPLIES = [
    f"1. music {NO_CHARACTER}{SCRIPT} team\n2. news {IMAGE} world",
    f"Sure \x00 {NO_CHARACTER}{ESCAPES} {TURNED}!\n- topic {CLOSES} of\n- {LINK} the news {QUOTES}",
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
        accept={"rule": "always_first"},
        mentor__chat={"provider": "scripted", "replies": REPLIES},
        mentor__share_examples=True,
        mentor__shown={"examples": True},
        mentor__description=f"Name the topic. {SCRIPT}",
    )
    run = folder / "run<b>bold"
    maao.run(made, run)
    return run


def picture_run(folder: Path) -> Path:
    """Make a run of a tiny pair of towers on made-up pictures, and return its folder."""
    clip, pictures, source = folder / "clip", folder / "pictures", tiny_vision.Pictures()
    tiny_vision.clip_model().save_pretrained(clip)
    tiny_vision.clip_tokenizer().save_pretrained(clip)
    (clip / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}))
    for label in ("cat", "dog", "lion"):
        (pictures / label).mkdir(parents=True)
        for i in range(8):
            source.open(f"{label}/{i}").save(pictures / label / f"{i}.png")
    values = {
        "model": {"name": str(clip), "initial": "vocabulary"},
        "data": {"source": str(pictures), "shots": 2, "select_shots": 2},
        "plan": {"rounds": 1, "steps": 4, "store_every": 2},
        "mentor": {"name": "none"},
    }
    maao.run(make_config(values), folder / "pictures-seed0")
    return folder / "pictures-seed0"


BAD = f"arm {SCRIPT} $x^2$"
GAINS = {"plain": (0.0, 0.0, 0.0), BAD: (0.05, 0.07, 0.06), "_worse": (-0.04, -0.02, -0.03)}


def row(arm: str, gain: float, seed: int, task: str = "news") -> dict[str, object]:
    """Return a row of a comparison."""
    accuracy = 0.7 + 0.01 * seed + gain
    cost = {"gradient_steps": 10, "model_tokens": 1000 + 500 * (arm == BAD), "selection_evals": 3, "llm_calls": 2 * (arm == BAD)}
    curve = [{"model_tokens": 100 * i, "llm_tokens": 0, "selection_evals": i, "select_loss": 1 / (i + 1)} for i in range(3)]
    asked = [{"wanted": 3, "usable": 2, "won": seed > 0}] if arm == BAD else []
    test = {"loss": 1 - accuracy, "accuracy": accuracy}
    return {"task": task, "arm": arm, "model": "", "seed": seed, "test": test, "cost": cost, "curve": curve, "asked": asked}


def write_results(folder: Path, **changes: object) -> Path:
    """Write what a comparison of three arms with three seeds came to, and return its folder."""
    folder.mkdir(exist_ok=True)
    rows = [row(arm, gain, seed) for arm, gains in GAINS.items() for seed, gain in enumerate(gains)]
    record = {"name": "table", "title": f"Which is best? {LABELS['business']}", "baseline": "plain", "about": "", "total": 9, "rows": rows}
    (folder / RESULTS).write_text(json.dumps({**record, **changes}), encoding="utf-8")
    return folder


class Page(HTMLParser):
    """A page as a browser would read it: its elements, each with its attributes, and its text without style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.goes_on = False  # the next text goes on with the last: a word may be broken there
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.goes_on = tag == "wbr"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        self.goes_on = False
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts += [self.texts.pop() + data] if self.goes_on else [data]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def of(self, tag: str) -> list[dict[str, str]]:
        """Return the attributes of every element of a name."""
        return [attributes for name, attributes in self.elements if name == tag]


VOID = {"meta", "br", "img", "wbr", "hr", "link", "input"}

"""Training text reaches no remote model unless that is allowed: every mentor of `choices.py`, with every clue, alone and with a second one.

Each training text holds a word of its own that stands nowhere else. A history holds the words of misread examples, of the tuned model's own
continuation and of class lines; each mentor then asks a provider whose requests are kept at the last place before the network.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

import maao
from maao import choices
from maao.build import build
from maao.build_mentor import build_mentor
from maao.class_lines import ClassLines, Line
from maao.cli import app
from maao.config import make_config
from maao.errors import ConfigError
from maao.llm.ledger import MemoryLedger
from maao.llm.openai_compatible import OpenAICompatible
from maao.llm.server_reply import Answer
from maao.mentors.context import AskingOptions
from maao.sharing import share_caches
from maao.types import Advice, Confusion, Misclassified, Proposal
from tests.api.fixtures import llama, model_folder  # noqa: F401  (fixtures)
from tests.api.small_runs import KEY_NAME, LABELS, REMOTE, pairs, values, write_csv
from tests.cases.provider_server import chat

pytest.importorskip("httpx2")

MARKER = "zqxj"
EVERYTHING = {"nearest": True, "examples": True, "self_continuation": True}
FILE = "tests/mentors/test_training_text_stays.py"
SETTINGS = {  # of every mentor that asks a chat model, so that it shows all that it can
    "language_model": [
        {"shown": EVERYTHING, "wording": "guided"},
        {"shown": EVERYTHING, "wording": "chat", "retries": 1},
        {"shown": EVERYTHING, "wording": "contrast"},
        {"shown": EVERYTHING, "style": "completion"},
        {"shown": EVERYTHING, "fills": ["template", "label_words"]},
    ],
    "opro": [{"exemplars": 0}],
    "ape": [],  # it shows examples or nothing: refused
    "evoprompt_ga": [{"texts": ["news of the day", "what it is about"]}],
    "evoprompt_de": [{"texts": ["news of the day", "what it is about", "a b", "c d"]}],
    "class_lines": [{"feedback": "confusions", "misread": 3}, {"feedback": "second_sample"}, {"feedback": "random_classes"}],
}
SHARING = {
    "language_model": {"shown": EVERYTHING, "wording": "chat"},
    "opro": {"exemplars": 3},
    "ape": {"exemplars": 3},
    "class_lines": {"feedback": "confusions", "misread": 3},
}
SECOND = {  # of every mentor that asks nobody and can stand beside one that asks
    "random_restart": {},
    "reproject": {},
    "scripted": {"texts": ["news of the day"]},
    "perturb": {},
    "reset": {},
    "random_text": {"corpus": FILE},
    "class_names": {},
    "class_wordings": {},
    "near_words": {},
    "random_class_words": {},
    "edited_examples": {},
    "corpus_lines": {"corpus": FILE},
    "soft_input": {},
    "evolution": {},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Train, select and test, each text with a word of its own."""
    folder, found, number = tmp_path_factory.mktemp("marked"), {}, 0
    for split in ("train", "select", "test"):
        rows = []
        for text, label in pairs(split):
            number += 1
            rows.append((f"{text} {MARKER}{number:04}", label))
        found[split] = str(write_csv(folder / f"{split}.csv", rows))
    return found


@pytest.fixture(scope="module")
def history(llama, data, tmp_path_factory):  # noqa: F811
    """A run's own history, whose last round misread training texts, continued them, and was proposed lines and words that repeat them."""
    three = {"provider": "scripted", "replies": ["1. music team bank\n2. the news of the world\n3. sport and music"]}
    asked = values(llama, data, mentor__shown=EVERYTHING, mentor__chat=three, plan__proposals=3)
    with share_caches():
        *before, last = maao.run(make_config(asked), tmp_path_factory.mktemp("run") / "run").history
    misread = tuple(Misclassified(f"a film {MARKER}000{i}", label, LABELS[i - 1]) for i, label in enumerate(LABELS))
    confused = tuple(Confusion(label, LABELS[i - 1], 2) for i, label in enumerate(LABELS))
    clues = replace(last.clues, misclassified=misread, confusions=confused, self_continuation=f"as in {MARKER}9999")
    lines = ClassLines(tuple(Line(label, "examples", f"a line of {label}") for label in LABELS)).to_fields()
    said = Advice((Proposal("", {}, "lines", fields=lines),))
    return (*before[:-1], replace(before[-1], advice=said, verdict=replace(before[-1].verdict, chosen=None)), replace(last, clues=clues))


@pytest.fixture
def sent(monkeypatch):
    """All bodies that reach the last place before the network."""
    bodies = []
    monkeypatch.setenv(KEY_NAME, "not-a-key")

    def exchange(self, method, path, body, seconds):
        bodies.append(json.dumps(body))
        return Answer(200, {}, json.dumps(chat("1. nothing that could be used")).encode())

    monkeypatch.setattr(OpenAICompatible, "_exchange", exchange)
    return bodies


def ask(llama, data, history, name, settings):  # noqa: F811
    """Let a mentor ask at the beginning and after a history; return what is said of it."""
    mentor = {"name": name, "chat": REMOTE, **settings}
    with share_caches():
        parts = build(make_config(values(llama, data, mentor=mentor)))
        built = build_mentor(parts, MemoryLedger())
        for known in ((), history):
            built.mentor.propose(known, count=2, seed=1)
    return built.disclosure


def test_every_mentor_is_among_those_that_are_tried():
    asking = {name for name in choices.CHOICES["mentor"] if choices.load("mentor", name).asks}
    assert asking == {*SETTINGS, "person"}  # a person sits at this machine
    assert set(choices.CHOICES["mentor"]) == {*asking, *SECOND, "none", "custom"}
    shares = {name for name in asking if "share_examples" in choices.load("mentor", name).model_fields}
    assert shares == set(SHARING)


@pytest.mark.parametrize(("name", "settings"), [(name, one) for name, held in SETTINGS.items() for one in held], ids=str)
def test_no_training_text_is_sent_unasked(llama, data, history, sent, name, settings):  # noqa: F811
    disclosure = ask(llama, data, history, name, settings)
    assert sent and not [body for body in sent if MARKER in body]
    assert "leaves this machine" in disclosure and "o training example" in disclosure


@pytest.mark.parametrize("name", SHARING)
def test_training_text_is_sent_where_it_is_allowed_and_that_is_told(llama, data, history, sent, name):  # noqa: F811
    disclosure = ask(llama, data, history, name, {**SHARING[name], "share_examples": True})
    assert [body for body in sent if MARKER in body]
    assert "training" in disclosure and "o training example is sent" not in disclosure


@pytest.mark.parametrize("name", ["opro", "ape"])
def test_mentors_that_show_examples_are_refused_where_that_is_not_allowed(llama, data, history, sent, name):  # noqa: F811
    with pytest.raises(ConfigError, match="shows training examples"):
        ask(llama, data, history, name, {"exemplars": 3})
    assert not sent


@pytest.mark.parametrize("name", SECOND)
def test_what_a_second_mentor_proposes_repeats_no_training_text_or_is_refused(llama, data, history, sent, name):  # noqa: F811
    """What it proposes stands in the history, and is shown to the first one in later rounds."""
    options = choices.load("mentor", name)
    if options.repeats_examples:
        for first in ("language_model", "class_lines", "evoprompt_ga"):
            with pytest.raises(ConfigError, match=r"can repeat training text.*share_examples = true"):
                ask(llama, data, history, first, {"mix": {"name": name, **SECOND[name]}})
        local = make_config(values(llama, data, mentor={"name": "language_model", "mix": {"name": name, **SECOND[name]}}))
        assert isinstance(local.mentor.options, AskingOptions)  # where nothing leaves the machine it may stand
        return
    with share_caches():
        parts = build(make_config(values(llama, data, mentor={"name": name, **SECOND[name]})))
        mentor = build_mentor(parts, MemoryLedger()).mentor
        proposals = [one for known in ((), history[:1], history) for one in mentor.propose(known, count=3, seed=1).proposals]
    assert proposals and MARKER not in repr([(one.text, one.fields) for one in proposals])


def test_the_marker_is_found_where_it_is(llama, data, history):  # noqa: F811
    """That the mentors marked as repeating really do: edited examples hold the words of examples."""
    with share_caches():
        parts = build(make_config(values(llama, data, mentor={"name": "edited_examples"})))
        advice = build_mentor(parts, MemoryLedger()).mentor.propose(history, count=1, seed=1)
    assert MARKER in repr([one.fields for one in advice.proposals])


def test_a_run_that_was_made_with_a_second_mentor_that_is_refused_now_is_shown_and_replayed(
    llama,  # noqa: F811
    data,
    sent,
    tmp_path,
    monkeypatch,
):
    class Stop(maao.Watch):
        def round(self, finished):
            if finished.leg.ask:
                raise KeyboardInterrupt

    config = make_config(values(llama, data, mentor={"name": "language_model", "chat": REMOTE, "mix": {"name": "soft_input"}}))
    with monkeypatch.context() as older:
        older.setattr(AskingOptions, "check_sending", lambda self, tuned: None)
        made = maao.run(config, tmp_path / "run")
        with pytest.raises(KeyboardInterrupt):
            maao.run(config, tmp_path / "stopped", watch=Stop())
    asked = len(sent)
    assert asked and made.status == "finished"
    assert maao.replay(tmp_path / "run").equal
    maao.load(tmp_path / "run").mistakes()  # reads the data anew
    shown = CliRunner().invoke(app, ["show", str(tmp_path / "run")])
    assert shown.exit_code == 0, shown.output
    for begins in (lambda: maao.run(config, tmp_path / "new"), lambda: maao.resume(tmp_path / "stopped")):
        with pytest.raises(ConfigError, match="can repeat training text"):
            begins()
    assert len(sent) == asked and not (tmp_path / "new").exists()

"""What is said before a run about what a mentor will be sent: no more than the wording has a place for, and no less."""

from __future__ import annotations

import pytest

from maao import build as building
from maao.build_mentor import build_mentor
from maao.config import make_config
from maao.errors import ConfigError
from maao.llm.ledger import MemoryLedger
from tests.api.fixtures import llama, model_folder  # noqa: F401  (fixtures)
from tests.api.small_runs import KEY_NAME, REMOTE, values, write_data
from tests.mentors.histories import TOLD

CLUES = ("gradient", "walk", "confused", "misread", "nearest", "gap", "continuation")
EVERYTHING = {"nearest": True, "examples": True, "self_continuation": True}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def asked(llama, data, monkeypatch):  # noqa: F811
    """Return the function from changed settings to what is asked, with nobody ever called."""
    monkeypatch.setenv(KEY_NAME, "not-a-key")

    def make(**changes):
        return build_mentor(building.build(make_config(values(llama, data, **changes))), MemoryLedger())

    return make


def told(found):
    return found.disclosure.split(" It is sent ")[1]


def test_completion_announces_no_clue_since_it_sends_none(asked):
    found = asked(mentor__style="completion", mentor__shown=EVERYTHING)
    assert told(found) == (
        "the task's description, the labels, prompts with their scores; this stays on this machine. No training example is sent."
    )
    assert not [word for word in ("star wins award", "win cup", "list of news") if word in found.mentor.instruction(TOLD, 3)]


def test_chat_announces_every_clue_that_it_sends(asked):
    announced = told(asked(mentor__shown=EVERYTHING))
    assert [word for word in CLUES if word not in announced] == []
    assert "own continuation of its prompt, which can repeat training text" in announced
    assert "No training example" not in announced


def test_clues_that_are_not_shown_are_not_announced(asked):
    off = dict.fromkeys(("gradient", "displacement", "confusions", "gap"), False)
    assert [word for word in CLUES if word in told(asked(mentor__shown=off))] == []


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ({}, "words that the gradient and the walk point to"),
        ({"gradient": False}, "words that the walk points to"),
        ({"displacement": False}, "words that the gradient points to"),
    ],
)
def test_what_points_to_words_is_named(asked, shown, words):
    assert f", {words}, " in told(asked(mentor__shown=shown))


@pytest.mark.parametrize("style", ["chat", "completion"])
def test_prompts_without_scores_are_announced_as_such(asked, style):
    announced = told(asked(mentor__style=style, mentor__shown={"scores": "none"}))
    assert "prompts" in announced and "scores" not in announced


@pytest.mark.parametrize(
    ("wording", "announced"),
    [
        ("$listing", "prompts with their scores; this"),
        ("$next", "a loss to reach; this"),
        ("Write something.", "a text that is the same each time; this"),
        ("$clues", "words that the gradient and the walk point to, the gap"),
    ],
)
def test_wording_of_ones_own_is_announced_by_its_fields(asked, tmp_path, wording, announced):
    path = tmp_path / "mine.txt"
    path.write_text(wording, encoding="utf-8")
    assert told(asked(mentor__wording=str(path))).startswith(announced)


# -- what may leave this machine


@pytest.mark.parametrize(("share", "account"), [(False, False), (True, True)])
def test_a_remote_model_is_shown_an_account_only_where_training_text_is_shared(asked, share, account):
    found = asked(mentor__chat=REMOTE, mentor__shown={"self_continuation": True}, mentor__share_examples=share)
    assert found.mentor.shown.self_continuation is account
    assert ("own continuation" in found.disclosure) is account
    assert ("No training example is sent." in found.disclosure) is not account


def test_sharing_examples_does_not_show_an_account_that_is_off(asked):
    assert asked(mentor__chat=REMOTE, mentor__share_examples=True).mentor.shown.self_continuation is False


def test_a_model_on_this_machine_is_shown_an_account_where_asked_for(asked):
    assert asked(mentor__shown={"self_continuation": True}).mentor.shown.self_continuation is True


# -- before a run


@pytest.mark.parametrize("text", ["$descripton", "costs $ 5"])
def test_unknown_field_in_a_wording_is_found_before_the_run(asked, tmp_path, text):
    path = tmp_path / "mine.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"unknown field.*\$description"):
        asked(mentor__wording=str(path))


@pytest.mark.parametrize("who", [{"mentor__name": "person"}, {"mentor__chat": {"provider": "person"}}], ids=str)
def test_a_person_is_asked_once_a_round_as_in_a_chat(asked, who):
    mentor = asked(**who).mentor
    assert mentor.style == "chat" and mentor.retries == 0 and "Propose 3 new prompts" in mentor.instruction((), 3)


# -- what leaves this machine


def test_a_remote_model_is_shown_no_training_example(asked):
    found = asked(mentor__chat=REMOTE, mentor__shown={"examples": True}, mentor__wording="chat")  # that switch speaks of this machine
    assert found.mentor.shown.examples is False
    assert found.disclosure == (
        "Mentor: big at https://models.example.com/v1. It is sent the task's description, the labels, the template, prompts with their "
        "scores, words that the gradient and the walk point to, the gap between the tuned vectors and their words, counts of confused "
        "labels; this leaves this machine. "
        "No training example is sent."
    )


def test_what_a_remote_model_may_fill_is_told_as_sent(asked):
    found = asked(mentor__chat=REMOTE, mentor__fills=["template", "label_words"])
    assert "the labels, the template, the label words, prompts with their scores" in found.disclosure


def test_a_remote_model_is_shown_training_examples_where_the_user_shares_them(asked):
    found = asked(mentor__chat=REMOTE, mentor__share_examples=True)
    assert found.mentor.shown.examples is True
    assert "misread training examples; this leaves this machine." in found.disclosure
    assert "No training example" not in found.disclosure


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_server_on_this_machine_is_not_remote(asked, host):
    chat = {"provider": "openai", "name": "small", "base_url": f"http://{host}:8000/v1"}
    assert "(this machine)" in asked(mentor__chat=chat).disclosure
    assert "this stays on this machine" in asked(mentor__chat=chat).disclosure
    assert asked(mentor__chat=chat, mentor__share_examples=True).mentor.shown.examples is False  # sharing speaks of remote models
    assert asked(mentor__chat=chat, mentor__shown={"examples": True}).mentor.shown.examples is True


@pytest.mark.parametrize("host", ["10.0.0.7", "192.168.1.2", "127.0.0.1.example.com", "models.example.com"])
def test_every_other_machine_is_remote(asked, host):
    found = asked(mentor__chat={**REMOTE, "base_url": f"https://{host}/v1"}, mentor__shown={"examples": True})
    assert found.mentor.shown.examples is False
    assert "leaves this machine" in found.disclosure


def test_openai_itself_is_named_as_what_it_is(asked):
    assert asked(mentor__chat={**REMOTE, "base_url": None}).disclosure.startswith("Mentor: big at the OpenAI API.")


def test_hiding_the_clues_is_told(asked):
    shown = {"gradient": False, "displacement": False, "confusions": False}
    disclosure = asked(mentor__chat=REMOTE, mentor__shown=shown).disclosure
    assert "gradient" not in disclosure and "confused" not in disclosure


@pytest.mark.parametrize("name", ["none", "random_restart", "reproject", "scripted"])
def test_mentors_that_ask_nobody_say_so(asked, name):
    disclosure = asked(mentor={"name": name, **({"texts": ["a"]} if name == "scripted" else {})}).disclosure
    assert "nothing is sent anywhere" in disclosure or "No mentor is asked" in disclosure


def test_a_person_is_asked_at_this_terminal(asked):
    assert asked(mentor__name="person").disclosure.startswith("Mentor: the person at this terminal.")


def test_a_remote_model_without_a_key_is_refused_before_the_run(llama, data, monkeypatch):  # noqa: F811
    monkeypatch.delenv(KEY_NAME, raising=False)
    parts = building.build(make_config(values(llama, data, mentor__chat=REMOTE)))
    with pytest.raises(ConfigError, match=f"set the environment variable {KEY_NAME}"):
        build_mentor(parts, MemoryLedger())

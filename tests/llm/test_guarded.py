"""No key passes where text comes in from a provider, whoever wrote it; and none is stored, shown or read from a config."""

from __future__ import annotations

import sqlite3
import traceback
from base64 import b64encode

import pytest

import maao
from maao.cli import main
from maao.config import make_config
from maao.core.budget import Budget
from maao.errors import BudgetError, ChatError, ConfigError
from maao.llm.chat import Reply, Usage
from maao.llm.guarded import Guarded
from maao.llm.ledger import MemoryLedger
from maao.llm.provider import ChatOptions, Here
from maao.llm.recording import Recording
from maao.llm.scripted import Scripted
from maao.llm.secrets import guard, variable_in, without_keys
from maao.store.values import column_text, text_column
from tests.llm.asking import ask

KEY = "Zq7+v/Kd93hB2mXw0pTfLs8RuYc5NaEj"
CODED = b64encode(b":" + KEY.encode()).decode()


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("SOMEBODYS_KEY", KEY)
    guard("SOMEBODYS_KEY")
    return KEY


class Saying(Scripted):
    def __init__(self, reply):
        super().__init__(["never"])
        self.reply = reply

    def complete(self, request):
        return self.reply


class Raising(Scripted):
    def __init__(self, error):
        super().__init__(["never"])
        self.error = error

    def complete(self, request):
        try:
            raise ValueError(f"header {CODED}")
        except ValueError as inner:
            raise self.error from (inner if "led" in str(self.error) else None)


@pytest.mark.parametrize("name", ["text", "model", "finish_reason", "note", "why_empty"])
def test_a_reply_holds_no_key(key, name):
    held = Reply(**{"text": "hi", name: f"a {key[3:]}, {CODED}"}, usage=Usage(3, 4))
    reply = Guarded(Saying(held)).complete(ask())
    struck = {"text": reply.text, "model": reply.model, "finish_reason": reply.finish_reason, "why_empty": reply.why_empty}
    assert struck.get(name, reply.note).startswith("a ***, Ol***")
    assert reply.note.endswith("the key stood in the reply and was struck out") and reply.usage == Usage(3, 4)
    assert not variable_in(repr(reply))


def test_a_reply_without_a_key_is_the_same_object(key):
    reply = Reply("hi", note="as it was")
    assert Guarded(Saying(reply)).complete(ask()) is reply


@pytest.mark.parametrize(
    "error",
    [RuntimeError(f"GET https://x?key={KEY}"), KeyError(KEY), RuntimeError("what led to it holds the key"), ChatError(f"no {KEY[:9]}")],
    ids=["words", "repr", "cause", "ours"],
)
def test_an_error_that_holds_a_key_is_told_without_it(key, error):
    with pytest.raises(ChatError) as caught:
        Guarded(Raising(error)).complete(ask())
    told = "".join(traceback.format_exception(caught.value))
    assert not variable_in(told) and caught.value.__context__ is None


@pytest.mark.parametrize("error", [RuntimeError("defect"), BudgetError("cap"), KeyboardInterrupt()])
def test_any_other_error_passes_as_it_is(key, error):
    class Plain(Scripted):
        def complete(self, request):
            raise error

    with pytest.raises(type(error)) as caught:
        Guarded(Plain(["never"])).complete(ask())
    assert caught.value is error


def test_all_keys_that_were_named_are_struck_out_and_short_ones_are_none(key, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789abcdef")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    assert without_keys(f"{key} hf_0123456789abcdef none") == "*** *** none"
    assert variable_in(f"x {key[5:14]}") == "SOMEBODYS_KEY" and variable_in("none") == ""


def test_no_text_column_holds_a_key(key):
    assert text_column(f"a {key}") == "a ***" and column_text(text_column(f"\ud800 {key}")) == "\ud800 ***"


def test_a_config_that_holds_a_key_is_refused_before_anything_is_made(key, tmp_path):
    config = make_config({"data": {"source": f"rows/{key[:8]}.csv"}})
    with pytest.raises(ConfigError, match="holds what the variable SOMEBODYS_KEY holds"):
        maao.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_library_s_error_is_shown_without_a_key(key, monkeypatch, capsys):
    def broken():
        raise sqlite3.OperationalError(f"cannot open https://u:{key}@host")

    monkeypatch.setattr("maao.cli.app", broken)
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err
    assert ended.value.code == 1 and "cannot open https://u:***@host" in told and not variable_in(told.replace("broken", ""))


def test_a_config_that_is_only_read_guards_nothing(monkeypatch):
    monkeypatch.setenv("SOME_PLACE", "/home/somebody")
    chat = {"provider": "openai", "name": "m", "base_url": "http://127.0.0.1:1/v1", "api_key_env": "SOME_PLACE"}
    config = make_config({"problem": "function", "mentor": {"name": "language_model", "chat": chat}})
    assert not config.mentor.options.chat.options.is_remote and config.mentor.options.chat.options.where("m").endswith("(this machine)")
    assert without_keys("/home/somebody/projects/a.csv") == "/home/somebody/projects/a.csv"


def test_a_config_that_holds_what_it_names_as_its_key_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_PLACE", "/home/somebody")
    chat = {"provider": "openai", "name": "m", "base_url": "http://127.0.0.1:1/v1", "api_key_env": "SOME_PLACE"}
    config = make_config({"data": {"source": "/home/somebody/rows.csv"}, "mentor": {"name": "language_model", "chat": chat}})
    with pytest.raises(ConfigError, match="holds what the variable SOME_PLACE holds"):
        maao.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists() and without_keys("/home/somebody") == "/home/somebody"


def test_who_is_asked_has_his_variables_guarded(monkeypatch):
    monkeypatch.setenv("THEIR_KEY", KEY)
    monkeypatch.setattr("maao.llm.secrets._VARIABLES", set())

    class Theirs(ChatOptions):
        @property
        def key_variables(self):
            return ("THEIR_KEY",)

        def model_name(self, tuned):
            return "theirs"

        def where(self, name):
            return "nowhere"

        def build(self, here):
            return Saying(Reply(f"a {KEY}"))

    options = Theirs()
    assert without_keys(KEY) == KEY
    model = Recording(MemoryLedger(), Here("m", lambda name: None), Budget()).chat(options)
    assert model.complete(ask()).text == "a ***"

"""A key is in nothing that is left: runs, comparisons, pages, exports, mirrors, logs, trackers, crashes, process lists.

A hostile server repeats it in every place (`provider_server.echoes`). What is searched is every byte of every file, for the key in all
forms and for any eight characters of it.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import subprocess
import sys
import threading
import traceback
from itertools import cycle
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import maao
from maao.compare import workers
from maao.config import make_config
from maao.errors import StoreError
from maao.hub import save_for_hub
from maao.llm.guarded import cause_of
from maao.llm.openai_compatible import OpenAICompatible
from maao.llm.secrets import guard, struck_from, without_secret_variables, without_secrets
from maao.runner import Watch
from maao.store.mirror import Mirror
from maao.tracking import Tracking
from tests.api.fixtures import llama, model_folder  # noqa: F401  (fixtures)
from tests.api.small_runs import to_toml, values, write_data
from tests.cases.provider_server import FORMS, echoes, serving, settings
from tests.commands import exit_code, ran

pytest.importorskip("httpx2")
pytestmark = [pytest.mark.trust, pytest.mark.allow_hosts(["127.0.0.1"])]

KEY = "sk-Zq7+v/Kd93hB2mXw0pTfLs8RuYc5NaEj"
NAME = "EVERYWHERE_KEY"


@pytest.fixture(scope="module")
def server():
    with serving() as found:
        yield found


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv(NAME, KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def repeat(server):
    """Let a server repeat the key in every place, in one form after the other, an answer each; return how many there are."""
    plays = [echoes(KEY, form)[place].steps for place, form in zip(echoes(KEY, str), cycle(FORMS.values()), strict=False)]
    server.begin(lambda body, number: plays[(number - 1) % len(plays)], {"data": [{"id": KEY}, {"id": KEY[:20]}]})
    return len(plays)


def check(text, where):
    """Search a text; in characters of a byte each, so that nothing is left out."""
    assert struck_from(text, KEY) == text, f"a key in {where}: {struck_from(text, KEY)[:300]!r}"


def check_files(folder):
    """Search all files beneath a folder, and their names; return how many there are."""
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    for file in files:
        held = re.sub(rb"\x00{2,}", b"\x01", file.read_bytes())  # empty places of a database: no key has a zero beside a zero
        check(held.decode("latin-1"), file)
    check(" ".join(map(str, files)), "names")
    return len(files)


class ProcessList:
    """Looks at the arguments of all processes of this machine, again and again."""

    def __enter__(self):
        self.seen, self._ended = set(), threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def _look(self):
        while not self._ended.wait(0.05):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(file.read_bytes())
                except OSError:  # it has ended
                    continue


def test_all_that_a_run_leaves_and_shows(server, tmp_path, monkeypatch, capsys, caplog):
    """Each answer is met, by one run of many rounds; then everything is printed, written and copied that can be."""
    caplog.set_level(logging.DEBUG)
    count = repeat(server)
    changes = {"chat": {"api_key_env": NAME, "attempts": 1}, "max_tokens": 60}
    asked = settings(server, **changes) | {
        "plan": {"rounds": count, "steps": 1, "proposals": 1, "store_every": 0, "first": "ask"},
        "store": {"mirror": f"file://{tmp_path / 'mirror'}"},
        "tracker": {"kind": "tensorboard"},
    }
    config = tmp_path / "config.toml"
    config.write_text(to_toml(asked))
    run = tmp_path / "run"
    told = [ran(monkeypatch, capsys, "tune", config, "--run", run).told()]
    assert len(server.bodies) >= count, told
    assert any(f"bearer {KEY}".lower() in head.lower() for head in server.heads)  # it was really used
    for command in (
        ("show", run, "--calls", "--clues"),
        ("show", run, "--calls", "--json"),
        ("watch", run),
        ("runs", tmp_path),
        ("replay", run),
        ("report", run, "--to", tmp_path / "page.html"),
    ):
        done = ran(monkeypatch, capsys, *command)
        assert done.code == 0, (command, done.err)
        told.append(done.told())
    check("\n".join(told), "what was printed")
    assert "***" in "".join(told)
    check("\n".join(f"{record.name} {record.getMessage()} {record.exc_text}" for record in caplog.records), "logs")
    assert any(record.name.startswith("httpcore2") for record in caplog.records)  # headers are among them
    assert check_files(tmp_path) > 10
    result = maao.load(run)
    check(pickle.dumps(result.history, 0).decode("latin-1") + repr(result.history) + repr(result.calls), "the history")


def test_all_that_a_classifier_leaves(server, llama, tmp_path, monkeypatch, capsys):  # noqa: F811
    """Exports, a card for the hub, a page with texts, predictions."""
    repeat(server)
    chat = {"provider": "openai", "name": "m", "base_url": server.base_url, "attempts": 1, "api_key_env": NAME, "first_pause": 0.0}
    run = tmp_path / "run"
    result = maao.run(make_config(values(llama, write_data(tmp_path), mentor__chat=chat, plan__rounds=3)), run)
    assert "***" in str([rejected for r in result.history for rejected in r.advice.rejected])
    for format in result.formats:
        if format not in ("ctx", "classes"):
            try:
                result.save(tmp_path / f"export-{format}", format=format)
            except maao.MaaoError as error:  # not of this template
                check(str(error), format)
    save_for_hub(result, tmp_path / "hub", base_model="org/model")
    told = ran(monkeypatch, capsys, "predict", run, "a music film")
    assert told.code == 0 and exit_code(monkeypatch, "report", run, "--to", tmp_path / "page.html") == 0
    check(told.told() + capsys.readouterr().out, "what was printed")
    assert check_files(tmp_path) > 15


TABLE = """
seeds = [0, 1]

[base]
problem = "function"
"plan.rounds" = 4
"plan.steps" = 1
"mentor.name" = "language_model"
"mentor.retries" = 0
"mentor.chat.provider" = "openai"
"mentor.chat.name" = "m"
"mentor.chat.base_url" = "{url}"
"mentor.chat.api_key_env" = "{name}"
"mentor.chat.attempts" = 1

[tasks.rastrigin]
"function.name" = "rastrigin"

[[arms]]
name = "asks"

[[arms]]
name = "breaks"
settings = {{ "mentor.chat.provider" = "{file}:Breaking" }}
"""
OWN = '''
import os
from maao.llm.provider import ChatOptions


class Breaking(ChatOptions):
    """A provider of somebody else's, which tells its key when it breaks, and says nothing of its variable."""

    base_url: str = ""
    api_key_env: str = ""
    attempts: int = 1

    def model_name(self, tuned): return "m"
    def where(self, name): return "nowhere"
    def build(self, here): return Model()


class Model:
    name, is_remote, price = "m", False, None

    def complete(self, request):
        raise RuntimeError("GET https://x/?key=" + os.environ["EVERYWHERE_KEY"])

    def close(self):
        raise OSError("https://u:" + os.environ["EVERYWHERE_KEY"] + "@host")
'''


def test_all_that_a_comparison_leaves_and_its_processes_show(server, tmp_path):
    """Workers of their own, one arm of which breaks with the key in its traceback."""
    repeat(server)
    (tmp_path / "own.py").write_text(OWN)
    table = tmp_path / "table.toml"
    table.write_text(TABLE.format(url=server.base_url, name=NAME, file=tmp_path / "own.py"))
    command = [sys.executable, "-m", "maao.cli", "compare", str(table), "--out", str(tmp_path / "out"), "--workers", "2"]
    with ProcessList() as processes:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 1 and "https://u:***@host" in done.stderr, done.stderr
    check(done.stdout + done.stderr, "what was printed")
    assert any(b"maao.compare" in one for one in processes.seen)
    check(b" ".join(processes.seen).decode("latin-1"), "the list of processes")
    (tmp_path / "own.py").unlink()
    assert check_files(tmp_path) > 8


def test_what_is_given_to_ray_holds_no_key(monkeypatch):
    """Ray keeps what a task is given, and writes it down where memory is short. The key is that of the machine that works."""
    given = []

    class Task:
        def __init__(self, run):
            self.run = run

        def remote(self, *arguments):
            given.append(arguments)
            return self.run(*arguments)

    ray = ModuleType("ray")
    ray.is_initialized = lambda: True
    ray.remote = lambda **_: Task
    ray.wait = lambda tasks, timeout: (tasks, [])
    ray.get = lambda task: task
    ray.exceptions = SimpleNamespace(RayError=RuntimeError)
    monkeypatch.setitem(sys.modules, "ray", ray)
    guard("AN_ODD_NAME")
    monkeypatch.setenv("AN_ODD_NAME", KEY)
    command = [sys.executable, "-c", f"import os, sys; sys.exit('{NAME}' not in os.environ or 'ONE' not in os.environ)"]
    worker = workers._ray_start()(command, {**os.environ, "ONE": "1"})
    assert worker.poll() == 0  # its own environment is there, and what it was given
    check(pickle.dumps(given, 0).decode("latin-1"), "Ray's tasks")
    assert given[0][1]["ONE"] == "1"


def test_what_is_told_of_errors_of_others_holds_no_credential(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    notes = []

    def broken():
        raise RuntimeError(f"401 for {KEY}")

    Tracking(broken, notes.append).start(None, tmp_path, "", ())
    assert notes == ["The tracker failed and is told nothing more (RuntimeError: 401 for ***). The run goes on."]

    mirror = Mirror(f"file://{tmp_path / 'mirror'}", "run")
    monkeypatch.setattr(mirror, "_push", lambda folder: broken())
    with pytest.raises(StoreError) as caught:
        mirror.push(tmp_path)
    check("".join(traceback.format_exception(caught.value)), "a traceback")
    error = RuntimeError("no such bucket")
    assert (
        cause_of(error) is error
        and cause_of(RuntimeError(KEY)) is None
        and cause_of(RuntimeError("a secret 12345"), "a secret 12345") is None
    )
    assert without_secrets(f"{KEY[:9]} and hf-token-123", "hf-token-123") == "*** and ***"
    assert without_secret_variables({"WANDB_API_KEY": KEY, "PATH": "/bin"}) == {"PATH": "/bin"}

    monkeypatch.setattr("maao.cli.app", broken)
    assert exit_code(monkeypatch, "runs") == 1
    told = capsys.readouterr().err
    assert "401 for ***" in told
    check(told.replace("monkeypatch", ""), "a traceback at the terminal")


def test_what_a_watch_is_told_while_a_run_goes_on_holds_no_key(server, tmp_path):
    repeat(server)
    told = []

    class All(Watch):
        def call(self, request):
            told.append(repr(request))

        def round(self, finished):
            told.append(repr(finished))

        def note(self, text):
            told.append(text)

    config = make_config(settings(server, chat={"api_key_env": NAME, "attempts": 2}) | {"plan": {"rounds": 8, "steps": 1, "first": "ask"}})
    maao.run(config, tmp_path / "run", watch=All(), progress=lambda progress: told.append(repr(progress)))
    check("\n".join(told), "what a watch is told")
    assert len(told) > 20


def test_a_provider_and_its_options_hold_no_key_when_they_are_pickled_or_shown():
    model = OpenAICompatible("m", "http://127.0.0.1:1/v1", NAME)
    config = make_config({"problem": "function", "mentor": {"chat": {"provider": "openai", "name": "m", "api_key_env": NAME}}})
    shown = [repr(model), str(vars(model)), repr(config), config.model_dump_json(), pickle.dumps(config, 0).decode("latin-1")]
    check("\n".join(shown), "a provider")
    assert json.loads(config.model_dump_json())["mentor"]["chat"]["api_key_env"] == NAME

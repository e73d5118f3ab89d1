"""A classifier on the hub: uploaded to a stand-in and read back, with a card that says what came of the run and obeys nobody."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

import maao
from maao import run
from maao.config import make_config
from maao.errors import ConfigError, StoreError
from maao.hub import save_for_hub, shareable
from maao.predictor import Predictor
from maao.printable import markdown
from tests.api.small_runs import LABELS, pairs
from tests.tiny_sentence import sentence_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TEXTS = [text for text, _ in pairs("test")]
OWN_MENTOR = """
from maao.mentors.context import MentorOptions
from maao.mentors.scripted import encode_all
from maao.types import Advice, Rejected


class Scripted:
    def __init__(self, codec):
        self.codec = codec

    def propose(self, history, *, count, seed):
        return Advice(*encode_all(self.codec, ("news of",), "own"))


class Nobody:
    def propose(self, history, *, count, seed):
        return Advice(rejected=(Rejected("", "no answer from http://server.example/v1", "failed_call"),))


class Own(MentorOptions):
    def build(self, run):
        return Scripted(run.codec)


class Silent(MentorOptions):
    def build(self, run):
        return Nobody()
"""
HOSTILE = "<script>alert(1)</script> [x](http://evil.example) `code` | # *b* \x1b[31m\u202e\n---\nlicense: mit"


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder where a hub cache would have it: so it has a name that others can load it by."""
    place = tmp_path_factory.mktemp("hub") / "models--me--tiny-encoder" / "snapshots" / COMMIT
    return sentence_folder(place, max_length=24)[0]


def tuned(encoder: Path, folder: Path, **changes: Any) -> maao.Result:
    settings = {"threads": 1, "data.folds": 2, **changes.pop("settings", {})}
    given = {"train": pairs("train"), "test": pairs("test"), "steps": 4, **changes}
    return maao.tune(model=str(encoder), kind="matcher", folder=folder, settings=settings, **given)


@pytest.fixture(scope="module")
def result(snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> maao.Result:
    return tuned(snapshot, tmp_path_factory.mktemp("runs") / "run")


def front(card: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return found


def test_a_folder_holds_json_and_tensors_and_reads_back_the_same(result: maao.Result, snapshot: Path, tmp_path: Path) -> None:
    files = save_for_hub(result, tmp_path / "shared")
    assert sorted(file.name for file in files) == ["README.md", "maao.json", "point.safetensors"]
    assert {*files} == {*(tmp_path / "shared").iterdir()}
    held = json.loads((tmp_path / "shared" / "maao.json").read_text(encoding="utf-8"))
    assert (held["config"]["model"]["name"], held["config"]["model"]["revision"]) == ("me/tiny-encoder", COMMIT)
    everything = "".join(file.read_text(encoding="utf-8") for file in files if file.suffix != ".safetensors")
    assert not [text for text, _ in (*pairs("train"), *pairs("test")) if text in everything] and str(snapshot) not in everything
    assert set(load_file(tmp_path / "shared" / "point.safetensors")) == set(result.params)
    again = maao.from_hub(tmp_path / "shared")
    assert again.labels == tuple(sorted(LABELS)) and torch.equal(again.params["residual"], result.params["residual"])
    local = Predictor(result.config, again.labels, again.class_names, again.params, weights=again.weights)
    assert [p.probabilities for p in local.predict(TEXTS)] == [p.probabilities for p in result.predict(TEXTS)]
    assert local.evaluate(pairs("test")).to_json() == result.evaluate(pairs("test")).to_json()


def test_the_card_says_what_came_of_the_run(result: maao.Result, tmp_path: Path) -> None:
    save_for_hub(result, tmp_path, repo="me/topics", license="apache-2.0", language="en", dataset="org/headlines", about="Of *headlines*.")
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    data = front(card)
    assert (data["license"], data["language"], data["base_model"], data["library_name"]) == ("apache-2.0", "en", "me/tiny-encoder", "maao")
    assert data["datasets"] == "org/headlines" or data["datasets"] == ["org/headlines"]
    figure = data["model-index"][0]["results"][0]["metrics"][0]
    final = result.finals["chosen"].score
    assert figure["type"] == "accuracy" and figure["value"] == pytest.approx(final.accuracy, abs=1e-6)
    assert f"| chosen, on test | {final.num_examples} | {final.loss:.3f} | {final.accuracy:.3f} | " in card
    beside = result.baselines
    assert beside is not None and card.count("| baseline ") == len(beside.baselines) > 0
    assert "classifier = maao.from_hub('me/topics')" in card and "Of \\*headlines\\*." in card
    assert "None was asked" in card and "Cost: " in card and "No licence is named yet" not in card
    assert f"{len(pairs('train'))} examples were tuned on" in card


def test_without_a_licence_the_card_says_so(result: maao.Result, tmp_path: Path) -> None:
    save_for_hub(result, tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "No licence is named yet" in card and "license" not in front(card)


def test_words_from_outside_stand_in_the_card_as_they_are(snapshot: Path, tmp_path: Path) -> None:
    words = {"sport": HOSTILE}
    renamed = [(text, words.get(label, label)) for text, label in pairs("train")]
    settings = {"model.label_words": {label: label[:5] for label in {label for _, label in renamed}}, "model.wordings": ["{class}"]}
    settings["model.label_words"][HOSTILE] = "sport"  # type: ignore[index]
    hostile = tuned(snapshot, tmp_path / "run", train=renamed, test=None, settings=settings)
    save_for_hub(hostile, tmp_path / "shared", repo="me/topics", about=HOSTILE, language=[HOSTILE], dataset=HOSTILE)
    card = (tmp_path / "shared" / "README.md").read_text(encoding="utf-8")
    _, data, text = card.split("---\n", 2)
    assert "license" not in yaml.safe_load(data) and yaml.safe_load(data)["language"] == [HOSTILE]
    assert "<script>" not in text and "[x](" not in text and "http://" not in text
    assert "\x1b" not in text and "\u202e" not in text and "\nlicense: mit" not in text


def test_a_mentors_part_stands_in_the_card(snapshot: Path, tmp_path: Path) -> None:
    settings = {"plan.proposals": 1, "accept.steps": 1, "model.num_virtual_tokens": 2, "model.wordings": ["{class}"]}
    helped = maao.tune(
        model=str(snapshot), kind="matcher", method="coop", train=pairs("train"), mentor={"name": "scripted", "texts": ["news of"]},
        rounds=1, steps=2, settings={"threads": 1, **settings}, folder=tmp_path / "run",
    )  # fmt: skip
    save_for_hub(helped, tmp_path / "shared")
    card = (tmp_path / "shared" / "README.md").read_text(encoding="utf-8")
    taken = sum(one.verdict.chosen is not None for one in helped.history)
    assert f"scripted, asked 1 times, proposed 1 starts (0 more could not be used); {taken} became the start of a walk" in card
    assert markdown(helped.text) in card


def test_a_card_holds_no_place_of_this_machine_and_no_words_of_a_server(snapshot: Path, tmp_path: Path) -> None:
    own = tmp_path / "secret folder" / "own.py"
    own.parent.mkdir()
    own.write_text(OWN_MENTOR, encoding="utf-8")
    settings = {"plan.proposals": 1, "accept.steps": 1, "model.num_virtual_tokens": 2, "model.wordings": ["{class}"]}
    for name, asked in {"Own": "Own, asked 1 times, proposed 1 starts", "Silent": "Silent, asked 1 times, proposed 0 starts"}.items():
        helped = maao.tune(
            model=str(snapshot), kind="matcher", method="coop", train=pairs("train"), mentor={"name": f"{own}:{name}"},
            rounds=1, steps=2, settings={"threads": 1, **settings}, folder=tmp_path / name,
        )  # fmt: skip
        save_for_hub(helped, tmp_path / "shared" / name)
        card = (tmp_path / "shared" / name / "README.md").read_text(encoding="utf-8")
        assert asked in card and f"The mentor ({name}) was asked once" in card
        assert "secret folder" not in card and "server.example" not in card
    assert "server.example" in helped.warning


def test_what_cannot_be_shared_is_refused_in_words(result: maao.Result, tmp_path: Path) -> None:
    own = sentence_folder(tmp_path / "encoder", max_length=24)[0]
    local = tuned(own, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"a place on this machine that others do not have: give base_model='ORG/NAME'"):
        save_for_hub(local, tmp_path / "shared")
    assert shareable(local.predictor, "org/encoder").config.model.name == "org/encoder"
    with pytest.raises(ConfigError, match="A repository is named ORG/NAME; got 'topics'"):
        maao.push_to_hub(result, "topics")
    function = run(
        make_config({"problem": "function", "mentor": {"name": "none"}, "plan": {"rounds": 0, "steps": 2}}), tmp_path / "function"
    )
    with pytest.raises(ConfigError, match="nothing to predict or export"):
        save_for_hub(function, tmp_path / "shared")


def test_a_folder_that_names_code_or_is_damaged_is_refused(result: maao.Result, tmp_path: Path) -> None:
    save_for_hub(result, tmp_path)
    file = tmp_path / "maao.json"
    whole = json.loads(file.read_text(encoding="utf-8"))
    (tmp_path / "evil.py").write_text("raise SystemExit('run')")
    file.write_text(
        json.dumps({**whole, "config": {**whole["config"], "model": {**whole["config"]["model"], "method": f"{tmp_path}/evil.py:X"}}})
    )
    with pytest.raises(StoreError, match="names code in a file"):
        maao.from_hub(tmp_path)
    file.write_text(json.dumps({**whole, "format": 9}))
    with pytest.raises(StoreError, match="of format 9, and this version of maao reads format 1: update maao"):
        maao.from_hub(tmp_path)
    file.write_text(json.dumps({**whole, "labels": 3}))
    with pytest.raises(StoreError, match="labels"):
        maao.from_hub(tmp_path)
    file.write_text(json.dumps(whole))
    point = load_file(tmp_path / "point.safetensors")
    save_file({**point, "residual": point["residual"] * float("nan")}, tmp_path / "point.safetensors")
    with pytest.raises(StoreError, match="numbers that are not finite"):
        maao.from_hub(tmp_path)
    file.write_text(json.dumps({**whole, "labels": ["a", "a", "b"]}))
    with pytest.raises(StoreError, match="its labels repeat"):
        maao.from_hub(tmp_path)
    here = {**whole["config"], "model": {**whole["config"]["model"], "name": result.config.model.name, "revision": None}}
    file.write_text(json.dumps({**whole, "config": here}))
    save_file({"residual": point["residual"][:2].contiguous()}, tmp_path / "point.safetensors")
    with pytest.raises(StoreError, match="is damaged: its point does not suit"):
        maao.from_hub(tmp_path).predict(TEXTS)
    file.write_text(json.dumps(whole))
    (tmp_path / "point.safetensors").write_bytes(b"no tensors")
    with pytest.raises(StoreError, match=r"point\.safetensors"):
        maao.from_hub(tmp_path)


class Hub:
    """A stand-in for the hub: keeps the files of one commit, and answers what `huggingface_hub` asks."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.made: list[dict[str, Any]] = []
        self.seen: list[str] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        self.seen.append(f"{request.method} {path}")
        if path == "/api/repos/create":
            self.made.append(json.loads(request.content))
            return httpx2.Response(200, json={"url": "https://hub.example/me/topics", "id": "me/topics"})
        if path == "/api/validate-yaml":
            return httpx2.Response(200, json={"errors": [], "warnings": []})
        if "/preupload/" in path:
            named = json.loads(request.content)["files"]
            return httpx2.Response(
                200, json={"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in named]}
            )
        if "/commit/" in path:
            for line in request.content.splitlines():
                held = json.loads(line)
                if held["key"] == "file":
                    self.files[held["value"]["path"]] = base64.b64decode(held["value"]["content"])
            return httpx2.Response(200, json={"commitUrl": f"https://hub.example/me/topics/commit/{COMMIT}", "commitOid": COMMIT})
        if "/tree/" in path:
            held = [{"type": "file", "path": name, "size": len(data), "oid": "0" * 40} for name, data in self.files.items()]
            return httpx2.Response(200, json=held)
        if path.startswith("/api/models/me/topics"):
            held = [{"rfilename": name} for name in self.files]
            return httpx2.Response(
                200, json={"id": "me/topics", "sha": COMMIT, "siblings": held, "private": True, "tags": [], "downloads": 0, "likes": 0}
            )
        name = path.rpartition("/")[2]
        if name not in self.files:
            return httpx2.Response(404, headers={"X-Error-Code": "EntryNotFound"})
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{len(self.files[name])}"', "Content-Length": str(len(self.files[name]))}
        return httpx2.Response(200, headers=headers, content=b"" if request.method == "HEAD" else self.files[name])


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    stand_in = Hub()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    huggingface_hub.utils.disable_progress_bars()
    huggingface_hub.set_client_factory(lambda: httpx2.Client(transport=httpx2.MockTransport(stand_in)))
    yield stand_in
    huggingface_hub.utils.enable_progress_bars()
    huggingface_hub.set_client_factory(httpx2.Client)


def test_what_is_pushed_comes_back_from_the_hub(result: maao.Result, hub: Hub, tmp_path: Path) -> None:
    where = maao.push_to_hub(result.folder, "me/topics", license="mit", endpoint="https://hub.example", token="hf_secret")
    assert where == f"https://hub.example/me/topics/commit/{COMMIT}"
    assert hub.made[0]["name"] == "topics" and (hub.made[0].get("private") is True or hub.made[0].get("visibility") == "private")
    assert sorted(hub.files) == ["README.md", "maao.json", "point.safetensors"]
    assert not [text for text, _ in pairs("train") if text.encode() in b"".join(hub.files.values())]
    hub.files["evil.py"] = b"raise SystemExit"
    again = maao.from_hub("me/topics", endpoint="https://hub.example", cache_dir=tmp_path)
    assert again.labels == tuple(sorted(LABELS)) and torch.equal(again.params["residual"], result.params["residual"])
    assert not list(tmp_path.rglob("evil.py")) and repr(again).startswith("Predictor('me/topics', model='me/tiny-encoder'")


def test_a_hub_that_refuses_is_told(result: maao.Result, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Hub, "__call__", lambda self, request: httpx2.Response(403, json={"error": "no right to write"}))
    with pytest.raises(StoreError, match=r"me/topics cannot be uploaded: .*403"):
        maao.push_to_hub(result, "me/topics", endpoint="https://hub.example", token="hf_secret")
    with pytest.raises(StoreError, match="me/topics cannot be read from the hub"):
        maao.from_hub("me/topics", endpoint="https://hub.example", cache_dir=tmp_path)

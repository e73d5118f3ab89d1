"""Whole runs whose mentor fills the template and the label words as well as the slots."""

from __future__ import annotations

import io
import json
import re

import pytest
import torch
from rich.console import Console

import maao
from maao.errors import ConfigError
from maao.problems.framed import FRAME
from maao.report.run import report
from maao.types import Example
from tests.api.small_runs import config, digests, write_data
from tests.api.test_resume import StopAt
from tests.export.written import written
from tests.tiny import LABELS

LINES = ("the news of | market | song | team", "topic of it | economy | album star | goal", "a label | growth | actor | race", "pig")
WHOLE = ("the news of | text {text} {slots} label | market | song | team", "topic of it | {slots} {text} It was | economy | film | goal")


def words_of(*said):
    return dict(zip(LABELS, said, strict=True))


def words(*said):
    return {f"label_words.{label}": word for label, word in zip(LABELS, said, strict=True)}


TEXTS = ["shares of the bank", "the coach of a team"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def filling(llama, data, lines=LINES, fills=("label_words",), **changes):
    """Return the config of a run in which the first restart is taken, so that it ends in what was filled."""
    mentor = {"mentor__name": "scripted", "mentor__fills": list(fills), "accept__rule": "always_first"}
    if changes.get("mentor__name", "scripted") == "scripted":  # nobody else reads them
        mentor["mentor__texts"] = list(lines)
    return config(llama, data, **{**mentor, **changes})


def test_a_run_ends_in_what_was_filled(llama, data, tmp_path):
    result = maao.run(filling(llama, data), tmp_path / "run")
    assert result.history[1].advice.proposals[1].fields == words("economy", "album star", "goal")
    assert [r.reason.split(":")[0] for r in result.history[3].advice.rejected] == ["it has 0 parts behind the prompt, and 3 were asked for"]
    assert FRAME in result.params
    assert result.filled == (words("growth", "actor", "race") if result.chosen.index >= 3 else words("market", "song", "team"))


def test_it_is_repeated_resumed_and_replayed_bit_for_bit(llama, data, tmp_path):
    made = filling(llama, data, WHOLE, ("template", "label_words"), plan__rounds=1)
    result = maao.run(made, tmp_path / "run")
    assert digests(maao.run(made, tmp_path / "again")) == digests(result)
    with pytest.raises(KeyboardInterrupt):
        maao.run(made, tmp_path / "stopped", watch=StopAt(2))
    assert digests(maao.resume(tmp_path / "stopped")) == digests(result)
    assert maao.replay(tmp_path / "run").equal


def test_a_chosen_frame_predicts_as_a_config_that_says_the_same(llama, data, tmp_path):
    result = maao.run(filling(llama, data, WHOLE, ("template", "label_words"), plan__rounds=1), tmp_path / "run")
    assert result.filled == {"template": "text {text} {slots} label", **words("market", "song", "team")}
    said = {label: result.filled[f"label_words.{label}"] for label in LABELS}
    settings = {"model__template": result.filled["template"], "model__label_words": said, "mentor__name": "none"}
    plain = maao.run(config(llama, data, **settings), tmp_path / "plain")
    problem = plain._tuned(plain.params).problem
    ours = [list(p.probabilities.values()) for p in maao.load(tmp_path / "run").predict(TEXTS)]
    theirs = problem.probabilities({"prompt": result.params["prompt"]}, [Example({"text": text}, "") for text in TEXTS])
    assert torch.equal(torch.tensor(ours), theirs)


def test_exports_stand_in_the_chosen_frame(llama, data, tmp_path):
    result = maao.run(filling(llama, data, WHOLE, ("template", "label_words"), plan__rounds=1), tmp_path / "run")
    result.save(tmp_path / "tensor", "tensor")
    assert written(tmp_path / "tensor").probabilities({"text": TEXTS[0]}) == pytest.approx(
        result.predict(TEXTS[:1])[0].probabilities, abs=1e-5
    )
    result.save(tmp_path / "text", "text")
    about = json.loads((tmp_path / "text" / "maao.json").read_text(encoding="utf-8"))
    assert {"template": about["template"], **words(*about["label_words"].values())} == result.filled
    with pytest.raises(ConfigError, match="slots"):
        result.save(tmp_path / "peft", "peft")


def test_the_report_says_what_was_filled(llama, data, tmp_path):
    result = maao.run(filling(llama, data, plan__rounds=1), tmp_path / "run")
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report(result))
    told = console.export_text()
    assert "the news of | business: market" in told
    filled = "label_words.business = 'market', label_words.music = 'song', label_words.sport = 'team'"
    assert f"Filled beside the chosen prompt: {filled}." in told


def test_a_language_model_fills_in_a_race(llama, data, tmp_path):
    replies = [f"- {LINES[0]}\n- {LINES[1]}"]
    settings = {
        "mentor__fills": ["label_words"],
        "mentor__chat__replies": replies,
        "mentor__chat__provider": "scripted",
    }
    result = maao.run(config(llama, data, **settings), tmp_path / "run")
    first, second = (r.advice for r in result.history if r.leg.ask)
    assert [p.fields for p in first.proposals] == [words("market", "song", "team"), words("economy", "album star", "goal")]
    assert {r.reason for r in second.rejected} == {"tried before"}
    assert maao.replay(tmp_path / "run").equal


def test_random_text_draws_words_near_the_own_ones(llama, data, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("The coach of a team said so. Shares | of the bank fell again today.", encoding="utf-8")
    settings = {"mentor__name": "random_text", "mentor__corpus": str(corpus)}
    result = maao.run(filling(llama, data, model__label_words=words_of("market", "song", "team"), **settings), tmp_path / "run")
    proposals = [p for r in result.history for p in r.advice.proposals]
    assert proposals and all(p.fields.keys() == words("", "", "").keys() for p in proposals)
    assert len({tuple(p.fields.values()) for p in proposals}) > 1
    assert maao.replay(tmp_path / "run").equal


def test_random_text_draws_what_stands_around_text_and_prompt(llama, data, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("The coach of a team said so. 12 34 56 78.", encoding="utf-8")
    settings = {"mentor__name": "random_text", "mentor__corpus": str(corpus), "plan__proposals": 8}
    result = maao.run(filling(llama, data, fills=["template"], model__template="Now: {text} {slots} Topic:", **settings), tmp_path / "run")
    drawn = {p.fields["template"] for r in result.history for p in r.advice.proposals}
    parts = {re.fullmatch(r"(.*?) ?\{text\} (.*?) ?\{slots\} ?(.*)", template).groups() for template in drawn}
    words = {"", *(f"{word}:" for word in "The coach of a team said so".split())}
    for place, own in enumerate(("Now:", "", "Topic:")):
        seen = {part[place] for part in parts}
        assert {own, ""} <= seen and len(seen) > 2 and seen <= words | {own}
    assert maao.replay(tmp_path / "run").equal


def test_interpolation_keeps_the_words_that_were_proposed(llama, data, tmp_path):
    result = maao.run(filling(llama, data, accept__rule="interpolate", accept__inner="always_first", plan__rounds=1), tmp_path / "run")
    assert result.filled["label_words.sport"] == "team"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"mentor__name": "random_restart"},
            r"'mentor\.fills' would be ignored, since .* scripted, person, language_model, random_text read it",
        ),
        ({"mentor__name": "language_model", "mentor__style": "completion"}, r"mentor\.style = 'chat', or drop it"),
        ({"mentor__name": "language_model", "mentor__wording": "chat"}, "use 'guided'"),
        ({"problem": "function"}, r"mentor\.fills is for problems of language"),
        ({"model__name": "packaged:emoji-vit", "model__template": "{slots} {class}."}, r"mentor\.fills is for problems of language"),
        ({"mentor__name": "language_model", "mentor__mix": {"name": "perturb"}}, "jumps from points in other templates"),
        ({"model__label_words": {"business": "a|b", "music": "song", "sport": "team"}}, r"one of them holds a bar: 'a\|b'"),
    ],
)
def test_what_cannot_fill_is_refused_before_a_folder_is_made(llama, data, tmp_path, changes, said):
    data = {"source": "emoji"} if "model__name" in changes else data
    with pytest.raises(ConfigError, match=said):
        maao.run(filling(llama, data, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_trained_head_has_no_label_words(model_folder, data, tmp_path):
    with pytest.raises(ConfigError, match="read by a trained head, which has none"):
        maao.run(filling(model_folder("bert"), data), tmp_path / "run")

"""Whole runs whose mentor says class lines: judged, replayed, gone on with, used, and without any label."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import maao
from maao import run
from maao.build import NO_FOLDS, build
from maao.class_lines import ClassLines
from maao.config import make_config
from maao.core.acceptance import AlwaysFirst, Race, RaceOptions
from maao.errors import ConfigError
from maao.mentors.class_lines.base import LinesOptions
from maao.mentors.context import MentorContext
from maao.problems.lined import LINES, lines_of
from maao.types import Advice, Proposal
from tests.api.small_runs import StopAt, values, write_csv, write_data
from tests.tiny import LABELS, tiny_splits
from tests.tiny_sentence import sentence_folder

GOOD = {
    "examples.business": "shares trade in the market\nthe bank pays profit",
    "examples.music": "the band plays a song\nthe singer tours",
    "examples.sport": "the team won the match\nthe player scored",
}


class Says:
    """Says these lines, each at weight 1, in every round."""

    def __init__(self, codec: Any, *said: dict[str, str]) -> None:
        self.codec, self.said = codec, said

    def propose(self, history: Any, *, count: int, seed: int) -> Advice[Any]:
        return Advice(tuple(Proposal("", self.codec.encode("", fields).params, "script", fields=fields) for fields in self.said[:count]))


def says(*said: dict[str, str]) -> Any:
    return lambda context: Says(context.codec, *said)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sentence_folder(tmp_path_factory.mktemp("encoder"), max_length=12)[0]


def settings(encoder: Path, folder: Path, **data: Any) -> dict[str, Any]:
    parts = {name: path for name, path in write_data(folder).items() if name != "select"}
    return {
        "threads": 1,
        "baselines": [],
        "model": {"kind": "matcher", "name": str(encoder), "wordings": ["{class}"]},
        "data": {**parts, "folds": 2, **data},
        "mentor": {"name": "custom"},
        "plan": {"rounds": 1, "steps": 8, "store_every": 4},
        "accept": {"rule": "race", "steps": 8},
    }


def test_a_run_with_lines_is_judged_replayed_and_used(encoder: Path, tmp_path: Path) -> None:
    mentor = says(GOOD, {**GOOD, "lines_weight": "0.25"})
    result = run(make_config(settings(encoder, tmp_path)), tmp_path / "run", mentor=mentor)
    asked = next(r for r in result.history if r.leg.ask)
    assert len(asked.verdict.considered) == 3 and {c.age for c in asked.verdict.considered} == {8}
    assert asked.cost.model_tokens > 0
    assert maao.replay(tmp_path / "run", mentor=mentor).equal
    loaded = maao.load(tmp_path / "run")
    assert loaded.predict(["the team won"])[0].label in ("business", "music", "sport")
    first = asked.advice.proposals[0].params
    assert {name for name in first if name.endswith(LINES)} == {LINES, f"fold0.{LINES}", f"fold1.{LINES}"}
    assert 0 < max(line.weight for line in lines_of(first)) <= 1.0


def test_a_stopped_run_with_lines_goes_on_to_the_same_bits(encoder: Path, tmp_path: Path) -> None:
    config = make_config({**settings(encoder, tmp_path), "accept": {"rule": "always_first"}})
    whole = run(config, tmp_path / "whole", mentor=says(GOOD))
    assert LINES in whole.history[-1].state.params
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "part", mentor=says(GOOD), watch=StopAt(3))
    assert maao.resume(tmp_path / "part", mentor=says(GOOD)).digest == whole.digest


def test_without_labels_the_first_lines_are_taken_unjudged_and_walked(encoder: Path, tmp_path: Path) -> None:
    config = make_config({**settings(encoder, tmp_path, shots=0), "mentor": {"name": "class_wordings"}})
    parts = build(config)
    assert isinstance(parts.accept, AlwaysFirst) and [leg.ask for leg in parts.plan] == [False, True, False]
    result = run(config, tmp_path / "run")
    assert result.status == "finished"
    assert result.status_reason == "no label was given: the mentor's first lines were taken as they came, and nothing could be checked"
    assert LINES in result.params and result.chosen.index == len(result.history) - 1
    own = run(make_config(settings(encoder, tmp_path, shots=0)), tmp_path / "own", mentor=says(GOOD))
    assert [line.text for line in own.lines if line.label == "music"] == GOOD["examples.music"].split("\n")
    assert result.finals["chosen"].score.loss != result.finals["untuned"].score.loss
    assert maao.replay(tmp_path / "run").equal


def test_without_labels_a_mentor_of_ones_own_is_asked_where_a_prompt_is_tuned_too(encoder: Path, tmp_path: Path) -> None:
    own = settings(encoder, tmp_path, shots=0, select="cross_validation")
    config = make_config({**own, "model": {"kind": "matcher", "name": str(encoder), "method": "coop"}})
    result = run(config, tmp_path / "run", mentor=says(GOOD))
    assert result.status_reason == "no label was given: the mentor's first lines were taken as they came, and nothing could be checked"
    assert {line.text for line in result.lines if line.label == "music"} == set(GOOD["examples.music"].split("\n"))


def test_without_labels_and_without_a_reply_nothing_is_tuned(encoder: Path, tmp_path: Path) -> None:
    class Silent:
        def propose(self, history: Any, *, count: int, seed: int) -> Advice[Any]:
            return Advice()

    config = make_config({**settings(encoder, tmp_path, shots=0), "mentor": {"name": "class_wordings"}})
    from maao.mentors.class_lines import controls

    saved = controls.ClassWordingsOptions.build
    controls.ClassWordingsOptions.build = lambda self, run: Silent()  # type: ignore[method-assign,assignment,return-value]
    try:
        result = run(config, tmp_path / "run")
    finally:
        controls.ClassWordingsOptions.build = saved  # type: ignore[method-assign]
    assert result.finals["chosen"].score.loss == result.finals["untuned"].score.loss


def test_what_usually_goes_with_lines_is_filled_in(encoder: Path, tmp_path: Path) -> None:
    own = {key: value for key, value in settings(encoder, tmp_path).items() if key not in ("plan", "accept")}
    config = make_config({**own, "mentor": {"name": "class_wordings"}})
    plan, accept = config.plan.options, config.accept.options
    assert (plan.rounds, plan.steps, plan.clues, accept.steps, accept.alone, accept.margin_share) == (1, 100, True, 25, 100, 0)
    parts = build(make_config({**own, "mentor": {"name": "class_wordings"}, "accept": {"margin_share": 0.4}}))
    rule = parts.accept
    assert isinstance(rule, Race) and rule.alone == 100 and rule.share == pytest.approx(0.4 / 6)  # six labels a class
    # against none; a round that replaces lines must win by the margin alone
    assert rule.asks_share(parts.problem.initial(0)) and not rule.asks_share(parts.codec.encode("", GOOD).params)
    no_share, no_alone = map(NO_FOLDS.format, ("margin_share", "alone"))
    judged = {**own, "data": write_data(tmp_path), "mentor": {"name": "class_wordings"}}
    given = {**judged, "data": {**judged["data"], "select_shots": 2}, "accept": {"margin_share": 0.4}}
    split = build(make_config(given))
    assert isinstance(split.accept, Race) and split.accept.share == split.accept.alone == 0
    assert no_share in split.notes and no_alone not in split.notes
    assert no_alone in build(make_config({**given, "accept": {"alone": 9}})).notes
    blended = {"rule": "interpolate", "inner": "race", "steps": 2, "margin_share": 0.4}
    assert no_share in build(make_config({**given, "accept": blended})).notes
    assert no_share not in (*parts.notes, *build(make_config({**given, "accept": {"margin": 0.1}})).notes)


def test_what_usually_goes_with_lines_follows_from_the_kind_of_model() -> None:
    def usual(kind: str, mentor: str, **given: Any) -> tuple[int, int, int]:
        told = {"model": {"kind": kind}, "mentor": {"name": mentor}, "data": {"source": "packaged:bbc-headlines", "shots": 2}, **given}
        config = make_config(told)
        return config.plan.options.rounds, config.plan.options.steps, config.accept.options.steps

    assert usual("head", "class_wordings") == (1, 100, 100)
    assert usual("decoder", "class_wordings") == (1, 100, 10)
    for kind in ("masked", "encoder_decoder", "auto"):  # not measured; auto may be any
        assert usual(kind, "class_names") == (3, 30, 10)
    assert usual("head", "custom") == usual("head", "none") == (3, 30, 10)  # prompts may be proposed, or nothing
    assert usual("head", "class_wordings", plan={"steps": 7}, accept={"steps": 5}) == (1, 7, 5)
    assert usual("matcher", "class_wordings") == (1, 100, 25)
    # lines of pictures are no examples: how they are judged was measured apart
    own = {
        "model": {"name": "packaged:emoji-vit", "method": "class_residual"},
        "mentor": {"name": "class_wordings"},
        "data": {"source": "emoji"},
    }
    accept = make_config(own).accept.options
    assert isinstance(accept, RaceOptions) and (accept.steps, accept.alone, accept.margin_share) == (25, 0, 0.4)


def test_a_head_believes_lines_by_half_so_each_weighs_more() -> None:
    def weights(kind: str, **given: Any) -> list[float]:
        data = {"source": "packaged:bbc-headlines", "shots": 2}
        options = make_config({"model": {"kind": kind}, "mentor": {"name": "class_wordings", **given}, "data": data}).mentor.options
        assert isinstance(options, LinesOptions) and set(options.model_fields_set) == set(given)
        return options.weights

    assert (weights("head"), weights("decoder"), weights("matcher")) == ([1.0], [0.5], [0.5])
    assert weights("head", weights=[0.25]) == [0.25]


def test_a_mentor_of_lines_is_refused_where_nothing_reads_them(encoder: Path, tmp_path: Path) -> None:
    own = settings(encoder, tmp_path)
    with pytest.raises(ConfigError, match=r"model\.method = 'zero_shot' trains nothing, so class lines change nothing"):
        build(
            make_config(
                {
                    **own,
                    "model": {**own["model"], "method": "zero_shot"},
                    "data": write_data(tmp_path),
                    "mentor": {"name": "class_wordings"},
                }
            )
        )
    with pytest.raises(ConfigError, match="has nothing to propose but class lines"):
        build(make_config({**own, "mentor": {"name": "perturb"}}))


def test_the_context_of_a_mentor_of_ones_own_takes_lines_in_other_kinds(encoder: Path, tmp_path: Path) -> None:
    seen: list[MentorContext] = []

    def make(context: MentorContext) -> Says:
        seen.append(context)
        return Says(context.codec, GOOD)

    config = values(
        encoder, write_data(tmp_path), model={"kind": "matcher", "name": str(encoder), "method": "coop"}, mentor={"name": "custom"}
    )
    result = run(make_config(config), tmp_path / "run", mentor=make)
    assert "examples.music" in seen[0].codec.fields
    assert any(LINES in p.params and "prompt" in p.params for r in result.history for p in r.advice.proposals)


def test_lines_are_exported_with_their_weights_and_what_is_exported_needs_none(encoder: Path, tmp_path: Path) -> None:
    config = make_config({**settings(encoder, tmp_path, shots=0), "mentor": {"name": "class_wordings", "examples": 2, "descriptions": 1}})
    result, out = run(config, tmp_path / "run"), tmp_path / "out"
    paths = {path.name for path in result.save(out, "classes")}
    assert paths == {"classes.safetensors", "labels.json", "use_classes.py", "text_feature.py", "USE.md", "lines.json"}
    told = json.loads((out / "lines.json").read_text(encoding="utf-8"))
    assert ClassLines.from_json(told, result.environment["labels"]) == result.lines == lines_of(result.params)
    assert {label: len(own["examples"]) + len(own["descriptions"]) for label, own in told.items()} == dict.fromkeys(LABELS, 3)
    held = load_file(out / "classes.safetensors")
    assert set(held) == {"weight", "bias", "scale"}
    result.save(tmp_path / "tensor", "tensor")
    assert LINES not in load_file(tmp_path / "tensor" / "prompt.safetensors")
    assert (tmp_path / "tensor" / "lines.json").is_file()


def test_a_run_goes_on_with_the_lines_of_the_one_that_it_begins_from(encoder: Path, tmp_path: Path) -> None:
    said = {"name": "class_wordings", "examples": 2, "descriptions": 1}
    first = run(make_config({**settings(encoder, tmp_path, shots=0), "mentor": said}), tmp_path / "first")
    own = {key: value for key, value in settings(encoder, tmp_path, test=None).items() if key not in ("accept", "plan")}
    rows = [(e.fields["text"], e.label) for e in tiny_splits().train if e.label != "sport"]
    own["data"]["train"] = str(write_csv(tmp_path / "two.csv", rows))
    config = make_config({**own, "mentor": {"name": "none"}, "plan": {"rounds": 0, "steps": 2}, "from_run": str(first.folder)})
    parts = build(config)
    problem, begun = parts.problem, parts.problem.initial(0)
    kept = [line for line in first.lines if line.label != "sport"]
    assert list(lines_of(begun)) == kept
    assert not [name for name in begun if name.startswith("fold") and name.endswith(LINES)]  # a member that judges begins by itself
    without = {name: value for name, value in begun.items() if not name.endswith(LINES)}
    assert float(problem.loss(begun, problem.batch(0, 0))) != float(problem.loss(without, problem.batch(0, 0)))
    told = f"{len(kept)} lines of that run train the point that is used, and none of those that judge it"
    assert told in parts.notes
    result = run(config, tmp_path / "second")
    assert list(result.lines) == kept and maao.replay(tmp_path / "second").equal


def test_lines_of_another_run_that_repeat_an_example_here_are_left_out_and_told(encoder: Path, tmp_path: Path) -> None:
    first = run(make_config(settings(encoder, tmp_path, shots=0)), tmp_path / "first", mentor=says(GOOD))
    own = {key: value for key, value in settings(encoder, tmp_path, test=None).items() if key != "accept"}
    rows = [(e.fields["text"], e.label) for e in tiny_splits().train] + [("The band plays a song", "music")]
    own["data"]["train"] = str(write_csv(tmp_path / "more.csv", rows))
    config = make_config({**own, "mentor": {"name": "none"}, "plan": {"rounds": 0, "steps": 2}, "from_run": str(first.folder)})
    parts = build(config)
    assert "of the lines of that run, 1 line left out that repeats an example of train" in parts.notes
    assert "the band plays a song" not in [line.text for line in lines_of(parts.problem.initial(0))]


def test_lines_of_a_file_are_walked_on_without_labels_and_a_mentor_repeats_none(encoder: Path, tmp_path: Path) -> None:
    file = tmp_path / "lines.json"
    file.write_text(json.dumps({label: GOOD[f"examples.{label}"].split("\n") for label in LABELS}), encoding="utf-8")
    own = {key: value for key, value in settings(encoder, tmp_path, shots=0, lines=str(file)).items() if key != "accept"}
    config = make_config({**own, "mentor": {"name": "none"}, "plan": {"rounds": 0, "steps": 4}})
    result = run(config, tmp_path / "run")
    assert result.status_reason == "no label was given: the lines of data.lines were taken as they are, and nothing could be checked"
    assert result.chosen.state.step == 4 and result.finals["chosen"].score.loss != result.finals["untuned"].score.loss
    said = {"name": "class_wordings"}
    unasked = build(make_config({**own, "mentor": said, "plan": {"rounds": 0, "steps": 4}}))
    assert sum(leg.steps for leg in unasked.plan) == 4 and not any(leg.ask for leg in unasked.plan)
    asking = build(make_config({**settings(encoder, tmp_path, shots=0, lines=str(file)), "mentor": said}))
    encoded = asking.codec.encode("", {"examples.sport": "The team won the match\nnew words"})
    assert encoded.note == "1 line left out that repeats a line of data.lines"
    assert [line.text for line in lines_of(encoded.params)] == ["new words"]


@pytest.mark.parametrize("kind", ["label words", "head"])
def test_lines_train_language_models_too_and_their_walks_are_averaged(kind: str, llama: Path, tmp_path: Path) -> None:
    own = {"kind": "head", "head_start": "class_texts_and_prototypes"} if kind == "head" else {}
    changes: dict[str, Any] = {f"model__{name}": value for name, value in own.items()}
    changes |= {"mentor": {"name": "class_wordings", "examples": 2, "descriptions": 1}, "accept": {"steps": 2, "keep": "uniform"}}
    data = {name: path for name, path in write_data(tmp_path).items() if name != "select"}
    config = make_config(values(llama, {**data, "select": "cross_validation", "folds": 2}, **changes))
    result = run(config, tmp_path / "run")
    proposed = [p for r in result.history for p in r.advice.proposals]
    assert proposed and all({LINES, f"fold0.{LINES}", f"fold1.{LINES}", "prompt"} <= set(p.params) for p in proposed)
    assert result.walks > 1 and result.history[-1].leg.closing
    assert maao.replay(tmp_path / "run").equal
    assert maao.load(tmp_path / "run").predict(["the team won"])[0].probabilities


@pytest.mark.parametrize("kind", ["label words", "head", "matcher"])
def test_lines_of_every_kind_of_model_may_be_judged_by_themselves(kind: str, encoder: Path, llama: Path, tmp_path: Path) -> None:
    own = settings(encoder, tmp_path) if kind == "matcher" else values(llama, {**settings(encoder, tmp_path)["data"]}, plan__rounds=1)
    own |= {"mentor": {"name": "custom"}, "accept": {"rule": "race", "steps": 2, "alone": 2}, "plan": {"rounds": 1, "steps": 2}}
    own["model"] = {**own["model"], **({"kind": "head"} if kind == "head" else {})}
    own["data"] = {**own["data"], "select": "cross_validation"}
    result = run(make_config(own), tmp_path / "run", mentor=says(GOOD))
    asked = next(r for r in result.history if r.leg.ask)
    assert "trained on no label log-loss " in asked.verdict.reason
    assert {line.weight for line in lines_of(asked.advice.proposals[0].params)} == {1.0}
    assert maao.replay(tmp_path / "run", mentor=says(GOOD)).equal


@pytest.mark.parametrize("kind", ["matcher", "label words"])
def test_the_mentor_is_told_what_the_lines_of_the_point_weigh(kind: str, encoder: Path, llama: Path, tmp_path: Path) -> None:
    own = {**settings(encoder, tmp_path), "mentor": {"name": "class_wordings", "examples": 2, "descriptions": 1}}
    if kind == "label words":
        own |= {"model": values(llama, {})["model"], "data": {**own["data"], "select": "cross_validation"}}
    own |= {"plan": {"rounds": 1, "steps": 2, "clues": True}, "accept": {"rule": "always_first"}}
    last = run(make_config(own), tmp_path / "run").history[-1]
    told = [(clue.label, clue.text, clue.weight) for clue in last.clues.line_weights]
    assert len(told) == 9 and told == [(line.label, line.text, line.weight) for line in lines_of(last.state.params)]

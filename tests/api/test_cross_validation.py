"""No label is lost to choosing: whole runs whose labels all train, and are judged out of fold."""

from __future__ import annotations

import io
import json
import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import maao
from maao import choices, run
from maao.baselines.headroom import headroom
from maao.baselines.outcome import figures
from maao.baselines.peft import Peft
from maao.build import build
from maao.compare.rows import curve
from maao.config import make_config
from maao.errors import ConfigError
from maao.evaluation.undecided import confidence_of
from maao.members import fold_member, full_member
from maao.optimizers.serializer import TorchSerializer
from maao.protocols import Params
from maao.report.run import report
from maao.result import Result
from maao.runner import find_lr
from maao.store.digest import params_digest
from maao.types import Advice, Example, Proposal
from tests.api.small_runs import StopAt, digests, pairs, values, write_csv, write_data
from tests.tiny_sentence import sentence_folder

FOLDED = {"data__select": "cross_validation", "data__folds": 3}
PLAIN = {"mentor": {"name": "none"}, "plan": {"rounds": 0, "steps": 4, "store_every": 2}, "stage__batch_size": 100}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sentence_folder(tmp_path_factory.mktemp("encoder"), max_length=12)[0]


def digest(params: Params) -> str:
    return params_digest(params, TorchSerializer())


def tuned(model: Path, data: dict[str, Any], folder: Path, /, **changes: Any) -> Result:
    return run(make_config(values(model, data, **deepcopy({**PLAIN, **changes}))), folder)


def matcher(encoder: Path, method: str) -> dict[str, Any]:
    return {"model": {"kind": "matcher", "name": str(encoder), "method": method, "wordings": ["{class}"]}}


def examples_of(result: Result, fold: int, folder: Path) -> dict[str, str]:
    """Return the data of a run that walks on what a fold leaves and is judged by it."""
    splits = build(result.config).examples
    folder.mkdir()

    def written(name: str, kept: list[Example]) -> str:
        return str(write_csv(folder / f"{name}.csv", [(example.fields["text"], example.label) for example in kept]))

    left = [example for example, own in zip(splits.train, splits.folds, strict=True) if own != fold]
    out = [example for example, own in zip(splits.train, splits.folds, strict=True) if own == fold]
    return {"train": written("train", left), "select": written("select", out), "test": str(result.config.data.options.test)}


MATCHERS = [name for name in choices.names("method") if choices.load("method", name).of_matchers]
WALKED = ("coop", "lp++", "class_residual")
KINDS: dict[str, dict[str, Any]] = {
    **{name: {} for name in WALKED},
    "decoder": {},
    "balanced weights": {"model__class_weights": "balanced", "model__method": "p_tuning"},
    "head": {"model__kind": "head", "model__template": "{text} {slots}"},
    "head from data": {"model__kind": "head", "model__template": "{text} {slots}", "model__head_start": "logistic_regression"},
    "held head": {
        "model__kind": "head",
        "model__template": "{text} {slots}",
        "model__head_start": "class_texts_and_prototypes",
        "model__head_anchor": 5.0,
    },
    "calibrated": {"model__calibration": "batch"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_member_walks_as_a_run_of_its_own_and_is_judged_by_what_it_has_not_seen(
    kind: str, encoder: Path, llama: Path, tmp_path: Path
) -> None:
    changes = {**(matcher(encoder, kind) if kind in MATCHERS else {}), **KINDS[kind], "plan__clues": False}
    model, data = (encoder if kind in MATCHERS else llama), write_data(tmp_path)
    if kind in ("class_residual", "balanced weights"):  # lines train in every member, and are judged by none
        (tmp_path / "lines.json").write_text(json.dumps({"music": ["a song of the year", "the album"], "sport": ["who won"]}))
        changes["data__lines"] = str(tmp_path / "lines.json")
    folded = tuned(model, data, tmp_path / "run", **changes, **FOLDED)
    apart = tuned(model, data, tmp_path / "apart", **changes)
    assert len(folded.history) == len(apart.history)
    for own, other in zip(folded.history, apart.history, strict=True):
        assert digest(full_member(own.state.params)) == digest(other.state.params)
        assert [o.loss for o in own.observations] == [o.loss for o in other.observations]
    assert folded.finals["untuned"].score.loss == apart.finals["untuned"].score.loss

    alone = [tuned(model, examples_of(folded, n, tmp_path / f"data{n}"), tmp_path / f"fold{n}", **changes) for n in range(3)]
    for i, own in enumerate(folded.history):
        walked = [one.history[i] for one in alone]
        assert [digest(fold_member(own.state.params, n)) for n in range(3)] == [digest(one.state.params) for one in walked]
        counts = [one.score.num_examples for one in walked]
        assert own.score.num_examples == sum(counts) == len(pairs("train"))
        pooled = math.fsum(one.score.loss * count for one, count in zip(walked, counts, strict=True)) / sum(counts)
        assert own.score.loss == pytest.approx(pooled, rel=1e-5)
        right = sum(round(one.score.metrics["accuracy"] * count) for one, count in zip(walked, counts, strict=True))
        assert own.score.accuracy == right / sum(counts)


@pytest.mark.parametrize("method", [name for name in MATCHERS if name not in WALKED])
def test_no_method_begins_at_what_it_is_judged_by(method: str, encoder: Path, tmp_path: Path) -> None:
    changes = deepcopy({**PLAIN, **matcher(encoder, method)})
    folded = build(make_config(values(encoder, write_data(tmp_path), **changes, **FOLDED)))
    begun = folded.problem.initial(0)
    loss = [member.loss(fold_member(begun, n), member.batch(0, 0)) for n, member in enumerate(folded.problem.members)]
    for n in range(3):
        left = [example for example, own in zip(folded.examples.train, folded.examples.folds, strict=True) if own != n]
        file = write_csv(tmp_path / f"{n}.csv", [(example.fields["text"], example.label) for example in left])
        data = {"train": str(file), "select": str(tmp_path / "select.csv"), "test": str(tmp_path / "test.csv")}
        alone = build(make_config(values(encoder, data, **changes))).problem
        assert digest(alone.initial(0)) == digest(fold_member(begun, n))
        assert float(alone.loss(alone.initial(0), alone.batch(0, 0))) == float(loss[n])


def test_a_run_is_replayed_resumed_and_used_by_the_point_that_all_labels_tuned(llama: Path, tmp_path: Path) -> None:
    config = make_config(values(llama, write_data(tmp_path), **FOLDED))  # with a mentor, a race and clues
    result = run(config, tmp_path / "run")
    assert any(r.verdict.considered for r in result.history) and any(r.advice.proposals for r in result.history)
    for proposal in (p for r in result.history for p in r.advice.proposals):
        assert {digest(fold_member(proposal.params, n)) for n in range(3)} == {digest(full_member(proposal.params))}
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "stopped", watch=StopAt(2))
    assert digests(maao.resume(tmp_path / "stopped")) == digests(result)
    assert maao.replay(tmp_path / "run").equal

    assert set(result.params) == {"prompt"}
    assert result.evaluate("select").score.loss == pytest.approx(result.chosen.score.loss, rel=1e-6)
    assert result.evaluate("test").score.loss == pytest.approx(result.finals["chosen"].score.loss, rel=1e-6)  # scored beside others there
    loaded = maao.load(tmp_path / "run")
    assert loaded.predict(["a match"])[0].probabilities == result.predict(["a match"])[0].probabilities
    loaded.save(tmp_path / "out")
    texts = {text for text, _ in pairs("train")}
    assert all(one.example.fields["text"] in texts for one in loaded.mistakes())


def test_a_mentor_is_told_errors_on_examples_that_were_not_trained_on(llama: Path, tmp_path: Path) -> None:
    result = tuned(llama, write_data(tmp_path), tmp_path / "run", **FOLDED, stage__lr=0.3, plan__steps=20, plan__store_every=20)
    for r in result.history:
        wrong = sum(one.count for one in r.clues.confusions)
        assert wrong == round((1 - (r.score.accuracy or 0)) * len(pairs("train")))


def test_costs_count_every_member(llama: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path)
    folded, apart = (tuned(llama, data, tmp_path / name, **own, plan__clues=False) for name, own in (("run", FOLDED), ("apart", {})))
    one, other = folded.history[1].cost, apart.history[1].cost
    assert one.gradient_steps == other.gradient_steps == 2 and one.selection_evals == 1
    walked = [sum(o.cost.model_tokens for o in result.history[1].observations) for result in (folded, apart)]
    assert walked[0] == pytest.approx(3 * walked[1], rel=0.05)  # all labels, and three folds of two thirds of them
    assert folded.cost.scored_examples - apart.cost.scored_examples == 3 * (len(pairs("train")) - len(pairs("select")))


def test_rates_are_searched_and_walks_are_ended_out_of_fold(encoder: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path)
    changes = {**matcher(encoder, "linear_probe"), **deepcopy(PLAIN), **FOLDED, "stage__lr_grid": [0.001, 0.1], "stage__lr_steps": 3}
    search = find_lr(make_config(values(encoder, data, **changes)))
    at = [
        tuned(encoder, data, tmp_path / str(rate), **matcher(encoder, "linear_probe"), **FOLDED, stage__lr=rate, plan__steps=3)
        for rate in (0.001, 0.1)
    ]
    assert [trial.loss for trial in search.trials] == [result.history[-1].score.loss for result in at]
    ended = tuned(
        encoder, data, tmp_path / "ended", **matcher(encoder, "linear_probe"), **FOLDED, plan__steps=40, plan__patience=1, stage__lr=1.0
    )  # fmt: skip
    assert "early stopping" in ended.status_reason and len(ended.history) < 21


@pytest.mark.parametrize("name", ["perturb", "random_restart", "reproject", "reset"])
def test_a_control_restarts_all_members_alike(name: str, llama: Path, tmp_path: Path) -> None:
    changes = {**FOLDED, "mentor": {"name": name}, "plan__rounds": 1, "plan__first": "walk", "accept": {"rule": "always_first"}}
    result = run(make_config(values(llama, write_data(tmp_path), **changes)), tmp_path / "run")
    (asked,) = [r for r in result.history if r.leg.ask]
    (proposal, *_) = asked.advice.proposals
    jumps = [proposal.params, *(fold_member(proposal.params, n) for n in range(3))]
    if name == "perturb":  # each from its own point, in one direction
        best = maao.core.loop.best_round(result.history[: asked.index]).state.params
        here = [best, *(fold_member(best, n) for n in range(3))]
        ways = [(jump["prompt"] - own["prompt"]) / own["prompt"].pow(2).mean().sqrt() for jump, own in zip(jumps, here, strict=True)]
        assert all(torch.allclose(way, ways[0], atol=1e-4) for way in ways)
    elif name != "reset":
        assert len({digest({"prompt": jump["prompt"]}) for jump in jumps}) == 1
    assert maao.replay(tmp_path / "run").equal


def test_a_mentor_of_ones_own_that_names_the_plain_params_restarts_all_members(llama: Path, tmp_path: Path) -> None:
    class Zeros:
        def propose(self, history: Any, *, count: int, seed: int) -> Advice[Params]:
            return Advice((Proposal("zeros", {"prompt": torch.zeros(4, 32)}),))

    changes = {**FOLDED, "accept": {"rule": "always_first"}, "plan__rounds": 1, "plan__steps": 1, "plan__store_every": 1}
    settings = values(llama, write_data(tmp_path), **changes)
    settings.pop("mentor")
    result = run(make_config(settings), tmp_path / "run", mentor=Zeros())
    start = result.history[-1].state.start
    assert set(start) == {"prompt", "fold0.prompt", "fold1.prompt", "fold2.prompt"} and not any(value.any() for value in start.values())


def test_proposals_that_fill_the_template_are_read_by_all_members(llama: Path, tmp_path: Path) -> None:
    lines = ["1. the news of | {text} {slots} It was\n2. topic of it | {slots} {text} Topic:"] * 3
    mentor = {"fills": ["template"], "retries": 0, "chat": {"provider": "scripted", "replies": lines}}
    result = run(
        make_config(values(llama, write_data(tmp_path), **FOLDED, mentor=mentor, accept={"rule": "always_first"})), tmp_path / "run"
    )
    assert result.filled["template"] and maao.replay(tmp_path / "run").equal
    whole = result.history[-1].state.params
    assert len({digest({"frame": fold_member(whole, n)["frame"]}) for n in range(3)}) == 1


def test_one_label_a_class_is_held_out_in_turn(encoder: Path, tmp_path: Path) -> None:
    data = {**write_data(tmp_path), "shots": 1}
    for method in ("lp++", "coop"):
        result = tuned(encoder, data, tmp_path / method, **matcher(encoder, method), **FOLDED)
        assert result.chosen.score.num_examples == 3 and math.isfinite(result.history[-1].score.loss)


def test_examples_at_hand_are_kept_with_their_folds(llama: Path, tmp_path: Path) -> None:
    settings = {"model.num_virtual_tokens": 4, "stage.batch_size": 8, "plan.store_every": 2, "data.folds": 2}
    result = maao.tune(
        model=str(llama),
        train=pairs("train"),
        select="cross_validation",
        mentor="none",
        rounds=0,
        steps=4,
        seed=3,
        folder=tmp_path / "run",
        settings=settings,
    )
    assert result.config.data.options.is_cross_validated and "fold1.prompt" in result.chosen.state.params
    assert maao.replay(tmp_path / "run").equal and any("cross-validation: 2 folds" in note for note in result.environment["notes"])


def test_what_is_left_undecided_is_chosen_out_of_fold(encoder: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path)
    asked = {**matcher(encoder, "class_residual"), **FOLDED, "predict__coverage": 0.75, "predict__confidence": "energy"}
    result = tuned(encoder, data, tmp_path / "run", **asked)
    held, judged = result.thresholds, result.judged("select")
    assert held is not None and held.least is not None and judged.examples == tuple(build(result.config).examples.train)
    energies = sorted(confidence_of("energy", judged.class_scores), reverse=True)
    assert (held.num_examples, held.num_decided, held.least) == (18, 14, energies[13])
    found = maao.load(tmp_path / "run").evaluate("select").decided
    assert found is not None and (found.num_decided, found.accuracy) == (14, held.accuracy)
    with pytest.raises(ConfigError, match=r"predict\.coverage and predict\.accuracy need labelled examples that choose"):
        tuned(encoder, {**data, "shots": 0}, tmp_path / "none", **asked)


def test_stages_that_would_mix_members_are_refused(llama: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path)
    for changes, told in (({"stage__optimizer": "LBFGS"}, "LBFGS would mix"), ({"stage": {"kind": "cma_es"}}, "searches for one")):
        with pytest.raises(ConfigError, match=told):
            run(make_config(values(llama, data, **FOLDED, **changes)), tmp_path / "run")


def test_a_file_of_that_name_is_no_selection_file(encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "cross_validation").write_text("text,label\n")
    with (tmp_path / "c.toml").open("w") as file:
        file.write('[data]\nselect = "cross_validation"\n')
    assert maao.read_config(tmp_path / "c.toml").data.options.is_cross_validated


# -- no label at all


def test_without_labels_nothing_is_walked_or_judged_and_the_run_says_so(encoder: Path, tmp_path: Path) -> None:
    data = {**write_data(tmp_path), "shots": 0}
    mentor = {"name": "language_model", "retries": 0, "chat": {"provider": "scripted", "replies": ["- never asked"]}}
    for method, changes in (("class_residual", {}), ("coop", {"mentor": mentor, "plan__rounds": 2})):
        result = tuned(encoder, data, tmp_path / method, **{**matcher(encoder, method), **FOLDED, **changes})
        (only,) = result.history
        assert only.state.step == 0 and only.score.is_unjudged and not only.observations
        assert result.cost.gradient_steps == result.cost.selection_evals == result.cost.llm_calls == 0
        assert result.status_reason == "no label was given: nothing was tuned, and nothing could be checked"
        assert result.finals["chosen"].score.num_examples == len(pairs("test")) and result.environment["majority"] is None
        assert maao.replay(tmp_path / method).equal
        loaded = maao.load(tmp_path / method)
        assert set(loaded.predict(["a match"])[0].probabilities) == {"business", "music", "sport"}
        loaded.save(tmp_path / method / "out")
        assert json.loads((tmp_path / method / "out" / "maao.json").read_text())["select"] == {}
        assert curve(result) == [] and figures(only.score) == {"examples": 0}


def test_classes_alone_are_enough(encoder: Path, llama: Path, tmp_path: Path) -> None:
    data = {"source": "parts", "labels": ["business", "music"]}
    result = tuned(encoder, data, tmp_path / "run", **matcher(encoder, "class_residual"), **FOLDED)
    assert set(result.predict(["a song"])[0].probabilities) == {"business", "music"} and not result.finals
    at_hand = maao.tune(
        model=str(llama), train=[], select="cross_validation", labels=["a", "b"], mentor="none", folder=tmp_path / "hand"
    )  # fmt: skip
    assert len(at_hand.history) == 1 and maao.resume(tmp_path / "hand").digest == at_hand.digest


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model__method": "linear_probe"}, "begins at nothing"),
        ({"model__kind": "head", "model__template": "{text} {slots}"}, "a head begins at nothing"),
        ({"stage__lr_grid": [0.1, 0.01]}, "to try the rates of stage.lr_grid with"),
    ],
)
def test_what_cannot_begin_without_labels_says_so(changes: dict[str, Any], told: str, encoder: Path, llama: Path, tmp_path: Path) -> None:
    own = matcher(encoder, "linear_probe") if "model__method" in changes else {}
    with pytest.raises(ConfigError, match=told):
        tuned(encoder if own else llama, {**write_data(tmp_path), "shots": 0}, tmp_path / "run", **{**own, **changes}, **FOLDED)


def test_a_report_says_where_a_run_was_judged(encoder: Path, tmp_path: Path) -> None:
    result = tuned(encoder, write_data(tmp_path), tmp_path / "run", **matcher(encoder, "linear_probe"), **FOLDED)
    with (out := Console(width=200, file=io.StringIO())).capture() as told:
        out.print(report(result))
    assert "(loss and accuracy out of fold)" in told.get() and " evaluations out of fold, " in told.get() and "on select" not in told.get()


def test_headroom_is_judged_out_of_fold_and_peft_needs_labels_set_apart(llama: Path, tmp_path: Path) -> None:
    config = make_config(values(llama, write_data(tmp_path), **deepcopy(PLAIN), **FOLDED))
    assert headroom(config, starts=2).tuned[0].num_examples == len(pairs("train"))
    pytest.importorskip("peft")
    with pytest.raises(ConfigError, match="labels that are set apart"):
        Peft().run(config, tmp_path / "cell")

"""The end of a run: baselines on its own labels beside what was tuned, kept with it, and what was gained in words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import maao
from maao.baselines import at_end
from maao.baselines.linear_probe import LinearProbe
from maao.build import build
from maao.config import make_config
from maao.errors import ConfigError
from maao.evaluation.beside import Beside, Compared, Gain, gain_over, matched_interval
from maao.evaluation.statistics import exact_mcnemar
from maao.report.html.run_view import Caps, Wanted, run_view
from maao.report.run import report
from maao.report.story import ending_of, story
from maao.runner import resume, run
from tests.api.small_runs import pairs, values, write_data
from tests.tiny_sentence import sentence_folder

CHEAP = ["majority", "zero_shot", "prototypes", "linear_probe"]


def shown(result: maao.Result) -> str:
    console = Console(width=200, record=True, file=StringIO())
    console.print(report(result))
    return console.export_text()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sentence_folder(tmp_path_factory.mktemp("encoder"))[0]


def matcher(encoder: Path, tmp_path: Path, data: dict[str, Any] | None = None, **changes: Any) -> maao.Config:
    own = {"kind": "matcher", "name": str(encoder), "cache": False}
    return make_config(
        values(encoder, data or write_data(tmp_path), **{"model": own, "mentor": {"name": "none"}, "baselines": CHEAP, **changes})
    )


def test_a_run_ends_with_what_one_would_use_instead_and_keeps_it(encoder: Path, tmp_path: Path) -> None:
    config = matcher(encoder, tmp_path)
    result = run(config, tmp_path / "run")
    found = result.baselines
    assert found is not None and [one.title for one in found.baselines] == [
        "majority",
        "zero shot",
        "prototypes with class names",
        "linear probe with class names",
    ]
    alone = LinearProbe(class_names=True).run(config, tmp_path)["test"]
    assert found.baselines[-1].loss == pytest.approx(alone["loss"]) and found.baselines[-1].metrics["accuracy"] == alone["accuracy"]
    best = max(found.baselines, key=lambda one: (one.metrics["accuracy"], -one.loss))
    tuned = result.finals["chosen"].score
    assert found.gain is not None and found.gain.over == best.title
    figures = run_view(result, "run", "not read", Wanted(), Caps()).figures
    over = next(figure for figure in figures if figure.name == f"points over the {best.title}")
    assert found.gain.best_of == 4 and over.told.endswith("; the best of 4 baselines as known afterwards")
    assert found.gain.accuracy == pytest.approx(tuned.accuracy - best.metrics["accuracy"])
    assert found.gain.loss == pytest.approx(tuned.loss - best.loss, abs=1e-6)
    assert maao.load(tmp_path / "run").baselines == found  # read, and not computed again
    told = shown(maao.load(tmp_path / "run"))
    assert "baseline: linear probe with class names" in told and " ".join(found.gain.told.split()) in " ".join(told.split())
    assert "majority class" not in told  # it stands among the baselines
    assert maao.replay(tmp_path / "run").equal


def test_a_run_that_stopped_before_them_has_them_when_it_goes_on_and_the_same(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(matcher(encoder, tmp_path), tmp_path / "whole")

    def stop(*given: object) -> Compared:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("maao.runner.compared", stop)
        with pytest.raises(KeyboardInterrupt):
            run(matcher(encoder, tmp_path), tmp_path / "run")
    assert maao.load(tmp_path / "run").baselines is None
    result = resume(tmp_path / "run")
    assert result.digest == whole.digest

    def bare(found: Compared | None) -> dict[str, Any]:
        assert found is not None
        return json.loads(re.sub(r'"seconds": [^,}]+', '"seconds": 0', json.dumps(found.to_json())))

    assert bare(result.baselines) == bare(whole.baselines)


def test_a_cross_validated_run_is_set_beside_them_by_its_full_member(encoder: Path, tmp_path: Path) -> None:
    data = {key: value for key, value in write_data(tmp_path).items() if key != "select"} | {"select": "cross_validation", "folds": 2}
    config = matcher(encoder, tmp_path, data=data, model__method="class_residual", plan={"rounds": 1, "steps": 2}, accept={})
    result = run(config, tmp_path / "run")
    assert result.baselines is not None and result.baselines.gain is not None
    best = max(result.baselines.baselines, key=lambda one: (one.metrics["accuracy"], -one.loss))
    assert result.baselines.gain.accuracy == pytest.approx(result.finals["chosen"].score.accuracy - best.metrics["accuracy"])


def test_none_are_read_where_none_are_wanted(encoder: Path, tmp_path: Path) -> None:
    result = run(matcher(encoder, tmp_path, baselines=[]), tmp_path / "run")
    assert result.baselines is not None and result.baselines.baselines == () and "majority class" in shown(result)
    gain, finals = result.baselines.over_untuned, result.finals
    assert result.baselines.gain is None and gain is not None
    tuned, untuned = finals["chosen"].score, finals["untuned"].score
    assert gain.accuracy == pytest.approx((tuned.accuracy or 0.0) - (untuned.accuracy or 0.0))
    assert gain.loss == pytest.approx(tuned.loss - untuned.loss, abs=1e-6)


def test_a_decoder_is_read_within_a_cap_on_tokens(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = values(llama, write_data(tmp_path), mentor={"name": "none"}, baselines=CHEAP)
    result = run(make_config(settings), tmp_path / "run")
    assert result.baselines is not None and len(result.baselines.baselines) == 4 and result.baselines.tokens > 0
    tested = result.finals["untuned"].score.cost.model_tokens
    monkeypatch.setattr(at_end, "MOST_TOKENS", 2 * tested)
    monkeypatch.setattr(at_end, "SHARE", 10**9)
    result = run(make_config(settings), tmp_path / "capped")
    assert result.baselines is not None and [one.name for one in result.baselines.baselines] == ["majority", "zero_shot"]
    assert result.baselines.gain is not None and result.baselines.tokens <= 2 * tested
    assert re.search(r"Not shown: linear_probe: it would run [\d,]+ tokens, and the end of a run may run [\d,]+\.", shown(result))


def test_what_cannot_be_beside_a_run_is_told(
    model_folder: Callable[[str], Path], encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.linear_model", None)
    result = run(matcher(encoder, tmp_path, baselines=["linear_probe", "peft", "majority"]), tmp_path / "run")
    assert result.baselines is not None and [one.name for one in result.baselines.baselines] == ["majority"]
    first, second = result.baselines.left_out
    assert 'pip install "maao[sklearn]"' in first and second.startswith("peft: it is an arm of a comparison")
    with pytest.raises(ConfigError, match=r"there is no baseline of that name. Did you mean 'majority'"):
        make_config({"baselines": ["majorty"]})
    with pytest.raises(ConfigError, match="'baselines' would be ignored, since problem is 'function'"):
        make_config({"problem": "function", "baselines": ["majority"], "mentor": {"name": "none"}})


@pytest.mark.parametrize(
    ("place", "shown_still", "said"),
    [
        ("maao.baselines.linear_probe.LinearProbe.fit", ["majority"], "linear_probe: ValueError: a library's own"),
        ("maao.baselines.at_end.Task", [], "all baselines: ValueError: a library's own"),
    ],
)
def test_whatever_goes_wrong_with_baselines_a_run_ends_and_tells_it(
    place: str, shown_still: list[str], said: str, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: object, **named: object) -> None:
        raise ValueError("a library's own.")

    monkeypatch.setattr(place, fails)
    result = run(matcher(encoder, tmp_path, baselines=["linear_probe", "majority"]), tmp_path / "run")
    assert result.baselines is not None and [one.name for one in result.baselines.baselines] == shown_still
    assert result.baselines.left_out == (said,) and f"Not shown: {said}." in shown(result)
    assert result.status == "finished"


def test_the_interval_is_of_the_examples_on_which_they_differ() -> None:
    assert matched_interval(0, 0, 100)[0] == pytest.approx(-matched_interval(0, 0, 100)[1])
    low, high = matched_interval(20, 0, 100)
    middle, half = 20 / 102, 1.959963984540054 * math.sqrt(21 - 20**2 / 102) / 102
    assert (low, high) == (pytest.approx(middle - half), pytest.approx(middle + half)) and low > 0
    assert matched_interval(3, 0, 3)[1] == 1.0


@pytest.mark.parametrize(
    ("ours", "theirs", "begins"),
    [
        ([1] * 90 + [0] * 10, [1] * 60 + [0] * 40, "Tuning gained 30.0 points of accuracy over the knn (95 % interval +20."),
        ([1] * 60 + [0] * 40, [1] * 90 + [0] * 10, "Tuning lost 30.0 points of accuracy to the knn (95 % interval -38."),
        ([1, 0] * 50, [0, 1] * 50, "Tuning is +0.0 points of accuracy beside the knn (95 % interval -"),
    ],
)
def test_what_was_gained_is_said_plainly(ours: list[int], theirs: list[int], begins: str) -> None:
    found = gain_over("knn", list(map(bool, ours)), list(map(bool, theirs)))
    assert found.told.startswith(begins) and "the same 100 test examples" in found.told and found.loss is None


@pytest.mark.parametrize(("shift", "told"), [(-1.0, "is lower by 1.0"), (1.0, "is higher by 1.0"), (0.0, "they cannot be told apart")])
def test_the_loss_has_an_interval_of_its_own(shift: float, told: str) -> None:
    theirs = [1.0 + (i % 3) for i in range(50)]
    ours = [one + shift + 0.1 * (-1) ** i for i, one in enumerate(theirs)]
    found = gain_over("knn", [True] * 50, [True] * 50, ours, theirs)
    assert told in found.told and found.loss == pytest.approx(shift, abs=1e-9)
    assert gain_over("knn", [True], [True], [1.0, 2.0], [math.inf, 1.0]).loss is None


def test_an_infinite_loss_is_kept_as_none() -> None:
    found = Compared((Beside("majority", "", math.inf, {"accuracy": 0.5}, 2),), Gain("majority", 2, 0, -1, 1))
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["baselines"][0]["loss"] is None
    assert Compared.from_json(found.to_json()) == found


def test_the_labels_are_all_there_are(encoder: Path, tmp_path: Path) -> None:
    from maao.baselines.task import load_task

    assert len(load_task(matcher(encoder, tmp_path)).labelled) == len(pairs("train")) + len(pairs("select"))


@pytest.mark.parametrize(
    ("losses", "count", "best_of", "is_lost"),
    [
        (5, 18, 1, False),  # the interval excludes zero, McNemar's exact test has p = 0.0625
        (6, 18, 1, True),  # p = 0.031
        (6, 18, 4, False),  # which is above 0.05 / 4
        (8, 18, 4, True),  # p = 0.0078
    ],
)
def test_a_loss_is_shown_where_interval_and_exact_test_say_so_for_the_best_of_several(losses, count, best_of, is_lost):
    ours, theirs = [False] * losses + [True] * (count - losses), [True] * count
    found = gain_over("knn", ours, theirs, best_of=best_of)
    assert found.high < 0 and (found.best_of, found.is_lost) == (best_of, is_lost)
    assert ("Tuning lost" in found.told) == is_lost and ("is not shown" in found.told) != is_lost
    assert ("the best of 4 baselines as known afterwards" in found.told) == (best_of == 4)


def test_the_exact_test_is_that_of_scipy():
    binomtest = pytest.importorskip("scipy.stats").binomtest
    for wins, losses in ((0, 5), (3, 9), (7, 7), (40, 20), (2000, 2100)):
        assert exact_mcnemar(wins, losses) == pytest.approx(binomtest(wins, wins + losses).pvalue, rel=1e-9)
    assert exact_mcnemar(0, 0) == 1.0


def test_of_a_run_that_trains_nothing_it_is_said_that_no_label_was_read(encoder: Path, tmp_path: Path) -> None:
    own = {"kind": "matcher", "name": str(encoder), "cache": False, "method": "zero_shot"}
    ending = ending_of(run(matcher(encoder, tmp_path, model=own, baselines=["majority"]), tmp_path / "run"))
    assert (ending.walked, ending.is_first, ending.is_trained) == (False, True, False)
    told = " ".join(said.text for said in story(ending))
    assert told.startswith("Without having read a label it puts ") and "Tuning" not in told and "over the untuned model" not in told
    assert "nothing was walked: no label was read" in told and "more labels" not in told


def test_baselines_stand_beside_the_tuned_point_on_any_labelled_examples(encoder: Path, tmp_path: Path) -> None:
    result = run(matcher(encoder, tmp_path), tmp_path / "run")
    again = result.beside(result.judged("test"))
    assert [one.metrics for one in again.baselines] == [one.metrics for one in result.baselines.baselines]
    ours, kept = asdict(again.gain), asdict(result.baselines.gain)
    assert ours == {name: pytest.approx(held) if isinstance(held, float) else held for name, held in kept.items()}
    half = pairs("test")[:9]
    found = result.beside(result.judged([(text, label) for text, label in half]), ["linear_probe"])
    (probe,) = found.baselines
    assert probe.num_examples == found.gain.num_examples == 9 and found.gain.over == "linear probe with class names"
    tuned = result.evaluate([(text, label) for text, label in half]).accuracy
    assert found.gain.accuracy == pytest.approx(tuned - probe.metrics["accuracy"])
    with pytest.raises(ConfigError, match="on test, or on other examples"):
        result.beside(result.judged("select"))


@pytest.mark.parametrize("folded", [False, True])
def test_without_a_test_baselines_stand_where_the_run_chose_and_no_gain_is_claimed(
    encoder: Path, tmp_path: Path, folded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maao.baselines.listed import listed

    data = {name: value for name, value in write_data(tmp_path).items() if name != "test"}
    config = matcher(encoder, tmp_path, {**data, "select": "cross_validation"} if folded else data)
    result = run(config, tmp_path / "run")
    found = result.baselines
    where = "out of fold" if folded else "on select"
    assert (found.where, found.gain, found.left_out) == (where, None, ())
    counts = {one.num_examples for one in found.baselines}
    assert counts == {len(pairs("train"))} if folded else counts == {len(pairs("select"))}
    if folded:
        monkeypatch.setattr(at_end, "MOST_FOLDED", 1)
        (told,) = at_end.compared_where_chosen(build(config), 0).left_out
        assert told.startswith("linear_probe: with ") and "labels of 3 classes it takes long" in told
        own = {one.title: one.loss for one in listed(config, ["linear_probe"]).baselines}
        assert found.baselines[-1].loss == pytest.approx(own[found.baselines[-1].title])
    told = [said.text for said in story(ending_of(result))]
    assert any(one.startswith(f"Best of the baselines there: {found.best.title}, loss ") for one in told)
    assert any("so what was gained is not known" in one for one in told) and not any("Tuning" in one for one in told)
    assert f"Baselines {where} (" in shown(result)
    table = run_view(result, "run", "not read", Wanted(), Caps()).test
    assert table.caption.endswith("no test examples were given") and [row[0] for row in table.rows][-1] == "tuned"
    assert [row[2] != "" for row in table.rows] == [True] * 4 + [False]  # an interval of the tuned point would flatter it
    assert maao.load(tmp_path / "run").baselines == found

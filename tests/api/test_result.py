"""What came of a run is read in one way, whatever it read: evaluated on what is at hand, with what it reads wrongly."""

from __future__ import annotations

import csv
import io

import pytest

import maao
from maao.config import make_config
from maao.errors import ConfigError, DataError, StoreError
from maao.report.mistakes import mistakes_table
from tests.api.small_runs import LABELS, config, examples, pairs, write_csv, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def result(llama, data, tmp_path_factory):
    return maao.run(config(llama, data, plan__rounds=1), tmp_path_factory.mktemp("runs") / "run")


def test_a_split_is_evaluated_as_the_run_did(result):
    test, select = result.evaluate(), result.evaluate("select")
    final = result.finals["chosen"].score
    assert test.loss == pytest.approx(final.loss) and test.metrics == final.metrics
    assert (select.loss, select.metrics) == (result.chosen.score.loss, result.chosen.score.metrics)
    assert result.cost == maao.load(result.folder).cost


def test_examples_at_hand_are_evaluated_in_every_form(result, tmp_path):
    loaded = maao.load(result.folder)
    table = {"text": [text for text, _ in pairs("test")], "label": [label for _, label in pairs("test")]}
    for used in (result, loaded):
        for given in (pairs("test"), examples("test"), table, write_csv(tmp_path / "test.csv", pairs("test"))):
            score = used.evaluate(given)
            assert score.num_examples == len(pairs("test"))
            assert score.loss == pytest.approx(result.finals["chosen"].score.loss, abs=1e-6)
            assert score.metrics == result.finals["chosen"].score.metrics


def test_examples_that_cannot_be_judged_are_told(result):
    with pytest.raises(DataError, match=r"the labels politics, which the run does not know.*business, music, sport"):
        result.evaluate([("the news", "politics")])
    with pytest.raises(DataError, match="cannot be judged: there are none"):
        result.evaluate([])


def test_mistakes_are_what_is_read_wrongly_with_most_confidence(result):
    found = result.mistakes(count=100)
    wrong = [example for example in examples("select") if result.predict([example])[0].label != example.label]
    assert sorted(map(repr, (one.example for one in found))) == sorted(map(repr, wrong)) and len(found) > 1
    assert [one.probability for one in found] == sorted((one.probability for one in found), reverse=True)
    assert all(one.predicted in LABELS and one.probability > one.label_probability for one in found)
    assert result.mistakes(count=1) == found[:1]
    rows = list(csv.DictReader(io.StringIO(mistakes_table(found), newline="")))
    assert [(row["text"], row["predicted"]) for row in rows] == [(one.example.fields["text"], one.predicted) for one in found]
    with pytest.raises(ConfigError, match="is not on pictures"):
        result.picture(found[0].example)


def test_data_that_has_changed_is_not_evaluated_on(llama, tmp_path):
    data = write_data(tmp_path)
    result = maao.run(config(llama, data, plan__rounds=1, mentor__name="none"), tmp_path / "run")
    write_csv(tmp_path / "select.csv", pairs("select")[1:])
    with pytest.raises(StoreError, match="The data has changed"):
        maao.load(result.folder).evaluate("select")


def test_examples_that_came_from_memory_are_kept_for_it(llama, tmp_path):
    result = maao.tune(
        model=str(llama), train=pairs("train"), select=pairs("select"), mentor="none", rounds=1, steps=1, folder=tmp_path / "run"
    )
    assert maao.load(tmp_path / "run").evaluate("select").loss == pytest.approx(result.chosen.score.loss)
    with pytest.raises(maao.MaaoError, match="no examples in the split 'test'"):
        result.evaluate()


def test_a_function_has_nothing_to_evaluate(tmp_path):
    result = maao.run(maao.Config(problem="function", mentor={"name": "none"}, plan={"rounds": 1, "steps": 1}), tmp_path / "run")
    for use in (lambda: result.evaluate([("a", "b")]), result.mistakes):
        with pytest.raises(ConfigError, match="it has nothing to predict or export"):
            use()


@pytest.mark.parametrize(
    "model",
    [{"kind": "matcher", "template": "{slots} {class}", "num_virtual_tokens": 2}, {"kind": "head"}, {}],
    ids=["matcher", "head", "words"],
)
def test_a_result_is_used_alike_however_classes_are_read(model_folder, data, tmp_path, model):
    architecture = "bert" if model.get("kind") == "matcher" else "llama"
    settings = {
        "threads": 1,
        "model": {"template": "{text} {slots} Topic:", "name": str(model_folder(architecture)), **model},
        "data": data,
        "plan": {"rounds": 1, "steps": 2},
        "mentor": {"name": "none"},
    }
    result = maao.run(make_config(settings), tmp_path / "run")
    loaded = maao.load(tmp_path / "run")
    final = result.finals["chosen"].score
    assert loaded.fields == ("text",)
    predicted = loaded.predict([text for text, _ in pairs("test")])
    assert [one.probabilities for one in predicted] == [one.probabilities for one in result.predict([text for text, _ in pairs("test")])]
    right = sum(one.label == label for one, (_, label) in zip(predicted, pairs("test"), strict=True))
    assert loaded.evaluate(pairs("test")).accuracy == loaded.evaluate("test").accuracy == final.accuracy == right / len(predicted)
    assert loaded.evaluate(pairs("test")).loss == pytest.approx(final.loss, abs=1e-5)
    wrong = round(result.chosen.score.num_examples * (1 - result.chosen.score.accuracy))
    assert len(loaded.mistakes(count=1000)) == wrong
    assert set(loaded.formats) == ({"text", "tensor", "ctx", "classes"} if "matcher" in str(model) else {"text", "tensor", "peft"})
    for format in ("text", "tensor"):
        assert all(path.is_file() for path in loaded.save(tmp_path / "out", format))

"""What came of a run is read in one way, whatever it read: evaluated on what is at hand, with what it reads wrongly."""

from __future__ import annotations

import csv
import io

import pytest

import maao
from maao.config import make_config
from maao.errors import ConfigError, DataError, StoreError
from maao.report.mistakes import mistakes_table
from tests.api.small_runs import LABELS, StopAt, config, examples, pairs, write_csv, write_data, write_table


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def result(llama, data, tmp_path_factory):
    return maao.run(config(llama, data, plan__rounds=1), tmp_path_factory.mktemp("runs") / "run")


def test_a_split_is_evaluated_as_the_run_did(result):
    test, select = result.evaluate(), result.evaluate("select")
    final = result.finals["chosen"].score
    assert test.score.loss == pytest.approx(final.loss) and test.score.metrics == final.metrics
    assert (select.score.loss, select.score.metrics) == (result.chosen.score.loss, result.chosen.score.metrics)
    assert (
        "test is read again" in test.notes[0]
        and select.notes == ()
        and (test.of, select.of) == ("the run's own test", "the run's own select")
    )
    assert test.accuracy == final.accuracy and test.log_loss == pytest.approx(final.loss, abs=1e-5)
    assert result.cost == maao.load(result.folder).cost


def test_examples_at_hand_are_evaluated_in_every_form(result, tmp_path):
    loaded = maao.load(result.folder)
    table = {"text": [text for text, _ in pairs("test")], "label": [label for _, label in pairs("test")]}
    for used in (result, loaded):
        for given in (pairs("test"), examples("test"), table, write_csv(tmp_path / "test.csv", pairs("test"))):
            found = used.evaluate(given)
            score = found.score
            assert found.num_examples == score.num_examples == len(pairs("test"))
            assert score.loss == pytest.approx(result.finals["chosen"].score.loss, abs=1e-6)
            assert score.metrics == result.finals["chosen"].score.metrics


def test_examples_that_cannot_be_evaluated_on_are_told(result, tmp_path):
    with pytest.raises(
        DataError, match=r"2 of 3 examples have a label .*: 'politics', 'sprt' \(did you mean 'sport'\?\)\. Its labels: 'business', 'mus"
    ):
        result.evaluate([("the news", "politics"), ("a goal", "sprt"), ("a song", "music")])
    with pytest.raises(DataError, match=r"1 of 1 example has a label that the run does not know: 'politics'\. Its labels: [^-]*$"):
        result.evaluate([("the news", "politics")], none_of_these=True)
    with pytest.raises(DataError, match="Nothing can be evaluated on the examples given: there are no examples"):
        result.evaluate([])
    with pytest.raises(DataError, match=r"there is no column 'label'.*Columns: 'text', 'topic'"):
        result.evaluate(write_table(tmp_path / "unlabelled.csv", ["text", "topic"], pairs("test")))


def test_labels_that_are_written_otherwise_are_the_runs_own(result):
    found = result.evaluate([(text, f" {label.upper()} ") for text, label in pairs("test")])
    assert found.score == result.evaluate(pairs("test")).score
    assert found.notes == ("labels are read as the run's own: 'BUSINESS' as 'business', 'MUSIC' as 'music', 'SPORT' as 'sport'",)


def test_labels_that_the_run_does_not_know_are_counted_as_none_of_these_where_asked(result):
    far = [("zebra tundra", "animals"), ("tundra", "animals"), ("cloud", "weather")]
    found, without = result.evaluate([*pairs("test"), *far], none_of_these=True), result.evaluate(pairs("test"))
    assert found.none_of_these.labels == {"animals": 2, "weather": 1} and 0 <= found.none_of_these.auroc <= 1
    assert (found.accuracy, found.mistakes, found.score.metrics) == (without.accuracy, without.mistakes, without.score.metrics)
    assert without.none_of_these is None


def test_the_names_of_labels_in_files_are_known_beside_the_labels(llama, tmp_path):
    names = {label[0]: label for label in LABELS}
    for split in ("train", "select", "test"):
        write_csv(tmp_path / f"{split}.csv", [(text, label[0]) for text, label in pairs(split)], ";")
    data = {name: str(tmp_path / f"{name}.csv") for name in ("train", "select", "test")} | {"label_names": names, "separator": ";"}
    result = maao.run(config(llama, data, plan__rounds=1, mentor__name="none"), tmp_path / "run")
    own = result.evaluate(tmp_path / "test.csv")
    assert own.score.metrics == result.finals["chosen"].score.metrics and "'b' as 'business'" in own.notes[0]
    for given in (
        pairs("test"),
        write_csv(tmp_path / "named.csv", pairs("test"), ";"),
        write_table(tmp_path / "n.tsv", ["text", "label"], pairs("test"), "\t"),
    ):
        assert result.evaluate(given).score == own.score
    assert result.evaluate(write_csv(tmp_path / "commas.csv", pairs("test")), separator=",").score == own.score


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
    assert maao.load(tmp_path / "run").evaluate("select").score.loss == pytest.approx(result.chosen.score.loss)
    with pytest.raises(maao.MaaoError, match="has no examples in its split 'test': give labelled examples"):
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
    assert loaded.evaluate(pairs("test")).score.loss == pytest.approx(final.loss, abs=1e-5)
    wrong = round(result.chosen.score.num_examples * (1 - result.chosen.score.accuracy))
    assert len(loaded.mistakes(count=1000)) == wrong
    assert set(loaded.formats) == ({"text", "tensor", "ctx", "classes"} if "matcher" in str(model) else {"text", "tensor", "peft"})
    for format in ("text", "tensor"):
        assert all(path.is_file() for path in loaded.save(tmp_path / "out", format))


def test_a_run_leaves_undecided_what_its_thresholds_say(llama, data, tmp_path):
    asked = {"predict__coverage": 0.8, "predict__confidence": "probability", "plan__rounds": 1, "mentor__name": "none"}
    result = maao.run(config(llama, data, **asked), tmp_path / "run")
    loaded = maao.load(tmp_path / "run")
    held = loaded.thresholds
    assert held == result.thresholds and (held.num_examples, held.num_decided) == (18, 15)
    plain = maao.run(config(llama, data, plan__rounds=1, mentor__name="none"), tmp_path / "plain")
    assert plain.thresholds is None and plain.digest == result.digest
    assert result.cost == plain.cost + held.cost and held.cost.selection_evals == 1
    texts = [text for text, _ in pairs("select")]
    found, without = loaded.predict(texts), plain.predict(texts)
    assert [one.guess for one in found] == [one.label for one in without] and all(one.undecided == "" for one in without)
    assert sum(one.label is None for one in found) == 3
    assert all((one.label is None) == (one.undecided == "unlike") == (one.probability < held.least) for one in found)
    decided = loaded.evaluate("select").decided
    assert (decided.num_decided, decided.num_unlike, decided.num_unsure) == (15, 3, 0)
    assert decided.accuracy == held.accuracy and plain.evaluate("select").decided is None


def test_thresholds_are_chosen_once_where_a_run_is_stopped_and_resumed(llama, data, tmp_path):
    asked = config(llama, data, predict__accuracy=0.5, mentor__name="none")
    whole = maao.run(asked, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        maao.run(asked, tmp_path / "run", watch=StopAt(0))
    assert maao.load(tmp_path / "run").thresholds is None
    assert maao.resume(tmp_path / "run").thresholds == whole.thresholds is not None
    assert maao.replay(tmp_path / "run").equal

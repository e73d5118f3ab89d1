"""The estimator: what scikit-learn asks of one, labels with the type they had, and what is refused in words."""

from __future__ import annotations

import gc
import io
import json
import pickle
import pickletools
from enum import Enum
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted, validate_data

import maao
from maao.errors import ConfigError, StoreError
from maao.predictor import Predictor
from maao.sklearn import InputError, PromptClassifier
from maao.types import Splits
from tests import tiny_vision
from tests.api.small_runs import pairs
from tests.tiny_sentence import sentence_folder

X, y = [text for text, _ in pairs("train")], [label for _, label in pairs("train")]
TEXTS = [text for text, _ in pairs("test")]
NUMBERS = {"business": 3, "music": 1, "sport": 2}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(sentence_folder(tmp_path_factory.mktemp("encoder"), max_length=24)[0])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAAO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)  # whatever a fit leaves lying about is seen there


def small(encoder: str, **given: Any) -> PromptClassifier:
    settings = {"threads": 1, "data.folds": 2, **given.pop("settings", {})}
    return PromptClassifier(**{"model": encoder, "steps": 4, "settings": settings, **given})


@pytest.fixture(scope="module")
def fitted(encoder: str) -> PromptClassifier:
    return small(encoder).fit(X, y)


def test_it_is_what_tune_gives(fitted: PromptClassifier, encoder: str, tmp_path: Path) -> None:
    settings = {"threads": 1, "data.folds": 2}
    result = maao.tune(model=encoder, kind="matcher", train=(X, y), steps=4, settings=settings, folder=tmp_path / "run")
    found = result.predict(TEXTS)
    assert fitted.predict(TEXTS).tolist() == [one.label for one in found]
    labels = sorted(set(y))
    assert fitted.classes_.tolist() == labels
    assert fitted.predict_proba(TEXTS).tolist() == [[one.probabilities[label] for label in labels] for one in found]
    assert fitted.cost_.gradient_steps == result.cost.gradient_steps == 4
    assert fitted.score(X, y) == np.mean(fitted.predict(X) == y)


def test_a_fit_leaves_nothing_behind_unless_told_where(encoder: str, tmp_path: Path) -> None:
    assert small(encoder).fit(X, y).run_folder_ is None
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == []
    kept = small(encoder, runs=tmp_path / "kept").fit(X, y)
    assert kept.run_folder_ is not None and kept.run_folder_.parent.parent == tmp_path / "kept"
    assert maao.load(kept.run_folder_).predict(TEXTS)[0].label == kept.predict(TEXTS)[0]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([NUMBERS[label] for label in y], np.array([1, 2, 3])),
        (np.array([NUMBERS[label] for label in y], dtype=np.int8), np.array([1, 2, 3], dtype=np.int8)),
        ([label == "sport" for label in y], np.array([False, True])),
        (pd.Series(y, dtype="category"), np.array(sorted(set(y)), dtype=object)),
        (pd.Series(y, dtype="string"), np.array(sorted(set(y)), dtype=object)),
        (np.array(y), np.array(sorted(set(y)))),
    ],
)
def test_labels_come_back_with_the_type_they_had(labels: Any, classes: npt.NDArray[Any], encoder: str) -> None:
    classifier = small(encoder, class_names=None if len(classes) == 3 and classes.dtype == object else [f"the {i}" for i in classes])
    classifier = classifier.set_params(class_names=[f"news {'abc'[i]}" for i in range(len(classes))]).fit(X, labels)
    assert classifier.classes_.dtype == classes.dtype and classifier.classes_.tolist() == classes.tolist()
    found = classifier.predict(TEXTS)
    assert found.dtype == classes.dtype and {type(label) for label in found.tolist()} == {type(classes.tolist()[0])}
    assert found.tolist() == [classifier.classes_.tolist()[i] for i in classifier.predict_proba(TEXTS).argmax(1)]


class Topic(Enum):
    """Labels that have no order."""

    sport = 1
    music = 2
    business = 3


def test_any_hashable_is_a_label(encoder: str) -> None:
    words = {topic: topic.name for topic in Topic}
    classifier = small(encoder, class_names=words).fit(X, [Topic[label] for label in y])
    assert set(classifier.predict(TEXTS)) <= set(Topic)
    spans = {label: (len(label), label) for label in set(y)}
    classifier = small(encoder, class_names={span: label for label, span in spans.items()}).fit(X, [spans[label] for label in y])
    assert classifier.classes_.tolist() == sorted(spans.values())
    assert set(classifier.predict(TEXTS)) <= set(spans.values())


def test_class_names_are_what_the_model_reads(encoder: str) -> None:
    codes = [NUMBERS[label] for label in y]
    named = small(encoder, class_names={number: label for label, number in NUMBERS.items()}).fit(X, codes)
    plain = small(encoder).fit(X, y)
    order = [sorted(NUMBERS).index(label) for label in ("music", "sport", "business")]
    assert named.predict_proba(TEXTS) == pytest.approx(plain.predict_proba(TEXTS)[:, order], abs=1e-6)
    with pytest.raises(ConfigError, match="class_names has no words for the label 3 of y"):
        small(encoder, class_names={1: "music", 2: "sport"}).fit(X, codes)
    with pytest.raises(ConfigError, match="class_names has 2 names, and y has 3 classes: 1, 2, 3"):
        small(encoder, class_names=["music", "sport"]).fit(X, codes)


@pytest.mark.parametrize(
    "form",
    [np.array, pd.Series, lambda texts: np.array(texts, dtype=object)[:, None], lambda texts: pd.DataFrame({"headline": texts}), tuple],
    ids=["array", "series", "column", "frame", "tuple"],
)
def test_texts_come_in_many_forms(form: Any, fitted: PromptClassifier, encoder: str) -> None:
    classifier = small(encoder).fit(form(X), y)
    assert classifier.predict_proba(form(TEXTS)).tolist() == fitted.predict_proba(TEXTS).tolist()
    assert classifier.n_features_in_ == 1
    assert getattr(classifier, "feature_names_in_", ["headline"])[0] == "headline"


def test_a_frame_of_several_columns_is_read_as_the_template_says(encoder: str) -> None:
    frame = pd.DataFrame({"title": [text.split()[0] for text in X], "body": X, "id": range(len(X))})
    classifier = small(encoder, settings={"model.input_template": "{title} {body}"}).fit(frame, y)
    assert classifier.n_features_in_ == 3 and classifier.feature_names_in_.tolist() == ["title", "body", "id"]
    assert classifier.predict(frame[["body", "title"]]).tolist() == classifier.predict(frame).tolist()
    with pytest.raises(InputError, match="it has no 'title', which the template reads"):
        classifier.predict(frame[["body"]].assign(other="x"))


def test_a_pickle_is_json_and_numbers_and_predicts_the_same(fitted: PromptClassifier) -> None:
    data = pickle.dumps(fitted)
    again = pickle.loads(data)
    assert again.predict_proba(TEXTS).tolist() == fitted.predict_proba(TEXTS).tolist()
    named = {argument for code, argument, _ in pickletools.genops(data) if isinstance(argument, str) and argument.startswith("maao")}
    assert named == {"maao.sklearn", "maao.predictor", "maao.types"}  # the classes that hold it: no problem, no model, no config
    assert all(text not in data.decode("latin1") for text in (*X, "maao-fit-"))  # and no training text, nor where it was tuned


@pytest.mark.real  # two processes that load torch
def test_it_works_in_processes(encoder: str) -> None:
    scores = cross_val_score(small(encoder, runs="kept"), X, y, cv=2, n_jobs=2, error_score="raise")
    assert scores.tolist() == cross_val_score(small(encoder), X, y, cv=2).tolist()


def test_it_is_kept_by_joblib(encoder: str, tmp_path: Path) -> None:
    joblib.dump(small(encoder).fit(X, y), tmp_path / "kept.joblib")
    assert joblib.load(tmp_path / "kept.joblib").predict(TEXTS).shape == (len(TEXTS),)


def test_a_fitted_estimator_holds_no_training_example(encoder: str) -> None:
    gc.collect()
    held = sum(type(one) is Splits and bool(one.train) for one in gc.get_objects())
    classifier = small(encoder).fit(X, y)
    gc.collect()
    assert sum(type(one) is Splits and bool(one.train) for one in gc.get_objects()) == held and classifier.predict(TEXTS).size


def test_it_is_cloned_searched_and_put_into_a_pipeline(encoder: str) -> None:
    copy = clone(small(encoder, seed=3))
    assert copy.get_params() == small(encoder, seed=3).get_params() and not hasattr(copy, "classes_")
    pipeline = make_pipeline(FunctionTransformer(lambda texts: [text.lower() for text in texts]), small(encoder))
    search = GridSearchCV(pipeline, {"promptclassifier__steps": [2, 4]}, cv=2).fit(X, y)
    assert search.best_params_["promptclassifier__steps"] in (2, 4)
    assert search.best_estimator_.predict(TEXTS).shape == (len(TEXTS),)
    assert cross_val_predict(pipeline, pd.Series(X), y, cv=2, method="predict").shape == (len(X),)
    named = small(encoder, class_names=sorted(set(y)))  # for probabilities scikit-learn numbers the classes before it fits
    assert cross_val_predict(named, X, y, cv=2, method="predict_proba").shape == (len(X), 3)


def test_the_same_fit_gives_the_same_and_shots_take_a_few(encoder: str, tmp_path: Path) -> None:
    kept = small(encoder, shots=2, runs=tmp_path / "runs").fit(X, y)
    assert kept.run_folder_ is not None and maao.load(kept.run_folder_).environment["sizes"]["train"] == 6
    few = [small(encoder, shots=2, seed=seed).fit(X, y) for seed in (0, 0, 1)]
    assert few[0].predict_proba(TEXTS).tolist() == few[1].predict_proba(TEXTS).tolist() != few[2].predict_proba(TEXTS).tolist()


def test_a_mentor_speaks_to_other_methods(encoder: str) -> None:
    mentor = {"name": "scripted", "texts": ["news of"]}
    settings = {"threads": 1, "plan.proposals": 1, "accept.steps": 1, "model.num_virtual_tokens": 2, "model.wordings": ["{class}"]}
    classifier = PromptClassifier(model=encoder, method="coop", mentor=mentor, rounds=1, steps=2, settings=settings).fit(X, y)
    assert classifier.text_ and classifier.warning_ == ""
    assert classifier.cost_.gradient_steps > 2


def test_a_fit_that_waits_for_replies_needs_a_folder_and_goes_on_there(encoder: str, tmp_path: Path) -> None:
    mentor = {"name": "language_model", "retries": 0, "chat": {"provider": "batch", "name": "big"}}
    settings = {"threads": 1, "plan.proposals": 1, "accept.steps": 1, "model.num_virtual_tokens": 2, "model.wordings": ["{class}"]}
    waiting = PromptClassifier(model=encoder, method="coop", mentor=mentor, rounds=1, steps=2, settings=settings)
    with pytest.raises(ConfigError, match=r"needs a folder: give runs='\.\.\.'"):
        waiting.fit(X, y)
    for _ in range(2):  # the second time it goes on with the same run, which still waits
        with pytest.raises(maao.Waiting):
            clone(waiting).set_params(runs=tmp_path / "runs").fit(X, y)
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_what_cannot_be_used_is_refused_in_words(fitted: PromptClassifier, encoder: str) -> None:
    with pytest.raises(NotFittedError):
        small(encoder).predict(TEXTS)
    with pytest.raises(TypeError, match="fit got sample_weight, and takes X and y alone: examples count alike"):
        small(encoder).fit(X, y, sample_weight=[1.0] * len(X))
    with pytest.raises(ValueError, match="requires y to be passed"):
        small(encoder).fit(X)
    with pytest.raises(ValueError, match="X has 18 examples and y has 17: each example needs one label"):
        small(encoder).fit(X, y[:-1])
    with pytest.raises(ValueError, match="two classes or more, and y has one class, 'sport'"):
        small(encoder).fit(X, ["sport"] * len(X))
    with pytest.raises(ValueError, match=r"no label for example 2 \(None or NaN; 1 in all\)"):
        small(encoder).fit(X, [y[0], None, *y[2:]])
    with pytest.raises(ValueError, match=r"no label for example 2 \(None or NaN; 1 in all\)"):
        small(encoder).fit(X, [y[0], float("nan"), *y[2:]])
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        small(encoder).fit(X, np.linspace(0, 1, len(X)))
    with pytest.raises(ValueError, match="several labels that read '1'"):
        small(encoder).fit(X, np.array([1, "1"] * (len(X) // 2), dtype=object))
    with pytest.raises(ValueError, match="one text an example: Reshape your data"):
        small(encoder).fit(np.zeros((4, 2)), [0, 1, 0, 1])
    with pytest.raises(ValueError, match="it is a float, which is neither a text"):
        fitted.predict([0.5])
    with pytest.raises(ValueError, match=r"predict\(\[text\]\)"):
        fitted.predict("one text")
    with pytest.raises(ConfigError, match="no kind of that name"):
        small(encoder, kind="matchr").fit(X, y)


def test_a_changed_model_is_refused_by_what_was_pickled(fitted: PromptClassifier, tmp_path: Path) -> None:
    other = sentence_folder(tmp_path / "other", "mpnet", max_length=24)[0]
    mine = fitted.predictor_
    config = mine.config.model_copy(update={"model": mine.config.model.with_kind(name=str(other))})
    changed = Predictor(config, mine.labels, mine.class_names, mine.params, weights=mine.weights)
    with pytest.raises(StoreError, match="The weights of the frozen model have changed"):
        changed.predict(TEXTS)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("clip")
    tiny_vision.clip_model().save_pretrained(folder)
    tiny_vision.clip_tokenizer().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}))
    return str(folder)


def test_pictures_and_their_files_are_tuned_on(clip: str, tmp_path: Path) -> None:
    images = [tiny_vision.Pictures().open(f"{label}/{i}") for label in ("cat", "dog") for i in range(4)]
    labels = [1] * 4 + [0] * 4
    settings = {"threads": 1, "data.folds": 2}
    of_images = PromptClassifier(model=clip, class_names=["dog", "cat"], steps=4, settings=settings).fit(images, labels)
    files = []
    for number, image in enumerate(images):
        image.save(tmp_path / f"{number}.png")
        files.append(str(tmp_path / f"{number}.png"))
    of_files = PromptClassifier(model=clip, class_names=["dog", "cat"], steps=4, pictures=True, settings=settings).fit(files, labels)
    assert of_images.predict_proba(images).tolist() == of_files.predict_proba(files).tolist()
    assert of_images.classes_.tolist() == [0, 1] and set(of_images.predict(images).tolist()) <= {0, 1}
    assert pickle.loads(pickle.dumps(of_files)).predict(files).tolist() == of_files.predict(files).tolist()
    before = of_images.predict(images).tolist()
    assert of_images.set_params(class_names=["cat", "dog"]).predict(images).tolist() == before  # what is fitted does not follow
    assert np.allclose(of_images.predict_proba(images).sum(1), 1)
    with pytest.raises(InputError, match="calls two classes of pictures 'animal'"):
        PromptClassifier(model=clip, class_names=["animal", "Animal"]).fit(images, labels)
    with pytest.raises(InputError, match=r"There is no picture nowhere\.png"):
        of_files.predict(["nowhere.png"])
    with pytest.raises(InputError, match="'a/b' of a class of pictures cannot name a folder"):
        PromptClassifier(model=clip).fit(images, ["a/b"] * 4 + ["c"] * 4)


class OfNumbers(PromptClassifier):
    """Numbers written out as texts: so scikit-learn's own checks, which know numbers alone, have something to fit on."""

    def _texts(self, numbers: Any, reset: bool) -> list[str]:
        rows = validate_data(self, numbers, reset=reset, dtype=float)
        return [" ".join(f"{'np'[int(value > 0)]}{abs(value):.3f}" for value in row) for row in rows]

    def fit(self, X: Any, y: Any = None) -> OfNumbers:  # type: ignore[override]
        texts = self._texts(X, True)
        seen = {name: vars(self)[name] for name in ("n_features_in_", "feature_names_in_") if name in vars(self)}
        super().fit(texts, y)
        vars(self).update(seen)
        return self

    def _predictions(self, X: Any) -> Any:
        check_is_fitted(self)
        return super()._predictions(self._texts(X, False))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.string = True, False, False
        return tags


EXPECTED = {  # listed in docs/where-you-work.md
    "check_classifiers_train": "a random tiny encoder does not tell numbers apart that are written out as digits",
    "check_methods_subset_invariance": "float32 sums of a batch differ in their last bits from those of its parts",
    "check_array_api_input": "texts are no arrays of numbers",
}


@pytest.mark.filterwarnings("ignore")  # the checks warn of what they leave out
def test_scikit_learns_own_checks_pass_as_far_as_texts_allow(tmp_path_factory: pytest.TempPathFactory) -> None:
    check_estimator(PromptClassifier(), on_skip=None)  # of texts: what needs no numbers
    bytewise = str(sentence_folder(tmp_path_factory.mktemp("bytewise"), "llama", max_length=60)[0])
    written_out = OfNumbers(model=bytewise, steps=3, shots=4, settings={"threads": 1, "data.folds": 2})
    found = check_estimator(written_out, expected_failed_checks=EXPECTED, on_skip=None, on_fail=None)
    assert [(one["check_name"], one["exception"]) for one in found if one["status"] == "failed"] == []
    assert {one["check_name"] for one in found if one["status"] in ("xfail", "skipped")} == {*EXPECTED}
    assert sum(one["status"] == "passed" for one in found) > 45


def test_the_state_holds_no_place_where_examples_came_from(fitted: PromptClassifier) -> None:
    told = json.dumps(fitted.predictor_.about())
    assert "maao-fit-" not in told and not any(text in told for text in X)
    assert fitted.predictor_.about()["config"]["mentor"] == {"name": "none"}


def test_an_image_of_pil_needs_no_flag(clip: str) -> None:
    picture = Image.new("RGB", (32, 32), "red")
    held = io.BytesIO()
    picture.save(held, "PNG")
    read = Image.open(io.BytesIO(held.getvalue()))
    classifier = PromptClassifier(model=clip, steps=2, settings={"threads": 1, "data.folds": 2})
    classifier.fit([picture, read, Image.new("RGB", (32, 32), "blue"), Image.new("RGB", (32, 32), "navy")], ["cat", "cat", "dog", "dog"])
    assert set(classifier.predict([picture, read])) <= {"cat", "dog"}

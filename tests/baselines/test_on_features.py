"""Baselines on features: their formulas on vectors that are made up, and what they may not see."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from maao.baselines.in_context import InContext
from maao.baselines.knn import KNN
from maao.baselines.labelled import Fitted, LabelledBaseline
from maao.baselines.linear_probe import LinearProbe
from maao.baselines.listed import listed
from maao.baselines.majority import Majority
from maao.baselines.prototypes import Prototypes
from maao.baselines.setfit import SetFit
from maao.baselines.task import Part, Task, log_softmax
from maao.baselines.zero_shot import ZeroShot
from maao.errors import ConfigError, ModelError
from tests.baselines.made import MadeUp, MadeUpTask, at, config, part

TEST = part(a=[5, 15], b=[80, 70])


def test_the_majority_is_of_all_labels_and_its_loss_that_of_their_shares():
    task = MadeUpTask(part(a=[0], b=[90]), part(a=[0], b=[1, 2]), MadeUp(), select=part(b=[91, 92]))
    read = Majority().on_test(task)
    assert read.score.accuracy == pytest.approx(2 / 3)
    assert read.score.loss == pytest.approx(-(math.log(1 / 4) + 2 * math.log(3 / 4)) / 3)
    assert task.made.tokens == 0  # it reads nothing


def test_zero_shot_is_the_softmax_of_scaled_cosines_to_the_class_texts():
    read = ZeroShot().on_test(MadeUpTask(part(a=[0], b=[90]), part(a=[30]), MadeUp()))
    cosines = 20 * np.array([math.cos(math.radians(30)), math.cos(math.radians(60))])
    assert read.log_probabilities[0] == pytest.approx(cosines - np.log(np.exp(cosines).sum()), abs=1e-5)


def test_prototypes_are_means_of_unit_features_that_class_texts_may_join():
    task = MadeUpTask(part(a=[0, 20], b=[90]), part(a=[30]), MadeUp(class_angles=(40, 90)))
    (plain,) = Prototypes().on_test(task).log_probabilities
    named = Prototypes(class_names=True).on_test(task)
    for found, angle, scale in (
        (plain, 10, Prototypes().on_test(task).chosen["scale"]),
        (named.log_probabilities[0], 20, named.chosen["scale"]),
    ):
        towards = at([angle, 90]).numpy()  # the mean of 0 and 20 degrees points to 10, with 40 to 20
        assert found == pytest.approx(log_softmax(scale * at([30]).numpy() @ towards.T)[0], abs=1e-4)


def test_the_probe_is_scikit_learns_with_names_as_examples():
    from sklearn.linear_model import LogisticRegression

    task = MadeUpTask(part(a=[0, 10, 20, 30], b=[60, 70, 80, 90]), TEST, MadeUp(class_angles=(-10, 100)))
    for names in (False, True):
        read = LinearProbe(class_names=names).on_test(task)
        angles, targets = [0, 10, 20, 30, 60, 70, 80, 90], [0, 0, 0, 0, 1, 1, 1, 1]
        if names:
            angles, targets = [*angles, -10, 100], [*targets, 0, 1]
        expected = LogisticRegression(C=read.chosen["C"], tol=1e-8).fit(at(angles).numpy(), targets)
        assert read.log_probabilities == pytest.approx(expected.predict_log_proba(at([5, 15, 80, 70]).numpy()), rel=1e-2, abs=2e-5)
        assert read.score.accuracy == 1.0


def test_the_penalty_is_strong_where_labels_are_noise_and_weak_where_they_are_not():
    clean = MadeUpTask(part(a=[*range(0, 40, 4)], b=[*range(50, 90, 4)]), TEST, MadeUp())
    noise = MadeUpTask(part(a=[0, 80, 20, 60, 41], b=[1, 79, 21, 61, 40]), TEST, MadeUp())
    assert LinearProbe().on_test(noise).chosen["C"] < LinearProbe().on_test(clean).chosen["C"]


def test_one_label_a_class_leaves_nothing_to_choose_by_unless_its_name_is_there():
    task = MadeUpTask(part(a=[0], b=[90]), TEST, MadeUp())
    assert LinearProbe().on_test(task).chosen == {"C": 100.0}
    assert KNN().on_test(task).chosen == {"k": 1}
    assert Prototypes().on_test(task).chosen == {"scale": 20.0}
    assert LinearProbe(class_names=True).on_test(task).chosen["C"] == 1000.0  # each example held out is told by the names
    with pytest.raises(ConfigError, match="each class has a single one"):
        LinearProbe().out_of_fold(task)


def test_neighbours_vote_and_one_vote_more_is_shared_by_all():
    read = KNN().on_test(MadeUpTask(part(a=[0], b=[90]), part(a=[0.001]), MadeUp()))
    assert read.log_probabilities[0] == pytest.approx(np.log([(1 + 0.5) / 2, 0.5 / 2]), abs=1e-6)
    stray = MadeUpTask(part(a=range(10), b=[4.5, *range(90, 99)]), part(a=[4.4]), MadeUp())
    assert KNN().on_test(stray).chosen["k"] > 1  # a single neighbour would follow the one that strayed


THREE = {"frozen": MadeUp(class_angles=(0, 45, 90)), "labels": ("a", "b", "c")}


@pytest.mark.parametrize("baseline", [LinearProbe(), KNN(), Prototypes()])
def test_a_class_without_a_label_is_in_its_own_column_and_its_loss_is_finite(baseline):
    test = part(a=[5], b=[45], c=[85])
    task = MadeUpTask(part(a=[0, 1], c=[89, 90]), test, **THREE)
    read = baseline.on_test(task)
    assert read.log_probabilities.shape == (3, 3) and np.isfinite(read.log_probabilities).all()
    assert read.log_probabilities.argmax(1)[[0, 2]].tolist() == [0, 2]
    assert baseline.out_of_fold(task).score.accuracy == 1.0
    two = baseline.on_test(MadeUpTask(part(a=[0, 1], c=[89, 90]), part(a=[5], c=[85]), MadeUp()))
    if isinstance(baseline, LinearProbe):
        assert read.log_probabilities[:, 1] == pytest.approx(math.log(1e-9))
        assert (read.log_probabilities[np.ix_([0, 2], [0, 2])] == two.log_probabilities).all()  # the others as without it
    if isinstance(baseline, KNN):
        assert read.log_probabilities[:, 1] == pytest.approx(math.log(1 / 3 / (1 + read.chosen["k"])))


def test_setfit_gives_a_class_without_a_label_the_least_probability(monkeypatch):
    texts = SimpleNamespace(device="cpu", texts=lambda examples: [example.fields["text"] for example in examples])
    seen = SimpleNamespace(
        predict_proba=lambda texts, as_numpy: np.tile([1.0, 0.0], (len(texts), 1)), model_head=SimpleNamespace(classes_=np.array([0, 2]))
    )
    monkeypatch.setattr(MadeUp, "sentences", lambda self: texts, raising=False)
    monkeypatch.setattr(SetFit, "_tuned", lambda *given: seen)
    read = SetFit().on_test(MadeUpTask(part(a=[0], c=[90]), part(b=[45]), **THREE))
    assert read.log_probabilities[0] == pytest.approx([0.0, math.log(1e-9), math.log(1e-9)])
    with pytest.raises(ConfigError, match="setfit tells classes apart, and all labels are of one class"):
        SetFit().on_test(MadeUpTask(part(a=[0]), part(b=[45]), **THREE))


def test_labels_of_one_class_alone_are_refused_by_the_probe_unless_names_are_there():
    task = MadeUpTask(part(a=[0, 1]), part(a=[5], b=[45], c=[85]), **THREE)
    with pytest.raises(
        ConfigError, match=r"linear_probe tells classes apart, and all labels are of one class: .*, or read it with class_names"
    ):
        LinearProbe().on_test(task)
    assert LinearProbe(class_names=True).on_test(task).score.accuracy == 1.0
    assert KNN().on_test(task).log_probabilities[0] == pytest.approx(np.log([(1 + 1 / 3) / 2, 1 / 6, 1 / 6]))


def test_in_context_names_the_classes_that_have_no_example():
    task = MadeUpTask(part(a=[0, 1]), TEST, **THREE)
    with pytest.raises(ConfigError, match="none is labelled 'b', 'c': label some"):
        InContext().on_test(task)


@pytest.mark.parametrize("baseline", [Majority(), ZeroShot(), KNN()])
def test_without_a_label_nothing_is_read_out_of_fold(baseline):
    task = MadeUpTask((), TEST, **THREE)
    with pytest.raises(ConfigError, match=r"there is no label to be read by: look at `test` \(--test\)"):
        baseline.out_of_fold(task)


def test_one_baseline_that_cannot_be_read_does_not_end_the_list(monkeypatch):
    def fails(*given: object) -> Fitted:
        raise ModelError("It cannot be read.")

    monkeypatch.setattr("maao.baselines.listed.load_task", lambda config: MadeUpTask(part(a=[0, 1], b=[89, 90]), TEST, MadeUp()))
    monkeypatch.setattr(ZeroShot, "fit", fails)
    found = listed(config(), ("zero_shot", "knn"))
    assert [one.name for one in found.baselines] == ["knn"] and found.left_out == ("zero_shot: It cannot be read",)


class Spy(LabelledBaseline):
    """Answers what it saw, and guesses otherwise."""

    told: ClassVar[str] = "a spy"

    def fit(self, task: Task, known: Part) -> Fitted:
        seen = {example.fields["text"] for example in known.examples}
        assert set(known.targets) == set(range(task.num_classes))  # no class is ever without an example

        def answer(asked: Part) -> np.ndarray:
            assert not seen & {example.fields["text"] for example in asked.examples}
            return np.full((len(asked), task.num_classes), -math.log(task.num_classes))

        return Fitted(answer)


@pytest.mark.parametrize("counts", [(2, 2), (1, 7), (3, 11), (1, 2)])
def test_out_of_fold_every_label_that_can_be_is_held_out_once_and_test_is_not_touched(counts):
    frozen = MadeUp()
    task = MadeUpTask(
        part(a=range(counts[0]), b=range(100, 100 + counts[1])), TEST, frozen, select=part(a=[50]) if counts == (1, 2) else ()
    )
    read = Spy().out_of_fold(task)
    held = sum(count for count in np.bincount(task.labelled.targets).tolist() if count > 1)
    assert read.score.num_examples == held and read.score.loss == pytest.approx(math.log(2))
    assert "test" not in task.__dict__ and frozen.tokens == 0


def test_features_of_hidden_states_are_brought_to_one_scale():
    frozen = MadeUp()
    frozen.is_unit = False
    task = MadeUpTask(part(a=[0], b=[90]), TEST, frozen)
    assert task.vectors(task.labelled, task.labelled.features) == pytest.approx(np.array([[1, -1], [-1, 1]]) / math.sqrt(2), abs=1e-5)


@pytest.mark.parametrize("baseline", [LinearProbe(), KNN()])
def test_a_missing_package_is_named(baseline, monkeypatch):
    for module in ("sklearn.linear_model", "sklearn.neighbors"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r"scikit-learn: pip install \"maao\[sklearn\]\""):
        baseline.on_test(MadeUpTask(part(a=[0], b=[90]), TEST, MadeUp()))


def test_without_test_there_is_nothing_to_read():
    with pytest.raises(ConfigError, match="There is no `test`"):
        Majority().on_test(MadeUpTask(part(a=[0], b=[90]), (), MadeUp()))

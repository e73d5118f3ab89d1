from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from maao.errors import ConfigError
from maao.evaluation.readings import mistakes_in, readings
from maao.optimizers.serializer import TorchSerializer
from maao.optimizers.torch import TorchStage
from maao.problems.classification import ClassificationProblem
from maao.problems.methods.coop import CoOp
from maao.problems.methods.maple import MaPLe
from maao.problems.pictures import transferred
from maao.problems.scorers.matcher import Known, class_anchors
from maao.problems.scorers.probes import LinearProbe
from maao.problems.towers.features import FeatureStore
from maao.problems.towers.image.features import Pictures
from maao.problems.towers.image.preprocess import Preprocess
from maao.report.contact_sheet import contact_sheet
from maao.testing import ProblemConformance
from maao.types import Example
from tests import tiny_vision as tiny


def problem(kind: type = CoOp, **options: Any) -> ClassificationProblem[Known]:
    encoder = tiny.clip_encoder()
    bound = tiny.bound(encoder)
    start = options.pop("initial", "vocabulary"), options.pop("initial_text", "a photo of a")
    common: dict[str, Any] = {"batch_size": 5, "score_batch": 4} | options
    if kind is LinearProbe:
        method: Any = LinearProbe(bound, features=bound.anchors, targets=torch.arange(3))
        return tiny.problem(method, encoder, **common)
    method = kind(bound)
    return tiny.problem(method, encoder, *start, **common)


class OnTinyClip(ProblemConformance):
    @pytest.fixture
    def serializer(self) -> TorchSerializer:
        return TorchSerializer()


class TestCoOpIsAProblem(OnTinyClip):
    @pytest.fixture
    def problem(self) -> ClassificationProblem[Known]:
        return problem()


class TestCoOpWithViewsIsAProblem(OnTinyClip):
    @pytest.fixture
    def problem(self) -> ClassificationProblem[Known]:
        return problem(views=3)


class TestMaPLeIsAProblem(OnTinyClip):
    @pytest.fixture
    def problem(self) -> ClassificationProblem[Known]:
        return problem(MaPLe)


def test_walking_lowers_the_loss_and_changes_no_weight() -> None:
    held = problem(initial="text", initial_text="a photo of the", batch_size=12)
    before = {key: value.clone() for key, value in held.reader.encoder.modules.state_dict().items()}
    stage = TorchStage(lr=0.02)
    state = stage.init(held, held.initial(0), seed=0)
    first = held.score([state.params], "train")[0].loss
    for _ in range(15):
        state, _ = stage.step(held, state)
    assert held.score([state.params], "train")[0].loss < 0.7 * first
    assert all(torch.equal(value, before[key]) for key, value in held.reader.encoder.modules.state_dict().items())


def test_a_probe_walks_on_kept_features() -> None:
    held = problem(LinearProbe, batch_size=12)
    stage = TorchStage(lr=0.1)
    state = stage.init(held, held.initial(0), seed=0)
    for _ in range(20):
        state, _ = stage.step(held, state)
    assert held.score([state.params], "train")[0].metrics["accuracy"] > 0.9
    assert held.clues(state.params).nearest == ()


def test_a_pixel_method_scores_as_it_trains() -> None:
    """What is scored (classes once, pictures part by part) are the very scores whose loss is trained on."""
    held = problem(MaPLe, batch_size=12)
    params = held.initial(0)
    assert float(held.loss(params, held.batch(0, 0))) == pytest.approx(held.score([params], "train")[0].loss, rel=1e-5)


def test_clues_tell_of_train_and_project_on_select() -> None:
    held = problem(initial="text", initial_text="a photo of the")
    params = held.initial(0)
    clues = held.clues(params, start=held.codec.random(1))
    assert clues.projection is not None and clues.projection.text == "a photo of the"
    assert clues.projection.gap == pytest.approx(0, abs=1e-5)
    assert len(clues.nearest) == len(clues.gradient) == 4
    assert {m.label for m in clues.misclassified} <= set(tiny.NAMES)
    assert sum(c.count for c in clues.confusions) == 12 - round(12 * held.score([params], "train")[0].metrics["accuracy"])


def test_features_are_computed_once_and_found_by_content(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "deep" / "features.sqlite")
    first = problem(store=store, views=2)
    assert first.prepared.model_tokens == (12 * 3 + 9 + 9) * 17  # train with its views, select, test; 16 patches and the class token
    again = problem(store=store, views=2)
    assert again.prepared.model_tokens == 0
    for split in ("train", "select"):
        torch.testing.assert_close(again.inputs(split).features, first.inputs(split).features, rtol=0, atol=0)
    views = [held.inputs("train").features_of.view_features for held in (again, first)]
    torch.testing.assert_close(*views, rtol=0, atol=0)


class _Renamed(tiny.Pictures):
    def open(self, key: str) -> Image.Image:
        return super().open(key.removeprefix("moved/"))


class _Changed(tiny.Pictures):
    def open(self, key: str) -> Image.Image:
        image = super().open(key)
        if key == "cat/0":
            image.putpixel((0, 0), (1, 2, 3))
        return image


def test_a_renamed_picture_is_found_and_a_changed_one_is_not(tmp_path: Path) -> None:
    store, encoder = FeatureStore(tmp_path / "f.sqlite"), tiny.clip_encoder()
    keys = ["cat/0", "cat/1", "dog/0"]
    first = Pictures(encoder, tiny.Pictures(), keys).fill(store)
    renamed = Pictures(encoder, _Renamed(), [f"moved/{key}" for key in keys]).fill(store)
    changed = Pictures(encoder, _Changed(), keys).fill(store)
    assert (first.computed, renamed.computed, changed.computed) == (3, 0, 3)
    assert torch.equal(renamed.features, first.features)
    assert not torch.equal(changed.features[0], first.features[0])


def test_the_same_picture_twice_is_computed_once(tmp_path: Path) -> None:
    twice = Pictures(tiny.clip_encoder(), tiny.Pictures(), ["cat/0", "cat/0"]).fill(FeatureStore(tmp_path / "f.sqlite"))
    assert twice.computed == 1
    assert torch.equal(twice.features[0], twice.features[1])


def test_a_broken_cache_stops_nothing_and_says_what_to_do(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "f.sqlite"
    file.write_bytes(b"this is no database, however long it may be" * 30)
    found = [Pictures(tiny.clip_encoder(), tiny.Pictures(), ["cat/0"]).fill(FeatureStore(path)) for path in (None, file)]
    assert torch.equal(found[0].features, found[1].features)
    (told,) = caplog.messages
    assert "f.sqlite cannot be used: file is not a database. The run goes on" in told and "delete it" in told


def test_views_differ_from_one_another_and_are_always_the_same() -> None:
    image, transform = tiny.Pictures().open("cat/0"), Preprocess.square(32)
    assert torch.equal(transform.view(image, 1), transform.view(image, 1))
    assert not torch.equal(transform.view(image, 1), transform.view(image, 2))
    assert transform.view(image, 1).shape == (3, 32, 32)


@pytest.mark.parametrize("size", [(40, 36), (33, 90), (32, 32), (200, 20), (1, 1)])
def test_the_transform_is_that_of_transformers(size: tuple[int, int]) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    image = tiny.Pictures().open("cat/0").resize(size)
    theirs = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    torch.testing.assert_close(
        Preprocess.square(32).pixels(image), torch.as_tensor(theirs(image, return_tensors="pt").pixel_values[0]), atol=1e-5, rtol=0
    )


def test_the_transform_of_siglip_takes_the_whole_picture() -> None:
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    image = tiny.Pictures().open("cat/0").resize((50, 20))
    theirs = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    ours = Preprocess(32, 32, None, (0.5,) * 3, (0.5,) * 3)
    torch.testing.assert_close(ours.pixels(image), torch.as_tensor(theirs(image, return_tensors="pt").pixel_values[0]), atol=1e-5, rtol=0)


def test_a_transform_is_read_from_its_file(tmp_path: Path) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    assert Preprocess.from_folder(tmp_path, Preprocess.square(7)) == Preprocess(32, 32, 40)
    (tmp_path / "preprocessor_config.json").unlink()
    assert Preprocess.from_folder(tmp_path, Preprocess.square(7)) == Preprocess.square(7)


def test_probabilities_mistakes_and_their_sheet() -> None:
    held = problem()
    params = held.initial(0)
    probable = held.probabilities(params, [Example({"image": key}, "-") for key in ("cat/0", "dog/1")])
    assert probable.shape == (2, 3)
    torch.testing.assert_close(probable.sum(-1), torch.ones(2))
    ((score, scores),) = held.judged([params], "select")
    assert score == held.score([params], "select")[0]
    targets = np.array([held.splits.labels.index(example.label) for example in held.splits.select])
    wrong = mistakes_in(readings(scores.numpy(), targets), held.splits.select, held.splits.labels)[:2]
    count = 9 - round(9 * score.metrics["accuracy"])
    assert len(wrong) == min(2, count) > 0
    assert list(wrong) == sorted(wrong, key=lambda m: -m.probability)
    assert all(m.example.label != m.predicted and m.probability > m.label_probability for m in wrong)
    sheet = contact_sheet(wrong, lambda example: held.picture(example.fields["image"]))
    assert sheet.width > 128 and sheet.height > 128 and len(sheet.getcolors(maxcolors=10**6) or []) > 50


def test_what_was_tuned_is_judged_on_other_classes() -> None:
    held = problem()
    params = held.initial(0)
    encoder = held.reader.encoder
    names = ("dog", "cat")
    own = tiny.splits()
    kept = type(own)((), (), tuple(e for e in own.test if e.label in names), names)
    there = transferred(held, kept, tiny.bound(encoder, names=names), tiny.Pictures())
    score = there.score([params], "test")[0]
    assert score.num_examples == 6
    assert there.score([params], "select")[0].is_unjudged
    with pytest.raises(ConfigError, match="own classes"):
        transferred(problem(LinearProbe), kept, tiny.bound(encoder, names=names), tiny.Pictures())


def test_several_wordings_are_averaged() -> None:
    encoder = tiny.clip_encoder()
    wordings = ["a photo of the {class}.", "{class}"]
    one, two = (class_anchors(encoder, tiny.NAMES, [text]) for text in wordings)
    torch.testing.assert_close(class_anchors(encoder, tiny.NAMES, wordings), torch.nn.functional.normalize((one + two) / 2))
    with pytest.raises(ConfigError, match="has slots"):
        class_anchors(encoder, tiny.NAMES, ["{slots} {class}"])

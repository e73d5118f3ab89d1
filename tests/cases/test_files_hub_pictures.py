"""Hub data sets of pictures: rows without a picture or with an odd label are named, pictures in any shape are read."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from maao.data.images.hub import load_hub_images
from maao.errors import DataError
from tests.data.images.test_hub_images import png

datasets = pytest.importorskip("datasets")

CAT, DOG = "cat", "dog"


pytestmark = pytest.mark.usefixtures("quiet_datasets")


@pytest.fixture
def load(tmp_path):
    def load(pictures, labels, features=None, split="train", bits=None):
        held = datasets.Dataset.from_dict({"image": pictures, "label": labels}, features=features)
        (tmp_path / "set").mkdir(exist_ok=True)
        held.to_parquet(tmp_path / "set" / f"{split}.parquet")
        return load_hub_images(str(tmp_path / "set"), cache_dir=tmp_path / "cache", shots=1, select_shots=1, bits=bits)

    return load


def images(label):
    return datasets.Features({"image": datasets.Image(), "label": label})


PLAIN = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}


def pictures(count=8):
    return [{"bytes": png(i), "path": None} for i in range(count)]


def test_f_rows_without_a_picture_are_named(load, tmp_path):
    held = pictures()
    held[3], held[5], held[6] = None, {"bytes": None, "path": str(tmp_path / "gone.png")}, {"bytes": b"", "path": None}
    with pytest.raises(DataError) as caught:
        load(held, [CAT, DOG] * 4, datasets.Features({"image": PLAIN, "label": datasets.Value("string")}))
    assert all(row in str(caught.value) for row in ("row 3", "row 5", "row 6"))


@pytest.mark.parametrize("kind", ["binary", "large_binary"])
def test_f_a_column_of_bytes_is_a_column_of_pictures(load, kind):
    features = datasets.Features({"image": datasets.Value(kind), "label": datasets.Value("string")})
    task = load([png(i) for i in range(8)], [CAT, DOG] * 4, features)
    assert task.source.open(task.splits.train[0].fields["image"]).size == (6, 4)


def test_f_bytes_and_paths_are_read(load, tmp_path):
    held = pictures()
    file = tmp_path / "0.png"
    file.write_bytes(held[0]["bytes"])
    held[0] = {"bytes": None, "path": str(file)}
    task = load(held, [CAT, DOG] * 4, datasets.Features({"image": PLAIN, "label": datasets.Value("string")}))
    assert task.source.open("train/0").size == (6, 4)


@pytest.mark.parametrize(
    ("labels", "kind", "said"),
    [
        ([0.0, float("nan")] * 4, datasets.Value("float64"), "'nan'"),
        ([["a"], ["a", "b"]] * 4, datasets.List(datasets.Value("string")), "a class is a text or a whole number"),
    ],
)
def test_f_labels_that_are_no_class_are_named(load, labels, kind, said):
    with pytest.raises(DataError, match="row 1") as caught:
        load(pictures(), labels, images(kind))
    assert said in str(caught.value)


def test_f_a_damaged_picture_is_named_when_it_is_opened(load):
    held = pictures()
    held = [{"bytes": one["bytes"][:60], "path": None} for one in held]
    task = load(held, [CAT, DOG] * 4, images(datasets.Value("string")))
    with pytest.raises(DataError, match=r"train/0 is (broken|no picture)"):
        task.source.open("train/0")


@pytest.mark.parametrize(("bits", "white"), [(None, 65535), (12, 4095)])
def test_l11_dark_grey_of_sixteen_bits_is_not_brightened_unless_its_depth_is_given(load, bits, white):
    stream = io.BytesIO()
    Image.fromarray(np.array([[0, 1000, 4000]], dtype=np.uint16)).save(stream, "png")
    held = [{"bytes": stream.getvalue(), "path": None}, *pictures()[1:]]
    task = load(held, [CAT, DOG] * 4, images(datasets.Value("string")), bits=bits)
    shades = np.asarray(task.source.open("train/0"))[0, :, 0].tolist()
    assert task.bits == bits and shades == [int(np.floor(value / white * 255 + 0.5)) for value in (0, 1000, 4000)]

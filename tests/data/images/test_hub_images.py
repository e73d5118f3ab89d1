"""Pictures in hub data sets, read from local folders of parquet files; the hub itself is never asked."""

import io

import numpy as np
import pytest
from PIL import Image

from maao.data.images.hub import load_hub_images
from maao.errors import DataError

datasets = pytest.importorskip("datasets")
pytest.importorskip("pyarrow")


pytestmark = pytest.mark.usefixtures("quiet_datasets")


def png(seed: int, mode: str = "RGB", **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)).convert(mode).save(stream, "png", **options)
    return stream.getvalue()


NAMES = ["sea_lion", "cat"]
CLASSES = {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}


@pytest.fixture
def write(tmp_path):
    (tmp_path / "set").mkdir()

    def write(split: str, count: int, start: int, features=CLASSES, **columns) -> None:
        labels = [i % 2 for i in range(count)]
        pictures = [{"bytes": png(start + i), "path": None} for i in range(count)]
        held = {"image": pictures, "label": labels, **columns}
        datasets.Dataset.from_dict(held, features=datasets.Features(features)).to_parquet(tmp_path / "set" / f"{split}.parquet")

    return write


@pytest.fixture
def read(tmp_path):
    return lambda **options: load_hub_images(str(tmp_path / "set"), cache_dir=tmp_path / "cache", **{"shots": 2, **options})


def refused(read, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(**options)
    return str(caught.value)


def splits_of(part) -> set[str]:
    return {example.fields["image"].split("/")[0] for example in part}


def test_published_splits_become_parts_and_classes_keep_their_order(write, read):
    for number, split in enumerate(("train", "validation", "test")):
        write(split, 12, 100 * number)
    task = read()
    assert task.splits.labels == ("sea_lion", "cat") and task.class_names == ("sea lion", "cat")
    for name, part, size in (
        ("train", task.splits.train, 4), ("validation", task.splits.select, 4), ("test", task.splits.test, 12),
    ):  # fmt: skip
        assert splits_of(part) == {name} and len(part) == size
    key = task.splits.test[0].fields["image"]
    assert np.array_equal(np.asarray(task.source.open(key)), np.asarray(Image.open(io.BytesIO(png(200 + int(key.split("/")[1]))))))


def test_without_a_test_split_the_validation_split_is_reported(write, read):
    write("train", 12, 0)
    write("validation", 6, 100)
    task = read()
    assert splits_of(task.splits.test) == {"validation"} and splits_of(task.splits.select) == {"train"}
    assert any("test is the split 'validation'" in note for note in task.notes)


def test_a_test_split_without_labels_is_not_used(write, read):
    write("train", 12, 0)
    write("validation", 6, 100)
    write("test", 6, 200, label=[-1] * 6)
    task = read()
    assert splits_of(task.splits.test) == {"validation"} and any("have no label" in note for note in task.notes)


def test_one_split_is_cut_into_three(write, read):
    write("train", 20, 0)
    splits = read().splits
    assert len(splits.train) == 4 and len(splits.select) == 4 and len(splits.test) == 10


def test_labels_may_be_texts_and_columns_may_be_named(write, read):
    features = {"image": datasets.Image(), "label": datasets.Value("int64"), "kind": datasets.Value("string"), "img": datasets.Image()}
    kinds = ["猫" if i % 2 else "dog" for i in range(20)]
    write("train", 20, 0, features, kind=kinds, img=[{"bytes": png(500 + i), "path": None} for i in range(20)])
    task = read(label_field="kind", image_field="img")
    assert task.class_names == ("dog", "猫") and any("猫" in note for note in task.notes)
    row = int(task.splits.train[0].fields["image"].split("/")[1])
    assert np.array_equal(np.asarray(task.source.open(f"train/{row}")), np.asarray(Image.open(io.BytesIO(png(500 + row)))))


def test_a_missing_column_or_one_without_pictures_is_named(write, read):
    write("train", 12, 0)
    assert "Did you mean 'image'?" in refused(read, image_field="imgae")
    assert "holds no pictures" in refused(read, image_field="label")
    assert "Did you mean 'label'?" in refused(read, label_field="lable")


def test_rows_without_label_or_picture_are_all_named(write, read):
    write("train", 6, 0, image=[{"bytes": png(i), "path": None} for i in range(5)] + [None], label=[0, 1, -1, 0, 1, 0])
    text = refused(read)
    assert "2 of 6 rows" in text and "row 2 (it has no label)" in text and "row 5 (it has no picture)" in text


def test_a_picture_in_train_and_test_stays_in_train(write, read):
    write("train", 12, 0)
    write("test", 12, 6)  # the first six are the last six of train
    task = read()
    assert len(task.splits.test) == 6 and any("6 pictures repeat others" in note for note in task.notes)


def test_a_picture_under_two_labels_is_refused(write, read):
    write("train", 12, 0)
    write("test", 12, 5)
    assert "The same picture stands under" in refused(read)


def test_orientation_and_damage_are_handled_as_in_files(write, read, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, broken = png(1, exif=exif), png(2)[:60]
    write("train", 8, 10, image=[{"bytes": data, "path": None} for data in (turned, broken, *(png(i) for i in range(10, 16)))])
    source = read(select_shots=1).source
    assert source.open("train/0").size == (4, 6)
    with pytest.raises(DataError, match=r"train/1 is (broken|no picture)"):
        source.open("train/1")
    with pytest.raises(DataError, match="There is no picture 'train/99'"):
        source.open("train/99")


def test_an_unknown_folder_is_said_in_plain_words(read):
    assert "no such data set" in refused(read)

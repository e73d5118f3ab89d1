"""What an image folder may look like, and what is said of one that may not."""

import os
import unicodedata
import zlib
from pathlib import Path

import pytest
from PIL import Image

from maao.data.images import load_folder
from maao.errors import DataError
from tests.data.images.test_image_folders import keys, picture


def fill(base: Path, labels: tuple[str, ...] = ("cat", "dog"), count: int = 6) -> Path:
    for label in labels:
        for i in range(count):
            picture(base / label / f"{i}.png", hash_of(f"{base.name}/{label}/{i}"))
    return base


def hash_of(text: str) -> int:
    return zlib.crc32(text.encode())


def refused(root: Path, **options) -> str:
    with pytest.raises(DataError) as caught:
        load_folder(root, **{"shots": 2, **options})
    return str(caught.value)


def test_a_class_may_be_called_train_but_splits_and_classes_do_not_mix(tmp_path):
    assert load_folder(fill(tmp_path / "vehicles", ("train", "bus")), shots=2).splits.labels == ("bus", "train")
    mixed = fill(tmp_path / "mixed", ("cat",))
    fill(mixed / "train")
    text = refused(mixed)
    assert "holds splits ('train') and other folders ('cat')" in text


def test_splits_without_train_are_refused(tmp_path):
    fill(tmp_path / "val")
    fill(tmp_path / "test")
    assert "but no 'train'" in refused(tmp_path)


def test_two_folders_to_select_with_are_refused(tmp_path):
    for part in ("train", "val", "select"):
        fill(tmp_path / part)
    assert "two folders to select with" in refused(tmp_path)


def test_a_class_that_train_lacks_is_refused_with_the_nearest(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "val")
    fill(tmp_path / "test", ("cat", "Dog"))
    text = refused(tmp_path)
    assert "'Dog'" in text and "Did you mean 'dog'?" in text


def test_without_a_test_folder_no_test_result_can_be_had(tmp_path):
    fill(tmp_path / "train")
    task = load_folder(tmp_path, shots=2)
    assert task.splits.test == () and any("test is empty" in note for note in task.notes)


def test_folders_that_differ_in_composed_letters_only_are_refused(tmp_path):
    fill(tmp_path, (unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café"), "tea"))
    assert "differ only in how their letters are composed" in refused(tmp_path)


@pytest.mark.parametrize("labels", [("hot_dog", "hot dog"), ("hot_dog", "Hot dog")])
def test_names_that_are_the_same_in_words_are_refused(tmp_path, labels):
    assert "same name in words" in refused(fill(tmp_path, labels))


def test_a_name_of_underscores_only_is_refused(tmp_path):
    assert "the class '__' has no name" in refused(fill(tmp_path, ("__", "cat")))


def test_all_empty_classes_are_named(tmp_path):
    fill(tmp_path)
    for label in ("eel", "fox"):
        (tmp_path / label).mkdir()
    (tmp_path / "fox" / "notes.txt").write_text("none yet")
    text = refused(tmp_path, skip_bad=True)
    assert "2 class folders hold no pictures" in text and "eel" in text and "fox" in text


def test_many_broken_pictures_are_counted_and_five_are_named(tmp_path):
    fill(tmp_path, count=9)
    for i in range(7):
        (tmp_path / "cat" / f"{i}.png").write_bytes(b"broken")
    text = refused(tmp_path)
    assert "7 pictures cannot be read" in text and "And 2 more." in text and text.count("is no picture") == 5
    notes = load_folder(tmp_path, shots=1, select_shots=1, skip_bad=True).notes
    assert any("7 pictures cannot be read and are left out" in note and "6.png" in note for note in notes)
    for i in (7, 8):
        (tmp_path / "cat" / f"{i}.png").write_bytes(b"broken")
    assert "No picture of the classes 'cat'" in refused(tmp_path, skip_bad=True)


def test_a_link_to_nothing_is_a_broken_picture(tmp_path):
    fill(tmp_path)
    os.symlink(tmp_path / "nowhere.png", tmp_path / "cat" / "link.png")
    assert "There is no picture" in refused(tmp_path) and "link.png" in refused(tmp_path)


def test_a_picture_in_two_splits_stays_in_train(tmp_path):
    for part in ("train", "val", "test"):
        fill(tmp_path / part)
    copy = (tmp_path / "train" / "cat" / "0.png").read_bytes()
    (tmp_path / "val" / "cat" / "renamed.png").write_bytes(copy)
    (tmp_path / "test" / "cat" / "renamed.png").write_bytes(copy)
    task = load_folder(tmp_path)
    assert not any("renamed" in key for key in keys(task.splits.select + task.splits.test)) and len(task.splits.test) == 12
    assert any("2 pictures repeat others" in note and "test/cat/renamed.png" in note for note in task.notes)


def test_a_split_of_nothing_but_repeats_is_refused(tmp_path):
    fill(tmp_path / "train")
    (tmp_path / "val").symlink_to(tmp_path / "train")
    assert "All pictures of select repeat" in refused(tmp_path)


def test_splits_do_not_depend_on_how_files_are_called(tmp_path):
    fill(tmp_path, count=12)

    def contents() -> list[list[str]]:
        splits = load_folder(tmp_path, shots=2, seed=4).splits
        return [[example.fields["content"] for example in part] for part in (splits.train, splits.select)]

    before = contents()
    for number, file in enumerate(sorted((tmp_path / "cat").iterdir(), reverse=True)):
        file.rename(file.with_name(f"new{number:02}.png"))
    assert contents() == before


def test_one_pixel_is_noted(tmp_path):
    fill(tmp_path)
    Image.new("RGB", (1, 1), (3, 1, 4)).save(tmp_path / "cat" / "dot.png")
    assert any("one pixel" in note and "cat/dot.png" in note for note in load_folder(tmp_path, shots=2).notes)


def test_pictures_outside_of_classes_are_noted(tmp_path):
    picture(fill(tmp_path) / "cover.png", 5)
    assert any("stand in no class folder" in note and "cover.png" in note for note in load_folder(tmp_path, shots=2).notes)

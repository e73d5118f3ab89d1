"""Folders of pictures: which pictures are read, under which labels, and what is said of the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from maao.data.images import load_folder
from maao.data.images.folder import without_repeats
from maao.errors import DataError
from maao.types import Example
from tests.data.images.test_folder_rules import fill, refused
from tests.data.images.test_image_folders import keys, picture


def all_keys(task) -> set[str]:
    return keys(task.splits.train + task.splits.select + task.splits.test)


def told(task, words: str) -> str:
    found = [note for note in task.notes if words in note]
    assert len(found) == 1, (words, task.notes)
    return found[0]


@pytest.mark.parametrize(
    "names",
    [
        ("Training", "Validation", "Testing"),
        ("train", "val", "test"),
        ("TRAIN", "valid", "TEST"),
        ("train_set", "dev-set", "test_set"),
        ("Train Images", "val2017", "tests"),
        ("trainset", "development", "Evaluation"),
    ],
)
def test_l8_common_names_of_splits_are_splits(tmp_path, names):
    for name in names:
        fill(tmp_path / name)
    task = load_folder(tmp_path)
    assert task.splits.labels == ("cat", "dog")
    parts = (task.splits.train, task.splits.select, task.splits.test)
    assert [{key.split("/")[0] for key in keys(part)} for part in parts] == [{name} for name in names]
    assert [len(part) for part in parts] == [12, 8, 12]
    if names != ("train", "val", "test"):
        assert f"{names[0]} as train" in told(task, "read as splits") or names[0] == "train"


def test_l8_splits_without_class_folders_never_become_classes(tmp_path):
    fill(tmp_path, ("Training", "Testing"))
    text = refused(tmp_path)
    assert "'Testing', 'Training'" in text and "no class folders" in text and "Testing/CLASS/1.png" in text
    one = fill(tmp_path / "one", ("train", "bus"))
    assert "read as a class, not as a split" in told(load_folder(one, shots=2), "'train'")


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (["fold1/cat", "fold1/dog", "fold2/cat", "fold2/dog"], "folders of the same names ('cat', 'dog')"),
        (["cat/train", "cat/test", "dog/train", "dog/test"], "put the splits above the classes (test/cat/1.png)"),
        (["data/cat", "data/dog"], "holds one folder, 'data', and that holds folders of pictures ('cat', 'dog')"),
        (["train/data/cat", "train/data/dog"], "holds one folder, 'data'"),
    ],
)
def test_l8_nested_folders_that_may_be_the_classes_are_refused(tmp_path, layout, said):
    for place in layout:
        fill((tmp_path / place).parent, ((tmp_path / place).name,))
    assert said in refused(tmp_path)


def test_l8_nested_folders_that_count_as_a_class_are_told(tmp_path):
    fill(tmp_path / "animals", ("cats", "dogs"))
    fill(tmp_path / "vehicles", ("cars", "trucks"))
    task = load_folder(tmp_path, shots=2)
    assert task.splits.labels == ("animals", "vehicles")
    assert "'animals/cats', 'animals/dogs', 'vehicles/cars', 'vehicles/trucks'" in told(task, "4 folders stand inside class folders")


@pytest.mark.parametrize(
    "name", [".ipynb_checkpoints", "__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found", "System Volume Information", ".git", "__pycache__"]
)
@pytest.mark.parametrize("place", ["", "cat", "cat/young"])
def test_l9_hidden_and_system_folders_are_left_out_at_any_depth(tmp_path, name, place):
    fill(tmp_path)
    picture(tmp_path / "cat" / "young" / "a.png", 11)
    picture(tmp_path / place / name / "b" / "copy.png", 12)
    task = load_folder(tmp_path, shots=2)
    assert len(all_keys(task)) == 13 and not any("copy" in key for key in all_keys(task))
    assert (f"{place}/{name}" if place else name) in told(task, "1 hidden files and folders")


def test_l9_hidden_and_system_files_are_left_out_and_counted(tmp_path):
    fill(tmp_path)
    for name in (".DS_Store", "Thumbs.db", "._x.jpg", ".hidden.png", "desktop.ini"):
        (tmp_path / "cat" / name).write_bytes(b"not a picture")
    task = load_folder(tmp_path, shots=2)
    assert len(all_keys(task)) == 12 and "'cat/._x.jpg'" in told(task, "5 hidden files and folders")


def test_l9_in_splits_too(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "test", ("cat", "dog"), 3)
    picture(tmp_path / "train" / ".ipynb_checkpoints" / "c.png", 3)
    picture(tmp_path / ".cache" / "c" / "c.png", 4)
    assert load_folder(tmp_path, shots=2).splits.labels == ("cat", "dog")


def test_l10_links_to_folders_are_followed(tmp_path):
    root = fill(tmp_path / "root")
    elsewhere = fill(tmp_path / "elsewhere", ("more",), 2)
    (root / "cat" / "linked").symlink_to(elsewhere / "more")
    (root / "owl").symlink_to(fill(tmp_path / "birds", ("owl",)) / "owl")
    task = load_folder(root, shots=2)
    assert len(all_keys(task)) == 6 + 2 + 6 + 6 and task.splits.labels == ("cat", "dog", "owl")
    assert "'cat/linked'" in told(task, "1 folders stand inside class folders")
    assert task.source.open("cat/linked/0.png").size == (8, 6)


def test_l10_links_that_lead_round_end(tmp_path):
    fill(tmp_path)
    (tmp_path / "cat" / "round").symlink_to(tmp_path / "cat")
    (tmp_path / "dog" / "self").symlink_to("self")
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / "dog" / one).mkdir()
        (tmp_path / "dog" / one / "there").symlink_to(tmp_path / "dog" / other)
    task = load_folder(tmp_path, shots=2)
    assert len(all_keys(task)) == 12 and "'cat/round'" in told(task, "are not followed")
    assert "'self'" in told(task, "are no pictures")


def test_m12_a_class_folder_that_is_no_utf8_is_named(tmp_path):
    fill(tmp_path)
    os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")
    text = refused(tmp_path)
    assert "no UTF-8" in text and "caf" in text and text.encode()  # the message itself can be written


def test_m12_a_file_or_inner_folder_that_is_no_utf8_is_a_bad_picture(tmp_path):
    fill(tmp_path)
    good = (tmp_path / "cat" / "0.png").read_bytes()
    for place in (b"/cat/\xff.png", b"/dog/\xfe"):
        if place.endswith(b"png"):
            with open(os.fsencode(tmp_path) + place, "wb") as file:
                file.write(good)
        else:
            os.mkdir(os.fsencode(tmp_path) + place)
    assert "2 pictures cannot be read" in refused(tmp_path)
    task = load_folder(tmp_path, shots=2, skip_bad=True)
    assert len(all_keys(task)) == 12
    told(task, "no UTF-8").encode()


@pytest.mark.parametrize("name", ["new\nline", "red\x1b[31m", "tab\there", "line\u2028sep"])
def test_m12_class_names_with_line_breaks_or_escape_codes_are_refused(tmp_path, name):
    text = refused(fill(tmp_path, ("cat", name)))
    assert "line breaks or escape codes" in text and text.isprintable()


def test_m12_file_names_with_escape_codes_are_read_and_shown_escaped(tmp_path):
    fill(tmp_path)
    picture(tmp_path / "cat" / "red\x1b[31m\n.png", 4)
    (tmp_path / "dog" / "bad\x1b[31m.png").write_bytes(b"x")
    assert refused(tmp_path).isprintable()
    task = load_folder(tmp_path, shots=2, skip_bad=True)
    assert len(all_keys(task)) == 13 and all(note.isprintable() for note in task.notes)


def test_m12_odd_names_are_kept_or_told(tmp_path):
    fill(tmp_path, ("cat ", "🦉", "x" * 200))
    task = load_folder(tmp_path, shots=2)
    assert task.class_names == ("cat", "x" * 200, "🦉")
    assert "same name in words" in refused(fill(tmp_path, ("cat", "cat ")))
    for labels, said in ((("Cat", "cat"), "differ only in case"), (("cat",), "one class only")):
        assert said in refused(fill(tmp_path / said, labels))
    (fill(tmp_path / "empty") / "void").mkdir()
    assert "'void'" in refused(tmp_path / "empty")


def test_m12_a_folder_that_cannot_be_listed_is_a_bad_picture(tmp_path, monkeypatch):
    fill(tmp_path)
    picture(tmp_path / "cat" / "locked" / "a.png", 3)
    listed = os.listdir

    def listdir(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "listdir", listdir)
    text = refused(tmp_path)
    assert "locked cannot be read: Permission denied" in text and "data.skip_bad" in text
    assert "locked" in told(load_folder(tmp_path, shots=2, skip_bad=True), "cannot be read")


def test_f_zero_bytes_and_files_that_are_no_pictures_are_told(tmp_path):
    fill(tmp_path)
    (tmp_path / "cat" / "zero.png").write_bytes(b"")
    (tmp_path / "cat" / "labels.csv").write_text("a,b")
    (tmp_path / "dog" / "scan.pdf").write_bytes(b"%PDF")
    assert "zero.png is empty" in refused(tmp_path)
    task = load_folder(tmp_path, shots=2, skip_bad=True)
    assert "zero.png is empty" in told(task, "1 pictures cannot be read")
    assert "'labels.csv', 'scan.pdf'" in told(task, "2 files in")


def test_f_repeats_across_splits_stay_in_the_earlier_one():
    parts = {name: [Example({"image": f"{name}/1", "content": "same"}, "cat")] for name in ("test", "select", "train")}
    notes: list[str] = []
    kept = without_repeats(parts, notes)
    assert [len(kept[name]) for name in ("train", "select", "test")] == [1, 0, 0] and "2 pictures repeat" in notes[0]


def test_f_a_root_that_is_a_file_is_told(tmp_path: Path):
    with pytest.raises(DataError, match="There is no folder"):
        load_folder(picture(tmp_path / "x.png", 1))


@pytest.mark.parametrize("case", ["differ only in case", "one class only", "holds no pictures", "two folders to test with", "train lacks"])
def test_m12_errors_about_a_folder_whose_own_name_is_no_utf8_can_be_printed(tmp_path, case):
    root = tmp_path / os.fsdecode(b"r\xe9")
    try:
        root.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    if case in ("two folders to test with", "train lacks"):
        parts = {"train": ("cat", "dog"), "test": ("cat", "owl")} | ({"Testing": ("cat",)} if case.startswith("two") else {})
        for part, labels in parts.items():
            for label in labels:
                picture(root / part / label / "1.png", len(part + label))
    else:
        for number, label in enumerate(("cat", "Cat") if case == "differ only in case" else ("cat",)):
            picture(root / label / "1.png", number)
        if case == "holds no pictures":
            (root / "dog").mkdir()
    text = refused(root)
    assert case in text and "r\\udce9" in text and text.isprintable()

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maao.data.images import load_folder
from maao.data.images.levels import Stated, to_rgb
from maao.data.images.reading import read_image
from maao.data.sampling import base_and_new
from maao.errors import DataError


def picture(path: Path, seed: int, size: tuple[int, int] = (8, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, label in enumerate(("cat", "sea_lion")):
        for i in range(9):
            picture(tmp_path / label / f"{i}.png", 100 * number + i)
    return tmp_path


def keys(part: tuple[object, ...]) -> set[str]:
    return {e.fields["image"] for e in part}  # type: ignore[attr-defined]


# -- reading


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "LA", "RGBA", "YCbCr"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    grey = Image.fromarray(np.full((4, 4), 200, dtype=np.uint8)).convert("RGB")
    file = tmp_path / ("x.jpg" if mode in ("CMYK", "YCbCr") else "x.png")
    grey.convert(mode).save(file)
    pixels = np.asarray(read_image(file))
    assert pixels.shape == (4, 4, 3)
    assert abs(float(pixels.mean()) - (255 if mode == "1" else 200)) < 60 if mode == "1" else 3


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert np.asarray(read_image(tmp_path / "deep.png"))[0, :, 0].tolist() == [0, 128, 255]


def test_what_is_transparent_is_white() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 255, 255))
    assert np.asarray(to_rgb(image, Stated(), "it").image).tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_a_picture_is_turned_as_its_camera_said(tmp_path: Path) -> None:
    image = Image.new("RGB", (6, 2))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").size == (2, 6)


def test_one_pixel_is_a_picture(tmp_path: Path) -> None:
    assert read_image(picture(tmp_path / "dot.png", 0, (1, 1))).size == (1, 1)


@pytest.mark.parametrize(("content", "told"), [(b"", "is empty"), (b"hello", "is no picture"), (None, "is broken")])
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes | None, told: str) -> None:
    file = picture(tmp_path / "bad.png", 0, (64, 64))
    file.write_bytes(file.read_bytes()[:2000] if content is None else content)
    with pytest.raises(DataError, match=rf"bad\.png {told}"):
        read_image(file)
    with pytest.raises(DataError, match="There is no picture"):
        read_image(tmp_path / "none.png")


# -- folders


def test_a_folder_a_class_is_sampled(folder: Path) -> None:
    task = load_folder(folder, shots=3, select_shots=2, seed=1)
    splits = task.splits
    assert (len(splits.train), len(splits.select), len(splits.test)) == (6, 4, 8)
    assert (splits.labels, task.class_names) == (("cat", "sea_lion"), ("cat", "sea lion"))
    assert not keys(splits.train) & keys(splits.select) and not keys(splits.train + splits.select) & keys(splits.test)
    assert task.source.open(splits.train[0].fields["image"]).size == (8, 6)


def test_fewer_shots_are_a_part_of_more_and_test_is_the_same_for_every_seed(folder: Path) -> None:
    two, three = (load_folder(folder, shots=n, select_shots=2, seed=5).splits for n in (2, 3))
    other = load_folder(folder, shots=3, select_shots=2, seed=6).splits
    assert three.test == other.test and keys(three.train) != keys(other.train)
    same = load_folder(folder, shots=2, select_shots=3, seed=5).splits
    assert same.test == three.test
    assert two.digest != three.digest


def test_folders_of_parts_are_taken_as_they_are(tmp_path: Path) -> None:
    for n, part in enumerate(("train", "val", "test")):
        for label in ("a", "b"):
            for i in range(4):
                picture(tmp_path / part / label / f"{i}.png", 1000 * n + 100 * ord(label) + i)
    whole = load_folder(tmp_path).splits
    assert [len(part) for part in (whole.train, whole.select, whole.test)] == [8, 8, 8]
    few = load_folder(tmp_path, shots=2, test_size=3).splits
    assert [len(part) for part in (few.train, few.select, few.test)] == [4, 4, 3]
    assert all(e.fields["image"].startswith("val/") for e in few.select)


@pytest.mark.parametrize("case", ["missing", "bare", "empty", "case", "one", "many", "twins"])
def test_folders_that_cannot_be_used_say_why(folder: Path, case: str) -> None:
    told = {
        "missing": "There is no folder",
        "bare": "holds no folders",
        "empty": "holds no pictures",
        "case": "differ only in case",
        "one": "one class only",
        "many": r"'cat' has 9.*data\.shots.*data\.fewer",
        "twins": "same name in words",
    }
    root = folder
    if case == "missing":
        root = folder / "none"
    elif case == "bare":
        root = folder / "cat"
    elif case == "empty":
        (folder / "void").mkdir()
    elif case == "case":
        picture(folder / "Cat" / "1.png", 7)
    elif case == "one":
        for file in (folder / "sea_lion").iterdir():
            file.unlink()
        (folder / "sea_lion").rmdir()
    elif case == "twins":
        picture(folder / "sea lion" / "1.png", 8)
    with pytest.raises(DataError, match=told[case]):
        load_folder(root, shots=16 if case == "many" else 3)


def test_what_there_is_can_be_taken(folder: Path) -> None:
    splits = load_folder(folder, shots=16, fewer=True).splits
    assert (len(splits.train), len(splits.select), len(splits.test)) == (16, 2, 0)


def test_broken_pictures_stop_a_run_unless_the_user_says_so(folder: Path) -> None:
    (folder / "cat" / "3.png").write_bytes(b"no picture")
    (folder / "cat" / "readme.txt").write_text("hello")
    with pytest.raises(DataError, match=r"1 pictures cannot be read.*3\.png.*data\.skip_bad = true"):
        load_folder(folder, shots=3)
    task = load_folder(folder, shots=3, skip_bad=True)
    assert any("3.png" in note for note in task.notes) and any("readme.txt" in note for note in task.notes)
    assert "cat/3.png" not in keys(task.splits.train + task.splits.select + task.splits.test)


def test_repeats_are_dropped_and_contradictions_refused(folder: Path) -> None:
    (folder / "cat" / "again.png").write_bytes((folder / "cat" / "0.png").read_bytes())
    task = load_folder(folder, shots=3)
    assert any("repeat others byte for byte" in note for note in task.notes)
    (folder / "sea_lion" / "again.png").write_bytes((folder / "cat" / "0.png").read_bytes())
    with pytest.raises(DataError, match="stands under 'cat'"):
        load_folder(folder, shots=3)


def test_other_letters_are_kept_and_told(folder: Path) -> None:
    for i in range(9):
        picture(folder / "猫" / f"{i}.png", 900 + i)
    task = load_folder(folder, shots=3)
    assert task.class_names[2] == "猫" and any("猫" in note for note in task.notes)


def test_the_first_half_is_the_base(folder: Path) -> None:
    assert base_and_new(["a", "b", "c", "d", "e"]) == (("a", "b", "c"), ("d", "e"))
    for i in range(9):
        picture(folder / "owl" / f"{i}.png", 700 + i)
    half = load_folder(folder, shots=3).of_classes(("owl", "sea_lion"))
    assert half.splits.labels == ("owl", "sea_lion") and half.class_names == ("owl", "sea lion") and len(half.splits.train) == 6

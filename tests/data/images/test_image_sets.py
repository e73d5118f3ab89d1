from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from maao.config import make_config
from maao.data.image_data import ImageData
from maao.data.images import CATALOG, load_catalog, load_emoji
from maao.data.images.emoji import EmojiSource, emoji_classes, emoji_folder
from maao.errors import ConfigError, DataError
from tests.data.images.test_image_folders import keys, picture

needs_emoji = pytest.mark.skipif(
    not Path(os.environ.get("MAAO_DATA", "data"), "emoji", "emoji.json").is_file(),
    reason="MAAO_DATA holds no emoji data (docs/image-data.md)",
)


def pets(root: Path, name: str = "oxford_pets", classes: tuple[str, ...] = ("abyssinian", "great_dane", "pug")) -> Path:
    published = CATALOG[name]
    base = root / published.folder
    held: dict[str, list[Any]] = {"train": [], "val": [], "test": []}
    for number, label in enumerate(classes):
        for split, count in (("train", 6), ("val", 4), ("test", 3)):
            for i in range(count):
                file = f"{label}_{split}_{i}.png"
                picture(base / published.images / file, 1000 * number + i + 100 * len(split))
                held[split].append([file, number, label])
    (base / published.split).write_text(json.dumps(held))
    return root


def test_a_published_set_is_sampled_by_its_own_splits(tmp_path: Path) -> None:
    task = load_catalog("oxford_pets", pets(tmp_path), shots=2, seed=1)
    splits = task.splits
    assert [len(part) for part in (splits.train, splits.select, splits.test)] == [6, 6, 9]
    assert task.class_names == ("abyssinian", "great dane", "pug") and task.template == "a photo of a {class}, a type of pet."
    assert all("_val_" in key for key in keys(splits.select)) and all("_test_" in key for key in keys(splits.test))
    four = load_catalog("oxford_pets", tmp_path, shots=4, seed=1).splits
    assert keys(splits.train) < keys(four.train)
    assert task.source.open(splits.test[0].fields["image"]).size == (8, 6)


def test_base_and_new_classes_part_and_are_judged_apart(tmp_path: Path) -> None:
    root = pets(tmp_path, classes=("abyssinian", "great_dane", "pug", "ragdoll"))
    base = ImageData(source="oxford_pets", root=str(root), protocol="base-to-new", shots=2).load(0)
    new = base.transfer_sets["new classes"]
    assert base.class_names == ("abyssinian", "great dane") and new.class_names == ("pug", "ragdoll")
    assert len(base.splits.test) == len(new.splits.test) == 6


def test_names_of_eurosat_are_put_right(tmp_path: Path) -> None:
    task = load_catalog("eurosat", pets(tmp_path, "eurosat", ("AnnualCrop", "SeaLake")), shots=2)
    assert task.class_names == ("Annual Crop Land", "Sea or Lake")


def test_aircraft_and_imagenet_have_layouts_of_their_own(tmp_path: Path) -> None:
    base = tmp_path / "fgvc_aircraft"
    for n, split in enumerate(("train", "val", "test")):
        lines = []
        for v, variant in enumerate(("707-320", "Boeing 717")):
            for i in range(3):
                picture(base / "images" / f"{n}{v}{i}.jpg", 100 * n + 10 * v + i)
                lines.append(f"{n}{v}{i} {variant}")
        (base / f"images_variant_{split}.txt").write_text("\n".join(lines))
    (base / "variants.txt").write_text("707-320\nBoeing 717\n")
    task = load_catalog("fgvc_aircraft", tmp_path, shots=2)
    assert task.class_names == ("707-320", "Boeing 717") and len(task.splits.test) == 6
    net = tmp_path / "imagenet"
    for n, split in enumerate(("train", "val")):
        for c, code in enumerate(("n01", "n02")):
            for i in range(4):
                picture(net / "images" / split / code / f"{i}.png", 500 + 100 * n + 10 * c + i)
    (net / "classnames.txt").write_text("n01 tench\nn02 great white shark\n")
    task = load_catalog("imagenet", tmp_path, shots=2)
    assert task.class_names == ("tench", "great white shark")
    assert [len(part) for part in (task.splits.train, task.splits.select, task.splits.test)] == [4, 4, 8]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="oxford_pets"):
        load_catalog("oxford_pet", tmp_path)
    with pytest.raises(DataError, match=r"oxford_pets.*docs/image-data\.md"):
        load_catalog("oxford_pets", tmp_path)
    (tmp_path / "oxford_pets").mkdir()
    with pytest.raises(DataError, match=r"split_zhou_OxfordPets\.json"):
        load_catalog("oxford_pets", tmp_path)
    (tmp_path / "oxford_pets" / "split_zhou_OxfordPets.json").write_text("{}")
    with pytest.raises(DataError, match="not a file of published splits"):
        load_catalog("oxford_pets", tmp_path)
    with pytest.raises(DataError, match=r"needs data\.root"):
        ImageData(source="dtd").load(0)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"bits": 12}, "'data.bits' would be ignored"),
        ({"source": "pictures", "style": "noto"}, "'data.style' would be ignored"),
        ({"select_shots": 2}, "'data.select_shots' would be ignored"),
        ({"source": "pictures", "hub_config": "x"}, "'data.hub_config' would be ignored"),
        ({"protocol": "cross-dataset"}, "needs data.targets"),
        ({"targets": ["dtd"]}, "'data.targets' would be ignored, since data.protocol is 'few-shot', and only cross-dataset"),
    ],
)
def test_settings_that_nothing_reads_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_config({"data": {"input": "image", **given}}).data.options.load(0)


@needs_emoji
def test_the_emoji_task_has_its_classes_and_keeps_groups_apart() -> None:
    task = load_emoji(shots=8, seed=0)
    splits = task.splits
    assert (len(task.class_names), len(splits.train), len(splits.select)) == (24, 192, 96)
    per_class = [sum(e.label == label for e in splits.test) for label in splits.labels]
    assert min(per_class) >= 8 and max(per_class) == 12
    classes = emoji_classes(EmojiSource(emoji_folder()))
    assert min(len(groups) for groups in classes.values()) >= 20
    group_of = {f"twemoji/{e['code']}": g for groups in classes.values() for g, e in groups.items()}
    groups = [{group_of[key] for key in keys(part)} for part in (splits.train, splits.select, splits.test)]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert task.source.open("noto/1F600").size == (64, 64)
    with pytest.raises(DataError, match="no emoji"):
        task.source.open("noto/nothing")


@needs_emoji
def test_fewer_emoji_shots_are_a_part_of_more() -> None:
    one, eight, other = load_emoji(shots=1, seed=3).splits, load_emoji(shots=8, seed=3).splits, load_emoji(shots=8, seed=4).splits
    assert keys(one.train) < keys(eight.train) and one.test == eight.test and one.select == eight.select
    assert keys(eight.train) != keys(other.train)
    with pytest.raises(ConfigError, match="1 to 8"):
        load_emoji(shots=9)

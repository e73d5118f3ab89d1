"""The field's data sets, in small folders of each layout."""

import json
from pathlib import Path

import pytest

from maao.data.images import CATALOG, load_catalog
from maao.errors import ConfigError, DataError
from maao.types import Example
from tests.data.images.test_image_folders import picture
from tests.data.images.test_image_sets import pets

ZHOU = sorted(set(CATALOG) - {"imagenet", "fgvc_aircraft"})
COUNTS = {"train": 6, "val": 4, "test": 3}


def aircraft(root: Path, variants: tuple[str, ...] = ("F-16A/B", "707-320", "A300B4")) -> Path:
    base = root / "fgvc_aircraft"
    number = 0
    for split, count in COUNTS.items():
        lines = []
        for variant in variants:
            for _ in range(count):
                number += 1
                picture(base / "images" / f"{number:07}.jpg", number)
                lines.append(f"{number:07} {variant}")
        (base / f"images_variant_{split}.txt").write_text("\n".join(lines) + "\n")
    (base / "variants.txt").write_text("\n".join(variants) + "\n")
    return root


def imagenet(root: Path, names: dict[str, str], count: int = 6) -> Path:
    base = root / "imagenet"
    for split in ("train", "val"):
        for code in names:
            for i in range(count):
                picture(base / "images" / split / code / f"{split}{i}.JPEG", int(code[1:]) * 100 + 10 * len(split) + i)
    (base / "classnames.txt").write_text("".join(f"{code} {name}\n" for code, name in names.items()))
    return root


def refused(*args, **options) -> str:
    with pytest.raises(DataError) as caught:
        load_catalog(*args, **{"shots": 2, **options})
    return str(caught.value)


def test_the_catalog_holds_the_eleven_sets_with_their_counts_of_classes():
    expected = {
        "imagenet": 1000, "caltech101": 100, "oxford_pets": 37, "stanford_cars": 196, "oxford_flowers": 102, "food101": 101,
        "fgvc_aircraft": 100, "sun397": 397, "dtd": 47, "eurosat": 10, "ucf101": 101,
    }  # fmt: skip
    assert {name: published.num_classes for name, published in CATALOG.items()} == expected
    assert all(published.template.count("{class}") == 1 for published in CATALOG.values())


@pytest.mark.parametrize("name", ZHOU)
def test_every_set_with_a_split_file_is_read_from_its_own_layout(name, tmp_path):
    task = load_catalog(name, pets(tmp_path, name, ("first_one", "Second", "third")), shots=4)
    assert task.splits.labels == task.class_names == ("first one", "Second", "third")
    assert [len(part) for part in (task.splits.train, task.splits.select, task.splits.test)] == [12, 12, 9]
    assert task.template == CATALOG[name].template
    for part in (task.splits.train, task.splits.select, task.splits.test):
        assert task.source.open(part[0].fields["image"]).mode == "RGB"
    assert any(f"published with {CATALOG[name].num_classes} classes, but 3" in note for note in task.notes)


def test_names_are_put_right_whether_the_split_file_has_old_or_new_ones(tmp_path):
    old = (  # as the folders are called
        "AnnualCrop",
        "Forest",
        "HerbaceousVegetation",
        "Highway",
        "Industrial",
        "Pasture",
        "PermanentCrop",
        "Residential",
        "River",
        "SeaLake",
    )
    names = load_catalog("eurosat", pets(tmp_path / "old", "eurosat", old), shots=1).class_names
    assert names == (
        "Annual Crop Land", "Forest", "Herbaceous Vegetation Land", "Highway or Road", "Industrial Buildings", "Pasture Land",
        "Permanent Crop Land", "Residential Buildings", "River", "Sea or Lake",
    )  # fmt: skip
    assert load_catalog("eurosat", pets(tmp_path / "new", "eurosat", names), shots=1).class_names == names
    caltech = pets(tmp_path, "caltech101", ("Faces", "Leopards", "Motorbikes", "airplanes", "water_lilly"))
    assert load_catalog("caltech101", caltech, shots=1).class_names == ("face", "leopard", "motorbike", "airplane", "water lilly")


def test_classes_stand_in_the_order_of_their_numbers_not_of_their_names(tmp_path):
    root = pets(tmp_path, classes=("zebra", "yak", "bee", "ant", "cat"))
    whole, base, new = (load_catalog("oxford_pets", root, shots=1, classes=half) for half in ("all", "base", "new"))
    assert whole.splits.labels == ("zebra", "yak", "bee", "ant", "cat")
    assert base.splits.labels == ("zebra", "yak", "bee") and new.splits.labels == new.class_names == ("ant", "cat")


def test_base_classes_are_sampled_as_among_all(tmp_path):
    root = pets(tmp_path, classes=("a", "b", "c", "d"))
    whole, base = (load_catalog("oxford_pets", root, shots=2, classes=half).splits for half in ("all", "base"))
    assert [example for example in whole.train if example.label in ("a", "b")] == list(base.train)
    with pytest.raises(ConfigError, match=r"'basis'\. Did you mean 'base'\?"):
        load_catalog("oxford_pets", root, shots=2, classes="basis")


def test_aircraft_are_read_from_their_text_files(tmp_path):
    task = load_catalog("fgvc_aircraft", aircraft(tmp_path), shots=4)
    assert task.class_names == ("F-16A/B", "707-320", "A300B4")
    assert [len(part) for part in (task.splits.train, task.splits.select, task.splits.test)] == [12, 12, 9]
    (tmp_path / "fgvc_aircraft" / "variants.txt").write_text("F-16A/B\n707-320\n")
    assert "line 13: the variant 'A300B4'" in refused("fgvc_aircraft", tmp_path)
    (tmp_path / "fgvc_aircraft" / "images_variant_val.txt").unlink()
    (tmp_path / "fgvc_aircraft" / "variants.txt").write_text("F-16A/B\n707-320\nA300B4\n")
    assert "images_variant_val.txt" in refused("fgvc_aircraft", tmp_path)


def test_imagenet_is_tested_on_its_validation_pictures_and_selects_out_of_train(tmp_path):
    names = {"n02": "shark", "n01": "tench", "n03": "tiger"}
    task = load_catalog("imagenet", imagenet(tmp_path, names), shots=2, select_shots=2)
    assert task.class_names == ("tench", "shark", "tiger")  # in the order of the codes
    sources = [{example.fields["image"].split("/")[0] for example in part} for part in (task.splits.train, task.splits.select)]
    assert sources == [{"train"}, {"train"}] and {e.fields["image"].split("/")[0] for e in task.splits.test} == {"val"}
    assert len(task.splits.test) == 18


def test_imagenets_classes_of_one_name_stay_two_classes(tmp_path):
    task = load_catalog("imagenet", imagenet(tmp_path, {"n01": "missile", "n02": "missile", "n03": "tiger"}), shots=2)
    assert task.class_names == ("missile", "missile", "tiger") and len(set(task.splits.labels)) == 3
    assert any("'missile'" in note for note in task.notes)


def test_imagenets_folders_and_names_must_agree(tmp_path):
    root = imagenet(tmp_path, {"n01": "tench", "n02": "shark"})
    (root / "imagenet" / "classnames.txt").write_text("n01 tench\n")
    assert "only one of them has 'n02'" in refused("imagenet", root)
    (root / "imagenet" / "classnames.txt").write_text("n01\n")
    assert "line 1" in refused("imagenet", root)


def test_what_is_missing_is_said_with_where_it_comes_from(tmp_path):
    text = refused("dtd", tmp_path)
    assert "There is no folder" in text and "www.robots.ox.ac.uk/~vgg/data/dtd" in text and "split_zhou_DescribableTextures.json" in text
    root = pets(tmp_path)
    assert "give the one above" in refused("oxford_pets", root / "oxford_pets")
    gone = sorted((root / "oxford_pets" / "images").glob("*_test_*"))
    for path in gone[:6]:
        path.unlink()
    text = refused("oxford_pets", root)
    assert "6 of 21 pictures are not in" in text and "and 1 more" in text and "'abyssinian_test_0.png'" in text


def test_a_damaged_split_file_is_said_so(tmp_path):
    root = pets(tmp_path)
    file = root / "oxford_pets" / "split_zhou_OxfordPets.json"
    held = json.loads(file.read_text())
    held["test"][0][2] = "pug"
    file.write_text(json.dumps(held))
    assert "class number 0 is called 'abyssinian' and 'pug'" in refused("oxford_pets", root)
    held["test"][0] = held["train"][0]
    file.write_text(json.dumps(held))
    shared = Example({"image": held["train"][0][0]}, "abyssinian")
    text = refused("oxford_pets", root, shots=6)
    assert "train and test share 1 example" in text and shared.fields["image"] in text


def test_more_shots_than_pictures_name_the_classes(tmp_path):
    text = refused("oxford_pets", pets(tmp_path), shots=16)
    assert "'abyssinian' has 6" in text and "'pug' has 6" in text
    assert len(load_catalog("oxford_pets", tmp_path, shots=16, fewer=True).splits.train) == 18

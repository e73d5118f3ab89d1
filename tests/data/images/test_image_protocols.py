"""Protocols of pictures: their names, what they ask for, and which results may be compared."""

import pytest
from tests.tasks.images.test_image_folders import picture
from tests.tasks.images.test_image_sets import images, pets

from maao.data.images import IMAGE_PROTOCOLS, check_same_images, load, load_elsewhere, load_folder, only, protocol_of
from maao.data.images.protocols import BASE_TO_NEW, EMOJI, FEW_SHOT, SHOTS_UNSET
from maao.data.images.sampling import base_and_new
from maao.errors import ConfigError, DataError


def test_the_field_selects_with_as_many_as_shots_and_at_most_four():
    assert {shots: protocol.select_shots for shots, protocol in FEW_SHOT.items()} == {1: 1, 2: 2, 4: 4, 8: 4, 16: 4}
    assert all(protocol.select_shots == 4 for protocol in EMOJI.values())


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "emoji-8"),
        ({"shots": 1, "style": "noto"}, "emoji-1-noto"),
        ({"protocol": "base-to-new"}, "emoji-8-base-to-new"),
        ({"source": "dtd"}, "images-few-shot-16"),
        ({"source": "hub:x", "shots": 4, "select_shots": 4}, "images-few-shot-4"),
        ({"source": "pictures"}, "images-few-shot-unset"),
        ({"source": "pictures", "shots": 3, "select_shots": 5, "test_size": 50, "fewer": True}, "images-few-shot-3-select-5-test-50-fewer"),
        ({"source": "dtd", "protocol": "base-to-new"}, "images-base-to-new"),
        ({"source": "dtd", "protocol": "base-to-new", "shots": 4}, "images-base-to-new-4"),
        ({"source": "pictures", "protocol": "base-to-new"}, "images-base-to-new-unset"),
        ({"source": "imagenet", "protocol": "cross-dataset", "targets": ["dtd"]}, "images-cross-dataset"),
    ],
)
def test_a_config_has_a_named_protocol_or_one_that_says_how_it_departs(given, name):
    protocol = protocol_of(images(**given))
    assert protocol.name == name
    assert (name in IMAGE_PROTOCOLS) == (protocol in IMAGE_PROTOCOLS.values())


def test_a_departing_protocol_asks_for_what_the_config_does():
    protocol = protocol_of(images(source="dtd", shots=3, select_shots=5, test_size=50))
    assert (protocol.shots, protocol.select_shots, protocol.test_size) == (3, 5, 50)
    fewer = protocol_of(images(source="dtd", protocol="base-to-new", shots=2))
    assert (fewer.shots, fewer.select_shots) == (2, 2) and protocol_of(images(source="x")) == SHOTS_UNSET


def test_results_of_one_protocol_are_compared_and_of_two_refused():
    rows = [{"protocol": "images-base-to-new"}] * 2
    assert check_same_images(rows) == BASE_TO_NEW
    with pytest.raises(ConfigError, match=r"result 2 of 'images-few-shot-16' \(16 shots"):
        check_same_images([*rows[:1], {"protocol": "images-few-shot-16"}])
    with pytest.raises(ConfigError, match=r"no protocol 'emoji-9'. Did you mean 'emoji-"):
        check_same_images([{"protocol": "emoji-9"}])
    own = protocol_of(images(source="dtd", shots=3))
    with pytest.raises(ConfigError, match="no protocol 'images-few-shot-3'"):
        check_same_images([{"protocol": own.name}])
    assert check_same_images([{"protocol": own.name}], [own]) == own


def test_the_first_note_names_the_protocol(tmp_path):
    task = load(images(source="oxford_pets", root=str(pets(tmp_path)), shots=2), 0)
    assert task.notes[0].startswith("Protocol images-few-shot-2 (") and task.splits.notes == task.notes


def test_halves_of_a_folder_share_no_class_and_no_picture(tmp_path):
    for label in "edcba":
        for i in range(8):
            picture(tmp_path / label / f"{i}.png", ord(label) * 100 + i)
    asked = images(source=str(tmp_path), protocol="base-to-new", shots=2)
    base, new = load(asked, 0), load_elsewhere(asked, 0)["new classes"]
    assert base.splits.labels == ("a", "b", "c") and new.splits.labels == ("d", "e")
    whole = load_folder(tmp_path, shots=2, seed=0)
    assert base.splits.test == tuple(e for e in whole.splits.test if e.label in "abc")
    assert only(whole, base_and_new(whole.splits.labels)[0]).splits.digest == base.splits.digest


def test_targets_of_cross_dataset_are_judged_by_their_own_classes(tmp_path):
    root = pets(pets(tmp_path), "dtd", ("banded", "dotted"))
    asked = images(source="oxford_pets", root=str(root), protocol="cross-dataset", targets=["dtd"], shots=2)
    found = load_elsewhere(asked, 0)
    assert list(found) == ["dtd"] and found["dtd"].class_names == ("banded", "dotted") and found["dtd"].template == "{class} texture."
    assert load(asked, 0).class_names == ("abyssinian", "great dane", "pug")
    with pytest.raises(DataError, match="There is no folder"):
        load_elsewhere(images(source="oxford_pets", root=str(root), protocol="cross-dataset", targets=["eurosat"]), 0)

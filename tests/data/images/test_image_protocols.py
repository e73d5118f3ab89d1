"""Protocols of pictures: their names, what they ask for, and which results may be compared."""

import pytest

from maao.data.image_data import ImageData
from maao.data.images import load_folder
from maao.data.protocols import BASE_TO_NEW, EMOJI, IMAGE_PROTOCOLS, IMAGES_FEW_SHOT, SHOTS_UNSET, check_same, protocol_of
from maao.data.sampling import base_and_new
from maao.errors import ConfigError, DataError
from tests.data.images.test_image_folders import picture
from tests.data.images.test_image_sets import pets


def test_the_field_selects_with_as_many_as_shots_and_at_most_four():
    assert {shots: protocol.select_shots for shots, protocol in IMAGES_FEW_SHOT.items()} == {1: 1, 2: 2, 4: 4, 8: 4, 16: 4}
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
    protocol = protocol_of(ImageData(**given))
    assert protocol.name == name
    assert (name in IMAGE_PROTOCOLS) == (protocol in IMAGE_PROTOCOLS.values())


def test_a_departing_protocol_asks_for_what_the_config_does():
    protocol = protocol_of(ImageData(source="dtd", shots=3, select_shots=5, test_size=50))
    assert (protocol.shots, protocol.select_shots, protocol.test_size) == (3, 5, 50)
    fewer = protocol_of(ImageData(source="dtd", protocol="base-to-new", shots=2))
    assert (fewer.shots, fewer.select_shots) == (2, 2) and protocol_of(ImageData(source="x")) == SHOTS_UNSET


def test_results_of_one_protocol_are_compared_and_of_two_refused():
    rows = [{"protocol": "images-base-to-new"}] * 2
    assert check_same(rows) == BASE_TO_NEW
    with pytest.raises(ConfigError, match=r"result 2 of 'images-few-shot-16' \(16 shots"):
        check_same([*rows[:1], {"protocol": "images-few-shot-16"}])
    with pytest.raises(ConfigError, match=r"no protocol 'emoji-9'. Did you mean 'emoji-"):
        check_same([{"protocol": "emoji-9"}])
    own = protocol_of(ImageData(source="dtd", shots=3))
    with pytest.raises(ConfigError, match="no protocol 'images-few-shot-3'"):
        check_same([{"protocol": own.name}])
    assert check_same([{"protocol": own.name}], [own]) == own


def test_the_first_note_names_the_protocol(tmp_path):
    dataset = ImageData(source="oxford_pets", root=str(pets(tmp_path)), shots=2).load(0)
    assert dataset.splits.notes[0].startswith("Protocol images-few-shot-2 (") and dataset.transfer_sets == {}


def test_halves_of_a_folder_share_no_class_and_no_picture(tmp_path):
    for label in "edcba":
        for i in range(8):
            picture(tmp_path / label / f"{i}.png", ord(label) * 100 + i)
    base = ImageData(source=str(tmp_path), protocol="base-to-new", shots=2).load(0)
    new = base.transfer_sets["new classes"]
    assert base.splits.labels == ("a", "b", "c") and new.splits.labels == ("d", "e")
    whole = load_folder(tmp_path, shots=2, seed=0)
    assert base.splits.test == tuple(e for e in whole.splits.test if e.label in "abc")
    assert whole.of_classes(base_and_new(whole.splits.labels)[0]).splits.digest == base.splits.digest


def test_targets_of_cross_dataset_are_judged_by_their_own_classes(tmp_path):
    root = pets(pets(tmp_path), "dtd", ("banded", "dotted"))
    asked = ImageData(source="oxford_pets", root=str(root), protocol="cross-dataset", targets=["dtd"], shots=2)
    dataset = asked.load(0)
    found = dataset.transfer_sets
    assert list(found) == ["dtd"] and found["dtd"].class_names == ("banded", "dotted") and found["dtd"].template == "{class} texture."
    assert dataset.class_names == ("abyssinian", "great dane", "pug")
    with pytest.raises(DataError, match="There is no folder"):
        asked.model_copy(update={"targets": ["eurosat"]}).load(0)

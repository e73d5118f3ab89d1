"""The emoji task: its classes, groups and seeds, on the real data where MAAO_DATA holds them and on a small made set."""

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from maao.data.images import load_emoji
from maao.data.images.emoji import EmojiSource, emoji_classes, emoji_folder
from maao.errors import DataError

FOLDER = Path(os.environ.get("MAAO_DATA", "data"), "emoji")
needs_emoji = pytest.mark.skipif(not (FOLDER / "emoji.npz").is_file(), reason=f"{FOLDER} is not there: set MAAO_DATA (docs/image-data.md)")


def codes(examples, label: str | None = None) -> list[str]:
    return [example.fields["image"].split("/")[1] for example in examples if label in (None, example.label)]


@pytest.fixture(scope="module")
def entries():
    return json.loads((FOLDER / "emoji.json").read_text(encoding="utf-8"))


@needs_emoji
@pytest.mark.parametrize("seed", range(5))
def test_every_class_has_its_counts_and_no_group_stands_twice(entries, seed):
    splits = load_emoji(seed=seed).splits
    group_of = {entry["code"]: entry["group"] for entry in entries}
    groups = [group_of[code] for part in (splits.train, splits.select, splits.test) for code in codes(part)]
    assert len(set(groups)) == len(groups)
    assert len(splits.labels) == 24
    for label in splits.labels:
        assert len(codes(splits.train, label)) == 8 and len(codes(splits.select, label)) == 4
        assert 8 <= len(codes(splits.test, label)) <= 12


@needs_emoji
def test_classes_are_the_subcategories_of_twenty_groups_or_more(entries):
    groups: dict[str, set[int]] = {}
    for entry in entries:
        groups.setdefault(entry["subcategory"], set()).add(entry["group"])
    expected = {name for name, own in groups.items() if len(own) >= 20} - {"country-flag", "alphanum", "other-symbol"}
    assert set(load_emoji().splits.labels) == expected and len(expected) == 24


@needs_emoji
def test_a_group_gives_its_first_picture_by_code(entries):
    first: dict[int, str] = {}
    for entry in entries:
        first[entry["group"]] = min(entry["code"], first.get(entry["group"], entry["code"]))
    splits = load_emoji(seed=2).splits
    assert {*codes(splits.train), *codes(splits.select), *codes(splits.test)} <= set(first.values())


@needs_emoji
def test_both_styles_have_the_same_splits_drawn_differently():
    ours, theirs = load_emoji(shots=2, seed=1), load_emoji(shots=2, seed=1, style="noto")
    assert codes(ours.splits.train) == codes(theirs.splits.train) and codes(ours.splits.test) == codes(theirs.splits.test)
    assert {example.fields["image"].split("/")[0] for example in theirs.splits.train} == {"noto"}
    held = np.load(FOLDER / "emoji.npz")
    number = [entry["code"] for entry in EmojiSource(FOLDER).entries].index(codes(ours.splits.train)[0])
    for task, style in ((ours, "twemoji"), (theirs, "noto")):
        assert np.array_equal(np.asarray(task.source.open(task.splits.train[0].fields["image"])), held[style][number])


@needs_emoji
def test_no_picture_of_twemoji_is_in_two_splits_even_byte_for_byte():
    task = load_emoji(seed=3)
    pixels = [
        task.source.open(e.fields["image"]).tobytes() for part in (task.splits.train, task.splits.select, task.splits.test) for e in part
    ]
    assert max(Counter(pixels).values()) == 1


@needs_emoji
def test_shots_are_the_first_of_eight():
    whole = load_emoji(seed=4).splits
    for shots in (1, 2, 4):
        part = load_emoji(shots=shots, seed=4).splits
        assert all(codes(part.train, label) == codes(whole.train, label)[:shots] for label in part.labels)
        assert part.select == whole.select and part.test == whole.test


@pytest.fixture
def made(tmp_path):
    """Two classes of 20 groups, of two pictures each, one of 19, and flags."""
    rows = []
    for name, size in (("face-happy", 20), ("tool", 20), ("drink", 19), ("country-flag", 30)):
        start = len(rows)
        rows += [
            {"code": f"{name}-{2 * g + v:03}", "name": name, "subcategory": name, "group": start + g} for g in range(size) for v in (1, 0)
        ]
    (tmp_path / "emoji").mkdir()
    (tmp_path / "emoji" / "emoji.json").write_text(json.dumps(rows))
    pictures = np.arange(len(rows), dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), dtype=np.uint8)
    np.savez(tmp_path / "emoji" / "emoji.npz", noto=pictures, twemoji=255 - pictures)
    return tmp_path


def test_small_classes_and_those_left_out_are_no_classes(made):
    task = load_emoji(root=str(made))
    assert task.splits.labels == ("face-happy", "tool") and task.class_names == ("face happy", "tool")
    assert [len(part) for part in (task.splits.train, task.splits.select, task.splits.test)] == [16, 8, 16]
    assert all(int(code[-3:]) % 2 == 0 for code in codes(task.splits.train))  # the first by code, not in the file
    assert {len(own) for own in emoji_classes(EmojiSource(emoji_folder(str(made)))).values()} == {20}


def test_absent_or_damaged_data_say_what_to_do(made, monkeypatch):
    monkeypatch.delenv("MAAO_DATA", raising=False)
    with pytest.raises(DataError, match=r"data\.root or in the folder that MAAO_DATA names"):
        load_emoji()
    with pytest.raises(DataError, match=r"emoji\.json\. docs/image-data\.md"):
        load_emoji(root=str(made / "emoji"))
    task = load_emoji(root=str(made))
    whole = (made / "emoji" / "emoji.npz").read_bytes()
    for damaged in (b"damaged", whole[: len(whole) // 2], b""):
        (made / "emoji" / "emoji.npz").write_bytes(damaged)
        with pytest.raises(DataError, match=r"emoji\.npz cannot be read"):
            task.source.open(task.splits.train[0].fields["image"])
    (made / "emoji" / "emoji.json").write_text("{")
    with pytest.raises(DataError, match=r"emoji\.json cannot be read"):
        load_emoji(root=str(made))

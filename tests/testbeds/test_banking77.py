"""The packaged part of banking77: small, licensed, told apart, and the same as what is made of the whole set."""

from __future__ import annotations

import json
import os
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from experiments.demo.packaged import MOST_LETTERS, MOST_WORDS, alike, letter_grams, make, read, similarities, word_grams
from maao.config import make_config
from maao.data.banking77 import FILE, held_out, labelled, replies
from maao.errors import DataError

ROOT = Path(__file__).parents[2]
WHOLE = Path(os.environ.get("MAAO_DATA", "data"), "intents", "banking77")
TEN = [example.fields["text"] for example in labelled(0, 10)]
TEST = [example.fields["text"] for example in held_out()]


def test_it_is_small_and_says_where_it_comes_from_and_who_answered() -> None:
    assert sum(file.stat().st_size for file in FILE.parent.iterdir()) <= 150_000
    card = (FILE.parent / "README.md").read_text(encoding="utf-8")
    for told in ("PolyAI", "Casanueva", "CC", "Changed:", "asked once", "26 November 2026", "may know this public set", "246"):
        assert told in card
    licence = (FILE.parent / "LICENSE-CC-BY-4.0.txt").read_text(encoding="utf-8")
    assert licence.startswith("Attribution 4.0 International") and "Section 5 -- Disclaimer of Warranties" in licence
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "testbeds/*/*" in project["tool"]["setuptools"]["package-data"]["maao"]
    assert "src/maao/testbeds/banking77/LICENSE-CC-BY-4.0.txt" in project["project"]["license-files"]


def test_it_has_ten_labelled_texts_of_each_intent_and_a_thousand_to_test_on_and_no_text_in_both() -> None:
    assert set(Counter(example.label for example in labelled(0, 10)).values()) == {10}
    assert len(TEN) == 770 and len(TEST) == 1000
    assert len({example.label for example in held_out()}) == 77 == len(replies().labels())
    assert not {alike(text) for text in TEN} & {alike(text) for text in TEST}
    assert len({alike(text) for text in TEN}) == 770 and len({alike(text) for text in TEST}) == 1000


def test_no_reply_resembles_a_packaged_text_and_every_intent_has_one() -> None:
    lines = [line.text for line in replies()]
    assert len(lines) == 246 and len(replies().labels()) == 77
    assert max(similarities(lines, [*TEN, *TEST], word_grams)) <= MOST_WORDS
    assert max(similarities(lines, [*TEN, *TEST], letter_grams)) <= MOST_LETTERS


@pytest.mark.real
@pytest.mark.skipif(not WHOLE.is_dir(), reason="needs the whole of banking77 in MAAO_DATA")
def test_it_is_what_is_made_of_the_whole_set() -> None:
    packaged = json.loads(FILE.read_text(encoding="utf-8"))
    said = {label: [line.text for line in replies().of(label)] for label in replies().labels()}
    assert make(read(f"{WHOLE}/pool.csv"), read(f"{WHOLE}/test.csv"), said) == packaged


def test_a_seed_says_which_labels_and_replies_join_them_as_lines() -> None:
    def loaded(seed: int, **data: object):
        found = make_config({"seed": seed, "data": {"source": "packaged:banking77", **data}}).builder.load_data()
        assert found is not None
        return found.splits

    shots = {"shots": 1, "select_shots": 1, "test_size": 1000}
    first, second = loaded(0, **shots), loaded(1, **shots)
    both = [{example.fields["text"] for example in (*splits.train, *splits.select)} for splits in (first, second)]
    assert len(first.train) == len(first.select) == 77 and not both[0] & both[1]
    assert first.test == second.test and len(first.test) == 1000
    assert both[0] == {example.fields["text"] for example in labelled(0, 2)}
    joined = loaded(0, **shots, lines="packaged:banking77", lines_weight=0.3)
    assert len(joined.lines) == 246 and joined.parts == first.parts
    with pytest.raises(DataError, match="has 10 labelled texts of each class, and 12 were asked for"):
        loaded(0, shots=6)
    with pytest.raises(DataError, match=r"Unknown packaged lines 'packaged:banking78'\. Known: packaged:banking77"):
        loaded(0, **shots, lines="packaged:banking78")

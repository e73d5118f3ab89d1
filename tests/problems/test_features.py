"""Features of inputs that are kept: found again by what they are, and read from the disk where there are many."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import signal
import sqlite3

import numpy as np
import pytest
import torch

from maao.errors import ProblemError
from maao.problems.scorers.matcher import Known
from maao.problems.towers import features
from maao.problems.towers.features import FeatureStore, KnownFeatures
from maao.problems.towers.text.inputs import Texts
from tests.tiny_sentence import tiny_sentence_encoder


class Squares(KnownFeatures):
    """Inputs that are numbers; the tower gives ``(x, x^2)`` and counts what it was asked for."""

    def __init__(self, numbers, store):
        super().__init__(len(numbers), 2, batch=3)
        self.numbers, self.asked = numbers, []
        self.fill(store)

    def fill(self, store):
        order = sorted(range(len(self)), key=lambda i: self.numbers[i])
        keys = {(i, None): hashlib.sha256(str(self.numbers[i]).encode()).hexdigest() for i in order}

        def compute(part):
            own = [self.numbers[i] for i, _ in part]
            self.asked += own
            return torch.tensor([[x, x * x] for x in own], dtype=torch.float32), len(own)

        self._find(store, keys, compute)
        return self

    def num_tokens(self, which):
        return len(which)

    def raw(self, which, views=None):
        return [self.numbers[i] for i in which]


NUMBERS = [5, 3, 9, 3, 1, 7, 2, 8]
WANTED = torch.tensor([[x, x * x] for x in NUMBERS], dtype=torch.float32)


@pytest.mark.parametrize("mapped", [False, True])
def test_features_are_computed_once_and_stand_in_the_order_of_inputs(mapped, tmp_path, monkeypatch):
    if mapped:
        monkeypatch.setattr(features, "MAPPED_BYTES", 8)
        monkeypatch.setattr(features, "MAPPED_ROWS", 3)
    store = FeatureStore(tmp_path / "kept.sqlite")
    first = Squares(NUMBERS, store)
    assert torch.equal(first.features, WANTED) and sorted(first.asked) == sorted(set(NUMBERS)) and first.computed_tokens == 7
    again = Squares(NUMBERS, store)
    assert torch.equal(again.features, WANTED) and not again.asked and again.computed == 0
    other = Squares([4, *NUMBERS[::-1]], store)
    assert torch.equal(other.features[1:], WANTED.flip(0))
    assert other.asked == [4, 5, 7, 8, 9]  # the batches that it stands in, and what it moves into others; [1, 2, 3] is found
    assert len(list((tmp_path / "kept").glob("*.f32"))) == (2 if mapped else 0)
    assert not list(tmp_path.glob("kept/.filling*"))


def test_mapped_features_are_read_and_never_written(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "MAPPED_BYTES", 8)
    store = FeatureStore(tmp_path / "kept.sqlite")
    held = Squares(NUMBERS, store).features
    held += 1  # in this process alone
    assert torch.equal(Squares(NUMBERS, store).features, WANTED)


def test_a_damaged_file_of_mapped_features_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "MAPPED_BYTES", 8)
    store = FeatureStore(tmp_path / "kept.sqlite")
    Squares(NUMBERS, store)
    (file,) = (tmp_path / "kept").glob("*.f32")
    file.write_bytes(np.zeros(3, np.float32).tobytes())
    with pytest.raises(ProblemError, match="MAAO_CACHE"):
        Squares(NUMBERS, store)


def test_inputs_are_taken_by_their_numbers_and_a_whole_split_is_no_copy():
    known = Known.all_of(Squares(NUMBERS, FeatureStore(None)), torch.device("cpu"))
    assert known.features.data_ptr() == known.features_of.features.data_ptr() and torch.equal(known.features, WANTED)
    part = known.take([6, 0, 3])
    assert torch.equal(part.features, WANTED[[6, 0, 3]]) and part.num_tokens == 3
    assert part.take([2, 1]).raw == [NUMBERS[3], NUMBERS[0]]
    assert torch.equal(known.take(range(2, 5)).features, WANTED[2:5])
    assert known.take(range(2, 5)).take([0]).raw == [NUMBERS[2]]


def test_features_do_not_depend_on_what_was_kept(tmp_path):
    """Their last bits follow from their batch: found one by one, 14 of these 150 differed."""
    encoder, chance = tiny_sentence_encoder("bert"), random.Random(0)
    words = "the news of a team and music film star great topic bank market fell economy grew album bad label text".split()
    texts = [" ".join(chance.choices(words, k=chance.randint(1, 30))) for _ in range(150)]
    alone = Texts(encoder.inputs, texts, 32).fill(FeatureStore(None))
    store = FeatureStore(tmp_path / "f.sqlite")
    Texts(encoder.inputs, chance.sample(texts, 40), 32).fill(store)
    after = Texts(encoder.inputs, texts, 32).fill(store)
    again = Texts(encoder.inputs, texts, 32).fill(store)
    assert torch.equal(alone.features, after.features) and torch.equal(alone.features, again.features)
    assert again.computed == 0


def test_other_threads_and_other_numbers_find_nothing(tmp_path):
    file = tmp_path / "f.sqlite"
    names = {FeatureStore(file).name(["a", "b"]), FeatureStore(file, "cpu torch.bfloat16").name(["a", "b"])}
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        names.add(FeatureStore(file).name(["a", "b"]))
    finally:
        torch.set_num_threads(before)
    assert len(names | {FeatureStore(file).name(["b", "a"])}) == 4
    assert FeatureStore(file).name(["a", "b"]) in names


def test_a_cache_that_a_stopped_process_holds_is_done_without_and_told_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(features, "BUSY_SECONDS", 0.05)
    file = tmp_path / "f.sqlite"
    Squares([1, 2], FeatureStore(file))
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        held = sqlite3.connect(file, isolation_level=None)
        held.execute("BEGIN EXCLUSIVE")
        os.write(writer, b"held")
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    try:
        assert os.read(reader, 4) == b"held"
        with caplog.at_level(logging.WARNING, "maao"):
            assert torch.equal(Squares(NUMBERS, FeatureStore(file)).features, WANTED)
            assert torch.equal(Squares(NUMBERS[:3], FeatureStore(file)).features, WANTED[:3])
        (told,) = caplog.messages
        assert f"{file} cannot be used: database is locked. The run goes on" in told and "model.cache = false" in told
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(reader)
        os.close(writer)

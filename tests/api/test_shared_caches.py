"""Runs of one process that share models, texts and beginnings give the bits, and the costs, of runs that share nothing."""

from __future__ import annotations

import pytest
import torch

import maao
from maao.compare.walked import walked_on_test
from maao.config import make_config
from maao.data.kept import keeping
from maao.data.text_data import TextData
from maao.optimizers.torch import TorchStage
from maao.problems.towers.dual import Kept
from maao.problems.towers.text import matching
from maao.problems.towers.text.kv_cache import KVCache
from maao.sharing import _KEPT, share_caches
from tests.api.small_runs import config, digests, values, write_data
from tests.tiny_sentence import sentence_folder

ARMS = {"none": {"mentor__name": "none"}, "restart": {"mentor__name": "random_restart"}, "slower": {"stage__lr": 0.001}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def runs(llama, data, folder):
    return {arm: maao.run(config(llama, data, plan__first="walk", **changes), folder / arm) for arm, changes in ARMS.items()}


def test_what_is_shared_changes_no_bit_and_no_cost(llama, data, tmp_path):
    alone = runs(llama, data, tmp_path / "alone")
    with share_caches():
        together = runs(llama, data, tmp_path / "together")
        kept = _KEPT.get()
        assert kept is not None and len(kept.loaded) == 1 and kept.steps
        made = len(kept.steps)
        again = maao.run(config(llama, data, plan__first="walk", **ARMS["none"]), tmp_path / "again")
        assert len(kept.steps) == made  # not one was computed anew
    for arm in ARMS:
        assert digests(together[arm]) == digests(alone[arm])
        assert together[arm].cost == alone[arm].cost
        assert {name: final.score for name, final in together[arm].finals.items()} == {
            name: final.score for name, final in alone[arm].finals.items()
        }
    assert digests(again) == digests(alone["none"])
    assert _KEPT.get() is None


def test_matchers_share_towers_features_and_data(tmp_path, monkeypatch):
    model, loads = sentence_folder(tmp_path / "model", max_length=12)[0], []
    load = matching.load_text_matcher
    monkeypatch.setattr(matching, "load_text_matcher", lambda *args, **named: loads.append(args) or load(*args, **named))

    def runs_in(place):  # each with a cache of its own: who comes first computes the features, and pays for them
        monkeypatch.setenv("MAAO_CACHE", str(tmp_path / "cache" / place))
        own = {"kind": "matcher", "name": str(model)}
        arms = [(method, seed) for seed in (0, 1) for method in ("linear_probe", "coop", "zero_shot")]
        return [
            maao.run(
                make_config(
                    values(model, write_data(tmp_path), model=own, mentor={"name": "none"}, model__method=method, seed=seed, data__shots=2)
                ),
                tmp_path / place / f"{method}-{seed}",
            )
            for method, seed in arms
        ]

    alone = runs_in("alone")
    assert len(loads) == 6
    with share_caches():
        together = runs_in("together")
        kept = _KEPT.get()
        assert len(loads) == 7 and kept is not None and len(kept.loaded) == 1
    for one, other in zip(alone, together, strict=True):
        assert digests(one) == digests(other) and one.cost == other.cost
        assert one.environment["data"] == other.environment["data"] and one.environment["weights"] == other.environment["weights"]
    assert alone[0].environment["data"] != alone[3].environment["data"]  # the seed samples anew from the file that was parsed once


def test_a_file_that_has_changed_is_read_anew(tmp_path):
    file = tmp_path / "pool.csv"
    rows = [f"{word} {i},{label}" for label, word in (("bad", "dull"), ("good", "fine")) for i in range(4)]

    def load():
        return TextData(source=str(file), shots=1, test_size=2).load(0)

    file.write_text("text,label\n" + "\n".join(rows))
    with keeping():
        first = load()
        assert load().splits is first.splits
        file.write_text("text,label\n" + "\n".join(rows).replace("fine", "good"))
        assert load().splits.digest != first.splits.digest
        assert load().splits == TextData(source=str(file), shots=1, test_size=2).load(0).splits


def test_the_batch_that_was_not_used_for_longest_goes_first():
    torch = pytest.importorskip("torch")
    read: list[tuple[tuple[int, ...], ...]] = []

    def compute(texts):
        read.append(tuple(texts))
        return [(torch.zeros(4), torch.zeros(4)) for _ in texts]  # 32 bytes a text

    kept = KVCache(max_bytes=64)
    for text in ((1,), (2,), (1,), (3,), (1,), (2,)):
        assert len(kept.get([text], compute)) == 1
    assert read == [((1,),), ((2,),), ((3,),), ((2,),)]


def test_what_towers_made_is_given_up_by_size_the_oldest_first():
    kept = Kept(most=10)
    for key, size in (("a", 4), ("b", 4), ("huge", 11), ("c", 4)):
        kept.put(key, key.upper(), size)
    assert [kept.get(key, str) for key in ("a", "b", "huge", "c")] == [None, "B", None, "C"]


def test_steps_made_with_other_threads_are_not_taken(tmp_path):
    settings = {"problem": "function", "plan": {"rounds": 1, "steps": 2}, "mentor": {"name": "none"}}
    before = torch.get_num_threads()
    try:
        with share_caches():
            made = []
            for threads in (1, 2, 1):  # as a run with `threads` leaves them to the next one
                torch.set_num_threads(threads)
                maao.run(make_config(settings), tmp_path / f"{len(made)}")
                kept = _KEPT.get()
                assert kept is not None
                made.append(len(kept.steps))
    finally:
        torch.set_num_threads(before)
    assert made[1] == 2 * made[0] == made[2]


def test_a_run_that_is_walked_again_in_its_process_makes_no_step_anew(llama, data, tmp_path, monkeypatch):
    made = []
    step = TorchStage.step
    monkeypatch.setattr(TorchStage, "step", lambda *args, **named: made.append(1) or step(*args, **named))
    settings = config(llama, data, plan__first="walk", **ARMS["restart"])
    alone = maao.run(settings, tmp_path / "alone")
    found = walked_on_test(tmp_path / "alone")
    made.clear()
    with share_caches(walk_again=True):
        together = maao.run(settings, tmp_path / "together")
        first, kept = len(made), _KEPT.get()
        again = walked_on_test(tmp_path / "together")
        assert first and len(made) == first
        maao.run(config(llama, data, plan__first="walk", **ARMS["slower"]), tmp_path / "other")
        assert kept is not None and len(kept.restarted) == 1  # those of the other run alone
    assert digests(together) == digests(alone) and together.cost == alone.cost
    assert again.model_dump(exclude={"cost"}) == found.model_dump(exclude={"cost"})
    assert again.cost["model_tokens"] == found.cost["model_tokens"]

"""Runs of one process that share models, texts and beginnings give the bits, and the costs, of runs that share nothing."""

from __future__ import annotations

import pytest
import torch

import maao
from maao.config import make_config
from maao.problems.towers.text.kv_cache import KVCache
from maao.sharing import _KEPT, share_caches
from tests.api.small_runs import config, digests, write_data

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

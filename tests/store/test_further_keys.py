"""Files of a run that a newer maao wrote may hold further keys, which are read over (`maao.store.recorded.Record`)."""

from __future__ import annotations

import json

import pytest

from maao.evaluation.beside import Beside, Compared, Gain
from maao.evaluation.undecided import Thresholds
from maao.llm.sent import Sent
from maao.store.recorded import BASELINES, SENT, UNDECIDED
from maao.stored_run import keep_compared, keep_sent, keep_thresholds, kept_compared, kept_sent, kept_thresholds
from maao.types import Cost

GAIN = Gain("the names", 20, 0.1, 0.0, 0.2, 0.1, 0.0, 0.2)
BESIDE = Beside("names", "the names", 0.5, {"accuracy": 0.9}, 20, {}, {}, 7, 0.1)
KEPT = {
    SENT: (keep_sent, kept_sent, Sent("told", ("a model",), True, 2, ("messages",), 0, 24)),
    UNDECIDED: (keep_thresholds, kept_thresholds, Thresholds("confidence", 0.5, None, 20, 10, 9, {"accuracy": 0.9}, Cost())),
    BASELINES: (keep_compared, kept_compared, Compared((BESIDE,), GAIN, (), 7, GAIN)),
}


def further(held):
    """Return a document with one more key in each of its objects that has fixed ones."""
    if isinstance(held, list):
        return [further(one) for one in held]
    if not isinstance(held, dict) or not held:
        return held
    return {**{key: held[key] if key in ("metrics", "wanted", "cost") else further(held[key]) for key in held}, "of_a_newer_maao": 1}


@pytest.mark.parametrize("name", KEPT)
def test_further_keys_are_read_over(tmp_path, name):
    keep, kept, value = KEPT[name]
    keep(tmp_path, value)
    file = tmp_path / name
    file.write_text(json.dumps(further(json.loads(file.read_text(encoding="utf-8")))), encoding="utf-8")
    assert "of_a_newer_maao" in file.read_text(encoding="utf-8")
    assert kept(tmp_path) == value

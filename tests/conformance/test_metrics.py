"""Every metric, through the suite that is shipped to authors. A new metric joins by its row in the table."""

from __future__ import annotations

import pytest

from maao import choices
from maao.testing import MetricConformance
from maao.types import Example

GOLD = "true false true false false true".split()
OF_ENTITIES = ("em", "f1")


class TestMetricConformance(MetricConformance):
    @pytest.fixture(params=[name for name in choices.names("metric") if name != "f1"])
    def metric(self, request):
        return request.param

    @pytest.fixture
    def better(self, metric):
        return "lower" if metric == "log_loss" else "higher"

    @pytest.fixture
    def labels(self):
        return ("false", "true")

    @pytest.fixture
    def examples(self):  # of three questions, as the metrics of questions want them
        return tuple(Example({"text": f"text {i}"}, gold, group=f"question {i // 2}") for i, gold in enumerate(GOLD))


class TestMetricsOfEntities(TestMetricConformance):
    @pytest.fixture(params=OF_ENTITIES)
    def metric(self, request):
        return request.param

    @pytest.fixture
    def examples(self):
        names = "Ann Bob Ann Eve Bob Eve".split()
        return tuple(Example({"entity": names[i]}, gold, group=f"question {i // 2}") for i, gold in enumerate(GOLD))

"""Every problem, through the suite that is shipped to authors. A new problem joins by one row."""

from __future__ import annotations

import pytest

from maao.codecs.numbers import NumberCodec
from maao.optimizers.serializer import TorchSerializer
from maao.problems.functions import FUNCTIONS, FunctionProblem
from maao.testing import AveragesConformance, ProblemConformance
from tests.conformance.parts import kept_cross_validated, kept_framed_problem, kept_problem

PROBLEMS = {
    **{name: lambda name=name: FunctionProblem(name, codec=NumberCodec(2)) for name in FUNCTIONS},
    "rastrigin without words": lambda: FunctionProblem("rastrigin"),
    "llama, slots before": lambda: kept_problem("llama", "{slots} {text} Topic:"),
    "llama, slots inside, cached": lambda: kept_problem("llama", "{text} {slots} Topic:"),
    "llama, slots inside, not cached": lambda: kept_problem("llama", "{text} {slots} Topic:", max_cache_bytes=0),
    "llama, slots after, cached": lambda: kept_problem("llama", "text: {text} {slots}"),
    "llama, slots after, not cached": lambda: kept_problem("llama", "text: {text} {slots}", max_cache_bytes=0),
    "llama, its own continuation": lambda: kept_problem("llama", "{text} {slots} Topic:", continuation_tokens=3),
    "llama, with a template and label words of proposals": kept_framed_problem,
    "llama, cross-validated": kept_cross_validated,
    "llama, normal start": lambda: kept_problem("llama", "{text} {slots} Topic:", initial="normal"),
    "gpt2, all of train a batch": lambda: kept_problem("gpt2", "{text} {slots} Topic:", batch_size=100),
    "bert, a head": lambda: kept_problem("bert", "{text} {slots}"),
    "bert, a head on [CLS]": lambda: kept_problem("bert", "{slots} {text}", model={"pooling": "first"}),
    "deberta, a head": lambda: kept_problem("deberta", "{text} {slots}"),
    "bert, at the mask": lambda: kept_problem("bert_masked", "{text} {slots} Topic {mask}"),
    "roberta, at the mask": lambda: kept_problem("roberta_masked", "{slots} {text} Topic {mask}."),
    "deberta, at the mask": lambda: kept_problem("deberta_masked", "{text} {slots} Topic {mask}"),
    "t5": lambda: kept_problem("t5", "{slots} {text} Topic {mask}"),
    **{
        f"{architecture}, {', '.join(map(str, model.values()))}": lambda architecture=architecture, template=template, model=model: (
            kept_problem(architecture, template, model=model)
        )
        for architecture, template in (("llama", "{slots} {text} Topic:"), ("bert", "{text} {slots}"))
        for model in (
            {"method": "p_tuning", "encoder": "lstm"},
            {"method": "p_tuning", "encoder": "mlp"},
            {"method": "prefix_tuning"},
            {"method": "prefix_tuning", "projection": True},
            {"method": "pez"},
        )
    },
}


class TestProblemConformance(ProblemConformance):
    @pytest.fixture(params=PROBLEMS)
    def problem(self, request):
        return PROBLEMS[request.param]()


AVERAGING = (
    "llama, slots inside, cached",
    "llama, with a template and label words of proposals",
    "llama, cross-validated",
    "bert, a head",
    "llama, p_tuning, lstm",
)


class TestAveragesConformance(AveragesConformance):
    @pytest.fixture(params=AVERAGING)
    def averages(self, request):
        return PROBLEMS[request.param]()

    @pytest.fixture
    def points(self, averages):
        return tuple(averages.initial(seed) for seed in range(3))

    @pytest.fixture
    def serializer(self):
        return TorchSerializer()

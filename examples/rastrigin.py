"""The method on a plain function, in a second: gradient descent on Rastrigin gets stuck in the nearest basin, a mentor names better starts.

The mentor here is a stand-in that looks for the best number seen so far and proposes points around it, rounded: what a language model that
sees the pattern would say. Exchange it for a real one with `maao.tune`, or a config.
"""

from maao import Advice, Proposal, Race, alternate, rounds
from maao.codecs.numbers import NumberCodec
from maao.core.seeds import seed_for
from maao.mentors.controls import NoMentor
from maao.optimizers.torch import TorchStage
from maao.problems.functions import FunctionProblem

codec = NumberCodec(dim=2)
problem = FunctionProblem("rastrigin", dim=2, codec=codec)
stage = TorchStage("SGD", lr=0.003)


class HalveTheBest:
    """Proposes the best point so far, halved and rounded to whole numbers."""

    def propose(self, history, *, count, seed):
        best = min(history, key=lambda r: r.score.loss)
        numbers = [float(x) for x in best.clues.projection.text.split()]
        texts = [" ".join(str(round(x * factor)) for x in numbers) for factor in (0.5, 0.25, 0.75)][:count]
        return Advice(tuple(Proposal(text, codec.encode(text).params, source="halving") for text in texts))


for mentor in (NoMentor(), HalveTheBest()):
    plan = rounds(3, steps=30)
    history = tuple(alternate(problem, stage, mentor, plan=plan, accept=Race(steps=10), seed=seed_for(0, "example")))
    told = [f"{r.score.loss:.2f}" for r in history]
    print(f"{type(mentor).__name__:14} loss after each round: {' -> '.join(told)}   at ({history[-1].clues.projection.text})")

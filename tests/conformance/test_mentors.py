"""Every mentor, through the suite that is shipped to authors. A new mentor joins by one row."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from maao import choices
from maao.codecs.numbers import NumberCodec
from maao.core.acceptance import AlwaysFirst, IfBetter, Race
from maao.core.loop import alternate
from maao.core.plan import rounds
from maao.llm.ledger import MemoryLedger, Recorded
from maao.llm.provider import Here
from maao.llm.scripted import FailingModel
from maao.llm.scripted import Scripted as ScriptedModel
from maao.mentors.ape import APE
from maao.mentors.context import MentorContext
from maao.mentors.controls import NoMentor, Perturb, RandomRestart, Reproject
from maao.mentors.evolution import Evolution
from maao.mentors.evoprompt import EvoPrompt
from maao.mentors.fields import Fields
from maao.mentors.instruction import Shown, Task, wording
from maao.mentors.language_model import LanguageModelMentor
from maao.mentors.mix import Mix
from maao.mentors.opro import OPRO
from maao.mentors.random_text import RandomText
from maao.mentors.scripted import Scripted
from maao.mentors.soft_input import SoftInput
from maao.optimizers.torch import TorchStage
from maao.problems.functions import FunctionProblem
from maao.testing import MentorConformance
from maao.types import Example
from tests.conformance.parts import kept_framed_problem
from tests.mentors.lines import CLASSES, LinesCodec
from tests.tiny import tiny_model


@dataclass(frozen=True)
class Row:
    """A mentor made for a problem; `history` is walked with another mentor, so that there is something to read."""

    name: str
    make: Callable[[Any], Any]  # from a problem (which shows its codec) to a mentor
    language: bool = False
    accept: Any = field(default_factory=AlwaysFirst)


def numbers_reply(request: Any) -> str:
    """Five points that depend on the whole instruction, as a model's do."""
    first = len(request.text) % 7 / 2
    return "\n".join(f"{i + 1}. {first - i:.2f} {0.5 * i - 1:.2f}" for i in range(5))


def words_reply(request: Any) -> str:
    words = "music film song team match goal market bank economy".split()
    start = len(request.text) % 7
    return "Sure! Here are the prompts:\n" + "\n".join(f'{i + 1}. "{words[(start + i) % 9]} news"' for i in range(5))


def continuation(request: Any) -> str:
    return f" {len(request.text) % 5 - 2:.2f} {request.sample / 4:.2f} (loss 0.5)\nLoss 0.3, prompt: 1 1"


def asks(reply: Any, *, style: Any = "chat", shown: Shown | None = None, choice: Any = "best") -> Callable[[Any], Any]:
    def make(problem: Any) -> LanguageModelMentor[Any]:
        model = Recorded(ScriptedModel(reply) if callable(reply) else reply, MemoryLedger())
        task = Task("Find the prompt.", ("music", "sport"), "{text} {slots}")
        return LanguageModelMentor(model, task, problem.codec, style=style, choice=choice, shown=shown or Shown(), template=wording(style))

    return make


def filling(problem: Any) -> LanguageModelMentor[Any]:
    def reply(request: Any) -> str:
        words = "music film song team match goal market bank economy".split()
        start = len(request.text) % 7
        return "\n".join(f"- {words[start]} news | {words[i]} | {words[i + 1]} | {words[i + 2]}" for i in range(5))

    labels = problem.splits.labels
    return LanguageModelMentor(
        Recorded(ScriptedModel(reply), MemoryLedger()),
        Task("Find the prompt.", labels, "{text} {slots}"),
        problem.codec,
        template=wording("guided", filled=True),
        filled=Fields(("label_words",), labels, {f"label_words.{label}": label for label in labels}),
    )


def mixed(problem: Any) -> Mix[Any]:
    return Mix(asks(numbers_reply)(problem), RandomRestart(problem.codec), 0.4)


def rival(make: Callable[..., Any], reply: Any, **options: Any) -> Callable[[Any], Any]:
    return lambda problem: make(Recorded(ScriptedModel(reply), MemoryLedger()), problem.codec, **options)


def noise(value: Any, seed: int) -> Any:
    return torch.randn(value.shape, generator=torch.Generator().manual_seed(seed))


def number_words(count: int, seed: int) -> list[str]:
    return [f"{(seed + i) % 7 - 3}.{i}" for i in range(count)]


def soft_input(problem: Any) -> SoftInput[Any]:
    def proceed(params: Any, before: str, after: str, seed: int) -> tuple[str, int, int]:
        return f" {'music' if float(params['prompt'].sum()) > seed % 3 else 'sport'} {'news' if seed % 2 else 'film'}\nand more", 20, 5

    return SoftInput(problem.codec, proceed, Task("Find the prompt.", ("music", "sport"), "{text} {slots}"))


def chosen(name: str, **settings: Any) -> Callable[[Any], Any]:
    """A mentor by the name and the settings that it has in a config."""

    def record(model: Any) -> Any:
        return Recorded(model, MemoryLedger())

    def chat(options: Any) -> Any:
        return record(options.build(Here("llama", tiny_model)))

    return lambda problem: choices.load("mentor", name)(**settings).build(MentorContext(problem.codec, record, chat))


def lines_reply(request: Any) -> str:
    """Lines that depend on the whole instruction: of all classes but one, and one line of a class that is not there."""
    told = {label: {"examples": [f"{label} {len(request.text) % 7 + i}" for i in range(3)]} for label in ("calories", "recipe", "bread")}
    return f"Sure!\n{json.dumps(told)}"


def lines(name: str, **settings: Any) -> Callable[[Any], Any]:
    """A mentor of class lines by the name and the settings that it has in a config; its lines become points of a plane."""

    def make(problem: Any) -> Any:
        def read(texts: Any) -> list[list[float]]:
            return [[0.5 + len(text) % 9 / 20, 0.5 - len(text) % 9 / 20, 0.0] for text in texts]

        run = MentorContext(
            LinesCodec(),
            lambda model: Recorded(model, MemoryLedger()),
            lambda options: Recorded(ScriptedModel(lines_reply), MemoryLedger()),
            train=tuple(Example({"text": f"how many {label} are in dish {i}"}, label) for label in CLASSES for i in range(3)),
            labels=CLASSES,
            tuned="wise",
            classes=CLASSES,
            input="matched_text",
            vocabulary=TwoWords(),
            read_by_name=read,
        )
        return choices.load("mentor", name)(**settings).build(run)

    return make


class TwoWords:
    def random_words(self, count: int, seed: int) -> list[str]:
        return ["music", "team"]

    def near(self, word: str) -> list[str]:
        return [f"{word}s", f"{word}ed"]


PAIRS = tuple(Example({"text": f"text {i}"}, "music" if i % 2 else "sport") for i in range(6))
STARTS = ("music news", "team match", "film song", "market bank")

MENTORS = [
    Row("none", lambda problem: NoMentor()),
    Row("random_restart", lambda problem: RandomRestart(problem.codec)),
    Row("random_restart, race", lambda problem: RandomRestart(problem.codec), accept=Race(2)),
    Row("random_restart of soft prompts", lambda problem: RandomRestart(problem.codec), language=True, accept=IfBetter()),
    Row("reproject", lambda problem: Reproject(problem.codec)),
    Row("reproject of soft prompts", lambda problem: Reproject(problem.codec), language=True),
    Row("scripted", lambda problem: Scripted(("0 0", "1 1", "no number", "2.5 -1", "0.5 0.5", "3 3"), problem.codec)),
    Row("scripted and used up", lambda problem: Scripted(("0.5 0.5",), problem.codec)),
    Row("perturb", lambda problem: Perturb(problem.codec, noise, 0.1)),
    Row("perturb of soft prompts, race", lambda problem: Perturb(problem.codec, noise, 1.0), language=True, accept=Race(2)),
    Row("reset", chosen("reset")),
    Row("reset of soft prompts", chosen("reset"), language=True),
    Row("soft_input", soft_input, language=True),
    Row("random_text", lambda problem: RandomText(("goal of the match", "song in a film", "bank news"), problem.codec, 3), language=True),
    Row("evolution", lambda problem: Evolution(problem.codec, number_words, length=2)),
    Row("opro", rival(OPRO, lambda request: f"Sure: <INS>{request.sample} {len(request.text) % 5}</INS>")),
    Row("opro on soft prompts", rival(OPRO, lambda r: f"<INS>{words_reply(r)[-12:-1]}</INS>", exemplars=PAIRS), language=True),
    Row("ape", rival(APE, lambda request: f" to {request.sample} 1.5\n\nGood luck!", examples=PAIRS)),
    Row("evoprompt ga", rival(EvoPrompt, lambda request: f"1. x\n2. <prompt>{len(request.text) % 9} 0.5</prompt>", algorithm="ga")),
    Row("evoprompt de", rival(EvoPrompt, lambda r: f"<prompt>{words_reply(r).split()[-2]} news</prompt>", initial=STARTS), language=True),
    Row("class_names", lines("class_names")),
    Row("class_wordings, race", lines("class_wordings"), accept=Race(2)),
    Row("near_words", lines("near_words", examples=2, descriptions=0)),
    Row("random_class_words", lines("random_class_words")),
    Row("edited_examples, race", lines("edited_examples", weights=[1.0]), accept=Race(2)),
    Row("corpus_lines", lines("corpus_lines", corpus=__file__)),
    Row("language_model chat", asks(numbers_reply)),
    Row("language_model chat, race", asks(numbers_reply), accept=Race(2)),
    Row("language_model chat on soft prompts", asks(words_reply, shown=Shown(nearest=True, examples=True)), language=True),
    Row("language_model with shuffled scores", asks(numbers_reply, shown=Shown("shuffled"))),
    Row("language_model shown diverse points", asks(numbers_reply, choice="diverse")),
    Row("language_model mixed with random restarts, race", mixed, accept=Race(2, rungs=(1,))),
    Row("language_model that fills label words, race", filling, language=True, accept=Race(2)),
    Row("language_model completion", asks(continuation, style="completion")),
    Row("language_model that talks only", asks(lambda request: "I'm sorry, I cannot help.")),
    Row("language_model that fails", asks(FailingModel())),
    Row("class_lines", lines("class_lines", weights=[0.5])),
    Row("class_lines, a class a request, race", lines("class_lines", classes_per_request=1, max_tokens=200), accept=Race(2)),
]


class TestMentorConformance(MentorConformance):
    @pytest.fixture(params=MENTORS, ids=lambda row: row.name)
    def row(self, request):
        return request.param

    @pytest.fixture
    def problem(self, row):
        return kept_framed_problem() if row.language else FunctionProblem("rosenbrock", codec=NumberCodec(2))

    @pytest.fixture
    def stage(self):
        return TorchStage(lr=0.05)

    @pytest.fixture
    def accept(self, row):
        return row.accept

    @pytest.fixture
    def mentor(self, row, problem):
        return row.make(problem)

    @pytest.fixture
    def history(self, problem, stage):
        told = RandomRestart(problem.codec)
        return tuple(alternate(problem, stage, told, plan=rounds(2, steps=2, proposals=2), accept=IfBetter(), seed=1))

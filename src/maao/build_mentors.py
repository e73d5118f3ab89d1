"""Build the rivals and controls beside the language-model mentor: searches, jumps and random texts. Loaded only where one is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from maao import protocols
from maao.config import MentorConfig
from maao.errors import ConfigError
from maao.protocols import ChatModel, Mentor

if TYPE_CHECKING:
    from maao.build import Parts
    from maao.mentors.fields import Fields

CONTROLS = ("perturb", "reset", "random_text", "soft_input", "evolution")  # that ask no language model
ASKING = ("opro", "ape", "evoprompt_ga", "evoprompt_de")  # that ask one in their own words
SHOWS_EXAMPLES = ("opro", "ape")  # whose instructions hold training examples


def check_mentor(mentor: MentorConfig) -> None:
    """Refuse a mentor that lacks what it needs. Raises `ConfigError`."""
    if "random_text" in (mentor.name, mentor.beside) and mentor.corpus is None:
        raise ConfigError("The mentor 'random_text' takes sentences from a text file: name it in mentor.corpus.")


def check_beside(mentor: MentorConfig) -> None:
    """Refuse a second mentor where there is no first one that asks. Raises `ConfigError`."""
    if mentor.beside == "perturb" and mentor.fills:
        raise ConfigError("mentor.beside = 'perturb' jumps from points in other templates or label words: drop it, or mentor.fills.")
    if mentor.beside is not None and mentor.name not in ("language_model", *ASKING):
        raise ConfigError(f"mentor.beside stands beside a mentor that asks a language model, and mentor.name is '{mentor.name}': drop it.")


def build_control(parts: Parts, filled: Fields | None) -> tuple[Mentor[Any], str]:
    """Return a control by its name in the config, and what is said of it before a run; `filled`: what proposals fill beside the prompt."""
    mentor = parts.config.mentor
    if mentor.name == "perturb":
        from maao.mentors.perturb import Perturb

        return (
            Perturb(parts.codec, normal_noise, mentor.size, tuple(parts.codec.random(0))),
            f"Restarts are jumps of {mentor.size:g} from the best point: nothing is sent anywhere.",
        )
    if mentor.name == "reset":
        from maao.mentors.reset import Reset

        return Reset(parts.codec, tuple(parts.codec.random(0))), "Restarts move nothing: nothing is sent anywhere."
    if mentor.name == "random_text":
        from maao.mentors.random_text import RandomText, sentences_of

        text = _corpus(mentor.corpus or "")
        near = Vocabulary(parts).near if filled else RandomText.near
        control = RandomText(sentences_of(text), parts.codec, _length(parts), filled, near)
        return control, "Restarts are random sentences: nothing is sent anywhere."
    if mentor.name == "soft_input":
        told = "Mentor: the tuned model itself, which reads its soft prompt as vectors, in this process: nothing is sent anywhere."
        return _soft_input(parts), told
    from maao.mentors.evolution import Evolution

    tokens = Vocabulary(parts)
    evolution = Evolution(parts.codec, tokens.random_words, mentor.population, tokens.near, _length(parts))
    return evolution, "Restarts are bred from the best texts without a language model: nothing is sent anywhere."


def _soft_input(parts: Parts) -> Mentor[Any]:
    from maao.llm.local import LocalModel
    from maao.mentors.instruction import Task
    from maao.mentors.soft_input import SoftInput

    frozen, mentor, model = parts.frozen, parts.config.mentor, parts.config.model
    if frozen is None or frozen.kind != "decoder" or model.method not in ("prompt_tuning", "p_tuning", "pez"):
        raise ConfigError("The mentor 'soft_input' lets the tuned model go on from its soft prompt: it needs a decoder, and rows in slots.")
    local, method = LocalModel(frozen.model, frozen.tokenizer, frozen.name), parts.problem.method

    def proceed(params: Any, before: str, after: str, seed: int) -> tuple[str, int, int]:
        import torch

        with torch.no_grad():
            rows = method.realize(params)["prompt"]
        return local.proceed(
            rows, before, after, seed=seed, temperature=mentor.temperature, top_p=mentor.top_p, max_tokens=mentor.max_tokens
        )

    labels = parts.splits.labels if parts.splits is not None else ()
    task = Task(mentor.description, labels, str(parts.problem.template), model.num_virtual_tokens)
    return SoftInput(parts.codec, proceed, task, mentor.max_samples, mentor.max_tokens)


def build_asking(parts: Parts, model: ChatModel, remote: bool) -> Mentor[Any]:
    """Return a rival that asks a chat model in its own words.

    Raises:
        ConfigError: it shows training examples, and the model is not on this machine.
    """
    from maao.mentors.ape import APE
    from maao.mentors.evoprompt import EvoPrompt
    from maao.mentors.opro import OPRO

    mentor = parts.config.mentor
    examples = parts.splits.train if parts.splits is not None and parts.config.problem == "language" else ()
    if mentor.name in SHOWS_EXAMPLES and remote and mentor.exemplars and not mentor.share_examples:
        raise ConfigError(
            f"The mentor '{mentor.name}' shows training examples, and {model.name} does not run on this machine: set "
            "mentor.share_examples = true if they may leave it, or mentor.exemplars = 0."
        )
    common: dict[str, Any] = {"temperature": mentor.temperature, "max_tokens": mentor.max_tokens}
    if mentor.name == "opro":
        shown = examples if mentor.exemplars else ()
        return OPRO(model, parts.codec, task=mentor.description, exemplars=shown, shown=mentor.exemplars, **common)
    if mentor.name == "ape":
        if not examples or not mentor.exemplars:
            raise ConfigError("The mentor 'ape' guesses from labelled texts: it needs a problem of language, and mentor.exemplars above 0.")
        return APE(model, parts.codec, examples=examples, demonstrations=mentor.exemplars, **common)
    algorithm: Any = mentor.name.removeprefix("evoprompt_")
    return EvoPrompt(model, parts.codec, algorithm=algorithm, population=mentor.population, initial=tuple(mentor.texts), **common)


def normal_noise(value: Any, seed: int) -> Any:
    """Return standard normal numbers in a tensor's shape."""
    import torch

    return torch.randn(value.shape, generator=torch.Generator().manual_seed(seed)).to(value)


class Vocabulary:
    """Words of the vocabulary: random ones, and those near a word."""

    def __init__(self, parts: Parts) -> None:
        self._codec, self._problem = parts.codec, parts.problem
        if not isinstance(parts.codec, protocols.Vocabulary):
            raise ConfigError("The mentor 'evolution' breeds words of a vocabulary: use it with a problem of language or of vision.")
        self._words = parts.codec

    def random_words(self, count: int, seed: int) -> list[str]:
        rows = self._words.sample(count, seed)
        return [tokens[0].text.strip() for tokens in self._words.nearest(rows, 1)]

    def near(self, word: str) -> list[str]:
        """Return the five words nearest to the first token of a word."""
        from maao.errors import CodecError

        try:
            rows = self._problem.method.in_words(self._problem.method.realize(self._codec.encode(word).params))
        except CodecError:
            return []
        return [token.text.strip() for token in self._words.nearest(rows[:1], 6)[0][1:] if token.text.strip()]


def _length(parts: Parts) -> int:
    """Return about how many words fill a prompt."""
    config = parts.config
    tokens = config.vision.num_virtual_tokens if config.problem == "vision" else config.model.num_virtual_tokens
    return config.function.dim if config.problem == "function" else tokens


def _corpus(path: str) -> str:
    file = Path(path)
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The corpus {file} cannot be read: {error}. Give a UTF-8 text file in mentor.corpus.") from error

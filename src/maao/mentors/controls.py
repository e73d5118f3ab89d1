"""Controls that know nothing of the task: no mentor, random restarts, the best point's own words, the present point, a random jump."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from pydantic import Field

from maao.core.loop import best_round
from maao.core.seeds import seed_for
from maao.errors import CodecError, ConfigError
from maao.members import plain_name
from maao.mentors.context import MentorContext, MentorOptions
from maao.protocols import Codec, History, Params
from maao.types import Advice, P, Proposal, Rejected, S

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class NoMentor:
    """Proposes nothing: plain prompt tuning, the control of all controls."""

    def propose(self, history: History[P, S], *, count: int, seed: int) -> Advice[P]:
        return Advice()


class NoMentorOptions(MentorOptions):
    """`NoMentor` reads no setting."""

    def disclosure(self, run: MentorContext) -> str:
        return "No mentor is asked: plain gradient descent."

    def build(self, run: MentorContext) -> NoMentor:
        return NoMentor()


@dataclass(frozen=True)
class RandomRestart(Generic[P]):
    """Proposes points that `codec` draws as the run's own beginning is drawn, and tells in words for the record.

    The control that asks whether any jump would do (asked for in the paper's reviews).
    """

    codec: Codec[P]

    def propose(self, history: History[P, S], *, count: int, seed: int) -> Advice[P]:
        points = [self.codec.random(seed_for(seed, i)) for i in range(count)]
        return Advice(tuple(Proposal(self.codec.decode(point).text or "", point, source="random restart") for point in points))


class RandomRestartOptions(MentorOptions):
    """`RandomRestart` reads no setting."""

    def disclosure(self, run: MentorContext) -> str:
        return "Restarts are random: nothing is sent anywhere."

    def build(self, run: MentorContext) -> RandomRestart[Params]:
        return RandomRestart(run.codec)


@dataclass(frozen=True)
class Reproject(Generic[P]):
    """Proposes the words of the point with the lowest loss on `select` so far: ``encode(decode(best))``.

    What does projection alone do, without a language model?
    """

    codec: Codec[P]

    def propose(self, history: History[P, S], *, count: int, seed: int) -> Advice[P]:
        if not history:
            return Advice(rejected=(Rejected("", "there is no point to put into words before the first round"),))
        words = self.codec.decode(best_round(history).state.params)
        if words.text is None:
            return Advice(rejected=(Rejected("", words.note),))
        try:
            encoded = self.codec.encode(words.text)
        except CodecError as error:
            return Advice(rejected=(Rejected("", str(error)),))
        return Advice((Proposal(encoded.text, encoded.params, source="reproject", note=encoded.note),))


class ReprojectOptions(MentorOptions):
    """`Reproject` reads no setting."""

    def disclosure(self, run: MentorContext) -> str:
        return "Restarts are the best point's own words: nothing is sent anywhere."

    def build(self, run: MentorContext) -> Reproject[Params]:
        return Reproject(run.codec)


@dataclass(frozen=True)
class Reset:
    """Proposes the present point; with the rule `always_first` and moments cleared at restarts that is a reset and no more.

    Nothing moves, but the optimizer begins anew: is it the jump, or the fresh moments?

    Args:
        names: which of the params a restart names, those that a text could replace; empty: all.

    Source: the control S-reset, asked for in the paper's reviews.
    """

    codec: Codec[Params]
    names: tuple[str, ...] = ()

    def propose(self, history: History[Params, S], *, count: int, seed: int) -> Advice[Params]:
        if not history:
            return Advice(rejected=(Rejected("", "there is no point to restart from before the first round"),))
        here: Params = history[-1].state.params
        own: Params = {name: here[name] for name in self.names or here}
        return Advice((Proposal(self.codec.decode(here).text or "", own, source="reset"),))


class ResetOptions(MentorOptions):
    """`Reset` reads no setting."""

    def disclosure(self, run: MentorContext) -> str:
        return "Restarts move nothing: nothing is sent anywhere."

    def build(self, run: MentorContext) -> Reset:
        return Reset(run.codec, tuple(run.codec.random(0)))


@dataclass(frozen=True)
class Perturb:
    """Proposes ``best + size * rms(best) * noise``, with the root mean square over all entries, and standard normal noise.

    Args:
        size: how far, beside the point's own length: 0.01, 0.1 and 1 are the sizes that the field's controls use.
        noise: ``(value, seed) -> value-shaped standard normal numbers`` for an array of the tuned values.
        names: which of the params jump, those that a text could replace; empty: all.

    Source: the control M-pert, asked for in the paper's reviews (would any jump do?).
    """

    codec: Codec[Params]
    noise: Callable[[Tensor, int], Tensor]
    size: float = 0.1
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.size > 0:
            raise ConfigError(f"The size of a jump must be above zero; got {self.size}.")

    def propose(self, history: History[Params, S], *, count: int, seed: int) -> Advice[Params]:
        if not history:
            return Advice(rejected=(Rejected("", "there is no point to jump from before the first round"),))
        best: Params = best_round(history).state.params
        proposals: list[Proposal[Params]] = []
        for i in range(count):
            moved: dict[str, Tensor] = {}
            for name in self.names or best:
                value = best[name]
                rms = float((value**2).mean()) ** 0.5
                own = seed_for(seed, i, plain_name(name))  # members that walk together jump alike
                moved[name] = value + self.size * rms * self.noise(value, own)
            whole: Params = {**best, **moved}
            proposals.append(Proposal(self.codec.decode(whole).text or "", moved, source=f"perturb {self.size:g}"))
        return Advice(tuple(proposals))


def normal_noise(value: Tensor, seed: int) -> Tensor:
    """Return standard normal numbers in a tensor's shape."""
    import torch

    return torch.randn(value.shape, generator=torch.Generator().manual_seed(seed)).to(value)


class PerturbOptions(MentorOptions):
    """Settings of `Perturb`."""

    size: float = Field(0.1, gt=0, le=1e6, description="How far to jump, beside the point's own length.")

    def disclosure(self, run: MentorContext) -> str:
        return f"Restarts are jumps of {self.size:g} from the best point: nothing is sent anywhere."

    def build(self, run: MentorContext) -> Perturb:
        return Perturb(run.codec, normal_noise, self.size, tuple(run.codec.random(0)))

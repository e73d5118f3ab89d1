"""What the reference release (2024) does and maao would not, one switch a defect: for ablation, never for use.

The release puts a soft prompt into words and back in ways that its paper does not describe. Each is a switch here, so that what it costs
can be measured by itself and together with the others. With all of them off, this is the nearest-token codec. A config chooses it by

    [model]
    codec = "released.py:Released"
    least_similar = true

Its mentor is shown other points (`FirstOfWalk`), and its schedule moves once an epoch (`OnceAnEpoch`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from maao.codecs.fields import refuse_fields
from maao.codecs.nearest_token import NearestTokenCodec, OverNearestToken
from maao.codecs.options import CodecOptions
from maao.errors import CodecError, ConfigError
from maao.mentors.context import MentorContext
from maao.mentors.language_model import LanguageModelMentor, LanguageModelOptions
from maao.mentors.trajectory import Entry, entries
from maao.optimizers.options import GradientOptions
from maao.optimizers.torch import TorchStage
from maao.problems.towers.text.forward import base_model
from maao.problems.towers.text.loading import FrozenModel
from maao.protocols import NO_FIELDS, Decoded, Encoded, History, Params

SEARCHED = range(4, 15_000)  # the ids that the release compares with
PADDING = " a" * 10  # what it appends to a text of too few tokens


class Released(CodecOptions):
    """The settings: one for each defect."""

    least_similar: bool = Field(False, description="Name the token least similar to a row.")
    narrow_vocabulary: bool = Field(False, description="Search only ids 4 to 14,999.")
    joined_by_spaces: bool = Field(False, description="Decode tokens one by one, with spaces between them.")
    special_tokens: bool = Field(False, description="Keep special tokens in a prompt, pad it with ' a', cut it inside words.")
    embed_twice: bool = Field(False, description="Send a text through the whole embedding layer (positions, norm) twice (encoders).")

    def read_by(self, frozen: FrozenModel) -> FrozenModel:
        if not self.embed_twice:
            return frozen
        if frozen.kind not in ("encoder", "masked"):
            raise ConfigError(f"model.embed_twice is a defect of encoders, and {frozen.name} is of kind '{frozen.kind}'.")
        return replace(frozen, embed=base_model(frozen).embeddings, tried={})

    def build(self, nearest: NearestTokenCodec, frozen: FrozenModel) -> NearestTokenCodec | ReleasedCodec:
        defects = self.model_dump(exclude={"embed_twice"})
        return ReleasedCodec(nearest, **defects) if any(defects.values()) else nearest


class ReleasedCodec(OverNearestToken):
    """``{"prompt": (num_virtual_tokens, embed_dim)}`` as words, with chosen defects of the reference release (2024).

    Args:
        nearest: the codec without defects. It also answers `nearest`, `project` and `sample`, which the release does not have.
        least_similar: a row becomes the token **least** similar to it (cosine similarity sorted as if it were a distance).
        narrow_vocabulary: only ids 4 to 14,999 are searched, whatever the vocabulary's size.
        joined_by_spaces: tokens are decoded one by one and joined by spaces, so that pieces of words become words and a text may hold
            other tokens, and more of them, than were chosen. Tokens that do not survive alone may be chosen too.
        special_tokens: a text is encoded with the tokenizer's special tokens, which so become virtual tokens; one of too few tokens has
            ten times " a" appended; what is too long is cut, inside words too. A tokenizer that adds none (GPT-2's) only pads and cuts.

    Raises:
        CodecError: `least_similar` with the distance "l2", where the release is right. From `encode`: as without defects; a text of too few
            tokens even with its padding. Words that cannot be encoded again are none: `decode` says so.

    With `joined_by_spaces` or `special_tokens`, decoding an encoded text need not give that text; that is what is wrong with them.

    Source: the released code of Guo et al., 2024, as read; no line of it is used.
    """

    def __init__(
        self,
        nearest: NearestTokenCodec,
        *,
        least_similar: bool = False,
        narrow_vocabulary: bool = False,
        joined_by_spaces: bool = False,
        special_tokens: bool = False,
    ) -> None:
        if least_similar and nearest.distance == "l2":
            raise CodecError("The release confuses similarity with distance where it compares by cosine: with 'l2' nothing is confused.")
        super().__init__(nearest)
        self._searched = nearest.within(SEARCHED) if narrow_vocabulary else nearest
        self.least_similar = least_similar
        self.joined_by_spaces = joined_by_spaces
        self.special_tokens = special_tokens

    def decode(self, params: Params) -> Decoded:
        prompt = params["prompt"].detach()
        if self.least_similar:
            prompt = -prompt  # nearest to the opposite of a row is what is least similar to the row
        if not self.joined_by_spaces:
            found = self._searched.decode({"prompt": prompt})
            return found if found.text is None or not self.special_tokens else self._if_encoded(found.text)
        if not bool(self._any_token.any()):
            return self._searched.decode({"prompt": prompt})  # which says so
        return self._if_encoded(self._one_by_one(prompt))

    def _if_encoded(self, text: str) -> Decoded:
        """Return a text, or why it cannot be read back: whoever decodes counts on words that can be."""
        try:
            self.encode(text)
        except CodecError as error:
            return Decoded(None, note=str(error))
        return Decoded(text)

    def _one_by_one(self, prompt: Tensor) -> str:
        ids = self._searched.ranked(prompt, 1, self._any_token)[0].flatten().tolist()
        return " ".join(" ".join(map(self._searched.tokenizer.decode, ids)).split())  # a prompt is one line

    @cached_property
    def _any_token(self) -> Tensor:
        """``(vocab_size,)`` booleans: the ids searched, whether or not they survive alone, without special tokens."""
        codec = self._searched
        count, special = min(len(codec.embeddings), len(codec.tokenizer)), frozenset(codec.tokenizer.all_special_ids)
        return torch.tensor([i < count and i in codec.searched and i not in special for i in range(len(codec.embeddings))])

    def encode(self, text: str, fields: Mapping[str, str] = NO_FIELDS) -> Encoded[Params]:
        if not self.special_tokens:
            return self._nearest.encode(text, fields)
        refuse_fields(fields)
        codec, limit = self._nearest, self._nearest.num_virtual_tokens
        if not codec.tokenizer(text, add_special_tokens=False).input_ids or not text.strip():
            raise CodecError(f"The text {text!r} holds nothing to encode: it has no tokens.")
        ids = codec.tokenizer(text).input_ids
        notes = []
        if len(ids) < limit:
            notes.append(f"{len(ids)} tokens, padded to {limit} with 'a'")
            ids = codec.tokenizer(text + PADDING).input_ids
            if len(ids) < limit:
                raise CodecError(f"The text {text!r} has {len(ids)} tokens with its padding; a soft prompt here has {limit}.")
        elif len(ids) > limit:
            notes.append(f"cut from {len(ids)} tokens to {limit}")
        special = sum(i in codec.tokenizer.all_special_ids for i in ids[:limit])
        if special:
            notes.append(f"{special} special token{'s' if special > 1 else ''} kept")
        return Encoded({"prompt": codec.embeddings[ids[:limit]].clone()}, codec.text(ids[:limit]), "; ".join(notes) or None)


# -- the mentor


def first_of_walk(history: History[Any, Any], count: int) -> tuple[Entry, ...]:
    """Return the entries that the release shows, worst first: of the last walk alone the first points, every other one where there are ten
    or more, so that a mentor never reads where a walk ended."""
    begun = max((i for i, r in enumerate(history) if r.leg.ask), default=0)
    known = [entry for entry in entries(history, begun) if not math.isnan(entry.reached.loss)]  # NaN says nothing
    known = known[:: min(max(len(known) // 5, 1), 2)]
    return tuple(sorted(known[: max(0, count)], key=lambda entry: entry.reached.loss, reverse=True))


class ReleasedMentor(LanguageModelMentor[Any]):
    """A language model that is shown the points that the release shows."""

    def listed(self, history: History[Any, Any]) -> tuple[Entry, ...]:
        return first_of_walk(history, self.listing)


class FirstOfWalk(LanguageModelOptions):
    """The settings of `ReleasedMentor`: those of a language model. `choice` is not read."""

    def build(self, run: MentorContext) -> ReleasedMentor:
        made = super().build(run)
        return ReleasedMentor(**{field.name: getattr(made, field.name) for field in fields(made)})


# -- the doer


@dataclass(frozen=True)
class ReleasedStage(TorchStage):
    """Gradient steps whose schedule, counted in steps, moves on once in `every` of them: the rate hardly falls."""

    every: int = 1

    def scheduled(self, step: int) -> float:
        return super().scheduled(step // self.every)


class OnceAnEpoch(GradientOptions):
    """The settings of `ReleasedStage`: those of a gradient stage, and how many steps an epoch has."""

    every: int = Field(1, ge=1, description="Steps after which the schedule moves on.")

    def build(self, schedule_steps: int, steps_per_epoch: int, lr: float | None = None) -> ReleasedStage:
        made = super().build(schedule_steps, steps_per_epoch, lr)
        return ReleasedStage(**{field.name: getattr(made, field.name) for field in fields(made) if field.init}, every=self.every)

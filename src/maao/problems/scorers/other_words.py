"""Label words where they are no continuation: at the mask of a masked model, and as what a decoder says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from maao.problems.scorers.label_words import LabelWords, Word, WordSettings
from maao.problems.scorers.tokens import TokenOptions, prompt_of
from maao.problems.towers.text.forward import decoder_start, model_inputs
from maao.problems.towers.text.loading import FrozenModel
from maao.problems.towers.text.probes import Way, speaking
from maao.problems.towers.text.template import Tokenized
from maao.protocols import Params


class MaskedWords(LabelWords):
    """Score a class by its label word at the mask of a masked language model; a word of several tokens takes as many masks.

    Source: PET (Schick and Schuetze, 2021). Several masks are filled at once, not one after the other.
    """

    def can_share(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> bool:
        return False  # every token reads every other one

    def _groups(self, words: Sequence[Word]) -> list[list[int]]:
        """Return the classes that are read in one pass: those whose words take equally many masks."""
        groups: dict[int, list[int]] = {}
        for k, word in enumerate(words):
            groups.setdefault(len(word), []).append(k)
        return list(groups.values())

    def _batch_logits(
        self, params: Params, rows: Sequence[Tokenized], words: Sequence[Word], most: int, ids: Tensor | None, way: Way
    ) -> Tensor:
        mask = self.frozen.tokenizer.mask_token_id
        inputs = self._pad(params, [row.with_masks(len(word), mask) for row, word in zip(rows, words, strict=True)], way)
        assert inputs.mask_at is not None
        lengths = torch.tensor([len(word) for word in words], device=inputs.last.device)
        steps = torch.arange(most, device=inputs.last.device)
        return self._read(params, inputs, torch.minimum(inputs.mask_at[:, None] + steps, (inputs.mask_at + lengths - 1)[:, None]), ids)


class DecodedWords(LabelWords):
    """Score a class by its label word as what the decoder of an encoder-decoder says, after T5's first sentinel where the template has one.

    Source: Raffel et al., 2020 (T5), for sentinels; Lester et al., 2021, tune prompts of its encoder.
    """

    def __init__(
        self,
        frozen: FrozenModel,
        words: Sequence[Word],
        settings: WordSettings | None = None,
        *,
        lead: Word = (),
        **options: Unpack[TokenOptions],
    ) -> None:
        super().__init__(frozen, words, settings, **options)
        self._lead: Word = (decoder_start(frozen), *lead)
        self._spoken = len(self._lead)

    def can_share(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> bool:
        return False

    def _tokens_behind(self, word: Word) -> int:
        return 0  # the decoder says it

    def _batch_logits(
        self, params: Params, rows: Sequence[Tokenized], words: Sequence[Word], most: int, ids: Tensor | None, way: Way
    ) -> Tensor:
        model = self.frozen.model
        inputs = model_inputs(self.frozen, prompt_of(params, self.frozen), self._pad(params, rows, way))
        spoken = torch.tensor([[*self._lead, *word[:-1], *[0] * (most - len(word))] for word in words], device=self.frozen.device)
        logits = model(**inputs, decoder_input_ids=spoken, **speaking(self.frozen)).logits[:, len(self._lead) - 1 :]
        return logits if ids is None else logits[..., ids]

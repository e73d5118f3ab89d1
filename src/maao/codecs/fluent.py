"""Soft prompts as words that read like a text: likeness to the vectors, weighed against what a language model expects to read.

The nearest token of each row knows nothing of its neighbours, so that nearest words are seldom a sentence. Here a beam search picks one of
the nearest tokens a row so that, over the whole prompt, ``alpha * cosine + beta * log p`` is as large as the beam finds. Everything but
`decode` is the nearest-token codec's. A fluent text is not for that reason a truer one: what the words alone are worth is stored as ever.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from maao.codecs.nearest_token import NearestTokenCodec, OverNearestToken
from maao.errors import CodecError
from maao.protocols import Decoded, Params
from maao.types import Cost

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Ids = tuple[int, ...]
LogProbs = Callable[[Sequence[Sequence[int]]], Tensor]


class FluentCodec(OverNearestToken):
    """``{"prompt": (num_virtual_tokens, embed_dim)}`` as the words that a language model finds likely, among those near the vectors.

    Args:
        nearest: the codec that encodes, and whose stable tokens are the candidates; its distance is "cosine".
        log_probs: ``log_probs(sequences) -> (len(sequences), vocab_size)``, the log-probabilities in nats of what follows each of some
            sequences of ids, all equally long and never empty. `causal_log_probs` makes one from a causal language model.
        alpha: weight of a token's cosine similarity to its row.
        beta: weight of its log-probability after the tokens before it. At 0 the text is the nearest-token codec's.
        width: how many beginnings of the prompt are followed at a time.
        candidates: how many tokens near a row are considered.
        context: text that the model reads before the prompt, special tokens such as a BOS written out. Without any, the first token is
            judged by its likeness alone.

    Raises:
        CodecError: a setting makes no sense.

    A soft prompt made of a text's own embeddings gives that text. The text that is returned survives decoding and re-tokenizing: of the
    beam's ends the best that does, or else the nearest-token text. Deterministic; ties go to the lowest ids.

    Source: the projection step of Guo et al., 2024, made fluent by a beam; weighing a language model's likelihood against the task as
    FluentPrompt (Shi et al., 2022) and the fluency weight of Wen et al., Hard Prompts Made Easy, 2023, do within training.
    """

    def __init__(
        self,
        nearest: NearestTokenCodec,
        log_probs: LogProbs,
        *,
        alpha: float = 1.0,
        beta: float = 0.1,
        width: int = 8,
        candidates: int = 20,
        context: str = "",
    ) -> None:
        if not (0 <= alpha < math.inf and 0 <= beta < math.inf and alpha + beta > 0):
            raise CodecError(f"alpha and beta are finite, not negative, and not both 0; got alpha = {alpha}, beta = {beta}.")
        if width < 1 or candidates < 1:
            raise CodecError(f"A beam follows at least one beginning and one candidate; got width = {width}, candidates = {candidates}.")
        if nearest.distance != "cosine":
            raise CodecError(f"Fluent words are weighed by cosine similarity: use it as the distance, not '{nearest.distance}'.")
        super().__init__(nearest)
        self._log_probs = log_probs
        self.alpha, self.beta = alpha, beta
        self.width, self.candidates = width, candidates
        self.context: Ids = tuple(nearest.tokenizer(context, add_special_tokens=False).input_ids) if context else ()

    def decode(self, params: Params) -> Decoded:
        codec, prompt = self._nearest, params["prompt"].detach()
        exact = codec.exact(prompt)
        if self.beta == 0 or not bool(codec.stable.any()) or (exact and codec.survives(exact)):
            return codec.decode(params)
        ids, similarity = codec.ranked(prompt, self.candidates)
        tokens = 0

        def counted(sequences: Sequence[Sequence[int]]) -> Tensor:
            nonlocal tokens
            tokens += sum(map(len, sequences))
            return self._log_probs(sequences)

        ends = beam_search(
            ids, similarity, counted, alpha=self.alpha, beta=self.beta, width=self.width, context=self.context, is_readable=codec.survives
        )
        readable = next((end for end in ends if codec.survives(end)), None)
        found = codec.decode(params) if readable is None else Decoded(codec.text(readable))
        return replace(found, cost=Cost(model_tokens=tokens))


def beam_search(
    ids: Tensor,
    similarity: Tensor,
    log_probs: LogProbs,
    *,
    alpha: float,
    beta: float,
    width: int,
    context: Sequence[int] = (),
    is_readable: Callable[[Ids], bool] = lambda ids: True,
) -> tuple[Ids, ...]:
    """Return at most `width` sequences, one candidate a row, with large ``sum(alpha * similarity + beta * log p)``, the largest first.

    Args:
        ids: ``(rows, candidates)`` token ids.
        similarity: ``(rows, candidates)``, higher is closer.
        log_probs: see `FluentCodec`.
        width: how many beginnings are kept after each row.
        context: ids before the first row. Without any, the first row's tokens are all as likely.
        is_readable: says whether a beginning can be read back. Those that cannot are followed only where no other is left.

    Raises:
        CodecError: `log_probs` gives a table of another shape than is needed.

    Example:
        After token 2 this language model expects token 4; after anything else it expects nothing in particular.
        >>> def log_probs(sequences):
        ...     return torch.tensor([[0.0, 0, 0, 0, 0.0 if s[-1] == 2 else -9] for s in sequences])
        >>> ids, similarity = torch.tensor([[1, 2], [3, 4]]), torch.tensor([[0.5, 0.25], [0.5, 0.75]])
        >>> beam_search(ids, similarity, log_probs, alpha=1, beta=0.1, width=2)
        ((1, 3), (2, 4))
        >>> beam_search(ids, similarity, log_probs, alpha=1, beta=0, width=2)
        ((1, 4), (1, 3))
    """
    beam: list[tuple[float, Ids]] = [(0.0, ())]
    for row, likeness in zip(ids.tolist(), similarity.tolist(), strict=True):
        expected = _expected(log_probs, [(*context, *begun) for _, begun in beam], row) if beta else [[0.0] * len(row)] * len(beam)
        extended = [
            (score + alpha * alike + beta * likely, (*begun, token))
            for (score, begun), likelihoods in zip(beam, expected, strict=True)
            for token, alike, likely in zip(row, likeness, likelihoods, strict=True)
        ]
        extended.sort(key=lambda end: (-end[0], end[1]))
        beam = list(islice((end for end in extended if is_readable(end[1])), width)) or extended[:width]
    return tuple(end for _, end in beam)


def _expected(log_probs: LogProbs, sequences: Sequence[Ids], row: Sequence[int]) -> list[list[float]]:
    """Return ``len(sequences)`` lists of the log-probabilities of a row's candidates."""
    if not sequences[0]:  # nothing stands before the first token, and few models can say how a text begins
        return [[0.0] * len(row)]
    table = log_probs(sequences)
    if table.dim() != 2 or len(table) != len(sequences) or table.shape[1] <= max(row):
        raise CodecError(
            f"The language model gave log-probabilities of shape {tuple(table.shape)} for {len(sequences)} sequences and token {max(row)}: "
            "does it read the same vocabulary as the model that is tuned?"
        )
    expected: list[list[float]] = table[:, torch.tensor(row, device=table.device)].double().tolist()
    return expected


def causal_log_probs(model: PreTrainedModel) -> LogProbs:
    """Return the `log_probs` of a causal language model of `transformers`, whose weights are only read.

    Prompts are short, so that each call runs whole sequences; nothing is kept between calls.

    Args:
        model: called with ``input_ids (batch, length)``, gives ``.logits (batch, length, vocab_size)``; in evaluation mode.

    Returns:
        A function from sequences of ids, all equally long, to ``(len(sequences), vocab_size)`` log-probabilities in nats, fp32 on the CPU.

    Example:
        >>> from types import SimpleNamespace
        >>> class Uniform(torch.nn.Module):
        ...     device = torch.device("cpu")
        ...     def forward(self, input_ids, use_cache):
        ...         return SimpleNamespace(logits=torch.zeros(*input_ids.shape, 4))
        >>> causal_log_probs(Uniform())([[1, 2], [3, 0]]).exp()
        tensor([[0.2500, 0.2500, 0.2500, 0.2500],
                [0.2500, 0.2500, 0.2500, 0.2500]])
    """

    def log_probs(sequences: Sequence[Sequence[int]]) -> Tensor:
        ids = torch.tensor([list(sequence) for sequence in sequences], device=model.device)
        with torch.no_grad():
            logits: Tensor = model(input_ids=ids, use_cache=False).logits[:, -1]
        return logits.float().log_softmax(-1).cpu()

    return log_probs

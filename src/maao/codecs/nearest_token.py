"""Soft prompts as words: each row becomes the vocabulary token nearest to it, and a text becomes its tokens' embedding rows.

Only tokens that survive decoding and re-tokenizing may be named, and the text as a whole must survive too: where two neighbours would join
into another token, the row gives way to its next-best one. A soft prompt made of a text's own embeddings gives that text. Nearest tokens
are weak evidence of what a soft prompt does (Khashabi et al., Prompt Waywardness, 2022): store what the words alone are worth beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from maao.codecs.fields import refuse_fields
from maao.core.blending import between
from maao.errors import CodecError
from maao.protocols import NO_FIELDS, Decoded, Encoded, Params
from maao.types import Token

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Distance = Literal["cosine", "l2", "dot"]

CHUNK = 512  # rows compared with the vocabulary at a time
SPARE = 8  # candidates beyond those asked for that are compared exactly
EXACT = 2**15  # the most candidates of a chunk that are compared exactly
TINY = 1e-12
DEPTH = 64  # how many neighbours of a row may be tried before giving up on a text that survives


class NearestTokenCodec:
    """``{"prompt": (num_virtual_tokens, embed_dim)}`` as words.

    Args:
        tokenizer: a Hugging Face tokenizer.
        embeddings: ``(vocab_size, embed_dim)``, what the frozen model's input embedding gives for each id.
        num_virtual_tokens: rows of a soft prompt; with ``length="free"`` the most it may have.
        length: "fixed": a longer text is cut at a word boundary, a shorter one repeated from its start. "free": n tokens give n rows.
        distance: "cosine" (scale-free, Wen et al. 2023), "l2" or "dot".
        searched: the ids that may be named; by default all.

    Source: the projection step of Guo et al., 2024, and of Wen et al., Hard Prompts Made Easy, 2023.
    """

    fields: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        embeddings: Tensor,
        *,
        num_virtual_tokens: int,
        length: Literal["fixed", "free"] = "fixed",
        distance: Distance = "cosine",
        searched: range | None = None,
    ) -> None:
        if distance not in ("cosine", "l2", "dot"):
            raise CodecError(f"Unknown distance '{distance}': use cosine, l2 or dot.")
        self.tokenizer = tokenizer
        self.embeddings = embeddings.detach().float()
        self.num_virtual_tokens = num_virtual_tokens
        self.length = length
        self.distance = distance
        self.searched = range(len(embeddings)) if searched is None else searched

    def within(self, searched: range) -> NearestTokenCodec:
        """Return the same codec that names no id but those in `searched`."""
        return NearestTokenCodec(
            self.tokenizer,
            self.embeddings,
            num_virtual_tokens=self.num_virtual_tokens,
            length=self.length,
            distance=self.distance,
            searched=searched,
        )

    # -- text to params

    def encode(self, text: str, fields: Mapping[str, str] = NO_FIELDS) -> Encoded[Params]:
        refuse_fields(fields)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise CodecError(f"The text {text!r} holds half of a character that was cut in two (a lone surrogate).") from error
        ids = self.token_ids(text)
        if not ids:
            raise CodecError(f"The text {text!r} holds nothing to encode: it has no tokens.")
        unwritable = sorted({self.tokenizer.convert_ids_to_tokens(i) for i in ids if i in self._special or i >= len(self.embeddings)})
        if unwritable:
            raise CodecError(f"The text {text!r} cannot be written in words of this vocabulary: it would hold {', '.join(unwritable)}.")
        limit, note = self.num_virtual_tokens, None
        if len(ids) > limit:
            kept = self._cut(text, limit)
            note = f"cut from {len(ids)} tokens to {kept}, at most {limit} fit"
            ids = ids[:kept]
        if self.length == "fixed" and len(ids) < limit:
            repeated = f"repeated to fill {limit} tokens"
            note = f"{note}, {repeated}" if note else f"{len(ids)} tokens, {repeated}"
            ids = self._repeated(ids, limit)
        if not self.survives(ids):
            raise CodecError(f"The text {text!r} does not survive this vocabulary: it would be read back as {self.text(ids)!r}.")
        return Encoded({"prompt": self.embeddings[ids].clone()}, self.text(ids), note)

    def token_ids(self, text: str) -> list[int]:
        """Return the ids of a text's tokens, as they are inside a sentence."""
        words = " ".join(text.split())  # one line, single spaces: what a prompt in a template can be
        return self.tokenizer(self._lead + words, add_special_tokens=False).input_ids if words else []

    def text(self, ids: Sequence[int]) -> str:
        """Return what tokens say when they are read together."""
        return self.tokenizer.decode(ids, clean_up_tokenization_spaces=False).strip()

    def _cut(self, text: str, limit: int) -> int:
        """Return how many of a text's tokens fit `limit` and end at a word; of a longer first word, how many can be read back."""
        found = self.tokenizer(self._lead + " ".join(text.split()), add_special_tokens=False)
        ids, words = found.input_ids, found.word_ids() if found.is_fast else None

        whole = self.text(ids)

        def ends_word(n: int) -> bool:  # some vocabularies take a whole text for one word, and show words by their spaces alone
            if words is not None and words[n] != words[n - 1]:
                return True
            told = self.text(ids[:n])
            return whole.startswith(told + " ") and told != self.text(ids[: n - 1])

        at_word = [n for n in range(1, limit + 1) if ends_word(n)]
        inside = [n for n in range(1, limit + 1) if self.survives(ids[:n])]
        if not at_word and not inside:
            raise CodecError(f"No beginning of the text {text!r} fits {limit} tokens.")
        return max(at_word or inside)

    def _repeated(self, ids: list[int], limit: int) -> list[int]:
        """Return tokens repeated from their start; where that ends inside a word that cannot be read, one of the tokens ends it."""
        whole, rest = divmod(limit, len(ids))
        endings = [ids[:rest], *([token] * rest for token in ids)]
        filled = [[*ids * whole, *ending] for ending in endings]
        return next((tokens for tokens in filled if self.survives(tokens)), filled[0])

    def survives(self, ids: Sequence[int]) -> bool:
        """Say whether tokens come back as themselves from decoding and re-tokenizing."""
        return self.token_ids(self.text(ids)) == list(ids)

    @cached_property
    def _lead(self) -> str:
        """What makes a first word the same token as one inside a sentence: a space, where the vocabulary tells them apart.

        Nothing where the tokenizer itself writes a text's first word as if a space stood before it (Llama 2, T5), or a space is a token of
        its own (ByT5).
        """
        return "" if all(map(self._is_as_inside, ("the", "a", "of", "1"))) else " "

    def _is_as_inside(self, word: str) -> bool:
        bare, inside = (self.tokenizer(text, add_special_tokens=False).input_ids for text in (word, f": {word}"))
        return bool(inside[-len(bare) :] == bare)

    # -- params to text

    def decode(self, params: Params) -> Decoded:
        """Return the nearest text that survives. Raises `CodecError` for rows of another width than the vocabulary's."""
        prompt = params["prompt"].detach()
        self._check_width(prompt)
        exact = self.exact(prompt)
        if exact and self.survives(exact):
            return Decoded(self.text(exact))
        if not bool(self.stable.any()):
            return Decoded(None, note=self._nothing_to_name)
        depth = min(DEPTH, int(self.stable.sum()))
        ranked = self.ranked(prompt, depth)[0].tolist()
        place = [0] * len(ranked)
        for _ in range(len(ranked) * depth):
            ids = [row[i] for row, i in zip(ranked, place, strict=True)]
            text = self.text(ids)
            again = self.token_ids(text)
            if again == ids:
                return Decoded(text)
            wrong = next((i for i, pair in enumerate(zip(ids, again, strict=False)) if pair[0] != pair[1]), min(len(ids), len(again)))
            wrong = min(wrong, len(ids) - 1)
            while wrong > 0 and place[wrong] + 1 >= depth:
                wrong -= 1
            if place[wrong] + 1 >= depth:
                break
            place[wrong] += 1
        words = self._words_only(prompt)
        if not self.survives(words):
            nearest = self.text(words)
            return Decoded(
                None, note=f"No text near this soft prompt survives decoding and re-tokenizing; the nearest words are {nearest!r}."
            )
        return Decoded(self.text(words))

    def project(self, vectors: Tensor) -> Tensor:
        """Return ``(num_virtual_tokens, embed_dim)``, the row of the token nearest to each vector; as a text they may not survive."""
        return self.embeddings[self.ranked(vectors.detach(), 1)[0].flatten()]

    def nearest(self, vectors: Tensor, count: int) -> tuple[tuple[Token, ...], ...]:
        ids, similarities = self.ranked(vectors.detach(), count)
        return tuple(
            tuple(Token(self.tokenizer.decode([i]).strip(), round(s, 4)) for i, s in zip(row, values, strict=True))
            for row, values in zip(ids.tolist(), similarities.tolist(), strict=True)
        )

    def sample(self, count: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        words = self.words.nonzero().flatten()
        return self.embeddings[words[torch.randint(len(words), (count,), generator=generator)]].clone()

    def random(self, seed: int) -> Params:
        return {"prompt": self.sample(self.num_virtual_tokens, seed)}

    def blend(self, old: Params, new: Params, weight: float) -> Params:
        return between(old, new, weight)

    def exact(self, prompt: Tensor) -> list[int] | None:
        """Return the tokens whose embeddings a soft prompt is made of, as an encoded text's is; None if it is made of others."""
        if prompt.shape[-1] != self.embeddings.shape[-1]:
            return None
        ids = []
        for row in prompt.to(self.embeddings):
            candidates = (self.embeddings[:, 0] == row[0]).nonzero().flatten()
            same = [i for i in candidates[(self.embeddings[candidates] == row).all(-1)].tolist() if self._may_be_named(i)]
            if not same:
                return None
            ids.append(same[0])  # rows that were never trained may be equal: the lowest id names them all
        return ids

    def _words_only(self, prompt: Tensor) -> list[int]:
        return self.ranked(prompt, 1, among=self.words)[0].flatten().tolist()

    def ranked(self, vectors: Tensor, count: int, among: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ids and similarities ``(rows, count)`` of the nearest tokens, nearest first; ties go to the lowest id.

        `vectors` are ``(rows, embed_dim)``, of any scale; `among` are ``(vocab_size,)`` booleans, by default the stable tokens. Raises
        `CodecError` for vectors of another width, and where no token may be named.
        """
        self._check_width(vectors)
        allowed = (self.stable if among is None else among).to(self.embeddings.device)
        if not bool(allowed.any()):
            raise CodecError(self._nothing_to_name)
        parts = [self._rank_chunk(chunk, count, allowed) for chunk in vectors.to(self.embeddings).split(CHUNK)]
        return torch.cat([ids for ids, _ in parts]), torch.cat([values for _, values in parts])

    def _check_width(self, vectors: Tensor) -> None:
        if vectors.shape[-1] != self.embeddings.shape[-1]:
            raise CodecError(
                f"Cannot compare prompt vectors of width {vectors.shape[-1]} with a vocabulary of width {self.embeddings.shape[-1]}: "
                "were they taken from the same model?"
            )

    @property
    def _nothing_to_name(self) -> str:
        return f"None of the {len(self.embeddings)} tokens of this vocabulary may be named: search more of its ids."

    def _rank_chunk(self, rows: Tensor, count: int, allowed: Tensor) -> tuple[Tensor, Tensor]:
        similarity = rows @ self.embeddings.T  # (rows, vocab_size)
        if self.distance == "cosine":
            similarity = similarity / (rows.norm(dim=-1, keepdim=True).clamp_min(TINY) * self._norms)
        elif self.distance == "l2":  # the negative distance: higher is closer here too
            similarity = -(rows.pow(2).sum(-1, keepdim=True) - 2 * similarity + self._norms**2).clamp_min(0).sqrt()
        similarity = similarity.masked_fill(~allowed, -torch.inf)
        total = int(allowed.sum())
        count = min(count, total)
        near = similarity.topk(min(count + SPARE, total), dim=-1)
        last = near.values[:, count - 1 : count]
        ties = int((similarity >= last).sum(-1).max())
        # topk promises no order among equals: if a tie goes on past what it gave, take the whole tie.
        ids = near.indices if ties <= near.indices.shape[1] else similarity.topk(ties, dim=-1).indices
        ids = ids.sort(dim=-1).values
        values = similarity.gather(1, ids) if ids.numel() > EXACT else self._exact_similarity(rows, ids)
        order = values.sort(dim=-1, descending=True, stable=True).indices[:, :count]
        return ids.gather(1, order), values.gather(1, order).float()

    def _exact_similarity(self, rows: Tensor, ids: Tensor) -> Tensor:
        """Return ``(rows, candidates)`` similarities in double precision: rows of tokens hardly trained differ by less than fp32 shows."""
        row, candidates = rows.double()[:, None], self.embeddings[ids].double()
        if self.distance == "l2":
            return -(row - candidates).norm(dim=-1)
        dot = (row * candidates).sum(-1)
        if self.distance == "dot":
            return dot
        return dot / (row.norm(dim=-1).clamp_min(TINY) * candidates.norm(dim=-1).clamp_min(TINY))

    # -- the vocabulary

    @cached_property
    def _norms(self) -> Tensor:
        return self.embeddings.norm(dim=-1).clamp_min(TINY)

    @cached_property
    def stable(self) -> Tensor:
        """``(vocab_size,)`` booleans: ids that are printable and come back as themselves from decoding and re-tokenizing."""
        texts = self._token_texts
        again = self.tokenizer([text if text else "a" for text in texts], add_special_tokens=False).input_ids
        stable = [
            again[i] == [i]
            and self._may_be_named(i)
            and i not in getattr(self.tokenizer, "added_tokens_decoder", {})
            and text.strip() != ""
            and "\ufffd" not in text
            and text.strip().isprintable()
            for i, text in enumerate(texts)
        ]
        return self._mask(stable)

    def _may_be_named(self, i: int) -> bool:
        return i not in self._special and i in self.searched

    @cached_property
    def _special(self) -> frozenset[int]:
        return frozenset(self.tokenizer.all_special_ids)

    @cached_property
    def words(self) -> Tensor:
        """``(vocab_size,)`` booleans: the stable ids that are whole words of two letters or more. Any sequence of them survives.

        Where the vocabulary has none (ByT5's are bytes), all stable ids. Raises `CodecError` where there are none of these either.
        """
        if not bool(self.stable.any()):
            raise CodecError(
                f"None of the {len(self.embeddings)} tokens of this vocabulary comes back from decoding and tokenizing anew, so a soft "
                "prompt has no words here. Does the tokenizer belong to the model?"
            )
        texts = self._token_texts
        whole = [text == self._lead + text.strip() and len(text.strip()) > 1 and text.strip().isalpha() for text in texts]
        found = self.stable & self._mask(whole)
        return found if bool(found.any()) else self.stable

    @cached_property
    def _token_texts(self) -> list[str]:
        count = min(len(self.tokenizer), len(self.embeddings))
        texts = [self.tokenizer.decode([i], clean_up_tokenization_spaces=False) for i in range(count)]
        # A space that the tokenizer writes by itself is not to be written twice.
        return texts if self._lead else [text.removeprefix(" ") for text in texts]

    def _mask(self, values: list[bool]) -> Tensor:
        mask = torch.zeros(len(self.embeddings), dtype=torch.bool)
        mask[: len(values)] = torch.tensor(values)
        return mask


class OverNearestToken:
    """Base of codecs that put rows into words in another way, and do all else as a `NearestTokenCodec` does."""

    fields: ClassVar[tuple[str, ...]] = ()

    def __init__(self, nearest: NearestTokenCodec) -> None:
        self._nearest = nearest

    def encode(self, text: str, fields: Mapping[str, str] = NO_FIELDS) -> Encoded[Params]:
        return self._nearest.encode(text, fields)

    def random(self, seed: int) -> Params:
        return self._nearest.random(seed)

    def blend(self, old: Params, new: Params, weight: float) -> Params:
        return self._nearest.blend(old, new, weight)

    def nearest(self, vectors: Tensor, count: int) -> tuple[tuple[Token, ...], ...]:
        return self._nearest.nearest(vectors, count)

    def project(self, vectors: Tensor) -> Tensor:
        return self._nearest.project(vectors)

    def sample(self, count: int, seed: int) -> Tensor:
        return self._nearest.sample(count, seed)

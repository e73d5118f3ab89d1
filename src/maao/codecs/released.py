"""The projection of the reference release (2024), one switch a defect: for ablation, never for use.

The release puts a soft prompt into words and back in ways that its paper does not describe. Each is a switch here, so that what it costs
can be measured by itself and together with the others. With all of them off, this is the nearest-token codec.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from maao.codecs.fields import refuse_fields
from maao.codecs.nearest_token import NearestTokenCodec, OverNearestToken
from maao.errors import CodecError
from maao.protocols import NO_FIELDS, Decoded, Encoded, Params

SEARCHED = range(4, 15_000)  # the ids that the release compares with
PADDING = " a" * 10  # what it appends to a text of too few tokens


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

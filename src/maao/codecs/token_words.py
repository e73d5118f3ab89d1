"""The whole words of a vocabulary, for mentors of problems without a prompt that could be put into words."""

from __future__ import annotations

from maao.codecs.nearest_token import NearestTokenCodec

NEAR = 5  # words that are near to one


class TokenWords:
    """Words by the embeddings of their tokens; a word of several tokens stands at their mean.

    Args:
        codec: of the vocabulary.
    """

    def __init__(self, codec: NearestTokenCodec) -> None:
        self._codec = codec

    def random_words(self, count: int, seed: int) -> list[str]:
        return [tokens[0].text for tokens in self._codec.nearest(self._codec.sample(count, seed), 1)]

    def near(self, word: str) -> list[str]:
        """Return the words nearest to a word, without its own; none where it has no token."""
        ids = [i for i in self._codec.token_ids(word) if i < len(self._codec.embeddings)]
        if not ids:
            return []
        row = self._codec.embeddings[ids].mean(0, keepdim=True)
        most = min(NEAR + 1, int(self._codec.words.sum()))
        found = [self._codec.text([i]) for i in self._codec.ranked(row, most, self._codec.words)[0][0].tolist()]
        return [other for other in found if other.casefold() != word.casefold()][:NEAR]

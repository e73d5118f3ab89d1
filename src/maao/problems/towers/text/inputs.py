"""The texts of a split: their features, kept by a hash of their tokens and of how a vector is made of them (`towers/features.py`)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from maao.errors import ConfigError
from maao.problems.towers.class_prompts import Prompt
from maao.problems.towers.features import FeatureStore, KnownFeatures, Place
from maao.problems.towers.text.sentence import TextInputs
from maao.types import Example

FIELD = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class InputTemplate:
    """What of an example a sentence encoder reads: a text with the fields of an example in braces.

    Example:
        >>> InputTemplate.parse("{title}: {text}").fill({"title": "Sport", "text": "They won."})
        'Sport: They won.'
    """

    text: str

    @classmethod
    def parse(cls, text: str) -> InputTemplate:
        """Return the template of a text.

        Raises:
            ConfigError: it shows nothing of an example, or has a place that only other kinds of model know.
        """
        fields = FIELD.findall(text)
        foreign = [name for name in fields if name in ("slots", "mask", "sep", "class", "choice")]
        if foreign:
            raise ConfigError(
                f"The input template {text!r} has {{{foreign[0]}}}: a matcher reads inputs as plain text, with an example's fields alone. "
                "What is tuned stands among the words of the classes."
            )
        if not fields:
            raise ConfigError(
                f"The input template {text!r} shows nothing of an example: name at least one of its fields, such as {{text}}."
            )
        return cls(text)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of an example that the template shows."""
        return tuple(dict.fromkeys(FIELD.findall(self.text)))

    def check(self, example: Example) -> None:
        """Raise `ConfigError` if the template asks for a field that examples do not have."""
        for name in self.fields:
            if name not in example.fields:
                raise ConfigError(
                    f"The input template {self.text!r} has an unknown field {{{name}}}. Examples have: {', '.join(example.fields)}."
                )

    def fill(self, fields: Mapping[str, str]) -> str:
        """Return the text of one example."""
        return FIELD.sub(lambda match: fields[match[1]], self.text)


class Texts(KnownFeatures):
    """The texts of a split, by number: their features as the frozen tower sees them, and their tokens for towers that are tuned.

    Args:
        tower: reads texts.
        texts: the inputs.
        embed_dim: width of a feature.
        batch: texts that run through the tower at a time.
    """

    def __init__(self, tower: TextInputs, texts: Sequence[str], embed_dim: int, *, batch: int = 64) -> None:
        super().__init__(len(texts), embed_dim, batch=batch)
        self._tower = tower
        self._tokens, self.cuts = tower.read(texts)

    def beside(self, other: KnownFeatures) -> Self:
        assert isinstance(other, Texts)
        found = super().beside(other)
        found._tokens, found.cuts = (*self._tokens, *other._tokens), (*self.cuts, *other.cuts)
        return found

    def fill(self, store: FeatureStore) -> Self:
        """Find or compute all features, texts of similar length together."""
        order = sorted(range(len(self)), key=lambda i: len(self._tokens[i].ids))
        keys: dict[Place, str] = {
            (i, None): hashlib.sha256(f"text {self._tower.about} {self._tokens[i].ids}".encode()).hexdigest() for i in order
        }

        def compute(part: Sequence[Place]) -> tuple[Tensor, int]:
            texts = self.raw([i for i, _ in part])
            with torch.no_grad():
                return self._tower.features(texts), self._tower.num_tokens(texts)

        self._find(store, keys, compute)
        return self

    def named(self, number: int) -> str:
        return f"the text that begins {self._tower.told(self._tokens[number])!r}"

    def num_tokens(self, which: Sequence[int]) -> int:
        """Return how many tokens these texts are, with their padding."""
        return self._tower.num_tokens(self.raw(which))

    def raw(self, which: Sequence[int], views: Sequence[int] | None = None) -> tuple[Prompt, ...]:
        """Return the tokens of texts, for a tower that is tuned."""
        return tuple(self._tokens[i] for i in which)

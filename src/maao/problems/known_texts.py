"""Texts for matchers and probes: a sentence encoder reads each, and its features are computed once."""

from __future__ import annotations

from collections.abc import Sequence

from maao.problems.classification import ClassificationProblem
from maao.problems.scorers.matcher import Known, KnownReader
from maao.problems.towers.dual import DualEncoder
from maao.problems.towers.features import FeatureStore
from maao.problems.towers.text.inputs import InputTemplate, Texts
from maao.problems.towers.text.sentence import TextInputs
from maao.types import Example


class KnownTextReader(KnownReader):
    """Reads examples as texts of a matcher's input tower.

    Args:
        encoder: the towers; that of inputs reads texts.
        template: what of an example is read.
        store: where features are kept.
        batch: texts that run through the tower at a time.
    """

    def __init__(self, encoder: DualEncoder, template: InputTemplate, *, store: FeatureStore | None = None, batch: int = 64) -> None:
        assert isinstance(encoder.input, TextInputs)
        super().__init__(encoder, store)
        self.template, self._tower, self._batch = template, encoder.input, batch

    @property
    def fields(self) -> tuple[str, ...]:
        return self.template.fields

    def cuts(self, examples: Sequence[Example]) -> tuple[int, ...]:
        return self._tower.read([self.template.fill(example.fields) for example in examples])[1]

    def readable(self, example: Example) -> str:
        return " / ".join(example.fields.values())

    def _features(self, examples: Sequence[Example], *, train: bool) -> Texts:
        for example in examples:
            self.template.check(example)
        texts = tuple(self.template.fill(example.fields) for example in examples)
        kept = self.encoder.kept.get(texts, Texts) if self.store.path is not None else None
        if kept is not None:
            return kept
        found = Texts(self._tower, texts, self.encoder.embed_dim, batch=self._batch).fill(self.store)
        if self.store.path is not None:
            self.encoder.kept.put(texts, found.as_found(), found.num_bytes)
        return found


def cut_notes(problem: ClassificationProblem[Known]) -> tuple[str, ...]:
    """Say which texts are longer than what the encoder reads; nothing of pictures."""
    notes = []
    for name in ("train", "select", "test"):
        texts = problem.inputs(name).features_of
        cuts = [cut for cut in texts.cuts if cut] if isinstance(texts, Texts) else []
        if cuts:
            notes.append(f"{len(cuts)} of {len(texts)} texts of {name} were cut to fit the context, by at most {max(cuts)} tokens")
    return tuple(notes)

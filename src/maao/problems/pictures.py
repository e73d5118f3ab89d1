"""Pictures for matchers and probes: each is opened by its key, and its features are computed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from maao.errors import DataError
from maao.problems.classification import ClassificationProblem
from maao.problems.methods import Bound
from maao.problems.scorers.matcher import Known, KnownReader, Matcher
from maao.problems.scorers.probes import Probe
from maao.problems.towers.dual import DualEncoder
from maao.problems.towers.features import FeatureStore
from maao.problems.towers.image.features import Pictures, Source
from maao.types import Example, Splits

if TYPE_CHECKING:  # texts need no pillow
    from PIL.Image import Image


class PictureReader(KnownReader):
    """Opens pictures by the field "image" of an example.

    Args:
        encoder: the towers.
        source: opens a key.
        store: where features are kept.
        views: random views of each training picture (crops, mirrored); 0: pictures as they are.
        batch: pictures that run through the image tower at a time.
        max_bytes: memory for pixels, for methods that run the image tower at every step.
    """

    def __init__(
        self,
        encoder: DualEncoder,
        source: Source,
        *,
        store: FeatureStore | None = None,
        views: int = 0,
        batch: int = 64,
        max_bytes: int = 2**30,
    ) -> None:
        super().__init__(encoder, store)
        self.source, self._views, self._batch, self._max_bytes = source, views, batch, max_bytes

    @property
    def fields(self) -> tuple[str, ...]:
        return ("image",)

    def cuts(self, examples: Sequence[Example]) -> tuple[int, ...]:
        return (0,) * len(examples)  # a picture is read whole

    def readable(self, example: Example) -> str:
        return example.fields.get("name", example.fields["image"])

    def of(self, source: Source) -> PictureReader:
        """Return a reader of other pictures, whose features are kept in the same place."""
        return PictureReader(self.encoder, source, store=self.store, batch=self._batch, max_bytes=self._max_bytes)

    def _features(self, examples: Sequence[Example], *, train: bool) -> Pictures:
        keys, views = [example.fields["image"] for example in examples], self._views if train else 0
        own = Pictures(self.encoder, self.source, keys, views=views, batch=self._batch, max_bytes=self._max_bytes)
        return own.fill(self.store)


class PictureProblem(ClassificationProblem[Known]):
    """A classification problem on pictures, which shows those of its data."""

    def picture(self, key: str) -> Image:
        """Return a picture of the data by its key."""
        assert isinstance(self.reader, PictureReader)
        return self.reader.source.open(key)


def transferred(problem: ClassificationProblem[Known], splits: Splits, bound: Bound, source: Source) -> ClassificationProblem[Known]:
    """Return the problem of the same method on other classes or other pictures, so that what was tuned is scored there.

    Raises:
        ConfigError: the method is bound to its own classes (probes, contexts of each class's own).
        DataError: there are no pictures.
    """
    if not (splits.train or splits.select or splits.test):
        raise DataError("There are no pictures to judge what was tuned on.")
    scorer, reader = problem.scorer, problem.reader
    assert isinstance(scorer, (Matcher, Probe)) and isinstance(reader, PictureReader)
    if isinstance(scorer, Probe):
        return ClassificationProblem(problem.method, scorer.bind(bound), problem.codec, reader.of(source), splits, with_clues=False)
    method = scorer.method.bind(bound)
    return ClassificationProblem(method, Matcher(method), problem.codec, reader.of(source), splits, with_clues=False)

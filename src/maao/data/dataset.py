"""What every source of examples gives, texts and pictures alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

from maao.data.splits import known_parts
from maao.options import named
from maao.types import Splits

if TYPE_CHECKING:
    from maao.data.images.source import ImageSource


HUB = "hub:"  # how a source names a data set on the hub, or a folder laid out like one
PACKAGED = "packaged:"
Metrics = list[Annotated[str, named("metric")]]  # in `[data]` of texts and of pictures
NO_HUB = f"data.source names no hub data set: drop it, or write data.source = '{HUB}NAME'"  # why settings of one are not read


@dataclass(frozen=True)
class InputForm:
    """What a model reads of an example, as far as it decides what is read of the data.

    Attributes:
        fields: the fields of the template.
        cloze: whether a task's texts are worded for an answer in words; a head reads them as they were published.
    """

    fields: tuple[str, ...] = ("text",)
    cloze: bool = True


@dataclass(frozen=True)
class Dataset:
    """Labelled examples, cut into splits, as a run uses them.

    Attributes:
        splits: the examples.
        class_names: the classes in words, in the order of ``splits.labels``; for texts the labels themselves.
        source: what opens the pictures. The field "image" of an example is a key that it opens, "content" a hash of the picture, where one
            is kept. None: the examples are texts, whose fields are read as they are.
        template: the data set's own hand-written prompt with ``{class}``; empty where it has none.
        bits: the depth by which `source` scales grey whose files do not say it; None: all 16.
        transfer_sets: data sets on whose `test` what was tuned is judged besides, by name: new classes, or other data sets.

    Example:
        >>> Dataset(Splits((), (), (), ("bad", "good")), ("bad", "good")).source is None
        True
    """

    splits: Splits
    class_names: tuple[str, ...]
    source: ImageSource | None = None
    template: str = ""
    bits: int | None = None
    transfer_sets: Mapping[str, Dataset] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to the examples, and what there is to know of them."""
        return self.splits.notes

    @property
    def pictures(self) -> ImageSource:
        """What opens the pictures of a data set that is of pictures."""
        assert self.source is not None
        return self.source

    def of_classes(self, labels: tuple[str, ...]) -> Dataset:
        """Return the part of it that has these labels."""
        splits = self.splits
        kept = [[e for e in part if e.label in labels] for part in (splits.train, splits.select, splits.test)]
        names = dict(zip(splits.labels, self.class_names, strict=True))
        folds = [fold for e, fold in zip(splits.train, splits.folds, strict=False) if e.label in labels]
        own: Splits = replace(known_parts(*kept, labels=labels, folds=folds), notes=splits.notes)
        return replace(self, splits=own, class_names=tuple(names[label] for label in labels))

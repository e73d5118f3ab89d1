"""The `[data]` of pictures: where they come from, and how they are split. `images/`, which opens them, is imported when it is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from maao.data.checks import Columns
from maao.data.dataset import HUB, NO_HUB, Dataset, InputForm, Metrics
from maao.data.files import read_examples
from maao.data.folds import CROSS_VALIDATION, FOLDS, unread_of_folds
from maao.data.given import GivenPictures
from maao.data.image_sets import CATALOG, EMOJI, EMOJI_SELECT, EMOJI_TEST, EMOJI_TRAIN
from maao.data.protocols import protocol_of
from maao.data.sampling import base_and_new
from maao.errors import ConfigError, DataError
from maao.evaluation.metrics import Measure, measured
from maao.options import MANY, Section, Text
from maao.types import Example, Splits


class ImageData(Section):
    """Where pictures come from, and how they are split."""

    input: ClassVar[Literal["image"]] = "image"
    separator: ClassVar[str | None] = None  # of the columns of a file: pictures stand in none
    label_names: ClassVar[Mapping[str, str] | None] = None  # their folders are called as their classes

    metrics: Metrics = Field(default_factory=list, description="Metrics to report, the primary one first; by default accuracy.")
    source: Text = Field(
        EMOJI, description="A folder of class folders, hub:NAME, emoji, or one of the field's eleven sets (with root): oxford_pets, ..."
    )
    root: Text | None = Field(None, description="Folder that holds the data sets, as docs/image-data.md lays them out.")
    hub_config: Text | None = Field(None, description="Configuration of a hub data set.")
    image_field: Text = Field("image", description="Column of the picture (hub data sets).")
    label_field: Text = Field("label", description="Column of the label (hub data sets).")
    style: Literal["twemoji", "noto"] = Field("twemoji", description="Drawing style (emoji).")
    protocol: Literal["few-shot", "base-to-new", "cross-dataset"] = Field("few-shot", description="Which classes are trained and judged.")
    targets: list[str] = Field(default_factory=list, description="Data sets that what was tuned is judged on (cross-dataset).")
    shots: int | None = Field(
        None, ge=0, le=MANY, description="Training pictures a class; by default 16, emoji 8. 0: no label is spent (cross_validation)."
    )
    select_shots: int | None = Field(None, ge=1, le=MANY, description="Selection pictures a class; by default as many as shots, at most 4.")
    select: Literal["cross_validation"] | None = Field(
        None,
        description="cross_validation: all labels train, and each is judged by what was tuned without it; else pictures are set apart that "
        "choose.",
    )
    folds: int = Field(
        FOLDS, ge=2, le=MANY, description="Folds of a cross-validation, at most as many as the most frequent class has labels."
    )
    test_size: int | None = Field(None, ge=1, le=MANY, description="Most test pictures; by default all there are.")
    skip_bad: bool = Field(False, description="Go on without pictures that cannot be read, and say which.")
    fewer: bool = Field(False, description="Take what there is where a class has fewer pictures than asked for.")
    bits: int | None = Field(
        None, ge=8, le=16, description="Depth of grey of more than 8 bits whose files do not say it; by default a folder's own, else 16."
    )

    @property
    def is_sampled(self) -> bool:
        """Whether another seed draws other labels, as it does of every source of pictures."""
        return True

    @property
    def is_cross_validated(self) -> bool:
        """Whether all labels train, and each is judged by what was tuned without it."""
        return self.select == CROSS_VALIDATION

    @model_validator(mode="after")
    def _some_labels(self) -> Self:
        if self.shots == 0 and not self.is_cross_validated:
            raise ValueError(f"data.shots = 0 spends no label, so none can choose: set data.select = '{CROSS_VALIDATION}' with it")
        return self

    @property
    def protocol_name(self) -> str:
        """The protocol by which results may be compared."""
        return protocol_of(self).name

    def measure(self, labels: Sequence[str]) -> Measure | None:
        """Return what computes the metrics asked for; None where accuracy is all."""
        return measured(self.metrics, (), labels)

    def given_inputs(self, fields: tuple[str, ...], template: str) -> GivenPictures:
        """Return how inputs to predict are read: picture files, of which no template shows anything."""
        return GivenPictures()

    def columns(self, fields: Sequence[str]) -> Columns:
        """Return which columns of a table name a picture."""
        return {"fields": fields}

    def with_lines(self, splits: Splits) -> Splits:
        """Return the splits as they are: example lines are texts."""
        return splits

    def read_labelled(self, path: str | Path, form: InputForm, labels: Sequence[str] | None) -> tuple[tuple[Example, ...], tuple[str, ...]]:
        """Return the labelled pictures of a folder of class folders, or those that a table names by their paths; and notes on them."""
        if Path(path).is_dir():
            from maao.data.images import read_labelled_folder

            return read_labelled_folder(path, bits=self.bits, skip_bad=self.skip_bad)
        columns = self.columns(form.fields)
        columns["labels"] = labels
        return read_examples(path, **columns), ()

    def unread(self) -> Mapping[str, str]:
        source = f"data.source is '{self.source}'"
        hub, known, emoji = self.source.startswith(HUB), self.source in CATALOG, self.source == EMOJI
        ignored = unread_of_folds(self.is_cross_validated)
        if emoji:
            own = f"{source}, of which {EMOJI_SELECT} groups a class choose and up to {EMOJI_TEST} are reported: drop it"
            ignored |= dict.fromkeys(("select_shots", "test_size", "fewer"), own)
        else:
            ignored["style"] = f"{source}, and only {EMOJI} is drawn in styles: drop it"
        if emoji or hub or known:
            ignored["skip_bad"] = f"{source}, and only of a folder are all pictures opened: drop it"
        if emoji or known:
            ignored["bits"] = f"{source}, and only a folder and a hub data set read it: drop it"
        if not hub:
            ignored |= dict.fromkeys(("hub_config", "image_field", "label_field"), NO_HUB)
        if not (emoji or known or self.targets):
            ignored["root"] = f"{source}, which is not looked for in it: drop it"
        if self.protocol != "cross-dataset":
            ignored["targets"] = f"data.protocol is '{self.protocol}', and only cross-dataset reads it: drop it, or set the protocol"
        return ignored

    def load(self, seed: int, form: InputForm | None = None) -> Dataset:
        """Return the pictures of the classes that the protocol trains on, and the data sets that what was tuned is judged on besides.

        Raises:
            ConfigError: settings that contradict each other.
            DataError: what it names is not there or cannot be used.
        """
        if self.protocol == "cross-dataset" and not self.targets:
            raise ConfigError(f"The protocol 'cross-dataset' needs data.targets, some of: {', '.join(CATALOG)}.")
        whole, others = self._whole(seed)
        splits = replace(whole.splits, notes=(f"Protocol {protocol_of(self)}.", *whole.splits.notes))
        return replace(whole, splits=splits, transfer_sets=others)

    def _whole(self, seed: int) -> tuple[Dataset, dict[str, Dataset]]:
        if self.protocol != "base-to-new":
            return self._from(self.source, seed), {target: self._from(target, seed) for target in self.targets}
        if self.source in CATALOG:
            return self._from(self.source, seed, "base"), {"new classes": self._from(self.source, seed, "new")}
        whole = self._from(self.source, seed)
        base, new = base_and_new(whole.splits.labels)
        return whole.of_classes(base), {"new classes": whole.of_classes(new)}

    def _from(self, source: str, seed: int, half: str = "all") -> Dataset:
        from maao.data import images

        shots, select_shots, test_size = self.shots, self.select_shots, self.test_size
        folds = self.folds if self.is_cross_validated else None
        if source == EMOJI:
            own = EMOJI_TRAIN if shots is None else shots
            return images.load_emoji(shots=own, style=self.style, seed=seed, root=self.root, folds=folds)
        if source.startswith(HUB):
            return images.load_hub_images(
                source.removeprefix(HUB),
                config=self.hub_config,
                image_field=self.image_field,
                label_field=self.label_field,
                shots=shots,
                select_shots=select_shots,
                test_size=test_size,
                seed=seed,
                fewer=self.fewer,
                bits=self.bits,
                folds=folds,
            )
        few: dict[str, Any] = {"shots": shots, "select_shots": select_shots, "test_size": test_size, "seed": seed, "fewer": self.fewer}
        few["folds"] = folds
        if source in CATALOG:
            if self.root is None:
                raise DataError(f"data.source = '{source}' needs data.root, the folder that holds the data sets (docs/image-data.md).")
            return images.load_catalog(source, self.root, classes=half, **few)
        return images.load_folder(source, skip_bad=self.skip_bad, bits=self.bits, **few)

"""The `[data]` of texts: where examples come from, and how they are split."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from maao.class_lines import ClassLines
from maao.data import banking77
from maao.data.checks import Columns
from maao.data.dataset import HUB, NO_HUB, PACKAGED, Dataset, InputForm, Metrics
from maao.data.folds import CROSS_VALIDATION, FOLDS, unread_of_folds
from maao.data.given import GivenTexts
from maao.data.kept import once, stamps
from maao.data.lines import read_lines, with_lines
from maao.data.protocols import cross_validated_name, protocol_named, splits_by
from maao.data.sampling import at_most
from maao.data.splits import few_shot, from_parts
from maao.data.task import cloze_examples, read_task, task_named
from maao.errors import ConfigError, DataError
from maao.evaluation.metrics import Measure, measured
from maao.options import MANY, Section, Text, named
from maao.store.recorded import IN_RUN
from maao.types import Example, Splits

PARTS = "parts"
BBC = "packaged:bbc-headlines"
BANKING = "packaged:banking77"  # as a source, and as lines: the replies of a mentor on record
SHOTS = 16  # of a pool and of a hub data set, by default


class TextData(Section):
    """Where texts come from, and how they are split."""

    input: ClassVar[Literal["text"]] = "text"

    task: Annotated[str, named("task")] | None = Field(
        None, description="A known task (boolq, cb, copa, ...): its file format, templates, label words and metrics. Give its files too."
    )
    metrics: Metrics = Field(default_factory=list, description="Metrics to report, the primary one first; by default accuracy.")
    protocol: Text | None = Field(
        None, description="The named protocol that the splits follow; results of different ones are not compared."
    )
    source: Text = Field(
        BBC, description="One pool to sample from: a file, hub:NAME, packaged:bbc-headlines, packaged:banking77; or parts."
    )
    train: Text | None = Field(None, description='Training file (source = "parts").')
    select: Text | None = Field(
        None,
        description="Selection file; without one, it is sampled out of train. cross_validation: all labels train, and each is judged by "
        "what was tuned without it.",
    )
    folds: int = Field(
        FOLDS, ge=2, le=MANY, description="Folds of a cross-validation, at most as many as the most frequent class has labels."
    )
    test: Text | None = Field(None, description="Test file; without one, nothing is reported on test.")
    hub_config: Text | None = Field(None, description="Configuration of a hub data set.")
    text_fields: dict[str, str] | None = Field(
        None, description="Template field -> column. By default the columns of the fields' names; for {text}, text or sentence."
    )
    label_field: Text = Field("label", description="Column of the label.")
    label_names: dict[str, str] | None = Field(None, description="Label in the file -> name of the class.")
    labels: list[str] | None = Field(
        None, description="The classes, in order; by default those found, sorted. Listed ones may differ in case or white space alone."
    )
    separator: str | None = Field(None, description='What separates the columns of .csv files, such as ";"; by default a comma.')
    shots: int | None = Field(
        None,
        ge=0,
        le=MANY,
        description="Training examples a class; all, if parts are given and this is left out. 0: no label is spent (cross_validation).",
    )
    select_shots: int | None = Field(None, ge=1, le=MANY, description="Selection examples a class; by default as many as shots.")
    test_size: int | None = Field(
        500,
        ge=1,
        le=MANY,
        description="Most test examples, fewer if a pool has no more to spare: a choice by hash, the same for every seed.",
    )
    lines: Text | None = Field(
        None,
        description="JSON file of lines a class (examples, descriptions), which join train; nothing is chosen by them.",
    )
    lines_weight: float = Field(0.5, gt=0, le=1, description="What a line weighs beside a labelled example, times its own weight.")
    drop_repeats: bool = Field(False, description="Drop examples that stand in two splits, instead of refusing the data.")

    @property
    def in_parts(self) -> bool:
        return self.train is not None or self.source == PARTS

    @property
    def is_sampled(self) -> bool:
        """Whether another seed draws other labels: files that are given whole are only shared out between training and choosing by it."""
        given = self.in_parts or self.source.startswith(HUB)
        return not given or self.protocol is not None or self.shots is not None or self.select_shots is not None

    @property
    def is_cross_validated(self) -> bool:
        """Whether all labels train, and each is judged by what was tuned without it."""
        return self.select == CROSS_VALIDATION

    @property
    def protocol_name(self) -> str | None:
        """The protocol by which results may be compared, where one is named."""
        return cross_validated_name(self.folds) if self.is_cross_validated else self.protocol

    @model_validator(mode="after")
    def _some_labels(self) -> Self:
        if self.shots == 0 and not self.is_cross_validated:
            raise ValueError(f"data.shots = 0 spends no label, so none can choose: set data.select = '{CROSS_VALIDATION}' with it")
        return self

    def unread(self) -> Mapping[str, str]:
        if self.source == IN_RUN:  # examples at hand, whose caller says what of this section it reads
            return unread_of_folds(self.is_cross_validated)
        hub, packaged = self.source.startswith(HUB), self.source.startswith(PACKAGED)
        ignored = unread_of_folds(self.is_cross_validated)
        if self.lines is None:
            ignored["lines_weight"] = "data.lines is not set: drop it, or name a file of lines"
        if not self.in_parts:
            own = "a hub data set has splits of its own" if hub else "all splits are sampled out of the pool that data.source names"
            files = ("test",) if self.is_cross_validated else ("select", "test")
            ignored |= dict.fromkeys(files, f"{own}: drop it, or name the training file in data.train")
        if not self.in_parts and not hub:
            ignored["drop_repeats"] = "repeats in a pool are always dropped: drop it"
        if not self.in_parts and packaged:
            ignored |= dict.fromkeys(
                ("text_fields", "label_field", "label_names", "separator"), "packaged data come with fields and labels: drop it"
            )
        if hub and not self.in_parts:
            ignored["separator"] = "a hub data set is no .csv file: drop it"
        if not hub:
            ignored["hub_config"] = NO_HUB
        if self.protocol is not None:
            told = f"the protocol '{self.protocol}' says how many examples there are: drop it"
            ignored |= dict.fromkeys(("shots", "select_shots", "test_size"), told)
            if self.is_cross_validated:
                ignored |= dict.fromkeys(
                    ("select", "folds"), f"the protocol '{self.protocol}' says which examples choose: drop one of the two"
                )
        if self.task is not None:
            own = f"data.task = '{self.task}' knows the fields and labels of its files: drop it"
            ignored |= dict.fromkeys(("text_fields", "label_names", "label_field", "hub_config", "separator"), own)
        return ignored

    def measure(self, labels: Sequence[str]) -> Measure | None:
        """Return what computes the metrics asked for and the task's own, in that order; None where accuracy is all."""
        return measured(self.metrics, () if self.task is None else task_named(self.task).metrics, labels)

    def given_inputs(self, fields: tuple[str, ...], template: str) -> GivenTexts:
        """Return how inputs to predict are read: texts with these fields, which the template shows."""
        return GivenTexts(fields, template, self.text_fields or {})

    def columns(self, fields: Sequence[str]) -> Columns:
        """Return which columns of a table make an example for a template of these fields."""
        return {
            "text_fields": self.text_fields,
            "fields": fields,
            "label_field": self.label_field,
            "label_names": self.label_names,
            "labels": self.labels,
        }

    def read_labelled(self, path: str | Path, form: InputForm, labels: Sequence[str] | None) -> tuple[tuple[Example, ...], tuple[str, ...]]:
        """Return the labelled examples of a file, and notes on them; a label among `labels` is never taken for a repeated header."""
        own = self if labels is None else self.model_copy(update={"labels": list(labels)})
        return _Reader(own, form).file(str(path)), ()

    def load(self, seed: int, form: InputForm | None = None) -> Dataset:
        """Read and split the examples, as a model with this form of input reads them.

        Raises:
            ConfigError: settings that contradict each other.
            DataError: what it names is not there or cannot be used.

        Example:
            >>> TextData(source="parts").load(0)
            Traceback (most recent call last):
            maao.errors.DataError: data.source = "parts" needs at least data.train, the path of a file.
        """
        if self.task is not None and self.train is None and self.source.startswith(PACKAGED):
            raise ConfigError(f"data.task = '{self.task}' reads the task's own files: name them in data.train, data.select and data.test.")
        if self.train is not None and self.source not in (PARTS, BBC):
            raise ConfigError(
                f"data.train and data.source = '{self.source}' name two sources: drop data.train, or set data.source to 'parts' (or drop "
                "it)."
            )
        own = form or InputForm()
        key = (self.model_dump_json(), seed, own, stamps(vars(self).values()))
        splits = once(("splits", *key), lambda: self.with_lines(self._splits(seed, _Reader(self, own))))
        return Dataset(splits, splits.labels)

    def with_lines(self, splits: Splits) -> Splits:
        """Return splits with the example lines that the settings name. Raises `DataError` for lines that do not suit the data."""
        if self.lines is None:
            return splits
        joined = with_lines(splits, self._lines(self.lines), self.lines_weight, self.lines)
        return replace(joined, notes=(*joined.notes, banking77.REPLIES_BY)) if self.lines == BANKING else joined

    def _lines(self, source: str) -> ClassLines:
        if source == BANKING:
            return banking77.replies()
        if source.startswith(PACKAGED):
            raise DataError(f"Unknown packaged lines '{source}'. Known: {BANKING}.")
        return read_lines(source)

    def _splits(self, seed: int, reader: _Reader) -> Splits:
        if self.protocol is not None:
            return self._by_protocol(self.protocol, seed, reader)
        if self.in_parts:
            if self.train is None and not (self.is_cross_validated and self._labels()):  # classes alone, known by their names
                raise DataError('data.source = "parts" needs at least data.train, the path of a file.')
            train = () if self.train is None else reader.file(self.train)
            select = None if self.select is None or self.is_cross_validated else reader.file(self.select)
            test = () if self.test is None else reader.file(self.test)
            return self.cut(train, select, test, seed)
        if self.source.startswith(HUB):
            return self._by_hub(seed, reader)
        if self.source == BANKING:
            return self._by_banking77(seed)
        shots = SHOTS if self.shots is None else self.shots
        return few_shot(
            reader.file(self.source),
            shots=shots,
            select_shots=0 if self.is_cross_validated else self.select_shots or shots,
            test_size=self.test_size,
            seed=seed,
            labels=self._labels(),
            folds=self._folds,
        )

    def cut(
        self,
        train: Sequence[Example],
        select: Sequence[Example] | None,
        test: Sequence[Example],
        seed: int,
        labels: Sequence[str] | None = None,
    ) -> Splits:
        """Return splits of examples that come in parts, by what the settings ask for; `labels` in place of the section's."""
        return from_parts(
            train,
            select,
            test,
            labels=self._labels() if labels is None else labels,
            shots=self.shots,
            select_shots=self.select_shots,
            test_size=at_most(self.test_size, test),
            seed=seed,
            drop_repeats=self.drop_repeats,
            folds=self._folds,
        )

    @property
    def _folds(self) -> int | None:
        return self.folds if self.is_cross_validated else None

    def _by_protocol(self, name: str, seed: int, reader: _Reader) -> Splits:
        """Return the splits of a named protocol, from parts or from a hub data set's own splits."""
        protocol = protocol_named(name)
        if self.source.startswith(HUB):
            train, select, held_out = reader.split("train"), None, reader.split("validation")
        elif self.train is None or self.test is None:
            raise DataError(f"The protocol '{protocol.name}' needs data.train and data.test, the paths of files, or a hub data set.")
        else:
            train = reader.file(self.train)
            select = None if self.select is None else reader.file(self.select)
            held_out = reader.file(self.test)
        return splits_by(protocol, train, select, held_out, labels=self._labels(), seed=seed, drop_repeats=self.drop_repeats)

    def _by_hub(self, seed: int, reader: _Reader) -> Splits:
        """A hub data set's own train split gives train and select, its test (or validation) split gives test."""
        from maao.data.hub import NoSuchLabels

        notes: tuple[str, ...] = ()
        try:
            test = reader.split("test")
        except NoSuchLabels as error:  # many sets have no test split, or keep its labels secret
            test = reader.split("validation")
            name = self.source.removeprefix(HUB)
            notes = (f"test: the split 'validation' of {name}, since the split 'test' cannot be used: {error}",)
        few = {"shots": SHOTS if self.shots is None else self.shots}
        if not self.is_cross_validated:
            few["select_shots"] = self.select_shots or few["shots"]
        splits = self.model_copy(update=few).cut(reader.split("train"), None, test, seed)
        return replace(splits, notes=(*notes, *splits.notes))

    def _by_banking77(self, seed: int) -> Splits:
        """The seed says which labelled texts of a class come first; so many of these as are asked for are cut into train and select."""
        shots = banking77.SHOTS if self.shots is None else self.shots
        select_shots = None if self.is_cross_validated else self.select_shots or shots
        own = self.model_copy(update={"shots": shots, "select_shots": select_shots})
        train, test = banking77.labelled(seed, shots + (select_shots or 0)), banking77.held_out()
        return own.cut(train, None, test, seed, self._labels() or sorted(banking77.replies().labels()))

    def _labels(self) -> Sequence[str] | None:
        if self.labels is not None or self.task is None:
            return self.labels
        return task_named(self.task).labels


@dataclass(frozen=True)
class _Reader:
    """Reads files and splits of hub data sets, by what the settings say of them."""

    data: TextData
    form: InputForm

    def file(self, source: str) -> tuple[Example, ...]:
        if source == BBC:
            from maao.data.packaged import bbc_headlines

            return bbc_headlines()
        if self.data.task is not None:
            return self._worded(self.data.task, read_task(self.data.task, source))
        if source.startswith(PACKAGED):
            raise DataError(f"Unknown packaged data '{source}'. Known: {BBC}, {BANKING}.")
        from maao.data.files import read_examples

        separator, columns = self.data.separator, self.data.columns(self.form.fields)
        key = ("file", source, separator, json.dumps(columns), stamps([source]))
        return once(key, lambda: read_examples(source, separator=separator, **columns))

    def split(self, split: str) -> tuple[Example, ...]:
        """Return one split of a hub data set, or of a task's configuration of one."""
        from maao.data.hub import read_hub, read_task_hub

        name = self.data.source.removeprefix(HUB)
        if self.data.task is not None:
            return self._worded(self.data.task, read_task_hub(self.data.task, split, name=name))
        return read_hub(name, self.data.hub_config, split, **self.data.columns(self.form.fields))

    def _worded(self, task: str, examples: tuple[Example, ...]) -> tuple[Example, ...]:
        return cloze_examples(task, examples) if self.form.cloze else examples

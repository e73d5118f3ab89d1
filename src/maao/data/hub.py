"""Read examples from a data set on the Hugging Face Hub, or from a folder laid out like one.

Only parquet files are read: no code that comes with a data set is ever run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Unpack

from maao.data.checks import Columns, Row, columns_read, examples_from_rows, listing, nearest, quote
from maao.data.task import MISSING, examples_of, task_named
from maao.errors import DataError
from maao.types import Example

SUPERGLUE = "aps/super_glue"
PARQUET = "refs/convert/parquet"  # where the hub keeps the parquet form of data sets that were published with a loading script

OFFLINE_SETTINGS = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")


class NoSuchLabels(DataError):
    """The data set has no such split, or the split was published without its labels: another one may serve."""


@dataclass(frozen=True)
class HubSet:
    """A data set on the hub, or in a folder on disk laid out like one, of texts or of pictures.

    Attributes:
        name: the data set, or the folder.
        config: its configuration, where it has several.
        revision: a branch or commit.
        cache_dir: where downloads are kept; None: where `datasets` keeps them.
        folder: the folder in it whose files are read; None: all.
    """

    name: str
    config: str | None = None
    revision: str | None = None
    cache_dir: str | os.PathLike[str] | None = None
    folder: str | None = None

    def where(self, split: str) -> str:
        """Return what a split is called in errors."""
        part = self.config or self.folder
        return f"{self.name}{f' ({part})' if part else ''}, split {split!r}"

    def open(self, split: str) -> Any:
        """Return one split as a `datasets.Dataset`. Raises as `read_hub` does."""
        where = self.where(split)
        try:
            import datasets
        except ImportError as error:
            raise DataError(f'{where}: reading hub data sets needs datasets. Install it with: pip install "maao[data]".') from error
        cache = None if self.cache_dir is None else os.fspath(self.cache_dir)
        try:
            # The two halves of `datasets.load_dataset`: between them, the files are known and nothing has been downloaded.
            builder = datasets.load_dataset_builder(self.name, self.config, data_dir=self.folder, revision=self.revision, cache_dir=cache)
            _check_files(builder.config.data_files, split, where)
            builder.download_and_prepare()
            _check_split(split, builder.info.splits, where)
            return builder.as_dataset(split=split)
        except ConnectionError as error:
            raise DataError(f"{where}: the Hugging Face Hub cannot be reached ({error}). {_offline_advice()}") from error
        except FileNotFoundError as error:
            advice = "Check the name; a private or gated data set also needs you to be logged in."
            raise DataError(f"{where}: there is no such data set, or it has no data files ({error}). {advice}") from error
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            raise DataError(f"{where}: cannot be loaded: {error}") from error


def read_hub(
    name: str,
    config: str | None = None,
    split: str = "train",
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    **columns: Unpack[Columns],
) -> tuple[Example, ...]:
    """Return the examples of one split of a data set with parquet files.

    Args:
        name: the data set on the hub (`"nyu-mll/glue"`), or a folder on disk.
        config: its configuration (`"sst2"`), where it has several.
        split: the name of the split, or a part of it such as `"train[:1000]"`.
        revision: a commit, to read the same data next year.
        cache_dir: where downloads are kept; None: where `datasets` keeps them.
        columns: which columns make an example, as `maao.data.checks.Columns` tells. Where the data set names its classes itself and no
            `label_names` are given, those names are used; with `label_names`, the raw label is the class's number.

    Raises:
        NoSuchLabels: there is no such split, or it was published without its labels.
        DataError: `datasets` is not installed, the hub cannot be reached, there is no such data set, configuration or column, its
            files are not parquet, or a row cannot be used (all such rows are named).

    Example:
        >>> import tempfile, pathlib, pyarrow, pyarrow.parquet
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = pyarrow.table({"sentence": ["good film"], "label": [1]})
        ...     pyarrow.parquet.write_table(table, pathlib.Path(folder, "train.parquet"))
        ...     read_hub(folder, label_names={"1": "positive"}, cache_dir=pathlib.Path(folder, "cache"))
        (Example(fields={'text': 'good film'}, label='positive'),)
    """
    held = HubSet(name, config, revision, cache_dir)
    return dataset_examples(held.open(split), held.where(split), **columns)


def dataset_examples(table: Any, where: str, **columns: Unpack[Columns]) -> tuple[Example, ...]:
    """Return the examples of a `datasets.Dataset`, as `read_hub` does; `where` names it in errors.

    Example:
        >>> import datasets
        >>> features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])})
        >>> dataset_examples(datasets.Dataset.from_dict({"text": ["fine"], "label": [1]}, features=features), "train")
        (Example(fields={'text': 'fine'}, label='good'),)
    """
    label_field = columns.get("label_field", "label")
    classes = class_names(table, label_field)
    table = table.select_columns(columns_read(list(table.column_names), columns, where))
    rows: list[Row] = [(f"row {number}", row) for number, row in enumerate(table.to_list(), 1)]
    unlabelled = sum(row.get(label_field, "") in MISSING for _, row in rows if not isinstance(row.get(label_field), list))
    if rows and unlabelled and (classes or unlabelled == len(rows)):  # where classes have no names, some may be called -1
        raise NoSuchLabels(f"{where}: {unlabelled} of {len(rows)} rows have no label. Was this split published without? Take another one.")
    if classes and columns.get("label_names") is None:
        columns["label_names"] = {str(number): class_name for number, class_name in enumerate(classes)}
    return examples_from_rows(rows, where=where, **columns)


def read_task_hub(
    task: str,
    split: str = "train",
    *,
    name: str = SUPERGLUE,
    revision: str | None = PARQUET,
    cache_dir: str | os.PathLike[str] | None = None,
) -> tuple[Example, ...]:
    """Return the examples of one split of a SuperGLUE task, from the hub's `super_glue` or a data set laid out like it.

    Args:
        task: one of the table `task` of `choices.py`.
        split: "train" or "validation"; "test" was published without labels.
        name: the data set on the hub, or a folder on disk, with one folder of parquet files a task (`boolq/train/...`; WSC's is
            `wsc.fixed`, whose spans were corrected).
        revision: a branch or commit. The default is the hub's own conversion to parquet, since the data set itself is a loading script;
            a folder on disk has none.
        cache_dir: as for `read_hub`.

    Raises:
        ConfigError: there is no such task.
        NoSuchLabels: there is no such split, or it was published without its labels.
        DataError: as for `read_hub` and `maao.data.task.read_task`.

    Example:
        >>> import tempfile, pathlib, pyarrow, pyarrow.parquet
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     pathlib.Path(folder, "rte").mkdir()
        ...     table = pyarrow.table({"premise": ["It rains."], "hypothesis": ["It is wet."], "idx": [0], "label": [0]})
        ...     pyarrow.parquet.write_table(table, pathlib.Path(folder, "rte", "train.parquet"))
        ...     read_task_hub("rte", name=folder, cache_dir=pathlib.Path(folder, "cache"))[0].label
        'entailment'
    """
    config = task_named(task).hub
    on_disk = os.path.isdir(name)
    held = HubSet(name, None, None if on_disk else revision, cache_dir, folder=config)
    where = held.where(split)
    if on_disk and not os.path.isdir(os.path.join(name, config)):
        inside = sorted(entry.name for entry in os.scandir(name) if entry.is_dir())
        raise DataError(f"{where}: there is no folder {quote(config)} in it.{nearest(config, inside)} Folders: {listing(inside)}.")
    rows = held.open(split).to_list()
    answer = "answers" if task == "record" else "label"
    unlabelled = sum(answer in row and (row[answer] in MISSING or row[answer] == []) for row in rows)
    if unlabelled:
        raise NoSuchLabels(f"{where}: {unlabelled} of {len(rows)} rows have no label. Take the validation split.")
    return examples_of(task, rows, where)


def class_names(table: Any, label_field: str) -> list[str] | None:
    """Return the names of the classes that a table has for its numbers; None where labels are as they stand."""
    return getattr(table.features.get(label_field), "names", None)


def _offline_advice() -> str:
    for setting in OFFLINE_SETTINGS:
        if os.environ.get(setting, "").upper() in {"1", "ON", "YES", "TRUE"}:
            return f"{setting} is set and forbids downloads: unset it, or download the data set where there is a network first."
    return "Check the network, or read a file on disk instead (maao.data.files.read_examples)."


def _check_files(data_files: Mapping[str, Iterable[object]] | None, split: str, where: str) -> None:
    if not data_files:  # a copy in the cache, prepared before
        return
    other = sorted({str(file) for files in data_files.values() for file in files if not str(file).lower().endswith(".parquet")})
    if other:
        raise DataError(
            f"{where}: only parquet files are read, but this data set has {listing((file.rsplit('/', 1)[-1] for file in other), 3)}. "
            "Download the file you need and read it with maao.data.files.read_examples."
        )
    _check_split(split, data_files, where)


def _check_split(split: str, known: Iterable[object] | None, where: str) -> None:
    splits = [str(name) for name in known or ()]
    for asked in (re.split(r"[\[(]", part)[0].strip() for part in split.split("+")):
        if splits and asked not in (*splits, "all"):
            raise NoSuchLabels(f"{where}: there is no split {quote(asked)}.{nearest(asked, splits)} Splits: {listing(splits)}.")

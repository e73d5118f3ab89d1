"""Pictures from a data set on the Hugging Face Hub, or from a local folder of parquet files laid out like one.

Only parquet files are read (`maao.data.hub`): no code that comes with a data set is ever run. The bytes of all pictures are hashed, so
that repeats are found; a picture is opened when it is needed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from maao.data.checks import listing, nearest, quote, refuse
from maao.data.dataset import Dataset
from maao.data.hub import HubSet, class_names
from maao.data.images.folder import in_words, note_on_names, without_repeats
from maao.data.images.layout import part_of
from maao.data.images.reading import image_of
from maao.data.images.sampling import FewShot, sample_parts, sample_pool
from maao.data.sampling import IMAGE_SHOTS
from maao.data.task import MISSING
from maao.errors import DataError
from maao.types import Example


class HubSource:
    """Pictures by ``split/row``, rows counted from 0; `bits` as for `read_image`."""

    def __init__(self, tables: Mapping[str, Any], field: str, name: str, bits: int | None = None) -> None:
        self._tables, self._field, self._name, self._bits = tables, field, name, bits

    def raw(self, key: str) -> bytes:
        """Return the bytes of a picture's file. Raises `DataError` for a row without."""
        split, _, row = key.rpartition("/")
        if split not in self._tables or not row.isdecimal() or int(row) >= len(self._tables[split]):
            raise DataError(f"There is no picture {quote(key)} in {self._name}: give SPLIT/ROW, of the splits {listing(self._tables)}.")
        value = self._tables[split][int(row)][self._field]
        if isinstance(value, bytes):
            return value
        if isinstance(value, Mapping) and value.get("bytes") is not None:
            return bytes(value["bytes"])
        if isinstance(value, Mapping) and value.get("path"):
            try:
                return Path(value["path"]).read_bytes()
            except OSError as error:
                raise DataError(f"{self._name}, {key}: its picture cannot be read: {error}.") from error
        raise DataError(f"{self._name}, {key}: the column {quote(self._field)} holds no picture.")

    def open(self, key: str) -> Image.Image:
        return image_of(self.raw(key), f"{self._name}, {key}", self._bits)


def load_hub_images(
    name: str,
    *,
    config: str | None = None,
    image_field: str = "image",
    label_field: str = "label",
    shots: int | None = None,
    select_shots: int | None = None,
    test_size: int | None = None,
    seed: int = 0,
    fewer: bool = False,
    folds: int | None = None,
    bits: int | None = None,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Return the task of a data set with a column of pictures and one of labels (classes, or texts).

    Its train split trains; its validation split, if there is one, selects; its test split is `test`. Without a test split, or with one that
    was published without labels, the validation split is `test` and `select` comes out of train, and a note says so. With a train split
    alone, all three come out of it.

    Args:
        name: the data set on the hub (`"ethz/food101"`), or a folder on disk.
        config: its configuration, where it has several.
        image_field, label_field: the columns.
        shots: training pictures a class; by default 16.
        select_shots: by default as many as shots, at most 4.
        test_size: most test pictures, by hash; None: all there are.
        seed: what `train` and `select` are sampled with.
        fewer: take what there is where a class has too few.
        folds: cross-validate `train` in so many folds at most; no pictures are then set apart to select with.
        bits: depth of grey of more than 8 bits whose files do not say it; None: 16, since not all pictures are opened to look.
        revision: a commit, to read the same data next year.
        cache_dir: where downloads are kept; None: where `datasets` keeps them.

    Raises:
        DataError: it cannot be loaded, has no such columns, a row of train has no label or no picture, a picture stands under two labels.
    """
    parts, tables, notes = _parts(HubSet(name, config, revision, cache_dir), image_field, label_field)
    source = HubSource(tables, image_field, name, bits)
    classes = class_names(tables["train"], label_field)
    rows = {part: _examples(source, split, tables[split][label_field], label_field, classes, name) for part, split in parts.items()}
    trained = {example.label for example in rows["train"]}
    labels = tuple(label for label in classes if label in trained) if classes else tuple(sorted(trained))
    if len(labels) < 2:
        raise DataError(f"{name}: train holds one class only ({listing(labels)}): there is nothing to tell apart.")
    if classes and len(labels) < len(classes):
        notes.append(f"train has no picture of {listing(label for label in classes if label not in trained)}: classes it does not know.")
    for part, held in rows.items():
        if unknown := sorted({example.label for example in held} - trained):
            raise DataError(f"{name}: {part} has classes that train lacks: {listing(unknown)}.{nearest(unknown[0], labels)}")
    rows = without_repeats(rows, notes)
    few = FewShot(IMAGE_SHOTS if shots is None else shots, select_shots, test_size, seed, fewer, folds)
    splits = sample_pool(rows["train"], labels, few) if list(rows) == ["train"] else sample_parts(rows, labels, few)
    names = in_words(labels, name)
    splits = replace(splits, notes=(*splits.notes, *notes, *note_on_names(names)))
    return Dataset(splits, names, source, bits=bits)


def _parts(hub: HubSet, image_field: str, label_field: str) -> tuple[dict[str, str], dict[str, Any], list[str]]:
    """Return which split is which part, the splits as tables (pictures not decoded), and notes."""

    def table(split: str) -> Any:
        where, held = hub.where(split), hub.open(split)
        columns = list(held.column_names)
        for field, setting in ((image_field, "image_field"), (label_field, "label_field")):
            if field not in columns:
                hint = nearest(field, columns)
                raise DataError(f"{where}: there is no column {quote(field)}.{hint} Columns: {listing(columns)}. Set data.{setting}.")
        feature = held.features[image_field]
        if hasattr(feature, "decode") and type(feature).__name__ == "Image":
            return held.cast_column(image_field, type(feature)(decode=False))
        if (isinstance(feature, Mapping) and "bytes" in feature) or str(getattr(feature, "dtype", "")) in ("binary", "large_binary"):
            return held
        raise DataError(f"{where}: the column {quote(image_field)} holds no pictures, but {feature}. Set data.image_field.")

    notes: list[str] = []
    tables = {"train": table("train")}
    there = [str(split) for split in tables["train"].info.splits or ()]
    parts = {"train": "train"}
    if "test" in there:
        tables["test"] = table("test")
        without = sum(label in MISSING for label in tables["test"][label_field])
        if without:
            del tables["test"]
            notes.append(f"test: {without} pictures of the test split have no label, so it is not used.")
        else:
            parts["test"] = "test"
    held_out = next((split for split in there if part_of(split) == "select"), None)
    if held_out is not None:
        tables[held_out] = table(held_out)
        if "test" in parts:
            parts["select"] = held_out
        else:
            parts["test"] = held_out
            notes.append(f"test is the split {quote(held_out)}, since no test split has labels; select comes out of train.")
    if unused := [split for split in there if split not in parts.values()]:
        notes.append(f"Not used: the splits {listing(unused)}.")
    return parts, tables, notes


def _examples(
    source: HubSource, split: str, labels: Sequence[object], label_field: str, classes: Sequence[str] | None, name: str
) -> list[Example]:
    found: list[Example] = []
    faults: list[tuple[str, str]] = []
    for row, label in enumerate(labels):
        key = f"{split}/{row}"
        text = ""
        if label in MISSING:
            faults.append((f"row {row}", "it has no label"))
        elif not isinstance(label, str | int):  # a float that is no number, a list of several labels
            faults.append((f"row {row}", f"its label is {quote(str(label))}, and a class is a text or a whole number"))
        elif classes is not None and isinstance(label, int):
            if not 0 <= label < len(classes):
                faults.append((f"row {row}", f"its label is {label}, and there are {len(classes)} classes"))
                continue
            text = classes[label]
        else:
            text = str(label).strip()
            faults += [] if text else [(f"row {row}", "its label is empty")]
        try:
            content = source.raw(key)
        except DataError:
            faults.append((f"row {row}", "it has no picture"))
            continue
        if not content:
            faults.append((f"row {row}", "its picture is empty"))
        found.append(Example({"image": key, "content": hashlib.sha256(content).hexdigest()}, text))
    refuse(f"{name}, split {split!r}", "rows", len(labels), faults)
    return found

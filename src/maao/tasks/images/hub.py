"""Pictures from a hub data set, or from a local folder in a hub's format, through `datasets`."""

from __future__ import annotations

import hashlib
import io
from typing import Any

from PIL import Image

from maao.errors import DataError
from maao.tasks.checks import listing
from maao.tasks.images.folder import class_names
from maao.tasks.images.reading import as_rgb
from maao.tasks.images.sampling import SHOTS, default_select, sample_parts, sample_pool
from maao.tasks.images.task import ImageTask
from maao.types import Example

PARTS = (("train", ("train",)), ("select", ("validation", "valid", "val", "dev")), ("test", ("test",)))


class HubSource:
    """Pictures by ``split/row``."""

    def __init__(self, held: Any, field: str, name: str) -> None:
        self._held, self._field, self._name = held, field, name

    def raw(self, key: str) -> bytes:
        split, _, row = key.partition("/")
        value = self._held[split][int(row)][self._field]
        if not isinstance(value, dict) or (value.get("bytes") is None and value.get("path") is None):
            raise DataError(f"Row {row} of {self._name}, split '{split}', holds no picture in '{self._field}'.")
        if value["bytes"] is not None:
            return bytes(value["bytes"])
        with open(value["path"], "rb") as stream:
            return stream.read()

    def open(self, key: str) -> Image.Image:
        try:
            with Image.open(io.BytesIO(self.raw(key))) as opened:
                opened.load()
                return as_rgb(opened)
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"The picture {key} of {self._name} is broken: {error}.") from error


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
) -> ImageTask:
    """Return the task of a hub data set with a column of pictures and one of labels (class labels or texts).

    Its train split trains; its validation split, if there is one, selects; its test split (or else its validation split) is `test`.

    Raises:
        DataError: it cannot be loaded, or has no such columns.
    """
    try:
        import datasets
    except ImportError as error:
        raise DataError('Hub data sets need the package datasets: pip install "maao[data]"') from error
    try:
        held = datasets.load_dataset(name, config)
    except Exception as error:  # datasets raises errors of many kinds, some of other packages
        raise DataError(
            f"Cannot load the data set '{name}': {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    names: list[str] | None = None
    rows: dict[str, list[Example]] = {}
    for split in held:
        columns = held[split].column_names
        for field in (image_field, label_field):
            if field not in columns:
                raise DataError(f"The split '{split}' of {name} has no column '{field}'; it has {listing(columns)}. Set images.*_field.")
        feature = held[split].features[label_field]
        names = list(feature.names) if hasattr(feature, "names") else names
        held[split] = held[split].cast_column(image_field, datasets.Image(decode=False))
    source = HubSource(held, image_field, name)
    for part, known in PARTS:
        split = next((own for own in known if own in held), None)
        if split is None:
            continue
        rows[part] = []
        for number, label in enumerate(held[split][label_field]):
            key = f"{split}/{number}"
            text = names[label] if names is not None and isinstance(label, int) else str(label)
            rows[part].append(Example({"image": key, "content": hashlib.sha256(source.raw(key)).hexdigest()}, text))
    if "train" not in rows:
        raise DataError(f"The data set {name} has no split 'train'; it has {listing(held)}.")
    labels = tuple(names) if names is not None else tuple(sorted({e.label for e in rows["train"]}))
    common: dict[str, Any] = {"test_size": test_size, "seed": seed, "fewer": fewer}
    wanted = shots or SHOTS
    if "test" not in rows and "select" in rows:
        rows["test"] = rows.pop("select")
    if len(rows) == 1:
        splits = sample_pool(rows["train"], labels, shots=wanted, select_shots=select_shots or default_select(wanted), **common)
    else:
        splits = sample_parts(rows, labels, shots=wanted, select_shots=select_shots, **common)
    return ImageTask(splits, class_names(labels), source, "", splits.notes)

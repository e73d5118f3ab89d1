"""The emoji task: name the subcategory of a drawing in one style, with a tower that was trained on the other.

The 24 subcategories with at least 20 groups are the classes, without country flags, alphanumerics and other symbols. A group joins pictures
that are alike (byte-identical, or the man, woman and person of one thing); it stands in one split and gives one picture to it, the first by
code. A seed samples, class by class, 8 groups for `train` (the first are the shots), 4 for `select`, and up to 12 of the rest for `test`.

Source of the drawings: emoji-datasource 16.0.0 (Noto Emoji: Apache-2.0 / OFL; Twemoji: CC-BY 4.0).
"""

from __future__ import annotations

import io
import json
import os
import random
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypedDict
from zipfile import BadZipFile

import numpy as np
from PIL import Image

from maao.core.seeds import seed_for
from maao.data.dataset import Dataset
from maao.data.image_sets import EMOJI_SELECT, EMOJI_TEST, EMOJI_TRAIN
from maao.data.splits import from_parts
from maao.errors import ConfigError, DataError
from maao.types import Example

LEFT_OUT = ("country-flag", "alphanum", "other-symbol")
LEAST_GROUPS = 20
TEMPLATE = "an emoji of {class}."
Style = Literal["twemoji", "noto"]


class Entry(TypedDict):
    """What emoji.json says of a drawing, as far as it is read."""

    code: str
    name: str
    group: int
    subcategory: str


class EmojiSource:
    """Pictures by ``style/code``, ``twemoji/1F600`` for one, out of ``emoji.npz``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, key: str) -> Image.Image:
        style, _, code = key.partition("/")
        if code not in self._numbers or style not in ("noto", "twemoji"):
            raise DataError(f"There is no emoji {key!r}: give twemoji/CODE or noto/CODE, with a code of {self.folder}/emoji.json.")
        return Image.fromarray(self._pictures[style][self._numbers[code]])

    @cached_property
    def entries(self) -> list[Entry]:
        """What is known of each emoji: code, name, subcategory, group, ..."""
        try:
            found: list[Entry] = json.loads((self.folder / "emoji.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.folder}/emoji.json cannot be read: {error}. docs/image-data.md says how to lay it out.") from error
        return found

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {entry["code"]: i for i, entry in enumerate(self.entries)}

    @cached_property
    def _pictures(self) -> dict[str, Any]:
        try:
            with np.load(io.BytesIO((self.folder / "emoji.npz").read_bytes())) as held:
                return {style: held[style] for style in ("noto", "twemoji")}
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise DataError(f"{self.folder}/emoji.npz cannot be read: {error}. docs/image-data.md says how to lay it out.") from error


def emoji_folder(root: str | None = None) -> Path:
    """Return the folder of the emoji data: in `root`, or in what ``MAAO_DATA`` names.

    Raises:
        DataError: it is not there.
    """
    base = root or os.environ.get("MAAO_DATA")
    if not base:
        raise DataError("The emoji data are looked for in data.root or in the folder that MAAO_DATA names: set one of them.")
    folder = Path(base) / "emoji"
    if not (folder / "emoji.json").is_file():
        raise DataError(f"There is no {folder}/emoji.json. docs/image-data.md says where the emoji data come from and how to lay them out.")
    return folder


def load_emoji(
    *, shots: int = EMOJI_TRAIN, style: Style = "twemoji", seed: int = 0, root: str | None = None, folds: int | None = None
) -> Dataset:
    """Return the emoji task of a seed.

    Args:
        folds: cross-validate `train` in so many folds at most: the 4 groups that select are then free to train too.

    Raises:
        ConfigError: more shots than the 8 groups that train.
        DataError: the data are not there.
    """
    least, most = (1, EMOJI_TRAIN) if folds is None else (0, EMOJI_TRAIN + EMOJI_SELECT)
    if not least <= shots <= most:
        raise ConfigError(f"The emoji task samples {most} groups a class to train on: data.shots can be {least} to {most}; got {shots}.")
    source = EmojiSource(emoji_folder(root))
    train: list[Example] = []
    select: list[Example] = []
    test: list[Example] = []
    classes = emoji_classes(source)
    for label, groups in classes.items():
        order = sorted(groups)
        random.Random(seed_for(seed, "emoji", label)).shuffle(order)
        examples = [Example({"image": f"{style}/{groups[g]['code']}", "name": groups[g]["name"]}, label) for g in order]
        train += examples[:shots]
        select += examples[EMOJI_TRAIN : EMOJI_TRAIN + EMOJI_SELECT] if folds is None else []
        test += examples[EMOJI_TRAIN + EMOJI_SELECT : EMOJI_TRAIN + EMOJI_SELECT + EMOJI_TEST]
    splits = from_parts(train, select if folds is None else None, test, labels=list(classes), folds=folds, seed=seed)
    names = tuple(label.replace("-", " ") for label in classes)
    return Dataset(splits, names, source, TEMPLATE)


def emoji_classes(source: EmojiSource) -> dict[str, dict[int, Entry]]:
    """Return for each class, in order of its name, its groups with the entry that stands for each: the first by code."""
    first: dict[int, Entry] = {}
    for entry in sorted(source.entries, key=lambda entry: str(entry["code"])):
        first.setdefault(entry["group"], entry)
    classes: dict[str, dict[int, Entry]] = {}
    for group, entry in first.items():
        classes.setdefault(entry["subcategory"], {})[group] = entry
    kept = {label: groups for label, groups in classes.items() if len(groups) >= LEAST_GROUPS and label not in LEFT_OUT}
    return dict(sorted(kept.items()))

"""The field's eleven data sets, from local folders in the layout of CoOp's DATASETS.md, with the published splits.

Nothing is downloaded, and nothing but the published split files says what is train, validation and test. Test sets are taken as published:
pictures in them that repeat others are not looked for, since numbers without them could not be compared.

Sources: Zhou et al., Learning to Prompt for Vision-Language Models, 2022 (splits, templates, class names); each data set's own page.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from maao.data.checks import listing, nearest, quote
from maao.data.dataset import Dataset
from maao.data.image_sets import CATALOG, COOP
from maao.data.images.sampling import FewShot, sample_parts
from maao.data.images.source import Files
from maao.data.images.walking import is_hidden
from maao.data.sampling import IMAGE_SHOTS, base_and_new
from maao.errors import ConfigError, DataError
from maao.types import Example, Splits

MOST_TOLD = 5  # missing pictures that an error names; the others are counted

Part = list[tuple[str, int, str]]  # picture, class number, class name
_SPLITS = {"train": "train", "select": "val", "test": "test"}


def load_catalog(
    name: str,
    root: str | Path,
    *,
    shots: int | None = None,
    select_shots: int | None = None,
    test_size: int | None = None,
    seed: int = 0,
    classes: str = "all",
    fewer: bool = False,
    folds: int | None = None,
) -> Dataset:
    """Return the task of a data set of the catalog.

    The published train split trains, its validation split selects, its test split is `test`. ImageNet has no third split with labels: its
    validation pictures are `test`, as the field uses them, and `select` comes out of train. (The field selects by what it reports.)

    Args:
        root: the folder that holds the data sets' own folders.
        shots: training pictures a class; by default 16.
        select_shots: pictures of a class to select with; by default as many as shots, at most 4.
        test_size: most test pictures, by hash; None: all.
        seed: what `train` and `select` are sampled with.
        classes: "all", or the "base" or the "new" half of them, in the order of the published class numbers.
        fewer: take what there is where a class has too few (a few classes of Caltech101 have fewer than 16).
        folds: cross-validate `train` in so many folds at most; no pictures are then set apart to select with.

    Raises:
        ConfigError: no such data set, or no such half.
        DataError: a file, folder or picture is missing, a file cannot be understood, a class has too few pictures.
    """
    if name not in CATALOG:
        raise ConfigError(f"Unknown data set '{name}'.{nearest(name, CATALOG)} Known: {', '.join(CATALOG)}.")
    published = CATALOG[name]
    base = Path(root) / published.folder
    if not base.is_dir():
        itself = (Path(root) / published.split).exists()
        hint = f" {root} looks like that folder itself: give the one above." if itself else ""
        raise DataError(f"There is no folder {base}.{hint} {_where(name)}")
    images = base / published.images
    parts = {"imagenet": _imagenet, "fgvc_aircraft": _aircraft}.get(name, _zhou)(name, base)
    if not images.is_dir():
        raise DataError(f"There is no folder {images}, the pictures of {name}. {_where(name)}")
    named = _names(parts, published.names or {}, base)
    counts = Counter(named.values())
    labels = {number: words if counts[words] == 1 else f"{words} ({number})" for number, words in sorted(named.items())}
    base_half, new_half = base_and_new(tuple(labels.values()))
    halves = {"all": tuple(labels.values()), "base": base_half, "new": new_half}
    if classes not in halves:
        raise ConfigError(f"There is no half of the classes {classes!r}.{nearest(classes, halves)} Give one of: {listing(halves)}.")
    kept = set(halves[classes])
    examples = {
        part: [Example({"image": path, "name": named[number]}, labels[number]) for path, number, _ in held if labels[number] in kept]
        for part, held in parts.items()
    }
    order = halves[classes]
    splits = sample_parts(examples, order, FewShot(IMAGE_SHOTS if shots is None else shots, select_shots, test_size, seed, fewer, folds))
    _check_pictures(splits, images, name)
    notes: list[str] = []
    if len(labels) != published.num_classes:
        notes.append(f"{name} was published with {published.num_classes} classes, but {len(labels)} are here.")
    if twins := sorted(words for words, count in counts.items() if count > 1):
        notes.append(f"{name} has different classes of the same name, which no text tower can tell apart: {listing(twins)}.")
    if classes != "all":
        notes.append(f"The {classes} half of the classes: {len(order)} of {len(labels)}.")
    splits = replace(splits, notes=(*splits.notes, *notes))
    words = {labels[number]: held for number, held in named.items()}
    return Dataset(splits, tuple(words[label] for label in order), Files(images), published.template)


def _where(name: str) -> str:
    published = CATALOG[name]
    return f"Pictures come from {published.home}, the file {published.split} {_from(name)}; docs/image-data.md says how {name} is laid out."


def _from(name: str) -> str:
    return "with them" if name == "fgvc_aircraft" else f"from {COOP}"


def _names(parts: Mapping[str, Part], fixes: Mapping[str, str], base: Path) -> dict[int, str]:
    """Return class number -> name in words, in the order of the numbers."""
    named: dict[int, str] = {}
    for part in parts.values():
        for _, number, class_name in part:
            words = " ".join(fixes.get(class_name, class_name).replace("_", " ").split())
            if not words or named.setdefault(number, words) != words:
                raise DataError(
                    f"{base}: the class number {number} is called {named.get(number, '')!r} and {words!r}. Is a split file damaged?"
                )
    return dict(sorted(named.items()))


def _check_pictures(splits: Splits, images: Path, name: str) -> None:
    keys = [example.fields["image"] for part in (splits.train, splits.select, splits.test) for example in part]
    gone = [key for key in keys if not (images / key).is_file()]
    if gone:
        more = f" and {len(gone) - MOST_TOLD} more" if len(gone) > MOST_TOLD else ""
        told = ", ".join(quote(key) for key in gone[:MOST_TOLD])
        raise DataError(f"{len(gone)} of {len(keys)} pictures are not in {images}: {told}{more}. {_where(name)}")


def _zhou(name: str, base: Path) -> dict[str, Part]:
    file = base / CATALOG[name].split
    if not file.is_file():
        raise DataError(f"There is no {file}, the published splits. {_where(name)}")
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        return {ours: [(str(p), int(n), str(c)) for p, n, c in held[theirs]] for ours, theirs in _SPLITS.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is not a file of published splits (train, val, test; picture, number, class each): {error}.") from error


def _aircraft(name: str, base: Path) -> dict[str, Part]:
    numbers = {variant: number for number, variant in enumerate(_lines(base / "variants.txt", name))}
    parts: dict[str, Part] = {}
    for ours, theirs in _SPLITS.items():
        file = base / f"images_variant_{theirs}.txt"
        parts[ours] = []
        for number, line in enumerate(_lines(file, name), 1):
            picture, _, variant = line.partition(" ")
            if variant not in numbers:
                raise DataError(
                    f"{file}, line {number}: the variant {variant!r} of {picture!r} is not in variants.txt.{nearest(variant, numbers)}"
                )
            parts[ours].append((f"{picture}.jpg", numbers[variant], variant))
    return parts


def _imagenet(name: str, base: Path) -> dict[str, Part]:
    """Return train and test (the published validation pictures); classes are numbered in the order of their codes (n01440764, ...)."""
    named: dict[str, str] = {}
    for number, line in enumerate(_lines(base / "classnames.txt", name), 1):
        code, _, words = line.partition(" ")
        if not words.strip() or code in named:
            raise DataError(f"{base / 'classnames.txt'}, line {number}: wanted a new code and a name (n01440764 tench); got {line!r}.")
        named[code] = words.strip()
    found: dict[str, Part] = {}
    for ours, theirs in (("train", "train"), ("test", "val")):
        folder = base / "images" / theirs
        if not folder.is_dir():
            raise DataError(f"There is no folder {folder}, ImageNet's {theirs} pictures in a folder a class. {_where(name)}")
        inside = sorted(path.name for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))
        if odd := sorted(set(inside) ^ set(named)):
            raise DataError(f"{folder} and classnames.txt must have the same classes, but only one of them has {listing(odd)}.")
        found[ours] = [
            (f"{theirs}/{code}/{path.name}", number, named[code])
            for number, code in enumerate(inside)
            for path in sorted((folder / code).iterdir())
            if not is_hidden(path.name)
        ]
    return found


def _lines(file: Path, name: str) -> list[str]:
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise DataError(f"There is no {file}. {_where(name)}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}.") from error

"""The field's eleven data sets, from local folders in the layout of CoOp's DATASETS.md, with the published splits.

Sources: Zhou et al., Learning to Prompt for Vision-Language Models, 2022 (splits, templates, class names); each data set's own page, which
docs/image-data.md names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from maao.errors import ConfigError, DataError
from maao.tasks.checks import nearest
from maao.tasks.images.sampling import SHOTS, base_and_new, sample_parts
from maao.tasks.images.source import Files
from maao.tasks.images.task import ImageTask
from maao.types import Example

CALTECH = {"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"}
EUROSAT = {
    "AnnualCrop": "Annual Crop Land",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "SeaLake": "Sea or Lake",
}


@dataclass(frozen=True)
class Published:
    """A data set: its folder, where in it pictures lie, the file of its splits, its template, and class names to put right."""

    folder: str
    images: str
    split: str
    template: str
    names: Mapping[str, str] | None = None


CATALOG: Mapping[str, Published] = {
    "imagenet": Published("imagenet", "images", "classnames.txt", "a photo of a {class}."),
    "caltech101": Published("caltech-101", "101_ObjectCategories", "split_zhou_Caltech101.json", "a photo of a {class}.", CALTECH),
    "oxford_pets": Published("oxford_pets", "images", "split_zhou_OxfordPets.json", "a photo of a {class}, a type of pet."),
    "stanford_cars": Published("stanford_cars", "", "split_zhou_StanfordCars.json", "a photo of a {class}."),
    "oxford_flowers": Published("oxford_flowers", "jpg", "split_zhou_OxfordFlowers.json", "a photo of a {class}, a type of flower."),
    "food101": Published("food-101", "images", "split_zhou_Food101.json", "a photo of {class}, a type of food."),
    "fgvc_aircraft": Published("fgvc_aircraft", "images", "images_variant_train.txt", "a photo of a {class}, a type of aircraft."),
    "sun397": Published("sun397", "SUN397", "split_zhou_SUN397.json", "a photo of a {class}."),
    "dtd": Published("dtd", "images", "split_zhou_DescribableTextures.json", "{class} texture."),
    "eurosat": Published("eurosat", "2750", "split_zhou_EuroSAT.json", "a centered satellite photo of {class}.", EUROSAT),
    "ucf101": Published("ucf101", "UCF-101-midframes", "split_zhou_UCF101.json", "a photo of a person doing {class}."),
}

Part = list[tuple[str, int, str]]  # picture, class number, class name


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
) -> ImageTask:
    """Return the task of a data set of the catalog.

    Args:
        root: the folder that holds the data sets' own folders.
        shots: training pictures a class; by default 16.
        select_shots: pictures a class of the published validation split; by default as many as shots, at most 4.
        classes: "all", or the "base" or the "new" half of them.

    Raises:
        ConfigError: no such data set.
        DataError: a file or folder is missing or cannot be understood.
    """
    if name not in CATALOG:
        raise ConfigError(f"Unknown data set '{name}'.{nearest(name, CATALOG)} Known: {', '.join(CATALOG)}.")
    published = CATALOG[name]
    base = Path(root) / published.folder
    if not base.is_dir():
        raise DataError(f"There is no folder {base}. docs/image-data.md says where {name} comes from and how to lay it out.")
    if name == "imagenet":
        parts = _imagenet(base)
    elif name == "fgvc_aircraft":
        parts = _aircraft(base)
    else:
        parts = _zhou(base, published)
    fixes = published.names or {}
    named: dict[int, str] = {}
    for part in parts.values():
        for _, number, class_name in part:
            words = " ".join(fixes.get(class_name, class_name).replace("_", " ").split())
            if named.setdefault(number, words) != words:
                raise DataError(f"{base}: the class number {number} is called {named[number]!r} and {words!r}. Is a split file damaged?")
    numbers = sorted(named)
    labels = [f"{number:04}" for number in numbers]
    names = {label: named[number] for label, number in zip(labels, numbers, strict=True)}
    base_half, new_half = base_and_new(labels)
    halves: Mapping[str, tuple[str, ...]] = {"all": tuple(labels), "base": base_half, "new": new_half}
    kept = halves[classes]
    examples = {
        part: [Example({"image": path, "name": named[number]}, f"{number:04}") for path, number, _ in held if f"{number:04}" in kept]
        for part, held in parts.items()
    }
    splits = sample_parts(examples, kept, shots=shots or SHOTS, select_shots=select_shots, test_size=test_size, seed=seed, fewer=fewer)
    return ImageTask(splits, tuple(names[label] for label in kept), Files(base / published.images), published.template, splits.notes)


def _zhou(base: Path, published: Published) -> dict[str, Part]:
    file = base / published.split
    if not file.is_file():
        raise DataError(f"There is no {file}, the published splits: docs/image-data.md says where it comes from.")
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        return {ours: [(str(p), int(n), str(c)) for p, n, c in held[theirs]] for ours, theirs in _SPLITS.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is not a file of published splits (train, val, test; picture, number, class each): {error}.") from error


_SPLITS = {"train": "train", "select": "val", "test": "test"}


def _aircraft(base: Path) -> dict[str, Part]:
    variants = _lines(base / "variants.txt")
    numbers = {name: i for i, name in enumerate(variants)}
    parts: dict[str, Part] = {}
    for ours, theirs in _SPLITS.items():
        file = base / f"images_variant_{theirs}.txt"
        parts[ours] = []
        for line in _lines(file):
            picture, _, variant = line.partition(" ")
            if variant not in numbers:
                raise DataError(f"{file}: the variant {variant!r} of {picture!r} is not in variants.txt.")
            parts[ours].append((f"{picture}.jpg", numbers[variant], variant))
    return parts


def _imagenet(base: Path) -> dict[str, Part]:
    """ImageNet's validation pictures are its test, as the field uses them; `select` is sampled out of train."""
    named = dict(line.split(" ", 1) for line in _lines(base / "classnames.txt"))
    found: dict[str, Part] = {}
    for ours, theirs in (("train", "train"), ("test", "val")):
        folder = base / "images" / theirs
        if not folder.is_dir():
            raise DataError(f"There is no folder {folder}, ImageNet's {theirs} pictures in a folder a class (n01440764, ...).")
        found[ours] = [
            (f"{theirs}/{code}/{path.name}", number, words)
            for number, (code, words) in enumerate(named.items())
            for path in sorted((folder / code).glob("*"))
        ]
    return found


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise DataError(f"There is no {file}: docs/image-data.md says where it comes from.") from error

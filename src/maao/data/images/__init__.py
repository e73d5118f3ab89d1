"""Pictures: image folders, the field's data sets, hub data sets, and the emoji task, as few-shot splits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from maao.errors import ConfigError, DataError

try:
    import PIL  # noqa: F401
except ImportError as error:
    raise DataError('Reading pictures needs Pillow. Install it with: pip install "maao[vision]".') from error

from maao.data.images.catalog import CATALOG, load_catalog
from maao.data.images.emoji import load_emoji
from maao.data.images.folder import load_folder
from maao.data.images.hub import load_hub_images
from maao.data.images.protocols import IMAGE_PROTOCOLS, check_same_images, protocol_of
from maao.data.images.reading import read_image
from maao.data.images.sampling import base_and_new
from maao.data.images.source import Files, ImageSource
from maao.data.images.task import ImageTask
from maao.data.splits import from_parts
from maao.types import Splits

__all__ = [
    "CATALOG", "IMAGE_PROTOCOLS", "Files", "ImageSource", "ImageTask", "check_same_images", "load", "load_catalog", "load_elsewhere",
    "load_emoji", "load_folder", "load_hub_images", "only", "protocol_of", "read_image",
]  # fmt: skip

HUB = "hub:"


def load(images: Any, seed: int) -> ImageTask:
    """Return the task that a config's `images` section names, for the classes that its protocol trains on.

    Raises:
        ConfigError: settings that contradict each other.
        DataError: what it names is not there or cannot be used.
    """
    _check(images)
    whole = _load(images, images.source, seed, half="base" if images.protocol == "base-to-new" else "all")
    if images.protocol == "base-to-new" and images.source not in CATALOG:
        whole = only(whole, base_and_new(whole.splits.labels)[0])
    notes = (f"Protocol {protocol_of(images)}.", *whole.notes)
    return replace(whole, splits=replace(whole.splits, notes=notes), notes=notes)


def load_elsewhere(images: Any, seed: int) -> dict[str, ImageTask]:
    """Return the tasks whose `test` what was tuned is judged on besides, by name: the new classes, or other data sets."""
    if images.protocol == "base-to-new":
        if images.source in CATALOG:
            return {"new classes": _load(images, images.source, seed, half="new")}
        whole = _load(images, images.source, seed)
        return {"new classes": only(whole, base_and_new(whole.splits.labels)[1])}
    if images.protocol == "cross-dataset":
        return {target: _load(images, target, seed) for target in images.targets}
    return {}


def only(task: ImageTask, labels: tuple[str, ...]) -> ImageTask:
    """Return a task of some of its classes."""
    splits = task.splits
    kept = [[e for e in part if e.label in labels] for part in (splits.train, splits.select, splits.test)]
    names = dict(zip(splits.labels, task.class_names, strict=True))
    own: Splits = replace(from_parts(*kept, labels=list(labels)), notes=splits.notes)
    return replace(task, splits=own, class_names=tuple(names[label] for label in labels))


def _load(images: Any, source: str, seed: int, half: str = "all") -> ImageTask:
    few: dict[str, Any] = {"shots": images.shots, "select_shots": images.select_shots, "test_size": images.test_size, "seed": seed}
    if source == "emoji":
        return load_emoji(shots=images.shots or 8, style=images.style, seed=seed, root=images.root)
    if source.startswith(HUB):
        fields = {"config": images.hub_config, "image_field": images.image_field, "label_field": images.label_field}
        return load_hub_images(source.removeprefix(HUB), **fields, **few, fewer=images.fewer, bits=images.bits)
    if source in CATALOG:
        if images.root is None:
            raise DataError(f"images.source = '{source}' needs images.root, the folder that holds the data sets (docs/image-data.md).")
        return load_catalog(source, images.root, **few, classes=half, fewer=images.fewer)
    return load_folder(source, **few, skip_bad=images.skip_bad, fewer=images.fewer, bits=images.bits)


def _check(images: Any) -> None:
    """Refuse settings that nothing would read."""
    hub, known = images.source.startswith(HUB), images.source in CATALOG
    emoji = images.source == "emoji"
    ignored = {
        "style": images.style != "twemoji" and not emoji,
        "select_shots": images.select_shots is not None and emoji,
        "test_size": images.test_size is not None and emoji,
        "fewer": images.fewer and emoji,
        "skip_bad": images.skip_bad and (emoji or hub or known),
        "bits": images.bits is not None and (emoji or known),
        "hub_config": images.hub_config is not None and not hub,
        "image_field": images.image_field != "image" and not hub,
        "label_field": images.label_field != "label" and not hub,
        "root": images.root is not None and not (emoji or known or images.targets),
    }
    for name, is_ignored in ignored.items():
        if is_ignored:
            raise ConfigError(f"images.{name} would be ignored with images.source = '{images.source}': drop it.")
    if images.protocol == "cross-dataset" and not images.targets:
        raise ConfigError(f"The protocol 'cross-dataset' needs images.targets, some of: {', '.join(CATALOG)}.")
    if images.protocol != "cross-dataset" and images.targets:
        raise ConfigError("images.targets is read with images.protocol = 'cross-dataset' only: drop it, or set the protocol.")

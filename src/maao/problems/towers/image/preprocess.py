"""From a picture to pixels: the field's test transform, and its random crops for training."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from maao.errors import ModelError
from maao.store.files import read_object
from maao.types import JSON

if TYPE_CHECKING:  # texts need no pillow
    from PIL import Image

RESAMPLING = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
MOST_RESIZED = 2**24  # pixels of a resized picture, of which only the middle is wanted; longer pictures are cut before
REACH = 3  # pixels to either side that a filter reads, at most (lanczos)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

HALVES = (0.5,) * 3
# What image processors of transformers do where their file says nothing.
DEFAULTS: Mapping[str, JSON] = {
    "CLIP": {"size": 224, "image_mean": CLIP_MEAN, "image_std": CLIP_STD, "resample": RESAMPLING["bicubic"], "do_center_crop": True},
    "Siglip": {"size": {"height": 224, "width": 224}, "image_mean": HALVES, "image_std": HALVES, "resample": RESAMPLING["bicubic"]},
    "ViT": {"size": {"height": 224, "width": 224}, "image_mean": HALVES, "image_std": HALVES, "resample": RESAMPLING["bilinear"]},
}


class _NotDone(ValueError):
    """A setting of a transform that is not followed here."""


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes ``(3, height, width)`` numbers.

    `shortest` is what its shorter side is resized to before the middle ``height x width`` is cut out; None: it is resized to ``height x
    width`` as a whole (SigLIP).
    """

    height: int
    width: int
    shortest: int | None
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    resample: int = RESAMPLING["bicubic"]

    @classmethod
    def square(cls, size: int, **others: Any) -> Preprocess:
        return cls(size, size, size, **others)

    @classmethod
    def squashed(cls, size: int, **others: Any) -> Preprocess:
        """Return SigLIP's transform: the whole picture at ``size x size``."""
        return cls(size, size, None, **{"mean": HALVES, "std": HALVES, **others})

    @classmethod
    def from_folder(cls, folder: Path, default: Preprocess) -> Preprocess:
        """Return what ``processor_config.json`` or ``preprocessor_config.json`` says; where there is neither, `default`.

        Raises:
            ModelError: it cannot be understood, or asks for what is not done here.
        """
        file = folder / "processor_config.json"  # read first by transformers too
        held = _read(file) if file.is_file() else {}
        if "image_processor" not in held:
            file = folder / "preprocessor_config.json"
            if not file.is_file():
                return default
            held = _read(file)
        try:
            return cls._of_settings(held.get("image_processor", held))
        except _NotDone as error:
            raise ModelError(f"{file} {error}.") from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{file} cannot be understood: {error}.") from error

    @classmethod
    def _of_settings(cls, held: JSON) -> Preprocess:
        """Return the transform of an image processor of transformers; what is not set is as its class has it."""
        named = str(held.get("image_processor_type") or held.get("feature_extractor_type") or "CLIPImageProcessor")
        kind = re.sub(r"(ImageProcessor(Fast|Pil)?|FeatureExtractor)$", "", named)
        given = {**DEFAULTS.get(kind, {}), **{key: value for key, value in held.items() if value is not None}}
        if lacking := [key for key in ("size", "image_mean", "image_std", "resample") if key not in given]:
            raise _NotDone(f"does not set {', '.join(lacking)}, and what a {named} does without is not known here: set them")
        undone = [key for key in ("do_resize", "do_rescale") if not given.get(key, True)]
        undone += [key for key in ("crop_pct", "do_pad", "do_flip_channel_order") if given.get(key)]
        if undone or abs(given.get("rescale_factor", 1 / 255) - 1 / 255) > 1e-9:
            raise _NotDone(f"sets {', '.join(undone) or 'rescale_factor'}: pictures are resized, cut to one size and scaled by 1/255 here")
        size = {"shortest_edge": given["size"]} if isinstance(given["size"], int) else given["size"]
        crop = given.get("crop_size", size)
        crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
        whole = size.get("shortest_edge") is None
        box = size if whole else crop if given.get("do_center_crop") else None
        if box is None:
            raise _NotDone("asks for pictures of any shape, which are not supported: the transform must cut them to one size")
        if whole and given.get("do_center_crop") and (crop["height"], crop["width"]) != (size["height"], size["width"]):
            raise _NotDone("cuts the middle out of a picture that was squeezed into a shape before: that is not done here")
        normalized = given.get("do_normalize", True)
        return cls(
            int(box["height"] if "height" in box else size["shortest_edge"]),
            int(box["width"] if "width" in box else size["shortest_edge"]),
            None if whole else int(size["shortest_edge"]),
            tuple(given["image_mean"]) if normalized else (0.0,) * 3,
            tuple(given["image_std"]) if normalized else (1.0,) * 3,
            int(given["resample"]),
        )

    def pixels(self, image: Image.Image) -> Tensor:
        """Return the pixels of the middle of a picture."""
        if self.shortest is None:
            return self._numbers(image.resize((self.width, self.height), self.resample))
        wide, high = image.size
        short = min(wide, high)
        size = (max(1, int(self.shortest * wide / short)), max(1, int(self.shortest * high / short)))
        left, top = (size[0] - self.width) // 2, (size[1] - self.height) // 2
        if size[0] * size[1] > MOST_RESIZED:
            return self._numbers(self._middle(image, size, left, top))
        resized = image.resize(size, self.resample)
        return self._numbers(resized.crop((left, top, left + self.width, top + self.height)))

    def _middle(self, image: Image.Image, size: tuple[int, int], left: int, top: int) -> Image.Image:
        """Return the middle of a long picture as if it had been resized to `size` as a whole, without the memory for the whole.

        Pillow takes boxes in single precision: what lies far from the middle is cut off first, so that the box's numbers are small.
        """
        x, y = image.width / size[0], image.height / size[1]  # pixels of the picture for one of the result
        box = (max(left, 0) * x, max(top, 0) * y, min(left + self.width, size[0]) * x, min(top + self.height, size[1]) * y)
        reach = (REACH * max(x, 1) + 1, REACH * max(y, 1) + 1)
        kept = (
            max(0, math.floor(box[0] - reach[0])),
            max(0, math.floor(box[1] - reach[1])),
            min(image.width, math.ceil(box[2] + reach[0])),
            min(image.height, math.ceil(box[3] + reach[1])),
        )
        part = image.crop(kept)
        x0, y0, x1, y1 = (value - kept[n % 2] for n, value in enumerate(box))
        wide, high = min(left + self.width, size[0]) - max(left, 0), min(top + self.height, size[1]) - max(top, 0)
        if image.height > image.width and y > 1:  # Pillow shrinks a tall picture's height first, and any other's width
            column = part.resize((part.width, high), self.resample, box=(0, y0, part.width, y1))
            middle = column.resize((wide, high), self.resample, box=(x0, 0, x1, high))
        else:
            band = part.resize((wide, part.height), self.resample, box=(x0, 0, x1, part.height))
            middle = band.resize((wide, high), self.resample, box=(0, y0, wide, y1))
        return middle.crop((min(left, 0), min(top, 0), min(left, 0) + self.width, min(top, 0) + self.height))

    def view(self, image: Image.Image, seed: int) -> Tensor:
        """Return the pixels of a random part of a picture, perhaps mirrored: 8 to 100 % of its area, sides of 3:4 to 4:3.

        Source: the training transform of CoOp (Zhou et al., 2022), torchvision's RandomResizedCrop and RandomHorizontalFlip.
        """
        from PIL import Image

        draw = random.Random(seed)
        wide, high = image.size
        box = (0, 0, wide, high)
        for _ in range(10):
            area = wide * high * draw.uniform(0.08, 1.0)
            ratio = math.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3)))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= wide and 0 < h <= high:
                left, top = draw.randint(0, wide - w), draw.randint(0, high - h)
                box = (left, top, left + w, top + h)
                break
        part = image.resize((self.width, self.height), self.resample, box=box)
        return self._numbers(part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draw.random() < 0.5 else part)

    def _numbers(self, image: Image.Image) -> Tensor:
        values = np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0
        return (
            torch.from_numpy((values - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)).permute(2, 0, 1).contiguous()
        )

    def text(self) -> str:
        """Return all settings as one line, for the key of a cache."""
        return json.dumps(asdict(self), sort_keys=True)


def _read(file: Path) -> JSON:
    try:
        return read_object(file)
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be understood: {error}.") from error

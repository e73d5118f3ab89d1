"""From a picture to pixels: the field's test transform, and its random crops for training."""

from __future__ import annotations

import json
import math
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from maao.errors import ModelError

RESAMPLING = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
MOST_RESIZED = 2**24  # pixels of a resized picture, of which only the middle is wanted; longer pictures are cut before
REACH = 3  # pixels to either side that a filter reads, at most (lanczos)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


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
    def from_folder(cls, folder: Path, size: int) -> Preprocess:
        """Return what ``preprocessor_config.json`` says; where there is none, CLIP's transform at the tower's size."""
        file = folder / "preprocessor_config.json"
        if not file.is_file():
            return cls.square(size)
        try:
            held = json.loads(file.read_text(encoding="utf-8"))
            held = held.get("image_processor", held)
            sizes = held.get("size", size)
            crop = held.get("crop_size", sizes)
            sizes = {"shortest_edge": sizes} if isinstance(sizes, int) else sizes
            crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
            whole = sizes.get("shortest_edge") is None
            box = sizes if whole else crop if held.get("do_center_crop", True) else None
            if box is None:
                raise ModelError(f"{file}: pictures of any shape are not supported; the transform must cut them to one size.")
            return cls(
                int(box["height"] if "height" in box else sizes["shortest_edge"]),
                int(box["width"] if "width" in box else sizes["shortest_edge"]),
                None if whole else int(sizes["shortest_edge"]),
                tuple(held.get("image_mean", CLIP_MEAN)),
                tuple(held.get("image_std", CLIP_STD)),
                int(held.get("resample", RESAMPLING["bicubic"])),
            )
        except (json.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{file} cannot be understood: {error}.") from error

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
        inside = tuple(value - kept[n % 2] for n, value in enumerate(box))
        shape = (min(left + self.width, size[0]) - max(left, 0), min(top + self.height, size[1]) - max(top, 0))
        middle = image.crop(kept).resize(shape, self.resample, box=inside)
        return middle.crop((min(left, 0), min(top, 0), min(left, 0) + self.width, min(top, 0) + self.height))

    def view(self, image: Image.Image, seed: int) -> Tensor:
        """Return the pixels of a random part of a picture, perhaps mirrored: 8 to 100 % of its area, sides of 3:4 to 4:3.

        Source: the training transform of CoOp (Zhou et al., 2022), torchvision's RandomResizedCrop and RandomHorizontalFlip.
        """
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

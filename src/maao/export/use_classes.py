"""Name pictures by exported class features, without maao: `maao export` copies this file beside the features that it writes.

    from use_classes import Classes
    Classes(".").probabilities(feature)

``classes.safetensors`` holds `weight`, shape (classes, embed_dim), which is one feature a class in the order of ``labels.json``,
and `scale`; `bias` where classes have one. The picture's feature is that of the image tower, normalised. It needs torch and safetensors.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor


class Classes:
    """The features of the classes, and the scale of their likeness to a picture's.

    Args:
        folder: where they were exported to.
    """

    def __init__(self, folder: str | Path = ".") -> None:
        folder = Path(folder)
        self.labels: list[str] = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
        held = load_file(folder / "classes.safetensors")
        self.weight, self.scale = held["weight"], float(held["scale"])
        self.bias = held.get("bias", 0.0)

    def probabilities(self, feature: Tensor) -> dict[str, float]:
        """Return the probability of each label for a picture's feature ``(embed_dim,)``."""
        scores = self.scale * (self.weight @ feature) + self.bias
        return dict(zip(self.labels, scores.softmax(-1).tolist(), strict=True))

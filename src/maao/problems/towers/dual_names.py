"""Tell by a name, before anything is loaded, whether it is that of a dual encoder. Importing this loads no torch."""

from __future__ import annotations

import json
from pathlib import Path

PAIR = "dual_encoder.json"
OPEN_CLIP = "open_clip:"
PACKAGED = {"packaged:emoji-vit": "emoji_vit"}
KINDS = ("clip", "siglip", "vision-text-dual-encoder")


def names_dual_encoder(name: str) -> bool:
    """Say whether a name is surely that of a dual encoder. What the hub holds is not asked, so False means: nothing is known.

    Example:
        >>> names_dual_encoder("packaged:emoji-vit"), names_dual_encoder("gpt2")
        (True, False)
    """
    if name.startswith(OPEN_CLIP) or name in PACKAGED:
        return True
    folder = Path(name).expanduser()
    try:
        if (folder / PAIR).is_file():
            return True
        held = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no such folder, or a name that can be none
        return False
    return isinstance(held, dict) and held.get("model_type") in KINDS


def reads_pictures(name: str) -> bool:
    """Say whether a name is surely that of a dual encoder with an image tower.

    Example:
        >>> reads_pictures("packaged:emoji-vit"), reads_pictures("packaged:all-minilm-l6-v2")
        (True, False)
    """
    try:
        pair = json.loads((Path(name).expanduser() / PAIR).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return names_dual_encoder(name)
    return not (isinstance(pair, dict) and "input" in pair)

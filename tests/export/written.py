"""The file that an export copies out, loaded from where it was written, as a reader would."""

from __future__ import annotations

import warnings
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any


def copied(file: Path) -> Any:
    """Return the module that a file is."""
    spec = spec_from_file_location("copied_out", file)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written(folder: Path, settings: str | None = None) -> Any:
    """Return the `TunedPrompt` of an export."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT's own
        return copied(folder / "use_prompt.py").TunedPrompt(folder, settings)


def logits(prompt: Any, text: str) -> Any:
    """Return the logits at the last position for a text."""
    import torch

    with torch.no_grad():
        return prompt.run(*prompt.ids({"text": text})).logits[0, -1]

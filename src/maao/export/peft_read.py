"""Read a PEFT prompt-learning adapter as a starting point of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from maao.errors import ConfigError, ModelError
from maao.problems.methods.prefix_tuning import KEYS, VALUES
from maao.problems.towers.text.forward import key_values
from maao.problems.towers.text.loading import FrozenModel, locate, on_hub
from maao.store.files import read_object
from maao.types import JSON

CONFIG, ADAPTER = "adapter_config.json", "adapter_model.safetensors"


def read_adapter(
    folder: str | Path, frozen: FrozenModel, method: str, num_virtual_tokens: int, *, in_slots: bool = True
) -> dict[str, Tensor]:
    """Read a PEFT prompt-learning adapter as the starting params of a prompt method.

    Rows (PROMPT_TUNING, P_TUNING) start "prompt_tuning", "pez" and "p_tuning" (whose network begins fresh, so the rows are exactly these);
    keys and values (PREFIX_TUNING) start "prefix_tuning". A head in the adapter is not read: the run's own begins as it does.

    Args:
        folder: with ``adapter_config.json`` and ``adapter_model.safetensors`` (or ``adapter_model.bin``).
        method: the run's `model.method`, for messages.
        num_virtual_tokens: the run's.
        in_slots: whether the method's params are read as rows in the slots; else as keys and values.

    Returns:
        ``{"prompt": (num_virtual_tokens, embed_dim)}``, or ``{"prefix.keys", "prefix.values"}``, each ``(layers, heads,
        num_virtual_tokens, head_dim)``.

    Raises:
        ConfigError: the adapter is not for this method or has another number of virtual tokens.
        ModelError: files or tensors are missing, or its tensors do not fit the model.

    Source: PEFT 0.21, `PromptLearningConfig` and `get_prompt_embedding_to_save`.
    """
    folder = Path(folder).expanduser()
    config = _read_config(folder)
    kind = str(config.get("peft_type"))
    if kind not in ("PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING"):
        raise ConfigError(
            f"The adapter {folder} is of type {kind}: a run can start from PROMPT_TUNING, P_TUNING and PREFIX_TUNING adapters."
            + (" Of a multitask prompt, export the one task's rows as PROMPT_TUNING." if kind == "MULTITASK_PROMPT_TUNING" else "")
        )
    deep = kind == "PREFIX_TUNING"
    if deep == in_slots:
        fitting = "'prefix_tuning'" if deep else "'prompt_tuning', 'p_tuning' or 'pez'"
        raise ConfigError(f"The adapter {folder} is of type {kind}, and model.method is '{method}': set model.method to {fitting}.")
    table = _read_table(folder)
    if not deep and config.get("num_transformer_submodules") == 2:
        table = table[: len(table) // 2]  # the encoder's; PEFT reads no others in prompt tuning and P-tuning
    if len(table) != num_virtual_tokens:
        raise ConfigError(
            f"The adapter {folder} has {len(table)} virtual tokens, and model.num_virtual_tokens is {num_virtual_tokens}: set it to "
            f"{len(table)}."
        )
    if not deep:
        _check_width(folder, config, frozen, table, frozen.model.get_input_embeddings().embedding_dim)
        return {"prompt": table}
    width = frozen.model.get_input_embeddings().embedding_dim
    with torch.no_grad():
        layers, heads, _, head_dim = key_values(frozen, torch.zeros(1, width))[0].shape
    _check_width(folder, config, frozen, table, layers * 2 * heads * head_dim)
    keys, values = keys_and_values(table, layers, heads)
    return {KEYS: keys, VALUES: values}


def adapter_digest(folder: str | Path) -> str:
    """Return a hash of what an adapter says."""
    table = _read_table(Path(folder).expanduser())
    return "sha256:" + hashlib.sha256(table.numpy().tobytes()).hexdigest()


def other_model(folder: str | Path, frozen: FrozenModel) -> str | None:
    """Return what a person should know where an adapter names another base model than the one it is read for; None: it does not."""
    base = _read_config(Path(folder).expanduser()).get("base_model_name_or_path")
    if not base or base in (frozen.name, locate(frozen.name), on_hub(frozen.name)[0]):
        return None
    return f"the adapter {folder} was made for {base}, and starts a prompt of {frozen.name}"


def _read_config(folder: Path) -> JSON:
    path = folder / CONFIG
    if not path.is_file():
        raise ModelError(f"There is no {path}. Give model.adapter a folder that PEFT's `save_pretrained` wrote.")
    try:
        return read_object(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"Cannot read {path}: {error}.") from error


def _read_table(folder: Path) -> Tensor:
    """Return ``prompt_embeddings`` of an adapter, in fp32 on the CPU."""
    from safetensors import SafetensorError

    path = folder / ADAPTER
    if not path.is_file():
        path = folder / "adapter_model.bin"
    if not path.is_file():
        raise ModelError(f"The folder {folder} has no weights: neither {ADAPTER} nor adapter_model.bin.")
    try:
        held = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ModelError(f"Cannot read {path}: {error}.") from error
    except Exception as error:  # pickle's own: what is no mere tensors is not loaded
        raise ModelError(f"{path} holds more than tensors, or is damaged: {type(error).__name__}.") from error
    table = held.get("prompt_embeddings") if isinstance(held, Mapping) else None
    if not isinstance(table, Tensor) or table.dim() != 2:
        names = ", ".join(list(held)[:5]) if isinstance(held, Mapping) else type(held).__name__
        raise ModelError(f"{path} has no table 'prompt_embeddings': it holds {names or 'nothing'}. Is it a prompt-learning adapter?")
    return table.float().cpu().contiguous()


def _check_width(folder: Path, config: JSON, frozen: FrozenModel, table: Tensor, wanted: int) -> None:
    if table.shape[1] != wanted:
        base = config.get("base_model_name_or_path")
        raise ModelError(
            f"The adapter {folder} has {table.shape[1]} numbers a virtual token, and {frozen.name} takes {wanted}. It was made for "
            f"{base or 'a model that it does not name'}."
        )


def keys_and_values(table: Tensor, layers: int, heads: int) -> tuple[Tensor, Tensor]:
    """Return the keys and values ``(layers, heads, num_virtual_tokens, head_dim)`` of PEFT's table: the inverse of `prefix_table`."""
    both = table.view(len(table), layers, 2, heads, -1).permute(2, 1, 3, 0, 4)
    return both[0].contiguous(), both[1].contiguous()

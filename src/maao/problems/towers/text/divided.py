"""A frozen model that is divided over devices, or kept on the disk in parts, by accelerate: what of it stands where.

Accelerate's hooks move what enters a layer to where the layer is, but neither keys and values, nor what leaves the last layer. So a
model's last hidden states are brought back to the device that its inputs are on, and keys and values of each layer are put beside it.
Loads torch where it is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from maao.errors import ModelError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel

DeviceMap = str | Mapping[str, str | int]


def check_accelerate() -> None:
    """Raise `ModelError` where accelerate is not installed."""
    try:
        import accelerate  # noqa: F401
    except ImportError as error:
        raise ModelError('model.device_map needs the package accelerate: pip install "maao[accelerate]"') from error


def is_divided(model: PreTrainedModel) -> bool:
    """Say whether accelerate's hooks move what runs through a model."""
    return "hf_device_map" in vars(model) and any("_hf_hook" in vars(module) for module in model.modules())


def settle(model: PreTrainedModel, name: str, given: DeviceMap) -> tuple[str, ...]:
    """Let a divided model give its last hidden states where its inputs are, and return what there is to tell of it.

    Raises:
        ModelError: a mapping names what is no part of it; its input embedding or its output matrix is not kept on a device: prompts are
            put among the rows of the first, and classes are read off rows of the second.
    """
    from accelerate.utils import send_to_device
    from transformers import PreTrainedModel

    if not isinstance(given, str):
        parts = {name for name, _ in (*model.named_modules(), *model.named_parameters())}
        if unknown := [key for key in given if key not in parts]:
            known = ", ".join(name for name, _ in model.named_children())
            raise ModelError(
                f"model.device_map names {', '.join(map(repr, unknown))}, which is no part of {name}. Its parts begin: {known}."
            )
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    for module, told in ((table, "input embedding"), (head, "output matrix")):
        if module is not None and any(value.device.type == "meta" for value in module.parameters()):
            called = next((key for key, own in model.named_modules() if own is module), "")
            raise ModelError(
                f"model.device_map leaves the {told} of {name} ('{called}') on the disk or in the processor's memory, and a run reads its "
                "rows: name it in a mapping, with the device of the first layers."
            )
    if not is_divided(model):
        return ()
    home = next(table.parameters()).device

    def bring_back(module: Module, given: object, output: object) -> object:
        found: object = send_to_device(output, home, skip_keys=("past_key_values",))
        return found

    for part in model.modules():
        if isinstance(part, PreTrainedModel):
            part.register_forward_hook(bring_back)
    away = sum(value.numel() for value in model.parameters() if value.device.type == "meta")
    share = 100 * away / sum(value.numel() for value in model.parameters())
    return (f"{share:.0f} % of the weights of {name} are read from the disk or the processor's memory in every pass",) if away else ()


def layer_devices(model: PreTrainedModel) -> tuple[torch.device, ...] | None:
    """Return on which device each layer of a divided model runs, in order; None: all on one."""
    if not is_divided(model):
        return None
    found = tuple(_devices(model))
    return found if len(set(found)) > 1 else None


def _devices(model: PreTrainedModel) -> Iterator[torch.device]:
    """Yield where what attends in each layer runs."""
    import torch
    from accelerate.hooks import AlignDevicesHook

    seen = set[int]()
    for module in model.modules():
        number, hook = vars(module).get("layer_idx"), vars(module).get("_hf_hook")
        if isinstance(number, int) and number not in seen and isinstance(hook, AlignDevicesHook) and hook.execution_device is not None:
            seen.add(number)
            yield torch.device(hook.execution_device)


def whole_parameters(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters of a model by name, each once, those from the disk too: these one module at a time."""
    if not is_divided(model):
        yield from model.named_parameters()
        return
    from accelerate.utils import align_module_device

    wanted = dict.fromkeys(name for name, _ in model.named_parameters())
    for prefix, module in model.named_modules():
        own = [name for name, _ in module.named_parameters(recurse=False) if f"{prefix}.{name}".lstrip(".") in wanted]
        if not own:
            continue
        with align_module_device(module, "cpu"):
            for name, value in module.named_parameters(recurse=False):
                if name in own:
                    yield f"{prefix}.{name}".lstrip("."), value

"""Take a tuned prompt elsewhere: plain text, the prompt embeddings as a tensor, or a PEFT adapter.

PEFT knows one place for a soft prompt: in front of everything. A template that begins with ``{slots}`` exports exactly; any other is told
so. What is written is read back and compared before the export counts as done.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from maao.errors import ConfigError, ModelError
from maao.problems.language.forward import model_inputs, pad
from maao.problems.language.loading import FrozenModel, locate
from maao.problems.language.template import Template, TemplateTokenizer

TOLERANCE = 1e-5  # relative to the largest logit

SNIPPET = """# Soft prompt for {model}

`prompt.safetensors` holds the tensor `prompt`, shape ({rows}, {width}): the embedding rows that stand at {{slots}} in the template

    {template}

```python
import torch
from safetensors.torch import load_file
from transformers import {auto}, AutoTokenizer

model = {auto}.from_pretrained({model!r})
tokenizer = AutoTokenizer.from_pretrained({model!r})
prompt = load_file("prompt.safetensors")["prompt"]
before, after = {before!r}, {after!r}  # the template around the slots: fill in its fields

def embed(text, first=(), last=()):
    ids = [*first, *(tokenizer(text, add_special_tokens=False).input_ids if text else ()), *last]
    return model.get_input_embeddings()(torch.tensor([ids], dtype=torch.long))

inputs = torch.cat([{joined}], dim=1)
output = model(inputs_embeds=inputs)  # {read}
```
"""


def export_tensor(
    frozen: FrozenModel, tokenize: TemplateTokenizer, params: Mapping[str, Tensor], folder: Path, about: Mapping[str, Any]
) -> list[Path]:
    """Write all tuned tensors, what they belong to, and a snippet that uses them."""
    weights = folder / "prompt.safetensors"
    _write({name: value.detach().cpu().contiguous() for name, value in params.items()}, weights)
    _compare("tensor", load_file(weights), params)
    readme = folder / "USE.md"
    readme.write_text(_snippet(frozen, tokenize, params["prompt"]), encoding="utf-8")
    return [weights, write_about(about, folder), readme]


def _write(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors. Raises `OSError` where there is no room, as `safetensors`' own writer does not."""
    path.write_bytes(save(dict(tensors), metadata={"format": "pt"}))


def write_about(about: Mapping[str, Any], folder: Path) -> Path:
    """Write what an exported prompt belongs to."""
    path = folder / "maao.json"
    path.write_text(json.dumps(dict(about), indent=2, ensure_ascii=False), encoding="utf-8")
    return path


def _snippet(frozen: FrozenModel, tokenize: TemplateTokenizer, prompt: Tensor) -> str:
    """Return the text that shows how to use the tensors: special tokens stand where `TemplateTokenizer` puts them."""
    template, decoder = tokenize.template, frozen.kind == "decoder"
    first, last = list(tokenize.prefix), list(tokenize.suffix)  # ids of special tokens; none for most decoders
    end = f", last={last}" if last else ""
    if template.front and not template.chat:
        joined = f"prompt[None], embed(after{f', first={first}' if first else ''}{end})"
    else:
        joined = f"embed(before{f', first={first}' if first else ''}), prompt[None], embed(after{end})"
    answer = f"logits[0, -1] are the next token's: compare those of the label words, each written {tokenize.answer_prefix!r} + word"
    return SNIPPET.format(
        model=locate(frozen.name),
        rows=len(prompt),
        width=prompt.shape[1],
        template=template,
        auto="AutoModelForCausalLM" if decoder else "AutoModel",
        before=tokenize.before,
        after=tokenize.after,
        joined=joined,
        read=answer if decoder else "pool last_hidden_state as the run's `model.pooling` says, then apply head.weight and head.bias",
    )


def export_text(text: str, folder: Path) -> list[Path]:
    """Write the words of the prompt."""
    path = folder / "prompt.txt"
    path.write_text(text + "\n", encoding="utf-8")
    return [path]


def why_not_peft(frozen: FrozenModel, template: Template) -> str | None:
    """Return why this prompt cannot be a PEFT adapter, or None if it can."""
    if not template.front or template.chat:
        return (
            f"PEFT puts a soft prompt in front of the input, and the template {str(template)!r} has it elsewhere: begin it with {{slots}}."
        )
    if frozen.kind != "decoder":
        return "the head of an encoder is exported as a tensor; as a PEFT adapter only prompts of decoders are."
    return None


def export_peft(
    frozen: FrozenModel,
    template: Template,
    tokenize: TemplateTokenizer,
    params: Mapping[str, Tensor],
    folder: Path,
    examples: Sequence[Mapping[str, str]],
) -> tuple[list[Path], float]:
    """Write a PEFT prompt-tuning adapter, load it with PEFT, and compare its logits with ours on `examples`.

    Returns:
        The files, and the largest difference of a logit, relative to the largest logit.

    Raises:
        ConfigError: the template or the model does not allow it, or `peft` is not installed.
        ModelError: the adapter that PEFT loads does not give our logits.

    Source: the adapter format of PEFT 0.21 (`PROMPT_TUNING`, `prompt_embeddings`).
    """
    reason = why_not_peft(frozen, template)
    if reason:
        raise ConfigError(f"No PEFT adapter: {reason}")
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ConfigError('A PEFT adapter is checked with PEFT itself, which is not installed: pip install "maao[peft]"') from error
    prompt = params["prompt"].detach().float().cpu().contiguous()
    config = frozen.model.config
    adapter = {
        "auto_mapping": None,
        "base_model_name_or_path": locate(frozen.name),
        "inference_mode": True,
        "modules_to_save": None,
        "num_attention_heads": config.num_attention_heads,
        "num_layers": config.num_hidden_layers,
        "num_transformer_submodules": 1,
        "num_virtual_tokens": len(prompt),
        "peft_type": "PROMPT_TUNING",
        "peft_version": version("peft"),
        "prompt_tuning_init": "RANDOM",
        "prompt_tuning_init_text": None,
        "revision": None,
        "task_type": "CAUSAL_LM",
        "token_dim": prompt.shape[1],
        "tokenizer_kwargs": None,
        "tokenizer_name_or_path": None,
    }
    paths = [folder / "adapter_config.json", folder / "adapter_model.safetensors"]
    paths[0].write_text(json.dumps(adapter, indent=2, sort_keys=True), encoding="utf-8")
    _write({"prompt_embeddings": prompt}, paths[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers for names that are on their way out
        theirs = PeftModel.from_pretrained(frozen.model, str(folder)).eval()
    worst = max(_difference(frozen, tokenize, prompt, theirs, example) for example in examples)
    if not worst <= TOLERANCE:
        raise ModelError(
            f"The adapter that PEFT loads differs from the tuned prompt by {worst:.1e} of the largest logit. Do not use {folder}."
        )
    return paths, worst


def _difference(frozen: FrozenModel, tokenize: TemplateTokenizer, prompt: Tensor, theirs: Any, example: Mapping[str, str]) -> float:
    row = tokenize(example)
    ids = torch.tensor([[*row.before, *row.after]], device=frozen.device)
    inputs = pad([row], num_virtual_tokens=len(prompt), fill=0, device=frozen.device)
    with torch.no_grad():
        ours = frozen.model(**model_inputs(frozen, prompt, inputs)).logits[0, len(prompt) :].float()
        other = theirs(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -ids.shape[1] :].float()
    return float((ours - other).abs().max() / ours.abs().max())


def _compare(what: str, read: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> None:
    for name, value in params.items():
        if name not in read or not torch.equal(read[name], value.detach().cpu()):
            raise ModelError(f"The exported {what} '{name}' reads back differently from what was written. Is the disk sound?")

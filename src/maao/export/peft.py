"""PEFT prompt-learning adapters: write a tuned prompt as one, and read one as a starting point.

PEFT puts a soft prompt in front of everything, special tokens included, and so does a prefix of keys and values by nature. Every adapter
is loaded with PEFT and compared with ours before the export counts as done. What is written:

======================  ==============  ==========================================================================================
prompt method           ``peft_type``   ``prompt_embeddings``
======================  ==============  ==========================================================================================
prompt tuning           PROMPT_TUNING   the rows
P-tuning, PEZ           PROMPT_TUNING   the rows that the model reads: the network's output, the words' rows
prefix tuning           PREFIX_TUNING   ``(num_virtual_tokens, layers * 2 * heads * head_dim)``, of each layer its keys, then its values
======================  ==============  ==========================================================================================

Which task an adapter is for follows from how classes are read:

* Label words of a decoder: CAUSAL_LM, the model's own logits. With ``classifier=True`` SEQ_CLS: the matrix ``score`` of the stock
  ``...ForSequenceClassification`` is the label words' rows of the output matrix, so its logits are our class scores. That needs words of
  one token each and a model whose logits are its last hidden states times that matrix, without a bias.
* A head on an encoder: SEQ_CLS where the stock head reads the position that ours reads, the very first (`pooling` "virtual" with a soft
  prompt, "first" with a prefix). Stock heads have a dense layer and an activation f before their last layer, which does not stand in the
  way: with the rows ``e*[W; -W]`` in the dense layer, the last layer takes ``f(e*Wx) - f(-e*Wx)``, which is ``e*Wx`` for ReLU, GELU and
  SiLU, and for tanh ``2e*Wx`` to the last bit if e is small. Elsewhere (mean pooling; ``[CLS]`` behind slots; a stock head with a norm
  inside) FEATURE_EXTRACTION, with the head beside it in ``head.safetensors``.
* Label words of a masked model: FEATURE_EXTRACTION, which PEFT puts around any model, here the one with its language modeling head.
* Label words of an encoder-decoder: SEQ_2_SEQ_LM, the soft prompt in the encoder only.

PEFT numbers positions from the front and counts padding: pad on the right. A prefix of an encoder takes texts of equal length only.

Sources: PEFT 0.21, `PeftModel.get_prompt` (the layout of a prefix), `PeftModelForSequenceClassification`.
"""

from __future__ import annotations

import copy
import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from maao.errors import ConfigError, ModelError
from maao.export.language import (
    MODEL_CLASSES,
    decoder_lead,
    head_labels,
    loading,
    place,
    reading_code,
    realize,
    row_code,
    segments_code,
    write_about,
    write_tensors,
)
from maao.problems.language.methods.prefix_tuning import KEYS, VALUES, PrefixTuning
from maao.problems.language.readers import Head, LabelWords
from maao.problems.language.soft_prompt import SoftPromptProblem
from maao.problems.towers.text.forward import front, key_values, model_inputs, pad
from maao.problems.towers.text.loading import FrozenModel, locate
from maao.problems.towers.text.probes import head_of, refused
from maao.problems.towers.text.template import Tokenized

Params = Mapping[str, Tensor]
Task = Literal["CAUSAL_LM", "SEQ_CLS", "FEATURE_EXTRACTION", "SEQ_2_SEQ_LM"]

TOLERANCE = 1e-5  # relative to the largest logit
CONFIG, ADAPTER, HEAD = "adapter_config.json", "adapter_model.safetensors", "head.safetensors"
SMALL = 2.0**-20  # what is scaled by it goes through tanh unchanged; a power of two rounds nothing

# The stock classification heads that read the first position: the dense layer, the last layer, and f(x) - f(-x) = slope * x between them.
STOCK_HEADS = {
    "albert": ("albert.pooler", "classifier", 2.0),
    "bert": ("bert.pooler.dense", "classifier", 2.0),
    "camembert": ("classifier.dense", "classifier.out_proj", 2.0),
    "deberta": ("pooler.dense", "classifier", 1.0),
    "deberta-v2": ("pooler.dense", "classifier", 1.0),
    "distilbert": ("pre_classifier", "classifier", 1.0),
    "electra": ("classifier.dense", "classifier.out_proj", 1.0),
    "ernie": ("ernie.pooler.dense", "classifier", 2.0),
    "mpnet": ("classifier.dense", "classifier.out_proj", 2.0),
    "roberta": ("classifier.dense", "classifier.out_proj", 2.0),
    "xlm-roberta": ("classifier.dense", "classifier.out_proj", 2.0),
}

USE = """# PEFT adapter for {model}

```python
{code}
```

{padding}
"""


# -- writing


def why_not_peft(problem: SoftPromptProblem, *, classifier: bool = False) -> str | None:
    """Return why a problem's prompts cannot be PEFT adapters (with `classifier`: for sequence classification), or None if they can."""
    frozen, template = problem.frozen, problem.template
    if frozen.embed_twice:
        return "PEFT embeds a text once, and model.released = 'embed_twice' embeds it twice: tune without that defect."
    if not _is_deep(problem) and (not template.front or template.chat):
        place = "inside a chat turn" if template.chat else "elsewhere: begin it with {slots}"
        return f"PEFT puts a soft prompt in front of the input, and the template {str(template)!r} has it {place}."
    reason = _why_not_classifier(problem)
    if classifier:
        return reason
    parted = bool(problem.tokenizer.separator) and getattr(frozen.model.config, "type_vocab_size", 0) > 1
    if parted and frozen.kind in ("encoder", "masked") and (frozen.kind == "masked" or reason):
        told = f" (as an adapter for sequence classification it would pass them, but: {reason})" if frozen.kind == "encoder" else ""
        return f"PEFT passes no token types, which {frozen.name} needs for the segments that {{sep}} parts{told}: leave out {{sep}}."
    return None


def export_peft(
    problem: SoftPromptProblem,
    params: Params,
    folder: Path,
    about: Mapping[str, Any],
    examples: Sequence[Mapping[str, str]],
    *,
    classifier: bool = False,
) -> tuple[list[Path], float]:
    """Write a PEFT adapter and a snippet that uses it; load it with PEFT, and compare it with ours on `examples`, one at a time.

    Compared are logits (label words), or class scores (a head, or `classifier`). The frozen model is left as it is.

    Returns:
        The files, and the largest difference, relative to the largest logit or score.

    Raises:
        ConfigError: the template, the model or how it is read does not allow it, or `peft` is not installed.
        ModelError: the adapter that PEFT loads does not give ours.
    """
    reason = why_not_peft(problem, classifier=classifier)
    if classifier and about.get("choices") and isinstance(problem.reader, LabelWords):
        reason = "each example has choices of its own to answer with, and a classification model has the same classes for all."
    if reason:
        raise ConfigError(f"No PEFT adapter{' for sequence classification' if classifier else ''}: {reason}")
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise ConfigError('A PEFT adapter is checked with PEFT itself, which is not installed: pip install "maao[peft]"') from error
    realized = realize(problem, params)
    task = _task(problem, classifier)
    tensors = {"prompt_embeddings": _table(realized)}
    saved = None
    if task == "SEQ_CLS":
        head, saved = _stock_head(problem, realized)
        tensors |= head
    paths = [folder / CONFIG, folder / ADAPTER, folder / "ADAPTER.md"]
    paths[0].write_text(
        json.dumps(_adapter_config(problem, realized, task, saved, about), indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )
    write_tensors("adapter", tensors, paths[1])
    if problem.frozen.kind == "encoder" and task != "SEQ_CLS":
        paths.append(folder / HEAD)
        write_tensors("head", {name: realized[name] for name in ("head.weight", "head.bias")}, paths[-1])
    code = _code(problem, realized, task, about)
    paths[2].write_text(USE.format(model=locate(problem.frozen.name), code=code, padding=_padding(problem, task)), encoding="utf-8")
    with refused(f"PEFT cannot run {problem.frozen.name} with an adapter, so do not use {folder}"):
        worst = _difference(problem, realized, task, folder, examples)
    # A classification model multiplies other shapes than we do: in a coarser precision it may round to the next number.
    allowed = max(TOLERANCE, 2 * torch.finfo(problem.frozen.model.dtype).eps) if task == "SEQ_CLS" else TOLERANCE
    if not worst <= allowed:
        raise ModelError(
            f"The adapter that PEFT loads differs from the tuned prompt by {worst:.1e} of the largest logit. Do not use {folder}."
        )
    return [*paths, write_about(about, folder)], worst


def _is_deep(problem: SoftPromptProblem) -> bool:
    return isinstance(problem.method, PrefixTuning)


def _task(problem: SoftPromptProblem, classifier: bool) -> Task:
    if classifier or (problem.frozen.kind == "encoder" and _why_not_classifier(problem) is None):
        return "SEQ_CLS"
    tasks: dict[str, Task] = {"decoder": "CAUSAL_LM", "encoder_decoder": "SEQ_2_SEQ_LM"}
    return tasks.get(problem.frozen.kind, "FEATURE_EXTRACTION")


def _why_not_classifier(problem: SoftPromptProblem) -> str | None:
    """Return why the stock classification model cannot give our class scores, or None if it can."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

    frozen, reader = problem.frozen, problem.reader
    kind, name = frozen.model.config.model_type, frozen.name
    if frozen.kind in ("masked", "encoder_decoder"):
        return f"label words of a model of kind '{frozen.kind}' are read by its language modeling head, which a classification model lacks."
    if kind not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        return f"transformers has no classification model of type '{kind}'."
    if isinstance(reader, LabelWords):
        output = frozen.model.get_output_embeddings()
        if any(len(word) != 1 for word in reader.words):
            return "a classification model reads each class at once, and some label words are several tokens: choose words of one token."
        if head_of(frozen) != "plain" or output.bias is not None:
            return f"the logits of {name} are not just its last hidden states times a matrix, which is all that a classification model has."
        return None
    assert isinstance(reader, Head)
    if kind not in STOCK_HEADS:
        return f"the classification head that transformers has for type '{kind}' is none of those that can hold a linear one."
    wanted = "first" if _is_deep(problem) else "virtual"
    if reader.pooling != wanted:
        return (
            f"a classification head of type '{kind}' reads the first position, and model.pooling = '{reader.pooling}' another: "
            f"tune with model.pooling = '{wanted}'."
        )
    if frozen.model.dtype != torch.float32:
        return f"a classification head would compute in {frozen.model.dtype}, and ours computes in torch.float32."
    if 2 * reader.num_classes > frozen.model.config.hidden_size:
        return f"{reader.num_classes} classes are more than the dense layer of the classification head has room for."
    return None


def _table(realized: Params) -> Tensor:
    """Return ``prompt_embeddings`` as PEFT stores it."""
    if "prompt" in realized:
        return realized["prompt"].float().contiguous()
    return prefix_table(realized["keys"], realized["values"])


def prefix_table(keys: Tensor, values: Tensor) -> Tensor:
    """Return keys and values ``(layers, heads, num_virtual_tokens, head_dim)`` as PEFT's table ``(num_virtual_tokens, layers*2*width)``.

    Example:
        >>> keys = torch.zeros(2, 1, 3, 4)
        >>> prefix_table(keys, keys + 1)[0]
        tensor([0., 0., 0., 0., 1., 1., 1., 1., 0., 0., 0., 0., 1., 1., 1., 1.])
    """
    both = torch.stack([keys, values], dim=1)  # (layers, 2, heads, num_virtual_tokens, head_dim)
    return both.permute(3, 0, 1, 2, 4).reshape(keys.shape[2], -1).float().contiguous()


def keys_and_values(table: Tensor, layers: int, heads: int) -> tuple[Tensor, Tensor]:
    """Return the keys and values ``(layers, heads, num_virtual_tokens, head_dim)`` of PEFT's table: the inverse of `prefix_table`."""
    both = table.view(len(table), layers, 2, heads, -1).permute(2, 1, 3, 0, 4)
    return both[0].contiguous(), both[1].contiguous()


def _adapter_config(
    problem: SoftPromptProblem, realized: Params, task: Task, saved: list[str] | None, about: Mapping[str, Any]
) -> dict[str, Any]:
    config = problem.frozen.model.config.get_text_config()
    common: dict[str, Any] = {
        "auto_mapping": None,
        "base_model_name_or_path": locate(problem.frozen.name),
        "inference_mode": True,
        "modules_to_save": saved,
        # PEFT wants both named, and reads them for deep prompts alone: not every model has them (Mamba).
        "num_attention_heads": getattr(config, "num_attention_heads", 1),
        "num_layers": getattr(config, "num_hidden_layers", 1),
        "num_transformer_submodules": 1,
        "peft_version": version("peft"),
        "revision": about.get("revision"),
        "task_type": task,
    }
    if "prompt" in realized:
        rows, width = realized["prompt"].shape
        initial = {
            "prompt_tuning_init": "RANDOM",
            "prompt_tuning_init_text": None,
            "tokenizer_kwargs": None,
            "tokenizer_name_or_path": None,
        }
        return {**common, **initial, "peft_type": "PROMPT_TUNING", "num_virtual_tokens": rows, "token_dim": width}
    layers, heads, count, head_dim = realized["keys"].shape  # with grouped queries, the heads of keys and values
    return {
        **common,
        "peft_type": "PREFIX_TUNING",
        "num_virtual_tokens": count,
        "num_layers": layers,
        "num_attention_heads": heads,
        "token_dim": heads * head_dim,
        "encoder_hidden_size": heads * head_dim,
        "prefix_projection": False,
    }


def _stock_head(problem: SoftPromptProblem, realized: Params) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors of the stock classification head that gives our class scores, and which modules PEFT takes from the adapter."""
    frozen, reader = problem.frozen, problem.reader
    modules = ["classifier", "score"]  # PEFT adds these two itself
    if isinstance(reader, LabelWords):
        ids = [word[0] for word in reader.words]
        return {"base_model.score.weight": frozen.model.get_output_embeddings().weight[ids].detach().cpu().clone()}, modules
    dense, last, slope = STOCK_HEADS[frozen.model.config.model_type]
    weight, bias = realized["head.weight"].float(), realized["head.bias"].float()
    classes, width = weight.shape
    inner, outer = torch.zeros(width, width), torch.zeros(classes, width)
    inner[:classes], inner[classes : 2 * classes] = weight * SMALL, -weight * SMALL
    outer[:, :classes], outer[:, classes : 2 * classes] = torch.eye(classes), -torch.eye(classes)
    tensors = {
        f"{dense}.weight": inner,
        f"{dense}.bias": torch.zeros(width),
        f"{last}.weight": outer / (slope * SMALL),
        f"{last}.bias": bias,
    }
    return {f"base_model.{name}": value for name, value in tensors.items()}, [*modules, *(["pooler"] if "pooler" in dense else [])]


# -- checking


def _difference(problem: SoftPromptProblem, realized: Params, task: Task, folder: Path, examples: Sequence[Mapping[str, str]]) -> float:
    """Return the largest difference from what PEFT gives, relative to the largest of ours."""
    from peft import PeftModel

    frozen = problem.frozen
    model = _stock_classifier(problem, realized) if task == "SEQ_CLS" else _sharing_weights(frozen.model)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers for names that are on their way out
        theirs = PeftModel.from_pretrained(model, str(folder)).eval()
        on_device = {name: value.to(frozen.device) for name, value in realized.items()}
        pairs = [_both(problem, on_device, task, theirs, folder, problem.tokenizer(example)) for example in examples]
    largest = max(float(ours.abs().max()) for ours, _ in pairs)
    return max(float((ours - other).abs().max()) for ours, other in pairs) / largest


def _both(problem: SoftPromptProblem, realized: Params, task: Task, theirs: Any, folder: Path, row: Tokenized) -> tuple[Tensor, Tensor]:
    """Return our logits or class scores of an input, and PEFT's."""
    frozen = problem.frozen
    ids = torch.tensor([[*row.before, *row.after]], device=frozen.device)
    count = len(realized["prompt"]) if "prompt" in realized else 0
    arguments: dict[str, Any] = {"input_ids": ids}
    if not _is_deep(problem) or frozen.kind == "decoder":
        arguments["attention_mask"] = torch.ones_like(ids)
    inputs = pad([row], num_virtual_tokens=count, fill=frozen.tokenizer.pad_token_id or 0, device=frozen.device)
    if count == 0:
        dtype = frozen.model.get_input_embeddings().weight.dtype
        inputs = replace(inputs, prefix=front(realized["keys"].to(dtype), realized["values"].to(dtype), 1))
    if task == "SEQ_CLS" or frozen.kind == "encoder":
        ours = problem.reader.class_scores(realized, [row])[0]
        if task == "SEQ_CLS":
            if inputs.segments is not None and getattr(frozen.model.config, "type_vocab_size", 0) > 1:
                arguments["token_type_ids"] = inputs.segments[:, count:]
            return ours, theirs(**arguments).logits[0].float()
        head = {name: value.to(frozen.device) for name, value in load_file(folder / HEAD).items()}
        hidden = theirs(**arguments).last_hidden_state.float()
        assert isinstance(problem.reader, Head)
        pooled = problem.reader._pool(hidden, inputs, [row])
        return ours, F.linear(pooled, head["head.weight"], head["head.bias"])[0]
    if frozen.kind == "encoder_decoder":
        arguments["decoder_input_ids"] = torch.tensor([decoder_lead(frozen, problem.tokenizer)], device=frozen.device)
        own = frozen.model(
            **model_inputs(frozen, _rows(realized), inputs), decoder_input_ids=arguments["decoder_input_ids"], use_cache=False
        )
        return own.logits.float(), theirs(**arguments).logits.float()
    own = frozen.model(**model_inputs(frozen, _rows(realized) if count else _no_rows(frozen), inputs)).logits
    return own[0, count:].float(), theirs(**arguments).logits[0, count:].float()


def _rows(realized: Params) -> Tensor:
    return realized["prompt"]


def _no_rows(frozen: FrozenModel) -> Tensor:
    return torch.empty(0, frozen.model.get_input_embeddings().embedding_dim, device=frozen.device)


def _sharing_weights(module: Any) -> Any:
    """Return a copy that has modules of its own and the same tensors: PEFT changes the modules that it is given."""
    return copy.deepcopy(module, {id(tensor): tensor for tensor in [*module.parameters(), *module.buffers()]})


def _stock_classifier(problem: SoftPromptProblem, realized: Params) -> Any:
    """Return the stock classification model around the frozen model's weights; its head is filled from the adapter."""
    from transformers import AutoModelForSequenceClassification

    frozen = problem.frozen
    config = copy.deepcopy(frozen.model.config)
    config.num_labels = _num_labels(problem, realized)
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    name = model.base_model_prefix
    body, stock = _sharing_weights(frozen.model.base_model), getattr(model, name)
    if type(body) is not type(stock):
        raise ModelError(f"{type(model).__name__} is not built around {type(body).__name__}, so {frozen.name} cannot be read by it.")
    if getattr(stock, "pooler", body) is None:
        body.pooler = None
    for other, child in model.named_children():
        if other != name:
            child.to_empty(device=frozen.device)
    setattr(model, name, body)
    return model.to(frozen.model.dtype).eval()


def _num_labels(problem: SoftPromptProblem, realized: Params) -> int:
    return len(realized["head.weight"]) if "head.weight" in realized else len(problem.reader.words)  # type: ignore[attr-defined]


# -- code that uses an adapter


def _code(problem: SoftPromptProblem, realized: Params, task: Task, about: Mapping[str, Any]) -> str:
    """Return code that gives the class scores of one text with PEFT and the adapter."""
    frozen, tokenize = problem.frozen, problem.tokenizer
    auto = "AutoModelForSequenceClassification" if task == "SEQ_CLS" else MODEL_CLASSES[frozen.kind]
    given = loading(frozen, about)
    if task == "SEQ_CLS":
        given += f", num_labels={_num_labels(problem, realized)}"
    with_head = frozen.kind == "encoder" and task != "SEQ_CLS"
    slots = len(realized["prompt"]) if "prompt" in realized and frozen.kind != "encoder_decoder" else 0
    arguments = "input_ids=row"
    segments = segments_code(frozen, tokenize, 0) if task == "SEQ_CLS" else None
    if segments:
        arguments += f", token_type_ids={segments}"
    if frozen.kind == "encoder_decoder":
        arguments += ", decoder_input_ids=torch.tensor([[*start, *spoken]])"
    lines = [
        "import torch",
        "from peft import PeftModel",
        *(["from safetensors.torch import load_file"] if with_head else []),
        f"from transformers import {auto}, AutoTokenizer",
        "",
        f"model = PeftModel.from_pretrained({auto}.from_pretrained({given}), '.').eval()",
        f"tokenizer = AutoTokenizer.from_pretrained({place(frozen, about)})",
        *([f'tuned = load_file("{HEAD}")'] if with_head else []),
        *row_code(tokenize),
        "",
        f"def run(before, after{', spoken=()' if frozen.kind == 'encoder_decoder' else ''}):",
        "    row = torch.tensor([[*before, *after]])",
        f"    return model({arguments})",
        "",
    ]
    if task != "SEQ_CLS":
        return "\n".join([*lines, *reading_code(problem, realized, about, slots)])
    labels = list(about.get("labels", ()))
    named = (
        head_labels(realized, labels)
        if "head.weight" in realized
        else [f"probabilities = dict(zip({labels}, scores.softmax(-1).tolist()))"]
    )
    return "\n".join([*lines, "output = run(before, after)", "scores = output.logits[0]", *named])


def _padding(problem: SoftPromptProblem, task: Task) -> str:
    """Say which batches PEFT reads as it reads single texts."""
    if _is_deep(problem) and problem.frozen.kind != "decoder":
        return "Texts of one batch must be equally long: the model masks no padding behind keys and values that are given to it."
    if task == "SEQ_CLS" and problem.frozen.kind == "decoder" and not _is_deep(problem):
        return "Texts of one batch must be equally long: the classification model finds no padding behind a soft prompt."
    return "In a batch pad on the right, and pass `attention_mask`: PEFT counts padding on the left as positions."


# -- reading


def read_adapter(folder: str | Path, frozen: FrozenModel, method: str, num_virtual_tokens: int) -> dict[str, Tensor]:
    """Read a PEFT prompt-learning adapter as the starting params of a prompt method.

    Rows (PROMPT_TUNING, P_TUNING) start "prompt_tuning", "pez" and "p_tuning" (whose network begins fresh, so the rows are exactly these);
    keys and values (PREFIX_TUNING) start "prefix_tuning". A head in the adapter is not read: the run's own begins as it does.

    Args:
        folder: with ``adapter_config.json`` and ``adapter_model.safetensors`` (or ``adapter_model.bin``).
        method: the run's `model.method`.
        num_virtual_tokens: the run's.

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
    if deep != (method == "prefix_tuning"):
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
    if not base or base in (frozen.name, locate(frozen.name)):
        return None
    return f"the adapter {folder} was made for {base}, and starts a prompt of {frozen.name}"


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise ModelError(f"There is no {path}. Give model.adapter a folder that PEFT's `save_pretrained` wrote.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"Cannot read {path}: {error}.") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds no settings of an adapter.")
    return found


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


def _check_width(folder: Path, config: Mapping[str, Any], frozen: FrozenModel, table: Tensor, wanted: int) -> None:
    if table.shape[1] != wanted:
        base = config.get("base_model_name_or_path")
        raise ModelError(
            f"The adapter {folder} has {table.shape[1]} numbers a virtual token, and {frozen.name} takes {wanted}. It was made for "
            f"{base or 'a model that it does not name'}."
        )

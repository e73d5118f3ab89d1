"""Write a tuned prompt as a PEFT prompt-learning adapter; `peft_read.py` reads one as a starting point.

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
* A head on a decoder: SEQ_CLS where it reads the last token and has no bias, as the stock matrix `score`; else FEATURE_EXTRACTION too.
* Label words of a masked model: FEATURE_EXTRACTION, which PEFT puts around any model, here the one with its language modeling head.
* Label words of an encoder-decoder: SEQ_2_SEQ_LM, the soft prompt in the encoder only.

PEFT numbers positions from the front and counts padding: pad on the right. A prefix of an encoder takes texts of equal length only.

Sources: PEFT 0.21, `PeftModel.get_prompt` (the layout of a prefix), `PeftModelForSequenceClassification`.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from maao.errors import ConfigError, ModelError
from maao.export.peft_read import ADAPTER, CONFIG
from maao.export.tensors import (
    OF_ADAPTER,
    decoder_lead,
    fields_shown,
    reads_token_types,
    realize,
    used,
    write_about,
    write_tensors,
    write_use,
)
from maao.export.tuned import Tuned
from maao.printable import markdown
from maao.problems.framed import FramedProblem
from maao.problems.methods.prefix_tuning import PrefixTuning
from maao.problems.scorers.calibration import CALIBRATION
from maao.problems.scorers.head import Head
from maao.problems.scorers.label_words import LabelWords
from maao.problems.scorers.tokens import Rows
from maao.problems.text_problem import TextProblem
from maao.problems.towers.text.attention import base_model
from maao.problems.towers.text.divided import is_divided
from maao.problems.towers.text.forward import front, model_inputs, pad
from maao.problems.towers.text.loading import FrozenModel, on_hub
from maao.problems.towers.text.probes import head_of, refused
from maao.problems.towers.text.template import Tokenized
from maao.protocols import Params
from maao.types import JSON

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Task = Literal["CAUSAL_LM", "SEQ_CLS", "FEATURE_EXTRACTION", "SEQ_2_SEQ_LM"]

TOLERANCE = 1e-5  # relative to the largest logit
HEAD = "head.safetensors"
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

`use_prompt.py` reads it, with PEFT and transformers alone:

```python
from use_prompt import TunedPrompt

TunedPrompt(".", "use_adapter.json").probabilities({{{fields}}})
```

{padding}
"""


# -- writing


def why_not_peft(problem: TextProblem, *, classifier: bool = False) -> str | None:
    """Return why a problem's prompts cannot be PEFT adapters (with `classifier`: for sequence classification), or None if they can."""
    frozen, template = problem.frozen, problem.template
    if frozen.embed is not None:
        return "PEFT embeds a text as the model itself does, and this codec embeds it in a way of its own: tune with another model.codec."
    if is_divided(frozen.model):
        return f"it is compared with PEFT around the whole of {frozen.name}, which model.device_map divides: export it where it fits one."
    if not _is_deep(problem) and (not template.front or template.chat):
        place = "inside a chat turn" if template.chat else "elsewhere: begin it with {slots}"
        return f"PEFT puts a soft prompt in front of the input, and the template {str(template)!r} has it {place}."
    reason = _why_not_classifier(problem)
    if classifier:
        return reason
    parted = bool(problem.tokenizer.separator) and reads_token_types(frozen)
    if parted and frozen.kind in ("encoder", "masked") and (frozen.kind == "masked" or reason):
        told = f" (as an adapter for sequence classification it would pass them, but: {reason})" if frozen.kind == "encoder" else ""
        return f"PEFT passes no token types, which {frozen.name} needs for the segments that {{sep}} parts{told}: leave out {{sep}}."
    return None


def export_peft(
    problem: TextProblem,
    params: Params,
    folder: Path,
    about: JSON,
    examples: Sequence[Mapping[str, str]],
    *,
    classifier: bool = False,
) -> tuple[list[Path], float]:
    """Write a PEFT adapter and a file that uses it; load it with PEFT, and compare it with ours on `examples`, one at a time.

    Compared are logits (label words), or class scores (a head, or `classifier`). The frozen model is left as it is.

    Returns:
        The files, and the largest difference, relative to the largest logit or score.

    Raises:
        ConfigError: the template, the model or how it is read does not allow it, or `peft` is not installed.
        ModelError: the adapter that PEFT loads does not give ours.
    """
    reason = why_not_peft(problem, classifier=classifier)
    if classifier and about.get("choices") and isinstance(problem.scorer, LabelWords):
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
    beside = _beside(realized, task)
    if beside:
        paths.append(folder / HEAD)
        write_tensors("head", beside, paths[-1])
    page = USE.format(model=markdown(on_hub(problem.frozen.name)[0]), fields=fields_shown(problem), padding=_padding(problem, task))
    paths[2].write_text(page, encoding="utf-8")
    paths += write_use(_used(problem, realized, task, about), folder / OF_ADAPTER)
    with refused(f"PEFT cannot run {problem.frozen.name} with an adapter, so do not use {folder}"):
        worst = _difference(problem, realized, task, folder, examples)
    # A classification model multiplies other shapes than we do: in a coarser precision it may round to the next number.
    allowed = max(TOLERANCE, 2 * torch.finfo(problem.frozen.model.dtype).eps) if task == "SEQ_CLS" else TOLERANCE
    if not worst <= allowed:
        raise ModelError(
            f"The adapter that PEFT loads differs from the tuned prompt by {worst:.1e} of the largest logit. Do not use {folder}."
        )
    return [*paths, write_about(about, folder)], worst


def _beside(realized: Params, task: Task) -> dict[str, Tensor]:
    """Return what reads classes and has no place in an adapter for such a task: a head, the calibration of label words."""
    return {} if task == "SEQ_CLS" else {name: value for name, value in realized.items() if name.startswith(("head.", CALIBRATION))}


def _is_deep(problem: TextProblem) -> bool:
    return isinstance(problem.method, PrefixTuning)


def _task(problem: TextProblem, classifier: bool) -> Task:
    head = isinstance(problem.scorer, Head)
    if classifier or (head and _why_not_classifier(problem) is None):
        return "SEQ_CLS"
    if head:
        return "FEATURE_EXTRACTION"
    tasks: dict[str, Task] = {"decoder": "CAUSAL_LM", "encoder_decoder": "SEQ_2_SEQ_LM"}
    return tasks.get(problem.frozen.kind, "FEATURE_EXTRACTION")


def _why_not_classifier(problem: TextProblem) -> str | None:
    """Return why the stock classification model cannot give our class scores, or None if it can."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

    frozen, reader = problem.frozen, problem.scorer
    kind, name = frozen.model.config.model_type, frozen.name
    if frozen.kind in ("masked", "encoder_decoder"):
        return f"label words of a model of kind '{frozen.kind}' are read by its language modeling head, which a classification model lacks."
    if kind not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        return f"transformers has no classification model of type '{kind}'."
    if isinstance(reader, LabelWords):
        output = frozen.model.get_output_embeddings()
        if reader.calibration != "none":
            return "a classification model of a decoder has no bias, which model.calibration adds: tune without it."
        if any(len(word) != 1 for word in reader.words):
            return "a classification model reads each class at once, and some label words are several tokens: choose words of one token."
        if head_of(frozen) != "plain" or output.bias is not None:
            return f"the logits of {name} are not just its last hidden states times a matrix, which is all that a classification model has."
        return None
    assert isinstance(reader, Head)
    if frozen.kind == "decoder":
        return _why_not_decoder_head(reader, frozen)
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


def _why_not_decoder_head(reader: Head, frozen: FrozenModel) -> str | None:
    """Return why the matrix `score` of a decoder's classification model cannot be our head, or None if it can."""
    if reader.pooling != "last":
        return (
            f"a classification model of a decoder reads the last token, and model.pooling = '{reader.pooling}' another: tune with 'last'."
        )
    if reader.bias:
        return "a decoder's classification model has no bias: tune with model.head_bias = false."
    if frozen.model.dtype != torch.float32:
        return f"a classification head would compute in {frozen.model.dtype}, and ours computes in torch.float32."
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


def _adapter_config(problem: TextProblem, realized: Params, task: Task, saved: list[str] | None, about: JSON) -> JSON:
    config = problem.frozen.model.config.get_text_config()
    base, revision = on_hub(problem.frozen.name, about.get("revision"))
    common: JSON = {
        "auto_mapping": None,
        "base_model_name_or_path": base,
        "inference_mode": True,
        "modules_to_save": saved,
        # PEFT wants both named, and reads them for deep prompts alone: not every model has them (Mamba).
        "num_attention_heads": getattr(config, "num_attention_heads", 1),
        "num_layers": getattr(config, "num_hidden_layers", 1),
        "num_transformer_submodules": 1,
        "peft_version": version("peft"),
        "revision": revision,
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


def _stock_head(problem: TextProblem, realized: Params) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors of the stock classification head that gives our class scores, and which modules PEFT takes from the adapter."""
    frozen, reader = problem.frozen, problem.scorer
    modules = ["classifier", "score"]  # PEFT adds these two itself
    if isinstance(reader, LabelWords):
        ids = [word[0] for word in reader.words]
        return {"base_model.score.weight": frozen.model.get_output_embeddings().weight[ids].detach().cpu().clone()}, modules
    if frozen.kind == "decoder":
        return {"base_model.score.weight": realized["head.weight"].float()}, modules
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


def _difference(problem: TextProblem, realized: Params, task: Task, folder: Path, examples: Sequence[Mapping[str, str]]) -> float:
    """Return the largest difference from what PEFT gives, relative to the largest of ours."""
    from peft import PeftModel

    frozen = problem.frozen
    body = base_model(frozen) if isinstance(problem.scorer, Head) else frozen.model
    model = _stock_classifier(problem, realized) if task == "SEQ_CLS" else _sharing_weights(body)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers for names that are on their way out
        theirs = PeftModel.from_pretrained(model, str(folder)).eval()
        on_device = {name: value.to(frozen.device) for name, value in realized.items()}
        pairs = [_both(problem, on_device, task, theirs, folder, problem.tokenizer(example)) for example in examples]
    largest = max(float(ours.abs().max()) for ours, _ in pairs)
    return max(float((ours - other).abs().max()) for ours, other in pairs) / largest


def _both(
    problem: TextProblem, realized: Params, task: Task, theirs: PreTrainedModel, folder: Path, row: Tokenized
) -> tuple[Tensor, Tensor]:
    """Return our logits or class scores of an input, and PEFT's."""
    frozen = problem.frozen
    ids = torch.tensor([[*row.before, *row.after]], device=frozen.device)
    count = len(realized["prompt"]) if "prompt" in realized else 0
    arguments: JSON = {"input_ids": ids}
    if not _is_deep(problem) or frozen.kind == "decoder":
        arguments["attention_mask"] = torch.ones_like(ids)
    inputs = pad([row], num_virtual_tokens=count, fill=frozen.tokenizer.pad_token_id or 0, device=frozen.device)
    if count == 0:
        dtype = frozen.model.get_input_embeddings().weight.dtype
        inputs = replace(inputs, prefix=front(realized["keys"].to(dtype), realized["values"].to(dtype), 1))
    if task == "SEQ_CLS" or isinstance(problem.scorer, Head):
        ours = problem.scorer.class_scores(realized, Rows([row]))[0]
        if task == "SEQ_CLS":
            if inputs.segments is not None and reads_token_types(frozen):
                arguments["token_type_ids"] = inputs.segments[:, count:]
            return ours, theirs(**arguments).logits[0].float()
        head = {name: value.to(frozen.device) for name, value in load_file(folder / HEAD).items()}
        hidden = theirs(**arguments).last_hidden_state.float()
        assert isinstance(problem.scorer, Head)
        pooled = problem.scorer.pool(hidden, inputs, [row])
        return ours, F.linear(pooled, head["head.weight"], head.get("head.bias"))[0]
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


def _sharing_weights(module: PreTrainedModel) -> PreTrainedModel:
    """Return a copy that has modules of its own and the same tensors: PEFT changes the modules that it is given."""
    return copy.deepcopy(module, {id(tensor): tensor for tensor in [*module.parameters(), *module.buffers()]})


def _stock_classifier(problem: TextProblem, realized: Params) -> PreTrainedModel:
    """Return the stock classification model around the frozen model's weights; its head is filled from the adapter."""
    from transformers import AutoModelForSequenceClassification

    frozen = problem.frozen
    config = copy.deepcopy(frozen.model.config)
    config.num_labels = _num_labels(problem, realized)
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
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


def _num_labels(problem: TextProblem, realized: Params) -> int:
    return len(realized["head.weight"]) if "head.weight" in realized else len(problem.scorer.words)  # type: ignore[attr-defined]


def _used(problem: TextProblem, realized: Params, task: Task, about: JSON) -> JSON:
    """Return how an adapter is used, as `use_prompt.py` reads it."""
    settings = {**used(problem, realized, about), "adapter": True}
    if problem.frozen.kind == "encoder_decoder":
        settings["slots"] = 0  # they stand among the encoder's positions alone
    if task != "SEQ_CLS":
        return {**settings, "token_types": False, "tensors": HEAD if _beside(realized, task) else None}
    stock = {"model_class": "AutoModelForSequenceClassification", "model_options": {"num_labels": _num_labels(problem, realized)}}
    return {**settings, **stock, "reads": "scores", "words": None}


def _padding(problem: TextProblem, task: Task) -> str:
    """Say which batches PEFT reads as it reads single texts."""
    if _is_deep(problem) and problem.frozen.kind != "decoder":
        return "Texts of one batch must be equally long: the model masks no padding behind keys and values that are given to it."
    if task == "SEQ_CLS" and problem.frozen.kind == "decoder" and not _is_deep(problem):
        return "Texts of one batch must be equally long: the classification model finds no padding behind a soft prompt."
    return "In a batch pad on the right, and pass `attention_mask`: PEFT counts padding on the left as positions."


# -- the formats


class PeftExport:
    """An adapter for the kind of model that the run tuned."""

    by_name_only, writes_averages = False, False
    classifier = False

    def serves(self, problem: object) -> bool:
        return isinstance(problem, TextProblem | FramedProblem)

    def write(self, tuned: Tuned, folder: Path) -> list[Path]:
        texts = ("A short text.", "Another text, which is a little longer than that.")
        probes = [dict.fromkeys(tuned.problem.template.fields, text) for text in texts]
        return export_peft(tuned.problem, tuned.params, folder, tuned.about, probes, classifier=self.classifier)[0]


class PeftClassifierExport(PeftExport):
    """An adapter for transformers' classification model of that type."""

    by_name_only = True
    classifier = True

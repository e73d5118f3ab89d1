"""Take a tuned prompt elsewhere: plain text, or what the model reads of it as tensors, with code that uses them.

The code is written for the very model, template and way of reading of a run, and the tests run it. PEFT adapters are `adapters.py`. What is
written is read back and compared before the export counts as done.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from maao.core.pieces import continued
from maao.errors import ModelError
from maao.problems.language.readers import DecodedWords, Head, LabelWords
from maao.problems.language.soft_prompt import SoftPromptProblem
from maao.problems.towers.text.forward import decoder_start
from maao.problems.towers.text.loading import FrozenModel, locate
from maao.problems.towers.text.template import TemplateTokenizer
from maao.problems.towers.text.tokenizing import UNSPACED

Params = Mapping[str, Tensor]

WEIGHTS, TRAINING = "prompt.safetensors", "training.safetensors"
MODEL_CLASSES = {
    "decoder": "AutoModelForCausalLM",
    "encoder": "AutoModel",
    "masked": "AutoModelForMaskedLM",
    "encoder_decoder": "AutoModelForSeq2SeqLM",
}
USE = """# Soft prompt for {model}

{tells}

    {template}

```python
{code}
```

One text is run at a time here, and none is cut to fit the model's context. The name of a special token in a text (`</s>`) is read as that
token here, and as ordinary text by `maao predict`.
"""


def export_text(text: str, folder: Path) -> list[Path]:
    """Write the words of the prompt."""
    path = folder / "prompt.txt"
    path.write_text(text + "\n", encoding="utf-8")
    return [path]


def export_tensor(problem: SoftPromptProblem, params: Params, folder: Path, about: Mapping[str, Any]) -> list[Path]:
    """Write what the frozen model reads of a point, what it belongs to, and a snippet that uses it.

    ``prompt.safetensors`` holds ``prompt (num_virtual_tokens, embed_dim)``, or ``keys`` and ``values``, each ``(layers, heads,
    num_virtual_tokens, head_dim)``, and a head where there is one. Where that is not what is trained (the network of P-tuning, the soft
    rows of PEZ), ``training.safetensors`` holds that, all of it.

    Raises:
        ModelError: the tensors read back differently from what was written.
    """
    realized = realize(problem, params)
    paths = [folder / WEIGHTS]
    write_tensors("tensor", realized, paths[0])
    trained = {name: value.detach().cpu() for name, value in params.items()}
    if trained.keys() != realized.keys() or not all(torch.equal(trained[name], realized[name]) for name in trained):
        paths.append(folder / TRAINING)
        write_tensors("tensor", trained, paths[1])
    readme = folder / "USE.md"
    if "prompt" in realized:
        rows, width = realized["prompt"].shape
        tells = (
            f"`{WEIGHTS}` holds the tensor `prompt`, shape ({rows}, {width}): the embedding rows that stand at {{slots}} in the template"
        )
    else:
        tells = (
            f"`{WEIGHTS}` holds `keys` and `values`, each of shape {tuple(realized['keys'].shape)} (layers, heads, virtual tokens, head "
            "width). They stand in front of everything that the model reads, whatever the place of {slots} in the template"
        )
    readme.write_text(
        USE.format(model=locate(problem.frozen.name), tells=tells, template=problem.template, code=tensor_code(problem, realized, about)),
        encoding="utf-8",
    )
    return [*paths, write_about(about, folder), readme]


def realize(problem: SoftPromptProblem, params: Params) -> dict[str, Tensor]:
    """Return what the frozen model reads of a point, and what its reader does (a head): on the CPU, free of gradients."""
    with torch.no_grad():
        return {name: value.detach().cpu().contiguous() for name, value in problem.method.realize(params).items()}


def write_tensors(what: str, tensors: Params, path: Path) -> None:
    """Write tensors and read them back.

    Raises:
        OSError: no room, which `safetensors`' own writer raises otherwise.
        ModelError: they read back differently.
    """
    path.write_bytes(save({name: value.contiguous() for name, value in tensors.items()}, metadata={"format": "pt"}))
    read = load_file(path)
    for name, value in tensors.items():
        if name not in read or not torch.equal(read[name], value.cpu()):
            raise ModelError(f"The exported {what} '{name}' reads back differently from what was written. Is the disk sound?")


def write_about(about: Mapping[str, Any], folder: Path) -> Path:
    """Write what an exported prompt belongs to."""
    path = folder / "maao.json"
    path.write_text(json.dumps(dict(about), indent=2, ensure_ascii=False), encoding="utf-8")
    return path


# -- code that uses what was exported


def tensor_code(problem: SoftPromptProblem, realized: Params, about: Mapping[str, Any]) -> str:
    """Return code that gives the class scores of one text with the exported tensors."""
    frozen, tokenize = problem.frozen, problem.tokenizer
    deep = "keys" in realized
    imports = "AutoTokenizer, DynamicCache" if deep else "AutoTokenizer"
    lines = [
        "import torch",
        "from safetensors.torch import load_file",
        f"from transformers import {MODEL_CLASSES[frozen.kind]}, {imports}",
        "",
        f"model = {MODEL_CLASSES[frozen.kind]}.from_pretrained({loading(frozen, about)}).eval()",
        f"tokenizer = AutoTokenizer.from_pretrained({place(frozen, about)})",
        f'tuned = load_file("{WEIGHTS}")',
        *row_code(tokenize),
        "",
        f"def run(before, after{', spoken=()' if frozen.kind == 'encoder_decoder' else ''}):",
    ]
    if deep:
        lines += [
            "    row = torch.tensor([[*before, *after]])",
            '    keys, values = tuned["keys"].to(model.dtype), tuned["values"].to(model.dtype)  # (layers, heads, tokens, head width)',
            "    prefix = DynamicCache([(k[None], v[None]) for k, v in zip(keys, values)])",
        ]
        arguments = "input_ids=row, past_key_values=prefix"
        slots = 0
    else:
        fill = frozen.tokenizer.pad_token_id or 0
        embed = "model.base_model.embeddings" if frozen.embed_twice else "model.get_input_embeddings()"
        slots = len(realized["prompt"])
        lines += [
            '    prompt = tuned["prompt"]',
            f"    row = torch.tensor([[*before, *[{fill}] * len(prompt), *after]])",
            f"    embeddings = {embed}(row).detach()",
            "    embeddings[0, len(before) : len(before) + len(prompt)] = prompt.to(model.dtype)",
        ]
        arguments = "inputs_embeds=embeddings"
    lines += _called(frozen, tokenize, arguments, slots)
    return "\n".join([*lines, "", *reading_code(problem, realized, about, slots)])


def place(frozen: FrozenModel, about: Mapping[str, Any]) -> str:
    """Return what a loader is given to find a model, as code."""
    revision = about.get("revision")
    return repr(locate(frozen.name)) + (f", revision={revision!r}" if revision else "")


def loading(frozen: FrozenModel, about: Mapping[str, Any]) -> str:
    """Return what a model's loader is given, as code."""
    return f"{place(frozen, about)}, dtype={frozen.model.dtype}"


def row_code(tokenize: TemplateTokenizer) -> list[str]:
    """Return code that names the token ids of a text around the slots `before` and `after`, as `TemplateTokenizer` finds them."""
    front = tokenize.begins_behind_slots
    prefix, suffix = list(tokenize.prefix), list(tokenize.suffix)
    before = _items(tokenize, tokenize.before, begins=True)
    after = _items(tokenize, tokenize.after, begins=front)
    if front:
        after[0] = [*map(str, prefix), *after[0]]
    else:
        before[0] = [*map(str, prefix), *before[0]]
    after[-1] = [*after[-1], *map(str, suffix)]
    lines = ["", "def ids(text):", "    return tokenizer(text, add_special_tokens=False).input_ids", ""]
    if tokenize.joins:  # its first word is not to be written as if a space stood before it
        lines += ["def ids_behind(text):", "    return continued(ids, text) if text else []", "", *_source(continued), ""]
    rows = len(lines)
    for name, parts in (("before", before), ("after", after)):
        if len(parts) > 1:  # two segments
            lines += [f"first = [{', '.join(parts[0])}]", f"{name} = [*first, {', '.join(parts[1])}]"]
        else:
            lines.append(f"{name} = [{', '.join(parts[0])}]")
    lines[rows] += "  # token ids around the slots: fill in the template's fields"
    return lines


def _source(function: Callable[..., object]) -> list[str]:
    """Return a function's own code, without the types that it names."""
    code = inspect.getsource(function).splitlines()
    return [re.sub(r"\(.*\)( -> .*)?:$", f"({', '.join(inspect.signature(function).parameters)}):", code[0]), *code[1:]]


def _ids_behind(tokenize: TemplateTokenizer) -> str:
    """Return the name of what gives the ids of a text that goes on behind something, in a snippet."""
    return "ids_behind" if tokenize.joins else "ids"


def _items(tokenize: TemplateTokenizer, text: str, *, begins: bool) -> list[list[str]]:
    """Return what stands in the list of a text's token ids, as code; in two parts if two segments part in it."""
    filled = text.replace("{mask}", tokenize.mask)
    parts = filled.split("{sep}")
    called = "ids" if begins else _ids_behind(tokenize)
    if len(parts) == 1:
        return [[f"*{called}({filled!r})"] if filled else []]
    first, second = parts[0].rstrip(" "), parts[1].lstrip(" ")
    items = [f"*{called}({first!r})"] if first else []
    return [[*items, *map(str, tokenize.separator)], [f"*ids({second!r})"] if second else []]


def decoder_lead(frozen: FrozenModel, tokenize: TemplateTokenizer) -> list[int]:
    """Return what the decoder of an encoder-decoder has said before its answer: its first token, and T5's sentinel for a ``{mask}``."""
    lead = frozen.tokenizer.convert_tokens_to_ids([tokenize.mask]) if tokenize.mask else []
    return [decoder_start(frozen), *lead]


def segments_code(frozen: FrozenModel, tokenize: TemplateTokenizer, slots: int) -> str | None:
    """Return code for the token types of a row with slots, as `pad` counts them; None: the model or the template has none."""
    if not tokenize.separator or getattr(frozen.model.config, "type_vocab_size", 0) < 2 or frozen.kind == "encoder_decoder":
        return None
    count = f" + {slots}" if slots else ""
    if "{sep}" in tokenize.after:
        second = f"len(before){count} + len(first)"
    elif tokenize.before.endswith("{sep}"):  # the slots stand between the segments, and belong to the first
        second = f"len(first){count}"
    else:
        second = "len(first)"
    return f"torch.tensor([[int(place >= {second}) for place in range(row.shape[1])]])"


def _called(frozen: FrozenModel, tokenize: TemplateTokenizer, arguments: str, slots: int) -> list[str]:
    segments = segments_code(frozen, tokenize, slots)
    if segments:
        arguments += f", token_type_ids={segments}"
    if frozen.kind == "encoder_decoder":
        arguments += ", decoder_input_ids=torch.tensor([[*start, *spoken]])"
    return [f"    return model({arguments})"]


def reading_code(problem: SoftPromptProblem, realized: Params, about: Mapping[str, Any], slots: int) -> list[str]:
    """Return code that reads class scores from what `run` gives, when `slots` virtual tokens are among the model's positions."""
    reader, labels = problem.reader, list(about.get("labels", ()))
    if isinstance(reader, Head):
        return _head_code(problem, realized, labels, slots)
    assert isinstance(reader, LabelWords)
    words = reader.words
    named = dict(zip(labels, map(list, words), strict=False)) if labels else {str(i): list(word) for i, word in enumerate(words)}
    tokenize = problem.tokenizer
    spaces = {tokenize.answer_prefix(word) for word in _spoken(about)}
    lines = [f"words = {named}  # the token ids of each label's word, written {' or '.join(map(repr, sorted(spaces)))} + word"]
    if about.get("choices"):
        lines = _choices_code(tokenize)
    if isinstance(reader, DecodedWords):
        lines.append(f"start = {decoder_lead(problem.frozen, problem.tokenizer)}  # what the decoder has said before its answer")
    lines += _words_code(problem, one_token=not about.get("choices") and all(len(word) == 1 for word in words), slots=slots)
    return [*lines, "probabilities = dict(zip(words, scores.softmax(-1).tolist()))"]


def _choices_code(tokenize: TemplateTokenizer) -> list[str]:
    """Return code that names the token ids of each choice, with a space before it where `TemplateTokenizer` writes one."""
    called = "ids" if tokenize.answer_begins else _ids_behind(tokenize)
    space = tokenize.answer_prefix("a")
    lines, before = [], repr(space)
    if tokenize.answer_prefix("\u4f53") != space:
        before = "space_before(choice.strip())"
        lines = [
            "import unicodedata",
            f"unspaced = {UNSPACED}",
            "",
            "def space_before(word):  # none before a word of a script that sets no spaces",
            '    first = word[:1] or " "',
            r'    return "" if "\u3000" <= first <= "\u303f" or unicodedata.name(first, "").split(" ")[0] in unspaced else " "',
            "",
        ]
    return [
        *lines,
        'choices = ["{choice1}", "{choice2}"]  # fill in what this text has to choose from',
        f"words = {{choice: {called}({before} + choice.strip()) for choice in choices}}",
    ]


def _spoken(about: Mapping[str, Any]) -> list[str]:
    """Return the label words of an export, or the labels."""
    return list((about.get("label_words") or {}).values()) or list(about.get("labels", ())) or ["a"]


def _words_code(problem: SoftPromptProblem, *, one_token: bool, slots: int) -> list[str]:
    """Return code that scores label words; of several tokens, by the mean of their log-probabilities."""
    kind = problem.frozen.kind
    mask = problem.frozen.tokenizer.mask_token_id
    masked_before = "{mask}" in problem.tokenizer.before
    at = f"before.index({mask})" if masked_before else f"len(before) + {slots} + after.index({mask})"
    if one_token:
        where = at if kind == "masked" else "-1"
        return ["output = run(before, after)", f"scores = output.logits[0, {where}, [word for (word,) in words.values()]].float()"]
    if kind == "masked":
        part, call = ("before", "run(filled, after)") if masked_before else ("after", "run(before, filled)")
        body = [
            f"    filled = [token for one in {part} for token in [one] * (len(word) if one == {mask} else 1)]  # a mask for each token",
            f"    at = {at}",
            f"    logits = {call}.logits[0, at : at + len(word)].float()",
        ]
    else:
        call = "run(before, after, word[:-1])" if kind == "encoder_decoder" else "run(before, [*after, *word[:-1]])"
        body = [f"    logits = {call}.logits[0, -len(word) :].float()"]
    return [
        "",
        "def score(word):  # the mean log-probability of a word's tokens",
        *body,
        "    return logits.log_softmax(-1)[range(len(word)), word].mean()",
        "",
        "scores = torch.stack([score(word) for word in words.values()])",
    ]


def _head_code(problem: SoftPromptProblem, realized: Params, labels: Sequence[str], slots: int) -> list[str]:
    reader = problem.reader
    assert isinstance(reader, Head)
    front = problem.tokenizer.begins_behind_slots
    where = {"mean": ".mean(0)", "virtual": "[len(before)]", "first": f"[{slots if front else 0}]"}[reader.pooling]
    lines = [
        "output = run(before, after)",
        f"pooled = output.last_hidden_state[0].float(){where}",
        'scores = tuned["head.weight"] @ pooled + tuned["head.bias"]',
    ]
    return [*lines, *head_labels(realized, labels)]


def head_labels(realized: Params, labels: Sequence[str]) -> list[str]:
    """Return code that names the scores of a head."""
    if len(realized["head.weight"]) == 1 and len(labels) != 1:
        return ["# the score of the choice that is filled in: a softmax over all choices' scores is their distribution"]
    return [f"probabilities = dict(zip({list(labels)}, scores.softmax(-1).tolist()))"]

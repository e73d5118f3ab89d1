"""Take a tuned prompt elsewhere: plain text, or what the model reads of it as tensors, with a file that uses them.

`use_prompt.py` is copied out as it stands; what differs from run to run (the model, the template, how classes are read) is written beside
it as settings. PEFT adapters are `peft_write.py`. What is written is read back and compared before the export counts as done.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from maao.errors import ConfigError, ModelError
from maao.export import use_prompt
from maao.export.tuned import Tuned
from maao.printable import markdown, printable
from maao.problems.scorers.head import Head
from maao.problems.scorers.label_words import LabelWords
from maao.problems.scorers.other_words import DecodedWords
from maao.problems.text_problem import TextProblem
from maao.problems.towers.text.forward import decoder_start
from maao.problems.towers.text.loading import FrozenModel, locate
from maao.problems.towers.text.template import TemplateTokenizer
from maao.protocols import Deployable, Params
from maao.types import JSON

WEIGHTS, TRAINING = "prompt.safetensors", "training.safetensors"
OF_PROMPT, OF_ADAPTER = use_prompt.SETTINGS
MODEL_CLASSES = {
    "decoder": "AutoModelForCausalLM",
    "encoder": "AutoModel",
    "masked": "AutoModelForMaskedLM",
    "encoder_decoder": "AutoModelForSeq2SeqLM",
}
USE = """# Soft prompt for {model}

{tells}

    {template}

`use_prompt.py` reads it, with transformers alone:

```python
from use_prompt import TunedPrompt

TunedPrompt(".").probabilities({{{fields}}})
```

One text is run at a time here, and none is cut to fit the model's context. The name of a special token in a text (`</s>`) is read as that
token here, and as ordinary text by `maao predict`.
"""


def export_text(text: str, folder: Path) -> list[Path]:
    """Write the words of the prompt."""
    path = folder / "prompt.txt"
    path.write_text(text + "\n", encoding="utf-8")
    return [path]


def export_tensor(problem: TextProblem, params: Params, folder: Path, about: JSON) -> list[Path]:
    """Write what the frozen model reads of a point, what it belongs to, and a file that uses it.

    ``prompt.safetensors`` holds ``prompt (num_virtual_tokens, embed_dim)``, or ``keys`` and ``values``, each ``(layers, heads,
    num_virtual_tokens, head_dim)``, and a head where there is one. Where that is not what is trained (the network of P-tuning, the soft
    rows of PEZ), ``training.safetensors`` holds that, all of it.

    Raises:
        ConfigError: the codec embeds texts in a way of its own.
        ModelError: the tensors read back differently from what was written.
    """
    realized = realize(problem, params)
    settings = {**used(problem, realized, about), "tensors": WEIGHTS}
    paths = [folder / WEIGHTS]
    write_tensors("tensor", realized, paths[0])
    trained = {name: value.detach().cpu() for name, value in params.items()}
    if trained.keys() != realized.keys() or not all(torch.equal(trained[name], realized[name]) for name in trained):
        paths.append(folder / TRAINING)
        write_tensors("tensor", trained, paths[1])
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
    readme = folder / "USE.md"
    template = "\n    ".join(printable(str(problem.template)).splitlines())  # what is indented is shown as it is
    page = USE.format(model=markdown(locate(problem.frozen.name)), tells=tells, template=template, fields=fields_shown(problem))
    readme.write_text(page, encoding="utf-8")
    return [*paths, *write_use(settings, folder / OF_PROMPT), write_about(about, folder), readme]


def export_params(params: Params, folder: Path, about: JSON) -> list[Path]:
    """Write all that was trained, by name."""
    path = folder / WEIGHTS
    write_tensors("tensor", {name: value.detach().cpu() for name, value in params.items()}, path)
    return [path, write_about(about, folder)]


def realize(problem: TextProblem, params: Params) -> dict[str, Tensor]:
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


def write_about(about: JSON, folder: Path) -> Path:
    """Write what an exported prompt belongs to."""
    return _write_json(about, folder / "maao.json")


def write_use(settings: JSON, path: Path) -> list[Path]:
    """Write the file that uses an export, and its settings."""
    code = path.with_name("use_prompt.py")
    shutil.copyfile(use_prompt.__file__, code)
    return [_write_json(settings, path), code]


def _write_json(value: JSON, path: Path) -> Path:
    path.write_text(json.dumps(dict(value), indent=2, ensure_ascii=False), encoding="utf-8")
    return path


def fields_shown(problem: TextProblem) -> str:
    """Return the fields that a person fills in, as a mapping is written."""
    return ", ".join(f'"{name}": "..."' for name in problem.template.fields)


# -- the settings of `use_prompt.py`


def used(problem: TextProblem, realized: Params, about: JSON) -> JSON:
    """Return how the exported tensors of a point are used, as `use_prompt.py` reads it."""
    frozen, tokenize = problem.frozen, problem.tokenizer
    if frozen.embed is not None:
        raise ConfigError("The code that uses an export embeds texts as the model itself does, and this codec in a way of its own.")
    before, after = _around_slots(tokenize)
    slots = len(realized["prompt"]) if "prompt" in realized else 0
    return {
        "model": locate(frozen.name),
        "revision": about.get("revision"),
        "dtype": str(frozen.model.dtype).removeprefix("torch."),
        "model_class": "AutoModel" if isinstance(problem.scorer, Head) else MODEL_CLASSES[frozen.kind],
        "model_options": {},
        "adapter": False,
        "tensors": None,
        "before": before,
        "after": after,
        "fields": list(problem.template.fields),
        "joins": tokenize.joins,
        "slots": slots,
        "begins_at": slots if tokenize.begins_behind_slots else 0,
        "fill": frozen.tokenizer.pad_token_id or 0,
        "token_types": bool(tokenize.separator) and reads_token_types(frozen) and frozen.kind != "encoder_decoder",
        "mask": frozen.tokenizer.mask_token_id,
        **_reading(problem, about),
    }


def reads_token_types(frozen: FrozenModel) -> bool:
    """Say whether a model tells two segments apart."""
    return getattr(frozen.model.config, "type_vocab_size", 0) > 1


def _around_slots(tokenize: TemplateTokenizer) -> tuple[list[object], list[object]]:
    """Return what stands around the slots: token ids, texts with fields to fill in, and "second" where a second segment begins."""
    front, prefix, suffix = tokenize.begins_behind_slots, list(tokenize.prefix), list(tokenize.suffix)
    before, after = _items(tokenize, tokenize.before, begins=True), _items(tokenize, tokenize.after, begins=front)
    return ([], [*prefix, *after, *suffix]) if front else ([*prefix, *before], [*after, *suffix])


def _items(tokenize: TemplateTokenizer, text: str, *, begins: bool) -> list[object]:
    first, mark, second = text.replace("{mask}", tokenize.mask).partition("{sep}")
    items: list[object] = [{"text": text, "begins": begins} for text in (first.rstrip(" ") if mark else first,) if text]
    if mark:
        items += [*tokenize.separator, "second", *({"text": text, "begins": True} for text in (second.lstrip(" "),) if text)]
    return items


def decoder_lead(frozen: FrozenModel, tokenize: TemplateTokenizer) -> list[int]:
    """Return what the decoder of an encoder-decoder has said before its answer: its first token, and T5's sentinel for a ``{mask}``."""
    lead = frozen.tokenizer.convert_tokens_to_ids([tokenize.mask]) if tokenize.mask else []
    return [decoder_start(frozen), *lead]


def _reading(problem: TextProblem, about: JSON) -> JSON:
    """Return how class scores are read from what the model gives."""
    reader, tokenize, labels = problem.scorer, problem.tokenizer, list(about.get("labels", ()))
    found: JSON = {"labels": labels, "words": None, "one_token": False, "start": None, "pooling": None}
    if isinstance(reader, Head):
        return {**found, "reads": "head", "pooling": reader.pooling}
    assert isinstance(reader, LabelWords)
    words = None if about.get("choices") else list(map(list, reader.words))  # else each example has its own
    decoded = isinstance(reader, DecodedWords)
    return {
        **found,
        "reads": "decoder" if decoded else "mask" if problem.frozen.kind == "masked" else "next",
        "words": None if words is None else dict(zip(labels, words, strict=True)),
        "one_token": words is not None and all(len(word) == 1 for word in words),
        "start": decoder_lead(problem.frozen, tokenize) if decoded else None,
        "choice_space": {"spaced": tokenize.answer_prefix("a"), "unspaced": tokenize.answer_prefix("\u4f53")},
        "choice_begins": tokenize.answer_begins,
    }


# -- the formats


class TextExport:
    """The words of the prompt."""

    by_name_only, writes_averages = False, False

    def serves(self, problem: object) -> bool:
        return isinstance(problem, Deployable)

    def write(self, tuned: Tuned, folder: Path) -> list[Path]:
        if tuned.text is None:
            raise ConfigError(f"'{tuned.about['method']}' trains no prompt: there are no words to export.")
        paths = export_text(tuned.text, folder)
        return [*paths, write_about(tuned.about, folder)] if tuned.filled else paths  # they are of no use without what stands around them


class TensorExport:
    """What the model reads of the point with a file that uses it; of another problem, all that was trained."""

    by_name_only, writes_averages = False, False

    def serves(self, problem: object) -> bool:
        return isinstance(problem, Deployable)

    def write(self, tuned: Tuned, folder: Path) -> list[Path]:
        if isinstance(tuned.problem, TextProblem):
            return export_tensor(tuned.problem, tuned.params, folder, tuned.about)
        return export_params(tuned.params, folder, tuned.about)

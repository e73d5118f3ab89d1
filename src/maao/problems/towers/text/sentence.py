"""Sentence encoders: a text as one vector. Folders of sentence-transformers say how; of any other encoder, the pooling is given.

What is read of such a folder, as that library reads it: ``modules.json`` (what follows the transformer: pooling, dense layers, a
normalisation), ``1_Pooling/config.json``, ``sentence_bert_config.json`` (``max_seq_length``, ``do_lower_case``), and of
``config_sentence_transformers.json`` the prompt that stands before every text (``default_prompt_name``). Other prompts are text like any
other: they can be written into a template.

Sources: Reimers and Gurevych, Sentence-BERT, EMNLP 2019; sentence-transformers, `models.Transformer`, `models.Pooling`, `models.Dense`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from maao.errors import DataError, ModelError
from maao.problems.towers.class_prompts import Prompt
from maao.problems.towers.dual import TextTower, unit
from maao.problems.towers.pooling import Pooling, mean_of, pooled
from maao.problems.towers.text.forward import context_length
from maao.problems.towers.text.loading import MODULES, FrozenModel, load_encoder, model_file
from maao.problems.towers.text.tokenizing import Specials, refuse_surrogates, special_tokens
from maao.problems.towers.tried import heeds_slots, reads_alike
from maao.store.files import read_object
from maao.types import JSON

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.modeling_outputs import ModelOutput

# What the library's pooling is called here. The mean over the square root of the length points where the mean does.
MODES: Mapping[str, Pooling] = {
    "mean_tokens": "mean",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean",
    "cls_token": "first",
    "cls": "first",
    "max_tokens": "max",
    "max": "max",
    "lasttoken": "last",
    "weightedmean_tokens": "weighted_mean",
    "weightedmean": "weighted_mean",
}
# Files of older versions carried the model's name.
LIMITS = tuple(f"sentence_{name}_config.json" for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"))
ACTIVATIONS: Mapping[str, type[nn.Module]] = {name: getattr(nn, name) for name in ("Identity", "Tanh", "ReLU", "GELU", "Sigmoid", "SiLU")}
TWO_THIRDS = "two_thirds"
HiddenLayers = Sequence[int] | Literal["two_thirds"]
UNLIMITED = 10**6  # tokenizers write 10**30 for no limit


@dataclass(frozen=True)
class Reading:
    """How a sentence encoder makes one vector of a text.

    Args:
        pooling: which of the last hidden states, or what of all of them.
        most: tokens that it reads; of a longer text the beginning. None: as many as the model can.
        lowercase: write texts in small letters first.
        prompt: what stands before every text.
        dense: folders of linear layers that follow, each with its activation.
        place: where the transformer's own files are, inside the folder.
        hidden_layers: layers whose states, by the mean over tokens, stand beside that vector (0: the embeddings, 1: the first layer).
    """

    pooling: Pooling = "mean"
    most: int | None = None
    lowercase: bool = False
    prompt: str = ""
    dense: tuple[Path, ...] = ()
    place: str = ""
    hidden_layers: tuple[int, ...] = ()


@dataclass(frozen=True)
class SentenceEncoder:
    """A sentence encoder as two towers of one model: `classes` reads texts with slots, `inputs` reads what is classified."""

    name: str
    classes: TextTower
    inputs: TextInputs
    embed_dim: int
    reading: Reading
    modules: nn.Module
    own_dim: int


class TextInputs:
    """The tower that reads inputs which are texts, with room for prompts before an input's own tokens.

    Args:
        tower: reads whole rows.
        name: of the encoder.
        reading: how it makes a vector of a text.
        plain: nothing but pooling stands between the hidden states and the vector.
    """

    def __init__(self, tower: TextTower, name: str, reading: Reading, *, plain: bool = True) -> None:
        self.tower, self.name, self.reading, self.plain = tower, name, reading, plain
        self._begin, self._end = special_tokens(tower.tokenizer)
        self._specials = Specials(tower.tokenizer)
        self.layers = tower.layers

    @property
    def model(self) -> nn.Module:
        return self.tower.model

    @property
    def width(self) -> int:
        return self.tower.width

    @property
    def about(self) -> str:
        """How a vector is made of the hidden states, for the keys of kept features."""
        beside = f" {self.reading.hidden_layers}" if self.reading.hidden_layers else ""
        return f"{self.reading.pooling} {len(self.reading.dense)}{beside}"

    def read(self, texts: Sequence[str]) -> tuple[tuple[Prompt, ...], tuple[int, ...]]:
        """Return the tokens of texts, and how many of each were cut away at its end.

        Raises:
            DataError: a text with half a character, or one without a token.
        """
        found, cuts = [], []
        room = self.tower.most - len(self._begin) - len(self._end)
        for text in texts:
            refuse_surrogates(f"The text {text[:40]!r}", text)
        for text, ids in zip(texts, self._ids([(self.reading.prompt + text).strip() for text in texts]), strict=True):
            cuts.append(max(0, len(ids) - room))
            whole = (*self._begin, *ids[:room], *self._end)
            if not whole:
                raise DataError(f"The text {text!r} has no token of this tokenizer: there is nothing to read.")
            found.append(Prompt(whole))
        return tuple(found), tuple(cuts)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of texts, most of which are split together, which is several times as fast."""
        if not texts:
            return []
        found: list[list[int]] = self.tower.tokenizer(list(texts), add_special_tokens=False).input_ids
        for i, text in enumerate(texts):
            if self._specials.named_in([text]):  # its name in a text is text
                found[i] = self.tower.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
        return found

    def told(self, prompt: Prompt) -> str:
        """Return how a tokenized text begins, as a message shows it."""
        found: str = self.tower.tokenizer.decode(prompt.ids[:24], skip_special_tokens=True)
        return found[:60].strip()

    def features(self, inputs: Sequence[Prompt], prompts: Sequence[Tensor] = ()) -> Tensor:
        """Return the normalised features ``(len(inputs), embed_dim)`` of tokenized texts.

        Args:
            prompts: ``(num_rows, width)`` for each layer from the first on: they stand behind what begins a text, and replace those of
                the layer before. What of a text is too long with them is cut.
        """
        if not prompts:
            return self.tower.features(inputs)
        deep = dict(enumerate(prompts[1:], start=1))
        return self.tower.features([self._with_slots(text, len(prompts[0])) for text in inputs], prompts[0], deep)

    def num_tokens(self, inputs: Sequence[Prompt]) -> int:
        """Return how many tokens, padding included, one pass over tokenized texts runs."""
        return self.tower.num_tokens(inputs)

    def _with_slots(self, text: Prompt, count: int) -> Prompt:
        begin, end = len(self._begin), len(text.ids) - len(self._end)
        own = text.ids[begin:end][: self.tower.most - count - len(self._begin) - len(self._end)]
        placeholder = own[:1] or text.ids[:1]
        return Prompt((*self._begin, *placeholder * count, *own, *self._end), tuple(range(begin, begin + count)))


def load_sentence_encoder(
    name: str,
    *,
    pooling: Pooling | None = None,
    max_length: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    revision: str | None = None,
    projection: Tensor | None = None,
    hidden_layers: HiddenLayers = (),
    trust_remote_code: bool = False,
) -> SentenceEncoder:
    """Load a frozen sentence encoder, or any text encoder as one.

    Args:
        name: a hub name, a folder, or "packaged:all-minilm-l6-v2".
        pooling: of an encoder that does not say its own; by default the mean. Another one than a folder says is taken, too.
        max_length: tokens that it reads; by default those that it was made for.
        dtype: precision of the frozen weights; params stay in fp32.
        projection: ``(embed_dim, width)``, onto a space that it shares with another encoder.
        hidden_layers: layers whose states stand beside the encoder's own vector (see `beside_own`), or "two_thirds", the one two thirds
            up, which knows more of what an encoder's last layer was not trained for.
        trust_remote_code: as for `load_frozen`.

    Raises:
        ModelError: nothing of that name, weights that are missing, a way to make a vector that is not supported, or no such layer.

    Example:
        >>> encoder = load_sentence_encoder("packaged:all-minilm-l6-v2")
        >>> texts, cuts = encoder.inputs.read(["a song", "an album"])
        >>> encoder.inputs.features(texts).shape, encoder.reading.pooling, encoder.classes.most
        (torch.Size([2, 384]), 'mean', 256)
    """
    own = read_folder(name, revision) or Reading()
    model, tokenizer = load_encoder(
        name, inside=own.place, device=device, dtype=dtype, revision=revision, trust_remote_code=trust_remote_code
    )
    layers = _layers(model, name, hidden_layers)
    reading = replace(own, pooling=pooling or own.pooling, most=max_length or own.most, hidden_layers=layers)
    if max_length is not None and max_length > (most := _most(model, tokenizer, name)):
        raise ModelError(f"model.max_length = {max_length} is more than {name} can read: {most} tokens.")
    return sentence_encoder(model, tokenizer, name, reading, projection)


def sentence_encoder(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, reading: Reading, projection: Tensor | None = None
) -> SentenceEncoder:
    """Return a text encoder of transformers that is at hand as a sentence encoder.

    Args:
        projection: ``(embed_dim, width)``, onto a space that it shares with another encoder.

    Raises:
        ModelError: its texts depend on what is read beside them, or it pays no heed to what stands in the slots.
    """
    if reading.lowercase:
        _lowercase(tokenizer, name)
    layers = [_dense(folder, name) for folder in reading.dense]
    after = nn.Sequential(*layers, *([] if projection is None else [_linear(projection)]))
    held = nn.ModuleDict({"text": model, "after": after})
    held.requires_grad_(False)
    held.eval()
    weight = next(model.parameters())
    after.to(device=weight.device, dtype=weight.dtype)

    def finish(output: ModelOutput, mask: Tensor) -> Tensor:
        vector: Tensor = after(pooled(output, mask, reading.pooling))
        return beside_own(vector, [mean_of(output.hidden_states[layer], mask) for layer in reading.hidden_layers])

    most = min(reading.most or UNLIMITED, _most(model, tokenizer, name))
    tower = TextTower(model, tokenizer, finish, most=most, with_states=bool(reading.hidden_layers))
    reads_alike(tower, name)
    heeds_slots(tower, name)
    inputs = TextInputs(tower, name, reading, plain=not len(after))
    with torch.no_grad():
        width = int(inputs.features(inputs.read(["a"])[0]).shape[1])
    beside = len(reading.hidden_layers) * int(model.config.hidden_size)
    return SentenceEncoder(name, tower, inputs, width, reading, held, width - beside)


def beside_own(vector: Tensor, states: Sequence[Tensor]) -> Tensor:
    """Return an encoder's own vector ``(batch, embed_dim)`` with states ``(batch, width)`` of other layers behind it, each of length one.

    Without such states it is the vector itself.

    Example:
        >>> beside_own(torch.tensor([[3.0, 4.0]]), [torch.tensor([[2.0, 0.0]])]).tolist()
        [[0.6000000238418579, 0.800000011920929, 1.0, 0.0]]
    """
    return torch.cat([unit(part) for part in (vector, *states)], -1) if states else vector


def _layers(model: PreTrainedModel, name: str, asked: HiddenLayers) -> tuple[int, ...]:
    depth = int(model.config.num_hidden_layers)
    if isinstance(asked, str):
        return (round(depth * 2 / 3),)
    wrong = [layer for layer in asked if not 0 <= layer <= depth]
    if wrong:
        raise ModelError(f"{name} has no layer {wrong[0]} (model.hidden_layers): it has {depth}, and 0 is what they read.")
    return tuple(asked)


def read_folder(name: str, revision: str | None = None) -> Reading | None:
    """Return how a folder of sentence-transformers says that texts are read; None: it is no such folder.

    Raises:
        ModelError: a file that cannot be read, or a module that is not supported.
    """
    found = model_file(name, MODULES, revision)
    if found is None:
        return None

    def read(inside: str) -> JSON:
        file = model_file(name, inside, revision)
        if file is None:
            return {}
        try:
            return read_object(file)
        except (OSError, ValueError) as error:
            raise ModelError(f"{name}: {inside} cannot be read: {error}.") from error

    try:
        modules = [(str(module["type"]).rpartition(".")[2], str(module["path"])) for module in json.loads(found.read_text("utf-8"))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{name}: {MODULES} cannot be read: {type(error).__name__} {error}.") from error
    if not modules or modules[0][0] != "Transformer":
        raise ModelError(f"{name}: {MODULES} begins with {modules[0][0] if modules else 'nothing'}, and only a Transformer can be read.")
    place = modules[0][1]
    pooling: Pooling | None = None
    dense: list[Path] = []
    prompt, told = _prompt(read("config_sentence_transformers.json"), name)
    for number, (kind, path) in enumerate(modules[1:], start=2):
        if kind == "Pooling" and pooling is None:
            pooling = _pooling(read(f"{path}/config.json"), name, prompt=told)
        elif kind == "Dense" and pooling is not None:
            dense.append(_dense_folder(name, path, revision))
        elif kind != "Dropout" and not (kind == "Normalize" and number == len(modules)):  # features are normalised in the end anyway
            raise ModelError(f"{name}: its module {kind} in {MODULES} is not supported. Supported: Transformer, Pooling, Dense, Normalize.")
    limits = next((held for file in LIMITS if (held := read(f"{place}/{file}" if place else file))), {})
    return Reading(pooling or "mean", limits.get("max_seq_length"), bool(limits.get("do_lower_case", False)), prompt, tuple(dense), place)


def _prompt(about: JSON, name: str) -> tuple[str, bool]:
    """Return the prompt before every text, and whether there is one."""
    chosen = about.get("default_prompt_name")
    if chosen is None:
        return "", False
    prompts = about.get("prompts") or {}
    if chosen not in prompts:
        raise ModelError(f"{name}: its default prompt '{chosen}' is none of its prompts: {', '.join(prompts) or 'there are none'}.")
    return str(prompts[chosen]), bool(prompts[chosen])


def _pooling(about: JSON, name: str, *, prompt: bool) -> Pooling:
    mode = about.get("pooling_mode")
    flags = [key.removeprefix("pooling_mode_") for key, value in about.items() if key.startswith("pooling_mode_") and value is True]
    modes = [mode] if isinstance(mode, str) else list(mode or flags)
    if len(modes) != 1 or modes[0] not in MODES:
        raise ModelError(
            f"{name}: its pooling is {' and '.join(map(str, modes)) or 'none'}, which is not supported: one of {', '.join(MODES)} is."
        )
    if prompt and about.get("include_prompt") is False:
        raise ModelError(f"{name}: its pooling leaves out the tokens of its default prompt (include_prompt), which is not supported.")
    return MODES[modes[0]]


def _dense_folder(name: str, path: str, revision: str | None) -> Path:
    files = [model_file(name, f"{path}/{file}", revision) for file in ("config.json", "model.safetensors")]
    if files[0] is None or files[1] is None:
        raise ModelError(f"{name}: its dense layer {path} needs config.json and model.safetensors.")
    return files[0].parent


def _dense(folder: Path, name: str) -> nn.Module:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        about = read_object(folder / "config.json")
        layer = nn.Linear(int(about["in_features"]), int(about["out_features"]), bias=bool(about.get("bias", True)))
        weights = load_file(folder / "model.safetensors")
        layer.load_state_dict({key.removeprefix("linear."): value.float() for key, value in weights.items()})
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{name}: its dense layer {folder.name} cannot be read: {type(error).__name__} {error}.") from error
    activation = str(about.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    if activation not in ACTIVATIONS:
        raise ModelError(f"{name}: the activation {activation} of its dense layer is not supported. Known: {', '.join(ACTIVATIONS)}.")
    return nn.Sequential(layer, ACTIVATIONS[activation]())


def _linear(weight: Tensor) -> nn.Module:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer


def _lowercase(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Let a tokenizer write every text in small letters first."""
    from tokenizers import normalizers

    if not tokenizer.is_fast:
        raise ModelError(f"{name} asks for small letters (do_lower_case), which its tokenizer, one of its own in Python, cannot be told.")
    backend = tokenizer.backend_tokenizer
    own = [] if backend.normalizer is None else [backend.normalizer]
    backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])


def _most(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> int:
    """Return the most tokens that an encoder reads, as its config and its tokenizer say."""
    limit = int(tokenizer.model_max_length)
    return min(context_length(FrozenModel(model, tokenizer, "encoder", name)), limit if limit < UNLIMITED else UNLIMITED)

"""Dual encoders of two or three layers, and pictures, for tests: nothing is downloaded."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image

from maao.codecs.method import MethodCodec, Start
from maao.codecs.nearest_token import NearestTokenCodec
from maao.codecs.no_words import NoWords
from maao.problems.methods import Bound
from maao.problems.pictures import PictureProblem, PictureReader
from maao.problems.scorers.matcher import Known, Matcher, class_anchors
from maao.problems.scorers.probes import NoPrompt, Probe
from maao.problems.towers.class_prompts import ClassTemplate, prompts_of
from maao.problems.towers.dual import DualEncoder
from maao.problems.towers.dual_loading import from_transformers, paired
from maao.problems.towers.features import KnownFeatures
from maao.problems.towers.image.preprocess import Preprocess
from maao.types import Example, Splits

WORDS = ("photo", "of", "cat", "dog", "sea", "lion", "the", "drawing", "small")
NAMES = ("cat", "dog", "sea lion")
LENGTH = 20


@cache
def clip_tokenizer() -> Any:
    """Return a CLIP tokenizer of single letters and a few whole words; its last two ids begin and end a text."""
    from transformers import CLIPTokenizer

    vocab: dict[str, int] = {}
    merges: list[tuple[str, str]] = []
    for letter in "abcdefghijklmnopqrstuvwxyz.":
        vocab[letter] = len(vocab)
        vocab[f"{letter}</w>"] = len(vocab)
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            pair = (parts[0], parts[1])
            if pair not in merges:
                merges.append(pair)
            vocab.setdefault("".join(pair), len(vocab))
            parts = ["".join(pair), *parts[2:]]
    vocab["<|startoftext|>"] = len(vocab)
    vocab["<|endoftext|>"] = len(vocab)
    return CLIPTokenizer(vocab=vocab, merges=merges)


def clip_model(*, legacy: bool = False, layers: int = 3, seed: int = 0) -> Any:
    """Return a CLIP of small towers; `legacy` pools at the highest id, as checkpoints with ``eos_token_id = 2`` do."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(seed)
    count = len(clip_tokenizer())
    text = {
        "vocab_size": count,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": LENGTH,
        "bos_token_id": count - 2,
        "eos_token_id": 2 if legacy else count - 1,
        "pad_token_id": count - 1,
    }
    vision = {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 8,
    }
    return _spread(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)))


def siglip_model() -> Any:
    from transformers import SiglipConfig, SiglipModel

    torch.manual_seed(0)
    count = len(clip_tokenizer())
    text = {
        "vocab_size": count,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": LENGTH,
        "bos_token_id": count - 2,
        "eos_token_id": count - 1,
        "pad_token_id": count - 1,
        "projection_size": 32,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 8,
    }
    return _spread(SiglipModel(SiglipConfig(text_config=text, vision_config=vision)))


def _spread(model: Any) -> Any:
    """Give matrices weights large enough that layers matter."""
    for value in model.parameters():
        if value.dim() > 1:
            value.data.normal_(0, 0.2)
    return model.eval()


def clip_encoder(**options: Any) -> DualEncoder:
    return from_transformers(clip_model(**options), clip_tokenizer(), "tiny CLIP", pixels=Preprocess.square(32))


def siglip_encoder() -> DualEncoder:
    return from_transformers(siglip_model(), clip_tokenizer(), "tiny SigLIP", pixels=Preprocess.square(32))


def pair_encoder() -> DualEncoder:
    """Return a BERT with a ViT: both read in the mean, as the packaged testbed is."""
    from transformers import BertConfig, BertModel, ViTConfig, ViTModel

    torch.manual_seed(0)
    text = BertConfig(
        vocab_size=len(clip_tokenizer()), hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64, pad_token_id=0
    )
    vision = ViTConfig(hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96, image_size=32, patch_size=8)
    return paired(
        _spread(ViTModel(vision, add_pooling_layer=False)),
        _spread(BertModel(text)),
        clip_tokenizer(),
        torch.randn(24, 48) * 0.2,
        torch.randn(24, 32) * 0.2,
        "mean",
        "mean",
        scale=10.0,
        pixels=Preprocess.square(32),
        name="tiny pair",
    )


def codec(method: Any, encoder: DualEncoder, initial: Any = "text", text: str = "a photo of a") -> MethodCodec:
    """Return the words of a method's context of four rows."""
    nearest = NearestTokenCodec(encoder.text.tokenizer, encoder.text.table, num_virtual_tokens=4)
    return MethodCodec(method, nearest, Start(initial, 4, encoder.text.width, text=text))


class Given(KnownFeatures):
    """Inputs whose features, and perhaps pixels, are at hand."""

    def __init__(self, features: torch.Tensor, pixels: torch.Tensor | None = None) -> None:
        super().__init__(*features.shape)
        self.features, self._raw = features, pixels

    def fill(self, store: Any) -> Given:
        return self

    def num_tokens(self, which: Any) -> int:
        return 0

    def raw(self, which: Any, views: Any = None) -> Any:
        assert self._raw is not None
        return self._raw[list(which)]


def known(features: torch.Tensor, pixels: torch.Tensor | None = None) -> Known:
    return Known.all_of(Given(features, pixels), features.device)


def start(method: Any, seed: int, rows: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return all params of a method as it begins at these rows."""
    return {**method.start(rows), **method.extra(seed)}


def problem(method: Any, encoder: DualEncoder, *start: Any, **options: Any) -> PictureProblem:
    """Return the problem of a method, or of a probe, on the tiny pictures; `options` are the reader's and the problem's."""
    own = {name: options.pop(name) for name in ("store", "views") if name in options}
    reader = PictureReader(encoder, Pictures(), batch=options.get("score_batch", 64), **own)
    if isinstance(method, Probe):
        return PictureProblem(NoPrompt(), method, NoWords(), reader, splits(), **options)
    return PictureProblem(method, Matcher(method), codec(method, encoder, *start), reader, splits(), **options)


ENCODERS = {"clip": clip_encoder, "siglip": siglip_encoder, "pair": pair_encoder}


def bound(encoder: DualEncoder, template: str = "{slots} {class}.", *, part_tokens: int = 0, names: tuple[str, ...] = NAMES) -> Bound:
    """Return three classes with four slots, and their features in "a photo of the ...."."""
    prompts = prompts_of(ClassTemplate.parse(template), encoder.text.tokenizer, names, 4, encoder.text.most)
    return Bound(encoder, prompts, class_anchors(encoder, names, ["a photo of the {class}."]), part_tokens)


def rows(encoder: DualEncoder, text: str = "a drawing of the") -> torch.Tensor:
    """Return the embeddings of a text of four tokens."""
    found: torch.Tensor = encoder.text.table[encoder.text.tokenizer(text, add_special_tokens=False).input_ids].clone()
    return found


class Pictures:
    """Pictures by key, ``class/number``: noise on a ground that tells the class."""

    def __init__(self) -> None:
        self.opened = 0

    def open(self, key: str) -> Image.Image:
        self.opened += 1
        label, _, number = key.partition("/")
        draw = np.random.default_rng([len(label), ord(label[0]), int(number)])
        ground = np.random.default_rng(ord(label[0])).integers(0, 200, 3)
        return Image.fromarray((draw.integers(0, 56, (40, 36, 3)) + ground).astype(np.uint8))


def splits(train: int = 4, select: int = 3, test: int = 3) -> Splits:
    def part(begin: int, count: int) -> tuple[Example, ...]:
        return tuple(Example({"image": f"{name}/{i}"}, name) for name in NAMES for i in range(begin, begin + count))

    return Splits(part(0, train), part(train, select), part(train + select, test), NAMES)

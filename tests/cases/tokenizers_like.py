"""Tokenizers as they come with well-known models, made on the spot."""

from __future__ import annotations

from functools import cache
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tests.tiny import CORPUS, unigram

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


@cache
def _pieces() -> tuple[dict[str, int], tuple[tuple[str, str], ...]]:
    """Return the vocabulary and the merges of a BPE over words that begin with ``▁``, as SentencePiece makes one."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>", "<s>", "</s>", *BYTES]))
    import json

    model = json.loads(trained.to_str())["model"]
    return model["vocab"], tuple(map(tuple, model["merges"]))


@cache
def llama2(scheme: str = "prepend", *, bos: bool = True, eos: bool = False) -> Any:
    """Byte fallback, `<s>` in front, a space before the first word: by a normalizer ("prepend"), or as Metaspace's "first" or "always"."""
    vocabulary, merges = _pieces()
    own = Tokenizer(models.BPE(vocab=dict(vocabulary), merges=list(merges), unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if scheme == "prepend":
        own.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        own.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    own.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    single = " ".join((["<s>"] if bos else []) + ["$A"] + (["</s>"] if eos else []))
    own.post_processor = processors.TemplateProcessing(single, special_tokens=[("<s>", 1), ("</s>", 2)])
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=own, **names)


@cache
def prefixed_bytes() -> Any:
    """A byte-level BPE with `add_prefix_space`, as BART and RoBERTa are loaded for words that are cut already."""
    from tests.tiny import bpe_tokenizer

    own = Tokenizer.from_str(bpe_tokenizer().backend_tokenizer.to_str())
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return PreTrainedTokenizerFast(tokenizer_object=own, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


@cache
def xlm_roberta() -> Any:
    """A Unigram that normalises (NFKC), with `<s>` and `</s>` around a text and a mask that takes the space before it."""
    own = unigram(["<s>", "<pad>", "</s>", "<unk>"])
    own.normalizer = normalizers.NFKC()
    own.pre_tokenizer = pre_tokenizers.Metaspace()
    own.decoder = decoders.Metaspace()
    own.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> </s> $B </s>", [("<s>", 0), ("</s>", 2)])
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=own, mask_token=AddedToken("<mask>", lstrip=True, special=True), **names)

"""Tiny models, built from configs, with a tokenizer trained on the spot: real architectures, no downloads, milliseconds."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from maao.problems.language.loading import FrozenModel
from maao.types import Example, Splits

WORDS = (
    "music film actor song album award star team match goal player coach win cup race game shares "
    "profit market bank economy growth firm trade price sales minister party election vote law government policy tax "
    "plan software phone internet online mobile computer web data topic news sport business world about the a "
    "of in to and is was it great terrible good bad movie text answer label Topic It"
).split()
CORPUS = [f" {a} {b} {c}" for a, b, c in zip(WORDS, WORDS[7:] + WORDS[:7], WORDS[13:] + WORDS[:13], strict=True)] * 4
LABELS = ("business", "music", "sport")


@cache
def bpe_tokenizer() -> Any:
    """A byte-level BPE, as GPT-2, SmolLM2 and RoBERTa have one."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=["<pad>", "<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


@cache
def roberta_tokenizer() -> Any:
    """The same with `<s>` and `</s>` around a text."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer.from_str(bpe_tokenizer().backend_tokenizer.to_str())
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 1), add_prefix_space=False, trim_offsets=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>"
    )


@cache
def wordpiece_tokenizer() -> Any:
    """A WordPiece with `[CLS]` and `[SEP]`, as BERT has one."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def tiny_model(architecture: str, seed: int = 0) -> FrozenModel:
    """Return a random 2-layer model: "gpt2", "llama", "gemma3" (scaled embeddings), "gemma2" (capped logits), "bert" or "roberta"."""
    import transformers as hf

    torch.manual_seed(seed)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 66}
    if architecture in ("bert", "roberta"):
        tokenizer = wordpiece_tokenizer() if architecture == "bert" else roberta_tokenizer()
        config = (hf.BertConfig if architecture == "bert" else hf.RobertaConfig)(vocab_size=len(tokenizer), pad_token_id=0, **small)
        model: Any = (hf.BertModel if architecture == "bert" else hf.RobertaModel)(config)
        return _frozen(model, tokenizer, "encoder", architecture)
    tokenizer = bpe_tokenizer()
    ids = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if architecture == "gpt2":
        model = hf.GPT2LMHeadModel(hf.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=66, **ids))
    elif architecture == "llama":
        model = hf.LlamaForCausalLM(hf.LlamaConfig(num_key_value_heads=2, **small, **ids))
    elif architecture == "gemma3":
        model = hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(num_key_value_heads=2, head_dim=8, **small, **ids))
    else:
        model = hf.Gemma2ForCausalLM(hf.Gemma2Config(num_key_value_heads=2, head_dim=8, final_logit_softcapping=1.0, **small, **ids))
    with torch.no_grad():  # larger weights than a fresh model's, so that what is read depends on the input
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    return _frozen(model, tokenizer, "decoder", architecture)


def _frozen(model: Any, tokenizer: Any, kind: Any, name: str) -> FrozenModel:
    model.requires_grad_(False)
    return FrozenModel(model.eval(), tokenizer, kind, f"tiny-{name}")


def tiny_splits(per_class: int = 6) -> Splits:
    """Return three small disjoint splits of made-up headlines in three classes, told apart by their words."""
    topical = {
        "business": ["shares", "profit", "market", "bank", "economy", "growth", "firm", "trade", "price", "sales"],
        "music": ["music", "film", "actor", "song", "album", "award", "star", "movie"],
        "sport": ["team", "match", "goal", "player", "coach", "win", "cup", "race", "game"],
    }
    examples: dict[str, list[Example]] = {"train": [], "select": [], "test": []}
    for label, words in topical.items():
        pairs = [f"{a} {b} the news" if i % 2 else f"{a} {b}" for i, a in enumerate(words) for b in words if a < b]
        for i, text in enumerate(pairs[: 3 * per_class]):
            examples[("train", "select", "test")[i % 3]].append(Example({"text": text}, label))
    return Splits(tuple(examples["train"]), tuple(examples["select"]), tuple(examples["test"]), LABELS, digest="tiny")

"""Tiny models, built from configs, with a tokenizer trained on the spot: real architectures, no downloads, milliseconds."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from maao.problems.towers.text.loading import FrozenModel
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
    """The same with `<s>` and `</s>` around a text, `</s></s>` between two, and a mask that takes the space before it."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer.from_str(bpe_tokenizer().backend_tokenizer.to_str())
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 1), add_prefix_space=False, trim_offsets=False)
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token=AddedToken("<mask>", lstrip=True, special=True), **names)


LETTERS = sorted(set("".join(WORDS)))
PAIRS = sorted({word[i : i + 2] for word in WORDS for i in range(len(word) - 1)})
"""The trainers of WordPiece and Unigram order pieces anew in each process: these vocabularies are written, so that values repeat."""


def unigram(special: list[str]) -> Tokenizer:
    """Return a Unigram of whole words, pairs of letters and letters, the longer the likelier; `special` comes first and has `<unk>`."""
    words, letters = [f"▁{word}" for word in sorted(set(WORDS))], ["▁", *LETTERS]
    ranked = ((-4, words), (-7, PAIRS), (-6, letters))
    scored = [(piece, first - 0.001 * i) for first, pieces in ranked for i, piece in enumerate(pieces)]
    tokenizer = Tokenizer(models.Unigram([*((name, 0.0) for name in special), *scored], unk_id=special.index("<unk>")))
    tokenizer.add_special_tokens(special)
    return tokenizer


@cache
def t5_tokenizer() -> Any:
    """A Unigram with words marked as SentencePiece marks them, `</s>` behind a text, and sentinels."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = unigram(["<pad>", "</s>", "<unk>", "<extra_id_0>", "<extra_id_1>"])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


@cache
def wordpiece_tokenizer() -> Any:
    """A WordPiece with `[CLS]` and `[SEP]`, as BERT has one."""
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    parts = [*LETTERS, *PAIRS]
    pieces = [*special, *parts, *(f"##{part}" for part in parts), *sorted(set(WORDS) - set(parts))]
    tokenizer = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(special)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def tiny_model(architecture: str, seed: int = 0) -> FrozenModel:
    """Return a random 2-layer model.

    Decoders: "gpt2", "llama", "qwen2", "gemma3" (scaled embeddings), "gemma2" (capped logits); encoders: "bert", "roberta", "deberta";
    masked models: "bert_masked", "roberta_masked", "deberta_masked"; encoder-decoders: "t5".
    """
    import transformers as hf

    torch.manual_seed(seed)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 66}
    base, _, masked = architecture.partition("_")
    if base in ("bert", "roberta", "deberta"):
        tokenizer = roberta_tokenizer() if base == "roberta" else wordpiece_tokenizer()
        name = {"bert": "Bert", "roberta": "Roberta", "deberta": "DebertaV2"}[base]
        further = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]} if base == "deberta" else {}
        config = getattr(hf, f"{name}Config")(vocab_size=len(tokenizer), pad_token_id=0, **small, **further)
        model: Any = getattr(hf, f"{name}{'ForMaskedLM' if masked else 'Model'}")(config)
        return _frozen(_enlarged(model) if masked else model, tokenizer, "masked" if masked else "encoder", architecture)
    if base == "t5":
        tokenizer = t5_tokenizer()
        ids = {"vocab_size": len(tokenizer), "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
        config = hf.T5Config(d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, **ids)
        return _frozen(hf.T5ForConditionalGeneration(config), tokenizer, "encoder_decoder", architecture)
    tokenizer = bpe_tokenizer()
    ids = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if architecture == "gpt2":
        model = hf.GPT2LMHeadModel(hf.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=66, **ids))
    elif architecture == "llama":
        model = hf.LlamaForCausalLM(hf.LlamaConfig(num_key_value_heads=2, **small, **ids))
    elif architecture == "qwen2":
        model = hf.Qwen2ForCausalLM(hf.Qwen2Config(num_key_value_heads=2, **small, **ids))
    elif architecture == "gemma3":
        model = hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(num_key_value_heads=2, head_dim=8, **small, **ids))
    else:
        model = hf.Gemma2ForCausalLM(hf.Gemma2Config(num_key_value_heads=2, head_dim=8, final_logit_softcapping=1.0, **small, **ids))
    return _frozen(_enlarged(model), tokenizer, "decoder", architecture)


def _enlarged(model: Any) -> Any:
    """Return a model with larger weights than a fresh one's, so that what is read depends on the input."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    return model


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

"""Sentence encoders of two layers for tests, and folders of sentence-transformers around them: nothing is downloaded."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, processors

from maao.problems.towers.dual import DualEncoder
from maao.problems.towers.text.matching import matcher_of
from maao.problems.towers.text.sentence import Reading, SentenceEncoder, sentence_encoder
from tests.tiny import bpe_tokenizer, roberta_tokenizer, wordpiece_tokenizer

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 66}
MODES = {"mean": "mean_tokens", "first": "cls_token", "last": "lasttoken", "max": "max_tokens", "weighted_mean": "weightedmean_tokens"}


@cache
def causal_tokenizer() -> Any:
    """A byte-level BPE that puts an end token behind a text, as causal sentence encoders have one: it is read there."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer.from_str(bpe_tokenizer().backend_tokenizer.to_str())
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", padding_side="left")


def tiny_text_model(architecture: str, *, width: int = 32) -> tuple[Any, Any, Any]:
    """Return a random model, its tokenizer, and how such models are pooled: "bert", "roberta", "mpnet", "llama" or "gemma3"."""
    import transformers as hf

    torch.manual_seed(0)
    tokenizer = {"roberta": roberta_tokenizer, "mpnet": roberta_tokenizer, "bert": wordpiece_tokenizer}.get(
        architecture, causal_tokenizer
    )()
    names = {"bert": "Bert", "roberta": "Roberta", "mpnet": "MPNet", "llama": "Llama", "gemma3": "Gemma3Text"}
    own = {"bos_token_id": 1, "eos_token_id": 2} if architecture in ("llama", "gemma3") else {}
    own |= {"head_dim": 8} if architecture == "gemma3" else {}
    config = getattr(hf, f"{names[architecture]}Config")(
        **{**SMALL, "hidden_size": width}, vocab_size=len(tokenizer), pad_token_id=0, **own
    )
    model = getattr(hf, f"{names[architecture]}Model")(config)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn(value.shape, generator=draw))
    return model.eval(), tokenizer, "last" if architecture in ("llama", "gemma3") else "mean"


def tiny_sentence_encoder(architecture: str = "bert", **reading: Any) -> SentenceEncoder:
    model, tokenizer, pooling = tiny_text_model(architecture)
    return sentence_encoder(model, tokenizer, f"tiny-{architecture}", Reading(**{"pooling": pooling, **reading}))


def tiny_matcher(architecture: str = "bert", **reading: Any) -> DualEncoder:
    """Return a dual encoder of one random sentence encoder."""
    encoder = tiny_sentence_encoder(architecture, **reading)
    return matcher_of(encoder, encoder, encoder.name)


def sentence_folder(
    folder: Path,
    architecture: str = "bert",
    *,
    pooling: str | None = None,
    max_length: int | None = None,
    lowercase: bool = False,
    prompts: dict[str, Any] | None = None,
    dense: int | None = None,
    include_prompt: bool = True,
    place: str = "",
) -> tuple[Path, Any, Any]:
    """Save a tiny model as a folder of sentence-transformers, and return the folder, the model and its tokenizer."""
    model, tokenizer, own = tiny_text_model(architecture)
    inside = folder / place
    model.save_pretrained(inside)
    tokenizer.save_pretrained(inside)
    kinds = [("Transformer", place), ("Pooling", "1_Pooling"), *([("Dense", "2_Dense")] if dense else []), ("Normalize", "3_Normalize")]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"} for i, (kind, path) in enumerate(kinds)
    ]
    write(folder / "modules.json", modules)
    flags = {f"pooling_mode_{name}": name == MODES[pooling or own] for name in MODES.values()}
    write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32, **flags, "include_prompt": include_prompt})
    write(inside / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": lowercase})
    if prompts is not None:
        write(folder / "config_sentence_transformers.json", prompts)
    if dense:
        write(
            folder / "2_Dense" / "config.json",
            {"in_features": 32, "out_features": dense, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh"},
        )
        draw = torch.Generator().manual_seed(1)
        weights = {"linear.weight": torch.randn(dense, 32, generator=draw), "linear.bias": torch.randn(dense, generator=draw)}
        save_file(weights, folder / "2_Dense" / "model.safetensors")
    return folder, model, tokenizer


def write(path: Path, held: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(held), encoding="utf-8")

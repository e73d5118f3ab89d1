"""The cases of the zoo: every class of the three kinds of language model that transformers knows, as a tiny random model in a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from tests.tiny import bpe_tokenizer, roberta_tokenizer, t5_tokenizer, wordpiece_tokenizer
from tests.zoo.shrink import small_config
from tests.zoo.table import LEFT_OUT, OVERRIDES, WORDPIECE

MAPPINGS = {
    "decoder": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "masked": "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "encoder_decoder": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
}
ENOUGH = 0.15  # how much the weights of a matrix vary at least, so that what is read depends on the text
MOST = 20_000_000  # weights of a tiny model


@dataclass(frozen=True, slots=True)
class Case:
    """A model type read as one kind, such as `decoder:llama`."""

    kind: str
    type: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.type}"


@cache
def all_cases() -> tuple[Case, ...]:
    """Return every class of the mappings as a case; a class for masked text is read by a head too."""
    from transformers.models.auto import modeling_auto

    found = [Case(kind, name) for kind, mapping in MAPPINGS.items() for name in getattr(modeling_auto, mapping)]
    return (*found, *(Case("encoder", case.type) for case in found if case.kind == "masked"))


def checked_cases() -> tuple[Case, ...]:
    """Return the cases of which there is a tiny model: all but those that the table leaves out."""
    return tuple(case for case in all_cases() if str(case) not in LEFT_OUT)


def save_config(case: Case, folder: Path) -> None:
    """Write a case's default config and a tokenizer, without weights: enough for what is refused by its type."""
    import transformers as hf

    hf.CONFIG_MAPPING[case.type]().save_pretrained(folder)
    _tokenizer(case).save_pretrained(folder)


def save_tiny(case: Case, folder: Path) -> Any:
    """Write a case's model and tokenizer as `save_pretrained` does; return the model."""
    import transformers as hf

    tokenizer = _tokenizer(case)
    overrides = OVERRIDES.get(str(case), OVERRIDES.get(case.type, {}))
    config = small_config(hf.CONFIG_MAPPING[case.type], overrides, _vocabulary(tokenizer))
    auto = {
        "decoder": hf.AutoModelForCausalLM,
        "masked": hf.AutoModelForMaskedLM,
        "encoder": hf.AutoModel,
        "encoder_decoder": hf.AutoModelForSeq2SeqLM,
    }[case.kind]
    if case.kind == "encoder_decoder":
        config.decoder_start_token_id = tokenizer.pad_token_id  # not every config class names it
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in auto.from_config(config).parameters())
    assert size < MOST, f"{case} has {size} weights: it is not small"
    torch.manual_seed(0)
    model = enlarged(auto.from_config(config)).eval()
    model.save_pretrained(folder)
    if type(model.config) is not type(config):  # a checkpoint of several towers, of which this class reads the text's
        config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def enlarged(model: torch.nn.Module) -> torch.nn.Module:
    """Return a model whose matrices are large enough, and whose vectors (biases, norms) differ from their plain start.

    A fresh model's answer hardly depends on its input, and its biases are zero: what is compared would agree whatever is wrong.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.is_floating_point():
                continue
            if parameter.dim() < 2:
                parameter.add_(torch.randn_like(parameter) * 0.05)
            elif parameter.std() == 0:
                parameter.copy_(torch.randn_like(parameter) * ENOUGH)
            elif parameter.std() < ENOUGH:
                parameter.mul_(ENOUGH / parameter.std())
    return model


def _tokenizer(case: Case) -> Any:
    if "t5" in case.type or case.type == "switch_transformers":
        return t5_tokenizer()
    if case.kind == "decoder":
        return bpe_tokenizer()
    if case.type == "mpnet":
        return _padding_second(roberta_tokenizer())
    return wordpiece_tokenizer() if case.type in WORDPIECE else roberta_tokenizer()


def _padding_second(tokenizer: Any) -> Any:
    """Return a tokenizer whose padding has the id 1, as MPNet's code takes for granted."""
    from transformers import PreTrainedTokenizerFast

    text = tokenizer.backend_tokenizer.to_str()
    swapped = json.loads(text.replace('"<pad>"', '"<?>"').replace('"<s>"', '"<pad>"').replace('"<?>"', '"<s>"'))
    swapped["post_processor"]["cls"] = ["<s>", 0]
    swapped["added_tokens"].sort(key=lambda token: token["id"])
    names = {f"{name}_token": getattr(tokenizer, f"{name}_token") for name in ("bos", "eos", "cls", "sep", "mask", "pad")}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(swapped)), **names)


def _vocabulary(tokenizer: Any) -> dict[str, int]:
    """Return what configs say of a vocabulary, under each name that they have for it."""
    ids = {"pad": tokenizer.pad_token_id, "bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "mask": tokenizer.mask_token_id}
    ids |= {"bos": ids["bos"] if ids["bos"] is not None else tokenizer.cls_token_id, "sep": tokenizer.sep_token_id}
    ids["eos"] = ids["eos"] if ids["eos"] is not None else tokenizer.sep_token_id
    found = {f"{name}_token_id": value for name, value in ids.items() if value is not None}
    beyond = ("image_token_id", "image_token_index", "video_token_id", "audio_token_id")  # no text has these
    found |= {name: len(tokenizer) + i for i, name in enumerate(beyond)}
    return {**found, "vocab_size": len(tokenizer) + 8, "decoder_start_token_id": found["pad_token_id"]}

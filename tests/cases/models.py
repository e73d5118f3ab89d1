"""Tiny random models of many families, and what plain transformers gives for a text alone: the right value of everything here."""

from __future__ import annotations

from typing import Any

import torch

from maao.build_text import build_language
from maao.config import make_config
from maao.problems.text_problem import TextProblem
from maao.problems.towers.text.forward import decoder_start, embedding_table
from maao.problems.towers.text.loading import FrozenModel
from maao.types import Example
from tests.tiny import LABELS, _enlarged, bpe_tokenizer, tiny_splits, wordpiece_tokenizer

WINDOW = 16
SMALL = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 256}
GROUPED = {**SMALL, "num_key_value_heads": 2, "head_dim": 8}
BARTISH = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 128,
    "decoder_start_token_id": 2,
}


def frozen(name: str, kind: str = "decoder", tokenizer: Any = None, **settings: Any) -> FrozenModel:
    """Return a random model of a class of transformers, by the name of its config's class without "Config"; `settings` are its config's."""
    import transformers as hf

    torch.manual_seed(0)
    tokenizer = tokenizer or (bpe_tokenizer() if kind != "masked" else wordpiece_tokenizer())
    end = {"decoder": "ForCausalLM", "masked": "ForMaskedLM", "encoder_decoder": "ForConditionalGeneration", "encoder": "Model"}[kind]
    config = getattr(hf, f"{name}Config")(
        **{"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **settings}
    )
    base = name.removesuffix("Text")
    made = f"{name}LMHeadModel" if name in ("GPT2", "OpenAIGPT", "XLNet") else base + end
    model = _enlarged(getattr(hf, made)(config))
    with torch.no_grad():
        for parameter in model.parameters():
            if not bool(parameter.any()):  # what begins at zero would hide a whole path
                parameter.normal_(std=0.1)
    return FrozenModel(model.requires_grad_(False).eval(), tokenizer, kind, f"tiny-{base}")  # type: ignore[arg-type]


def problem_of(model: FrozenModel, template: str, *, rows: int = 24, **settings: Any) -> TextProblem:
    """Return the problem as a run would build it."""
    splits = tiny_splits(2)
    section = {"template": template, "num_virtual_tokens": rows, "label_words": dict(zip(LABELS, LABELS, strict=True)), **settings}
    if model.kind == "encoder":
        del section["label_words"]
    return build_language(make_config({"model": section}), splits, model)[0].plain


def some_tokens(model: FrozenModel, count: int) -> list[int]:
    words = model.tokenizer(" music team bank film shares award", add_special_tokens=False).input_ids
    return (words * count)[:count]


def plain_scores(problem: TextProblem, ids: list[int], text: str) -> torch.Tensor:
    """Return the class probabilities that transformers gives for a text with the soft prompt's words in it, and nothing beside it."""
    row = problem.tokenizer({"text": text})
    tokens = torch.tensor([[*row.before, *ids, *row.after]])
    model, reader = problem.frozen.model, problem.scorer
    found = []
    for word in reader.words:  # type: ignore[attr-defined]
        with torch.no_grad():
            if problem.frozen.kind == "encoder_decoder":
                spoken = torch.tensor([[decoder_start(problem.frozen), *word[:-1]]])
                logits = model(input_ids=tokens, decoder_input_ids=spoken).logits[0]
            elif problem.frozen.kind == "masked":
                assert len(word) == 1
                where = tokens[0].tolist().index(problem.frozen.tokenizer.mask_token_id)
                logits = model(input_ids=tokens).logits[0, where:]
            else:
                logits = model(input_ids=torch.cat([tokens, torch.tensor([[*word[:-1]]], dtype=torch.long)], dim=1)).logits[0, -len(word) :]
        found.append(torch.stack([logits[i].log_softmax(-1)[token] for i, token in enumerate(word)]).mean())
    return torch.stack(found).softmax(-1)


def texts(*lengths: int) -> list[str]:
    words = "shares profit market bank the music film team match goal news award".split()
    return [" ".join((words[i:] + words[:i]) * length)[: 5 * length].strip() for i, length in enumerate(lengths)]


def check(problem: TextProblem, given: list[str]) -> None:
    """Check that texts together have the probabilities that transformers gives for each alone."""
    ids = some_tokens(problem.frozen, len(problem.initial(0)["prompt"]))
    params = {"prompt": embedding_table(problem.frozen)[ids]}
    wanted = torch.stack([plain_scores(problem, ids, text) for text in given])
    assert float((wanted[0] - wanted[1]).abs().max()) > 1e-3  # what is read depends on the text
    together = problem.probabilities(params, [Example({"text": text}, "") for text in given])
    torch.testing.assert_close(together, wanted, rtol=1e-4, atol=1e-5)
    apart = torch.cat([problem.probabilities(params, [Example({"text": text}, "")]) for text in given])
    torch.testing.assert_close(apart, wanted, rtol=1e-4, atol=1e-5)

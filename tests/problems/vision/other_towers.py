"""Towers whose vocabularies mark words in ways that CLIP's and BERT's do not, and the pair of transformers itself; all weights random."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from maao.problems.towers.dual import DualEncoder
from maao.problems.towers.dual_loading import from_transformers, paired
from maao.problems.towers.image.preprocess import Preprocess
from tests.tiny import CORPUS, roberta_tokenizer, wordpiece_tokenizer

LENGTH = 24
LAYERS = {"num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
WORDS = "the news about a"  # four tokens of each vocabulary
NAMES = ("music", "bank growth", "internet phone shares")


@cache
def sentence_pieces() -> Any:
    """A BPE whose words carry SentencePiece's mark in front, with `</s>` behind a text and nothing before it."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    letters = [*"abcdefghijklmnopqrstuvwxyz.▁"]
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=special, initial_alphabet=letters, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def randomised(model: Any) -> Any:
    """Return a model whose weights are all random, norms and biases too, so that a part that is left out shows."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=draw)
            if value.dim() > 1:
                value.copy_(0.2 * noise)
            elif value.dim() == 1 and "logit" not in name:
                value.add_(0.2 * noise)
    return model.eval()


def siglip_model() -> Any:
    from transformers import SiglipConfig, SiglipModel

    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1}
    text = {"vocab_size": len(sentence_pieces()), "max_position_embeddings": LENGTH, "hidden_size": 32, **ids, **LAYERS}
    vision = {"hidden_size": 32, "image_size": 32, "patch_size": 8, **LAYERS}
    model = randomised(SiglipModel(SiglipConfig(text_config=text, vision_config=vision)))
    with torch.no_grad():
        model.logit_bias.fill_(-2.0)
    return model


def vit_model(**options: Any) -> Any:
    from transformers import ViTConfig, ViTModel

    return randomised(ViTModel(ViTConfig(hidden_size=48, image_size=32, patch_size=8, **LAYERS), **options))


def bert_model() -> Any:
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=len(wordpiece_tokenizer()), hidden_size=32, max_position_embeddings=LENGTH, **LAYERS)
    return randomised(BertModel(config))


def vision_text_model() -> Any:
    from transformers import VisionTextDualEncoderConfig, VisionTextDualEncoderModel

    vision, text = vit_model(), bert_model()
    config = VisionTextDualEncoderConfig.from_vision_text_configs(vision.config, text.config, projection_dim=24)
    return randomised(VisionTextDualEncoderModel(config, vision_model=vision, text_model=text))


def other_encoder(kind: str) -> DualEncoder:
    """Return "sentence pieces" (a SigLIP), "byte level" (a RoBERTa with a ViT) or "vision-text"."""
    pixels = Preprocess.square(32)
    if kind == "sentence pieces":
        return from_transformers(siglip_model(), sentence_pieces(), "tiny SigLIP", pixels=pixels)
    if kind == "vision-text":
        return from_transformers(vision_text_model(), wordpiece_tokenizer(), "tiny vision-text", pixels=pixels)
    from transformers import RobertaConfig, RobertaModel

    # RoBERTa counts positions from behind its padding: one more than it reads
    config = RobertaConfig(
        vocab_size=len(roberta_tokenizer()), hidden_size=32, max_position_embeddings=LENGTH + 1, pad_token_id=0, **LAYERS
    )
    draw = torch.Generator().manual_seed(1)
    projections = [0.2 * torch.randn(24, width, generator=draw) for width in (48, 32)]
    towers = vit_model(add_pooling_layer=False), randomised(RobertaModel(config)), roberta_tokenizer()
    return paired(*towers, *projections, "first", "mean", scale=9.0, pixels=pixels, name="tiny byte level")

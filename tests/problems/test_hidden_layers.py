"""Hidden layers of a text encoder beside its own vector."""

from __future__ import annotations

import pytest
import torch

from maao.errors import ModelError
from maao.problems.towers.dual import unit
from maao.problems.towers.text.matching import load_text_matcher
from tests.tiny_sentence import sentence_folder

TEXTS = ("a song", "an album of old songs")


def features(folder, **options):
    encoder = load_text_matcher(str(folder), **options)
    return encoder, encoder.input.features(encoder.input.read(TEXTS)[0])


def test_a_layers_mean_over_tokens_stands_beside_the_encoders_own_vector(tmp_path):
    folder = sentence_folder(tmp_path)[0]
    plain, own = features(folder)
    encoder, both = features(folder, hidden_layers=[1])
    assert (plain.embed_dim, encoder.embed_dim, encoder.own_dim) == (32, 64, 32)
    assert torch.allclose(both.norm(dim=-1), torch.ones(2))
    assert torch.allclose(encoder.own(both), own, atol=1e-6)
    model, tokenizer = encoder.input.tower.model, encoder.input.tower.tokenizer
    for text, found in zip(TEXTS, both, strict=True):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states[1]
        assert torch.allclose(found[32:], unit(states.mean(1))[0] / 2**0.5, atol=1e-6)


def test_its_features_are_kept_under_keys_of_their_own(tmp_path):
    folder = sentence_folder(tmp_path)[0]
    abouts = {load_text_matcher(str(folder), hidden_layers=layers).input.about for layers in ((), (0,), (1,), "two_thirds")}
    assert len(abouts) == 3  # of two layers the one two thirds up is the first


def test_a_layer_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"has no layer 7 \(model\.hidden_layers\): it has 2"):
        load_text_matcher(str(sentence_folder(tmp_path)[0]), hidden_layers=[7])

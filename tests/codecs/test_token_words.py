"""Whole words of a vocabulary, near and random."""

from __future__ import annotations

import torch

from maao.codecs.nearest_token import NearestTokenCodec
from maao.codecs.token_words import TokenWords
from tests.tiny import wordpiece_tokenizer


def words():
    tokenizer = wordpiece_tokenizer()
    table = torch.randn(len(tokenizer), 8, generator=torch.Generator().manual_seed(0))
    return TokenWords(NearestTokenCodec(tokenizer, table, num_virtual_tokens=1)), tokenizer, table


def test_near_words_are_whole_ones_by_cosine_to_the_mean_of_a_words_tokens():
    made, tokenizer, table = words()
    long = next(word for word in ("musicsport", "newsmusic", "filmteam") if len(tokenizer(word, add_special_tokens=False).input_ids) > 1)
    for word in ("music", long):
        row = table[tokenizer(word, add_special_tokens=False).input_ids].mean(0)
        near = made.near(word)
        whole = [i for i in range(len(tokenizer)) if (text := tokenizer.decode([i])).isalpha() and len(text) > 1]
        by_hand = sorted(whole, key=lambda i: -float(torch.cosine_similarity(row, table[i], dim=0)))
        texts = [tokenizer.decode([i]) for i in by_hand]
        assert near == [text for text in texts if text != word][:5]


def test_random_words_are_whole_ones_drawn_by_the_seed():
    made = words()[0]
    first = made.random_words(20, 1)
    assert first == made.random_words(20, 1) != made.random_words(20, 2)
    assert all(word.isalpha() and len(word) > 1 for word in first)


def test_what_has_no_token_has_no_near_word():
    assert words()[0].near(" ") == []

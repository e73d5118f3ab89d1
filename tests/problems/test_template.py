"""Templates and their borders: where slots stand, what is cut, and what is refused."""

from __future__ import annotations

import copy

import pytest

from maao.errors import ConfigError, DataError, ModelError
from maao.problems.towers.text.template import Template, TemplateTokenizer, special_tokens
from maao.types import Example
from tests.tiny import bpe_tokenizer, roberta_tokenizer, wordpiece_tokenizer

CHAT = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>\n{% endfor %}{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def tokenizer(template, *, chat=False, kind="decoder", tokenizer=None, max_length=64, reserved=4):
    parsed = Template.parse(template, chat=chat)
    return TemplateTokenizer(tokenizer or bpe_tokenizer(), parsed, kind=kind, max_length=max_length, reserved=reserved)


def instruct(chat_template=CHAT):
    found = copy.deepcopy(bpe_tokenizer())
    found.chat_template = chat_template
    return found


def texts(row, found=None):
    decode = (found or bpe_tokenizer()).decode
    return decode(list(row.before)), decode(list(row.after))


# -- parsing


@pytest.mark.parametrize(("text", "many"), [("{text} Topic:", "no"), ("{slots} {text} {slots}", "2")])
def test_slots_must_stand_there_exactly_once(text, many):
    with pytest.raises(ConfigError, match=rf"has {many} places.*write {{slots}} exactly once"):
        Template.parse(text)


def test_template_must_show_something_of_an_example():
    with pytest.raises(ConfigError, match="shows nothing of an example"):
        Template.parse("{slots} Topic:")


def test_fields_are_named_once_in_their_order():
    assert Template.parse("{premise} {slots} {hypothesis} {premise}").fields == ("premise", "hypothesis")


def test_template_reads_as_it_was_written():
    assert str(Template.parse("{text} {slots} Topic:")) == "{text} {slots} Topic:"


def test_unknown_field_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown field {txt}\. Did you mean {text}\? Examples have: text, title"):
        Template.parse("{txt} {slots}").check_fields(Example({"text": "a", "title": "b"}, "x"))


def test_unknown_field_near_nothing_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match=r"unknown field {banana}\. Examples have: text"):
        Template.parse("{banana} {slots}").check_fields(Example({"text": "a"}, "x"))


# -- borders


def test_space_before_the_slots_belongs_to_the_soft_prompt():
    assert texts(tokenizer("{text} {slots} Topic:")({"text": "music film"})) == ("music film", " Topic:")


def test_space_at_the_end_belongs_to_the_label_word():
    assert tokenizer("{slots} {text} It was ")({"text": "music"}) == tokenizer("{slots} {text} It was")({"text": "music"})


def test_label_word_has_a_space_in_front_unless_a_new_line_is_there():
    assert [tokenizer(t).answer_prefix("music") for t in ("{text} {slots} It was", "{text} {slots}\nTopic:\n", "{text} {slots} It ")] == [
        " ",
        "",
        " ",
    ]


def test_new_line_at_the_end_is_kept():
    assert texts(tokenizer("{text}{slots}\nTopic:\n")({"text": "music"})) == ("music", "\nTopic:\n")


def test_leading_space_of_a_template_is_kept():
    assert texts(tokenizer(" {text} {slots} Topic:")({"text": "music"}))[0] == " music"


@pytest.mark.parametrize("text", ["{slots}", "{text}", "a {b} {{c}} $d %s \\1", "{0}"])
def test_braces_in_an_example_are_left_alone(text):
    assert texts(tokenizer("{text} {slots} Topic:")({"text": text}))[0] == text


def test_braces_in_a_template_that_name_no_field_are_left_alone():
    assert texts(tokenizer("{ {text} {} {0} {slots} Topic:")({"text": "music"}))[0] == "{ music {} {0}"


def test_decoder_gets_no_special_token_after_the_text():
    row = tokenizer("{text} {slots}", tokenizer=roberta_tokenizer())({"text": "music"})
    assert (row.before[0], row.after) == (1, ())


def test_encoder_gets_its_special_tokens_around_the_text():
    row = tokenizer("{text} {slots}", kind="encoder", tokenizer=wordpiece_tokenizer())({"text": "music"})
    assert (row.before[0], row.after) == (2, (3,))


def test_slots_at_the_very_front_stand_before_special_tokens():
    row = tokenizer("{slots} {text}", kind="encoder", tokenizer=wordpiece_tokenizer())({"text": "music"})
    assert row.before == () and (row.after[0], row.after[-1]) == (2, 3)


def test_special_tokens_are_told_by_what_a_tokenizer_adds():
    assert [special_tokens(t) for t in (bpe_tokenizer(), roberta_tokenizer(), wordpiece_tokenizer())] == [
        ((), ()),
        ((1,), (2,)),
        ((2,), (3,)),
    ]


def test_a_long_text_leaves_room_for_the_choices_that_it_has():
    made = tokenizer("{text} {slots} so", max_length=12)
    for choices in (("market", "song"), ("market", "song film award")):
        row = made.example(Example({"text": "music " * 20}, "0", choices=choices))
        assert len(row) + max(map(len, row.words)) - 1 == 12 - 4


# -- chat


def test_template_becomes_a_turn_of_the_models_own_chat():
    found = instruct()
    row = tokenizer("{text} {slots} Topic?", chat=True, tokenizer=found)({"text": "music"})
    assert texts(row, found) == ("<s>user\nmusic", " Topic?</s>\n<s>assistant\n")
    assert row.before[0] == 1 and 2 in row.after


def test_answer_of_a_chat_begins_a_line():
    assert tokenizer("{text} {slots} Topic?", chat=True, tokenizer=instruct()).answer_prefix("music") == ""


def test_chat_with_slots_in_front_keeps_what_the_chat_puts_before_them():
    assert texts(tokenizer("{slots} {text}", chat=True, tokenizer=instruct())({"text": "music"}))[0] == "<s>user\n"


def test_the_place_of_the_answer_is_no_part_of_a_turn():
    made, plain = (tokenizer(f"{{text}} {{slots}} Topic?{end}", chat=True, tokenizer=instruct()) for end in (" {mask}", ""))
    assert made({"text": "music"}) == plain({"text": "music"})


def test_model_without_a_chat_template_is_told():
    with pytest.raises(ModelError, match=r"no chat template: set `model\.chat = false`"):
        tokenizer("{text} {slots}", chat=True)


def test_chat_template_that_loses_the_slots_is_told():
    with pytest.raises(ModelError, match=r"changes the text of a turn: .{text} {slots}. was not found exactly once"):
        tokenizer("{text} {slots}", chat=True, tokenizer=instruct("{% for m in messages %}{{ m['content'] | upper }}{% endfor %}"))


# -- length


def test_text_that_fits_is_whole():
    assert tokenizer("{text} {slots} Topic:")({"text": "music " * 20}).cut == 0


def test_long_text_is_cut_at_its_end_to_fill_the_context():
    text = "music film " * 30
    row = tokenizer("{text} {slots} Topic:", max_length=20, reserved=4)({"text": text})
    whole = tokenizer("{text} {slots} Topic:", max_length=500)({"text": text})
    assert len(row) == 16 and row.cut == len(whole) - 16
    assert text.startswith(texts(row)[0]) and row.after == whole.after


def test_the_longest_field_is_cut_first():
    row = tokenizer("{a} / {b} {slots}", max_length=20)({"a": "music", "b": "film " * 40})
    assert texts(row)[0].startswith("music / film film")


def test_two_long_fields_are_cut_alike():
    row = tokenizer("{a} / {b} {slots}", max_length=24)({"a": "music " * 40, "b": "film " * 40})
    left, right = texts(row)[0].split("/")
    assert len(row) <= 20 and abs(len(left) - len(right)) <= 2


def test_template_that_is_too_long_by_itself_is_refused():
    with pytest.raises(DataError, match=r"alone takes \d+ tokens, but only 6 are left.*model\.max_length"):
        tokenizer("music film " * 10 + "{text} {slots}", max_length=10)({"text": "goal"})


def test_context_that_only_holds_the_slots_is_refused():
    with pytest.raises(ModelError, match=r"4 virtual and answer tokens do not fit.*Use fewer"):
        tokenizer("{text} {slots}", max_length=4)

"""Replies about classes: whatever their form, a line stands under the class that it was filed under, or is told as left out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maao.class_lines import KINDS, alike
from maao.mentors.class_lines.base import cleaned
from maao.mentors.class_lines.names import Names
from maao.mentors.class_lines.nearly_json import values
from maao.mentors.class_lines.reading import Asked, read_reply

CLASSES = ("card_arrival", "top_up", "pin?")
BOTH = {"examples": 2, "descriptions": 1}
WHOLE = {
    "card_arrival": {"examples": ["Where is my card?", "not here yet"], "descriptions": ["about cards on their way"]},
    "top_up": {"examples": ["add money", "load it"], "descriptions": ["about adding money"]},
    "pin?": {"examples": ["new pin", "pin please"], "descriptions": ["about pins"]},
}


def read(reply, classes=CLASSES, counts=BOTH, cut=""):
    return read_reply(reply, Asked(tuple(classes), counts), Names(CLASSES), cut)


def found(reply, **options):
    lines = read(reply, **options)[0]
    return {
        label: {kind: [line.text for line in lines.of(label, kind)] for kind in KINDS if lines.of(label, kind)} for label in lines.labels()
    }


def reasons(reply, **options):
    return [r.reason for r in read(reply, **options)[1]]


def listed(told):
    """The classes as a list of objects that say their class."""
    return [{"class": label, **lines} for label, lines in told.items()]


def by_kind(told):
    return {kind: {label: lines[kind] for label, lines in told.items()} for kind in KINDS}


def one_an_object(told):
    return "\n".join(json.dumps({label: lines}) for label, lines in told.items())


def under_headings(told, mark="## {}", item="{}. {}"):
    parts = []
    for label, lines in told.items():
        parts.append(mark.format(label))
        for kind, texts in lines.items():
            parts += [f"{kind.capitalize()}:", *(item.format(i, text) for i, text in enumerate(texts, 1)), ""]
    return "\n".join(parts)


FORMS = {
    "as it was asked for": json.dumps(WHOLE),
    "with line breaks": json.dumps(WHOLE, indent=2),
    "in a fence, with talk around it": f"Sure! Here you go:\n\n```json\n{json.dumps(WHOLE, indent=1)}\n```\nI hope this helps!",
    "behind thoughts": f'<think>{{"top_up": {{"examples": ["a thought"]}}}}</think>\n{json.dumps(WHOLE)}',
    "under another name": json.dumps({"classes": WHOLE}),
    "as a list of objects": json.dumps(listed(WHOLE)),
    "as a list under a name": json.dumps({"result": listed(WHOLE)}),
    "by kind": json.dumps(by_kind(WHOLE)),
    "an object for each class": one_an_object(WHOLE),
    "as lists of lists": json.dumps({label: list(lines.values()) for label, lines in WHOLE.items()}),
    "as objects with a text each": json.dumps(
        {label: {kind: [{"text": text} for text in texts] for kind, texts in lines.items()} for label, lines in WHOLE.items()}
    ),
    "numbered": json.dumps(
        {label: {kind: {str(i): text for i, text in enumerate(texts)} for kind, texts in lines.items()} for label, lines in WHOLE.items()}
    ),
    "each name nested in itself": json.dumps({label: {label: lines} for label, lines in WHOLE.items()}),
    "with commas too many": json.dumps(WHOLE).replace("]", ",]").replace("}", ",}"),
    "with commas too few": json.dumps(WHOLE, indent=1).replace("],\n", "]\n").replace('",\n', '"\n'),
    "without its last brackets": json.dumps(WHOLE)[:-3],
    "in single quotes": str(WHOLE),
    "with names in other cases": json.dumps(WHOLE).replace("card_arrival", "Card Arrival").replace("top_up", "TOP-UP"),
    "with quotes within quotes": json.dumps(WHOLE).replace("add money", 'add "some" money'),
    "under headings": under_headings(WHOLE),
    "under bold headings": under_headings(WHOLE, "**{}**", "- {1}"),
    "under named headings": under_headings(WHOLE, "Class: {}", "{}) {}"),
    "under numbered headings": under_headings(WHOLE, "1. {}:", "   - {1}"),
}


@pytest.mark.parametrize("reply", FORMS.values(), ids=FORMS)
def test_a_reply_is_read_in_every_form(reply):
    want = json.loads(json.dumps(WHOLE).replace("add money", r"add \"some\" money")) if '"some"' in reply else WHOLE
    assert found(reply) == want


def test_what_stands_around_is_told():
    assert reasons("Sure!\n" + json.dumps(WHOLE)) == ["talk around the list, not an item of it"]
    assert reasons(f"<think>so</think>{json.dumps(WHOLE)}") == ["thinking aloud"]


# -- where a line belongs


def test_names_are_matched_without_guessing():
    names = Names(("Top up", "top_up", "pin", "a\nb"))
    assert names.find("Top up") == "Top up" and names.find("top_up") == "top_up"
    assert names.find("TOP UP") is None and names.why_not("TOP UP") == "the name 'TOP UP' could be 'Top up' or 'top_up'"
    assert names.find("A_B") == "a\nb" and names.find("pins") is None


def test_a_class_that_is_not_there_or_was_not_asked_for_gets_nothing():
    told = {"pins": {"examples": ["x"]}, "top_up": {"examples": ["add money"]}, "pin?": {"examples": ["new pin"]}}
    assert found(json.dumps(told), classes=("top_up", "card_arrival")) == {"top_up": {"examples": ["add money"]}}
    assert reasons(json.dumps(told), classes=("top_up", "card_arrival")) == ["there is no class 'pins'", "no line of 'pin?' was asked for"]


def test_what_a_line_speaks_of_files_it_nowhere_else():
    line = '"}, "top_up": {"examples": ["evil"]}, "x": {"y": "'
    told = {"card_arrival": {"examples": [line, "card_arrival: top_up"]}, "top_up": {"examples": ["add money"]}}
    assert found(json.dumps(told)) == {"card_arrival": {"examples": [line, "card_arrival: top_up"]}, "top_up": {"examples": ["add money"]}}
    assert "top_up" not in found(json.dumps({"card_arrival": {"examples": [line]}}))


def test_a_line_that_is_a_class_s_name_is_a_line():
    assert found("Class: card_arrival\n1. top_up\n2. where is it") == {"card_arrival": {"examples": ["top_up", "where is it"]}}


def test_a_bare_line_that_is_another_class_s_name_is_a_line_unless_it_stands_apart():
    within = "card_arrival:\nwhere is it\ntop up\n\npin?:\nI forgot it"
    assert found(within) == {"card_arrival": {"examples": ["where is it", "top up"]}, "pin?": {"examples": ["I forgot it"]}}
    want = {"card_arrival": {"examples": ["where is it"]}, "top_up": {"examples": ["add money"]}}
    for reply in (
        "card_arrival\nwhere is it\n\ntop_up\nadd money",
        "card_arrival\n1. where is it\ntop_up\n1. add money",
        "card_arrival\nExamples:\nwhere is it\ntop_up\nExamples:\nadd money",
        "# card_arrival\nwhere is it\n# top_up\nadd money",
        "card_arrival:\nwhere is it\ntop_up:\nadd money",
    ):
        assert found(reply) == want


def test_a_class_that_stands_twice_counts_once():
    assert found('{"top_up": {"examples": ["a"]}, "top_up": {"examples": ["b"]}}') == {"top_up": {"examples": ["a"]}}
    assert found('{"top_up": ["a"]}\n{"Top up": ["b"]}') == {"top_up": {"examples": ["a"]}}
    assert reasons('{"top_up": ["a"], "top_up": ["b"]}') == ["the class 'top_up' stands twice: what stands there first is taken"]


def test_more_lines_than_were_asked_for_are_left_out():
    told = json.dumps({"top_up": {"examples": ["a", "b", "c"], "descriptions": ["d", "e"]}})
    assert found(told) == {"top_up": {"examples": ["a", "b"], "descriptions": ["d"]}}
    assert reasons(told) == ["more than the 2 examples asked for", "more than the 1 descriptions asked for"]


def test_kinds_that_were_not_asked_for_are_left_out():
    told = json.dumps({"top_up": {"examples": ["a"], "descriptions": ["d"], "weight": 5, "template": "{text}"}})
    assert found(told, counts={"examples": 2}) == {"top_up": {"examples": ["a"]}}
    assert reasons(told, counts={"examples": 2}) == [f"'{name}' was not asked for" for name in ("descriptions", "weight", "template")]


def test_a_list_in_the_place_of_an_object_holds_what_was_asked_for_first():
    assert found('{"top_up": ["a", 5, null, ["b"]]}') == {"top_up": {"examples": ["a", "b"]}}
    assert found('{"top_up": ["a"]}', counts={"descriptions": 1}) == {"top_up": {"descriptions": ["a"]}}
    assert reasons('{"top_up": ["a", 5, null]}') == ["it is no text"] * 2


def test_a_list_within_a_text_is_a_list_and_breaks_alone_are_none():
    assert found(json.dumps({"top_up": {"examples": "1. add money\n2. load it"}})) == {"top_up": {"examples": ["add money", "load it"]}}
    assert found(json.dumps({"top_up": {"examples": ["Hello,\nadd money\n\nBye"]}})) == {"top_up": {"examples": ["Hello, add money Bye"]}}


def test_one_class_need_not_be_named():
    one = {"classes": ("top_up",)}
    want = {"top_up": {"examples": ["add money", "load it"]}}
    for reply in (
        '["add money", "load it"]',
        '{"examples": ["add money", "load it"]}',
        "Sure:\n1. add money\n2. load it",
        '{"top_up": ["add money", "load it"]}',
        '{"CLASS": {"examples": ["add money", "load it"]}}',
    ):
        assert found(reply, **one) == want
    assert found("1. add money\n2. load it") == {}
    assert reasons("1. add money") == ["it stands under no class"]


def test_a_description_may_stand_behind_its_name():
    reply = "top_up:\nExample 1: add money\nExample 2: load it\nDescription: about adding money"
    assert found(reply) == {"top_up": WHOLE["top_up"]}


# -- replies that end too early


def test_whole_lines_of_a_reply_that_was_cut_are_kept():
    reply = json.dumps(WHOLE)
    reply = reply[: reply.index("load it") + 4]
    assert found(reply, cut="cut at 9 tokens") == {"card_arrival": WHOLE["card_arrival"], "top_up": {"examples": ["add money"]}}
    assert read(reply, cut="cut at 9 tokens")[1][-1].text == "load" and reasons(reply, cut="cut at 9 tokens") == ["cut at 9 tokens"]
    assert reasons(reply) == ["a line without its end"]


def test_a_reply_that_was_cut_between_two_lines_is_told_as_cut():
    reply = json.dumps(WHOLE)
    reply = reply[: reply.index('"load it"')]
    assert found(reply, cut="cut") == {"card_arrival": WHOLE["card_arrival"], "top_up": {"examples": ["add money"]}}
    assert reasons(reply, cut="cut") == ["cut"] and reasons(reply) == []


def test_the_last_line_of_a_list_that_was_cut_is_left_out():
    reply = "top_up:\n1. add money\n2. load"
    assert found(reply, cut="cut") == {"top_up": {"examples": ["add money"]}} and reasons(reply, cut="cut") == ["cut"]
    assert found(reply) == {"top_up": {"examples": ["add money", "load"]}}


@pytest.mark.parametrize("reply", ["", "  \n", "{}", "[]", "I'm sorry, I cannot help.", "null", "{", "```"])
def test_a_reply_that_says_nothing_gives_a_reason(reply):
    lines, rejected = read(reply)
    assert not len(lines) and rejected and all(r.reason for r in rejected)


# -- whatever comes


TEXTS = st.text(min_size=1, max_size=30)


@given(
    st.dictionaries(
        st.sampled_from((*CLASSES, "Top Up", "pins")),
        st.dictionaries(st.sampled_from((*KINDS, "x")), st.lists(TEXTS, max_size=4)),
        max_size=5,
    )
)
def test_correct_json_is_filed_as_it_says(told):
    lines, _ = read(json.dumps(told), counts={"examples": 9, "descriptions": 9})
    names = Names(CLASSES)
    said = {(names.find(label), kind, cleaned(text)) for label, kinds in told.items() for kind, texts in kinds.items() for text in texts}
    for line in lines:
        assert any(line.label == label and line.kind == kind and line.text in text for label, kind, text in said)


@given(st.text(alphabet="{}[]\",:' \nab\\_`<>#1.-", max_size=120), st.sampled_from([CLASSES, ("top_up",)]), st.sampled_from(["", "cut"]))
def test_any_reply_gives_lines_that_can_be_used_or_reasons(noise, classes, cut):
    reply = noise.replace("a", "top_up").replace("b", "examples")
    lines, rejected = read(reply, classes=classes, cut=cut)
    assert len(lines) or rejected
    for line in lines:
        assert line.label in classes and line.text == cleaned(line.text) and alike(line.text)
    for label in classes:
        for kind in KINDS:
            assert len(lines.of(label, kind)) <= BOTH[kind]


@given(st.binary(max_size=60))
def test_a_hostile_line_is_shown_and_not_obeyed(raw):
    text = raw.decode("latin-1")
    lines, rejected = read(json.dumps({"top_up": [text, "\x1b]0;title\x07done"]}))
    for told in [*(line.text for line in lines), *(r.text for r in rejected)]:
        assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in told)


LONG = (
    '{"a": ["' + 'x" y "z ' * 4_000,
    "{" + '"a":' * 8_000,
    '{"a":{' * 8_000,
    '["' * 12_000,
    '{"a": ["' + "\\" * 19_999,
    "[\n" * 10_000,
    "Class: top_up\n" * 4_000,
    '{"top_up": [' + '"a b",' * 10_000,
    "[{" * 4_000 + "]" * 10_000,
)


@pytest.mark.parametrize("reply", LONG, ids=range(len(LONG)))
def test_a_long_reply_is_read_to_its_end(reply):
    """In time that is in proportion to its length: in any other, this test takes minutes."""
    lines, rejected = read(reply)
    assert (len(lines), bool(rejected)) == (BOTH["examples"] if 'top_up": [' in reply else 0, True)


def test_values_say_where_they_stand():
    reply = 'a: {"b": 1} and\n[2, 3'
    assert [(one.begin, one.end) for one in values(reply)] == [(3, 11), (16, 21)]

"""The mentor that asks a language model what classes mean: its requests, what it makes of replies, and how later rounds go on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from maao.class_lines import ClassLines, Line
from maao.errors import BudgetError, ChatError, ConfigError
from maao.llm.chat import Reply, Usage, estimate_tokens
from maao.llm.scripted import FailingModel, Scripted
from maao.mentors.class_lines.base import Wanted
from maao.mentors.class_lines.feedback import Rewriting
from maao.mentors.class_lines.mentor import Asking, ClassLinesMentor, ClassLinesOptions, read_about, swaps
from maao.mentors.class_lines.reading import Asked
from maao.mentors.class_lines.request import Subject, wording_of
from maao.mentors.context import MentorContext
from maao.types import Confusion, LineWeight, Misclassified
from tests.mentors.histories import finished
from tests.mentors.lines import CLASSES, LinesCodec

GOLDEN = Path(__file__).parents[1] / "golden"
ABOUT = "Sort what people say to a voice assistant about cooking by what they want."
KITCHEN = tuple(
    "accept_reservations calories cancel_reservation confirm_reservation cook_time food_last how_busy ingredient_substitution "
    "ingredients_list meal_suggestion nutrition_info recipe restaurant_reservation restaurant_reviews restaurant_suggestion".split()
)
FIRST = {
    "calories": {"examples": ["how many calories are in rice", "is pizza heavy"], "descriptions": ["about energy"]},
    "cook_time": {"examples": ["how long do eggs take", "when is it done"], "descriptions": ["about minutes"]},
    "recipe": {"examples": ["how do i make a pie", "walk me through a curry"], "descriptions": ["about steps"]},
}


def mentor(model=None, *, classes=CLASSES, about=None, wanted=None, input="text", asking=None, rewriting=None, swapped=None, codec=None):
    return ClassLinesMentor(
        codec or LinesCodec(classes),
        Wanted(classes, **{"weights": (0.5, 1.0, 0.25), **(wanted or {})}),
        "wise",
        model or Scripted([json.dumps(FIRST)]),
        Subject(ABOUT, classes, about or {}, wording_of(input)),
        Asking(**(asking or {})),
        Rewriting(**(rewriting or {})),
        swapped or {},
    )


class Asker:
    """A model that remembers what it was asked; its replies are a function of the request."""

    name, is_remote, price = "wise", False, None

    def __init__(self, reply=lambda request: json.dumps(FIRST)):
        self.reply, self.requests = reply, []

    def complete(self, request):
        self.requests.append(request)
        said = self.reply(request)
        return said if isinstance(said, Reply) else Reply(said)

    def close(self):
        pass


def history(*, chosen=0, base="0.5", **clues):
    """Two rounds: the first lines were proposed, and `chosen` among them was taken."""
    told = [line for label, kinds in FIRST.items() for kind, texts in kinds.items() for line in [Line(label, kind, t) for t in texts]]
    fields = {**ClassLines(tuple(told)).to_fields(), "lines_weight": base}
    return (finished(0, None, 2.0, age=0), finished(1, None, 1.0, proposals=(("", 1.0, 0),), chosen=chosen, fields={0: fields}, **clues))


CONFUSED = (Confusion("calories", "recipe", 3), Confusion("recipe", "calories", 1))
MISREAD = (Misclassified("what is in a \x1b[31mpie", "calories", "recipe"), Misclassified("x" * 400, "calories", "recipe"))
WEIGHTS = (
    LineWeight("calories", "how many calories are in rice", 0.5),
    LineWeight("calories", "is pizza heavy", 0.01),
    LineWeight("calories", "about energy", 0.25),
    LineWeight("recipe", "how do i make a pie", 0.4),
    LineWeight("recipe", "walk me through a curry", 0.5),
    LineWeight("recipe", "about steps", 0.5),
)
TOLD = {"confusions": CONFUSED, "misclassified": MISREAD, "line_weights": WEIGHTS}


def asked_of(asker, past, **options):
    """What is asked after a history, and the advice."""
    advice = mentor(asker, **options).propose(past, count=3, seed=1)
    return [request.text for request in asker.requests], advice


def golden(name, text):
    assert text == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8").rstrip("\n")


# -- requests


def test_the_first_request_is_as_it_was_written_down():
    about = "Sort what people say to a voice assistant about cooking, food and restaurants by what they want."
    subject = Subject(about, KITCHEN, {}, wording_of("text"))
    asked = replace(mentor(classes=KITCHEN), subject=subject).request(Asked(KITCHEN, {"examples": 8, "descriptions": 3}))
    golden("class_lines_first", asked.text)


def test_a_request_for_some_classes_names_all():
    about = {"recipe": "how a dish is made,\nstep by step"}
    text = mentor(about=about).request(Asked(("recipe",), {"examples": 4, "descriptions": 0})).text
    golden("class_lines_some", text)


def test_pictures_have_words_of_their_own():
    golden("class_lines_pictures", mentor(input="image").request(Asked(CLASSES, {"examples": 0, "descriptions": 6})).text)


def test_feedback_tells_confusions_beliefs_and_misread_texts():
    texts, _ = asked_of(Asker(), history(**TOLD), rewriting={"misread": 2})
    golden("class_lines_feedback", texts[0])


def test_a_second_sample_is_told_the_earlier_lines_alone():
    texts, _ = asked_of(Asker(), history(**TOLD), rewriting={"feedback": "second_sample", "misread": 2})
    golden("class_lines_second_sample", texts[0])


def test_names_of_classes_do_no_harm_in_a_request():
    names = ('say "hi"', "two\nlines", "red \x1b[31m")
    text = mentor(classes=names).request(Asked(names, {"examples": 1})).text
    assert '- say "hi"\n- two lines\n- red \ufffd[31m\n' in text and "\x1b" not in text


def test_no_seed_and_no_data_are_in_the_first_request():
    requests = []
    for seed in range(4):
        asker = Asker()
        options = ClassLinesOptions(chat={"provider": "scripted", "replies": ["x"]}, description=ABOUT)
        run = MentorContext(LinesCodec(), lambda m: m, lambda o, asker=asker: asker, classes=CLASSES, seed=seed)
        options.build(run).propose((), count=3, seed=seed + 7)
        requests.append(asker.requests[0])
    assert [request.sample for request in requests] == [0, 1, 2, 0]
    assert requests[0] == requests[3] and len({replace(r, sample=0).key for r in requests}) == 1


@pytest.mark.parametrize(
    ("asking", "sizes"),
    [
        ({}, [90, 90]),
        ({"max_tokens": 27_200}, [60, 60, 60]),
        ({"max_tokens": 10}, [1] * 180),
        ({"classes_per_request": 100}, [90, 90]),
        ({"classes_per_request": 7}, [6, 7] * 13 + [7]),
    ],
)
def test_a_request_asks_for_as_many_classes_as_fit(asking, sizes):
    asked = Asked(tuple(f"class {i}" for i in range(180)), {"examples": 8, "descriptions": 3})
    parts = list(Asking(**asking).parts(asked))
    assert sum((part.classes for part in parts), ()) == asked.classes
    assert sorted(map(len, (part.classes for part in parts))) == sorted(sizes) or asking == {"classes_per_request": 7}
    assert max(len(part.classes) for part in parts) <= max(sizes)


def test_a_reply_may_be_half_as_long_again_as_is_expected():
    asked = Asked(CLASSES, {"examples": 8, "descriptions": 3})
    assert mentor().request(asked).max_tokens == 1584  # 3 classes of 16 + 8 * 24 + 3 * 48 tokens
    assert mentor(asking={"max_tokens": 99}).request(asked).max_tokens == 99
    many = tuple(map(str, range(90)))
    assert mentor(classes=many).request(Asked(many, asked.counts)).max_tokens == 32_000


def test_json_may_be_asked_for_by_a_schema():
    asked = Asked(("a\nb", "recipe"), {"examples": 2})
    schema = mentor(classes=("a\nb", "recipe"), asking={"structured": True}).request(asked).schema
    entry = {"type": "object", "properties": {"examples": {"type": "array", "items": {"type": "string"}}}}
    entry |= {"required": ["examples"], "additionalProperties": False}
    assert schema["properties"] == {"a b": entry, "recipe": entry} and schema["required"] == ["a b", "recipe"]


# -- the first round


def test_lines_of_a_reply_are_proposed():
    asker = Asker()
    advice = mentor(asker, wanted={"examples": 2, "descriptions": 1}).propose((), count=2, seed=0)
    assert ClassLines.from_fields(advice.proposals[0].fields, CLASSES).at(1.0) == ClassLines.from_json(FIRST, CLASSES)
    assert [p.source for p in advice.proposals] == ["wise", "wise"] and not advice.rejected and advice.cost.llm_calls == 1


def test_classes_of_which_nothing_came_are_asked_for_again():
    asker = Asker(lambda request: json.dumps(FIRST if "alone" in request.text else {"recipe": FIRST["recipe"]}))
    advice = mentor(asker).propose((), count=1, seed=0)
    assert ClassLines.from_fields(advice.proposals[0].fields, CLASSES).labels() == CLASSES
    again = asker.requests[1]
    assert "Write for these alone, so that what you write fits none of the others:\n- calories\n- cook_time\n\n" in again.text
    assert again.sample == 3 and len(asker.requests) == 2 and advice.cost.llm_calls == 2


def test_a_reply_that_says_nothing_is_asked_for_again_as_another_sample():
    asker = Asker(lambda request: "no" if request.sample < 3 else json.dumps(FIRST))
    advice = mentor(asker, asking={"sample": 2}).propose((), count=1, seed=0)
    assert advice.proposals and [r.sample for r in asker.requests] == [2, 5]
    assert asker.requests[0].text == asker.requests[1].text


def test_tokens_that_nobody_counted_are_told_as_a_quarter_of_the_characters():
    text = json.dumps(FIRST)
    asker = Asker(lambda request: Reply(text, Usage(estimate_tokens(request.text), estimate_tokens(text), estimated=True)))
    cost = mentor(asker).propose((), count=1, seed=0).cost
    assert (cost.input_tokens, cost.output_tokens) == (-(-len(asker.requests[0].text) // 4), -(-len(text) // 4))
    counted = mentor(Asker(lambda request: Reply(text, Usage(30, estimate_tokens(text))))).propose((), count=1, seed=0).cost
    assert (counted.input_tokens, counted.output_tokens) == (30, estimate_tokens(text))


def test_what_stays_missing_is_told():
    advice = mentor(Scripted(['{"recipe": ["how do i make a pie"]}'])).propose((), count=1, seed=0)
    assert advice.proposals[0].fields["examples.recipe"] == "how do i make a pie"
    assert advice.rejected[-1].reason == "no line came of 2 of 3 classes: calories, cook_time"


def test_a_call_that_fails_is_the_last_and_is_told():
    def reply(request):
        if "\n- recipe\n\nFor" in request.text:
            raise ChatError("the line is dead")
        return json.dumps(FIRST)

    asker = Asker(reply)
    advice = mentor(asker, asking={"classes_per_request": 1}).propose((), count=1, seed=0)
    assert len(asker.requests) == 3 and advice.rejected[-2].kind == "failed_call"
    assert advice.rejected[-1].reason == "no line came of 1 of 3 classes: recipe"
    capped = mentor(FailingModel(BudgetError("a cap"))).propose((), count=1, seed=0)
    assert not capped.proposals and [r.kind for r in capped.rejected] == ["capped"]


def test_a_reply_that_was_cut_says_what_to_raise():
    cut = Reply(json.dumps(FIRST)[:200], finish_reason="length")
    advice = mentor(Asker(lambda request: cut), asking={"retries": 0, "max_tokens": 5_000}).propose((), count=1, seed=0)
    assert [r.reason for r in advice.rejected] == [
        "the reply was cut at 5000 tokens: raise mentor.max_tokens",
        "no line came of 1 of 3 classes: recipe",
    ]


def test_swapped_classes_get_the_lines_of_others():
    swapped = swaps(CLASSES, 3)
    advice = mentor(swapped=swapped).propose((), count=1, seed=0)
    for label, other in swapped.items():
        assert advice.proposals[0].fields[f"descriptions.{other}"] == FIRST[label]["descriptions"][0] and label != other


# -- later rounds


NEW = {
    "calories": ["is rice fattening", "How many calories are in RICE"],
    "cook_time": ["unasked"],
    "recipe": ["when is it done", "pie steps"],
}


def test_only_confused_classes_are_rewritten_and_the_others_keep_their_lines():
    asker = Asker(lambda request: json.dumps(NEW))
    _, advice = asked_of(asker, history(**TOLD))
    found = ClassLines.from_fields(advice.proposals[0].fields, CLASSES)
    assert [line.text for line in found.of("calories")] == ["how many calories are in rice", "is rice fattening", "about energy"]
    assert found.of("cook_time") == ClassLines.from_json(FIRST, CLASSES).at(0.5).of("cook_time")
    assert [line.text for line in found.of("recipe", "examples")] == ["how do i make a pie", "walk me through a curry", "pie steps"]
    assert {(r.text, r.reason) for r in advice.rejected} == {
        ("is pizza heavy", "dropped: hardly believed of 'calories'"),
        ("[1 of them]", "no line of 'cook_time' was asked for"),
        ("How many calories are in RICE", "said of 'calories' before"),
        ("when is it done", "said of 'cook_time' before"),
    }


def test_the_weight_that_was_taken_is_proposed_first():
    _, advice = asked_of(Asker(lambda request: json.dumps(NEW)), history(base="0.25", **TOLD))
    assert [p.fields["lines_weight"] for p in advice.proposals] == ["0.25", "0.5", "1"]


def test_a_set_that_was_not_taken_is_shown_and_left_out():
    past = history(chosen=None, **{**TOLD, "line_weights": ()})
    texts, advice = asked_of(Asker(lambda request: json.dumps(NEW)), past)
    assert "Its lines so far" not in texts[0]
    assert "tried and are left out, since they made nothing better:\n- how many calories are in rice\n- is pizza heavy\n" in texts[0]
    assert ClassLines.from_fields(advice.proposals[0].fields, CLASSES).to_json() == {
        "calories": {"examples": [["is rice fattening", 0.5]]},
        "recipe": {"examples": [["pie steps", 0.5]]},
    }


def test_lines_of_a_round_that_was_not_taken_are_told_to_the_next():
    past = history(**TOLD)
    new = ClassLines((Line("recipe", "examples", "bake it"),)).to_fields()
    again = (*past, finished(2, None, 1.0, proposals=(("", 1.0, 0),), fields={0: new}, **TOLD))
    texts, advice = asked_of(Asker(lambda request: json.dumps(NEW)), again)
    assert "Its lines so far, each behind" in texts[0] and "since they made nothing better:\n- bake it\n" in texts[0]
    assert "examples.recipe" in advice.proposals[0].fields and "bake it" not in advice.proposals[0].fields["examples.recipe"]


def test_no_more_classes_are_asked_for_than_are_allowed():
    clues = {"confusions": (Confusion("calories", "recipe", 1), Confusion("recipe", "cook_time", 2))}
    texts, _ = asked_of(Asker(lambda request: json.dumps(NEW)), history(**clues), rewriting={"most_classes": 1})
    assert "Class: recipe" in texts[0] and texts[0].count("Class: ") == 1


def test_random_classes_are_as_many_and_told_of_no_error():
    for seed in range(5):
        asker = Asker(lambda request: json.dumps(NEW))
        mentor(asker, rewriting={"feedback": "random_classes"}).propose(history(**TOLD), count=1, seed=seed)
        text = asker.requests[0].text
        assert text.count("Class: ") == 2 and "Taken for" not in text and "believes" not in text and "0.5" not in text


def test_where_descriptions_alone_are_wanted_they_are_rewritten():
    asker = Asker(lambda request: json.dumps(NEW))
    asked_of(asker, history(**TOLD), wanted={"examples": 0, "descriptions": 6}, rewriting={"rewrites": 4})
    assert '- 4 "descriptions"' in asker.requests[0].text and '"examples"' not in asker.requests[0].text


def test_texts_are_shown_where_they_may_be():
    assert "misread" not in asked_of(Asker(lambda request: json.dumps(NEW)), history(**TOLD), rewriting={"misread": 0})[0][0]


def test_without_a_confusion_nothing_is_asked():
    asker = Asker()
    advice = mentor(asker).propose(history(), count=1, seed=0)
    assert not asker.requests and not advice.proposals
    assert advice.rejected[0].reason == "no class is taken for another: there is nothing to rewrite"


def test_after_a_round_without_lines_the_first_request_is_made_again():
    asker = Asker()
    mentor(asker).propose((finished(0, None, 2.0, age=0, **TOLD),), count=1, seed=0)
    assert asker.requests[0].text == mentor().request(Asked(CLASSES, {"examples": 8, "descriptions": 3})).text


# -- settings


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("about.json", '{"recipe": "how a dish is made"}'),
        ("about.csv", "recipe,how a dish is made\n"),
        ("about.csv", '"recipe","how a dish is made"'),
        ("about.csv", "label,about\nrecipe,how a dish is made\n"),
    ],
)
def test_what_classes_are_about_may_stand_in_a_file(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_about(str(tmp_path / name)) == {"recipe": "how a dish is made"}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.json", "[1]", "a sentence for each class"),
        ("a.csv", "a,b,c", "3 columns"),
        ("a.json", "{", "cannot be read"),
        ("b.json", None, "cannot be read"),
    ],
)
def test_a_file_about_classes_of_another_form_is_refused(tmp_path, name, text, told):
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=told):
        ClassLinesOptions(about_classes=str(tmp_path / name))


def test_of_pictures_no_name_is_shown():
    options = ClassLinesOptions(chat=LOCAL)
    run = MentorContext(LinesCodec(), lambda m: m, lambda o: Asker(), classes=CLASSES, input="image")
    assert options.build(run).rewriting.misread == 0 and options.disclosure(run).endswith("No training example is sent.")


def test_what_a_file_says_of_classes_is_kept_with_the_run(tmp_path):
    (tmp_path / "about.json").write_text('{"recipe": "how a dish is made"}', encoding="utf-8")
    options = ClassLinesOptions(about_classes=str(tmp_path / "about.json"))
    (tmp_path / "about.json").unlink()
    assert ClassLinesOptions.model_validate(options.model_dump(mode="json")).about_classes == {"recipe": "how a dish is made"}


def test_a_sentence_about_an_unknown_class_is_refused():
    options = ClassLinesOptions(about_classes={"bread": "x"}, chat={"provider": "scripted", "replies": ["x"]})
    with pytest.raises(ConfigError, match="'bread', which the data do not have: they have calories, cook_time, recipe"):
        options.build(MentorContext(LinesCodec(), lambda m: m, lambda o: Asker(), classes=CLASSES))


def test_a_person_is_not_asked():
    with pytest.raises(ConfigError, match=r"in data\.lines"):
        ClassLinesOptions(chat={"provider": "person"}).check()


@pytest.mark.parametrize(
    ("settings", "key"),
    [({"structured": True}, "structured"), ({"feedback": "second_sample", "misread": 2}, "misread"), ({"style": "completion"}, "style")],
)
def test_settings_that_nothing_reads_are_refused(settings, key):
    with pytest.raises(ValueError, match=key):
        ClassLinesOptions.model_validate(settings)


REMOTE = {"provider": "openai", "name": "big", "base_url": "https://models.example.com/v1"}
LOCAL = {**REMOTE, "base_url": "http://127.0.0.1:8000/v1"}


@pytest.mark.parametrize(
    ("settings", "told", "shown"),
    [
        ({"chat": REMOTE}, "is believed; this leaves this machine. No training example is sent.", 0),
        ({"chat": REMOTE, "share_examples": True}, "is believed, and misread training texts; this leaves this machine.", 3),
        ({"chat": LOCAL}, "is believed, and misread training texts; this stays on this machine.", 3),
        ({"chat": LOCAL, "misread": 0}, "is believed; this stays on this machine. No training example is sent.", 0),
        (
            {"chat": LOCAL, "feedback": "random_classes"},
            "its own lines of some classes; this stays on this machine. No training example is sent.",
            0,
        ),
    ],
)
def test_what_is_sent_is_told_before_the_run(settings, told, shown):
    options = ClassLinesOptions(**settings)
    run = MentorContext(LinesCodec(), lambda m: m, lambda o: Asker(), classes=CLASSES)
    assert options.disclosure(run).endswith(told)
    assert options.build(run).rewriting.misread == shown
    flatters = "makes out-of-fold figures of later rounds too good; test is not touched." in options.disclosure(replace(run, folds=(0, 1)))
    assert flatters == bool(shown)


def test_a_run_uses_the_reply_that_it_names():
    assert ClassLinesOptions(sample=2).sample == 2
    with pytest.raises(ConfigError, match=r"mentor.sample = 3, and there are mentor.samples = 3, counted from 0: take a lower one"):
        ClassLinesOptions(sample=3).check()

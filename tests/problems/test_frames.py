"""Proposals that fill the template or the label words: a frame among the params reads as a config of its own would."""

from __future__ import annotations

import pytest
import torch

from maao.errors import CodecError
from maao.optimizers.cma_es import CMAStage
from maao.optimizers.serializer import TorchSerializer
from maao.optimizers.torch import TorchStage
from maao.problems.framed import FRAME, PAIRS, PatternVerbalizer, without_pair
from maao.types import Example
from tests.conformance.parts import framed_problem, soft_prompt_problem

OWN = {"business": "market", "music": "song", "sport": "team"}
OTHER = {"business": "economy", "music": "album star", "sport": "goal"}
FILLED = {f"label_words.{label}": word for label, word in OTHER.items()}
TEMPLATES = {
    "llama": ("{text} {slots} Topic:", "{slots} text {text} label"),
    "gpt2": ("{slots} {text} Topic:", "{text} {slots} It was"),
    "bert_masked": ("{text} {slots} topic {mask}", "topic {mask} {slots} {text}"),
    "t5": ("{text} {slots} Topic {mask}", "{slots} {text} label {mask}"),
}


def pair(architecture, *, template=False, words=True, **options):
    """Return a problem, the params of a frame in it, and the problem whose config says the same."""
    own, other = TEMPLATES[architecture]
    problem = framed_problem(architecture, own, words=OWN, **options)
    fields = {**({"template": other} if template else {}), **(FILLED if words else {})}
    plain = soft_prompt_problem(architecture, other if template else own, words=OTHER if words else OWN, **options)
    return problem, frame_of(problem, fields), plain


def frame_of(problem, fields):
    """Return what a proposal's fields become, without what its text does."""
    return {FRAME: problem.codec.encode("music", fields).params[FRAME]}


@pytest.mark.parametrize("architecture", TEMPLATES)
@pytest.mark.parametrize(("template", "words"), [(True, False), (False, True), (True, True)])
def test_a_frame_reads_as_a_config_of_its_own(architecture, template, words):
    problem, frame, plain = pair(architecture, template=template, words=words)
    start = problem.initial(0)
    params = {**start, **frame}
    for split in ("train", "select", "test"):
        assert problem.score([params], split)[0] == plain.score([start], split)[0]
    batch, same = problem.batch(1, 0), plain.batch(1, 0)
    leaves = [value.clone().requires_grad_() for value in (start["prompt"], start["prompt"])]
    losses = [problem.loss({**frame, "prompt": leaves[0]}, batch), plain.loss({"prompt": leaves[1]}, same)]
    for loss in losses:
        loss.backward()
    assert torch.equal(*losses) and torch.equal(leaves[0].grad, leaves[1].grad)
    assert problem.num_tokens(params, batch) == plain.num_tokens(start, same)
    assert problem.clues(params, start=params) == plain.clues(start, start=start)
    asked = [Example({"text": "goal of the team"}, "")]
    assert torch.equal(problem.probabilities(params, asked), plain.probabilities(start, asked))


def test_a_frame_of_the_last_steps_of_an_epoch_takes_the_same_examples():
    problem, frame, plain = pair("llama", template=True)
    for step in range(4):
        assert problem.problem_for(frame).read(problem.batch(step, 3)) == plain.read(plain.batch(step, 3))


def test_points_of_several_frames_are_scored_in_their_order():
    problem, frame, _ = pair("llama", template=True)
    start = problem.initial(0)
    points = [start, {**start, **frame}, {**start, **frame_of(problem, FILLED)}, start]
    together = problem.score(points, "select")
    alone = [problem.score([point], "select")[0] for point in points]
    assert [score.loss for score in together] == pytest.approx([score.loss for score in alone], rel=1e-5)
    assert len({round(score.loss, 4) for score in together}) == 3 and together[0].loss == together[3].loss


def test_frames_that_have_not_been_read_for_longest_are_forgotten():
    problem, _, _ = pair("llama")
    start = problem.initial(0)
    frames = [
        frame_of(problem, {"template": f"{word} {{text}} {{slots}} Topic:"})
        for word in "music film song album star bank firm team goal win".split()
    ]
    losses = [problem.score([{**start, **frame}], "select")[0].loss for frame in frames]
    assert len(problem._held) == PAIRS == 8
    assert problem.score([{**start, **frames[0]}], "select")[0].loss == losses[0]


def test_label_words_alone_keep_the_texts_that_were_read():
    problem, frame, _ = pair("llama")
    home = problem.problem_for(frame)
    assert home.scorer.cache is problem.plain.scorer.cache is not None
    assert home.scorer.holds(home.inputs("train"))


def test_texts_of_another_template_are_read_once_and_charged_once():
    problem, frame, _ = pair("gpt2", template=True)
    start = {**problem.initial(0), **frame}
    home = problem.problem_for(frame)
    assert home.scorer.cache is None  # a frame that is only tried for size reads nothing
    batch = problem.batch(0, 0)
    anew, frame_anew, _ = pair("gpt2", template=True, max_cache_bytes=0)
    assert problem.num_tokens(start, batch) < anew.num_tokens({**start, **frame_anew}, anew.batch(0, 0))
    texts = {row.before for split in ("train", "select") for row in home.inputs(split)}
    assert all(text in home.scorer.cache._held for text in texts)
    read = sum(map(len, texts))
    assert problem.prefill_cost([start, start, problem.initial(0)], []).model_tokens == read > 0
    assert problem.prefill_cost([start], [start]).model_tokens == 0


def test_nothing_is_charged_where_no_other_text_is_kept():
    problem, frame, _ = pair("llama")  # label words alone: the texts are those of the config's own template
    assert problem.prefill_cost([frame], []).model_tokens == 0
    problem, frame, _ = pair("llama", template=True)  # slots first
    assert problem.prefill_cost([frame], []).model_tokens == 0
    problem, frame, _ = pair("gpt2", template=True, max_cache_bytes=7)  # no room
    problem.score([{**problem.initial(0), **frame}], "select")
    assert problem.problem_for(frame).scorer.cache is None and problem.prefill_cost([frame], []).model_tokens == 0


def test_frozen_dropout_is_dropped_alike_in_a_frame():
    problem, frame, _ = pair("llama", frozen_dropout=True)
    assert problem.problem_for(frame).scorer.shares is False


@pytest.mark.parametrize(
    "stage", [TorchStage(lr=0.1), TorchStage("LBFGS", lr=0.1), CMAStage(population=4, dim=4)], ids=["adamw", "lbfgs", "cma"]
)
def test_stages_carry_a_frame_and_do_not_move_it(stage):
    problem, frame, plain = pair("llama", template=True)
    start = problem.initial(0)
    state = stage.restart(stage.init(problem, start, seed=1), {**start, **frame}, seed=2)
    same = stage.restart(stage.init(plain, start, seed=1), start, seed=2)
    serializer = TorchSerializer()
    for _ in range(3):
        state, seen = stage.step(problem, state)
        same, expected = stage.step(plain, same)
        assert seen == expected
        state = serializer.load_state(*serializer.dump_state(state))
    assert torch.equal(state.params["prompt"], same.params["prompt"]) and not torch.equal(state.params["prompt"], start["prompt"])
    assert torch.equal(state.params[FRAME], frame[FRAME]) and state.params[FRAME].dtype == torch.uint8


def test_moments_are_kept_where_a_restart_brings_other_words():
    problem, frame, _ = pair("llama")
    stage = TorchStage(lr=0.1, on_restart="keep")
    state, _ = stage.step(problem, stage.init(problem, {**problem.initial(0), **frame}, seed=0))
    assert (
        stage.restart(
            state, frame_of(problem, {"label_words.business": "a", "label_words.music": "the", "label_words.sport": "of"}), seed=0
        ).moments
        == state.moments
    )


def test_blends_are_read_in_the_frame_that_is_proposed():
    problem, frame, _ = pair("llama")
    start, proposed = problem.initial(0), problem.codec.encode("topic of the").params
    blended = problem.codec.blend(start, {**proposed, **frame}, 0.25)
    assert torch.equal(blended[FRAME], frame[FRAME])
    assert torch.equal(blended["prompt"], 0.75 * start["prompt"] + 0.25 * proposed["prompt"])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"label_words.sport": "goal", "label_words.music": "song"}, "Of 3 labels only 2 have a word: business, music, sport"),
        ({**FILLED, "label_words.music": "goal"}, "'music' and 'sport' have the same label word 'goal'"),
        ({**FILLED, "label_words.music": " "}, "label word of 'music' is empty"),
        (
            {**FILLED, "label_words.weather": "rain"},
            "nothing to fill that is called label_words.weather; there is: template",
        ),
        ({"label_words": "economy"}, "nothing to fill that is called label_words;"),
        ({"template": "{text} Topic:"}, r"must hold each of these once, and nothing else in braces: \{text\}, \{slots\}"),
        ({"template": "{text} {slots} {label}"}, "must hold each of these once"),
        ({"template": "{text} {slots} {a b}"}, "must hold each of these once"),
        ({"template": "{text} {text} {slots}"}, "must hold each of these once"),
    ],
)
def test_what_cannot_be_filled_in_is_refused(fields, said):
    problem, _, _ = pair("llama")
    with pytest.raises(CodecError, match=said):
        frame_of(problem, fields)


def test_a_template_that_leaves_no_room_is_refused():
    problem = framed_problem("llama", words=OWN, max_length=16)
    with pytest.raises(CodecError, match="alone takes"):
        frame_of(problem, {"template": "{text} {slots}" + " the topic of the news" * 6})


def test_a_problem_without_pairs_refuses_them():
    with pytest.raises(CodecError, match="fill the slots alone"):
        frame_of(soft_prompt_problem("llama", words=OWN), FILLED)


def test_words_belong_to_their_labels_whatever_their_order():
    problem, frame, _ = pair("llama")
    assert torch.equal(frame_of(problem, dict(reversed(FILLED.items())))[FRAME], frame[FRAME])


def test_a_frame_survives_as_a_value():
    frame = PatternVerbalizer("Überschrift: {text}\n{slots}", ("日本", "a|b"))
    assert PatternVerbalizer.of({FRAME: frame.tensor()}) == frame
    assert PatternVerbalizer.from_fields(frame.fields(("x", "y")), ("x", "y")) == frame
    assert without_pair({"prompt": torch.ones(1), FRAME: frame.tensor()}).keys() == {"prompt"}

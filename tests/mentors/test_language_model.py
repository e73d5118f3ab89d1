"""The language-model mentor: what it sends, and what it makes of what comes back."""

from __future__ import annotations

import pytest

from maao.codecs.numbers import NumberCodec
from maao.core.acceptance import AlwaysFirst
from maao.core.loop import alternate
from maao.core.plan import rounds
from maao.errors import BudgetError, ChatError
from maao.llm.ledger import MemoryLedger, Recorded
from maao.llm.scripted import FailingModel, Scripted
from maao.mentors.controls import RandomRestart, Reproject
from maao.mentors.instruction import Shown, Task, wording
from maao.mentors.language_model import LanguageModelMentor
from maao.mentors.scripted import Scripted as Script
from maao.optimizers.torch import TorchStage
from maao.problems.functions import FunctionProblem
from maao.protocols import Decoded
from maao.types import Rejected, failed_calls
from tests.mentors.histories import TOLD, finished

CODEC = NumberCodec(2)


def mentor(model, style="chat", **options):
    return LanguageModelMentor(model, Task("Find the minimum."), CODEC, style=style, template=wording(style), **options)


def asked(reply, style="chat", history=(), count=3, **options):
    """Return the advice, and the requests that were made."""
    requests = []

    def answer(request):
        requests.append(request)
        return reply(request) if callable(reply) else reply

    return mentor(Scripted(answer), style, **options).propose(history, count=count, seed=5), requests


def test_chat_asks_once_and_reads_a_list():
    advice, requests = asked("1. 0 1\n2. 2 3\n3. -4 5")
    assert [p.text for p in advice.proposals] == ["0 1", "2 3", "-4 5"] and len(requests) == 1


def test_chat_asks_again_for_what_a_reply_left_missing():
    advice, requests = asked(lambda request: f"- {request.sample} 0\n- 7 7", count=4, retries=2)
    assert [p.text for p in advice.proposals] == ["0 0", "7 7", "1 0", "2 0"]
    assert [request.sample for request in requests] == [0, 1, 2] and len({request.text for request in requests}) == 1
    assert [rejected.reason for rejected in advice.rejected] == ["tried before", "tried before"]
    assert advice.cost.llm_calls == 3


def test_chat_asks_no_more_once_it_has_enough():
    assert len(asked("- 1 1\n- 2 2", count=2, retries=5)[1]) == 1


def test_an_example_of_the_wording_said_again_is_not_taken():
    told = LanguageModelMentor(
        Scripted(lambda request: "- When in the year was this written?\n- 3 3"), Task("Find it."), CODEC, template=wording("guided")
    ).propose((), count=2, seed=0)
    assert [p.text for p in told.proposals] == ["3 3"] and [r.reason for r in told.rejected] == ["tried before"]


def test_settings_reach_the_request():
    _, (request,) = asked("0 1", temperature=0.3, top_p=0.5, max_tokens=33)
    assert (request.temperature, request.top_p, request.max_tokens, request.style, request.stop) == (0.3, 0.5, 33, "chat", ())


def test_request_has_a_seed_of_its_own_that_every_provider_takes():
    _, (request,) = asked("0 1")
    assert request.seed is not None and 0 <= request.seed < 2**31 and request.seed != 5


def test_completion_asks_until_it_has_enough():
    advice, requests = asked(lambda r: f" {r.sample} 0", "completion")
    assert [p.text for p in advice.proposals] == ["0 0", "1 0", "2 0"]
    assert [r.sample for r in requests] == [0, 1, 2] and {r.stop for r in requests} == {("\n",)}


def test_completion_gives_up_after_its_samples_and_keeps_what_was_rejected():
    advice, requests = asked(" 1 1", "completion", max_samples=4)
    assert len(requests) == 4 and len(advice.proposals) == 1
    assert [r.reason for r in advice.rejected] == ["tried before"] * 3


def test_every_call_is_paid_for():
    advice, requests = asked(lambda r: f" {r.sample} 0", "completion")
    assert advice.cost.llm_calls == len(requests) and advice.cost.input_tokens > 0 and advice.cost.output_tokens > 0


def test_text_that_cannot_be_encoded_is_rejected_with_the_codecs_reason():
    advice, _ = asked("0 1\nthe origin")
    assert len(advice.proposals) == 1
    assert [r.text for r in advice.rejected] == ["the origin"] and "2 finite numbers" in advice.rejected[0].reason


def test_texts_of_the_history_are_not_taken_again():
    history = (finished(0, "0 1", 2.0), finished(1, "5 5", 1.0, proposals=(("2 3", 1.0, 0),)))
    advice, _ = asked("0 1\n2 3\n4 5", history=history)
    assert [p.text for p in advice.proposals] == ["4 5"]


def test_text_that_starts_where_another_did_is_rejected():
    advice, _ = asked("1. 0 1\n2. 0.0000001 1\n3. 2 3")  # equal once rounded to the codec's digits
    assert [p.text for p in advice.proposals] == ["0 1", "2 3"]
    assert [(r.text, "starts where another did" in r.reason) for r in advice.rejected] == [("0.0000001 1", True)]


def test_proposal_names_who_made_it():
    assert asked("0 1")[0].proposals[0].source == "scripted"


@pytest.mark.parametrize(("shown", "told"), [(Shown(), False), (Shown(examples=True), True)])
def test_training_examples_are_sent_only_where_asked(shown, told):
    _, (request,) = asked("0 1", history=TOLD, shown=shown)
    assert ("star wins award" in request.text) is told


# -- calls that fail


@pytest.mark.parametrize(("error", "kind"), [(ChatError("the line is dead"), "failed_call"), (BudgetError("the cap is reached"), "capped")])
def test_failed_call_costs_its_round_the_proposals_and_is_recorded(error, kind):
    advice = mentor(FailingModel(error)).propose((), count=3, seed=0)
    assert advice.proposals == () and advice.rejected == (Rejected("", str(error), kind),)


def test_failed_sample_keeps_the_proposals_before_it():
    def reply(request):
        if request.sample == 1:
            raise ChatError("the line is dead")
        return " 0 0"

    advice, _ = asked(reply, "completion")
    assert [p.text for p in advice.proposals] == ["0 0"] and advice.rejected[-1] == Rejected("", "the line is dead", "failed_call")


def test_run_goes_on_when_every_call_fails():
    problem = FunctionProblem("ackley", codec=CODEC)
    failing = mentor(Recorded(FailingModel("the line is dead"), MemoryLedger()))
    history = tuple(alternate(problem, TorchStage(), failing, plan=rounds(2, steps=2), accept=AlwaysFirst(), seed=0))
    assert len(history) == 4 and failed_calls(history) == (Rejected("", "the line is dead", "failed_call"),) * 2
    assert history[-1].state.step == 6 and all(r.verdict.reason == "no proposal to judge" for r in history[2:])


# -- mentors that ask nobody


def test_script_goes_on_where_the_history_left_it():
    history = (finished(0, "x", 1.0), finished(1, "y", 1.0, proposals=(("a", 1.0, 0), ("b", 1.0, 0))))
    assert [p.text for p in Script(("0 0", "1 1", "2 2", "3 3"), CODEC).propose(history, count=1, seed=0).proposals] == ["2 2"]


def test_script_that_is_used_up_says_so():
    advice = Script((), CODEC).propose((), count=1, seed=0)
    assert advice.proposals == () and "used up" in advice.rejected[0].reason


def test_reproject_without_a_point_says_so():
    assert "before the first round" in Reproject(CODEC).propose((), count=1, seed=0).rejected[0].reason


def test_a_random_restart_may_have_no_words():
    class Wordless(type(CODEC)):
        def decode(self, params):
            return Decoded(None, note="no text survives")

    proposals = RandomRestart(Wordless(2)).propose((), count=2, seed=1).proposals
    assert [proposal.text for proposal in proposals] == ["", ""]


def test_random_restarts_draw_as_the_beginning_is_drawn():
    problem = FunctionProblem("ackley", codec=CODEC)
    proposals = RandomRestart(CODEC).propose((), count=4, seed=1).proposals
    assert len({p.text for p in proposals}) == 4 and all(p.params["x"].abs().max() <= problem.bound for p in proposals)

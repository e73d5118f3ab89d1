import pytest

from maao.errors import BudgetError, ChatError, LedgerMiss, StoreError
from maao.llm.budget import Capped, CountedOnce, Meter
from maao.llm.chat import Reply, Usage
from maao.llm.ledger import MemoryLedger, Recorded, Replayed, Totals, WithExtra
from maao.llm.price import FREE
from maao.llm.scripted import FailingModel, Scripted
from maao.protocols import ChatModel
from maao.types import Rejected
from tests.llm.asking import ask


class Counting:
    """Replies with how often it was asked: shows hidden calls."""

    name, is_remote, price = "m", True, None

    def __init__(self):
        self.calls = 0
        self.closed = 0

    def close(self):
        self.closed += 1

    def complete(self, request):
        self.calls += 1
        return Reply(f"reply {self.calls}", Usage(10, 5, 0.25), model="m-2026")


def test_recorded_call_is_never_repeated():
    counting, ledger = Counting(), MemoryLedger()
    model = Recorded(counting, ledger)
    first = model.complete(ask())
    assert model.complete(ask()) == first
    assert counting.calls == model.live_calls == 1


def test_another_process_with_the_same_ledger_makes_no_call():
    ledger = MemoryLedger()
    first = Recorded(Counting(), ledger).complete(ask())
    later = Recorded(FailingModel(), ledger)
    assert later.complete(ask()) == first
    assert later.live_calls == 0


@pytest.mark.parametrize("other", [ask("ho"), ask(sample=1), ask(temperature=0.5), ask(seed=1), ask(stop=("x",)), ask(extra={"top_k": 1})])
def test_every_part_of_a_request_makes_another_call(other):
    model = Recorded(Counting(), MemoryLedger())
    assert model.complete(ask()) != model.complete(other)
    assert model.live_calls == 2


@pytest.mark.parametrize("error", [ChatError("down"), BudgetError("cap"), RuntimeError("defect")])
def test_failure_is_not_recorded_as_a_reply(error):
    ledger = MemoryLedger()
    failing = Recorded(FailingModel(error), ledger)
    with pytest.raises(type(error)):
        failing.complete(ask())
    assert ledger.totals() == Totals() and ledger.get(ask().key) is None
    assert Recorded(Scripted(["better now"]), ledger).complete(ask()).text == "better now"


def test_reply_is_in_the_ledger_before_it_is_returned():
    class Breaking(MemoryLedger):
        def put(self, request, reply):
            super().put(request, reply)
            raise KeyboardInterrupt

    ledger = Breaking()
    with pytest.raises(KeyboardInterrupt):
        Recorded(Counting(), ledger).complete(ask())
    assert ledger.get(ask().key).text == "reply 1"


def test_recorded_reply_says_when_it_came():
    reply = Recorded(Counting(), MemoryLedger()).complete(ask())
    assert reply.date.endswith("+00:00") and reply.seconds > 0


def test_totals_add_up_recorded_replies():
    ledger = MemoryLedger()
    model = Recorded(Counting(), ledger)
    for k in range(3):
        model.complete(ask(sample=k))
        model.complete(ask(sample=k))
    assert ledger.totals() == Totals(calls=3, input_tokens=30, output_tokens=15, usd=0.75)
    assert ledger.totals().tokens == 45


def test_replay_gives_what_was_recorded():
    ledger = MemoryLedger()
    reply = Recorded(Counting(), ledger).complete(ask())
    replayed = Replayed(ledger, "m")
    assert replayed.complete(ask()) == reply and replayed.name == "m"
    assert replayed.live_calls == 0 and not replayed.is_remote


def test_replay_of_a_call_never_made_says_what_to_do():
    with pytest.raises(LedgerMiss, match="maao resume") as caught:
        Replayed(MemoryLedger(), "m").complete(ask(sample=4))
    assert ask(sample=4).key in str(caught.value) and "sample 4" in str(caught.value)


def test_recorded_reply_is_never_replaced():
    ledger = MemoryLedger()
    ledger.put(ask(), Reply("a"))
    ledger.put(ask(), Reply("a"))
    with pytest.raises(StoreError, match="never replaced"):
        ledger.put(ask(), Reply("b"))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda m: Recorded(m, MemoryLedger()),
        lambda m: Capped(m, Meter()),
        lambda m: CountedOnce(m, Meter()),
        lambda m: WithExtra(m, {"a": 1}),
    ],
)
def test_a_wrapper_is_all_that_the_model_is(wrap):
    counting = Counting()
    wrapped = wrap(counting)
    assert isinstance(wrapped, ChatModel) and isinstance(counting, ChatModel)
    assert (wrapped.name, wrapped.is_remote, wrapped.price) == ("m", True, None)
    assert (wrap(Scripted(["a"])).is_remote, wrap(Scripted(["a"])).price) == (False, FREE)
    wrapped.close()
    assert counting.closed == 1


@pytest.mark.parametrize(("kind", "error"), [("failed_call", ChatError), ("capped", BudgetError)])
def test_a_call_that_failed_fails_again_in_a_replay_as_it_did(kind, error):
    with pytest.raises(error, match="as it was") as caught:
        Replayed(MemoryLedger(), "m", [Rejected("", "as it was", kind)]).complete(ask())
    assert type(caught.value) is error

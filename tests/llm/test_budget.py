import pytest

from maao.errors import BudgetError, ChatError, ConfigError, Waiting
from maao.llm.budget import REFUSED, Capped, Caps, CountedOnce, Meter, shared_accounts, spending_from, worst_case_tokens
from maao.llm.chat import Reply, Usage
from maao.llm.ledger import MemoryLedger, Recorded, Totals
from maao.llm.price import FREE, Price, known_price
from maao.llm.scripted import Scripted
from maao.store.attempts import Spending
from tests.llm.asking import ask

PRICE = Price(input=1.0, output=10.0)


class Greedy:
    """Uses its whole worst case."""

    name, is_remote, price = "m", True, PRICE

    def __init__(self):
        self.calls = 0

    def complete(self, request):
        self.calls += 1
        used = worst_case_tokens(request)
        return Reply("x", Usage(*used, usd=PRICE.usd(*used)))


def capped(model, ledger, *, shared=(), **caps):
    meter = Meter([(ledger, Caps(**caps))], model.price, shared=shared)
    return Recorded(Capped(CountedOnce(model, meter), meter, model), ledger)


def recorded(**caps):
    ledger, greedy = MemoryLedger(), Greedy()
    return capped(greedy, ledger, **caps), greedy, ledger


@pytest.mark.parametrize(
    ("caps", "calls"),
    [
        ({"calls": 3}, 3),
        ({"tokens": 2 * sum(worst_case_tokens(ask(max_tokens=100)))}, 2),
        ({"tokens": 2 * sum(worst_case_tokens(ask(max_tokens=100))) - 1}, 1),
        ({"usd": 0.0035}, 3),
        ({"calls": 0}, 0),
        ({}, 6),
    ],
)
def test_no_cap_is_ever_passed(caps, calls):
    model, greedy, ledger = recorded(**caps)
    for k in range(6):
        try:
            model.complete(ask(max_tokens=100, sample=k))
        except BudgetError:
            break
    totals = ledger.totals()
    assert greedy.calls == totals.calls == calls
    assert totals.tokens <= caps.get("tokens", totals.tokens) and totals.usd <= caps.get("usd", totals.usd)


def test_refusal_says_cap_spent_and_possible_cost():
    spent, worst = Totals(7, 900, 50, usd=0.02), Totals(1, 66, 100, usd=0.001066)
    told = Caps(tokens=1000).refusal(spent, worst)
    assert told == (
        "Call not made: the cap is 1000 tokens, 950 are spent, and this call could take 166 (prompt at most 66, reply at most 100)."
    )
    told = Caps(usd=0.0205, whose="the comparison's").refusal(spent, worst)
    assert told == (
        "Call not made: the comparison's cap is $0.0205, $0.02 is spent, and this call could cost $0.001066 (prompt at most 66 tokens, "
        "reply at most 100)."
    )
    assert Caps(calls=7).refusal(spent, worst) == "Call not made: the cap of 7 calls is reached (7 made)."
    assert Caps(calls=8, tokens=1116, usd=0.021066).refusal(spent, worst) == "" == Caps().refusal(spent, worst)


def test_money_that_is_not_known_may_be_too_much():
    assert Caps(usd=1.0).refusal(Totals(usd=float("nan")), Totals(1)) and Caps(usd=1.0).refusal(Totals(), Totals(1, usd=float("nan")))


def test_recorded_replies_cost_nothing_even_when_the_cap_is_reached():
    model, greedy, _ = recorded(calls=1)
    first = model.complete(ask())
    assert model.complete(ask()) == first and greedy.calls == 1


def test_resumed_run_does_the_same_arithmetic():
    model, _, ledger = recorded(calls=2)
    model.complete(ask(sample=0))
    resumed = capped(Greedy(), ledger, calls=2)
    resumed.complete(ask(sample=1))
    with pytest.raises(BudgetError):
        resumed.complete(ask(sample=2))


class Failing(Greedy):
    """Gives no reply when it is told to fail; it may have been billed all the same."""

    def __init__(self, *failing):
        super().__init__()
        self.failing = failing

    def complete(self, request):
        reply = super().complete(request)
        if self.calls in self.failing:
            raise ChatError("the line broke")
        return reply


def outcomes(model, times):
    found = []
    for k in range(times):
        try:
            model.complete(ask(max_tokens=100, sample=k))
            found.append("reply")
        except BudgetError:
            found.append("refused")
        except ChatError:
            found.append("failed")
    return found


WORST = worst_case_tokens(ask(max_tokens=100))


@pytest.mark.parametrize(
    "caps",
    [{"calls": 3}, {"tokens": 3 * sum(WORST)}, {"usd": 3 * PRICE.usd(*WORST)}],
    ids=lambda c: next(iter(c)),
)
def test_call_that_failed_counts_for_every_cap(caps):
    ledger, failing = MemoryLedger(), Failing(2)
    model = capped(failing, ledger, **caps)
    assert outcomes(model, 5) == ["reply", "failed", "reply", "refused", "refused"]
    assert failing.calls == 3 and ledger.totals().calls == 2
    assert ledger.spent() == ledger.totals() + Totals(1, *WORST, PRICE.usd(*WORST), unanswered=1)


def test_what_failed_counts_in_the_next_process_too():
    ledger = MemoryLedger()
    assert outcomes(capped(Failing(1, 2), ledger, calls=3), 2) == ["failed", "failed"]
    assert outcomes(capped(Greedy(), ledger, calls=3), 3) == ["reply", "refused", "refused"]


def test_an_attempt_that_is_cut_off_counts_at_its_worst():
    class Cut(Greedy):
        def complete(self, request):
            raise KeyboardInterrupt

    ledger = MemoryLedger()
    with pytest.raises(KeyboardInterrupt):
        capped(Cut(), ledger).complete(ask(max_tokens=100))
    assert ledger.spent() == Totals(1, *WORST, PRICE.usd(*WORST), unanswered=1)
    capped(Greedy(), ledger).complete(ask(max_tokens=100))  # asked again: two attempts for one request
    assert ledger.spent() == Totals(2, 2 * WORST[0], 2 * WORST[1], 2 * PRICE.usd(*WORST), unanswered=1)


@pytest.mark.parametrize(
    ("used", "spent"),
    [(REFUSED, Totals(1, unanswered=1)), (Totals(1, 5, 0, 0.5), Totals(1, 5, 0, 0.5, unanswered=1)), (Totals(), Totals())],
)
def test_what_an_attempt_without_a_reply_took_takes_the_place_of_its_worst(used, spent):
    ledger = MemoryLedger()
    Meter([(ledger, Caps())], PRICE).begin(ask()).end(used)
    assert ledger.spent() == spent


def test_two_accounts_are_both_held_to_and_neither_counts_what_the_other_refused():
    own, shared = MemoryLedger(), MemoryLedger()
    model = capped(Greedy(), own, calls=5, shared=[(shared, Caps(calls=1, whose="the comparison's"))])
    model.complete(ask(max_tokens=100))
    with pytest.raises(BudgetError, match="the comparison's cap of 1 calls is reached"):
        model.complete(ask(max_tokens=100, sample=1))
    meter = Meter([(own, Caps())], PRICE, shared=[(shared, Caps(calls=1))])
    with pytest.raises(BudgetError):
        meter.begin(ask(max_tokens=100, sample=2))
    assert own.spent() == Totals(1, *WORST, PRICE.usd(*WORST)) and shared.spent().calls == 1


@pytest.fixture(params=["memory", "file"])
def account(request, tmp_path):
    return MemoryLedger() if request.param == "memory" else Spending(tmp_path / "spending.sqlite")


def test_each_call_to_a_server_is_an_attempt_of_its_own_though_one_waits(account):
    meter = Meter([(account, Caps(calls=3))], PRICE)
    meter.begin(ask(), by_file=True).waits()
    meter.begin(ask(), by_file=True).waits()  # the same one
    assert account.spent().calls == 1
    for _ in range(2):
        meter.begin(ask()).end(REFUSED)
    with pytest.raises(BudgetError, match="cap of 3 calls is reached"):
        meter.begin(ask())
    with pytest.raises(BudgetError, match="cap of 3 calls is reached"):
        meter.check(ask())
    meter.check(ask(), by_file=True)
    assert account.spent().calls == 3


def test_an_attempt_waits_no_more_once_it_has_ended(account):
    meter = Meter([(account, Caps(calls=1))], PRICE)
    meter.begin(ask(), by_file=True).waits()
    meter.begin(ask(), by_file=True).end(REFUSED)
    with pytest.raises(BudgetError, match="cap of 1 calls is reached"):
        meter.begin(ask(), by_file=True)


def test_what_is_refused_takes_no_attempt_away_that_waits(account):
    Meter([(account, Caps(calls=1))], PRICE).begin(ask(), by_file=True).waits()
    before = account.spent()
    with pytest.raises(BudgetError, match="cap of 0 calls"):
        Meter([(account, Caps(calls=1))], PRICE, shared=[(MemoryLedger(), Caps(calls=0))]).begin(ask(), by_file=True)
    assert account.spent() == before and account.waiting(ask().key) is not None


def test_runs_spend_from_what_they_share_within_it_alone():
    account = MemoryLedger(), Caps(calls=3)
    with spending_from(*account):
        assert shared_accounts() == (account,)
    assert shared_accounts() == ()


class ByFile(Greedy):
    """Answers what is in `there`; waits for all else."""

    def __init__(self, *there):
        super().__init__()
        self.there = there

    def has_reply(self, request):
        return request.sample in self.there

    def complete(self, request):
        if not self.has_reply(request):
            raise Waiting("not yet")
        return super().complete(request)


def test_a_request_that_waits_is_spent_once_however_often_and_by_whomever_it_is_asked():
    shared = MemoryLedger()
    caps = Caps(calls=1)
    for _ in range(3):
        own = MemoryLedger()
        for _ in range(2):
            with pytest.raises(Waiting):
                capped(ByFile(), own, shared=[(shared, caps)]).complete(ask(max_tokens=100))
        assert own.spent().calls == shared.spent().calls == 1
    with pytest.raises(BudgetError):
        capped(ByFile(), own, shared=[(shared, caps)]).complete(ask(max_tokens=100, sample=1))
    capped(ByFile(0), own, calls=1, shared=[(shared, caps)]).complete(ask(max_tokens=100))
    assert own.spent() == Totals(1, *WORST, PRICE.usd(*WORST)) and shared.spent().calls == 1


def test_replies_at_hand_count_for_the_run_and_not_for_what_runs_share():
    own, shared = MemoryLedger(), MemoryLedger()
    model = capped(ByFile(0, 1, 2), own, calls=2, shared=[(shared, Caps(calls=1))])
    assert outcomes(model, 3) == ["reply", "reply", "refused"]
    assert own.spent().calls == 2 and shared.spent() == Totals()


def test_refusal_says_how_many_calls_failed():
    ledger = MemoryLedger()
    model = capped(Failing(1), ledger, calls=2)
    outcomes(model, 2)
    with pytest.raises(BudgetError, match=r"cap of 2 calls is reached \(2 made, with 1 that failed counted at their most\)"):
        model.complete(ask(sample=9))


def test_refused_call_is_not_one_that_failed():
    ledger = MemoryLedger()
    assert outcomes(capped(Greedy(), ledger, tokens=1), 3) == ["refused"] * 3 and ledger.spent() == Totals()


TEXTS = ["Say hello.", "日本語も。", "🙂🙃 👩‍👩‍👧", "Ünïcödé", "\x00\x07\x1b", "xqzjv" * 9, " \n\t  \r\n", ""]


@pytest.mark.parametrize("text", TEXTS, ids=repr)
@pytest.mark.parametrize("style", ["chat", "completion"])
def test_no_text_has_more_tokens_than_its_worst_case(text, style, tiny_tokenizer):
    if style == "chat":
        ids = tiny_tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True)["input_ids"]
    else:
        ids = tiny_tokenizer(text)["input_ids"]
    assert len(ids) <= worst_case_tokens(ask(text, style=style))[0]


def test_money_cap_without_a_price_is_refused_at_once():
    greedy = Greedy()
    greedy.price = None
    with pytest.raises(ConfigError, match="Set its price"):
        Capped(greedy, Meter([(MemoryLedger(), Caps(usd=1.0))]))


def test_worst_case_counts_what_a_chat_template_adds():
    chat, completion = worst_case_tokens(ask()), worst_case_tokens(ask(style="completion"))
    assert chat[0] > completion[0] and chat[1] == completion[1] == 256
    schema = {"type": "object"}
    assert worst_case_tokens(ask(schema=schema))[0] == chat[0] + len('{"type": "object"}') + 8


def test_capped_model_keeps_the_name_and_place_of_the_model():
    model = Capped(Scripted(["a"], name="s"), Meter())
    assert model.name == "s" and not model.is_remote and model.price == FREE


def test_price_of_a_known_model_is_found_and_of_an_unknown_one_is_not():
    pytest.importorskip("genai_prices")
    price = known_price("gpt-4o-mini", "https://api.openai.com/v1")
    assert price is not None and 0 < price.input < price.output < 100
    assert known_price("no-such-model-at-all", "https://api.openai.com/v1") is None
    assert known_price("SmolLM2-135M", "http://127.0.0.1:8000/v1") is None

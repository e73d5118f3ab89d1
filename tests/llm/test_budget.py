import pytest

from maao.errors import BudgetError, ChatError, ConfigError
from maao.llm.budget import Capped, worst_case_tokens
from maao.llm.chat import Reply, Usage
from maao.llm.ledger import MemoryLedger, Recorded, Totals
from maao.llm.price import FREE, Price, known_price
from maao.llm.scripted import Scripted
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


def recorded(**caps):
    ledger, greedy = MemoryLedger(), Greedy()
    return Recorded(Capped(greedy, spent=ledger.totals, **caps), ledger), greedy, ledger


@pytest.mark.parametrize(
    ("caps", "calls"),
    [
        ({"max_calls": 3}, 3),
        ({"max_tokens": 2 * sum(worst_case_tokens(ask(max_tokens=100)))}, 2),
        ({"max_tokens": 2 * sum(worst_case_tokens(ask(max_tokens=100))) - 1}, 1),
        ({"max_usd": 0.0035}, 3),
        ({"max_calls": 0}, 0),
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
    assert totals.tokens <= caps.get("max_tokens", totals.tokens) and totals.usd <= caps.get("max_usd", totals.usd)


def test_refusal_is_a_chat_error_that_says_cap_spent_and_possible_cost():
    spent = Totals(calls=7, input_tokens=900, output_tokens=50, usd=0.02)
    with pytest.raises(ChatError) as tokens:
        Capped(Greedy(), spent=lambda: spent, max_tokens=1000).complete(ask(max_tokens=100))
    assert "cap is 1000 tokens" in str(tokens.value) and "950 are spent" in str(tokens.value) and "166" in str(tokens.value)
    with pytest.raises(BudgetError) as usd:
        Capped(Greedy(), spent=lambda: spent, max_usd=0.0205).complete(ask(max_tokens=100))
    assert "$0.0205" in str(usd.value) and "$0.02 " in str(usd.value) and "$0.001066" in str(usd.value)
    with pytest.raises(BudgetError, match=r"cap of 7 calls is reached \(7 made\)"):
        Capped(Greedy(), spent=lambda: spent, max_calls=7).complete(ask())


def test_recorded_replies_cost_nothing_even_when_the_cap_is_reached():
    model, greedy, _ = recorded(max_calls=1)
    first = model.complete(ask())
    assert model.complete(ask()) == first and greedy.calls == 1


def test_resumed_run_does_the_same_arithmetic():
    model, _, ledger = recorded(max_calls=2)
    model.complete(ask(sample=0))
    resumed = Recorded(Capped(Greedy(), spent=ledger.totals, max_calls=2), ledger)
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
    [{"max_calls": 3}, {"max_tokens": 3 * sum(WORST)}, {"max_usd": 3 * PRICE.usd(*WORST)}],
    ids=lambda c: next(iter(c)),
)
def test_call_that_failed_counts_for_every_cap(caps):
    ledger, failing = MemoryLedger(), Failing(2)
    model = Recorded(Capped(failing, spent=ledger.totals, **caps), ledger)
    assert outcomes(model, 5) == ["reply", "failed", "reply", "refused", "refused"]
    assert failing.calls == 3 and ledger.totals().calls == 2


def test_refusal_says_how_many_calls_failed():
    ledger = MemoryLedger()
    model = Recorded(Capped(Failing(1), spent=ledger.totals, max_calls=2), ledger)
    outcomes(model, 2)
    with pytest.raises(BudgetError, match=r"cap of 2 calls is reached \(2 made, with 1 that failed counted at their most\)"):
        model.complete(ask(sample=9))


def test_refused_call_is_not_one_that_failed():
    capped = Capped(Greedy(), spent=Totals, max_tokens=1)
    assert outcomes(capped, 3) == ["refused"] * 3 and capped.failed == Totals()


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
        Capped(greedy, spent=Totals, max_usd=1.0)


def test_worst_case_counts_what_a_chat_template_adds():
    chat, completion = worst_case_tokens(ask()), worst_case_tokens(ask(style="completion"))
    assert chat[0] > completion[0] and chat[1] == completion[1] == 256


def test_capped_model_keeps_the_name_and_place_of_the_model():
    capped = Capped(Scripted(["a"], name="s"), spent=Totals)
    assert capped.name == "s" and not capped.is_remote and capped.price == FREE


def test_price_of_a_known_model_is_found_and_of_an_unknown_one_is_not():
    pytest.importorskip("genai_prices")
    price = known_price("gpt-4o-mini", "https://api.openai.com/v1")
    assert price is not None and 0 < price.input < price.output < 100
    assert known_price("no-such-model-at-all", "https://api.openai.com/v1") is None
    assert known_price("SmolLM2-135M", "http://127.0.0.1:8000/v1") is None

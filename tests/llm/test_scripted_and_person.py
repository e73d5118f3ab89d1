import io

import pytest

from maao.errors import BudgetError, ChatError, ConfigError
from maao.llm.person import Person
from maao.llm.scripted import FailingModel, Scripted
from tests.llm.asking import ask


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_scripted_reply_depends_on_the_request_alone():
    model = Scripted(["a", "b", "c"])
    texts = [model.complete(ask(sample=k)).text for k in (2, 0, 1, 0, 3, 2)]
    assert texts == ["c", "a", "b", "a", "a", "c"]


def test_scripted_callable_sees_the_request():
    model = Scripted(lambda request: f"{request.text}!{request.sample}", name="echo")
    reply = model.complete(ask("hey", sample=1))
    assert reply.text == "hey!1" and reply.model == model.name == "echo"
    assert reply.usage.estimated and reply.usage.input_tokens > 0


@pytest.mark.parametrize("replies", [[], "one text", ()])
def test_scripted_without_a_list_of_replies_is_refused(replies):
    with pytest.raises(ConfigError, match="at least one"):
        Scripted(replies)


def test_failing_model_raises_its_error():
    with pytest.raises(ChatError, match="no luck"):
        FailingModel("no luck").complete(ask())
    with pytest.raises(BudgetError):
        FailingModel(BudgetError("cap")).complete(ask())


def test_person_reads_the_request_and_types_until_an_empty_line():
    shown = io.StringIO()
    reply = Person(Terminal("first\n  second\n\nnot read\n"), shown).complete(ask("What next?"))
    assert reply.text == "first\n  second"
    assert "What next?" in shown.getvalue()
    assert reply.usage.usd == 0 and reply.model == "person"


def test_person_may_end_with_the_input():
    assert Person(Terminal("only"), io.StringIO()).complete(ask()).text == "only"


def test_person_without_a_terminal_is_a_chat_error():
    with pytest.raises(ChatError, match="not a terminal"):
        Person(io.StringIO("text\n\n"), io.StringIO()).complete(ask())


def test_person_who_types_nothing_gave_no_reply():
    with pytest.raises(ChatError, match="no reply"):
        Person(Terminal("\n"), io.StringIO()).complete(ask())

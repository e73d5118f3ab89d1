import copy
from dataclasses import replace

import pytest

from maao.errors import ChatError, ModelError
from maao.llm.chat import Message, Request
from maao.llm.local import LocalModel

torch = pytest.importorskip("torch")


def ask(text="One, two, three", **settings):
    settings = {"max_tokens": 12, "temperature": 1.0, "seed": 1, **settings}
    return Request("tiny", (Message("user", text),), **settings)


@pytest.fixture
def model(tiny_model, tiny_tokenizer):
    return LocalModel(tiny_model, tiny_tokenizer, "tiny")


@pytest.mark.parametrize("style", ["chat", "completion"])
def test_same_request_gives_the_same_reply(model, style):
    torch.manual_seed(1)
    first = model.complete(ask(style=style))
    torch.manual_seed(2)
    assert model.complete(ask(style=style)) == first
    assert first.text and first.model == "tiny"


def test_seed_and_sample_change_a_sampled_reply(model):
    texts = {model.complete(ask(seed=seed, sample=sample)).text for seed in range(3) for sample in range(3)}
    assert len(texts) == 9


def test_without_a_seed_the_request_fixes_the_reply(model):
    assert model.complete(ask(seed=None)) == model.complete(ask(seed=None))
    assert model.complete(ask(seed=None)) != model.complete(ask(seed=None, sample=1))


def test_temperature_zero_takes_the_likeliest_tokens(model, tiny_model, tiny_tokenizer):
    reply = model.complete(ask(style="completion", temperature=0.0))
    assert model.complete(ask(style="completion", temperature=0.0, seed=9, sample=3)).text == reply.text
    ids = tiny_tokenizer("One, two, three", return_tensors="pt")["input_ids"]
    start = ids.shape[1]
    with torch.no_grad():
        for _ in range(reply.usage.output_tokens):
            ids = torch.cat([ids, tiny_model(ids).logits[:, -1:].argmax(-1)], dim=1)
    assert reply.text == tiny_tokenizer.decode(ids[0, start:], skip_special_tokens=True, clean_up_tokenization_spaces=False)


def test_sampling_does_not_touch_the_random_state_of_the_process(model):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model.complete(ask())
    assert torch.equal(torch.rand(3), expected)


def test_model_is_left_as_it_was(model, tiny_model):
    parameter = next(tiny_model.parameters())
    parameter.requires_grad_(False)
    state = {name: tensor.clone() for name, tensor in tiny_model.state_dict().items()}
    before = (copy.deepcopy(tiny_model.config.to_dict()), copy.deepcopy(tiny_model.generation_config.to_dict()))
    modes = [module.training for module in tiny_model.modules()]
    attributes = {name: set(vars(module)) for name, module in tiny_model.named_modules()}
    gradients = [p.requires_grad for p in tiny_model.parameters()]
    model.complete(ask(stop=("e",)))
    model.complete(ask(style="completion", temperature=0.0))
    assert (tiny_model.config.to_dict(), tiny_model.generation_config.to_dict()) == before
    assert [module.training for module in tiny_model.modules()] == modes
    assert {name: set(vars(module)) for name, module in tiny_model.named_modules()} == attributes
    assert [p.requires_grad for p in tiny_model.parameters()] == gradients
    assert all(torch.equal(tensor, state[name]) for name, tensor in tiny_model.state_dict().items())
    parameter.requires_grad_(True)


def test_generation_settings_of_the_model_do_not_leak_into_a_reply(model, tiny_model):
    expected = model.complete(ask())
    greedy = model.complete(ask(temperature=0.0))
    settings = tiny_model.generation_config
    kept = copy.deepcopy(settings)
    try:
        settings.update(do_sample=True, temperature=0.1, top_k=1, top_p=0.1, repetition_penalty=5.0, max_new_tokens=2, use_cache=False)
        assert model.complete(ask()) == expected
        assert model.complete(ask(temperature=0.0)) == greedy
        assert settings.use_cache is False
    finally:
        tiny_model.generation_config = kept


def test_model_in_training_mode_is_refused(tiny_model, tiny_tokenizer):
    tiny_model.train()
    try:
        with pytest.raises(ModelError, match="eval"):
            LocalModel(tiny_model, tiny_tokenizer, "tiny")
    finally:
        tiny_model.eval()


def test_text_ends_before_the_first_stop_string_and_generation_ends_with_it(model):
    whole = model.complete(ask(style="completion", max_tokens=40, temperature=0.0))
    stop = whole.text[5:7]
    reply = model.complete(ask(style="completion", max_tokens=40, temperature=0.0, stop=("never said", stop)))
    assert reply.text == whole.text[: whole.text.index(stop)]
    assert reply.finish_reason == "stop" and reply.usage.output_tokens < whole.usage.output_tokens


def test_a_call_reads_no_id_from_the_device_for_its_time_and_each_once_for_its_stops(model, monkeypatch):
    """Counted by ids that count how many of them are read."""
    from maao.llm import local

    reads, plain = [], local._stop_at

    class Counted(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            if func in (torch.Tensor.tolist, torch.Tensor.item, torch.Tensor.cpu, torch.Tensor.__int__, torch.Tensor.__bool__):
                reads.append(args[0].numel())
            return super().__torch_function__(func, types, args, kwargs or {})

    monkeypatch.setattr(local, "_stop_at", lambda is_over: plain(lambda ids: is_over(ids.as_subclass(Counted))))
    asked = ask("One, two, three " * 5, style="completion", temperature=0.0)
    timed = model.ending(lambda: 1.0).complete(asked)
    assert timed.usage.output_tokens > 1 and reads == []
    stopped = model.complete(replace(asked, stop=("never said",)))
    assert stopped.text == timed.text and reads == [1] * stopped.usage.output_tokens


def test_reply_that_reaches_its_limit_says_length(model):
    reply = model.complete(ask(style="completion", temperature=0.0, max_tokens=3))
    assert reply.finish_reason == "length" and reply.usage.output_tokens == 3


def test_usage_counts_real_tokens(model, tiny_tokenizer):
    prompt = "One, two, three"
    assert model.complete(ask(prompt, style="completion")).usage.input_tokens == len(tiny_tokenizer(prompt)["input_ids"])
    chat = tiny_tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True)["input_ids"]
    reply = model.complete(ask(prompt))
    assert reply.usage.input_tokens == len(chat) and not reply.usage.estimated and reply.usage.usd == 0


def test_first_space_of_a_continuation_is_kept(tiny_tokenizer):
    from maao.llm.local import _decoder

    prompt, both = "One, two,", "One, two, three — schöne Äpfel"
    ids = tiny_tokenizer(prompt)["input_ids"]
    rest = tiny_tokenizer(both[len(prompt) :])["input_ids"]
    assert _decoder(tiny_tokenizer, ids)(rest) == " three — schöne Äpfel"


def test_conversation_without_a_chat_template_is_a_chat_error(tiny_model, tiny_tokenizer):
    bare = copy.deepcopy(tiny_tokenizer)
    bare.chat_template = None
    with pytest.raises(ChatError, match="no chat template"):
        LocalModel(tiny_model, bare, "tiny").complete(ask())
    assert LocalModel(tiny_model, bare, "tiny").complete(ask(style="completion")).text


def test_template_that_refuses_a_system_turn_is_a_chat_error(tiny_model, tiny_tokenizer):
    strict = copy.deepcopy(tiny_tokenizer)
    strict.chat_template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(ChatError, match="System role not supported"):
        LocalModel(tiny_model, strict, "tiny").complete(ask())


def test_prompt_that_is_too_long_is_refused_with_numbers(model):
    with pytest.raises(ChatError, match=r"The prompt has \d{3,} tokens and the reply may have 12: together more than the 256"):
        model.complete(ask("walk " * 300))
    with pytest.raises(ChatError, match="reply may have 255"):
        model.complete(ask(max_tokens=255))


def test_transformers_has_nothing_to_warn_about(tiny_model, tiny_tokenizer):
    import logging

    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    try:
        model = LocalModel(tiny_model, tiny_tokenizer, "tiny")
        for temperature in (0.0, 0.7):
            for style in ("chat", "completion"):
                model.complete(ask(style=style, temperature=temperature, top_p=0.9, stop=("e",)))
        with pytest.raises(ChatError):
            model.complete(ask("walk " * 300))
    finally:
        logger.removeHandler(handler)
    assert said == []


def test_prompt_without_a_token_is_a_chat_error(model):
    with pytest.raises(ChatError, match="no token"):
        model.complete(ask("", style="completion"))


def test_local_model_is_not_remote(model):
    assert model.is_remote is False and model.name == "tiny"

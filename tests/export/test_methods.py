"""Every prompt method and way of reading, exported: what the written code gives is what ours gives."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from experiments.paper import released
from maao.build import build_for_use
from maao.config import make_config
from maao.errors import ConfigError
from maao.export.peft_write import STOCK_HEADS, export_peft, why_not_peft
from maao.export.tensors import export_tensor
from maao.types import Example
from tests.api.small_runs import LABELS, values
from tests.export.written import written

RELEASED = f"{released.__file__}:Released"

TEXTS = ["shares profit in the market", "music", "team match goal player coach"]
FRONT = "{slots} {text} It was"
METHODS = {
    "prompt": {},
    "p_tuning": {"model__method": "p_tuning"},
    "p_tuning_mlp": {"model__method": "p_tuning", "model__encoder": "mlp"},
    "pez": {"model__method": "pez"},
    "prefix": {"model__method": "prefix_tuning"},
    "projection": {"model__method": "prefix_tuning", "model__projection": True, "model__hidden": 16},
}


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory):
    """Return the function from a model type to the folder of such an encoder, with weights so large that every position reads the text."""
    import transformers as hf

    from tests.tiny import roberta_tokenizer, wordpiece_tokenizer

    parent = tmp_path_factory.mktemp("encoders")
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 66}
    further = {"albert": {"embedding_size": 16}, "electra": {"embedding_size": 16}}
    further["distilbert"] = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 66}

    def folder(architecture):
        path = parent / architecture
        if not path.exists():
            tokenizer = roberta_tokenizer() if "roberta" in architecture or architecture == "camembert" else wordpiece_tokenizer()
            kind = {"deberta": "deberta-v2"}.get(architecture, architecture)
            if "roberta" in kind or kind == "camembert":
                further[kind] = {"type_vocab_size": 1}
            options = further[kind] if kind == "distilbert" else {**small, **further.get(kind, {})}
            torch.manual_seed(0)
            model = hf.AutoModel.from_config(hf.AutoConfig.for_model(kind, vocab_size=len(tokenizer), pad_token_id=0, **options))
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.dim() > 1:
                        parameter.mul_(8)
            model.save_pretrained(path)
            tokenizer.save_pretrained(path)
        return path

    return folder


@pytest.fixture
def made(model_folder, encoder_folder):
    """Return the function from an architecture and settings to a problem, a point away from its start, and what it belongs to."""

    def make(architecture, template, method="prompt", **changes):
        if architecture.endswith("_masked"):
            changes["model__kind"] = "masked"
        place = encoder_folder if architecture in (*STOCK_HEADS, "deberta") else model_folder
        settings = values(place(architecture), {}, model__template=template, **METHODS[method], **changes)
        settings.pop("data")
        problem = build_for_use(make_config({**settings, "data": {"source": "run"}}), LABELS).problem.plain
        generator = torch.Generator().manual_seed(0)
        params = {}
        for name, value in problem.initial(1).items():
            params[name] = value + torch.randn(value.shape, generator=generator) * (1.0 if name.startswith("prefix") else 0.1)
        return problem, params, {"labels": list(LABELS), "revision": None}

    return make


def check(folder, settings, problem, params):
    ours = problem.probabilities(params, [Example({"text": text}, "") for text in TEXTS])
    assert float(ours.std(0).max()) > 1e-3  # what is read depends on the text
    prompt = written(folder, settings)
    for text, row in zip(TEXTS, ours, strict=True):
        found = prompt.probabilities({"text": text})
        assert list(found) == list(LABELS)
        assert torch.allclose(torch.tensor(list(found.values())), row, atol=1e-5)


CHOICES = ("market", "song film")
SPACED = (" market ", "\u4f53\u80b2 ")  # the second one's script sets no spaces


@pytest.mark.parametrize(
    ("architecture", "template", "choices", "space"),
    [
        ("llama", "{text} {slots} so", CHOICES, "auto"),
        ("t5", "{slots} {text}", CHOICES, "auto"),
        ("bert_masked", "{text} {slots} so {mask}", CHOICES, "auto"),
        ("llama", "{text} {slots} so", SPACED, "auto"),
        ("llama", "{text} {slots}", SPACED, "auto"),
        ("llama", "{text} {slots} \u9898\uff1a", SPACED, "auto"),
        ("llama", "{text} {slots} so", SPACED, True),
        ("llama", "{text} {slots} so", SPACED, False),
    ],
)
def test_choices_are_filled_in_where_each_text_has_its_own(made, tmp_path, architecture, template, choices, space):
    problem, params, about = made(architecture, template, model__label_space=space)
    export_tensor(problem, params, tmp_path, {**about, "choices": True})
    ours = problem.probabilities(params, [Example({"text": TEXTS[0]}, "", choices=choices)])[0]
    found = written(tmp_path).probabilities({"text": TEXTS[0]}, choices)
    assert tuple(found) == choices and torch.allclose(torch.tensor(list(found.values())), ours, atol=1e-5)


def test_choices_are_no_classes_of_a_classifier(made, tmp_path):
    problem, params, about = made("llama", FRONT)
    with pytest.raises(ConfigError, match="each example has choices of its own"):
        export_peft(problem, params, tmp_path, {**about, "choices": True}, [{"text": "music"}], classifier=True)


def peft(problem, params, folder, about, **options):
    paths, worst = export_peft(problem, params, folder, about, [{"text": text} for text in TEXTS], **options)
    assert worst < 1e-5 and all(path.is_file() for path in paths)
    return json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))


# -- PEFT


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma3"])
def test_an_adapter_of_every_method_gives_a_decoders_class_scores(made, tmp_path, architecture, method):
    problem, params, about = made(architecture, FRONT, method)
    config = peft(problem, params, tmp_path, about)
    deep = method in ("prefix", "projection")
    assert config["peft_type"] == ("PREFIX_TUNING" if deep else "PROMPT_TUNING") and config["task_type"] == "CAUSAL_LM"
    if deep and architecture == "llama":
        assert (config["num_attention_heads"], config["token_dim"]) == (2, 16)  # of keys and values, which queries share
    check(tmp_path, "use_adapter.json", problem, params)


@pytest.mark.parametrize("method", ["prompt", "p_tuning", "prefix"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "qwen2", "gemma3"])
def test_a_decoders_adapter_for_classification_gives_our_class_scores(made, tmp_path, architecture, method):
    problem, params, about = made(architecture, FRONT, method)
    config = peft(problem, params, tmp_path, about, classifier=True)
    assert config["task_type"] == "SEQ_CLS"
    assert load_file(tmp_path / "adapter_model.safetensors")["base_model.score.weight"].shape == (3, 32)
    check(tmp_path, "use_adapter.json", problem, params)


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_adapters_of_a_model_in_a_coarser_precision_are_checked_in_it(made, tmp_path, method):
    problem, params, about = made("llama", FRONT, method, model__dtype="bfloat16")
    peft(problem, params, tmp_path, about)
    _, worst = export_peft(problem, params, tmp_path, about, [{"text": text} for text in TEXTS], classifier=True)
    assert worst < 0.016  # two steps of bfloat16
    assert json.loads((tmp_path / "use_adapter.json").read_text(encoding="utf-8"))["dtype"] == "bfloat16"


@pytest.mark.parametrize(("method", "pooling"), [("prompt", "virtual"), ("p_tuning", "virtual"), ("prefix", "first")])
@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_a_stock_head_gives_the_class_scores_of_an_encoder(made, tmp_path, architecture, method, pooling):
    problem, params, about = made(architecture, "{slots} {text}", method, model__pooling=pooling)
    assert peft(problem, params, tmp_path, about)["task_type"] == "SEQ_CLS"
    assert not (tmp_path / "head.safetensors").exists()
    check(tmp_path, "use_adapter.json", problem, params)


OTHER_HEADS = [kind for kind in STOCK_HEADS if kind not in ("bert", "roberta")]


@pytest.mark.parametrize("architecture", OTHER_HEADS)
def test_every_stock_head_that_is_named_can_hold_a_linear_one(made, tmp_path, architecture):
    problem, params, about = made(architecture, "{slots} {text}", model__pooling="virtual")
    assert peft(problem, params, tmp_path, about)["task_type"] == "SEQ_CLS"
    check(tmp_path, "use_adapter.json", problem, params)


@pytest.mark.parametrize(("method", "pooling"), [("prompt", "mean"), ("prompt", "first"), ("pez", "mean"), ("prefix", "mean")])
@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_a_head_that_no_stock_head_can_hold_stands_beside_the_adapter(made, tmp_path, architecture, method, pooling):
    problem, params, about = made(architecture, "{slots} {text}", method, model__pooling=pooling)
    assert peft(problem, params, tmp_path, about)["task_type"] == "FEATURE_EXTRACTION"
    assert set(load_file(tmp_path / "head.safetensors")) == {"head.weight", "head.bias"}
    check(tmp_path, "use_adapter.json", problem, params)


@pytest.mark.parametrize("method", ["prompt", "pez", "prefix"])
@pytest.mark.parametrize("architecture", ["bert_masked", "roberta_masked"])
def test_an_adapter_of_a_masked_model_gives_its_class_scores(made, tmp_path, architecture, method):
    problem, params, about = made(architecture, "{slots} {text} It was {mask}.", method)
    assert peft(problem, params, tmp_path, about)["task_type"] == "FEATURE_EXTRACTION"
    check(tmp_path, "use_adapter.json", problem, params)


@pytest.mark.parametrize("method", ["prompt", "p_tuning"])
def test_an_adapter_of_an_encoder_decoder_gives_its_class_scores(made, tmp_path, method):
    problem, params, about = made("t5", "{slots} {text} Topic: {mask}", method)
    assert peft(problem, params, tmp_path, about)["task_type"] == "SEQ_2_SEQ_LM"
    check(tmp_path, "use_adapter.json", problem, params)


@pytest.mark.parametrize("template", ["{text} {slots} It was", "Text: {text} {slots} Topic:"])
def test_a_prefix_stands_in_front_whatever_the_template(made, tmp_path, template):
    problem, params, about = made("llama", template, "prefix")
    peft(problem, params, tmp_path, about)
    check(tmp_path, "use_adapter.json", problem, params)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_prefix_gives_our_scores_in_a_batch_padded_on_the_right(made, tmp_path, architecture):
    problem, params, about = made(architecture, FRONT, "prefix")
    peft(problem, params, tmp_path, about)
    prompt = written(tmp_path, "use_adapter.json")
    rows = [problem.tokenizer({"text": text}) for text in TEXTS]
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor([*row.before, *row.after]) for row in rows], batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], batch_first=True)
    words = [word for (word,) in prompt.use["words"].values()]
    with torch.no_grad():
        logits = prompt.model(input_ids=ids, attention_mask=mask).logits
    found = logits[torch.arange(len(rows)), mask.sum(-1) - 1][:, words].softmax(-1)
    assert torch.allclose(found, problem.probabilities(params, [Example({"text": text}, "") for text in TEXTS]), atol=1e-5)


def test_words_of_several_tokens_are_scored_by_the_code_as_by_us(made, tmp_path):
    words = {"business": "market bank", "music": "film", "sport": "team goal win"}
    for number, (architecture, template) in enumerate(
        [("gpt2", FRONT), ("bert_masked", "{slots} {text} It was {mask}."), ("bert_masked", "It was {mask}: {slots} {text}")]
    ):
        problem, params, about = made(architecture, template, model__label_words=words)
        folder = tmp_path / str(number)
        folder.mkdir()
        export_tensor(problem, params, folder, about)
        check(folder, "use_prompt.json", problem, params)
        if problem.template.front:
            peft(problem, params, folder, about)
            check(folder, "use_adapter.json", problem, params)
    assert "some label words are several tokens" in why_not_peft(made("gpt2", FRONT, model__label_words=words)[0], classifier=True)


def test_token_types_are_passed_where_peft_passes_them(made, tmp_path):
    template = "{slots} {text} {sep} the news"
    problem, params, about = made("bert", template, model__pooling="virtual")
    assert peft(problem, params, tmp_path, about)["task_type"] == "SEQ_CLS"
    check(tmp_path, "use_adapter.json", problem, params)
    for problem in (made("bert", template)[0], made("bert_masked", "{slots} {text} {sep} It was {mask}.")[0]):
        assert "PEFT passes no token types" in why_not_peft(problem)
    assert why_not_peft(made("roberta", template)[0]) is None


@pytest.mark.parametrize(
    ("architecture", "template", "changes", "told"),
    [
        ("llama", "{text} {slots} Topic:", {}, "has it elsewhere"),
        ("llama", "{text} {slots} Topic:", {"model__method": "p_tuning"}, "has it elsewhere"),
        ("roberta", "{slots} {text}", {"model__codec": RELEASED, "model__embed_twice": True}, "embeds it in a way of its own"),
    ],
)
def test_what_peft_cannot_do_is_told(made, tmp_path, architecture, template, changes, told):
    problem, params, about = made(architecture, template, **changes)
    with pytest.raises(ConfigError, match=f"No PEFT adapter: .*{told}"):
        peft(problem, params, tmp_path, about)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("architecture", "template", "changes", "told"),
    [
        ("gemma2", FRONT, {}, "not just its last hidden states times a matrix"),
        ("bert", "{slots} {text}", {}, "tune with model.pooling = 'virtual'"),
        ("bert_masked", "{slots} {text} It was {mask}.", {}, "read by its language modeling head"),
        ("t5", "{slots} {text}", {}, "read by its language modeling head"),
    ],
)
def test_what_a_classification_model_cannot_do_is_told(made, tmp_path, architecture, template, changes, told):
    problem, params, about = made(architecture, template, **changes)
    with pytest.raises(ConfigError, match=f"No PEFT adapter for sequence classification: .*{told}"):
        peft(problem, params, tmp_path, about, classifier=True)


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_checking_an_adapter_leaves_the_frozen_model_as_it_was(made, tmp_path, method):
    problem, params, about = made("bert", "{slots} {text}", method, model__pooling="first" if method == "prefix" else "virtual")
    model = problem.frozen.model
    before = {name: (type(module), tuple(vars(module))) for name, module in model.named_modules()}
    weights = {name: (value.data_ptr(), value.requires_grad) for name, value in model.named_parameters()}
    scores = problem.probabilities(params, [Example({"text": TEXTS[0]}, "")])
    peft(problem, params, tmp_path, about)
    assert {name: (type(module), tuple(vars(module))) for name, module in model.named_modules()} == before
    assert {name: (value.data_ptr(), value.requires_grad) for name, value in model.named_parameters()} == weights
    assert torch.equal(problem.probabilities(params, [Example({"text": TEXTS[0]}, "")]), scores)


# -- tensors


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize(
    ("architecture", "template"),
    [
        ("llama", "{text} {slots} Topic:"),
        ("gpt2", FRONT),
        ("bert", "{slots} {text}"),
        ("roberta", "text {slots} {text}"),
        ("bert_masked", "{text} {sep} {slots} It was {mask}."),
        ("bert_masked", "{slots} {text} {sep} It was {mask}."),
        ("roberta_masked", "It was {mask}. {slots} {sep} {text}"),
        ("t5", "{text} {slots} Topic: {mask}"),
    ],
)
def test_the_code_beside_the_tensors_gives_our_class_scores(made, tmp_path, architecture, template, method):
    if architecture == "t5" and method in ("prefix", "projection"):
        pytest.skip("takes no keys and values")
    problem, params, about = made(architecture, template, method)
    export_tensor(problem, params, tmp_path, about)
    check(tmp_path, "use_prompt.json", problem, params)
    held = load_file(tmp_path / "prompt.safetensors")
    named = {"keys", "values"} if method in ("prefix", "projection") else {"prompt"}
    assert set(held) - {"head.weight", "head.bias"} == named
    training = tmp_path / "training.safetensors"
    assert training.exists() == (method != "prompt")
    if training.exists():
        trained = load_file(training)
        assert trained.keys() == params.keys() and all(torch.equal(trained[name], params[name]) for name in params)


@pytest.mark.parametrize("pooling", ["first", "virtual"])
@pytest.mark.parametrize("template", ["{slots} {text}", "{text} {slots}"])
def test_the_code_pools_as_the_run_does(made, tmp_path, template, pooling):
    problem, params, about = made("bert", template, model__pooling=pooling)
    export_tensor(problem, params, tmp_path, about)
    check(tmp_path, "use_prompt.json", problem, params)


def test_no_code_is_written_where_a_codec_embeds_in_a_way_of_its_own(made, tmp_path):
    problem, params, about = made("roberta", "{text} {slots} text", model__codec=RELEASED, model__embed_twice=True)
    with pytest.raises(ConfigError, match="embeds texts as the model itself does, and this codec in a way of its own"):
        export_tensor(problem, params, tmp_path, about)
    assert not list(tmp_path.iterdir())


def test_a_revision_is_named_where_the_model_is_loaded(made, tmp_path):
    problem, params, about = made("llama", FRONT)
    export_tensor(problem, params, tmp_path, {**about, "revision": "abc"})
    assert json.loads((tmp_path / "use_prompt.json").read_text(encoding="utf-8"))["revision"] == "abc"

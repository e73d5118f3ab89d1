"""A tuned prompt elsewhere: read fresh from the disk by other programs' code, it gives what ours gives."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import warnings

import pytest
import torch
from safetensors.torch import load_file, save

import maao
from maao.config import make_config
from maao.errors import ConfigError, ModelError, StoreError
from tests.api.small_runs import LABELS, pairs, values, write_data
from tests.export.written import logits, written

TEXTS = ["shares profit in the market", "music", "the film actor was a star", "team match goal player coach", "ünknown wörds 日本"]
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def tuned(model_folder, tmp_path_factory):
    """Return the function from an architecture and a template to a tuned run, made once."""
    data = write_data(tmp_path_factory.mktemp("data"))
    parent, made = tmp_path_factory.mktemp("runs"), {}

    def tune(architecture, template, **changes):
        key = (architecture, template, str(changes))
        if key not in made:
            settings = values(model_folder(architecture), data, model__template=template, plan__rounds=1, **changes)
            made[key] = maao.run(make_config(settings), parent / str(len(made)))
        return made[key]

    return tune


def scores(logits, tokenizer):
    """Return the labels' probabilities from a row of next-token logits, as PET reads them."""
    ids = [tokenizer(f" {label}", add_special_tokens=False).input_ids for label in LABELS]
    assert all(len(word) == 1 for word in ids)
    return logits[[word[0] for word in ids]].softmax(-1)


def relative(ours, theirs):
    return float((ours - theirs).abs().max() / theirs.abs().max())


# -- PEFT


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3"])
@pytest.mark.parametrize("template", ["{slots} {text} Topic:", "{slots} {text} It was"])
def test_an_adapter_read_fresh_by_peft_gives_our_class_scores(tuned, tmp_path, architecture, template):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    result = tuned(architecture, template)
    result.save(tmp_path, "peft")
    base = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    tokenizer = AutoTokenizer.from_pretrained(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT's own
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path).eval()
    problem = result._tuned(result.params).problem
    for text in TEXTS:
        encoded = tokenizer(template.removeprefix("{slots}").format(text=text), return_tensors="pt", return_token_type_ids=False)
        with torch.no_grad():
            theirs = model(**encoded).logits[0, -1]
            ours = problem.scorer.class_scores(result.params, [problem.tokenizer({"text": text})])[0]
        ids = [tokenizer(f" {label}", add_special_tokens=False).input_ids[0] for label in LABELS]
        assert float((ours - theirs[ids]).abs().max() / theirs.abs().max()) < TOLERANCE
        predicted = torch.tensor(list(result.predict([text])[0].probabilities.values()))
        assert torch.allclose(predicted, scores(theirs, tokenizer), atol=1e-5)


def test_an_adapter_gives_our_scores_in_a_padded_batch_as_well(tuned, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    result = tuned("gpt2", "{slots} {text} Topic:")
    result.save(tmp_path, "peft")
    base = result.config.model.name
    tokenizer = AutoTokenizer.from_pretrained(base, padding_side="right")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path).eval()
    encoded = tokenizer([f" {text} Topic:" for text in TEXTS[:4]], return_tensors="pt", padding=True, return_token_type_ids=False)
    last = encoded["attention_mask"].sum(-1) - 1
    with torch.no_grad():
        logits = model(**encoded).logits[:, -encoded["input_ids"].shape[1] :]
    found = logits[torch.arange(4), last]
    for row, one in zip(found, result.predict(TEXTS[:4]), strict=True):
        assert torch.allclose(scores(row, tokenizer), torch.tensor(list(one.probabilities.values())), atol=1e-5)


def test_an_adapter_that_peft_reads_differently_is_refused(tuned, tmp_path, monkeypatch):
    from maao.export import peft_write as adapters

    monkeypatch.setattr(adapters, "_table", lambda realized: realized["prompt"] + 0.1)
    with pytest.raises(ModelError, match=r"differs from the tuned prompt by .* Do not use"):
        tuned("llama", "{slots} {text} Topic:").save(tmp_path, "peft")


def test_exporting_leaves_the_run_as_it_was(tuned, tmp_path):
    result = tuned("llama", "{slots} {text} Topic:")
    before = result.predict(TEXTS)
    for _ in range(2):
        result.save(tmp_path, "peft")
        result.save(tmp_path, "tensor")
    assert result.predict(TEXTS) == before
    assert maao.replay(result.folder).equal


@pytest.mark.parametrize("template", ["{text} {slots} Topic:", "Text: {slots} {text} Topic:"])
def test_a_template_with_slots_elsewhere_is_told_so(tuned, tmp_path, template):
    with pytest.raises(ConfigError, match=re.escape(f"the template {template!r} has it elsewhere: begin it with {{slots}}")):
        tuned("llama", template).save(tmp_path, "peft")
    assert not list(tmp_path.iterdir())


# -- the tensor, and the file that uses it


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3", "gemma2"])
@pytest.mark.parametrize("template", ["{slots} {text} Topic:", "{text} {slots} Topic:", "Text: {text} {slots} It was"])
def test_the_file_beside_the_tensor_gives_our_predictions(tuned, tmp_path, architecture, template):
    result = tuned(architecture, template)
    result.save(tmp_path, "tensor")
    prompt = written(tmp_path)
    for text in TEXTS[:3]:
        theirs = scores(logits(prompt, text), prompt.tokenizer)
        ours = torch.tensor(list(result.predict([text])[0].probabilities.values()))
        assert torch.allclose(theirs, ours, atol=1e-5)
        assert prompt.probabilities({"text": text}) == pytest.approx(result.predict([text])[0].probabilities, abs=1e-5)


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
@pytest.mark.parametrize("template", ["{slots} {text}", "{text} {slots}", "text {slots} {text} answer"])
def test_the_file_and_the_head_give_our_predictions(tuned, tmp_path, architecture, template):
    """With the special tokens where ours stand: `[CLS]` behind slots that stand in front."""
    result = tuned(architecture, template)
    result.save(tmp_path, "tensor")
    prompt, head = written(tmp_path), load_file(tmp_path / "prompt.safetensors")
    with torch.no_grad():
        pooled = prompt.run(*prompt.ids({"text": TEXTS[0]})).last_hidden_state[0].mean(0)
    theirs = (head["head.weight"] @ pooled + head["head.bias"]).softmax(-1)
    ours = result.predict([TEXTS[0]])[0].probabilities
    assert torch.allclose(theirs, torch.tensor(list(ours.values())), atol=1e-5)
    assert prompt.probabilities({"text": TEXTS[0]}) == pytest.approx(ours, abs=1e-5)


def test_the_file_of_a_tokenizer_that_begins_texts_with_a_token_has_it(tuned, model_folder, tmp_path):
    """As Llama's and Gemma's do. The first token stands before the text, behind slots in front."""
    from tokenizers import processors
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder("llama"))
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    AutoModelForCausalLM.from_pretrained(model_folder("llama")).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    assert AutoTokenizer.from_pretrained(tmp_path / "model")("music").input_ids[0] == 1
    for template in ("{slots} {text} Topic:", "{text} {slots} Topic:"):
        folder = tmp_path / str(len(template.split("{slots}")[0]))
        result = maao.tune(
            model=str(tmp_path / "model"),
            train=pairs("train"),
            template=template,
            mentor="none",
            steps=2,
            rounds=1,
            folder=folder / "run",
            settings={"threads": 1},
        )
        result.save(folder, "tensor")
        prompt = written(folder)
        theirs = scores(logits(prompt, TEXTS[1]), prompt.tokenizer)
        assert torch.allclose(theirs, torch.tensor(list(result.predict([TEXTS[1]])[0].probabilities.values())), atol=1e-5)


def test_the_settings_of_a_chat_template_hold_the_whole_turn(model_folder, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder("llama"))
    turn = "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>\n{% endfor %}"
    tokenizer.chat_template = turn + "{% if add_generation_prompt %}<s>answer\n{% endif %}"
    AutoModelForCausalLM.from_pretrained(model_folder("llama")).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    result = maao.tune(
        model=str(tmp_path / "model"),
        train=pairs("train"),
        labels=dict(zip(LABELS, "abc", strict=True)),
        mentor="none",
        steps=2,
        rounds=1,
        folder=tmp_path / "run",
        settings={"threads": 1, "model.chat": True},
    )
    result.save(tmp_path, "tensor")
    prompt = written(tmp_path)
    assert "answer" in prompt.tokenizer.decode(prompt.ids({"text": TEXTS[0]})[1])
    ids = [prompt.tokenizer(word, add_special_tokens=False).input_ids for word in "abc"]  # no space: the turn ends with a line break
    theirs = logits(prompt, TEXTS[0])[[word for (word,) in ids]].softmax(-1)
    assert torch.allclose(theirs, torch.tensor(list(result.predict([TEXTS[0]])[0].probabilities.values())), atol=1e-5)
    assert list(prompt.use["words"].values()) == ids


def test_the_tensor_is_the_tuned_prompt_bit_for_bit(tuned, tmp_path):
    result = tuned("bert", "{slots} {text}")
    result.save(tmp_path, "tensor")
    read = load_file(tmp_path / "prompt.safetensors")
    assert set(read) == {"prompt", "head.weight", "head.bias"}
    assert all(torch.equal(read[name], result.params[name]) for name in read)


def test_what_is_exported_says_what_it_belongs_to(tuned, tmp_path):
    result = tuned("llama", "{slots} {text} Topic:")
    result.save(tmp_path, "tensor")
    about = json.loads((tmp_path / "maao.json").read_text(encoding="utf-8"))
    assert about["template"] == "{slots} {text} Topic:" and about["labels"] == list(LABELS)
    assert about["label_words"] == {label: label for label in LABELS}
    assert about["text"] == result.text and about["model"] == result.config.model.name
    assert about["select"]["loss"] == result.chosen.score.loss
    assert set(about["test"]) == {"untuned", "chosen", "words"}
    tuned("bert", "{slots} {text}").save(tmp_path / "bert", "tensor")
    assert json.loads((tmp_path / "bert" / "maao.json").read_text(encoding="utf-8"))["label_words"] is None


def test_a_template_of_any_characters_stands_in_its_page_and_is_filled_with_words_alone(tuned, tmp_path):
    template = "{slots} {text}\n# {text.__class__} {0} }{ \\1 Topic:"
    result = tuned("llama", template)
    result.save(tmp_path, "tensor")
    page = (tmp_path / "USE.md").read_text(encoding="utf-8")
    assert "\n    {slots} {text}\n    # {text.__class__} {0} }{ \\1 Topic:\n" in page
    assert written(tmp_path).probabilities({"text": TEXTS[0]}) == pytest.approx(result.predict(TEXTS[:1])[0].probabilities, abs=1e-5)


def test_a_tensor_that_reads_back_differently_is_refused(tuned, tmp_path, monkeypatch):
    from maao.export import tensors as export

    monkeypatch.setattr(export, "save", lambda tensors, metadata: save({n: t + 1e-7 for n, t in tensors.items()}, metadata=metadata))
    with pytest.raises(ModelError, match=r"'prompt' reads back differently from what was written"):
        tuned("llama", "{slots} {text} Topic:").save(tmp_path, "tensor")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize(
    ("format", "file"), [("tensor", "prompt.safetensors"), ("peft", "adapter_model.safetensors"), ("text", "prompt.txt")]
)
def test_a_full_disk_is_told_in_words(tuned, tmp_path, format, file):
    (tmp_path / file).symlink_to("/dev/full")
    with pytest.raises(StoreError, match=f"Cannot write to .*: {os.strerror(errno.ENOSPC)}"):
        tuned("llama", "{slots} {text} Topic:").save(tmp_path, format)


# -- the words


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "bert"])
def test_the_words_written_are_those_that_test_was_read_with(tuned, tmp_path, architecture):
    result = tuned(architecture, "{slots} {text} Topic:")
    (path,) = result.save(tmp_path, "text")
    assert path.read_text(encoding="utf-8").strip() == result.finals["words"].text


def test_loading_a_packaged_model_names_files_that_others_can_load(tmp_path):
    from maao.problems.towers.text.loading import locate

    assert locate("hub/name") == "hub/name"
    assert locate("packaged:all-minilm-l6-v2").endswith("model")


def test_the_file_names_a_text_from_the_command_line(tuned, tmp_path, monkeypatch, capsys):
    import runpy
    import sys

    result = tuned("llama", "{slots} {text} Topic:")
    for format, arguments in (("peft", []), ("tensor", []), ("tensor", ["use_adapter.json"])):  # both stand in one folder
        result.save(tmp_path, format)
        monkeypatch.setattr(sys, "argv", ["use_prompt.py", *arguments, f"text={TEXTS[0]}"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT's own
            runpy.run_path(str(tmp_path / "use_prompt.py"), run_name="__main__")
        told = dict(line.split("\t")[::-1] for line in capsys.readouterr().out.splitlines())
        expected = result.predict(TEXTS[:1])[0].probabilities
        assert {label: float(probability) for label, probability in told.items()} == pytest.approx(expected, abs=1e-4)
    monkeypatch.chdir(tmp_path)
    for given, why in (
        ("rows.csv text=a", r"at most one settings file \(use_prompt\.json.*\); got \['rows\.csv'\]\. Files of texts are read in Python"),
        ("use_prompt.json use_prompt.json text=a", "at most one settings file"),
        ("other.json text=a", "at most one settings file"),
        ("txt=a", r'Give each field once, as NAME=TEXT: text="..."'),
        ("text=a txt=a", "Give each field once"),
        ("text=a text=b", "Give each field once"),
        ("text=use_prompt.json", r"use_prompt\.json is a file, and texts are read here"),
    ):
        monkeypatch.setattr(sys, "argv", ["use_prompt.py", *given.split()])
        with pytest.raises(SystemExit, match=why):
            runpy.run_path(str(tmp_path / "use_prompt.py"), run_name="__main__")


def test_an_adapter_of_a_snapshot_names_the_hub_model_and_its_commit(model_folder, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "hub" / "models--me--tiny-llama" / "snapshots" / commit
    shutil.copytree(model_folder("llama"), snapshot)
    data = write_data(tmp_path)
    result = maao.run(make_config(values(snapshot, data, model__template="{slots} {text} Topic:", plan__rounds=1)), tmp_path / "run")
    result.save(tmp_path / "adapter", "peft")
    held = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (held["base_model_name_or_path"], held["revision"]) == ("me/tiny-llama", commit)
    base = AutoModelForCausalLM.from_pretrained("me/tiny-llama", revision=commit, cache_dir=tmp_path / "hub", local_files_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT's own
        assert PeftModel.from_pretrained(base, tmp_path / "adapter").peft_config["default"].base_model_name_or_path == "me/tiny-llama"

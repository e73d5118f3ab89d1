"""Calibration of label words: the formulas, what is read for it, and whole runs that are used elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import maao
from maao import run
from maao.build_text import build_language
from maao.config import make_config
from maao.errors import ConfigError
from maao.problems.scorers.calibration import CONTENT_FREE, calibrating
from maao.types import Example, Splits
from tests.api.small_runs import config, write_data
from tests.export.written import written
from tests.tiny import tiny_model, tiny_splits

TEMPLATES = {"llama": "{text} {slots} Topic:", "bert_masked": "{text} {slots} is {mask}", "t5": "{slots} {text}"}


def problem(kind: str, architecture: str = "llama", splits: Splits | None = None, **model: Any) -> Any:
    own = {"calibration": kind, "num_virtual_tokens": 3, "template": TEMPLATES[architecture], **model}
    return build_language(make_config({"model": own}), splits or tiny_splits(), tiny_model(architecture))[0].plain


def test_what_is_added_is_the_formula() -> None:
    scores = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]])
    probable = scores.softmax(-1)
    contextual, batch = (calibrating(scores, kind) for kind in ("contextual", "batch"))
    torch.testing.assert_close((probable[0].log() + contextual).softmax(-1), (q := probable[0] / probable.mean(0)) / q.sum())
    torch.testing.assert_close((scores + batch).log_softmax(-1).sum(), (scores - scores.log_softmax(-1).mean(0)).log_softmax(-1).sum())
    assert float(contextual.sum()) == pytest.approx(0, abs=1e-6) == pytest.approx(float(batch.sum()), abs=1e-6)
    even = (scores.log_softmax(-1) + batch).mean(0)
    torch.testing.assert_close(even, even.mean().expand(3))


@pytest.mark.parametrize("architecture", TEMPLATES)
def test_a_run_begins_at_the_calibration_of_its_first_prompt(architecture: str) -> None:
    made, plain = problem("batch", architecture), problem("none", architecture)
    params, bare = made.initial(0), plain.initial(0)
    assert params.keys() - bare.keys() == {"calibration"}
    (raw,), _ = plain._class_scores([bare], plain.inputs("train"))
    torch.testing.assert_close(params["calibration"], calibrating(raw, "batch"), atol=1e-5, rtol=0)
    (scores,), _ = made._class_scores([params], made.inputs("train"))
    torch.testing.assert_close(scores, raw + params["calibration"], atol=1e-5, rtol=0)
    assert made.start_note(0) == f"label words are calibrated on {len(made.splits.train)} inputs of train"
    assert made.prepared.model_tokens > plain.prepared.model_tokens


def test_a_contextual_one_reads_inputs_without_content() -> None:
    made, plain = problem("contextual"), problem("none")
    nothing = [Example({"text": text}, "") for text in CONTENT_FREE]
    scores = plain.probabilities(plain.initial(0), nothing).log()
    torch.testing.assert_close(made.initial(0)["calibration"], calibrating(scores, "contextual"), atol=1e-5, rtol=0)
    assert made.initial(0)["calibration"].abs().max() > 0
    read = made.scorer.start_tokens(made.method.realize(made.initial(0)), made.inputs("train"))
    assert read == sum(len(made.tokenizer({"text": text})) + 3 for text in CONTENT_FREE)


def test_neither_select_nor_test_is_read_for_it() -> None:
    splits = tiny_splits()
    swapped = replace(splits, select=splits.test, test=splits.select)
    assert torch.equal(problem("batch").initial(0)["calibration"], problem("batch", splits=swapped).initial(0)["calibration"])


def test_it_is_trained_with_the_prompt() -> None:
    made = problem("batch")
    params = {name: value.requires_grad_() for name, value in made.initial(0).items()}
    (gradient,) = torch.autograd.grad(made.loss(params, made.batch(0, 0)), [params["calibration"]])
    assert bool(gradient.any())


@pytest.mark.parametrize("kind", ["contextual", "batch"])
def test_a_run_is_replayed_used_and_exported_with_it(kind: str, model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    made = config(model_folder("llama"), write_data(tmp_path), model__calibration=kind, model__template="{slots} {text} Topic:")
    result = run(made, tmp_path / "run")
    assert maao.replay(tmp_path / "run").equal and "calibration" in result.params
    text = "team match the news"
    ours = maao.load(tmp_path / "run").predict([text])[0].probabilities
    assert ours == result.predict([text])[0].probabilities
    result.save(tmp_path / "out", "tensor")
    assert written(tmp_path / "out").probabilities({"text": text}) == pytest.approx(dict(ours), abs=1e-5)
    pytest.importorskip("peft")
    result.save(tmp_path / "adapter", "peft")
    assert written(tmp_path / "adapter", "use_adapter.json").probabilities({"text": text}) == pytest.approx(dict(ours), abs=1e-5)
    with pytest.raises(ConfigError, match=r"has no bias, which model\.calibration adds"):
        result.save(tmp_path / "stock", "peft-classifier")


def test_what_it_cannot_go_with_is_named(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'batch' reads the inputs of train, and there are none"):
        problem("batch", splits=replace(tiny_splits(), train=())).initial(0)
    choices = Splits((Example({"text": "song"}, "0", choices=("music", "bank")),) * 2, (), (), ("0", "1"))
    with pytest.raises(ConfigError, match="have choices of their own"):
        problem("contextual", splits=choices)
    filled = config(model_folder("llama"), write_data(tmp_path), model__calibration="batch", mentor__fills=["label_words"])
    with pytest.raises(ConfigError, match=r"model\.calibration is of the words that a run begins with"):
        run(filled, tmp_path / "run")

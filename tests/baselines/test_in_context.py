"""Examples in the prompt: what is read is the text that one would write, as many of each class as fit, and no others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maao.baselines.in_context import InContext
from maao.baselines.task import Task, load_task, log_softmax
from maao.config import make_config
from maao.errors import ConfigError
from tests.api.small_runs import values, write_data
from tests.tiny_sentence import sentence_folder


def task_of(folder: Path, tmp_path: Path, **changes: Any) -> Task:
    return load_task(make_config(values(folder, write_data(tmp_path), mentor={"name": "none"}, **changes)))


def test_what_is_read_is_the_text_with_its_examples(llama: Path, tmp_path: Path) -> None:
    task = task_of(llama, tmp_path)
    read = InContext(shots=1).on_test(task)
    assert read.chosen == {"shots": 1.0} and read.score.num_examples == len(task.test)
    demonstrated = task.frozen.demonstrated(2048)
    shown = [next(e for e in task.labelled.examples if e.label == label) for label in task.labels]
    text = "".join(f"{e.fields['text']} Topic: {e.label}\n\n" for e in shown)
    frozen = demonstrated._words.frozen
    for example in task.test.examples[:2]:
        ids = frozen.tokenizer(f"{text}{example.fields['text']} Topic:").input_ids
        with torch.no_grad():
            logits = frozen.model(torch.tensor([ids])).logits[0, -1]
        first = torch.tensor([word[0] for word in demonstrated._words.words])
        assert all(len(word) == 1 for word in demonstrated._words.words)
        assert demonstrated(shown, [example])[0] == pytest.approx(logits[first], abs=1e-4)
    together = demonstrated(shown, task.test.examples)
    alone = torch.cat([demonstrated(shown, [example]) for example in task.test.examples])
    assert together.numpy() == pytest.approx(alone.numpy(), abs=1e-4)  # read once for all, or with each


def test_demonstrations_are_labels_one_of_each_class_at_a_time(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from maao.problems.frozen import Demonstrated

    task, asked = task_of(llama, tmp_path), []
    whole = Demonstrated.__call__
    monkeypatch.setattr(Demonstrated, "__call__", lambda self, shown, examples: asked.append(shown) or whole(self, shown, examples))
    InContext(shots=1).on_test(task)
    (shown,) = asked
    assert sorted(example.label for example in shown) == sorted(task.labels) and all(example in task.labelled.examples for example in shown)
    asked.clear()
    InContext(shots=1).out_of_fold(task)
    assert len(asked) == 5 and not {example.fields["text"] for shown in asked for example in shown} & {
        example.fields["text"] for example in task.test.examples
    }


def test_as_many_are_shown_as_fit_and_it_is_said_where_none_does(llama: Path, tmp_path: Path) -> None:
    task = task_of(llama, tmp_path)
    longest = task.frozen.demonstrated(2048).room
    few = InContext().fit(task, task.labelled).chosen["shots"]
    assert 1 <= few <= 4 and longest == 66  # what the tiny model reads
    with pytest.raises(ConfigError, match=r"does not read one example of each of the 3 classes with the longest text: .* the 12 tokens"):
        InContext(most_tokens=12).on_test(task)
    with pytest.raises(ConfigError, match="does not read 12 examples of each of the 3 classes"):
        InContext(shots=12).on_test(task)
    with pytest.raises(ConfigError, match="some class has 12 labels"):
        InContext(shots=13).on_test(task)


@pytest.mark.parametrize("kind", ["head", "matcher", "bert"])
def test_it_is_for_decoders_that_answer(kind: str, model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    if kind == "matcher":
        folder = sentence_folder(tmp_path / "encoder")[0]
        task = task_of(folder, tmp_path, model={"kind": "matcher", "name": str(folder), "cache": False})
    elif kind == "head":
        task = task_of(model_folder("llama"), tmp_path, model__kind="head")
    else:
        task = task_of(model_folder("bert"), tmp_path)
    with pytest.raises(ConfigError, match="Examples in the prompt are for decoders that answer by label words"):
        InContext().on_test(task)


def test_answers_are_log_probabilities(llama: Path, tmp_path: Path) -> None:
    read = InContext(shots=1).on_test(task_of(llama, tmp_path))
    assert np.exp(read.log_probabilities).sum(1) == pytest.approx(np.ones(read.score.num_examples))
    assert log_softmax(read.log_probabilities) == pytest.approx(read.log_probabilities)

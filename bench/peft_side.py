"""The rival: PEFT prompt tuning, as its users run it (`PromptTuningConfig` with the HF `Trainer`)."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bench.common import NUM_VIRTUAL_TOKENS
from bench.frame import Seconds
from maao.problems.towers.text.template import Tokenized


def peft_model(frozen: Any, prompt: Tensor | None = None) -> Any:
    """Return a fresh PEFT prompt-tuning model around the frozen one, beginning at `prompt` if given."""
    from peft import PromptTuningConfig, TaskType, get_peft_model

    config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=NUM_VIRTUAL_TOKENS)
    model = get_peft_model(frozen.model, config)
    if prompt is not None:
        with torch.no_grad():
            model.prompt_encoder["default"].embedding.weight.copy_(prompt)
    return model


class TrainerSide:
    """PEFT under the HF Trainer: cross-entropy over the vocabulary at the label word, padded to the batch's longest."""

    def __init__(self, frozen: Any, rows: Sequence[Tokenized], words: Sequence[Sequence[int]], targets: Tensor, lr: float) -> None:
        self.frozen = frozen
        self.model = peft_model(frozen)
        answers = [words[target][0] for target in targets.tolist()]
        self.data = [{"input_ids": [*row.before, *row.after, answer]} for row, answer in zip(rows, answers, strict=True)]
        self.lr = lr

    def _collate(self, items: list[dict[str, list[int]]]) -> dict[str, Tensor]:
        length = max(len(item["input_ids"]) for item in items)
        fill = self.frozen.tokenizer.pad_token_id
        ids = torch.tensor([item["input_ids"] + [fill] * (length - len(item["input_ids"])) for item in items])
        mask = torch.tensor([[1] * len(item["input_ids"]) + [0] * (length - len(item["input_ids"])) for item in items])
        labels = torch.full_like(ids, -100)
        for i, item in enumerate(items):
            labels[i, len(item["input_ids"]) - 1] = item["input_ids"][-1]
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    def step(self) -> Seconds:
        """Make one optimizer step on the whole batch; what the Trainer does before and behind it is not timed."""
        from transformers import Trainer, TrainerCallback, TrainingArguments

        found: list[Seconds] = []

        class Clock(TrainerCallback):
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                self.wall, self.cpu = time.perf_counter(), time.process_time()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                found.append(Seconds(time.perf_counter() - self.wall, time.process_time() - self.cpu))

        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=len(self.data),
                max_steps=1,
                learning_rate=self.lr,
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                remove_unused_columns=False,
                use_cpu=True,
            )
            trainer = Trainer(model=self.model, args=arguments, train_dataset=self.data, data_collator=self._collate, callbacks=[Clock()])
            with contextlib.redirect_stdout(None):
                trainer.train()
        return found[0]

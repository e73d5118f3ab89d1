"""PEFT's prompt tuning as its users run it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from maao.baselines.outcome import Outcome, figures, spent
from maao.build import build
from maao.config import Config
from maao.core.seeds import seed_for
from maao.errors import ConfigError
from maao.optimizers.options import GradientOptions
from maao.options import Section
from maao.problems.kinds import DecoderOptions
from maao.types import JSON, Cost

if TYPE_CHECKING:
    from torch import Tensor

    from maao.problems.towers.text.template import Tokenized


class Peft(Section):
    """Cross-entropy over the vocabulary, batches padded to their longest.

    It begins at our initial prompt, sees our batches, makes as many steps with the same optimizer, and is scored as often on `select`; the
    prompt with the lowest loss there is read on `test`, by our forward (whose logits agree with PEFT's; see the tests of the export).
    """

    def run(self, config: Config, folder: Path) -> Outcome:
        import torch
        from peft import PromptTuningConfig, TaskType, get_peft_model

        from maao.optimizers.torch import optimizer_class
        from maao.problems.towers.text.loading import FrozenModel

        parts = build(config)
        frozen, model = parts.frozen, parts.config.model
        of_decoder = isinstance(model.kind.options, DecoderOptions)
        if not isinstance(frozen, FrozenModel) or not of_decoder or model.method.name != "prompt_tuning":
            raise ConfigError(
                "The baseline 'peft' tunes a prompt in front of a text, read by the label words of a decoder: it takes model.method = "
                "'prompt_tuning' and a causal language model."
            )
        if not parts.examples.select:
            raise ConfigError(
                "The baseline 'peft' walks one prompt and chooses by labels that are set apart: drop data.select, or name a file."
            )
        problem = parts.problem.problem_for({})
        seed = seed_for(config.seed, "stage")
        point = problem.initial(seed_for(config.seed, "initial"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers for names that are on their way out
            model = get_peft_model(frozen.model, PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=len(point["prompt"])))
        weight = model.prompt_encoder["default"].embedding.weight
        with torch.no_grad():
            weight.copy_(point["prompt"])
        stage = config.stage.options
        if not isinstance(stage, GradientOptions):
            raise ConfigError("The baseline 'peft' makes gradient steps: it takes stage.kind = 'gradient'.")
        optimizer = optimizer_class(stage.optimizer)([weight], lr=stage.lr, **stage.options)
        best, cost, step = None, Cost(), 0
        for leg in parts.plan:
            for _ in range(leg.steps):
                batch = problem.batch(step, seed)
                optimizer.zero_grad()
                loss = model(**_padded(problem.read(batch), batch.targets, problem.scorer.words, frozen.tokenizer.pad_token_id)).loss
                loss.backward()
                if stage.max_grad_norm:
                    torch.nn.utils.clip_grad_norm_([weight], stage.max_grad_norm)
                optimizer.step()
                step += 1
            here = {"prompt": weight.detach().clone()}
            score = problem.score([here], "select")[0]
            cost += Cost(gradient_steps=leg.steps, selection_evals=1, scored_examples=score.num_examples)
            if best is None or score.loss < best[0].loss:
                best = (score, here, step)
        assert best is not None  # a plan has a leg
        test = problem.score([best[1]], "test")[0]
        return {"select": figures(best[0]), "test": figures(test), "steps": best[2], "cost": spent(cost)}


def _padded(inputs: Sequence[Tokenized], targets: Tensor, words: Sequence[Sequence[int]], fill: int) -> JSON:
    """Return a batch as the examples of PEFT's documentation make it: the label's word is the last token, and the only one with a label."""
    import torch

    rows = [[*row.before, *row.after, words[target][0]] for row, target in zip(inputs, targets.tolist(), strict=True)]
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    labels = torch.full_like(ids, -100)
    for i, row in enumerate(rows):
        labels[i, len(row) - 1] = row[-1]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}

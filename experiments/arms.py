"""Arms that are no run of `maao`: the majority class, the frozen model without a soft prompt, and PEFT's prompt tuning."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from maao.build import build, load_splits
from maao.compare import score_row
from maao.config import Config
from maao.core.seeds import seed_for
from maao.data.splits import majority_accuracy
from maao.errors import ConfigError
from maao.installed import installed
from maao.types import Cost


def environment() -> dict[str, Any]:
    return {name: installed(name) for name in ("maao", "torch", "transformers", "peft")}


def majority(config: Config) -> dict[str, Any]:
    """Always answer the class that is most frequent in `train`."""
    splits = load_splits(config)
    test, select = majority_accuracy(splits, "test"), majority_accuracy(splits, "select")
    return {"select": {"accuracy": select}, "test": {"accuracy": test, "examples": len(splits.test)}, "cost": asdict(Cost())}


def zero_shot(config: Config) -> dict[str, Any]:
    """Read the label words of the frozen model on the template alone, with nothing in its slots."""
    import torch

    parts = build(config)
    assert parts.frozen is not None
    nothing = {"prompt": torch.empty(0, parts.frozen.model.get_input_embeddings().embedding_dim)}
    select, test = (parts.problem.score(nothing, split) for split in ("select", "test"))
    return {"select": score_row(select), "test": score_row(test), "cost": asdict(select.cost + test.cost)}


def zero_shot_wordings(config: Config) -> dict[str, Any]:
    """Read the classes of a dual encoder in each of the config's hand-written wordings, alone; the best on `select` is read on `test`."""
    wordings = config.vision.wordings or []
    if not wordings:
        raise ConfigError("The arm 'zero-shot-wordings' needs vision.wordings, the prompts that it chooses from.")
    tried = []
    for wording in wordings:
        parts = build(config.model_copy(update={"vision": config.vision.model_copy(update={"method": "zero_shot", "wordings": [wording]})}))
        params = parts.problem.initial(0)
        tried.append((parts.problem.score(params, "select"), wording, parts.problem, params))
    select, wording, problem, params = min(tried, key=lambda one: one[0].loss)
    test = problem.score(params, "test")
    cost = sum((one[0].cost for one in tried), test.cost)
    return {"select": score_row(select), "test": score_row(test), "words": wording, "cost": asdict(cost)}


def peft(config: Config) -> dict[str, Any]:
    """PEFT's prompt tuning as its users run it: cross-entropy over the vocabulary, batches padded to their longest.

    It begins at our initial prompt, sees our batches, makes as many steps with the same optimizer, and is scored as often on `select`; the
    prompt with the lowest loss there is read on `test`, by our forward (whose logits agree with PEFT's; see the tests of the export).
    """
    import torch
    from peft import PromptTuningConfig, TaskType, get_peft_model

    parts = build(config)
    problem, frozen = parts.problem, parts.frozen
    assert frozen is not None
    seed = seed_for(config.seed, "stage")
    point = problem.initial(seed_for(config.seed, "initial"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers for names that are on their way out
        model = get_peft_model(frozen.model, PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=len(point["prompt"])))
    weight = model.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        weight.copy_(point["prompt"])
    stage = config.stage
    optimizer = getattr(torch.optim, stage.optimizer)([weight], lr=stage.lr, **stage.options)
    best, cost, step = None, Cost(), 0
    for leg in parts.plan:
        for _ in range(leg.steps):
            batch = problem.batch(step, seed)
            optimizer.zero_grad()
            loss = model(**_padded(batch, problem.reader.words, frozen.tokenizer.pad_token_id)).loss
            loss.backward()
            if stage.max_grad_norm:
                torch.nn.utils.clip_grad_norm_([weight], stage.max_grad_norm)
            optimizer.step()
            step += 1
        here = {"prompt": weight.detach().clone()}
        score = problem.score(here, "select")
        cost = cost + Cost(gradient_steps=leg.steps, looks=1, scored_examples=score.num_examples)
        if best is None or score.loss < best[0].loss:
            best = (score, here, step)
    assert best is not None
    return {
        "select": score_row(best[0]),
        "test": score_row(problem.score(best[1], "test")),
        "steps": best[2],
        "cost": asdict(cost),
    }


def _padded(batch: Any, words: Any, fill: int) -> Mapping[str, Any]:
    """Return a batch as the examples of PEFT's documentation make it: the label's word is the last token, and the only one with a label."""
    import torch

    rows = [[*row.before, *row.after, words[target][0]] for row, target in zip(batch.rows, batch.targets.tolist(), strict=True)]
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    labels = torch.full_like(ids, -100)
    for i, row in enumerate(rows):
        labels[i, len(row) - 1] = row[-1]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


ARMS: Mapping[str, Callable[[Config], dict[str, Any]]] = {
    "majority": majority,
    "zero-shot": zero_shot,
    "zero-shot-wordings": zero_shot_wordings,
    "peft": peft,
}

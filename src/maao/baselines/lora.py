"""LoRA: low-rank changes of an encoder's weights, with a linear head, as users of PEFT tune a classifier."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from maao.baselines.labelled import Fitted, LabelledBaseline
from maao.baselines.measured import peak_memory
from maao.baselines.prototypes import prototypes
from maao.baselines.task import Floats, Part, Task, log_softmax, scale_of
from maao.core.seeds import seed_for
from maao.errors import ConfigError
from maao.options import MANY
from maao.problems.scoring import epoch_batch
from maao.threads import one_thread
from maao.types import Cost

if TYPE_CHECKING:
    from torch import Tensor, nn

    from maao.problems.frozen import Tunable


class LoRA(LabelledBaseline):
    """PEFT's LoRA on a copy of the run's model, with a linear head on the features that other baselines read; AdamW, a falling rate.

    The head begins at the prototypes of the labelled examples: from a random one so few steps would lead nowhere. `test` is read after the
    last step. One thread is used. The weights that a run holds are not touched.

    Source: Hu et al., LoRA, ICLR 2022; PEFT.
    """

    takes_long: ClassVar[bool] = True
    told: ClassVar[str] = "low-rank changes of the model's weights, with a linear head (PEFT)"

    steps: int = Field(50, ge=1, le=MANY, description="Gradient steps.")
    batch_size: int = Field(16, ge=1, le=MANY, description="Examples a step.")
    lr: float = Field(1e-3, gt=0, le=1, description="Learning rate at the first step; it falls to zero in a straight line.")
    rank: int = Field(8, ge=1, le=1024, description="Rank of the changes.")

    def fit(self, task: Task, known: Part) -> Fitted:
        import torch

        began, seed = time.perf_counter(), seed_for(task.config.seed, "lora")
        with one_thread(), peak_memory() as peak, torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            tunable = task.frozen.tunable()
            reads = _Classifier(tunable, _scaling(task, known), _prototypes(task, known), adapted(tunable.module, self.rank))
            tokens = self._walk(reads, known, seed)
        cost = Cost(gradient_steps=self.steps, model_tokens=tokens, seconds=time.perf_counter() - began)
        return Fitted(lambda part: reads.answers(part, self.batch_size), {"steps": self.steps}, cost, peak.mib)

    def _walk(self, reads: _Classifier, known: Part, seed: int) -> int:
        """Make the steps; return the tokens that they ran, forward and backward."""
        import torch
        import torch.nn.functional as F

        inputs, targets = reads.tunable.inputs(known.examples), torch.from_numpy(known.targets)
        optimizer = torch.optim.AdamW(reads.tuned, lr=self.lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / self.steps)
        tokens = 0
        for step in range(self.steps):
            part = epoch_batch(len(known), self.batch_size, step, seed)
            which = list(range(len(known))) if part is None else part.tolist()
            batch = inputs.take(which)
            scores = reads.scores(batch)
            optimizer.zero_grad()
            F.cross_entropy(scores, targets[which].to(scores.device)).backward()
            optimizer.step()
            schedule.step()
            tokens += 2 * reads.tunable.num_tokens(batch)
        return tokens


class _Classifier:
    """A model whose weights change, with a linear head on its features.

    Args:
        scaling: what is taken from a feature and what it is divided by, before it is brought to length one; None: it has length one.
        weight: where the head begins ``(num_classes, width)``; its bias begins at zero.
        adapters: the low-rank changes.
    """

    def __init__(self, tunable: Tunable[Any], scaling: tuple[Tensor, Tensor] | None, weight: Tensor, adapters: Sequence[Tensor]) -> None:
        self.tunable, self._scaling = tunable, scaling
        self._weight, self._bias = weight.clone().requires_grad_(), weight.new_zeros(len(weight)).requires_grad_()
        self.tuned = [*adapters, self._weight, self._bias]

    def scores(self, inputs: Any) -> Tensor:
        import torch.nn.functional as F

        features = self.tunable.encode(inputs).float()
        if self._scaling is not None:
            features = F.normalize((features - self._scaling[0].to(features)) / self._scaling[1].to(features), dim=-1)
        return F.linear(features, self._weight.to(features), self._bias.to(features))

    def answers(self, part: Part, at_a_time: int) -> Floats:
        import torch

        inputs = self.tunable.inputs(part.examples)
        with one_thread(), torch.no_grad():
            begins = range(0, len(part), at_a_time)
            found = [self.scores(inputs.take(range(begin, min(begin + at_a_time, len(part))))).cpu() for begin in begins]
        return log_softmax(torch.cat(found).double().numpy())


def adapted(module: nn.Module, rank: int) -> list[Tensor]:
    """Put low-rank changes into a model where PEFT puts them for models of its type, or else into all its linear layers; return them.

    Raises:
        ConfigError: PEFT is not installed, or knows no place for them.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as PLACES
    except ImportError as error:
        raise ConfigError("The baseline 'lora' needs the package PEFT: pip install \"maao[peft]\".") from error
    from transformers import PreTrainedModel

    config = module.config if isinstance(module, PreTrainedModel) else None
    places = PLACES.get(config.model_type, "all-linear") if config is not None else "all-linear"
    for value in module.parameters():
        value.requires_grad_(False)
    try:
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=places), module)
    except ValueError as error:
        raise ConfigError(f"PEFT finds no place for LoRA in this model: {error}") from error
    return [value for value in module.parameters() if value.requires_grad]


def _scaling(task: Task, known: Part) -> tuple[Tensor, Tensor] | None:
    import torch

    if task.frozen.is_unit:
        return None
    middle, spread = scale_of(known)
    return torch.from_numpy(middle).float(), torch.from_numpy(spread).float()


def _prototypes(task: Task, known: Part) -> Tensor:
    import torch

    return torch.from_numpy(task.frozen.scale * prototypes(task, known, known)).float()

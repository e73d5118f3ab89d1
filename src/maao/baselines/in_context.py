"""In-context learning: labelled examples stand in the prompt of a decoder, and its label words answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from maao.baselines.labelled import Fitted, LabelledBaseline
from maao.baselines.task import Floats, Part, Task, log_softmax
from maao.core.seeds import seed_for
from maao.data.checks import listing
from maao.errors import ConfigError
from maao.options import MANY
from maao.types import Example

if TYPE_CHECKING:
    from maao.problems.frozen import Demonstrated

MOST_SHOTS = 4


class InContext(LabelledBaseline):
    """Demonstrations, then the text: each is the run's template without slots, filled in, with its label word behind it.

    As many examples of each class as fit the context, the same number of all, in an order that the seed draws; they are read once for all
    texts. Nothing is trained, so with more than one label a class it uses only those that fit.

    Source: Brown et al., Language Models are Few-Shot Learners, NeurIPS 2020.
    """

    told: ClassVar[str] = "labelled examples in the prompt, then label words"

    shots: int | None = Field(None, ge=1, le=MANY, description="Examples a class in the prompt; by default as many as fit, at most 4.")
    most_tokens: int = Field(2048, ge=1, le=MANY, description="Most tokens of the prompt, the text included, where the model reads more.")

    def price(self, known: Part, read: Part | None = None) -> int:
        return (known if read is None else read).num_tokens() + min(self.most_tokens, known.num_tokens())

    def fit(self, task: Task, known: Part) -> Fitted:
        counts = np.bincount(known.targets, minlength=task.num_classes)
        if without := [label for label, count in zip(task.labels, counts, strict=True) if not count]:
            raise ConfigError(f"in_context shows an example of each class, and none is labelled {listing(without)}: label some.")
        demonstrated = task.frozen.demonstrated(self.most_tokens)
        rounds = _rounds(known, task.num_classes, seed_for(task.config.seed, "demonstrations"))[: self.shots or MOST_SHOTS]
        if self.shots is not None and self.shots > len(rounds):
            raise ConfigError(
                f"in_context asks for {self.shots} examples of each class, and some class has {len(rounds)} labels: lower shots."
            )

        def answer(part: Part) -> Floats:
            scores = demonstrated(self._shown(demonstrated, known, rounds, part), part.examples)
            return log_softmax(np.asarray(scores.double().numpy()))

        return Fitted(answer, {"shots": len(self._shown(demonstrated, known, rounds, known)) / task.num_classes})

    def _shown(self, demonstrated: Demonstrated, known: Part, rounds: Sequence[Sequence[int]], part: Part) -> list[Example]:
        """Return the demonstrations beside which every text of a part fits.

        Raises:
            ConfigError: not even one of each class fits, or not as many as `shots` says.
        """
        for count in range(len(rounds), 0, -1):
            shown = [known.examples[i] for own in rounds[:count] for i in own]
            if demonstrated.fits(shown, part.examples):
                return shown
            if self.shots is not None:
                break
        asked = "one example" if self.shots in (None, 1) else f"{self.shots} examples"
        raise ConfigError(
            f"{demonstrated.name} does not read {asked} of each of the {len(rounds[0])} classes with the longest text: they take more "
            f"than the {demonstrated.room:,} tokens that there is room for. Give fewer shots or raise most_tokens, where the model reads "
            "more, or choose another baseline."
        )


def _rounds(known: Part, num_classes: int, seed: int) -> list[list[int]]:
    """Return examples by place, one of each class in every round, in an order of its own; as many rounds as each class has examples."""
    generator = np.random.default_rng(seed)
    own = [generator.permutation(np.flatnonzero(known.targets == c)) for c in range(num_classes)]
    return [[int(own[c][i]) for c in generator.permutation(num_classes)] for i in range(min(map(len, own)))]

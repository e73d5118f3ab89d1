"""The frozen model without a soft prompt: its template alone, or the best of hand-written wordings."""

from __future__ import annotations

from pathlib import Path

from maao.baselines.outcome import Outcome, figures, spent
from maao.build import RunComponents, build
from maao.config import Config
from maao.errors import ConfigError
from maao.options import Section
from maao.problems.kinds import LabelWordsOptions
from maao.problems.settings import text_method
from maao.types import Score, Split


def untrained(parts: RunComponents, split: Split) -> Score | None:
    """Return how label words read on the template alone, with nothing in its slots; None where that cannot be read."""
    from maao.problems.towers.text.loading import FrozenModel

    frozen, model = parts.frozen, parts.config.model
    if not isinstance(frozen, FrozenModel) or not isinstance(model.kind.options, LabelWordsOptions) or not text_method(model).in_slots:
        return None
    import torch

    nothing = {"prompt": torch.empty(0, frozen.model.get_input_embeddings().embedding_dim)}
    score: Score = parts.problem.score([nothing], split)[0]
    return score


class ZeroShot(Section):
    """The label words of the frozen model on the template alone."""

    def run(self, config: Config, folder: Path) -> Outcome:
        parts = build(config)
        select, test = untrained(parts, "select"), untrained(parts, "test")
        if select is None or test is None:
            raise ConfigError(
                "The baseline 'zero_shot' reads label words on the template alone: it is for texts, a model that has label words, and not "
                "for prefix_tuning."
            )
        return {"select": figures(select), "test": figures(test), "cost": spent(select.cost + test.cost)}

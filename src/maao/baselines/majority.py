"""Always answer the class that is most frequent in `train`."""

from __future__ import annotations

from pathlib import Path

from maao.baselines.outcome import Outcome, spent
from maao.config import Config
from maao.data.splits import majority_accuracy
from maao.errors import ConfigError
from maao.options import Section
from maao.types import Cost


class Majority(Section):
    """The majority class. It loads no model, and has no loss."""

    def run(self, config: Config, folder: Path) -> Outcome:
        dataset = config.builder.load_data()
        if dataset is None:
            raise ConfigError("The baseline 'majority' counts the labels of examples, and a function has none.")
        splits = dataset.splits
        test, select = majority_accuracy(splits, "test"), majority_accuracy(splits, "select")
        return {"select": {"accuracy": select}, "test": {"accuracy": test, "examples": len(splits.test)}, "cost": spent(Cost())}

"""Always answer the class that most labelled examples have."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from maao.baselines.labelled import Fitted, LabelledBaseline
from maao.baselines.task import Part, Task


class Majority(LabelledBaseline):
    """The majority class; its probabilities are the shares of the classes. It loads no model."""

    learns: ClassVar[bool] = False  # of an example that is held out it would learn that its class is rarer than the others
    told: ClassVar[str] = "the class that most labelled examples have; its loss is that of the shares of the classes"

    def price(self, known: Part, read: Part | None = None) -> int:
        return 0

    def fit(self, task: Task, known: Part) -> Fitted:
        shares = np.bincount(known.targets, minlength=task.num_classes) / len(known)
        with np.errstate(divide="ignore"):
            found = np.log(shares)[None]
        return Fitted(lambda part: np.repeat(found, len(part), axis=0))

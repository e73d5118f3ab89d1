"""The frozen model without any label: its label words, or how near an input is to the class texts."""

from __future__ import annotations

from typing import ClassVar

from maao.baselines.labelled import Fitted, LabelledBaseline
from maao.baselines.task import Part, Task, log_softmax


class ZeroShot(LabelledBaseline):
    """Label words on the template with nothing in its slots; for matchers and heads the cosine to the class texts.

    Source: Brown et al., 2020 (label words); Radford et al., 2021 (class texts).
    """

    learns: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False
    told: ClassVar[str] = "the frozen model by its label words or class texts, without any label"

    def price(self, known: Part, read: Part | None = None) -> int:
        return (known if read is None else read).num_tokens()

    def fit(self, task: Task, known: Part) -> Fitted:
        return Fitted(lambda part: log_softmax(part.zero_shot))

"""Which builder tells classes: it goes by how the model reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maao.build_matcher import MatcherBuilder
from maao.build_text import TextBuilder
from maao.builder import ClassesBuilder
from maao.problems.kinds import MatcherOptions

if TYPE_CHECKING:
    from maao.config import Config


class Classification:
    """Classes of texts or pictures."""

    sections = ClassesBuilder.sections

    @staticmethod
    def of(config: Config) -> ClassesBuilder:
        return (MatcherBuilder if isinstance(config.model.kind.options, MatcherOptions) else TextBuilder)(config)

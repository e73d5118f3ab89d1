"""How vectors are put into words, by name: the settings of each codec of a soft prompt's rows. Importing this loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from maao.errors import ConfigError
from maao.options import Section

if TYPE_CHECKING:
    from maao.codecs.nearest_token import NearestTokenCodec
    from maao.problems.towers.text.loading import FrozenModel
    from maao.protocols import Params, TokenCodec


class CodecOptions(Section):
    """Base of the settings of a codec of rows, which may do in its own way a part of what the nearest-token codec does."""

    for_rows_alone: ClassVar[bool] = False  # it puts no rows into words but those that are trained as such

    def read_by(self, frozen: FrozenModel) -> FrozenModel:
        """Return the model as it reads texts and prompts with this codec. All but curiosities leave it as it is.

        Raises:
            ConfigError: there is no such codec for this model.
        """
        return frozen

    def build(self, nearest: NearestTokenCodec, frozen: FrozenModel) -> TokenCodec[Params]:
        """Return the codec; `nearest` is the one without peculiarities, with the vocabulary, distance and length that the config sets.

        Raises:
            ConfigError: there is no such codec for this model.
            CodecError: a setting makes no sense.
        """
        raise NotImplementedError


class NearestTokenOptions(CodecOptions):
    """Each row becomes the token nearest to it."""

    def build(self, nearest: NearestTokenCodec, frozen: FrozenModel) -> TokenCodec[Params]:
        return nearest


class FluentOptions(CodecOptions):
    """Of the tokens near the rows, those that read like a text."""

    for_rows_alone: ClassVar[bool] = True

    fluency: float = Field(0.1, gt=0, le=1e6, description="What a word's log-probability weighs beside nearness.")

    def build(self, nearest: NearestTokenCodec, frozen: FrozenModel) -> TokenCodec[Params]:
        from maao.codecs.fluent import FluentCodec, causal_log_probs

        if frozen.kind != "decoder":
            raise ConfigError(
                f"model.codec = 'fluent' asks a causal language model what words follow one another, and {frozen.name} is none: choose "
                "'nearest_token'."
            )
        return FluentCodec(nearest, causal_log_probs(frozen.model), beta=self.fluency)

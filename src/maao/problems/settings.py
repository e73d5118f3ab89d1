"""The ``[model]`` section of a config: the frozen model, how classes are read from it (`kind`), and what is trained (`method`).

Kinds and methods are chosen by name, and so are the settings that one of them alone reads; they stand beside it (`kinds.py`; a method's in
its own file). Importing this loads no torch: a config is read before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, ValidationInfo, model_validator

from maao import choices
from maao.options import MANY, Chosen, Section, Text
from maao.problems.towers.dual_names import names_dual_encoder

if TYPE_CHECKING:
    from torch import Tensor

    from maao.problems.methods import Bound, MatcherMethod, PromptMethod
    from maao.problems.scorers.probes import Probe
    from maao.problems.towers.text.loading import FrozenModel
    from maao.protocols import Params, TokenCodec


TEXT_ENCODER = "packaged:all-minilm-l6-v2"
LANGUAGE_MODEL = "packaged:smollm2-135m-instruct"


OF_PROMPTS = ("template", "num_virtual_tokens", "initial", "initial_text", "distance")  # settings that speak of a prompt


class KindOptions(Section):
    """Base of the settings of a kind. Each kind has its own defaults of these."""

    name: Text = Field(description="The model's name.")
    template: Text | None = Field(description="What stands around the slots.")
    num_virtual_tokens: int = Field(description="Rows of the prompt.")
    initial: Literal["vocabulary", "normal", "text", "labels"] = Field(description="Where the prompt begins.")
    initial_text: Text | None = Field(description="The text to begin with.")
    part_tokens: int = Field(description="Most tokens that a step keeps activations of at a time.")

    average_costs: ClassVar[str] = "an input runs through the model once for each of them"
    usual_with_lines: ClassVar[Mapping[str, Mapping[str, object]]] = {}  # where a mentor says these alone

    @property
    def needs_labels(self) -> bool:
        """Whether without labelled examples it begins at nothing."""
        return False

    @property
    def input_text(self) -> str:
        """What of an example is read, with its ``{fields}``."""
        raise NotImplementedError

    @property
    def input_fields(self) -> tuple[str, ...]:
        """The fields of an example that are read."""
        raise NotImplementedError

    @property
    def is_divided(self) -> bool:
        """Whether the settings say where each part of the model is."""
        return False

    def unread(self) -> Mapping[str, str]:
        told = f"model.initial is '{self.initial}': set it to 'text', or drop model.initial_text"
        return {} if self.initial == "text" else {"initial_text": told}


class MethodOptions(Section):
    """Base of the settings of a method."""

    of_matchers: ClassVar[bool]  # trained against features of the input; else in a text that the model reads
    has_prompt: ClassVar[bool] = True  # which a text can replace
    is_trained: ClassVar[bool] = True
    usual: ClassVar[Mapping[str, Mapping[str, object]]] = {}  # by section, what a config gets where it does not say otherwise
    usual_with_lines: ClassVar[Mapping[str, Mapping[str, object]]] = {}  # the same where a mentor says class lines
    usual_with_lines_of_pictures: ClassVar[Mapping[str, Mapping[str, object]]] = {}  # sections that are others there
    needs_labels: ClassVar[bool] = False  # without labelled examples it begins at nothing
    reads_lines_as_texts: ClassVar[bool] = False  # it reads class lines as texts of the classes, so that inputs may be pictures


@dataclass(frozen=True)
class TextParts:
    """What a method of texts is built from.

    Args:
        table: the embeddings of the vocabulary ``(vocab_size, embed_dim)``, on the CPU.
        rows: the codec of such rows.
        codec_of: makes the codec of rows of another table.
        seed: fixes the beginning of a network.
    """

    frozen: FrozenModel
    table: Tensor
    rows: TokenCodec[Params]
    codec_of: Callable[[Tensor], TokenCodec[Params]]
    num_virtual_tokens: int
    seed: int


class TextMethodOptions(MethodOptions):
    """Base of the settings of a method whose params stand in what a language model reads."""

    of_matchers: ClassVar[bool] = False
    in_slots: ClassVar[bool] = True  # the model reads rows in the slots; else keys and values in front of everything
    any_codec: ClassVar[bool] = True  # its words are those of any codec of rows; else of the nearest tokens alone

    def build(self, parts: TextParts) -> PromptMethod:
        """Return the method."""
        raise NotImplementedError

    def words(self, parts: TextParts) -> TokenCodec[Params] | None:
        """Return the codec of what the method compares with words; None: these are rows of embeddings."""
        return None


class MatcherMethodOptions(MethodOptions):
    """Base of the settings of a method that matches features of the input with features of the classes."""

    of_matchers: ClassVar[bool] = True
    text_wordings: ClassVar[tuple[str, ...]] = ()  # of the classes of texts, where none are given; empty: their names
    reads_hidden_layers: ClassVar[bool] = False  # of a text encoder, where the settings do not say

    def build(self, bound: Bound) -> MatcherMethod:
        """Return the method for these classes."""
        raise NotImplementedError


class ProbeOptions(MatcherMethodOptions):
    """Base of the settings of a method without a prompt."""

    has_prompt: ClassVar[bool] = False
    usual: ClassVar[Mapping[str, Mapping[str, object]]] = {"mentor": {"name": "none"}}  # it has nothing to propose

    def build_on(self, bound: Bound, features: Tensor, targets: Tensor) -> Probe:
        """Return the method for these classes, and for the features ``(num_examples, embed_dim)`` of `train`, with their classes."""
        raise NotImplementedError


class ModelConfig(Section):
    """The frozen model, and what is trained in front of it or in its input.

    Example:
        >>> model = ModelConfig(method="p_tuning", encoder="mlp")
        >>> model.kind.name, model.method.options.encoder, model.num_virtual_tokens
        ('auto', 'mlp', 8)
        >>> ModelConfig(name="packaged:emoji-vit").method.name
        'coop'
    """

    chooses: ClassVar[Mapping[str, str]] = {"kind": "kind", "method": "method"}

    kind: Chosen[KindOptions] = Field(
        default_factory=lambda: _chosen("kind", "auto"),
        description="How classes are read: by label words (decoder, masked, encoder_decoder), a trained head, or a matcher of features, "
        "such as CLIP; auto: as suits the model.",
    )
    method: Chosen[MethodOptions] = Field(
        default_factory=lambda: _chosen("method", "prompt_tuning"),
        description="What is trained; by default prompt_tuning, and of a matcher class_residual (texts) or coop (pictures).",
    )
    revision: Text | None = Field(None, description="Hub revision.")
    trust_remote_code: bool = Field(
        False, description="Run Python files that come with the model; of a hub model only of a commit that `revision` names."
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="Precision of the frozen weights.")
    device: Text = Field("cpu", description="Where the frozen model runs: cpu, cuda, cuda:1, ...")
    distance: Literal["cosine", "l2", "dot"] = Field("cosine", description="What nearest means when vectors are put into words.")
    score_batch: int = Field(64, ge=1, le=MANY, description="Examples scored at a time; pictures that run through their tower at a time.")

    @model_validator(mode="wrap")
    @classmethod
    def _imply(cls, given: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        """Choose what is not named: a matcher by the method or the model's name, its usual method by the kind."""
        if not isinstance(given, dict):
            return handler(given)
        values = dict(given)
        if values.get("kind", "auto") == "auto" and (_matches(values.get("method")) or _is_dual(values.get("name"))):
            values["kind"] = "matcher"
        if values.get("kind") == "matcher":
            values.setdefault("method", "coop")
        made = handler(values)
        made.model_fields_set.difference_update({"kind", "method"} - {*given})  # what was chosen here was not given
        return made

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        kind, method = self.kind.name, self.method.name
        if self.method.options.of_matchers and kind != "matcher":
            raise ValueError(
                f"method '{method}' matches features, and model.kind is '{kind}': set it to 'matcher', or choose another method"
            )
        if kind == "matcher" and not self.method.options.of_matchers:
            raise ValueError(
                f"method '{method}' is trained in a text that the model reads, and a matcher reads none: choose {', '.join(_of_matchers())}"
            )
        return self

    def unread(self) -> Mapping[str, str]:
        found = {"device": "model.device_map says where each part is: drop one of the two"} if self.kind.options.is_divided else {}
        if self.method.options.has_prompt:
            return found
        told = f"model.method is '{self.method.name}', which trains no prompt: drop it, or choose one that does, such as 'coop'"
        return {**found, **dict.fromkeys(OF_PROMPTS, told)}

    # what every kind has, each with its own defaults

    @property
    def name(self) -> str:
        return self.kind.options.name

    @property
    def speaker(self) -> str:
        """The language model that a mentor in this process asks, where it names none: the tuned one, where that is no matcher."""
        return LANGUAGE_MODEL if self.kind.name == "matcher" else self.name

    @property
    def template(self) -> str | None:
        return self.kind.options.template

    @property
    def num_virtual_tokens(self) -> int:
        return self.kind.options.num_virtual_tokens

    @property
    def initial(self) -> str:
        return self.kind.options.initial

    def with_kind(self, **changes: Any) -> ModelConfig:
        """Return the same with some of the kind's settings changed, unchecked."""
        return self.model_copy(update={"kind": self.kind.with_options(**changes)})


def text_method(model: ModelConfig) -> TextMethodOptions:
    """Return the settings of a method of texts."""
    options = model.method.options
    assert isinstance(options, TextMethodOptions)
    return options


def matcher_of_texts(model: Mapping[str, object]) -> dict[str, str]:
    """Return what settings of a matcher of texts leave out: its encoder and its method, one with a prompt where they speak of one.

    Example:
        >>> matcher_of_texts({"kind": "matcher"})
        {'name': 'packaged:all-minilm-l6-v2', 'method': 'class_residual'}
        >>> matcher_of_texts({"kind": "head"})
        {}
    """
    kind, method = _named(model.get("kind", "auto")), model.get("method")
    if kind != "matcher" and not (kind == "auto" and (_matches(method) or _is_dual(model.get("name")))):
        return {}
    return {"name": TEXT_ENCODER, "method": "coop" if any(key in model for key in OF_PROMPTS) else "class_residual"}


def usual_of(
    model: Mapping[str, object], *, with_lines: bool = False, lines_alone: bool = False, pictures: bool = False
) -> Mapping[str, Mapping[str, object]]:
    """Return what usually goes with the method that the settings name, by section; a wrong name is told elsewhere.

    Args:
        with_lines: a mentor says class lines, or may.
        lines_alone: it says nothing else. Then the kind of model has something to say too.
        pictures: the inputs are pictures, of which lines are no examples.

    Example:
        >>> usual_of({"kind": "head"}), usual_of({"kind": "head"}, with_lines=True, lines_alone=True)["plan"]["rounds"]
        ({}, 1)
    """
    try:
        options = choices.load("method", _named(model.get("method", "prompt_tuning")))
        kind = choices.load("kind", _named(model.get("kind", "auto")))
    except choices.UnknownName:
        return {}
    found: Mapping[str, Mapping[str, object]] = options.usual_with_lines if with_lines else options.usual
    if with_lines and pictures:
        found = {**found, **options.usual_with_lines_of_pictures}
    if not lines_alone or options.of_matchers:
        return found
    return {name: {**kind.usual_with_lines.get(name, {}), **found.get(name, {})} for name in {**kind.usual_with_lines, **found}}


def _chosen(table: str, name: str) -> Chosen[Any]:
    return Chosen(name, choices.load(table, name)())


def _named(choice: object) -> str:
    """Return the name of what is chosen; whatever is no name leads to nothing."""
    return choice.name if isinstance(choice, Chosen) else str(choice)


def _matches(method: object) -> bool:
    """Say whether a method is one of matchers; a wrong name is told elsewhere."""
    try:
        return bool(choices.load("method", _named(method)).of_matchers)
    except choices.UnknownName:
        return False


def _is_dual(name: object) -> bool:
    return isinstance(name, str) and names_dual_encoder(name)


def _of_matchers() -> list[str]:
    return [name for name in choices.names("method") if _matches(name)]

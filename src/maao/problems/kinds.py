"""How classes are read from a frozen model, by name: the settings of each kind, and how it is built. Importing this loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from maao import choices
from maao.codecs.options import CodecOptions, NearestTokenOptions
from maao.errors import ConfigError
from maao.options import MANY, Chosen, Options, Text
from maao.problems.settings import LANGUAGE_MODEL, KindOptions, ModelConfig
from maao.problems.towers.text.loading import Kind, kind_of

DEFAULT_TEMPLATE = "{text} {slots} Topic:"


class TextOptions(KindOptions):
    """Settings of models that read the input and the slots as one text."""

    chooses: ClassVar[Mapping[str, str]] = {"codec": "codec"}

    name: Text = Field(LANGUAGE_MODEL, description="Hub name, folder, .gguf file, or packaged:NAME.")
    quantization: Options | None = Field(
        None, description="Settings of transformers' own quantisation of the frozen weights, as quant_method with load_in_8bit."
    )
    device_map: Text | dict[str, str | int] | None = Field(
        None, description='Parts of a model over devices, cpu and disk, as transformers divides it: "auto", or modules by name.'
    )
    template: Text | None = Field(
        None, description='The input: {slots}, {fields}, {mask}, {sep}. By default the task\'s, else "{text} {slots} Topic:".'
    )
    chat: bool = Field(False, description="Put the template into a user turn of the model's chat template.")
    chat_turn: str | None = Field(
        None, description="The text of that turn, {turn} for the template; by default rendered when a run begins, and kept with it."
    )
    class_weights: Literal["none", "balanced"] | dict[str, Annotated[float, Field(le=1e6)]] = Field(
        "none", description="What each label weighs in the training loss; balanced: the inverse of how often train has it."
    )
    num_virtual_tokens: int = Field(8, ge=1, le=10_000, description="Rows of the soft prompt; the most there may be if length is free.")
    length: Literal["fixed", "free"] = Field("fixed", description="Cut or repeat proposals to num_virtual_tokens, or leave their length.")
    initial: Literal["vocabulary", "normal", "text", "labels"] = Field("vocabulary", description="Where the soft prompt begins.")
    initial_text: Text | None = Field(None, description='The text to begin with (initial = "text").')
    adapter: Text | None = Field(None, description="A PEFT prompt-learning adapter to begin with, a folder.")
    codec: Chosen[CodecOptions] = Field(
        default_factory=lambda: Chosen("nearest_token", NearestTokenOptions()), description="How vectors are put into words."
    )
    max_length: int | None = Field(None, ge=4, le=MANY, description="Most tokens of an input; by default the model's context.")
    frozen_dropout: bool = Field(False, description="Leave the frozen model's dropout on in training, as the reference release.")
    padding_side: Literal["left", "right"] = Field("right", description="Where batches are padded.")
    cache_mib: int = Field(2048, ge=0, le=MANY, description="Most memory for the keys and values of texts before the slots; 0: no cache.")
    part_tokens: int = Field(512, ge=1, le=MANY, description="Most tokens a gradient step runs at a time: bounds its memory.")
    memory_mib: int | None = Field(
        None, ge=1, le=MANY, description="Memory that a gradient step may take: sets part_tokens by measuring the model."
    )

    @property
    def is_divided(self) -> bool:
        return self.device_map is not None

    @property
    def input_text(self) -> str:
        return self.template or DEFAULT_TEMPLATE

    @property
    def input_fields(self) -> tuple[str, ...]:
        from maao.problems.towers.text.template import Template

        return Template.parse(self.input_text, chat=self.chat).fields

    def unread(self) -> Mapping[str, str]:
        found = dict(super().unread())
        if not self.chat:
            found["chat_turn"] = "model.chat is false: set it to true, or drop it"
        if self.device_map is not None:
            found["memory_mib"] = "what a step takes is measured on one device, and model.device_map divides the model: set part_tokens"
        elif self.memory_mib is not None:
            found["part_tokens"] = "model.memory_mib sets it by measuring the model: drop one of the two"
        return found


class LabelWordsOptions(TextOptions):
    """Settings of models that say a word for each class."""

    label_words: dict[str, str] | None = Field(None, description="What the model says for each label; by default the label itself.")
    label_space: Literal["auto"] | bool = Field(
        "auto", description="A space before each label word; auto: as its script has it (none for 体育), and none behind a new line."
    )
    objective: Literal["classes", "vocabulary"] = Field("classes", description="Cross-entropy over the classes, or over the vocabulary.")
    calibration: Literal["none", "contextual", "batch"] = Field(
        "none",
        description="Take from a label word's score what it has whatever the input is: as inputs without content say, or those of train.",
    )


class DecoderOptions(LabelWordsOptions):
    """The label word is what a causal model says next."""

    usual_with_lines: ClassVar[Mapping[str, Mapping[str, object]]] = {"plan": {"rounds": 1, "steps": 100}}


class MaskedOptions(LabelWordsOptions):
    """The label word stands at the mask of the template."""


class EncoderDecoderOptions(LabelWordsOptions):
    """The label word is what the decoder says of what the encoder has read."""


class HeadOptions(TextOptions):
    """A linear head on the last hidden states of an encoder or a decoder, trained with the prompt."""

    usual_with_lines: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "plan": {"rounds": 1, "steps": 100, "store_every": 25},
        "accept": {"steps": 100, "margin_share": 0.4},  # lines are many times the labels: a race of 10 steps sees few of them
        "mentor": {"weights": [1.0]},  # a head that begins at random believes each line by half
    }

    pooling: Literal["auto", "mean", "first", "virtual", "last"] = Field(
        "auto", description="What a head reads; auto: the last token of a decoder, the mean of an encoder."
    )
    head_start: Literal["auto", "random", "zeros", "class_texts", "prototypes", "class_texts_and_prototypes", "logistic_regression"] = (
        Field("auto", description="Where a head begins; auto: random on an encoder, zeros on a decoder.")
    )
    head_text_weight: float = Field(
        1.0, gt=0, le=1e6, description="Examples that a class text counts as (head_start = class_texts_and_prototypes)."
    )
    head_anchor: float = Field(
        0.0, ge=0, le=1e6, description="What leaving the start costs a head's weights: a Gaussian prior's inverse variance; 0: nothing."
    )
    head_bias: bool = Field(True, description="Whether a head has a bias; the stock heads of decoders have none.")

    @property
    def needs_labels(self) -> bool:
        return self.head_start not in ("class_texts", "class_texts_and_prototypes")

    def unread(self) -> Mapping[str, str]:
        told = f"model.head_start is '{self.head_start}': set it to 'class_texts_and_prototypes', or drop it"
        own = {} if self.head_start == "class_texts_and_prototypes" else {"head_text_weight": told}
        return {**super().unread(), **own}


class AutoOptions(LabelWordsOptions, HeadOptions):
    """Settings before it is known which kind the model is; then those that it does not read are refused."""

    usual_with_lines: ClassVar[Mapping[str, Mapping[str, object]]] = {}


class MatcherOptions(KindOptions):
    """Settings of models that match features of the input with features of the classes' texts."""

    average_costs: ClassVar[str] = (
        "an input runs through its tower once, unless that is tuned too, and the class texts once for each of them"
    )

    name: Text = Field(
        "packaged:emoji-vit",
        description="Hub name or folder of CLIP or SigLIP, a dual_encoder.json folder, open_clip:...; for texts any text encoder.",
    )
    template: Text | None = Field(
        None,
        description='The prompt of a class: {class} once, {slots} before it, after it, or around it; by default "{slots} {class}.", '
        'for texts "{slots} {class}".',
    )
    label_words: dict[str, str] | None = Field(
        None, description="What stands for each label as {class}, of texts; by default the label with spaces for underscores."
    )
    input_template: Text = Field("{text}", description="What of an example is read, of texts: its {fields}.")
    pooling: Literal["mean", "first", "last", "max", "weighted_mean"] | None = Field(
        None, description="How a text becomes one vector; by default as the text encoder says itself, else the mean."
    )
    max_length: int | None = Field(None, ge=4, le=MANY, description="Most tokens of a text; by default those it was made for.")
    hidden_layers: list[Annotated[int, Field(ge=0, le=10_000)]] | None = Field(
        None,
        description="Layers of a text encoder (0: what they read) whose mean over tokens stands beside its own vector; by default none, "
        "and for class_residual the one two thirds up.",
    )
    scale: float | None = Field(
        None, gt=0, le=100, description="What the cosine is multiplied by as training begins, where no scale came with the towers: 20."
    )
    wordings: list[str] | None = Field(
        None, description="Hand-written prompts, each with {class}: zero-shot, and what methods stay near. By default the data set's own."
    )
    num_virtual_tokens: int = Field(4, ge=1, le=10_000, description="Rows of the context, in tokens.")
    initial: Literal["text", "vocabulary", "normal"] = Field("text", description="Where the context begins.")
    initial_text: Text | None = Field(
        None, description='The text to begin with (initial = "text"); by default "a photo of a", for texts "this text is about".'
    )
    views: int = Field(0, ge=0, le=10_000, description="Random views (crops, mirrored) of each training picture; 0: pictures as they are.")
    cache: bool = Field(True, description="Keep features of inputs on disk, by content.")
    pixel_mib: int = Field(1024, ge=0, le=MANY, description="Most memory for pixels that are read again (maple, promptsrc).")
    part_tokens: int = Field(
        0, ge=0, le=MANY, description="Most tokens of class prompts whose activations a step keeps: bounds memory. 0: no bound."
    )

    @property
    def input_text(self) -> str:
        return self.input_template

    @property
    def input_fields(self) -> tuple[str, ...]:
        from maao.problems.towers.text.inputs import InputTemplate

        return InputTemplate.parse(self.input_template).fields

    @property
    def towers(self) -> tuple[object, ...]:
        """What of these settings the towers follow from, beside their name and precision."""
        return self.pooling, self.max_length, self.scale


def text_options(model: ModelConfig) -> TextOptions:
    """Return the settings of a kind that reads texts."""
    options = model.kind.options
    assert isinstance(options, TextOptions)
    return options


def matcher_options(model: ModelConfig) -> MatcherOptions:
    """Return the settings of a matcher."""
    options = model.kind.options
    assert isinstance(options, MatcherOptions)
    return options


def label_words(model: ModelConfig) -> Mapping[str, str] | None:
    """Return the label words that the settings name, if this kind has such."""
    options = model.kind.options
    return options.label_words if isinstance(options, LabelWordsOptions) else None


def is_masked(model: ModelConfig) -> bool:
    """Say whether a template asks for a label word at a mask: an encoder is then read there, and by a head otherwise."""
    return model.template is not None and "{mask}" in model.template


def architecture(model: ModelConfig) -> Kind | Literal["auto", "head"]:
    """Return what a model that reads texts is to be loaded as."""
    if (
        model.kind.name == "auto"
        and is_masked(model)
        and kind_of(model.name, model.revision, trust_remote_code=model.trust_remote_code) == "encoder"
    ):
        return "masked"
    names: Mapping[str, Kind | Literal["head"]] = {
        "head": "head",
        "decoder": "decoder",
        "masked": "masked",
        "encoder_decoder": "encoder_decoder",
    }
    return names.get(model.kind.name, "auto")


def settled(model: ModelConfig, found: Kind) -> ModelConfig:
    """Return the settings with the kind that `auto` turned out to be, as the loaded model has it.

    Raises:
        ConfigError: a setting was given that this kind does not read.
    """
    if model.kind.name != "auto":
        return model
    given = model.kind.options
    name = "head" if found == "encoder" else found
    kind: type[KindOptions] = choices.load("kind", name)
    for key in given.changed():
        if key in type(given).model_fields and key not in kind.model_fields:
            raise ConfigError(_not_read(key, name, given.name))
    own = {key: getattr(given, key) for key in sorted(given.model_fields_set) if key in kind.model_fields}
    return model.model_copy(update={"kind": Chosen(name, kind.model_construct(set(own), **own))})


def _not_read(key: str, kind: str, model: str) -> str:
    """Say why a setting cannot stand with a model whose kind was not named."""
    if key == "label_words":
        return (
            f"{model} is an encoder, read by a trained head: leave model.label_words out, or score them at its mask with "
            'model.kind = "masked" and a {mask} in the template.'
        )
    if kind == "head":
        return f"model.{key} would be ignored, since {model} is read by a head, which scores classes and no vocabulary: drop it."
    return f"model.{key} would be ignored, since {model} is read by label words, and only a head pools: drop it."

"""Configs: pydantic models, read from TOML. An unknown key is refused with the nearest known one; nothing is guessed.

What a name means is decided in `build.py`; here only its form is checked. Paths are taken relative to the config file, with ``~`` and
``$VARIABLES`` expanded.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from maao.data.dataset import HUB, PACKAGED
from maao.data.files import not_utf8
from maao.data.image_data import ImageData
from maao.data.image_sets import CATALOG, EMOJI
from maao.data.inputs import input_of
from maao.data.text_data import PARTS, TextData
from maao.errors import ConfigError
from maao.options import UNKNOWN, UNREAD, Chosen, OneOf
from maao.store.files import reading


class Section(BaseModel):
    """Base of all sections: frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


MANY = 10**9  # more steps, examples or tokens than any run reaches, and within what every library below counts with


def _not_blank(text: str, info: ValidationInfo) -> str:
    if not text.strip() and info.context != STORED:  # a run that stored one was made with it
        raise ValueError("it is empty: leave it out for the default")
    return text


def _plain(value: Any) -> Any:
    """Refuse what a stored config cannot hold: what is no JSON, and numbers that no library takes."""
    if isinstance(value, dict):
        return {key: _plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(held) for held in value]
    if (isinstance(value, int) and abs(value) >= 2**63) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError("it holds a number that is not finite, or too large for any library")
    if not (value is None or isinstance(value, str | int | float)):
        raise ValueError(f"it holds {value!r}; give texts, numbers, true or false, lists, and mappings of these")
    return value


STORED = "stored"  # the context of a config that a run stored, which names every setting, those too that it does not read

Text = Annotated[str, AfterValidator(_not_blank)]  # an empty one would be taken for none in silence
Options = Annotated[dict[str, Any], AfterValidator(_plain)]


class ModelConfig(Section):
    """The frozen model and the soft prompt in its input."""

    name: Text = Field("packaged:smollm2-135m-instruct", description="Hub name, folder, .gguf file, or packaged:NAME.")
    revision: Text | None = Field(None, description="Hub revision.")
    kind: Literal["auto", "decoder", "encoder", "masked", "encoder_decoder"] = Field(
        "auto", description="How classes are read: label words of a decoder, a masked model or an encoder-decoder; a head on an encoder."
    )
    quantization: Options | None = Field(
        None, description="Settings of transformers' own quantisation of the frozen weights, as quant_method with load_in_8bit."
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="Precision of the frozen weights.")
    device: Text = Field("cpu", description="Where the frozen model runs: cpu, cuda, cuda:1, ...")
    template: Text | None = Field(
        None, description='The input: {slots}, {fields}, {mask}, {sep}. By default the task\'s, else "{text} {slots} Topic:".'
    )
    chat: bool = Field(False, description="Put the template into a user turn of the model's chat template.")
    chat_turn: str | None = Field(
        None, description="The text of that turn, {turn} for the template; by default rendered when a run begins, and kept with it."
    )
    label_words: dict[str, str] | None = Field(None, description="What the model says for each label; by default the label itself.")
    label_space: Literal["auto"] | bool = Field(
        "auto", description="A space before each label word; auto: as its script has it (none for 体育), and none behind a new line."
    )
    objective: Literal["classes", "vocabulary"] = Field("classes", description="Cross-entropy over the classes, or over the vocabulary.")
    pooling: Literal["mean", "first", "virtual"] = Field("mean", description="What a head reads (encoders).")
    class_weights: Literal["none", "balanced"] | dict[str, Annotated[float, Field(le=1e6)]] = Field(
        "none", description="What each label weighs in the training loss; balanced: the inverse of how often train has it."
    )
    method: Literal["prompt_tuning", "p_tuning", "prefix_tuning", "pez"] = Field("prompt_tuning", description="What is trained.")
    encoder: Literal["lstm", "mlp"] = Field("lstm", description="The network that rows go through (p_tuning).")
    projection: bool = Field(False, description="Train a network instead of the keys and values themselves (prefix_tuning).")
    hidden: int | None = Field(
        None, ge=2, le=8_192, description="Width inside the network; by default the embedding's, or 512 (prefix_tuning)."
    )
    num_virtual_tokens: int = Field(8, ge=1, le=10_000, description="Rows of the soft prompt; the most there may be if length is free.")
    length: Literal["fixed", "free"] = Field("fixed", description="Cut or repeat proposals to num_virtual_tokens, or leave their length.")
    initial: Literal["vocabulary", "normal", "text", "labels"] = Field("vocabulary", description="Where the soft prompt begins.")
    initial_text: Text | None = Field(None, description='The text to begin with (initial = "text").')
    adapter: Text | None = Field(None, description="A PEFT prompt-learning adapter to begin with, a folder.")
    distance: Literal["cosine", "l2", "dot"] = Field("cosine", description="What nearest means when vectors are put into words.")
    fluency: float = Field(
        0.0, ge=0, le=1e6, description="What a word's log-probability weighs beside nearness when vectors are put into words."
    )
    released: list[Literal["least_similar", "narrow_vocabulary", "joined_by_spaces", "special_tokens", "embed_twice"]] = Field(
        default_factory=list, description="Defects of the reference release to reproduce, by name."
    )
    max_length: int | None = Field(None, ge=4, le=MANY, description="Most tokens of an input; by default the model's context.")
    frozen_dropout: bool = Field(False, description="Leave the frozen model's dropout on in training, as the reference release.")
    padding_side: Literal["left", "right"] = Field("right", description="Where batches are padded.")
    cache_mib: int = Field(2048, ge=0, le=MANY, description="Most memory for the keys and values of texts before the slots; 0: no cache.")
    part_tokens: int = Field(512, ge=1, le=MANY, description="Most tokens a gradient step runs at a time: bounds its memory.")
    memory_mib: int | None = Field(
        None, ge=1, le=MANY, description="Memory that a gradient step may take: sets part_tokens by measuring the model."
    )
    score_batch: int = Field(64, ge=1, le=MANY, description="Examples scored at a time.")


class VisionConfig(Section):
    """The frozen dual encoder, and the words around its class names (problem = "vision")."""

    name: Text = Field("packaged:emoji-vit", description="Hub name or folder of CLIP or SigLIP, a dual_encoder.json folder, open_clip:....")
    revision: Text | None = Field(None, description="Hub revision.")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="Precision of the frozen weights.")
    device: Text = Field("cpu", description="Where the frozen model runs: cpu, cuda, cuda:1, ...")
    method: Literal["zero_shot", "coop", "cocoop", "kgcoop", "prograd", "tcp", "maple", "promptsrc", "linear_probe", "lp++"] = Field(
        "coop", description="What is trained."
    )
    template: Text = Field(
        "{slots} {class}.", description="The prompt of a class: {class} once, {slots} before it, after it, or around it."
    )
    wordings: list[str] | None = Field(
        None, description="Hand-written prompts, each with {class}: zero-shot, and what methods stay near. By default the data set's own."
    )
    num_virtual_tokens: int = Field(4, ge=1, le=10_000, description="Rows of the context, in tokens.")
    initial: Literal["text", "vocabulary", "normal"] = Field("text", description="Where the context begins.")
    initial_text: Text | None = Field(None, description='The text to begin with (initial = "text"); by default "a photo of a".')
    class_specific: bool = Field(False, description="A context of its own for each class (coop, kgcoop, prograd).")
    distance: Literal["cosine", "l2", "dot"] = Field("cosine", description="What nearest means when vectors are put into words.")
    weight: float | None = Field(
        None, ge=0, le=1e6, description="Of the second part of the loss or gradient (kgcoop and tcp: 8, prograd: 1)."
    )
    temperature: float | None = Field(None, gt=0, le=1e6, description="Of the distributions that are compared (prograd: 1).")
    depth: int | None = Field(
        None, ge=1, le=10_000, description="Block that is reached (tcp), layers with prompts (maple, promptsrc); in proportion."
    )
    num_image_tokens: int = Field(4, ge=1, le=10_000, description="Rows among an image's tokens (promptsrc).")
    text_weight: float = Field(25.0, ge=0, le=1e6, description="Of the distance to the hand-written wordings (promptsrc).")
    image_weight: float = Field(10.0, ge=0, le=1e6, description="Of the distance to the frozen image features (promptsrc).")
    score_weight: float = Field(1.0, ge=0, le=1e6, description="Of the distance to the frozen scores (promptsrc).")
    views: int = Field(0, ge=0, le=10_000, description="Random views (crops, mirrored) of each training picture; 0: pictures as they are.")
    cache: bool = Field(True, description="Keep image features on disk, by content.")
    pixel_mib: int = Field(1024, ge=0, le=MANY, description="Most memory for pixels that are read again (maple, promptsrc).")
    part_tokens: int = Field(
        0, ge=0, le=MANY, description="Most tokens of class prompts whose activations a step keeps: bounds memory. 0: no bound."
    )
    score_batch: int = Field(64, ge=1, le=MANY, description="Pictures that run through the image tower at a time.")


class StageConfig(Section):
    """The doer: how gradient steps are made, or what takes their place."""

    kind: Literal["gradient", "cma_es"] = Field(
        "gradient", description="Gradient steps; or generations of CMA-ES on a random projection of the params, which need no gradient."
    )
    population: int = Field(8, ge=4, le=10_000, description="Candidates of a generation (cma_es).")
    dim: int = Field(50, ge=2, le=2_000, description="Numbers that are searched over (cma_es).")
    size: float = Field(0.5, gt=0, le=1e6, description="The search's first standard deviation, beside the start's own size (cma_es).")
    optimizer: Text = Field("AdamW", description="A class of torch.optim.")
    lr: float = Field(0.01, gt=0, description="Learning rate.")
    lr_grid: list[Annotated[float, Field(gt=0)]] = Field(
        default_factory=list, description="Rates to try before a run starts; the one with the lowest loss on select becomes lr."
    )
    lr_steps: int = Field(10, ge=1, le=MANY, description="Gradient steps that each rate of lr_grid walks; they count for the budget.")
    options: Options = Field(default_factory=dict, description="Further arguments of the optimizer's class.")
    batch_size: int = Field(32, ge=1, le=MANY, description="Examples a step; all of train if there are no more.")
    schedule: Literal["constant", "linear", "cosine", "exponential"] = Field("constant", description="Learning rate over the plan.")
    schedule_every: int = Field(
        1, ge=1, le=MANY, description="Steps after which the schedule moves on; an epoch's, to do as the reference release."
    )
    warmup_steps: int = Field(0, ge=0, le=MANY, description="Steps over which the learning rate rises first.")
    warmup_lr: float | None = Field(None, gt=0, description="A constant rate for the warm-up, in place of a rise (CoOp's: 1e-5).")
    average_mean: float | None = Field(
        None,
        ge=-1e6,
        le=1e6,
        description="Epoch that weighs most in a Gaussian average of the params over epochs (PromptSRC); without it none is taken.",
    )
    average_std: float = Field(1.0, ge=1e-3, le=1e6, description="Width of that average, in epochs.")
    max_grad_norm: float | None = Field(1.0, ge=0, le=1e30, description="Clip the gradient's norm to this; 0: do not clip.")
    on_restart: Literal["clear", "keep"] = Field("clear", description="What becomes of the optimizer's moments at a restart.")

    @field_validator("lr_grid")
    @classmethod
    def _differ(cls, rates: list[float]) -> list[float]:
        if len(set(rates)) < len(rates):
            raise ValueError("names a rate twice; a rate is tried once")
        return rates


class LegConfig(Section):
    """One explicit leg of a plan."""

    steps: int = Field(ge=0, le=MANY, description="Gradient steps; 0 only measures.")
    ask: bool = Field(False, description="Ask the mentor before the leg starts.")
    proposals: int = Field(3, ge=1, le=10_000, description="Proposals asked for.")
    keep_every: int = Field(0, ge=0, le=MANY, description="Store the params of every n-th step; 0: of none.")


class PlanConfig(Section):
    """When the doer walks and when the mentor is asked."""

    kind: Literal["rounds", "epochs", "legs"] = Field("rounds", description="Rounds, the reference's epochs, or explicit legs.")
    rounds: int = Field(3, ge=0, le=MANY, description="How often the mentor is asked.")
    steps: int = Field(30, ge=1, le=MANY, description="Gradient steps of a walk (rounds).")
    store_every: int = Field(10, ge=0, le=MANY, description="A walk is stored, scored and told every so many steps (rounds).")
    proposals: int = Field(3, ge=1, le=10_000, description="Proposals asked for at a time.")
    first: Literal["walk", "ask"] = Field("walk", description="What a run begins with (rounds).")
    epochs: int = Field(10, ge=1, le=MANY, description="Epochs in all (epochs).")
    ask_after: list[Annotated[int, Field(ge=0, le=MANY)]] = Field([0, 1, 2], description="The mentor is asked after these epochs (epochs).")
    legs: list[LegConfig] = Field(default_factory=list, description="The legs (legs).")
    clues: bool = Field(
        True, description="Say in words where each leg ended; without it rounds are cheaper, and no mentor can read a walk."
    )
    patience: int = Field(
        0, ge=0, le=MANY, description="End after so many legs without a new best on select; not before the mentor's turn. 0: never."
    )
    min_delta: float = Field(0.0, ge=0, le=1e30, description="Loss by which a new best must be lower (patience).")


class AcceptConfig(Section):
    """What becomes of the proposals."""

    rule: Text = Field("race", description="always_first, best_of, if_better, interpolate, race, or a plugin's name.")
    steps: int = Field(10, ge=1, le=MANY, description="How far candidates walk (race).")
    margin: float = Field(0.0, ge=0, le=1e6, description="Loss by which a candidate must win (race).")
    rungs: list[Annotated[int, Field(ge=0, le=MANY)]] = Field(
        default_factory=list, description="Ages at which the worse half of the proposals drops out (race)."
    )
    weight: float = Field(0.5, gt=0, le=1, description="How far to move towards a proposal (interpolate).")
    inner: Literal["always_first", "best_of", "if_better", "race"] = Field("best_of", description="Who judges the blends (interpolate).")
    options: Options = Field(default_factory=dict, description="A plugin's own settings.")


class ChatConfig(Section):
    """Which language model is asked."""

    provider: Literal["local", "openai", "person", "scripted"] = Field(
        "local", description="local runs in this process; openai speaks to any compatible server."
    )
    name: Text | None = Field(None, description="Model name; by default the tuned model itself (local).")
    base_url: Text | None = Field(
        None, description="Address of a compatible server, as http://127.0.0.1:8080/v1; a query goes with it (openai)."
    )
    api_key_env: str = Field(
        "OPENAI_API_KEY", description='Environment variable that holds the key; "" for a server that needs none (openai).'
    )
    timeout: float = Field(
        60.0, gt=0, le=86_400, description="Seconds one attempt may take, from the connection to the last byte (openai)."
    )
    attempts: int = Field(4, ge=1, le=100, description="How often a call is tried (openai).")
    first_pause: float = Field(0.5, ge=0, le=86_400, description="Seconds before the second attempt; they double with each (openai).")
    longest_pause: float = Field(
        120.0,
        ge=0,
        le=86_400,
        description="Seconds that a server may ask to wait; where it asks for more, the call fails (openai).",
    )
    leave_out: list[Literal["seed", "stop", "temperature", "top_p", "response_format"]] = Field(
        default_factory=list, description="Settings that are not sent, for servers that refuse them without saying so (openai)."
    )
    extra: dict[str, Any] = Field(
        default_factory=dict, description="Further fields of the request's body, as {enable_thinking = false} (openai)."
    )
    usd_per_million_input: float | None = Field(None, ge=0, le=1e9, description="Price; by default looked up.")
    usd_per_million_output: float | None = Field(None, ge=0, le=1e9, description="Price; by default looked up.")
    replies: list[str] = Field(default_factory=list, description="What a scripted model says.")


class ShownConfig(Section):
    """Which evidence an instruction shows."""

    scores: Literal["both", "reached", "words", "shuffled", "none"] = Field(
        "both", description="The loss reached from a prompt, that of its words alone, both, both dealt out at random (a control), or none."
    )
    nearest: bool = Field(False, description="Show the words nearest to the tuned vectors.")
    gradient: bool = Field(True, description="Show the words that the gradient asks for.")
    displacement: bool = Field(True, description="Show the words that the vectors have moved towards.")
    confusions: bool = Field(True, description="Show which labels are read as which, and how often.")
    examples: bool = Field(False, description="Show misread training examples to a model that runs on this machine.")
    gap: bool = Field(True, description="Show by how much the tuned vectors do better than their words.")
    account: bool = Field(
        False, description="Show how the tuned model continues the vectors (decoders); to a remote model only with share_examples."
    )
    top_words: int = Field(3, ge=1, le=1_000, description="Most words shown for each position where clues name words; they hold three.")


class MentorConfig(Section):
    """Who proposes restarts, and what it reads."""

    name: Text = Field(
        "language_model",
        description="none, random_restart, perturb, reset, reproject, random_text, soft_input, evolution, scripted, person, "
        "language_model, opro, ape, evoprompt_ga, evoprompt_de, or a plugin's name.",
    )
    description: Text = Field("Classify a text.", description="What a mentor is told of the task, in a sentence.")
    style: Literal["chat", "completion"] = Field(
        "chat", description="completion suits small or base models; a person is always asked as in a chat."
    )
    wording: Text | None = Field(
        None,
        description="guided, chat, completion, released, contrast, or a file; by default guided, or what suits a completion or a person.",
    )
    listing: int = Field(8, ge=0, le=100_000, description="Points shown.")
    choice: Literal["best", "last", "first", "spread", "diverse", "released", "contrast"] = Field(
        "best",
        description="Which points are shown; diverse: with few words in common; contrast: best and worst; released: the last walk's first.",
    )
    shown: ShownConfig = Field(default_factory=ShownConfig, description="Which evidence an instruction shows.")
    share_examples: bool = Field(False, description="Let training examples, and what may repeat them, go to a remote model.")
    temperature: float = Field(0.8, ge=0, le=1_000, description="Sampling temperature of a reply; 0: the likeliest token each time.")
    top_p: float = Field(1.0, gt=0, le=1, description="Sample from the likeliest tokens of this probability together.")
    max_tokens: int = Field(200, ge=1, le=10_000_000, description="Most tokens of a reply.")
    retries: int = Field(
        1, ge=0, le=1_000, description="How often a model is asked again in a round for proposals that are missing (chat)."
    )
    max_samples: int = Field(6, ge=1, le=100_000, description="Most continuations asked for in a round (completion).")
    fills: list[Literal["template", "label_words"]] = Field(
        default_factory=list,
        description="What proposals fill beside the prompt (language_model, person, scripted, random_text): its template, the label words.",
    )
    structured: bool = Field(
        False, description="Ask a server for proposals in JSON, by a schema that it may hold the model to (language_model, chat, openai)."
    )
    texts: list[str] = Field(
        default_factory=list,
        description="What a scripted mentor proposes; of these the first `population` ones are what an evoprompt begins with.",
    )
    size: float = Field(0.1, gt=0, le=1e6, description="How far to jump, beside the point's own length (perturb).")
    corpus: Text | None = Field(None, description="A text file that sentences are taken from (random_text).")
    population: int = Field(10, ge=2, le=100_000, description="The best texts that breed (evolution, evoprompt).")
    exemplars: int = Field(3, ge=0, le=100_000, description="Training examples that are shown (opro, ape).")
    beside: Literal["random_restart", "random_text", "perturb", "evolution", "scripted"] | None = Field(
        None, description="A second mentor, which asks nobody: it makes a part of the proposals, and those that the first leaves missing."
    )
    beside_share: float = Field(0.5, ge=0, lt=1, description="Its part of the proposals, rounded down.")
    chat: ChatConfig = Field(default_factory=ChatConfig, description="Which language model is asked.")
    options: Options = Field(default_factory=dict, description="A plugin's own settings.")


class BudgetConfig(Section):
    """Hard caps; what is left out is not capped."""

    gradient_steps: int | None = Field(None, le=2**53, description="Most gradient steps, those of races included.")
    llm_calls: int | None = Field(None, le=2**53, description="Most calls to the mentor's language model.")
    llm_tokens: int | None = Field(None, le=2**53, description="Most tokens that it reads and writes.")
    usd: float | None = Field(None, le=1e15, description="Most US dollars; the price must be known.")
    seconds: float | None = Field(None, le=1e15, description="Most seconds, looked at after each leg.")


class FunctionConfig(Section):
    """A plain function to minimize, for learning and tests."""

    name: Literal["rosenbrock", "ackley", "rastrigin"] = Field("rastrigin", description="Which function.")
    dim: int = Field(2, ge=1, le=100_000, description="Numbers in a point.")
    bound: float = Field(4.0, gt=0, le=1e6, description="Starting points lie between minus this and this.")
    digits: int = Field(3, ge=0, le=12, description="Decimals of a point in words.")


DATA = OneOf("data", "input", "text", input_of)


class Config(Section):
    """A whole run."""

    problem: Literal["language", "vision", "function"] = Field(
        "language", description="A soft prompt of a language model, the words around class names of a dual encoder, or a plain function."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Fixes everything that is random.")
    threads: int | None = Field(None, ge=1, le=1_024, description="CPU threads; fixed for a run, since sums depend on it.")
    model: ModelConfig = Field(default_factory=ModelConfig, description="The frozen model and the soft prompt.")
    data: Annotated[Chosen, DATA] = Field(default_factory=DATA.chosen, description="Where texts or pictures come from.")
    vision: VisionConfig = Field(default_factory=VisionConfig, description="The frozen dual encoder and its prompt.")
    function: FunctionConfig = Field(default_factory=FunctionConfig, description="The function, if that is the problem.")
    stage: StageConfig = Field(default_factory=StageConfig, description="How gradient steps are made.")
    plan: PlanConfig = Field(default_factory=PlanConfig, description="When the doer walks, when the mentor is asked.")
    accept: AcceptConfig = Field(default_factory=AcceptConfig, description="What becomes of proposals.")
    mentor: MentorConfig = Field(default_factory=MentorConfig, description="Who proposes.")
    budget: BudgetConfig = Field(default_factory=BudgetConfig, description="Hard caps.")

    @property
    def texts(self) -> TextData | None:
        """The `[data]` of texts; None where it is of pictures."""
        return self.data.options if isinstance(self.data.options, TextData) else None

    @property
    def task(self) -> str | None:
        """The SuperGLUE task, if the data are of one."""
        return None if self.texts is None else self.texts.task

    @property
    def pictures(self) -> ImageData | None:
        """The `[data]` of pictures; None where it is of texts."""
        return self.data.options if isinstance(self.data.options, ImageData) else None

    @model_validator(mode="after")
    def _all_is_read(self, info: ValidationInfo) -> Self:
        ignored = {} if info.context == STORED else unread(self)
        if ignored:
            raise ValueError(" ".join(f"'{key}' would be ignored, since {reason}." for key, reason in ignored.items()))
        return self


# Which settings are read. What stands in none of these tables is read always, or checked where it is used.
SECTIONS_READ = {"language": ("model", "data"), "vision": ("vision", "data"), "function": ("function",)}
PLANS_READ = {
    "rounds": ("rounds", "steps", "store_every", "proposals", "first"),
    "epochs": ("epochs", "ask_after", "proposals"),
    "legs": ("legs",),
}
RULES_READ = {
    "always_first": (),
    "best_of": (),
    "if_better": (),
    "race": ("steps", "margin", "rungs"),
    "interpolate": ("weight", "inner"),
}
GENERATIONS_READ = ("kind", "population", "dim", "size", "batch_size")  # of the stage's section, by cma_es
GENERATIONS_ALONE_READ = ("population", "dim", "size")
VISION_READ: Mapping[str, tuple[str, ...]] = {  # which methods read a setting of the vision section
    "class_specific": ("coop", "kgcoop", "prograd"),
    "weight": ("kgcoop", "prograd", "tcp"),
    "temperature": ("prograd",),
    "depth": ("tcp", "maple", "promptsrc"),
    "num_image_tokens": ("promptsrc",),
    "text_weight": ("promptsrc",),
    "image_weight": ("promptsrc",),
    "score_weight": ("promptsrc",),
}
PROBES = ("zero_shot", "linear_probe", "lp++")  # methods that train no prompt
PROMPTS_READ = ("template", "num_virtual_tokens", "initial", "distance")  # of the vision section, by the others
PROVIDERS_READ = {  # the others read everything of [mentor.chat] but scripted replies
    "local": ("name",),
    "person": ("name",),
    "scripted": ("name", "replies"),
}
ASKS_NOBODY = (
    "none", "random_restart", "perturb", "reset", "reproject", "random_text", "soft_input", "evolution", "scripted",
)  # fmt: skip
_ASKS_IN_WORDS = ("language_model", "person")
_ASKS_ONE = ("opro", "ape", "evoprompt_ga", "evoprompt_de")
MENTORS_READ = {  # which of maao's mentors read a setting; a plugin and a mentor of one's own may read all
    "description": (*_ASKS_IN_WORDS, "soft_input", "opro"),
    "style": _ASKS_IN_WORDS,
    "wording": _ASKS_IN_WORDS,
    "listing": _ASKS_IN_WORDS,
    "choice": _ASKS_IN_WORDS,
    "share_examples": (*_ASKS_IN_WORDS, "opro", "ape"),
    "temperature": (*_ASKS_IN_WORDS, "soft_input", *_ASKS_ONE),
    "top_p": (*_ASKS_IN_WORDS, "soft_input"),
    "max_tokens": (*_ASKS_IN_WORDS, "soft_input", *_ASKS_ONE),
    "retries": _ASKS_IN_WORDS,
    "max_samples": (*_ASKS_IN_WORDS, "soft_input"),
    "texts": ("scripted", "evoprompt_ga", "evoprompt_de"),
    "size": ("perturb",),
    "corpus": ("random_text",),
    "population": ("evolution", "evoprompt_ga", "evoprompt_de"),
    "exemplars": ("opro", "ape"),
    "fills": (*_ASKS_IN_WORDS, "scripted", "random_text"),
    "structured": ("language_model",),
    "options": (),
}
OF_LOCAL_MODELS = ("name", "revision", "kind", "quantization", "dtype", "device")  # of [model]: a mentor in this process is loaded so


def unread_sections(config: Config) -> set[str]:
    """Return the sections that this kind of problem does not read.

    Example:
        >>> sorted(unread_sections(Config(problem="function", mentor={"name": "none"})))
        ['data', 'model', 'vision']
    """
    return {name for names in SECTIONS_READ.values() for name in names} - _sections_read(config)


def _sections_read(config: Config) -> set[str]:
    return {*SECTIONS_READ[config.problem], *(("model",) if _asks_in_this_process(config) else ())}


def _asks_in_this_process(config: Config) -> bool:
    return config.mentor.name not in ASKS_NOBODY and config.mentor.chat.provider == "local"


def unread(config: Config) -> dict[str, str]:
    """Return the settings that were given and that nothing reads, by dotted key, each with the reason.

    Example:
        >>> list(unread(Config.model_validate({"problem": "function", "data": {"shots": 4}}, context=STORED)))
        ['data.shots']
    """
    return {
        **_of_other_problems(config),
        **_of_other_methods(config),
        **_of_other_sources(config),
        **_of_other_stages(config),
        **_of_other_plans_and_rules(config),
        **_of_other_mentors(config.mentor),
    }


def _of_other_problems(config: Config) -> dict[str, str]:
    own = SECTIONS_READ[config.problem]
    instead = f"problem is '{config.problem}', which reads {' and '.join(f'[{name}]' for name in own)}"
    found = {
        f"{name}.{key}": f"{instead}: drop it{_twin(config, own, key)}" for name in unread_sections(config) for key in _given(config, name)
    }
    if "model" not in own and _asks_in_this_process(config):
        further = set(_given(config, "model")) - {*OF_LOCAL_MODELS}
        found |= {f"model.{key}": f"{instead}, and of [model] only the mentor's own model: drop it" for key in sorted(further)}
    return found


def _of_other_methods(config: Config) -> dict[str, str]:
    if config.problem == "function":
        return {}
    section, ignored = (
        ("model", _ignored_in_model(config.model)) if config.problem == "language" else ("vision", _ignored_in_vision(config))
    )
    return {f"{section}.{key}": ignored[key] for key in _changed(getattr(config, section)) if key in ignored}


def _of_other_sources(config: Config) -> dict[str, str]:
    data = config.data.options
    fields = type(data).model_fields
    given = [key for key in sorted(data.model_fields_set) if getattr(data, key) != fields[key].get_default(call_default_factory=True)]
    reasons = {} if config.problem == "function" else data.unread()
    return {f"data.{key}": reasons[key] for key in given if key in reasons}


def _ignored_in_model(model: ModelConfig) -> dict[str, str]:
    """Return what is not read of the model's section, whatever was given."""
    ignored: dict[str, str] = {}
    if model.method != "prefix_tuning":
        ignored["projection"] = f"only prefix_tuning reads it and model.method is '{model.method}': drop it"
    if model.method != "p_tuning":
        ignored["encoder"] = f"only p_tuning reads it and model.method is '{model.method}': drop it"
    if model.method in ("prompt_tuning", "pez"):
        ignored["hidden"] = f"{model.method} has no network: drop it"
    elif model.method == "prefix_tuning" and not model.projection:
        ignored["hidden"] = "prefix_tuning has a network only where you set model.projection = true: do so, or drop it"
    if model.initial != "text":
        ignored["initial_text"] = f"model.initial is '{model.initial}': set it to 'text', or drop model.initial_text"
    if not model.chat:
        ignored["chat_turn"] = "model.chat is false: set it to true, or drop it"
    if model.memory_mib is not None:
        ignored["part_tokens"] = "model.memory_mib sets it by measuring the model: drop one of the two"
    return ignored


def _ignored_in_vision(config: Config) -> dict[str, str]:
    """Return what is not read of the vision section, whatever was given."""
    vision = config.vision
    told = f"vision.method is '{vision.method}'"
    ignored = {
        key: f"{told}, and {', '.join(methods)} read it: drop it" for key, methods in VISION_READ.items() if vision.method not in methods
    }
    if vision.initial != "text":
        ignored["initial_text"] = f"vision.initial is '{vision.initial}': set it to 'text', or drop vision.initial_text"
    if vision.method in PROBES:
        ignored |= dict.fromkeys((*PROMPTS_READ, "initial_text"), f"{told}, which trains no prompt: drop it")
    return ignored


def _of_other_stages(config: Config) -> dict[str, str]:
    stage = config.stage
    own = {*GENERATIONS_READ} if stage.kind == "cma_es" else {*StageConfig.model_fields} - {*GENERATIONS_ALONE_READ}
    ignored = dict.fromkeys({*StageConfig.model_fields} - own, f"stage.kind is '{stage.kind}': drop it")
    if not stage.warmup_steps:
        ignored.setdefault("warmup_lr", "there are no stage.warmup_steps: set them, or drop it")
    if stage.average_mean is None:
        ignored.setdefault("average_std", "there is no stage.average_mean: set it, or drop it")
    if stage.schedule == "constant":
        ignored.setdefault("schedule_every", "stage.schedule is 'constant': set another, or drop it")
    found = {f"stage.{key}": ignored[key] for key in _changed(stage) if key in ignored}
    if config.problem == "vision" and config.vision.method == "zero_shot" and stage.lr_grid:
        found["stage.lr_grid"] = "vision.method is 'zero_shot', which trains nothing: drop it"
    return found


def _of_other_plans_and_rules(config: Config) -> dict[str, str]:
    plan, accept = config.plan, config.accept
    others = {key for keys in PLANS_READ.values() for key in keys} - {*PLANS_READ[plan.kind]}
    found = {f"plan.{key}": f"plan.kind is '{plan.kind}': drop it" for key in _changed(plan) if key in others}
    if not plan.patience and "min_delta" in _changed(plan):
        found["plan.min_delta"] = "there is no plan.patience: set it, or drop it"
    own = {"rule", *RULES_READ.get(accept.rule, ("options",)), *(RULES_READ[accept.inner] if accept.rule == "interpolate" else ())}
    return found | {f"accept.{key}": f"accept.rule is '{accept.rule}': drop it" for key in _changed(accept) if key not in own}


def _of_other_mentors(mentor: MentorConfig) -> dict[str, str]:
    if mentor.name not in (*ASKS_NOBODY, *_ASKS_IN_WORDS, *_ASKS_ONE):
        return {}
    found = {
        f"mentor.{key}": f"mentor.name is '{mentor.name}', and {', '.join(MENTORS_READ[key]) or 'only plugins'} read it: drop it"
        for key in _changed(mentor)
        if key in MENTORS_READ and not {mentor.name, mentor.beside} & {*MENTORS_READ[key]}
    }
    if mentor.structured and (mentor.style == "completion" or mentor.chat.provider in ("local", "person")):
        found["mentor.structured"] = (
            "it asks a server for JSON by a schema, which takes mentor.chat.provider = 'openai' (any server of that kind) and "
            "mentor.style = 'chat': choose these, or drop it"
        )
    if mentor.beside is None and "beside_share" in _changed(mentor):
        found["mentor.beside_share"] = "there is no mentor.beside: drop it"
    provider = "person" if mentor.name == "person" else mentor.chat.provider
    if mentor.name in _ASKS_IN_WORDS:
        style = "chat" if provider == "person" else mentor.style
        other = "max_samples" if style == "chat" else "retries"
        found |= {f"mentor.{key}": f"mentor.style is '{style}': drop it" for key in _changed(mentor) if key == other}
    if mentor.name in ASKS_NOBODY:
        own, told = (), f"the mentor '{mentor.name}' asks no chat model: drop it"
    else:
        further = {*ChatConfig.model_fields} - {"replies"}
        own, told = ("provider", *PROVIDERS_READ.get(provider, further)), f"mentor.chat.provider is '{provider}': drop it"
    return found | {f"mentor.chat.{key}": told for key in _changed(mentor.chat) if key not in own}


def _section(config: Config, name: str) -> BaseModel:
    """Return the settings of a section, those that are chosen too."""
    held: Chosen | BaseModel = getattr(config, name)
    return held.options if isinstance(held, Chosen) else held


def _given(config: Config, section: str) -> list[str]:
    return sorted(_section(config, section).model_fields_set) if section in config.model_fields_set else []


def _changed(section: Section) -> list[str]:
    """Return the settings that were given another value than their default."""
    return [key for key in sorted(section.model_fields_set) if getattr(section, key) != _default(type(section), key)]


@cache
def _default(kind: type[Section], key: str) -> Any:
    return kind.model_fields[key].get_default(call_default_factory=True)


def _twin(config: Config, sections: Sequence[str], key: str) -> str:
    """Say where a setting of that name is read instead, if it is."""
    twins = [f"{name}.{key}" for name in sections if key in type(_section(config, name)).model_fields]
    return f", or set {' or '.join(twins)}" if twins else ""


PATHS = (
    ("data", "source"),
    ("data", "train"),
    ("data", "select"),
    ("data", "test"),
    ("model", "name"),
    ("model", "adapter"),
    ("vision", "name"),
    ("data", "root"),
    ("mentor", "wording"),
    ("mentor", "corpus"),
)


def read_config(path: str | Path, assignments: tuple[str, ...] = ()) -> Config:
    """Read a TOML file, with ``key=value`` assignments laid over it. "demo" names the config that maao carries.

    What the file sets and an assignment leaves unread (a mentor's style, with ``mentor.name=none``) is dropped: `read_with_notes` says so.
    """
    return read_with_notes(path, assignments)[0]


def read_with_notes(path: str | Path, assignments: tuple[str, ...] = ()) -> tuple[Config, tuple[str, ...]]:
    """Do as `read_config`, and return besides what there is to tell of the settings that the assignments left unread."""
    file = Path(path)
    if str(path) == "demo":
        text, folder, where = (files("maao") / "demo.toml").read_text(encoding="utf-8"), Path.cwd(), "the demo's config"
    else:
        text, folder, where = _read_text(file), file.parent, str(path)
    values = parse_toml(text, where)
    unread_anyway = _unread_in(values)  # an assignment is no reason to take what the file should not hold
    keys = [assign(values, assignment) for assignment in assignments]
    expand_paths(values, folder)
    dropped = without_unread(values, [*keys, *unread_anyway]) if keys else {}
    notes = (f"with these --set, {where} sets what nothing reads, which is left out: {', '.join(dropped)}",) if dropped else ()
    return make_config(values, where), notes


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Return what a TOML text holds. Raises `ConfigError` for any text that cannot be read."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where} is not valid TOML: {error}.") from error
    except ValueError as error:  # Python reads no whole number of more than 4,300 digits
        raise ConfigError(f"{where} holds a number that is too long to be read: no setting takes one of thousands of digits.") from error
    except RecursionError as error:
        raise ConfigError(f"{where} is nested too deeply to be read: lists within lists, hundreds of them.") from error


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        near = get_close_matches(file.name, [p.name for p in file.parent.glob("*.toml")], n=1) if file.parent.is_dir() else []
        hint = f" Did you mean {file.parent / near[0]}?" if near else " `maao demo --print-config` prints one to start from."
        raise ConfigError(f"There is no config file {file}.{hint}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}, {not_utf8(error)}") from error
    except OSError as error:
        raise ConfigError(f"Cannot read {file}: {error.strerror}.") from error


def assign(values: dict[str, Any], assignment: str) -> str:
    """Lay ``a.b=value`` over nested values; the value is read as TOML, or taken as text where it is none. Return the key.

    Example:
        >>> values = {}
        >>> assign(values, "stage.lr=0.03")
        'stage.lr'
        >>> values
        {'stage': {'lr': 0.03}}
    """
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"Cannot read --set {assignment!r}: write key=value, for example stage.lr=0.03.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # no TOML, or a number of thousands of digits: the setting's own check tells
        value = text
    set_value(values, key.strip(), value)
    return key.strip()


def set_value(values: dict[str, Any], key: str, value: Any) -> None:
    """Lay a value over nested values, by its dotted key.

    Example:
        >>> values = {"stage": {"lr": 0.01}}
        >>> set_value(values, "stage.lr", 0.03)
        >>> values
        {'stage': {'lr': 0.03}}
    """
    node = values
    *parents, last = key.split(".")
    for part in parents:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise ConfigError(f"Cannot set '{key}': '{part}' is a value, not a section.")
    node[last] = value


def make_config(values: dict[str, Any], where: str = "the settings") -> Config:
    """Return a checked config. Raises `ConfigError` with the key, the value, and the way out."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {explain(error)}") from None


def stored_config(values: dict[str, Any], file: Path) -> Config:
    """Return the config that a run stored in `file`. Raises `StoreError` where it is not what a run stores."""
    with reading(file):
        try:
            return Config.model_validate(values, context=STORED)
        except ValidationError as error:
            raise ValueError(explain(error).rstrip(".")) from error


def without_unread(values: dict[str, Any], keep: Collection[str]) -> dict[str, str]:
    """Drop from nested values the settings that nothing reads, but for those that `keep` names by dotted key: they are to be refused.

    Return what was dropped, each with the reason.
    """
    dropped = {key: reason for key, reason in _unread_in(values).items() if not any(belong_together(key, kept) for kept in keep)}
    for key in dropped:
        _drop(values, key)
    return dropped


def _unread_in(values: dict[str, Any]) -> dict[str, str]:
    """Return the settings that nothing reads, each with the reason; those too that are seen only once others are dropped."""
    left, found = deepcopy(values), dict[str, str]()
    while True:
        try:
            return found | unread(Config.model_validate(left, context=STORED))
        except ValidationError as error:
            here = {
                ".".join(map(str, item["loc"])): item["msg"].removeprefix("would be ignored, since ")
                for item in error.errors()
                if item["type"] == UNREAD
            }
            if not here:
                return found  # `make_config` tells
            for key in here:
                _drop(left, key)
            found |= here


def _drop(values: dict[str, Any], key: str) -> None:
    node = values
    *parents, last = key.split(".")
    for part in parents:
        node = node[part]
    del node[last]


def belong_together(key: str, other: str) -> bool:
    """Say whether two dotted keys name the same setting, or one of them a part of the other.

    Example:
        >>> belong_together("stage.options", "stage.options.eps"), belong_together("stage.lr", "stage.lr_grid")
        (True, False)
    """
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def explain(error: ValidationError, root: type[BaseModel] | None = None) -> str:
    """Return what is wrong with values in words: every fault with its key, the value, and the nearest known key."""
    told = []
    for item in error.errors():
        key = ".".join(map(str, item["loc"]))
        if item["type"] == "extra_forbidden":
            known = _known_keys(root or Config, item["loc"][:-1])
            near = get_close_matches(str(item["loc"][-1]), known, n=1)
            prefix = ".".join(map(str, item["loc"][:-1]))
            hint = f" Did you mean '{prefix + '.' if prefix else ''}{near[0]}'?" if near else ""
            told.append(f"unknown key '{key}'.{hint} Known keys: {', '.join(known)}.")
        elif item["type"] == UNREAD:
            told.append(f"'{key}' {item['msg']}.")
        elif item["type"] == UNKNOWN and item["msg"].startswith("unknown key"):
            prefix = key.removesuffix(str(item["loc"][-1]))
            told.append(f"unknown key '{key}'" + item["msg"].removeprefix("unknown key").replace("mean '", f"mean '{prefix}", 1))
        else:
            reason = item["msg"].removeprefix("Value error, ")
            got = f"; got {_short(item['input'])}." if key else ""
            told.append(f"'{key}': {reason[0].lower()}{reason[1:]}{got}" if key else reason)
    return " ".join(told)


def _short(value: Any) -> str:
    """Return a value as a message shows it: a number may have thousands of digits."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= 200 else f"{text[:200]}..."


def _known_keys(root: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the section at a path. What is an item of a list is found in the list's declared type."""
    section: Any = root
    for part in path:
        section = get_args(section)[0] if isinstance(part, int) else section.model_fields[part].annotation
    return list(section.model_fields) if isinstance(section, type) and issubclass(section, BaseModel) else []


def expand_paths(values: dict[str, Any], folder: Path) -> None:
    """Replace paths by absolute ones, so that a run can be resumed from anywhere. `model.name` and `mentor.wording` may be mere names."""
    for section, key in PATHS:
        held = values.get(section)
        if not isinstance(held, dict) or not isinstance(held.get(key), str):
            continue
        text = os.path.expandvars(os.path.expanduser(held[key]))
        if "$" in text and text.startswith("$"):
            raise ConfigError(f"'{section}.{key}' = '{held[key]}' names an environment variable that is not set: {text.split('/')[0]}.")
        path = folder / text
        a_name = text in (PARTS, EMOJI, *CATALOG) or text.startswith((HUB, PACKAGED))
        held[key] = str(path.resolve()) if _exists(path, f"{section}.{key}", text) or (section == "data" and not a_name) else text


def _exists(path: Path, key: str, text: str) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:  # too long, or a null character in it
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"'{key}' can name no file and no model ({reason}); got {_short(text)}.") from error
    return True

"""Build the problem of classes of texts from the settings of a model: how classes are read, what is trained, and its words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from maao.core.seeds import seed_for
from maao.errors import CodecError, ConfigError
from maao.problems.kinds import (
    DEFAULT_TEMPLATE,
    HeadOptions,
    LabelWordsOptions,
    TextOptions,
    architecture,
    label_words,
    settled,
    text_options,
)
from maao.problems.settings import ModelConfig, TextParts, text_method

if TYPE_CHECKING:
    from torch import Tensor

    from maao.codecs.method import MethodCodec, Start
    from maao.evaluation.metrics import Measure
    from maao.problems.framed import FramedProblem, PatternVerbalizer
    from maao.problems.methods import PromptMethod
    from maao.problems.scorers.tokens import TokenOptions, TokenScorer
    from maao.problems.towers.dual import DualEncoder
    from maao.problems.towers.text.loading import FrozenModel, Kind
    from maao.problems.towers.text.template import Template, TemplateTokenizer, Tokenized
    from maao.protocols import Params, TokenCodec
    from maao.types import Splits

KV_CACHE_BYTES = 3 * 2**30


class LoadedModels:
    """Frozen models, each loaded once however many use it. With `keep_caches`, what they made of texts is kept with them."""

    def __init__(self, *, keep_caches: bool = False) -> None:
        self._keep_caches = keep_caches
        self._held: dict[tuple[str, ...], FrozenModel] = {}
        self._encoders: dict[tuple[object, ...], DualEncoder] = {}

    def __len__(self) -> int:
        return len({id(frozen) for frozen in (*self._held.values(), *self._encoders.values())})

    def encoder(self, key: tuple[object, ...], load: Callable[[], DualEncoder]) -> DualEncoder:
        """Return the dual encoder of a name and settings, loaded where that was not done before."""
        if key not in self._encoders:
            self._encoders[key] = load()
        return self._encoders[key]

    def load(self, name: str, model: ModelConfig) -> FrozenModel:
        """Return the model of that name as the settings say; what they say of the tuned model alone holds for no other."""
        from maao.problems.towers.text.kv_cache import KVCache
        from maao.problems.towers.text.loading import load_frozen, locate

        options = model.kind.options if name == model.name else None
        kind: Kind | Literal["auto", "head"] = "auto"
        revision, quantization, device_map, trusted = None, None, None, False
        if isinstance(options, TextOptions):
            kind, revision, quantization = architecture(model), model.revision, options.quantization
            device_map, trusted = options.device_map, model.trust_remote_code
        given = json.dumps([quantization, device_map, trusted], sort_keys=True)

        def key(kind: str) -> tuple[str, ...]:
            return locate(name), kind, model.dtype, model.device, str(revision), given

        own = key(kind)
        if own not in self._held:
            frozen = load_frozen(
                name,
                kind=kind,
                dtype=model.dtype,
                device=model.device,
                revision=revision,
                quantization=quantization,
                device_map=device_map,
                trust_remote_code=trusted,
            )
            self._held[own] = replace(frozen, texts=KVCache(KV_CACHE_BYTES)) if self._keep_caches else frozen
            self._held[key(frozen.kind)] = self._held[own]  # which it is asked for once that is known
        return self._held[own]


@dataclass(frozen=True)
class Wording:
    """What a task fills into settings that leave it out: its template for label words, that for a head, and its label words."""

    cloze: str = DEFAULT_TEMPLATE
    pair: str = DEFAULT_TEMPLATE
    label_words: Mapping[str, str] | None = None


def completed(model: ModelConfig, frozen: FrozenModel, wording: Wording | None = None) -> ModelConfig:
    """Return settings with all that is known once the model is loaded: its kind, its template and label words, the turn of a chat.

    What the chat template renders to now is kept: on another day it may be another text.

    Raises:
        ConfigError: a setting was given that this kind does not read.
    """
    from maao.problems.towers.text.chat_turn import render_turn

    model, wording = settled(model, frozen.kind), wording or Wording()
    if isinstance(model.kind.options, LabelWordsOptions):
        words = label_words(model)
        model = model.with_kind(template=model.template or wording.cloze, label_words=wording.label_words if words is None else words)
    else:
        model = model.with_kind(template=model.template or wording.pair)
    options = text_options(model)
    if options.chat and options.chat_turn is None:
        return model.with_kind(chat_turn=render_turn(frozen.tokenizer, options.template or DEFAULT_TEMPLATE))
    return model


def build_texts(
    model: ModelConfig,
    frozen: FrozenModel,
    splits: Splits,
    *,
    seed: int = 0,
    batch_size: int = 32,
    with_clues: bool = True,
    continuation_tokens: int = 0,
    measure: Measure | None = None,
    initial_params: Params | None = None,
) -> FramedProblem:
    """Build the problem of a frozen language model.

    Args:
        seed: the run's.
        continuation_tokens: length of the model's own continuation of its prompt in clues; 0 for none.
        measure: a task's own metrics; None where accuracy is all.
        initial_params: tuned elsewhere, to begin with.
    """
    from maao.problems.framed import FramedProblem
    from maao.problems.text_problem import text_problem
    from maao.problems.towers.text.forward import activation_bytes
    from maao.problems.towers.text.probes import require

    model = completed(model, frozen)
    options = text_options(model)
    frozen = options.codec.options.read_by(frozen)
    require(frozen, 1)
    scorer, tokenize = reading_of(model, frozen, splits)
    template, length = tokenize.template, length_of(model, frozen)
    method, codec = build_method(model, frozen, seed, splits.labels)
    part_tokens = options.part_tokens
    if options.memory_mib is not None:
        part_tokens = max(1, int(options.memory_mib * 2**20 / activation_bytes(frozen)))
    cache = options.cache_mib * 2**20
    plain = text_problem(
        splits,
        tokenize,
        scorer,
        codec,
        method,
        num_virtual_tokens=options.num_virtual_tokens,
        continuation_tokens=continuation_tokens,
        max_cache_bytes=cache,
        measure=measure,
        initial_params=initial_params,
        batch_size=batch_size,
        score_batch=model.score_batch,
        part_tokens=part_tokens,
        with_clues=with_clues,
    )

    note = plain.start_note(seed_for(seed, "initial")) if splits.train else ""
    plain.notes = (*plain.notes, *([note] if note else []))

    def reframe(pair: PatternVerbalizer) -> tuple[TokenScorer, TemplateTokenizer]:
        return build_framed_scorer(model, frozen, splits, template, length, pair)

    return FramedProblem(plain, reframe, num_virtual_tokens=options.num_virtual_tokens, max_cache_bytes=cache)


def token_notes(model: ModelConfig, frozen: FrozenModel, splits: Splits) -> Iterator[str]:
    """Say what of a tokenizer is not used as it could be: tokens without an embedding, names of special tokens in texts, a date."""
    from maao.problems.towers.text.tokenizing import Specials, outside

    unread = outside(frozen)
    if unread:
        shown = ", ".join(map(repr, list(unread)[:3])) + (", ..." if len(unread) > 3 else "")
        yield f"the model has no embedding for {len(unread)} of its tokenizer's tokens ({shown}): a text that holds one is refused"
    specials = Specials(frozen.tokenizer)
    for name, examples in (*splits.parts.items(), ("data.lines", [*map(splits.as_example, splits.lines)])):
        found = [special for example in examples if (special := specials.named_in([*example.fields.values(), *example.choices]))]
        if found:
            yield (
                f"{len(found)} of {len(examples)} texts of {name} hold the name of a special token, such as {found[0]!r}: it is read as "
                "ordinary text there"
            )
    options = text_options(model)
    if options.chat and "strftime_now" in str(frozen.tokenizer.chat_template):
        yield f"the chat template prints a date: this run keeps the turn as it was rendered when it began, {options.chat_turn!r}"


# -- how classes are read


def reading_of(model: ModelConfig, frozen: FrozenModel, splits: Splits) -> tuple[TokenScorer, TemplateTokenizer]:
    """Return how classes are read by the settings' own template, and the template bound to the tokenizer."""
    from maao.problems.towers.text.template import Template

    options = text_options(model)
    template = Template.parse(options.template or DEFAULT_TEMPLATE, chat=options.chat, turn=options.chat_turn)
    return build_scorer(model, frozen, splits, template, length_of(model, frozen))


def length_of(model: ModelConfig, frozen: FrozenModel) -> int:
    """Return the most tokens of an input. Raises `ConfigError` where the settings ask for more than the model reads."""
    from maao.problems.towers.text.forward import context_length

    asked, context = text_options(model).max_length, context_length(frozen)
    if asked is not None and asked > context:
        raise ConfigError(f"model.max_length = {asked} is more than {frozen.name} can read: {context} tokens.")
    return asked or context


def build_scorer(
    model: ModelConfig, frozen: FrozenModel, splits: Splits, template: Template, length: int
) -> tuple[TokenScorer, TemplateTokenizer]:
    """Return how classes are read, and the template bound to the tokenizer with room for the longest answer."""
    from maao.problems.scorers.calibration import CONTENT_FREE
    from maao.problems.scorers.label_words import LabelWords, WordSettings, label_word_ids
    from maao.problems.scorers.other_words import DecodedWords, MaskedWords
    from maao.problems.scorers.tokens import Rows
    from maao.problems.towers.text.template import TemplateTokenizer
    from maao.problems.towers.text.tokenizing import num_rows

    options = text_options(settled(model, frozen.kind))

    def tokenizer(answer: int) -> TemplateTokenizer:
        return TemplateTokenizer(
            frozen.tokenizer,
            template,
            kind=frozen.kind,
            max_length=length,
            reserved=options.num_virtual_tokens + answer,
            rows=num_rows(frozen.model),
            label_space=options.label_space if isinstance(options, LabelWordsOptions) else "auto",
        )

    chosen = [e for part in (splits.train, splits.select, splits.test) for e in part if e.choices]
    common: TokenOptions = {
        "side": options.padding_side,
        "class_weights": _class_weights(options, splits),
        "balanced": options.class_weights == "balanced",
        "dropout": options.frozen_dropout,
    }
    if isinstance(options, HeadOptions):
        if chosen and "choice" not in template.fields:
            raise ConfigError(f"The examples have choices: show a head each of them, with {{choice}} in the template {str(template)!r}.")
        return _head(model, options, frozen, splits, tokenizer(0), common, chosen=bool(chosen)), tokenizer(0)
    assert isinstance(options, LabelWordsOptions)
    if frozen.kind == "masked" and not template.has_mask:
        raise ConfigError(f"The template {str(template)!r} has no place for the label word of a masked model: write {{mask}} there.")
    tokenize = tokenizer(0)
    if "choice" in template.fields:
        raise ConfigError(f"Label words answer with the choice itself: leave {{choice}} out of the template {str(template)!r}.")
    if chosen:
        words = [tokenize.word(choice, whole=False) for example in chosen for choice in example.choices]
    else:
        named = options.label_words if options.label_words is not None else {label: label for label in splits.labels}
        words = label_word_ids(tokenize, splits.labels, named, frozen.name)
    answer = 0 if chosen else max(map(len, words)) - 1  # an example's own choices take their own room
    settings: WordSettings = {"objective": options.objective, "calibration": options.calibration}
    if options.calibration != "none" and chosen:
        raise ConfigError(
            "model.calibration needs classes that are the same for all examples, and these have choices of their own: drop it."
        )
    if options.calibration == "contextual":
        settings["content_free"] = Rows(tokenize(dict.fromkeys(template.fields, text)) for text in CONTENT_FREE)
    if frozen.kind == "masked":
        return MaskedWords(frozen, words, settings, **common), tokenizer(answer)
    if frozen.kind == "encoder_decoder":
        lead = tuple(frozen.tokenizer.convert_tokens_to_ids([tokenize.mask])) if tokenize.mask else ()
        return DecodedWords(frozen, words, settings, lead=lead, **common), tokenizer(0)
    return LabelWords(frozen, words, settings, **common), tokenizer(answer)


def _head(
    model: ModelConfig,
    options: HeadOptions,
    frozen: FrozenModel,
    splits: Splits,
    tokenize: TemplateTokenizer,
    common: TokenOptions,
    *,
    chosen: bool,
) -> TokenScorer:
    """Return a head; with `chosen`, examples have choices of their own."""
    from maao.problems.scorers.head import READS_TEXTS, AnswerHead, HeadSettings, PooledHead

    decodes = frozen.kind == "decoder"
    pooling = ("last" if decodes else "mean") if options.pooling == "auto" else options.pooling
    start = ("zeros" if decodes else "random") if options.head_start == "auto" else options.head_start
    if pooling == "virtual" and not text_method(model).in_slots:
        raise ConfigError(
            f"model.pooling = 'virtual' reads the first row in the slots, and {model.method.name} has none: use 'first' or 'mean'."
        )
    if decodes and pooling in ("first", "virtual"):
        raise ConfigError(
            f"model.pooling = '{pooling}' reads a token that has seen nothing of the text behind it, since {frozen.name} is a decoder: use "
            "'last' or 'mean'."
        )
    if not decodes and pooling == "last":
        raise ConfigError(f"model.pooling = 'last' is for decoders, and {frozen.name} is an encoder: use 'mean' or 'first'.")
    if chosen and start not in ("zeros", "random"):
        raise ConfigError(
            f"model.head_start = '{start}' needs classes that are the same for all examples, and these have choices of their own: use "
            "'zeros' or 'random'."
        )
    head: HeadSettings = {
        "start": start,
        "class_rows": _class_rows(start, splits, tokenize) if start in READS_TEXTS else (),
        "text_weight": options.head_text_weight,
        "anchor": options.head_anchor,
        "num_examples": float(len(splits.train) or 1),
        "bias": options.head_bias,
    }
    count = 1 if chosen else len(splits.labels)
    if pooling == "last":
        return AnswerHead(frozen, count, head, **common)
    return PooledHead(frozen, count, head, pooling=pooling, **common)


def _class_rows(start: str, splits: Splits, tokenize: TemplateTokenizer) -> tuple[Tokenized, ...]:
    """Return the inputs whose text is that of a class."""
    fields = tokenize.template.fields
    if len(fields) != 1:
        raise ConfigError(
            f"model.head_start = '{start}' puts the label in the place of the text, and the template {str(tokenize.template)!r} has "
            f"{len(fields)} fields: use another start."
        )
    return tuple(tokenize({fields[0]: label.replace("_", " ")}) for label in splits.labels)


def build_framed_scorer(
    model: ModelConfig, frozen: FrozenModel, splits: Splits, template: Template, length: int, pair: PatternVerbalizer
) -> tuple[TokenScorer, TemplateTokenizer]:
    """Return the same with a proposal's pair: with its template or its label words in place of the config's."""
    from maao.problems.towers.text.template import Template

    model = settled(model, frozen.kind)
    options, own = text_options(model), template
    if pair.label_words:
        model = model.with_kind(label_words=dict(zip(splits.labels, pair.label_words, strict=True)))
    if pair.template is not None:
        own = Template.parse(pair.template, chat=options.chat, turn=options.chat_turn)
    return build_scorer(model, frozen, splits, own, length)


def _class_weights(options: TextOptions, splits: Splits) -> list[float] | None:
    """Return what each class weighs in the training loss, in the order of the labels; None: all alike."""
    from maao.problems.scorers.tokens import balanced_weights

    given = options.class_weights
    if given == "none" or not splits.train:
        return None
    if given == "balanced":
        counts = Counter(example.label for example in splits.train)
        return balanced_weights([counts[label] for label in splits.labels])
    assert isinstance(given, dict)
    wrong = sorted(set(given) ^ set(splits.labels))
    if wrong or any(weight <= 0 for weight in given.values()):
        raise ConfigError(f"model.class_weights needs a weight above zero for each of the labels {', '.join(splits.labels)}; got {given}.")
    return [given[label] for label in splits.labels]


# -- what is trained, and its words


def build_method(model: ModelConfig, frozen: FrozenModel, seed: int = 0, labels: Sequence[str] = ()) -> tuple[PromptMethod, MethodCodec]:
    """Return the prompt method and the codec of its params; `seed` is the run's."""
    from maao.codecs.method import MethodCodec
    from maao.problems.towers.text.forward import embedding_table

    chosen = text_method(model)
    own = embedding_table(frozen)
    start, table = _start(model, labels, own), own.cpu()
    codec_of = _codec_of(model, frozen)
    parts = TextParts(frozen, table, codec_of(table), codec_of, model.num_virtual_tokens, seed_for(seed, "method"))
    method = chosen.build(parts)
    return method, MethodCodec(method, parts.rows, start, chosen.words(parts))


def _start(model: ModelConfig, labels: Sequence[str], table: Tensor) -> Start:
    """Return how runs begin; the labels' words are those that answer where there are such."""
    from maao.codecs.method import Start

    options, width = text_options(model), table.shape[1]
    if options.initial == "text" and not options.initial_text:
        raise ConfigError('`model.initial = "text"` needs the text: set `model.initial_text`.')
    if options.initial == "vocabulary" or options.initial == "normal":
        std = float(table.float().std()) if options.initial == "normal" else 0.0
        return Start(options.initial, options.num_virtual_tokens, width, std)
    words = list(dict.fromkeys((label_words(model) or {}).values())) or labels
    text = options.initial_text if options.initial == "text" else " ".join(words)
    return Start("text", options.num_virtual_tokens, width, text=text or "")


def _codec_of(model: ModelConfig, frozen: FrozenModel) -> Callable[[Tensor], TokenCodec[Params]]:
    """Return what makes the codec of rows as wide as a table of the vocabulary."""
    from maao.codecs.nearest_token import NearestTokenCodec

    options = text_options(model)
    codec = options.codec.options
    if codec.for_rows_alone and not text_method(model).any_codec:
        raise ConfigError(
            f"model.codec = '{options.codec.name}' is for methods that train rows of embeddings, and model.method is "
            f"'{model.method.name}': choose 'nearest_token'."
        )

    def make(table: Tensor) -> TokenCodec[Params]:
        nearest = NearestTokenCodec(
            frozen.tokenizer, table, num_virtual_tokens=options.num_virtual_tokens, length=options.length, distance=model.distance
        )
        try:
            return codec.build(nearest, frozen)
        except CodecError as error:
            raise ConfigError(str(error)) from error

    return make

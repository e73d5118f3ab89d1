"""Build the problem of a matcher, on pictures or on texts, from a config."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maao.builder import NOTHING_TO_FILL, Built, ClassesBuilder, read_by_name
from maao.data.dataset import Dataset
from maao.errors import ConfigError
from maao.matched_inputs import INPUTS, MatchedInputs, hidden_layers
from maao.mentors.context import Input, MentorContext, ReadByName
from maao.mentors.fields import NAMES
from maao.problems.kinds import matcher_options
from maao.problems.settings import MatcherMethodOptions, ModelConfig, ProbeOptions
from maao.problems.towers.text.loading import code_notes
from maao.sharing import shared_models
from maao.types import JSON, Splits

if TYPE_CHECKING:
    from maao.build import RunComponents
    from maao.codecs.method import MethodCodec
    from maao.codecs.token_words import TokenWords
    from maao.config import Config
    from maao.problems.classification import ClassificationProblem
    from maao.problems.frozen import MatcherFrozen
    from maao.problems.methods import Bound, MatcherMethod
    from maao.problems.scorers.matcher import Known
    from maao.problems.texts import LoadedModels
    from maao.problems.towers.dual import DualEncoder
    from maao.problems.towers.features import FeatureStore

TEXTS_AT_A_TIME = 256  # that the text tower of pictures reads together


class MatcherBuilder(ClassesBuilder):
    """Builds what compares features of inputs with features of classes."""

    @property
    def inputs_matched(self) -> MatchedInputs:
        """What is matched with the classes: texts or pictures."""
        return INPUTS[self.config.data.options.input]

    @property
    def input(self) -> Input:
        return self.inputs_matched.told

    def unread(self) -> dict[str, str]:
        told = f"the inputs are {self.inputs_matched.plural}: drop it"
        own = matcher_options(self.config.model).changed()
        return {**super().unread(), **{f"model.{key}": told for key in own if key in self.inputs_matched.unread}}

    def check(self) -> None:
        self.inputs_matched.check(self.config)
        check_matcher(self.config, self.inputs_matched)

    def build(self, splits: Splits | None, loaded: LoadedModels | None) -> Built:
        dataset = self.load_data() if splits is None else self.inputs_matched.at_hand(self.config.data.options.with_lines(splits))
        loaded = shared_models() if loaded is None else loaded
        return replace(build_matcher(self.config, self.inputs_matched, dataset, encoder=self._encoder(loaded)), loaded=loaded)

    def _encoder(self, loaded: LoadedModels) -> DualEncoder:
        """Return the towers, loaded now or by another run that shares them."""
        model = self.config.model
        key = (
            self.inputs_matched.plural,
            model.name,
            model.dtype,
            model.device,
            model.revision,
            *matcher_options(model).towers,
            hidden_layers(model),
        )
        return loaded.encoder(key, lambda: self.inputs_matched.encoder(model))

    def reread(self, parts: RunComponents) -> Dataset:
        return self.inputs_matched.reread(self.config, parts.examples, parts.class_names)

    def given(self, splits: Splits, class_names: tuple[str, ...]) -> Dataset:
        return self.inputs_matched.in_use(self.config, splits, class_names)

    def frozen(self, dataset: Dataset, like: RunComponents | None = None) -> MatcherFrozen:
        from maao.problems.frozen import MatcherFrozen
        from maao.problems.scorers.matcher import class_anchors

        inputs, model = self.inputs_matched, self.config.model
        encoder = self._encoder(shared_models() if like is None else like.loaded)
        reader = inputs.reader(model, encoder, dataset, feature_store(model, encoder))
        names = inputs.class_names(model, dataset, ())
        return MatcherFrozen(encoder, reader, class_anchors(encoder, names, _wordings(model, dataset, (inputs.wording,))))

    def build_for_use(self, splits: Splits, class_names: tuple[str, ...], like: RunComponents | None) -> Built:
        from maao.problems.towers.dual import DualEncoder

        encoder = like.frozen if like is not None and isinstance(like.frozen, DualEncoder) else None
        return build_matcher(self.config, self.inputs_matched, self.given(splits, class_names), class_names, encoder)

    def for_mentor(self, parts: RunComponents, run: MentorContext) -> MentorContext:
        model = parts.config.model
        return replace(
            run,
            train=parts.examples.train,
            folds=parts.examples.folds,
            labels=parts.class_names,
            classes=parts.examples.labels,
            template=(model.template or "").replace("{class}", "<CLASS>"),
            length=model.num_virtual_tokens,
            max_tokens=model.num_virtual_tokens,
            vocabulary=run.vocabulary or text_words(parts),
            read_by_name=read_by_name(self, parts) if self.input == "matched_text" else text_reader(parts),
            not_filled=dict.fromkeys(NAMES, NOTHING_TO_FILL),
        )

    def described(self, params: Any, problem: Any, parts: RunComponents, labels: tuple[str, ...]) -> JSON:
        text = self.inputs("The run").template
        read = {"input_template": text} if text else {}
        return {"template": parts.config.model.template, **read, "labels": list(labels), "class_names": list(parts.class_names)}


def text_words(parts: RunComponents) -> TokenWords:
    """Return the words of the text tower's vocabulary, for a method that has no prompt to put into words."""
    from maao.codecs.nearest_token import NearestTokenCodec
    from maao.codecs.token_words import TokenWords

    encoder = _towers(parts)
    kept = encoder.kept.get(("words",), TokenWords)
    if kept is None:
        text = encoder.text
        kept = TokenWords(NearestTokenCodec(text.tokenizer, text.table, num_virtual_tokens=1))
        encoder.kept.put(("words",), kept, text.table.numel())
    return kept


def text_reader(parts: RunComponents) -> ReadByName:
    """Return what reads texts by the text tower and the names of the classes alone, where the inputs are pictures."""

    def read(texts: Sequence[str]) -> Iterator[list[float]]:
        from maao.problems.scorers.matcher import class_anchors

        encoder = _towers(parts)
        names = class_anchors(encoder, parts.class_names, ("{class}",))
        for begin in range(0, len(texts), TEXTS_AT_A_TIME):
            own = class_anchors(encoder, texts[begin : begin + TEXTS_AT_A_TIME], ("{class}",))
            yield from (encoder.scale * own @ names.T).softmax(-1).tolist()

    return read


def _towers(parts: RunComponents) -> DualEncoder:
    from maao.problems.towers.dual import DualEncoder

    assert isinstance(parts.frozen, DualEncoder)
    return parts.frozen


def check_matcher(config: Config, inputs: MatchedInputs) -> None:
    """Refuse settings that cannot go together, and mentors that a method cannot follow. Loads nothing."""
    model, method = completed(config, inputs).model, config.model.method
    says_lines = config.mentor.options.proposes_lines
    if says_lines:
        _check_lines(config, inputs)
    if not method.options.has_prompt:
        if config.mentor.name not in ("none", "custom") and not says_lines:
            raise ConfigError(
                f"model.method = '{method.name}' trains no prompt, so a mentor has nothing to propose but class lines: set mentor.name = "
                "\"none\" or a mentor of class lines, such as 'class_lines', or name a method that has a prompt, such as 'coop'."
            )
    elif "{slots}" not in (model.template or ""):
        raise ConfigError(f"model.template = {model.template!r} has no {{slots}}, the place of what is tuned.")
    if not method.options.is_trained and config.stage.options.lr_grid:  # the grid that `find_lr` takes
        raise ConfigError(f"model.method = '{method.name}' trains nothing: there is no learning rate to search for.")


def _check_lines(config: Config, inputs: MatchedInputs) -> None:
    """Refuse a mentor of class lines where nothing reads them."""
    method = config.model.method
    assert isinstance(method.options, MatcherMethodOptions)
    if not method.options.is_trained:
        raise ConfigError(f"model.method = '{method.name}' trains nothing, so class lines change nothing: take 'class_residual'.")
    if not (inputs.lines_are_inputs or method.options.reads_lines_as_texts):
        raise ConfigError(
            f"model.method = '{method.name}' reads class lines among its inputs, and these are {inputs.plural}: take 'class_residual', "
            "which reads lines as texts of the classes, or another mentor."
        )


def completed(config: Config, inputs: MatchedInputs) -> Config:
    """Return a config with the template of classes that it leaves out."""
    return config.model_copy(update={"model": config.model.with_kind(template=config.model.template or inputs.template)})


def build_matcher(
    config: Config, inputs: MatchedInputs, dataset: Dataset, class_names: tuple[str, ...] = (), encoder: DualEncoder | None = None
) -> Built:
    """Build the problem of a matcher.

    Args:
        class_names: the classes in words, of a run that is used.
        encoder: the towers, where they are loaded already.
    """
    config = completed(config, inputs)
    model = config.model
    encoder = encoder or inputs.encoder(model)
    names = inputs.class_names(model, dataset, class_names)
    hand = _wordings(model, dataset, inputs.wordings(model.method.options))
    problem = _problem(config, inputs, encoder, dataset, _bind(model, encoder, names, hand))
    if dataset.transfer_sets:
        problem.transfer_sets = _transfer_sets(config, encoder, problem, dataset, hand)
    if dataset.bits is not None:  # what single pictures are read by when the run is used
        config = config.model_copy(update={"data": config.data.with_options(bits=dataset.bits)})
    steps_per_epoch = max(1, len(dataset.splits.walked) // config.stage.options.batch_size)
    return Built(
        config,
        problem,
        problem.codec,
        dataset.splits,
        encoder,
        class_names=names,
        notes=(
            *dataset.splits.notes,
            *encoder.notes,
            *problem.notes,
            *code_notes(model.name, model.revision, trust_remote_code=model.trust_remote_code),
        ),
        steps_per_epoch=steps_per_epoch,
        average_every=steps_per_epoch,
    )


def _wordings(model: ModelConfig, dataset: Dataset, default: tuple[str, ...]) -> tuple[str, ...]:
    """Return the hand-written wordings: those asked for, or else the data set's own."""
    return tuple(matcher_options(model).wordings or ([dataset.template] if dataset.template else default))


def _codec(model: ModelConfig, inputs: MatchedInputs, encoder: DualEncoder, method: MatcherMethod) -> MethodCodec:
    """Return the codec of a prompt method's params."""
    from maao.codecs.method import MethodCodec, Start
    from maao.codecs.nearest_token import NearestTokenCodec

    options, text = matcher_options(model), encoder.text
    count = options.num_virtual_tokens
    start = Start(options.initial, count, text.width, text=options.initial_text or inputs.initial_text)
    return MethodCodec(method, NearestTokenCodec(text.tokenizer, text.table, num_virtual_tokens=count, distance=model.distance), start)


def _bind(model: ModelConfig, encoder: DualEncoder, names: tuple[str, ...], hand: tuple[str, ...]) -> Bound:
    from maao.problems.scorers.matcher import bind_classes
    from maao.problems.towers.class_prompts import ClassTemplate

    options, has_prompt = matcher_options(model), model.method.options.has_prompt
    template = ClassTemplate.parse((options.template or "") if has_prompt else hand[0])
    return bind_classes(encoder, template, names, options.num_virtual_tokens if has_prompt else 0, hand, options.part_tokens)


def _problem(config: Config, inputs: MatchedInputs, encoder: DualEncoder, dataset: Dataset, bound: Bound) -> ClassificationProblem[Known]:
    import torch

    from maao.codecs.no_words import NoWords
    from maao.problems.known_texts import cut_notes
    from maao.problems.scorers.matcher import Matcher
    from maao.problems.scorers.probes import NoPrompt

    model, own, splits = config.model, config.model.method.options, dataset.splits
    if any(example.choices for example in (*splits.train, *splits.select, *splits.test)):
        raise ConfigError("The examples have choices of their own, and a matcher has the same classes for all: use another model.kind.")
    reader, made = inputs.reader(model, encoder, dataset, feature_store(model, encoder)), inputs.problem()
    common: dict[str, Any] = {
        "batch_size": config.stage.options.batch_size,
        "score_batch": model.score_batch,
        "with_clues": config.plan.options.clues,
        "measure": config.data.options.measure(splits.labels),
    }
    if isinstance(own, ProbeOptions):  # which may begin from the features of `train`
        train = reader.split(splits.train, train=True)
        numbers = {label: i for i, label in enumerate(splits.labels)}
        targets = torch.tensor([numbers[example.label] for example in splits.train], dtype=torch.long)
        probe = own.build_on(bound, train.features_of.features, targets)
        problem = made(NoPrompt(), probe, NoWords(), reader, splits, train=train, **common)
        problem.notes = cut_notes(problem)
        return problem
    assert isinstance(own, MatcherMethodOptions)
    method = own.build(bound)
    problem = made(method, Matcher(method), _codec(model, inputs, encoder, method), reader, splits, **common)
    read = inputs.features_of
    told = f"{method.name} puts what it trains into the {inputs.tower}: every step runs it, and no features of {read} can be kept"
    problem.notes = (*cut_notes(problem), *((told,) if method.tunes_inputs else ()))
    return problem


def _transfer_sets(
    config: Config, encoder: DualEncoder, problem: ClassificationProblem[Known], dataset: Dataset, hand: tuple[str, ...]
) -> dict[str, ClassificationProblem[Known]]:
    """Return the problems that what was tuned is judged on besides: new classes, or other data sets."""
    from maao.problems.pictures import transferred

    found = {}
    for name, other in dataset.transfer_sets.items():
        bound = _bind(config.model, encoder, other.class_names, _wordings(config.model, other, hand))
        found[name] = transferred(problem, replace(other.splits, train=(), select=()), bound, other.pictures)
    return found


def feature_store(model: ModelConfig, encoder: DualEncoder) -> FeatureStore:
    """Return where the features of inputs are kept; nowhere, where that is not wanted."""
    from maao.problems.towers.features import FeatureStore

    path = feature_file(encoder) if matcher_options(model).cache else None
    return FeatureStore(path, f"{encoder.device.type} {next(encoder.modules.parameters()).dtype}")


def feature_file(encoder: DualEncoder) -> Path:
    """Return where the features of an input tower are kept, a file named by its weights."""
    from maao.problems.towers.text.loading import cache_folder

    return cache_folder() / "features" / f"{encoder.digest.removeprefix('blake2b:')[:24]}.batches.sqlite"

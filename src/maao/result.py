"""What came of a run, read from its folder: its rounds, its figures, what it predicts, and what it is taken elsewhere as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maao import choices
from maao.build import RunComponents, build
from maao.class_lines import ClassLines
from maao.codecs.no_words import NoWords
from maao.config import CHEAP, Config
from maao.core.averaging import walked
from maao.core.loop import best_round
from maao.core.lr_finder import LrSearch
from maao.data.checks import Unread
from maao.data.given import GivenInputs
from maao.data.splits import SPLITS
from maao.deploy import Deployed, Judged, Prediction, inputs_of, judged_examples, picture_of
from maao.environment import environment, frozen_digest, refuse_changed, refuse_other_code, remote_code
from maao.errors import ConfigError, DataError, MaaoError, StoreError
from maao.evaluation.beside import Compared
from maao.evaluation.evaluation import Evaluation
from maao.evaluation.readings import mistakes_in, readings
from maao.evaluation.undecided import Thresholds
from maao.export.tuned import Exporter, Tuned, write, write_walks
from maao.llm.ledger import Totals
from maao.llm.sent import Sent
from maao.members import full_member, walks_of, where_judged
from maao.predictor import Predictor
from maao.protocols import Params
from maao.store.digest import params_digest
from maao.store.run import Final, standing
from maao.stored_run import config_of, kept_compared, kept_sent, kept_splits, kept_thresholds, open_run, recorded_in, torch_serializer
from maao.troubles import Trouble, troubles_of_run
from maao.types import JSON, Cost, Example, Mistake, Split, failed_calls, total_cost

if TYPE_CHECKING:
    from pandas import DataFrame
    from PIL import Image
    from torch import Tensor

    from maao.protocols import Params
    from maao.store.ledger import Call
    from maao.stored_run import Finished, Rounds

TEST_AGAIN = (
    "test is read again here: the run read it once, at its end, and a choice that is made by these figures is not tested by them any more"
)


class Result:
    """A run's outcome, read from its folder.

    Example (a plain function, tuned in a second):
        >>> import tempfile
        >>> from maao.config import make_config
        >>> from maao.runner import run
        >>> config = make_config({"problem": "function", "mentor": {"name": "none"}, "plan": {"rounds": 1, "steps": 5}})
        >>> result = run(config, Path(tempfile.mkdtemp()) / "run")
        >>> len(result.history)
        3
    """

    def __init__(self, folder: str | Path, parts: RunComponents | None = None, history: Rounds | None = None) -> None:
        self.folder = Path(folder)
        self._parts = parts
        self._walked = history  # where this process made the run: its rounds need not be read back

    def __repr__(self) -> str:
        """Reads the folder, and says so where it cannot be read: it raises nothing."""
        try:
            held = (
                f"{self.status}, {len(self.history)} rounds, chosen {self.chosen.score!r}" if self.history else f"{self.status}, no round"
            )
        except MaaoError as error:
            held = f"cannot be read: {type(error).__name__}"
        return f"Result({str(self.folder)!r}, {held})"

    @cached_property
    def _stored(self) -> _Stored:
        with open_run(self.folder, write=False) as stored:
            return _Stored(
                stored.history() if self._walked is None else tuple(self._walked),
                stored.finals(),
                config_of(stored),
                recorded_in(stored),
                standing(stored.path, lambda: stored.status),
                stored.status_reason,
                stored.ledger.unanswered(),
                stored.created,
                stored.config,
            )

    @property
    def config(self) -> Config:
        return self._stored.config

    @property
    def history(self) -> Rounds:
        """All rounds, in order."""
        return self._stored.history

    @property
    def status(self) -> str:
        return self._stored.status

    @property
    def status_reason(self) -> str:
        return self._stored.status_reason

    @property
    def is_cross_validated(self) -> bool:
        """Whether all labels were tuned on, and each was judged by what was tuned without it."""
        return self.where_judged != where_judged(())

    @property
    def where_judged(self) -> str:
        """By which examples the run chose, in words."""
        return where_judged(self.history[0].state.params if self.history else ())

    @property
    def warning(self) -> str:
        """Why this is no run with a mentor, in words: it never gave a reply, or nothing in its replies could be used. "": it is one."""
        return gave_nothing(self.history, self.config)

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """What went wrong with the run's numbers, in words: steps that went back, losses that are none, answers of one class, ..."""
        chosen = best_round(self.history) if self.history else None
        tested = self.finals["chosen"].score if "chosen" in self.finals else None
        return troubles_of_run(self.history, chosen, self.where_judged, tested, self.config.model.dtype)

    @property
    def capped(self) -> int:
        """How many calls a cap did not allow."""
        return sum(rejected.kind == "capped" for rejected in failed_calls(self.history))

    @cached_property
    def cost_about(self) -> tuple[Cost, bool]:
        """The cost as it is shown, and whether some of the mentor's tokens are estimated: then they are those of `maao show --calls`.

        Rounds of some mentors hold such tokens as what they were at most: that is what is added up in `cost`.
        """
        own = self.cost
        if not own.llm_calls:
            return own, False
        try:
            with open_run(self.folder, write=False) as stored:
                calls = stored.ledger.calls()
        except StoreError:  # the calls are damaged, which `maao show --calls` tells; rounds are whole
            return own, False
        about = [call.about for call in calls]
        if (own.input_tokens, own.output_tokens) == (sum(c.input_tokens for c in calls), sum(c.output_tokens for c in calls)):
            own = replace(own, input_tokens=sum(read for read, _, _ in about), output_tokens=sum(written for _, written, _ in about))
        return own, any(estimated for _, _, estimated in about)

    @property
    def unanswered(self) -> Totals:
        """Calls that went out and brought no reply, each at the most that it can have taken, or at what is known of it."""
        return self._stored.unanswered

    @property
    def calls(self) -> tuple[Call, ...]:
        """The recorded calls, in the order in which their replies were stored. Read anew each time: replies may be long."""
        with open_run(self.folder, write=False) as stored:
            return stored.ledger.calls()

    @cached_property
    def sent(self) -> Sent | None:
        """What was sent to the models that were asked, and whether training text was in it; None: nothing, or the run goes on."""
        return kept_sent(self.folder)

    @property
    def created(self) -> str:
        """When the run was begun (ISO 8601, UTC)."""
        return self._stored.created

    @property
    def settings(self) -> JSON:
        """The config as it is stored, plain JSON."""
        return self._stored.settings

    @property
    def environment(self) -> JSON:
        return self._stored.environment

    @property
    def finals(self) -> dict[str, Final]:
        """The declared points on `test`, by name: "untuned", "chosen" (the tuned soft prompt), "words" (its words alone).

        Where the chosen point is an average of walks, "best_walk" is the best of them alone, whose the words are then.
        """
        return _Finals((final.name, final) for final in self._stored.finals)

    @property
    def chosen(self) -> Finished:
        """The round with the point that is reported: the lowest loss on `select`, or the average of walks that closes a run."""
        self._check_begun()
        return best_round(self.history)

    @property
    def best_walk(self) -> Finished:
        """The round that ended on the lowest loss on `select`, of a run whose walks are averaged too."""
        self._check_begun()
        return best_round(walked(self.history))

    def _check_begun(self) -> None:
        if not self.history:
            raise StoreError(f"The run {self.folder} has no finished round yet: `maao resume {self.folder}` goes on with it.")

    @property
    def params(self) -> Params:
        """The chosen params: ``{"prompt": (num_virtual_tokens, embed_dim), ...}``; after a cross-validation those tuned on all labels."""
        return full_member(self.chosen.state.params)

    @property
    def digest(self) -> str:
        """A hash of the final parameters: equal for equal runs."""
        self._check_begun()
        return params_digest(self.history[-1].state.params, torch_serializer())

    @property
    def _walks(self) -> list[tuple[dict[str, Tensor], int]]:
        from maao.problems.averages import counted

        return counted(self.params)

    @property
    def walks(self) -> int:
        """How many walks the chosen point averages; 1 where it is one alone."""
        return len(walks_of(self.params))

    @property
    def text(self) -> str:
        """The chosen soft prompt's words; those of the best walk alone where it is an average."""
        projection = self.best_walk.clues.projection
        return projection.text if projection else ""

    @property
    def filled(self) -> dict[str, str]:
        """What a proposal filled beside the chosen soft prompt: `template`, `label_words.LABEL`; empty where all is as the config says."""
        return self._filled(self.params)

    def _filled(self, params: Params) -> dict[str, str]:
        from maao.problems.framed import PatternVerbalizer

        return (PatternVerbalizer.of(params) or PatternVerbalizer()).fields(self.environment["labels"])

    @property
    def lines(self) -> ClassLines:
        """The class lines that the chosen point was trained on, each with its weight (of an average, those of its best walk)."""
        from maao.problems.lined import lines_of

        return lines_of(self.params)

    @property
    def lr_search(self) -> LrSearch | None:
        """The search that chose `stage.lr` before the run; None where there was none."""
        recorded = self.environment.get("lr_search")
        return None if recorded is None else LrSearch.from_json(recorded)

    @property
    def cost(self) -> Cost:
        """What the run spent: a search for the learning rate, the texts read once before, its rounds, the reading of `test` at the end."""
        tested = sum((final.score.cost for final in self.finals.values()), Cost())
        before = Cost(model_tokens=self.environment["prepared_tokens"])
        if self.lr_search is not None:
            before += self.lr_search.cost
        chosen = Cost() if self.thresholds is None else self.thresholds.cost
        return before + total_cost(self.history) + chosen + tested

    @cached_property
    def baselines(self) -> Compared | None:
        """What one would use instead, on the same labels and `test`, as it was read when the run ended; None: it was not."""
        return kept_compared(self.folder)

    @cached_property
    def thresholds(self) -> Thresholds | None:
        """What the run leaves undecided; None: nothing."""
        return kept_thresholds(self.folder)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of an input: what a mapping for `predict` must name. Loads no model."""
        return self.inputs.fields

    @property
    def inputs(self) -> GivenInputs:
        """How inputs are read. Loads no model."""
        return inputs_of(self.config, f"The run {self.folder}")

    def predict(self, inputs: object) -> list[Prediction]:
        """Return a prediction for each thing of a list, an array, a Series, a frame or a data set, in its order.

        A thing is a text, a mapping of the template's fields (or of the columns that the run's data had; others are not looked at), or an
        example (its label is not looked at). A mere text stands for the template's only field, whatever its name; in a run on pictures it
        is the path of an image file.

        Raises:
            DataError: some cannot be read; all of them are named. `try_predict` predicts the others.
        """
        return self.predictor.predict(inputs)

    def predict_frame(self, inputs: object) -> DataFrame:
        """Return predictions as a frame with the index of the inputs; see `Predictor.predict_frame`."""
        return self.predictor.predict_frame(inputs)

    def try_predict(self, inputs: object, places: Sequence[str] | None = None) -> list[Prediction | Unread]:
        """Return a prediction for each input as `predict` does, and in the place of each that cannot be read, why.

        Args:
            inputs: as for `predict`.
            places: what each is called ("line 3"); by default "number 3".

        Example:
            >>> result = maao.load("runs/demo-seed0")  # doctest: +SKIP
            >>> result.try_predict(["Shares fall", ""])[1].reason  # doctest: +SKIP
            "the field 'text' is empty"
        """
        return self.predictor.try_predict(inputs, places)

    def evaluate(self, examples: object = "test", *, none_of_these: bool = False, separator: str | None = None) -> Evaluation:
        """Return how the chosen point does on labelled examples. Costs nothing of the run's. `Evaluation.score` is loss and metrics alone.

        Args:
            examples: "train", "select" or "test", a split of the run's data, read anew (a choice that is made by figures on `test` is not
                tested by them any more); or labelled examples as `maao.tune` takes them, in memory or a file (of pictures, a folder that
                holds a folder for each class, or a table whose field "image" is the path of a file). Labels that differ from the run's in
                case, white space or underscores alone are read as these.
            none_of_these: count examples with other labels as such of none of the classes, in place of refusing them.
            separator: of the columns of a .csv file; by default as in the run's config.

        Raises:
            DataError: they cannot be read, or have labels that the run does not know.
            StoreError: the data of the run has changed.
            MaaoError: scikit-learn is not installed.

        Example:
            >>> maao.load("runs/demo-seed0").evaluate([("Shares fall", "business")]).accuracy  # doctest: +SKIP
            1.0
        """
        return self.evaluated(self.judged(examples, none_of_these=none_of_these, separator=separator))

    def judged(self, examples: object = "test", *, none_of_these: bool = False, separator: str | None = None) -> Judged:
        """Return what the chosen point reads of labelled examples, before any figure: arguments and errors as for `evaluate`."""
        self._check_labels()
        if isinstance(examples, str) and examples in SPLITS:
            return self._judged_split(examples)
        refuse_other_code(self.folder, self.environment, self.config)
        found = judged_examples(
            self.config,
            self._labels,
            self._class_names,
            self.params,
            examples,
            none_of_these=none_of_these,
            separator=separator,
            like=self._parts,
        )
        self._adopt(found.parts)
        return found

    def _judged_split(self, split: Split) -> Judged:
        parts = self._whole
        own = () if parts.splits is None else parts.splits.judged if split == "select" else parts.splits.parts[split]
        if not own:
            raise DataError(f"The run {self.folder} has no examples in its split '{split}': give labelled examples to evaluate on.")
        ((score, scores),) = parts.problem.judged([self.chosen.state.params], split)  # of a cross-validation, every member's
        notes = (TEST_AGAIN,) if split == "test" else ()
        of = "the run's own labels, out of fold" if split == "select" and parts.examples.folds else f"the run's own {split}"
        return Judged(of, parts, own, score, scores.numpy(), notes=notes)

    def evaluated(self, judged: Judged) -> Evaluation:
        """Return all that is to say of what `judged` gave."""
        return judged.evaluation(self._labels, self.thresholds)

    def beside(self, judged: Judged, names: Sequence[str] = CHEAP) -> Compared:
        """Return what one would use instead on the examples of `judged`, learnt from all labels of the run, and what tuning gained there.

        Nothing is stored. The run's data are read anew, since baselines learn from them.

        Args:
            judged: what the chosen point reads of examples that are none of those labels: of a file, or of `test`.
            names: which baselines, each with class names where it can take them.

        Raises:
            ConfigError: the examples are the run's own `train` or `select`, which baselines learn from.
            StoreError: the data of the run has changed.
        """
        from maao.baselines.at_end import compared_on

        whole = self._whole
        if judged.parts is whole and judged.examples != whole.examples.test:
            raise ConfigError("Baselines learn from train and select: set them beside the tuned point on test, or on other examples.")
        splits = replace(judged.parts.examples, test=judged.examples)
        dataset = whole.config.builder.reread(whole)
        if judged.parts is not whole:
            dataset = whole.config.builder.given(splits, whole.class_names)
        return compared_on(whole, dataset, np.asarray(judged.class_scores, dtype=np.float64), names)

    def mistakes(self, count: int = 24) -> list[Mistake]:
        """Return the examples of `select` (out of fold: all labelled ones) read wrongly with most confidence. Reads the data anew."""
        self._check_labels()
        found = self._judged_split("select")
        numbers = {label: i for i, label in enumerate(self._labels)}
        targets = np.array([numbers[example.label] for example in found.examples])
        return list(mistakes_in(readings(found.class_scores, targets), found.examples, self._labels)[:count])

    def picture(self, example: Example) -> Image.Image:
        """Return the picture of an example of the run's data, as PIL opens it.

        Raises:
            ConfigError: the run is not on pictures.
        """
        return picture_of(self._whole.problem, example, f"The run {self.folder}")

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats that this run's point can be tried to be saved in by `save`, but for those that are written on demand alone."""
        return tuple(name for name, exporter in self._exporters.items() if not exporter.by_name_only)

    @cached_property
    def _exporters(self) -> dict[str, Exporter]:
        exporters = {name: choices.load("export", name)() for name in choices.names("export")}
        return {name: exporter for name, exporter in exporters.items() if exporter.serves(self._deployed.problem)}

    def save(self, path: str | Path, format: str = "tensor") -> list[Path]:
        """Export the chosen prompt into a folder.

        "text" is its words, "tensor" what the model reads of it (with a file that uses it where it stands in a language model's input; all
        that was trained elsewhere). "peft" is an adapter for the kind of model that the run tuned (templates that begin with ``{slots}``,
        or prefix tuning); "peft-classifier" one for transformers' classification model of that type, where that can give the same class
        scores. Of prompts around class names: "ctx" (as CoOp's checkpoints hold a context), "classes" (class features for serving without
        a text tower). An average of walks is one set of class features; in the other formats each walk has a folder of its own,
        and "average.json" says how they are used together. The class lines that a point was trained on are written beside it
        (lines.json), with their weights.

        Raises:
            ConfigError: there is no such format for this run, or its prompt cannot be written so.
        """
        exporter = self._exporter(format)
        points = [(self.params, 1)] if exporter.writes_averages else self._walks
        tuned, counts = [self._tuned(point) for point, _ in points], [count for _, count in points]
        folder = Path(path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return write(exporter, tuned[0], folder) if len(tuned) == 1 else write_walks(exporter, tuned, counts, folder)
        except OSError as error:
            raise StoreError(f"Cannot write to {folder}: {error.strerror or error}.") from error

    def _exporter(self, format: str) -> Exporter:
        if format not in self._exporters:
            *others, last = self._exporters
            told = f"This run has no format '{format}'" if format in choices.names("export") else f"Unknown format '{format}'"
            raise ConfigError(f"{told}: use {', '.join(others)} or {last}.")
        return self._exporters[format]

    def _tuned(self, point: Params) -> Tuned:
        from maao.problems.lined import lines_of

        used = self._deployed
        problem, params = used.as_read(point)
        # Of a run without clues, and of walks, the words are found now.
        known = self.text if self.walks == 1 else ""
        text = None if isinstance(problem.codec, NoWords) else known or problem.codec.decode(params).text or ""
        about = {**used.about(problem, point), "text": text or "", **self._evidence()}
        return Tuned(problem, params, text, about, self._filled(point) != {}, tuple(map(lines_of, walks_of(point))))

    def _evidence(self) -> JSON:
        """Return what an export tells of how good a point is, and of where it comes from."""
        return {
            "select": {"loss": self.chosen.score.loss, **self.chosen.score.metrics} if not self.chosen.score.is_unjudged else {},
            "test": {name: {"loss": final.score.loss, **final.score.metrics} for name, final in self.finals.items()},
            "params": params_digest(self.params, torch_serializer()),
            "run": self.folder.name,
            "packages": self.environment["packages"],
        }

    @cached_property
    def predictor(self) -> Predictor:
        """The chosen point in use: what of the run is needed to predict, and nothing else."""
        self._check_labels()
        refuse_other_code(self.folder, self.environment, self.config)
        return Predictor(
            self.config,
            self._labels,
            self._class_names,
            self.params,
            weights=self.environment.get("weights", ""),
            thresholds=self.thresholds,
            name=str(self.folder),
            parts=self._parts,
        )

    @property
    def _deployed(self) -> Deployed:
        """The chosen point in use, with the models of the run where this process made it."""
        found = self.predictor.deployed
        self._parts = self._parts or found.parts
        return found

    def _adopt(self, parts: RunComponents) -> None:
        """Keep the models that were loaded to use the run, which must be those that it was made with."""
        if self._parts is None:
            refuse_changed(self.folder, self.environment, {"weights": frozen_digest(parts), "remote_code": remote_code(self.config)})
            self._parts = parts

    @cached_property
    def _whole(self) -> RunComponents:
        """The run's parts with its data, read anew."""
        refuse_other_code(self.folder, self.environment, self.config)
        parts = build(self.config, kept_splits(self.folder, self.config), loaded=None if self._parts is None else self._parts.loaded)
        refuse_changed(self.folder, self.environment, environment(parts))
        return parts

    @property
    def _labels(self) -> tuple[str, ...]:
        return tuple(self.environment["labels"])

    @property
    def _class_names(self) -> tuple[str, ...]:
        return tuple(self.environment.get("class_names", ()))

    def _check_labels(self) -> None:
        """Refuse a run that labels nothing, before anything is loaded."""
        inputs_of(self.config, f"The run {self.folder}")


class _Finals(dict[str, Final]):
    """What was read on `test`, by name; what is not there is told so."""

    def __missing__(self, name: str) -> Final:
        known = f"only: {', '.join(self)}" if self else "the run has no test: give test=... (data.test), or Result.evaluate(FILE)"
        raise KeyError(f"No point {name!r} was read on test; {known}.")


@dataclass(frozen=True)
class _Stored:
    history: Rounds
    finals: tuple[Final, ...]
    config: Config
    environment: JSON
    status: str
    status_reason: str
    unanswered: Totals
    created: str
    settings: JSON


def load(folder: str | Path) -> Result:
    """Return the result of a run folder."""
    result = Result(folder)
    result.status  # noqa: B018  (reads the folder now, so that what is wrong with it is said here)
    return result


def gave_nothing(history: Rounds, config: Config) -> str:
    """Say that a mentor that was asked gave nothing in a whole run: no reply to any call, or no proposal in any reply; else "".

    Proposals of a second mentor do not count. Calls that a budget did not allow are the user's own choice, and no failure.
    """
    asked = [r for r in history if r.leg.ask]
    replies = sum(r.advice.cost.llm_calls for r in asked)
    failed = [failure for failure in failed_calls(tuple(asked)) if failure.kind == "failed_call"]
    if failed and not replies:
        calls = "its only call" if len(failed) == 1 else f"all {len(failed)} calls"
        return f"The mentor gave no reply: {calls} failed. The last time: {failed[-1].reason}"
    own = [p for r in asked for p in r.advice.proposals if p.mentor in ("", config.mentor.name)]
    rejected = [rejected for r in asked for rejected in r.advice.rejected if rejected.kind == "unusable"]
    if own or not rejected:
        return ""
    where = f"its {replies} replies" if replies > 1 else "its only reply" if replies else "what it proposed"
    return f"The mentor gave nothing usable: no proposal in {where} could be used. The last reason: {rejected[-1].reason}"

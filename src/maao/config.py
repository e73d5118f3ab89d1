"""Configs: pydantic models, read from TOML. An unknown key is refused with the nearest known one; nothing is guessed.

What a name means is decided in `build.py`; here only its form is checked. Paths are taken relative to the config file, with ``~`` and
``$VARIABLES`` expanded.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import ErrorDetails

from maao import choices
from maao.carried import CARRIED, carried
from maao.choices import own_file
from maao.core.acceptance import AcceptOptions
from maao.core.plan import PlanOptions
from maao.data.dataset import HUB, PACKAGED
from maao.data.files import not_utf8
from maao.data.folds import CROSS_VALIDATION
from maao.data.image_data import ImageData
from maao.data.image_sets import CATALOG, EMOJI
from maao.data.inputs import input_of
from maao.data.text_data import PARTS, TextData
from maao.errors import ConfigError, StoreError
from maao.evaluation.undecided import PredictOptions
from maao.mentors.context import AskingOptions, MentorOptions
from maao.optimizers.options import StageOptions
from maao.options import STORED, UNKNOWN, UNREAD, Chosen, OneOf, Section, Text, named
from maao.problems.settings import ModelConfig, matcher_of_texts, usual_of
from maao.problems.towers.dual_names import reads_pictures
from maao.renamed import renamed
from maao.store.files import reading
from maao.trackers.options import TrackerOptions

if TYPE_CHECKING:
    from maao.builder import Builder


class BudgetConfig(Section):
    """Hard caps; what is left out is not capped."""

    gradient_steps: int | None = Field(None, le=2**53, description="Most gradient steps, those of races included.")
    llm_calls: int | None = Field(None, le=2**53, description="Most calls to the mentor's language model.")
    llm_tokens: int | None = Field(None, le=2**53, description="Most tokens that it reads and writes.")
    usd: float | None = Field(None, le=1e15, description="Most US dollars; the price must be known.")
    seconds: float | None = Field(None, le=1e15, description="Most seconds of its rounds: then a call is cut, and a walk ends at its step.")


class StoreConfig(Section):
    """Where a run is kept, beside its own folder."""

    mirror: Text | None = Field(None, description="Copied there after each leg: a folder, or what fsspec reaches (s3://bucket/runs).")


class FunctionConfig(Section):
    """A plain function to minimize, for learning and tests."""

    name: Literal["rosenbrock", "ackley", "rastrigin"] = Field("rastrigin", description="Which function.")
    dim: int = Field(2, ge=1, le=100_000, description="Numbers in a point.")
    bound: float = Field(4.0, gt=0, le=1e6, description="Starting points lie between minus this and this.")
    digits: int = Field(3, ge=0, le=12, description="Decimals of a point in words.")


STAGE, PLAN, ACCEPT = OneOf("stage", "kind", "gradient"), OneOf("plan", "kind", "rounds"), OneOf("accept", "rule", "race")
MENTOR = OneOf("mentor", "name", "language_model")
TRACKER = OneOf("tracker", "kind", "none")
DATA = OneOf("data", "input", "text", input_of)


CHEAP = ("majority", "zero_shot", "prototypes", "linear_probe")  # baselines that take little time beside any run


class Config(Section):
    """A whole run."""

    problem: Literal["classification", "function"] = Field(
        "classification", description="Classes of texts or pictures, told by a frozen model with a tuned prompt; or a plain function."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Fixes everything that is random.")
    threads: int | None = Field(None, ge=1, le=1_024, description="CPU threads; fixed for a run, since sums depend on it.")
    from_run: Text | None = Field(None, description="A finished run whose chosen point this one begins from (maao tune --from).")
    model: ModelConfig = Field(default_factory=ModelConfig, description="The frozen model and the soft prompt.")
    data: Annotated[Chosen[TextData | ImageData], DATA] = Field(default_factory=DATA.chosen, description="Where examples come from.")
    function: FunctionConfig = Field(default_factory=FunctionConfig, description="The function, if that is the problem.")
    stage: Annotated[Chosen[StageOptions], STAGE] = Field(
        default_factory=STAGE.chosen, description="The doer: how gradient steps are made, or what takes their place."
    )
    plan: Annotated[Chosen[PlanOptions], PLAN] = Field(
        default_factory=PLAN.chosen, description="When the doer walks and when the mentor is asked."
    )
    accept: Annotated[Chosen[AcceptOptions], ACCEPT] = Field(default_factory=ACCEPT.chosen, description="What becomes of the proposals.")
    mentor: Annotated[Chosen[MentorOptions], MENTOR] = Field(
        default_factory=MENTOR.chosen, description="Who proposes restarts, and what it reads."
    )
    budget: BudgetConfig = Field(default_factory=BudgetConfig, description="Hard caps.")
    baselines: list[Annotated[str, named("baseline")]] = Field(
        default_factory=lambda: list(CHEAP),
        description="What the end of a run shows beside the tuned result, on the same labels and the same test: [] for nothing.",
    )
    predict: PredictOptions = Field(default_factory=PredictOptions, description="When an input is left undecided.")
    store: StoreConfig = Field(default_factory=StoreConfig, description="Where a copy of the run is kept.")
    tracker: Annotated[Chosen[TrackerOptions], TRACKER] = Field(
        default_factory=TRACKER.chosen, description="Who is told the figures of a run while it goes on; changes nothing of it."
    )

    def __repr__(self) -> str:
        """One line of what a run is about; `model_dump` has all settings."""
        read = self.builder.sections
        model = f", model={self.model.name!r}, method={self.model.method.name!r}" if "model" in read else ""
        data = f", data={self.data.options.source!r}" if "data" in read else f", function={self.function.name!r}"
        return f"Config({self.problem!r}{model}{data}, mentor={self.mentor.name!r}, seed={self.seed})"

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

    @property
    def builder(self) -> Builder:
        """What reads the sections of this kind of problem, and builds it."""
        found: Builder = choices.load("problem", self.problem).of(self)
        return found

    @model_validator(mode="wrap")
    @classmethod
    def _imply(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Choose what is not named: the kind of model that pictures need, a matcher of texts, and what usually goes with a method."""
        if not isinstance(given, dict) or given.get("problem") == "function" or not isinstance(given.get("model", {}), dict):
            return handler(given)
        model, pictures = dict(given.get("model", {})), _are_pictures(given.get("data", {}))
        if model.get("kind", "auto") == "auto" and pictures:
            model["kind"] = "matcher"
        if not pictures and not reads_pictures(str(model.get("name", ""))):
            model = {**matcher_of_texts(model), **model}
        values = {**given, "model": model} if model else given
        usual = _usual(values)
        made = handler({**values, **{name: _laid_under(settings, values.get(name, {})) for name, settings in usual.items()}})
        for name, settings in usual.items():  # what was chosen here was not given
            _section(made, name).model_fields_set.difference_update({*settings} - {*values.get(name, {})})
        return made

    def unread(self) -> dict[str, str]:
        return {
            **_of_other_problems(self),
            **self.builder.unread(),
            **_of_no_mentor(self),
        }


def _laid_under(usual: Mapping[str, object], given: Mapping[str, object]) -> dict[str, object]:
    """Return settings with the usual ones where they say nothing, in tables of further settings too.

    Example:
        >>> _laid_under({"lr": 0.05, "options": {"weight_decay": 0.0}}, {"options": {"eps": 1e-6}})
        {'lr': 0.05, 'options': {'weight_decay': 0.0, 'eps': 1e-06}}
    """
    found = {**usual, **given}
    tables = {key: (mine, yours) for key, mine in usual.items() if isinstance(mine, dict) and isinstance(yours := given.get(key), dict)}
    return {**found, **{key: {**mine, **yours} for key, (mine, yours) in tables.items()}}


INSTEAD = {  # what says that nothing is as usual
    "data": ("select_shots", "protocol"),
    "stage": ("kind",),
    "plan": ("kind",),
    "accept": ("rule",),
}


def _usual(values: Mapping[str, object]) -> dict[str, Mapping[str, object]]:
    """Return what usually goes with the method of a config, by section, but for sections that go another way."""
    model, mentor = values.get("model"), values.get("mentor")
    lines = _says_lines(mentor)
    given = model if isinstance(model, dict) else {}
    pictures = _are_pictures(values.get("data"))
    sections = usual_of(given, with_lines=lines or _is_own(mentor), lines_alone=lines, pictures=pictures)
    return {
        name: _usual_stage(settings, own) if name == "stage" else settings
        for name, settings in sections.items()
        if isinstance(own := values.get(name, {}), dict) and not any(key in own for key in INSTEAD.get(name, ()))
    }


def _says_lines(mentor: object) -> bool:
    """Say whether the mentor of a config says class lines; a wrong name is told elsewhere."""
    if isinstance(mentor, Chosen):
        return isinstance(mentor.options, MentorOptions) and mentor.options.proposes_lines
    name = mentor.get("name") if isinstance(mentor, Mapping) else None
    try:
        found = choices.load("mentor", name) if isinstance(name, str) else None
    except choices.UnknownName:
        return False
    return isinstance(found, type) and issubclass(found, MentorOptions) and found.proposes_lines


def _is_own(mentor: object) -> bool:
    """Say whether the mentor is one of one's own, which may say class lines, or prompts."""
    return (mentor.name if isinstance(mentor, Chosen) else mentor.get("name") if isinstance(mentor, Mapping) else None) == "custom"


def _usual_stage(usual: Mapping[str, object], given: Mapping[str, object]) -> dict[str, object]:
    """Return what of a usual stage suits what is given: a rate that is searched is none, and another optimizer has options of its own."""
    unsuited = {"lr"} if "lr_grid" in given else {"lr", "options"} if "optimizer" in given else set()
    return {key: value for key, value in usual.items() if key not in unsuited}


def _are_pictures(data: Any) -> bool:
    """Say whether a config's data section is of pictures."""
    if isinstance(data, dict):
        return bool(data.get("input", input_of(data)) == "image")
    return isinstance(data, Chosen) and data.name == "image"


OF_LOCAL_MODELS = ("name", "revision", "quantization", "dtype", "device", "device_map")  # of [model]: a mentor in this process is loaded so


def unread_sections(config: Config) -> set[str]:
    """Return the sections that this kind of problem does not read.

    Example:
        >>> sorted(unread_sections(Config(problem="function", mentor={"name": "none"})))
        ['data', 'model', 'predict']
    """
    return {name for problem in choices.names("problem") for name in choices.load("problem", problem).sections} - _sections_read(config)


def _sections_read(config: Config) -> set[str]:
    return {*config.builder.sections, *(("model",) if _asks_in_this_process(config) else ())}


def _asks_in_this_process(config: Config) -> bool:
    options = config.mentor.options
    return isinstance(options, AskingOptions) and options.chat.name == "local"


def _of_other_problems(config: Config) -> dict[str, str]:
    own = config.builder.sections
    instead = f"problem is '{config.problem}', which reads {' and '.join(f'[{name}]' for name in own)}"
    found = {
        f"{name}.{key}": f"{instead}: drop it{_twin(config, own, key)}" for name in unread_sections(config) for key in _given(config, name)
    }
    if "model" not in own and _asks_in_this_process(config):
        further = set(_given(config, "model")) - {*OF_LOCAL_MODELS}
        found |= {f"model.{key}": f"{instead}, and of [model] only the mentor's own model: drop it" for key in sorted(further)}
    return found


def _of_no_mentor(config: Config) -> dict[str, str]:
    """Return what speaks of proposals where nobody makes any."""
    if config.mentor.name != "none":
        return {}
    rule = ["accept.rule"] if config.accept.name != ACCEPT.default else []
    asked = ["plan.proposals"] if "proposals" in config.plan.options.changed() else []
    keys = [*rule, *(f"accept.{key}" for key in config.accept.options.changed()), *asked]
    return dict.fromkeys(keys, "mentor.name is 'none', which proposes nothing: drop it")


def _section(config: Config, name: str) -> Section:
    """Return the settings of a section, those that are chosen too."""
    held: Chosen[Section] | Section = getattr(config, name)
    return held.options if isinstance(held, Chosen) else held


def _given(config: Config, section: str) -> list[str]:
    return _section(config, section).given() if section in config.model_fields_set else []


def _twin(config: Config, sections: Sequence[str], key: str) -> str:
    """Say where a setting of that name is read instead, if it is."""
    twins = [f"{name}.{key}" for name in sections if key in type(_section(config, name)).model_fields]
    return f", or set {' or '.join(twins)}" if twins else ""


PATHS = (
    ("from_run",),
    ("data", "source"),
    ("data", "train"),
    ("data", "select"),
    ("data", "test"),
    ("data", "lines"),
    ("model", "name"),
    ("model", "adapter"),
    ("data", "root"),
    ("mentor", "wording"),
    ("mentor", "chat", "replies"),
    ("mentor", "corpus"),
    ("mentor", "mix", "corpus"),
    ("mentor", "about_classes"),
    ("tracker", "log_dir"),
    ("store", "mirror"),
)


def read_config(path: str | Path, assignments: tuple[str, ...] = ()) -> Config:
    """Read a TOML file, with ``key=value`` assignments laid over it. "demo" and "demo-decoder" name configs that maao carries.

    What the file sets and an assignment leaves unread (a mentor's style, with ``mentor.name=none``) is dropped: `read_with_notes` says so.
    """
    return read_with_notes(path, assignments)[0]


def read_with_notes(path: str | Path, assignments: tuple[str, ...] = ()) -> tuple[Config, tuple[str, ...]]:
    """Do as `read_config`, and return besides what there is to tell of the settings that the assignments left unread."""
    file = Path(path)
    if str(path) in CARRIED:
        text, folder, where = carried(str(path)), Path.cwd(), "the demo's config"
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
        if names := renamed(values):
            raise ConfigError(f"{where}: settings have other names now: {names}. See CHANGELOG.md.") from None
        further = {key: reason for key, reason in _unread_in(values).items() if key not in {_key(item) for item in error.errors()}}
        told = [explain(error), *(_would_be_ignored(key, reason) for key, reason in further.items())]
        raise ConfigError(f"{where}: {' '.join(told)}") from None


def stored_config(values: dict[str, Any], file: Path) -> Config:
    """Return the config that a run stored in `file`. Raises `StoreError` where it is not what a run stores."""
    with reading(file):
        try:
            return Config.model_validate(values, context=STORED)
        except ValidationError as error:
            if all(item["type"] == "unknown_name" for item in error.errors()):  # a file of one's own, or a plugin
                raise StoreError(f"{file} names what is not here: {explain(error)} Put it back where it was, or install it.") from error
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
            Config.model_validate(left)
        except ValidationError as error:
            here = {_key(item): _reason(item) for item in error.errors() if item["type"] == UNREAD}
            for key in here:
                _drop(left, key)
            found |= here
            if here:
                continue
        return found  # what is wrong otherwise `make_config` tells


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


def explain(error: ValidationError) -> str:
    """Return what is wrong with values in words: every fault with its key, the value, and the nearest known key."""
    return " ".join(map(_explained, error.errors()))


def _explained(item: ErrorDetails) -> str:
    key, reason = _key(item), item["msg"].removeprefix("Value error, ")
    if item["type"] == UNREAD:
        return _would_be_ignored(key, _reason(item))
    if item["type"] == UNKNOWN:
        prefix = key.removesuffix(str(item["loc"][-1]))
        hint = "".join(f" Did you mean '{prefix}{near}'?" for near in item["ctx"]["near"])
        return f"unknown key '{key}'.{hint} Known keys: {', '.join(item['ctx']['known'])}."
    return f"'{key}': {reason[0].lower()}{reason[1:]}; got {_short(item['input'])}." if key else reason


def _reason(item: ErrorDetails) -> str:
    """Return why nothing reads a setting, with the section's name before a setting that stands in the same section."""
    reason = str(item["ctx"]["reason"])
    return f"{_key(item).removesuffix(str(item['loc'][-1]))}{reason}" if item["ctx"].get("beside") else reason


def _would_be_ignored(key: str, reason: str) -> str:
    return f"'{key}' would be ignored, since {reason}."


def _key(item: ErrorDetails) -> str:
    return ".".join(map(str, item["loc"]))


def _short(value: Any) -> str:
    """Return a value as a message shows it: a number may have thousands of digits."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= 200 else f"{text[:200]}..."


def expand_paths(values: dict[str, Any], folder: Path) -> None:
    """Replace paths by absolute ones, so that a run can be resumed from anywhere. `model.name` and `mentor.wording` may be mere names."""
    _expand_own_files(values, folder)
    for *sections, key in PATHS:
        held: Any = values
        for section in sections:
            held = held.get(section) if isinstance(held, dict) else None
        if not isinstance(held, dict) or not isinstance(held.get(key), str):
            continue
        dotted = ".".join((*sections, key))
        text = os.path.expandvars(os.path.expanduser(held[key]))
        if "$" in text and text.startswith("$"):
            raise ConfigError(f"'{dotted}' = '{held[key]}' names an environment variable that is not set: {text.split('/')[0]}.")
        path = folder / text
        a_name = text in (PARTS, EMOJI, *CATALOG) or text.startswith((HUB, PACKAGED)) or "://" in text
        must_be = sections == ["data"] or key in ("replies", "mirror")  # a path also where nothing is there (yet)
        is_path = text != CROSS_VALIDATION and (_exists(path, dotted, text) or (must_be and not a_name))
        held[key] = str(path.resolve()) if is_path else text


def _expand_own_files(values: dict[str, Any], folder: Path) -> None:
    """Do so for names that lead to a class of a file of one's own, in any section."""
    for key, held in values.items():
        if isinstance(held, dict):
            _expand_own_files(held, folder)
        else:
            values[key] = [own_file(one, folder) for one in held] if isinstance(held, list) else own_file(held, folder)


def _exists(path: Path, key: str, text: str) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:  # too long, or a null character in it
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"'{key}' can name no file and no model ({reason}); got {_short(text)}.") from error
    return True

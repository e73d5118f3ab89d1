"""The shapes of what a run folder holds as plain JSON, so that what is damaged is told in words where it is read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

from maao.types import JSON, Cost

FORMAT = 2  # of run folders: what settings are called and what rounds hold; counted up where an older folder would be read wrongly
FORMAT_KEY = "format"  # in config.json; the first format had none
EXAMPLES = "examples.json"
BASELINES = "baselines.json"  # what one would use instead, where the end of a run showed it
UNDECIDED = "undecided.json"
SENT = "sent.json"
IN_RUN = "run"  # data.source of examples that were handed over in memory and are kept in the run folder


class Record(BaseModel):
    """Base: types are taken as they are, and further keys (of a newer maao) are no fault."""

    model_config = ConfigDict(extra="allow", strict=True)


def _is_cost(values: dict[str, float]) -> dict[str, float]:
    Cost(**values)  # type: ignore[arg-type]  # raises TypeError for what is no part of a cost
    return values


class DataRecord(Record):
    """Where a run's examples come from."""

    source: str = ""


class ConfigRecord(Record):
    """config.json, as far as every run has it."""

    problem: str
    seed: int
    stage: JSON
    plan: JSON
    accept: JSON
    mentor: JSON
    budget: JSON
    data: DataRecord = DataRecord()


class TrialRecord(Record):
    """What came of one learning rate."""

    rate: float
    loss: float | None
    diverged: str | None
    cost: Annotated[dict[str, float], AfterValidator(_is_cost)]


class SearchRecord(Record):
    """A search for the learning rate."""

    steps: int
    trials: list[TrialRecord]


class EnvironmentRecord(Record):
    """environment.json, as far as it is read again."""

    labels: list[str]
    packages: dict[str, str]
    prepared_tokens: int
    majority: float | None
    threads: int | None = None
    class_names: list[str] = []
    data: str = ""
    weights: str = ""
    adapter: str = ""
    wording: str = ""
    remote_code: dict[str, str] = {}
    lr_search: SearchRecord | None = None
    sizes: dict[str, int] = {}


class ExampleRecord(Record):
    """One example that came from memory."""

    fields: dict[str, str]
    label: str
    choices: list[str] = []
    group: str = ""


class SeenRecord(Record):
    """seen.json: hashes of a run's examples, split by split."""

    train: list[str]
    select: list[str]
    test: list[str]


class ExamplesRecord(Record):
    """examples.json: the splits of a run whose examples came from memory."""

    labels: list[str]
    notes: list[str]
    train: list[ExampleRecord]
    select: list[ExampleRecord]
    test: list[ExampleRecord]
    folds: list[int] = []


class SentRecord(Record):
    """sent.json: what was sent to the models that were asked."""

    told: str
    to: list[str]
    leaves: bool
    requests: int
    fields: list[str]
    training_texts: int
    looked_for: int
    unanswered: int = 0


class ThresholdsRecord(Record):
    """undecided.json: what a run leaves undecided."""

    confidence: str
    least: float | None
    least_probability: float | None
    num_examples: int
    num_decided: int
    num_right: int
    wanted: dict[str, float]
    cost: Annotated[dict[str, float], AfterValidator(_is_cost)]


class BesideRecord(Record):
    """One baseline of baselines.json."""

    name: str
    told: str
    loss: float | None
    metrics: dict[str, float]
    num_examples: int
    settings: dict[str, bool]
    chosen: dict[str, float]
    tokens: int
    seconds: float


class GainRecord(Record):
    """What was gained over the best of them."""

    over: str
    num_examples: int
    accuracy: float
    low: float
    high: float
    loss: float | None
    loss_low: float | None
    loss_high: float | None
    best_of: int = 1  # older runs kept neither this
    is_lost: bool = False  # nor this


class ComparedRecord(Record):
    """baselines.json: what one would use instead, as it was read at the end of the run, on `test` or where that is not, where it chose."""

    baselines: list[BesideRecord]
    gain: GainRecord | None
    left_out: list[str]
    tokens: int
    over_untuned: GainRecord | None = None
    where: Literal["test", "on select", "out of fold"] = "test"


class PredictorRecord(Record):
    """maao.json: a classifier in use, without its run."""

    format: int
    config: JSON
    labels: list[str]
    class_names: list[str]
    weights: str
    thresholds: ThresholdsRecord | None

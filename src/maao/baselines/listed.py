"""All baselines of a config, before a run: what the same labels give without tuning a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from maao import choices
from maao.baselines.at_end import as_beside
from maao.baselines.labelled import LabelledBaseline
from maao.baselines.task import load_task
from maao.config import CHEAP, Config
from maao.errors import ConfigError, MaaoError
from maao.evaluation.beside import Beside, Compared
from maao.progress import tracked

USUAL = (*CHEAP, "knn")


def listed(config: Config, names: Sequence[str] = USUAL, *, test: bool = False, watch: Callable[[Beside], None] | None = None) -> Compared:
    """Return how baselines do on the data of a config, each with and without class names where it can take them.

    By default every label is read by what learnt from the other labels (five folds), and `test` is not touched: a number that one looks at
    before choosing how to tune must not be one of `test`.

    Args:
        names: which; those that tune weights (`lora`, `setfit`) take five times their time without `test`.
        test: learn from all labels and read `test` instead.
        watch: told each baseline as it is read.

    Raises:
        ConfigError: the config is of a function, or a name is of none that learns from labels.
    """
    made = [(name, baseline) for name in names for baseline in _variants(name)]
    task = load_task(config)
    found, left_out = list[Beside](), list[str]()
    for name, baseline in tracked(made, "reading baselines", len(made), "baselines"):
        try:
            read = baseline.on_test(task) if test else baseline.out_of_fold(task)
        except MaaoError as error:  # one that cannot be read so is told, and the others are read
            left_out.append(f"{name}: {str(error).rstrip('.')}")
            continue
        found.append(as_beside(name, baseline, read)[0])
        if watch is not None:
            watch(found[-1])
    return Compared(tuple(found), None, tuple(dict.fromkeys(left_out)), task.tokens)


def _variants(name: str) -> list[LabelledBaseline]:
    """Return a baseline by its name, and with class names too where it can take them."""
    try:
        kind = choices.load("baseline", name)
    except choices.UnknownName as error:
        raise ConfigError(f"{name}: {error}.") from error
    if not issubclass(kind, LabelledBaseline):
        raise ConfigError(f"'{name}' is an arm of `maao compare` alone: it does not learn from a config's labels as they are.")
    names = ({}, {"class_names": True}) if "class_names" in kind.model_fields else ({},)
    return [kind.model_validate(settings) for settings in names]

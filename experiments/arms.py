"""Arms of the tables here that are no run of `maao`, and no baseline that others would use."""

from __future__ import annotations

from pathlib import Path

from maao.baselines.outcome import Outcome, figures, spent
from maao.build import build
from maao.config import Config
from maao.errors import ConfigError
from maao.options import Chosen, Section
from maao.problems.kinds import matcher_options
from maao.problems.probe_options import ZeroShotOptions


class ZeroShotWordings(Section):
    """Read the classes of a dual encoder in each of the config's wordings, alone; the best on `select` is read on `test`."""

    def run(self, config: Config, folder: Path) -> Outcome:
        wordings = matcher_options(config.model).wordings or []
        if not wordings:
            raise ConfigError("The arm 'zero-shot-wordings' needs model.wordings, the prompts that it chooses from.")
        tried = []
        for wording in wordings:
            model = config.model.with_kind(wordings=[wording]).model_copy(update={"method": Chosen("zero_shot", ZeroShotOptions())})
            problem = build(config.model_copy(update={"model": model})).problem
            params = problem.initial(0)
            tried.append((problem.score([params], "select")[0], wording, problem, params))
        select, wording, problem, params = min(tried, key=lambda one: one[0].loss)
        test = problem.score([params], "test")[0]
        cost = sum((one[0].cost for one in tried), test.cost)
        return {"select": figures(select), "test": figures(test), "words": wording, "cost": spent(cost)}

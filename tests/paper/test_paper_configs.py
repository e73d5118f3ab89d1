"""What of the paper stands in `experiments/paper` alone: the release's defects as plugins of a config, and its tables on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from experiments.paper import released
from maao.build_text import build_language
from maao.compare import Row, cells, read_table
from maao.compare.rows import run_cell
from maao.config import make_config, read_config, stored_config
from maao.errors import ConfigError
from tests.api.fixtures import llama, model_folder  # noqa: F401  (fixtures)
from tests.api.small_runs import REPLIES, write_data
from tests.tiny import tiny_model, tiny_splits

HERE = Path(released.__file__).parent
RELEASED = f"{HERE}/released.py:Released"


def language(architecture, **model):
    config = make_config({"model": {"template": "{text} {slots}", **model}})
    return build_language(config, tiny_splits(), tiny_model(architecture))


def test_text_can_be_embedded_twice_as_in_the_release():
    twice = language("roberta", codec=RELEASED, embed_twice=True)[0]
    once = language("roberta")[0]
    start = once.initial(0)
    assert once.score([start], "select")[0].loss == pytest.approx(1.1010037660598755, rel=1e-6)
    assert twice.score([start], "select")[0].loss == pytest.approx(1.1016632318496704, rel=1e-6)
    with pytest.raises(ConfigError, match=r"embed_twice.*of kind 'decoder'"):
        language("llama", codec=RELEASED, embed_twice=True)


@pytest.mark.parametrize("defect", ["least_similar", "narrow_vocabulary", "joined_by_spaces", "special_tokens"])
def test_each_defect_is_a_setting_of_the_codec(defect):
    problem, _ = language("roberta", codec=RELEASED, **{defect: True})
    plain, _ = language("roberta")
    start = plain.initial(0)
    assert torch.equal(problem.initial(0)["prompt"], start["prompt"])  # a run begins as ever
    if defect == "special_tokens":
        assert problem.codec.encode("music team").text != plain.codec.encode("music team").text
    elif defect == "least_similar":
        assert problem.codec.decode(start).text != plain.codec.decode(start).text


def test_a_defect_that_the_distance_does_not_have_is_refused():
    with pytest.raises(ConfigError, match="'l2' nothing is confused"):
        language("roberta", codec=RELEASED, least_similar=True, distance="l2")


def test_a_config_names_the_file_as_it_lies_beside_it(tmp_path):
    (tmp_path / "released.py").write_text((HERE / "released.py").read_text(encoding="utf-8"), encoding="utf-8")
    file = tmp_path / "run.toml"
    file.write_text('[model]\ncodec = "released.py:Released"\nleast_similar = true\n')
    config = read_config(file)
    codec = config.model.kind.options.codec
    assert codec.name == f"{tmp_path}/released.py:Released" and codec.options.least_similar
    assert stored_config(json.loads(config.model_dump_json()), file).model == config.model
    file.write_text('[model]\ncodec = "released.py:Released"\nleast_similer = true\n')
    with pytest.raises(ConfigError, match=r"unknown key 'model\.least_similer'. Did you mean 'model\.least_similar'"):
        read_config(file)


CELLS = [("starts", "perturbed 1"), ("distance", "l2"), ("wordings", "released"), ("methods", "P-tuning with a mentor")]


@pytest.mark.parametrize(("table", "arm"), CELLS)
def test_a_cell_of_the_papers_tables_runs_on_a_tiny_model(llama, tmp_path, table, arm):  # noqa: F811
    data = write_data(tmp_path)
    settings = tmp_path / "tiny.toml"
    lines = [
        "seeds = [0]",
        "[base]",
        f'"model.name" = "{llama}"',
        '"model.num_virtual_tokens" = 4',
        '"stage.batch_size" = 8',
        '"plan.steps" = 4',
        '"plan.store_every" = 2',
        '"plan.proposals" = 2',
        '"accept.rule" = "race"',
        '"accept.steps" = 2',
        '"mentor.name" = "none"',
        '"mentor.chat.provider" = "scripted"',
        f'"mentor.chat.replies" = {json.dumps(REPLIES)}',
        "[models.tiny]",
        "[tasks.tiny]",
        *(f'"data.{name}" = "{path}"' for name, path in data.items()),
    ]
    settings.write_text("\n".join(lines) + "\n")
    found = [cell for cell in cells(read_table(HERE / "tables" / f"{table}.toml", settings), HERE / "tables") if cell.arm == arm]
    row = Row.model_validate(run_cell(found[0], tmp_path / "run"))
    assert row.key == (arm, "tiny", "tiny", 0) and row.test is not None and row.cost["gradient_steps"] > 0

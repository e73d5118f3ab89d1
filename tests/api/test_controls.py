"""Controls in whole runs: each is resumed and replayed as any mentor is."""

from __future__ import annotations

import pytest

import maao
from maao.errors import ConfigError
from tests.api.small_runs import config, digests, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


CONTROLS = {
    "soft input": {"mentor__name": "soft_input", "mentor__max_tokens": 8},
    "reset": {"mentor__name": "reset", "accept__rule": "always_first"},
    "no gradient": {"stage__kind": "cma_es", "stage__population": 4, "stage__dim": 4, "mentor__name": "random_restart"},
}


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_is_repeated_bit_for_bit(llama, data, tmp_path, name):
    made = config(llama, data, plan__first="walk", **CONTROLS[name])
    result = maao.run(made, tmp_path / "run")
    assert digests(maao.run(made, tmp_path / "again")) == digests(result)
    again = maao.replay(tmp_path / "run")
    assert again.equal and again.llm_calls == 0


def test_soft_input_counts_what_it_reads_and_writes(llama, data, tmp_path):
    result = maao.run(config(llama, data, plan__first="walk", **CONTROLS["soft input"]), tmp_path / "run")
    advice = next(r.advice for r in result.history if r.leg.ask)
    assert advice.cost.llm_calls > 0 and advice.cost.output_tokens > 0 and advice.cost.input_tokens > advice.cost.output_tokens
    assert advice.proposals or advice.rejected


def test_soft_input_needs_a_decoder(model_folder, data, tmp_path):
    with pytest.raises(ConfigError, match="needs a decoder"):
        maao.run(config(model_folder("bert"), data, **CONTROLS["soft input"]), tmp_path / "run")


def test_settings_that_the_other_kind_of_stage_reads_are_refused(llama, data, tmp_path):
    with pytest.raises(ConfigError, match=r"'stage\.optimizer' would be ignored"):
        maao.run(config(llama, data, stage__kind="cma_es", stage__optimizer="SGD"), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"'stage\.population' would be ignored"):
        maao.run(config(llama, data, stage__population=6), tmp_path / "run")

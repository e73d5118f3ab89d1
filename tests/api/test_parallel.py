"""Two processes that share every batch walk as one does: its losses, its params, and what stands beside them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import maao
from maao.config import make_config
from maao.errors import ConfigError
from maao.problems.shares import Share, sharing
from tests.api.small_runs import values, write_config, write_data
from tests.conformance.parts import soft_prompt_problem


def test_two_processes_walk_as_one_does(llama, tmp_path):
    pytest.importorskip("accelerate")
    config = write_config(tmp_path, values(llama, write_data(tmp_path)))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", "-m", "--"]
    command += ["maao.cli", "tune", config, "--run", tmp_path / "two"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    one, two = maao.run(maao.read_config(str(config)), tmp_path / "one"), maao.load(tmp_path / "two")
    assert done.stdout.count("Final parameters") == 1 and two.environment["processes"] == 2 and "processes" not in one.environment
    assert [len(finished.observations) for finished in one.history] == [len(finished.observations) for finished in two.history]
    for first, second in zip(one.history, two.history, strict=True):
        assert second.score.loss == pytest.approx(first.score.loss, rel=1e-5)
        for name, value in first.state.params.items():
            assert torch.allclose(second.state.params[name], value, atol=1e-5)
    assert two.cost == replace(one.cost, seconds=two.cost.seconds)


@pytest.mark.parametrize("count", [2, 3, 40])
def test_shares_of_a_batch_sum_up_to_its_loss_and_gradient(count):
    """Also where there are more processes than examples."""
    problem = soft_prompt_problem("llama", "{slots} {text} topic:")
    batch = problem.batch(0, 0)
    params = {name: value.requires_grad_() for name, value in problem.initial(0).items()}

    def walked(loss):
        return loss.detach(), torch.autograd.grad(loss, list(params.values()))

    loss, gradients = walked(problem.loss(params, batch))
    told: list[torch.Tensor] = []
    for rank in range(count):  # each tells what it has, and reads what all of them would have said
        with sharing(Share(rank, count, lambda own: told.append(own) or own)):
            problem.loss(params, batch)
    total = torch.stack(told).sum(0)
    with sharing(Share(0, count, lambda own: total)):
        shared, found = walked(problem.loss(params, batch))
    assert shared == pytest.approx(float(loss), rel=1e-6)
    for own, one in zip(found, gradients, strict=True):
        assert torch.allclose(own, one, atol=1e-6)


def test_what_reads_kept_features_is_refused_by_several_processes(monkeypatch):
    from maao import parallel

    class Two:
        share = Share(0, 2, lambda own: own)

    monkeypatch.setattr(parallel, "_led", [Two()])
    with pytest.raises(ConfigError, match="features that are computed once has nothing to share: start it as one process"):
        parallel.begin_together(SimpleNamespace(config=make_config({"model": {"kind": "matcher"}}), splits=object()), None)

"""How threads wait: what a process of maao sets before torch is there, and what is done in one thread."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from maao.problems.scorers.head_starts import logistic_regression
from maao.threads import ASLEEP, OWN, one_blas_thread, one_thread, sleep, wait_asleep

threadpoolctl = pytest.importorskip("threadpoolctl")


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}


def test_what_the_user_says_of_waiting_stands():
    for name in OWN:
        environment = {name: "1"}
        wait_asleep(environment, late=False)
        assert environment == {name: "1"} and not sleep(environment)


def test_nothing_is_set_where_torch_was_there_before():
    environment: dict[str, str] = {}
    wait_asleep(environment, late=True)
    assert environment == {} and not sleep(environment)
    wait_asleep(environment, late=False)
    assert environment == ASLEEP and sleep(environment)


@pytest.mark.skipif(sys.platform != "linux", reason="it is GNU's OpenMP that tells its settings so")
@pytest.mark.parametrize(("own", "asks"), [({}, ASLEEP["GOMP_SPINCOUNT"]), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_openmp_finds_it_where_maao_is_imported_before_torch(own, asks):
    bare = {name: value for name, value in os.environ.items() if name not in OWN}
    environment = {**bare, **own, "OMP_DISPLAY_ENV": "verbose"}
    done = subprocess.run([sys.executable, "-c", "import maao, torch"], env=environment, capture_output=True, text=True, check=True)
    assert f"GOMP_SPINCOUNT = '{asks}'" in done.stderr


def test_products_of_numpy_have_one_thread_within_and_as_many_as_before_after_it():
    import scipy.linalg  # noqa: F401

    with threadpoolctl.threadpool_limits(3, "blas"):
        with one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == {3}
        with one_thread():
            assert blas_threads() == {1} and torch.get_num_threads() == 1
        assert blas_threads() == {3}


def test_logistic_regression_does_not_depend_on_the_machines_threads(monkeypatch):
    from sklearn.linear_model import LogisticRegression

    found, fit = list[set[int]](), LogisticRegression.fit
    monkeypatch.setattr(LogisticRegression, "fit", lambda self, *of, **how: (found.append(blas_threads()), fit(self, *of, **how))[1])
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(12, 4)))
    with threadpoolctl.threadpool_limits(2, "blas"):
        logistic_regression(features, torch.arange(12) % 2, 2)
    assert found and all(threads == {1} for threads in found)

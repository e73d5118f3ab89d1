"""A part of `make fuzz`: of any input only errors of ours come out, and no input takes more time than in proportion to its size."""

from __future__ import annotations

import pytest

from maao.errors import MaaoError
from tests.fuzz import running, targets

pytestmark = pytest.mark.trust

COUNT = 500
SHORT, SMALL = 0.003, 2**15  # seconds that are measured, and the largest input: a square shows there already


@pytest.fixture(scope="module", autouse=True)
def _clean():
    yield
    targets.clean()


@pytest.mark.parametrize("name", targets.MAKERS)
def test_of_any_input_only_errors_of_ours_come_out(name):
    number, found = running.run(targets.target(name), COUNT)
    assert number >= COUNT
    assert not found, "\n".join(f"{one.told}\n  {one.input[:1000]}" for one in found)


@pytest.mark.parametrize("name", targets.MAKERS)
def test_what_escaped_once_does_so_no_more(name):
    target = targets.target(name)
    for one in target.kept:
        assert running.tried(target, one) is None


@pytest.mark.parametrize("name", targets.MAKERS)
def test_no_input_takes_more_time_than_in_proportion_to_its_size(name):
    target = targets.target(name)
    for family, make in target.growing.items():
        assert running.grows_in_proportion(target, make, SHORT, SMALL), family


def test_a_target_that_takes_its_input_squared_is_found_out(monkeypatch):
    target = running.Target("any", "", targets.damaged([b"x"]), len)
    for power, in_proportion in ((1.0, True), (2.0, False)):
        monkeypatch.setattr(running, "_seconds", lambda _, data, power=power: 1e-6 * len(data) ** power)
        assert running.grows_in_proportion(target, bytes, SHORT, SMALL) == in_proportion


def test_what_escapes_is_counted_by_kind_with_its_smallest_input():
    def read(data: bytes) -> object:
        if len(data) % 2:
            raise KeyError("odd")
        if data.startswith(b"zz"):
            raise MaaoError("ours")
        raise ValueError("even")

    number, found = running.run(running.Target("bad", "", targets.damaged([b"zzzz", b"abcde"]), read), 50)
    assert {one.told.partition(" ")[0] for one in found} == {"KeyError", "ValueError"}
    assert sum(one.count for one in found) <= number
    assert min(len(one.input) for one in found) <= len("b''")

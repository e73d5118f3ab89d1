"""Makes `sample_runs` importable by the tests beside it."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from sample_runs import NumpySerializer

from maao.store.run import RunFolder


@pytest.fixture
def serializer():
    return NumpySerializer()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "first"


@pytest.fixture
def run(folder, serializer):
    """A new run, open for writing."""
    with RunFolder.create(folder, config={"seed": 1}, environment={"python": "3"}, serializer=serializer) as run:
        yield run

"""Every task, through the suite that is shipped to authors. A new task joins by one row: its name, and rows as they are published."""

from __future__ import annotations

import pytest

from maao import choices
from maao.testing import TaskConformance
from tests.data.test_superglue import MULTIRC, PLAIN, RECORD

ROWS = {
    **{name: (row,) for name, row in PLAIN.items()},
    "multirc": (MULTIRC,),
    "record": (RECORD,),
}


def test_every_task_of_the_table_has_its_row():
    assert set(choices.CHOICES["task"]) == set(ROWS)


class TestTaskConformance(TaskConformance):
    @pytest.fixture(params=ROWS)
    def task(self, request):
        return request.param

    @pytest.fixture
    def rows(self, task):
        return ROWS[task]

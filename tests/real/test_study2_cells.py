"""Twenty cells of the second study, run anew from the replies on record: they are the rows that are kept, and no call is made."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from experiments.few_labels.read_out import CELL, RESULTS, cells
from experiments.study2 import data, read_out
from maao.compare import compare

STUDY = Path(data.__file__).parent
SOME = ("_strong_TREC_", "_no-mentor_TREC_", "_strong_docstrings_", "_edits--no-margin_docstrings_")  # five seeds each, 2 labels a class


@pytest.mark.real
def test_cells_of_the_study_are_those_that_are_kept(tmp_path: Path) -> None:
    if "MAAO_DATA" not in os.environ:
        pytest.skip("MAAO_DATA is not set: the cells read the data folder")
    folder = tmp_path / "experiments" / "study2"  # its tables as they stand, and nothing that was run before
    folder.mkdir(parents=True)
    for file in (*STUDY.glob("*.toml"), STUDY / "unlike.py"):
        shutil.copy(file, folder)
    shutil.copytree(STUDY.parent / "mentors", tmp_path / "experiments" / "mentors")
    data.make(folder / "data")
    compare(folder / "labels-2.toml", folder / "out" / "labels-2", workers=1, only=SOME)
    found = cells(folder / "out", read_out.asked)
    assert len(found) == 20
    kept = pd.read_csv(RESULTS / "study2.csv").merge(found[CELL])
    both = kept.merge(found, on=CELL, suffixes=("", "_now"))
    assert len(both) == 20
    assert list(both.accuracy_now) == pytest.approx(list(both.accuracy), abs=1e-4)
    assert list(both.loss_now) == pytest.approx(list(both.loss), abs=1e-4)
    assert set(found.calls) <= {0, 1}  # what a run was answered counts as a call, whoever answered

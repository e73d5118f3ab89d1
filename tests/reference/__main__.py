"""``python -m tests.reference OUT.json [NAME ...]``: make the reference runs and write what each came to.

Run it with the source of one commit, then of another (``PYTHONPATH=.../src``), on one machine, and compare the files: where nothing that
is computed has changed they are equal, times apart. Hashes depend on the machine, so none are kept in the repository.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from tests.reference import assets
from tests.reference.outcome import outcome
from tests.reference.runs import runs


def main(out: Path, names: Sequence[str]) -> None:
    torch.set_num_threads(1)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        assets.make(Path(folder))
        os.environ.setdefault("MAAO_CACHE", f"{folder}/cache")
        for name, settings in runs(Path(folder)).items():
            if names and name not in names:
                continue
            began = time.perf_counter()
            found[name] = outcome(settings, Path(folder) / "runs" / name)
            print(f"{name:28} {time.perf_counter() - began:6.1f} s  {found[name]['params']}", flush=True)
            out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

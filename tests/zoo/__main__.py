"""`python -m tests.zoo`: examine every case in two processes, go on where a run before was stopped, and say what was found.

`python -m tests.zoo decoder:llama masked:bert` examines these cases anew and shows all of what is found; `--quick` tries
fewer templates of each, and leaves the page as it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from tests.zoo.cases import Case, checked_cases
from tests.zoo.checks import Report, examine
from tests.zoo.page import PAGE, write_page
from tests.zoo.results import digest, faults, load, save, summary

WORKERS = 2


def worker(part: int, quick: bool) -> None:
    """Examine every `WORKERS`-th case that is not known yet."""
    import traceback

    import torch

    torch.set_num_threads(1)
    key = digest(quick)
    known = load(key)
    for case in [case for case in checked_cases() if str(case) not in known][part::WORKERS]:
        began = time.monotonic()
        try:
            report = examine(case, quick=quick)
        except Exception:
            report = Report(str(case), "crashed", crashed={"tiny model": traceback.format_exc(limit=-6)})
        save(key, part, report)
        print(f"{time.monotonic() - began:5.1f} s  {report.outcome:8s} {case}", flush=True)


def main(names: list[str]) -> int:
    if names[:1] == ["--worker"]:
        worker(int(names[1]), "--quick" in names)
        return 0
    quick = names == ["--quick"]
    if names and not quick:
        reports = [examine(Case(*name.split(":"))) for name in names]
        for report in reports:
            print(report)
        print(summary(reports))
        return int(any(map(faults, reports)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen([sys.executable, "-m", "tests.zoo", "--worker", str(part), *names], env=environment) for part in range(WORKERS)
    ]
    ended = [process.wait() for process in running]
    found = load(digest(quick))
    print(summary(list(found.values())))
    missing = [str(case) for case in checked_cases() if str(case) not in found]
    if missing:
        print(f"not examined: {', '.join(missing)}")
    if missing or any(ended) or any(map(faults, found.values())):
        return 1
    if not quick:
        write_page(found)
        print(f"written: {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

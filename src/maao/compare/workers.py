"""Run the cells of a table by several processes, here or on a cluster.

Every cell is a run of its own in ``OUT/runs``; its row is a JSON file in ``OUT/rows``. A stopped comparison goes on where it stopped:
finished cells are not run again, and an unfinished one resumes without repeating a recorded call. What all cells spend together is written
down in ``OUT/spending.sqlite`` before each call, and held to the caps of the table's `[budget]`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from maao.compare.page import SPENDING, read_out, waiting_in
from maao.compare.rows import Tune, check_row, read_row, run_cell
from maao.compare.table import Cell, Table, cells, is_among, read_table, texts_in
from maao.compare.walked import walked_on_test
from maao.config import Config
from maao.errors import ConfigError, MaaoError, StoreError, Waiting
from maao.llm.budget import spending_from
from maao.llm.secrets import without_secret_variables, without_secrets
from maao.runner import given_digest, was_given
from maao.store.attempts import Spending
from maao.store.database import DATABASE
from maao.store.files import write_text_durably
from maao.waiting import RECORD, RUNS, how_to_go_on, read_waits, reading_record

WORKER_GIB = 6.0  # what a worker may take: a small model, its activations, and the texts that it keeps for the next run


def compare(
    path: str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    only: str | Sequence[str] = (),
    watch: Callable[[int, int, float], None] | None = None,
    ray: bool = False,
    beside: str | Path | None = None,
) -> Path:
    """Run all cells of a table that have no row yet, and read the table out. Return the page.

    Args:
        beside: another file with the sections that the table lacks: see `read_table`.
        workers: processes at a time; by default as many as processors, and as memory allows.
        only: run only cells whose name holds this text, or one of these.
        ray: run the workers as tasks of a Ray cluster (the one that `RAY_ADDRESS` names, or one on this machine) whose machines all see
            the table, the data and `out` at the same paths. Needs the extra ``maao[ray]``.
        watch: told ``(cells done, cells in all, seconds since the start)`` now and then.

    Raises:
        ConfigError: the table cannot be used.
        MaaoError: a cell failed; the others have been run, and the error tells the first failure.
        Waiting: no cell failed, and some wait for replies; the others have been run, and the page is written.
    """
    table = read_table(path, beside)
    place = Path(out)
    wanted = [cell for cell in cells(table, Path(path).parent) if is_among(cell, only)]
    if not wanted:
        raise ConfigError(f"No cell of {path} has a name that holds {_told(only)}.")
    _check_prices(table, wanted)
    (place / "rows").mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    count = workers or default_workers()
    failed = ""
    missing = [cell for cell in wanted if not _is_done(place, cell, table)]
    if missing:
        command = [sys.executable, "-m", "maao.compare", str(Path(path).resolve()), str(place.resolve()), json.dumps(texts_in(only))]
        command += [] if beside is None else [str(Path(beside).resolve())]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        start = _ray_start() if ray else LocalWorker
        processes = [start(command, environment) for _ in range(min(count, len(missing)))]
        left = [_row_file(place, cell) for cell in missing]  # what is there is not looked for again
        try:
            while any(process.poll() is None for process in processes):
                if watch is not None:
                    left = [file for file in left if not file.exists()]
                    watch(len(wanted) - len(left), len(wanted), time.monotonic() - began)
                time.sleep(0.2)
        finally:
            for process in processes:
                process.terminate()
        failed = next(filter(None, map(_failure, processes)), "")
        if not failed and any(process.returncode for process in processes) and not all(_row_file(place, cell).exists() for cell in missing):
            codes = ", ".join(str(process.returncode) for process in processes if process.returncode)
            failed = f"a worker was ended before it was done (exit code {codes}; -9: killed, as where memory runs out). Start it again."
    page = read_out(table, place, sum(1 for _ in cells(table, Path(path).parent)))
    waiting = waiting_in(place, [cell.name for cell in wanted])
    if failed:
        told = f" {waiting.told(len(wanted))}" if waiting.cells else ""
        raise MaaoError(f"Some cells failed; the others are in {page}.{told} The first failure: {failed.splitlines()[-1]}")
    if waiting.cells:
        told = f"{waiting.told(len(wanted))} Go on with:"
        raise Waiting(f"{told}\n{how_to_go_on(place, 'and the same command again')}", waiting.replies)
    if watch is not None:
        watch(len(wanted), len(wanted), time.monotonic() - began)
    return page


def _failure(process: Worker) -> str:
    """Wait for a worker; return what it told of a failure."""
    told = (process.communicate()[1] or "").strip()
    return told if process.returncode else ""


def _check_prices(table: Table, wanted: Sequence[Cell]) -> None:
    """Refuse a cap on money that could not be kept, before anything is begun."""
    if table.budget.usd is None:
        return
    for cell in wanted:
        mentor, tuned = cell.config.mentor.options, cell.config.model.speaker
        for chat in mentor.chats if isinstance(cell.how.options, Tune) else ():
            name = chat.model_name(tuned)
            if chat.price(name) is None:
                raise ConfigError(
                    f"The comparison's cap of ${table.budget.usd:g} cannot be kept: the price of {name!r} is not known (arm {cell.arm!r}). "
                    "Set mentor.chat.usd_per_million_input and usd_per_million_output, or cap llm_calls or llm_tokens instead."
                )


class Worker(Protocol):
    """A process that works on cells, here or elsewhere."""

    @property
    def returncode(self) -> int | None: ...

    def poll(self) -> int | None: ...

    def terminate(self) -> None: ...

    def communicate(self) -> tuple[str | None, str | None]:
        """Wait for its end; return what it printed, and what it printed as errors."""
        ...


class LocalWorker:
    """A process on this machine. What it prints as errors goes to a file: nobody reads a pipe while it works, and a full one stops it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._told = tempfile.TemporaryFile()  # noqa: SIM115  # closed when it is read
        self._process = subprocess.Popen(command, env=dict(environment), stdout=subprocess.DEVNULL, stderr=self._told)

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def poll(self) -> int | None:
        return self._process.poll()

    def terminate(self) -> None:
        self._process.terminate()

    def communicate(self) -> tuple[str | None, str | None]:
        self._process.wait()
        with self._told:
            self._told.seek(0)
            return None, self._told.read().decode("utf-8", "replace")


def _ray_start() -> Callable[[Sequence[str], Mapping[str, str]], Worker]:
    """Return what starts a worker as a task of a Ray cluster. No key travels: Ray keeps, and may write down, what a task is given."""
    try:
        import ray
    except ImportError as error:
        raise ConfigError('Comparing on a cluster needs Ray: pip install "maao[ray]".') from error
    if not ray.is_initialized():
        ray.init(address=os.environ.get("RAY_ADDRESS"), log_to_driver=False, include_dashboard=False)

    def run(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
        held = {**os.environ, **environment}  # keys are those of the machine that it runs on
        done = subprocess.run(command, env=held, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        return done.returncode, done.stderr

    task = ray.remote(num_cpus=1, max_retries=0)(run)

    class RayWorker:
        def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
            self._task = task.remote(list(command), without_secret_variables(environment))
            self.returncode: int | None = None
            self._told = ""

        def poll(self) -> int | None:
            if self.returncode is None and ray.wait([self._task], timeout=0)[0]:
                try:
                    self.returncode, self._told = ray.get(self._task)
                except ray.exceptions.RayError as error:  # a machine is gone, or it was cancelled
                    self.returncode, self._told = 1, str(error)
            return self.returncode

        def terminate(self) -> None:
            if self.poll() is None:
                ray.cancel(self._task, force=True)

        def communicate(self) -> tuple[str | None, str | None]:
            while self.poll() is None:
                time.sleep(0.05)
            return None, self._told

    return RayWorker


def default_workers() -> int:
    """Return as many workers as there are processors, or fewer where memory is short."""
    count = os.cpu_count() or 1
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 2**20
    except (OSError, StopIteration, ValueError):
        return count
    return max(1, min(count, int(free / WORKER_GIB)))


def _told(only: str | Sequence[str]) -> str:
    return " or ".join(map(repr, texts_in(only)))


def work(table: Table, folder: Path, place: Path, only: Sequence[str]) -> str:
    """Run cells that nobody else is at until none is left; return the first failure, if there was one."""
    failed, parent = "", os.getppid()
    for cell in cells(table, folder):
        if os.getppid() != parent:  # whoever started this is gone: the next one who does begins here
            break
        if not is_among(cell, only) or _is_done(place, cell, table):
            continue
        lock = FileLock(place / "rows" / f".{cell.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        try:
            if not _is_done(place, cell, table):  # it may have been finished meanwhile
                run = place / RUNS / cell.name
                asked = replace(cell, config=_as_begun(run, cell.config, place.resolve() / RECORD))
                if _still_waits(run, asked.config):
                    continue
                with spending_from(Spending(place.resolve() / SPENDING, cell.name), table.budget.caps):
                    row = run_cell(asked, run)
                _write_row(place, cell, row)
                if _asks_for_walked(table, cell):  # once the row is there: what candidates are worth on test may fail, and costs no result
                    _write_row(place, cell, {**row, "walked": _walked(run)})
                if not table.keep_runs:
                    shutil.rmtree(run, ignore_errors=True)
        except Waiting:
            continue  # its run says what it waits for
        except MaaoError as error:
            failed = failed or without_secrets(f"{cell.name}: {error}")
        except Exception as error:  # anything may happen in an arm of one's own: the other cells are run all the same
            print(without_secrets(traceback.format_exc()), file=sys.stderr)
            failed = failed or without_secrets(f"{cell.name}: {type(error).__name__}: {' '.join(str(error).split())}")
        finally:
            lock.release()
    return failed


def _as_begun(run: Path, config: Config, record: Path) -> Config:
    """Return a cell's config as its run was begun with it: one of an older maao named the comparison's record itself."""
    named = reading_record(config, record)
    return named if (run / DATABASE).is_file() and was_given(run) == given_digest(named) else config


def _still_waits(run: Path, config: Config) -> bool:
    """Return whether a cell's run stopped to wait, and what it waits for is not there yet: to build it again would be for nothing.

    Raises:
        StoreError: it waits for what the table's settings of today would not ask.
    """
    if not (run / DATABASE).is_file() or not (waits := read_waits(run)).stopped:
        return False
    if was_given(run) != given_digest(config):
        raise StoreError(
            f"the run {run} waits, and was begun with other settings than the table has now. Remove that folder to begin it anew (replies "
            "on record stay), or give the table its settings back."
        )
    return bool(waits.awaited)


def _row_file(place: Path, cell: Cell) -> Path:
    return place / "rows" / f"{cell.name}.json"


def _write_row(place: Path, cell: Cell, row: Mapping[str, object]) -> None:
    check_row(row, cell.how.name)
    write_text_durably(_row_file(place, cell), json.dumps(row, indent=1, ensure_ascii=False) + "\n")


def _is_done(place: Path, cell: Cell, table: Table) -> bool:
    """Return whether a cell has its row, whole. Raises `StoreError` where the file of that name holds another cell's, or is damaged.

    A row from before the table asked for its candidates on `test` is made whole from its run folder; where that is gone it stays as it is.
    """
    file = _row_file(place, cell)
    if not file.exists():
        return False
    row = read_row(file)
    held, own = row.key, cell.key
    if held != own:
        raise StoreError(
            f"{file} holds the row of arm {held[0]!r}, task {held[2]!r}, and the table's arm {own[0]!r}, task {own[2]!r} would share that "
            "file. Give the arm or the task its old name back, or choose another --out."
        )
    return not _asks_for_walked(table, cell) or "walked" in row.model_fields_set or not (place / RUNS / cell.name / DATABASE).is_file()


def _asks_for_walked(table: Table, cell: Cell) -> bool:
    """Return whether a cell's row is to hold its candidates on `test`: of a run of maao it may."""
    return table.walked_on_test and isinstance(cell.how.options, Tune)


def _walked(run: Path) -> dict[str, object] | None:
    """Return what a row holds of a run's candidates on `test`."""
    found = walked_on_test(run)
    return None if found is None else found.model_dump()

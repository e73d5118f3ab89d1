"""A trial: a scenario is begun, killed at a random moment, looked at, gone on with, and compared with what nothing stopped."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from maao.llm.budget import Attempt, Meter
from tests.kill.scenarios import Scenario, Seen, look
from tests.kill.server import SECONDS, Provider
from tests.store.dies_at import Events

MODES = ("any moment", "a call is open", "a file is written")
LATE = 0.002  # seconds behind a statement within which what it does to the disk goes on


@dataclass(frozen=True)
class Whole:
    """A scenario that nothing stopped: what it ended with, how long it took, how many events and calls a process of it had at most."""

    seen: Seen
    seconds: float
    events: int
    calls: int
    modules: list[str]


@dataclass(frozen=True)
class Trial:
    """What came of one kill. `at` is what the process was at; `wrong` says what is not as it should be."""

    scenario: str
    at: str
    wrong: str = ""


class Reports:
    """A file that processes of a trial write a line to before they are killed, and as they end."""

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def say(self, what: str, value: object) -> None:
        os.write(self._descriptor, (json.dumps([what, value]) + "\n").encode())


def said(file: Path, what: str) -> list[object]:
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    return [value for name, value in lines if name == what]


def start(act: Callable[[], None], log: Path) -> int:
    """Act in a fork, a session of its own; what it prints goes to a file."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.setsid()
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.environ["MAAO_CACHE"] = str(log.parent / "cache")
        act()
        code = 0
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
        sys.__stderr__.flush()  # type: ignore[union-attr]
    finally:
        os._exit(code)


def end(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def watched(scenario: Scenario, folder: Path, mode: str, moment: int, seed: int) -> Callable[[], None]:
    """Return the scenario as a process does it that dies at the n-th event of its kind; at none (0) it counts them."""

    def act() -> None:
        reports, chance = Reports(folder / "reports"), random.Random(seed)

        def dying(what: str) -> None:
            reports.say("killed", what)

        late = LATE if chance.random() < 0.5 else 0.0
        events = Events(moment if mode == "a file is written" else 0, late=late, told=dying)
        events.follow_all()
        calls = Calls(moment if mode == "a call is open" else 0, chance.random() * SECONDS * 0.9, dying)
        leave = os._exit

        def leaving(code: int) -> None:
            reports.say("events", events.count)
            reports.say("calls", calls.count)
            if not mode:
                reports.say("modules", sorted(sys.modules))
            leave(code)

        os._exit = leaving  # type: ignore[assignment]  # also of the workers, which inherit it
        scenario.act(folder)

    return act


class Calls:
    """Counts the calls that a process opens, and kills it while one of them is open."""

    def __init__(self, die_at: int, late: float, told: Callable[[str], None]) -> None:
        self.count, self._open = 0, False
        begin, replied, ended = Meter.begin, Attempt.replied, Attempt.end

        def die() -> None:
            time.sleep(late)
            told("a call is open" if self._open else "behind a call")
            os.kill(os.getpid(), signal.SIGKILL)

        def beginning(meter: Meter, *arguments: object, **named: object) -> Attempt:
            found = begin(meter, *arguments, **named)  # type: ignore[arg-type]
            self.count, self._open = self.count + 1, True
            if self.count == die_at:
                threading.Thread(target=die).start()
            return found

        def closing(function: Callable[..., None]) -> Callable[..., None]:
            def close(*arguments: object) -> None:
                self._open = False
                function(*arguments)

            return close

        Meter.begin = beginning  # type: ignore[method-assign,assignment]
        Attempt.replied, Attempt.end = closing(replied), closing(ended)  # type: ignore[method-assign]


def whole(scenario: Scenario, folder: Path) -> Whole:
    folder.mkdir()
    began = time.monotonic()
    code = end(start(watched(scenario, folder, "", 0, 0), folder / "log"))
    seconds = time.monotonic() - began
    if code:
        raise RuntimeError(f"{scenario.name} failed: {(folder / 'log').read_text()[-3000:]}")
    counts = [max(map(int, said(folder / "reports", what))) for what in ("events", "calls")]  # type: ignore[call-overload]
    modules = {name for names in said(folder / "reports", "modules") for name in names}  # type: ignore[attr-defined]
    return Whole(look(folder), seconds, *counts, sorted(modules))


def trial(scenario: Scenario, expected: Whole, folder: Path, served: Provider, seed: int) -> Trial:
    """Make one trial in a new folder, which is removed where nothing is wrong. A kill that comes too late is tried again."""
    chance = random.Random(seed)
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        at = _kill(scenario, expected, folder, chance)
        if at:
            break
    else:
        raise RuntimeError(f"{scenario.name} could not be killed before it ended")
    try:
        before = look(folder)
        mark = len(served.answered())
        wrong = "" if before.is_part_of(expected.seen) else "what it left is no beginning of the whole"
        if not wrong and (code := end(start(lambda: scenario.act(folder), folder / "log"))):
            wrong = f"going on ended with {code}: {(folder / 'log').read_text()[-2000:]}"
        after = look(folder)
        if not wrong and after != expected.seen:
            wrong = f"another end: {_difference(after, expected.seen)}"
        recorded = {reply for replies in before.replies.values() for reply in replies}
        again = [text for text in served.answered()[mark:] if text in recorded]
        if not wrong and again:
            wrong = f"{len(again)} recorded calls were repeated"
    except Exception:
        wrong = traceback.format_exc()
    if not wrong:
        shutil.rmtree(folder)
    return Trial(scenario.name, at, wrong)


def _kill(scenario: Scenario, expected: Whole, folder: Path, chance: random.Random) -> str:
    """Begin, and kill at a random moment; return what it was at, "" where it ended before."""
    mode = chance.choice(MODES if scenario.calls else (MODES[0], MODES[2]))
    most = {MODES[1]: expected.calls, MODES[2]: expected.events}.get(mode, 0)
    moment = chance.randint(1, most) if most else 0
    process = start(watched(scenario, folder, mode, moment, chance.randrange(2**32)), folder / "log")
    if mode == MODES[0]:
        time.sleep(chance.random() * expected.seconds)
        victim = chance.choice([process, *(one for one in _children(process) if _session(one) == process)])
        lived = _session(victim) == process
        if lived:
            with suppress(ProcessLookupError):  # a worker ends, and is waited for, at this very moment
                os.kill(victim, signal.SIGKILL)
        end(process)
        _wait_for_session(process)
        return MODES[0] if lived else ""
    end(process)
    _wait_for_session(process)
    found = said(folder / "reports", "killed")
    return str(found[0]) if found else ""


def _children(process: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except (OSError, ValueError):
        return []


def _wait_for_session(leader: int) -> None:
    """Wait until the workers that a killed process left have ended: they finish the cell that they are at."""
    while any(_session(int(entry.name)) == leader for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        time.sleep(0.02)


def _session(process: int) -> int:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return 0 if state[0] == "Z" else int(state[3])
    except (OSError, IndexError):
        return 0


def _difference(found: Seen, wanted: Seen) -> str:
    return "; ".join(
        f"{name}: {getattr(found, name)} for {getattr(wanted, name)}"
        for name in ("rounds", "replies", "ends", "rows")
        if getattr(found, name) != getattr(wanted, name)
    )


@contextmanager
def in_memory() -> Iterator[Path]:
    """Return a folder on a disk in memory where there is one: what is killed is a process, and no machine."""
    import tempfile

    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="maao-kill-") as name:
        yield Path(name)

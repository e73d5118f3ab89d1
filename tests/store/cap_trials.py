"""Many processes against one cap, killed at random: ``python -m tests.store.cap_trials 100`` prints how often the cap held.

Each process makes small calls to a model that fails now and then, and that writes down by itself what was really sent to it. A trial
passes where the account says at least as much as was sent, and where what was sent is within the caps.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from maao.errors import BudgetError, ChatError
from maao.llm.budget import Caps, CountedOnce, Meter, worst_case_tokens
from maao.llm.chat import Message, Reply, Request, Usage
from maao.llm.ledger import Totals
from maao.llm.price import Price
from maao.store.attempts import Spending

PROCESSES = 4
PRICE = Price(1.0, 10.0)
WORST = worst_case_tokens(Request("m", (Message("user", "a call"),), max_tokens=40))
CALLS = 30
SENT = "sent"
MEMORY = Path("/dev/shm")  # a disk in memory: what is killed is a process, and no machine


@dataclass(frozen=True)
class Trial:
    """What one trial found: what was really sent, what the account says of it, and how many processes were killed."""

    caps: Caps
    sent: Totals
    said: Totals
    kills: int

    @property
    def held(self) -> bool:
        sent, said = self.sent, self.said
        told = sent.calls <= said.calls and sent.tokens <= said.tokens and sent.usd <= said.usd + 1e-12
        return told and not self.caps.refusal(sent, Totals())


class Sending:
    """A model that writes down each call as it reaches it, with what it will take; one in four brings no reply."""

    name, is_remote, price = "m", True, PRICE

    def __init__(self, file: Path, chance: random.Random) -> None:
        self._descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._chance = chance

    def complete(self, request: Request) -> Reply:
        read, written = self._chance.randint(1, WORST[0]), self._chance.randint(1, WORST[1])
        os.write(self._descriptor, f"{read} {written}\n".encode())  # one write: whole, or not at all
        time.sleep(self._chance.random() * 0.002)
        if self._chance.random() < 0.25:
            raise ChatError("the line broke")
        return Reply("x", Usage(read, written, PRICE.usd(read, written)))

    def close(self) -> None:
        os.close(self._descriptor)


def _work(folder: Path, caps: Caps, seed: int) -> None:
    model = Sending(folder / SENT, random.Random(seed))
    meter = Meter(price=PRICE, shared=[(Spending(folder / "spending.sqlite", str(seed)), caps)])
    asked = CountedOnce(model, meter)  # without the look beforehand: what writes an attempt down holds the cap alone
    for sample in range(CALLS):
        try:
            asked.complete(Request("m", (Message("user", "a call"),), max_tokens=40, sample=sample, seed=seed))
        except BudgetError:
            return
        except ChatError:
            continue


def _start(folder: Path, caps: Caps, seed: int) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        _work(folder, caps, seed)
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(code)


def trial(number: int) -> Trial:
    """Make one trial in a new folder."""
    chance = random.Random(number)
    most = chance.randint(5, 25)
    caps = [Caps(calls=most), Caps(tokens=most * sum(WORST)), Caps(usd=most * PRICE.usd(*WORST))][number % 3]
    kills = 0
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        folder = Path(name)
        running = {_start(folder, caps, 1000 * number + i) for i in range(PROCESSES)}
        begun = PROCESSES
        while running:
            time.sleep(chance.random() * 0.02)
            if kills < 6 and chance.random() < 0.7:
                os.kill(chance.choice(sorted(running)), signal.SIGKILL)  # not yet waited for: its number is still its own
            for child in sorted(running):
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    running.discard(child)
                    if os.WIFSIGNALED(status):
                        kills += 1
                        running.add(_start(folder, caps, 1000 * number + begun))
                        begun += 1
                    elif os.waitstatus_to_exitcode(status):
                        raise RuntimeError(f"trial {number}: a process failed")
        lines = [tuple(map(int, line.split())) for line in (folder / SENT).read_text().splitlines()]
        sent = sum((Totals(1, read, written, PRICE.usd(read, written)) for read, written in lines), Totals())
        return Trial(caps, sent, Spending(folder / "spending.sqlite").spent(), kills)


def main(count: int) -> int:
    began, found = time.monotonic(), []
    for number in range(count):
        found.append(trial(number))
        if not found[-1].held:
            print(f"trial {number}: {found[-1]}")
    held, kills = sum(one.held for one in found), sum(one.kills for one in found)
    print(f"caps held in {held} of {count} trials, {kills} kills, {time.monotonic() - began:.0f} s")
    return int(held < count)


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100))

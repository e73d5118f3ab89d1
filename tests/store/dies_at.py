"""How a process of a test counts the events that reach the disk, and dies at one of them."""

from __future__ import annotations

import builtins
import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WRITES = ("BEGIN IMMEDIATE", "COMMIT", "INSERT", "UPDATE", "DELETE")


class Events:
    """Events of this process: calls by which something reaches the disk, and the SQL statements of a run that `follow` names.

    Args:
        die_at: the event at which the process is killed, 0 for never.
        late: seconds behind the event within which it is killed, while what follows goes on: in the midst of a commit, say.
        told: called before the process is killed, with what it was at.
    """

    def __init__(self, die_at: int, *, late: float = 0.0, told: Callable[[str], object] = lambda what: None) -> None:
        self.count, self._die_at, self._late, self._told = 0, die_at, late, told
        os.fsync, os.replace = self._around(os.fsync), self._around(os.replace)

    def follow(self, run: Any) -> None:
        run._database._connection.set_trace_callback(self._happened)

    def follow_all(self) -> None:
        """Count the statements of every database that write, and each part of a file that is written as bytes: half a part is an event."""
        connect, opened = sqlite3.connect, builtins.open

        def connecting(*arguments: Any, **named: Any) -> sqlite3.Connection:
            made = connect(*arguments, **named)
            made.set_trace_callback(lambda statement: self._happened(statement) if statement.startswith(WRITES) else None)
            return made

        def opening(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
            stream = opened(file, mode, *arguments, **named)
            if mode in ("wb", "xb"):
                whole = stream.write

                def write(data: Any) -> int:
                    whole(data[: len(data) // 2])
                    stream.flush()
                    self._happened(f"half of {Path(file).suffix}")
                    return whole(data[len(data) // 2 :]) + len(data) // 2

                stream.write = write
            return stream

        sqlite3.connect, builtins.open = connecting, opening

    def _happened(self, what: object = "") -> None:
        self.count += 1
        if self.count == self._die_at:
            if self._late:
                threading.Thread(target=self._die, args=(str(what), random.random() * self._late)).start()
            else:
                self._die(str(what), 0)

    def _die(self, what: str, late: float) -> None:
        time.sleep(late)
        self._told(" ".join(what.split()[:3]))
        os.kill(os.getpid(), signal.SIGKILL)

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self._happened(function.__name__)
            result = function(*arguments)
            self._happened(function.__name__)
            return result

        return call

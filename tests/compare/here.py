"""A worker of a comparison that needs no start: a process of its own takes some seconds to begin, and other tests start them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence

from maao.compare.__main__ import main


class Here:
    """Does all of its work in this process, as it starts."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        assert list(command[1:3]) == ["-m", "maao.compare"]
        told = io.StringIO()
        with contextlib.redirect_stderr(told):
            self.returncode = main(command[3:])
        self._told = told.getvalue()

    def poll(self) -> int:
        return self.returncode

    def terminate(self) -> None: ...

    def communicate(self) -> tuple[None, str]:
        return None, self._told

"""How a process of a test counts the events that reach the disk, and dies at one of them."""

import os
import signal


class Events:
    """Events of this process: calls by which something reaches the disk, and the SQL statements of a run that `follow` names.

    Args:
        die_at: the event at which the process is killed, 0 for never.
    """

    def __init__(self, die_at: int) -> None:
        self.count, self._die_at = 0, die_at
        os.fsync, os.replace = self._around(os.fsync), self._around(os.replace)

    def follow(self, run) -> None:
        run._database._connection.set_trace_callback(self._happened)

    def _happened(self, *_: object) -> None:
        self.count += 1
        if self.count == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def _around(self, function):
        def call(*arguments):
            self._happened()
            result = function(*arguments)
            self._happened()
            return result

        return call

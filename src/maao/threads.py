"""How threads wait for one another, and work that is done in one thread.

A product that is shared among threads ends when the last of them ends. Meanwhile the others wait: by default they go on asking, and so keep
a processor for some milliseconds that the last one may need. Alone on a machine that is the quickest way. Beside another run it is the
slowest: two runs of 2 threads on 2 cores took six times as long as one. Threads that fall asleep soon leave their processor to whoever has
work. What is computed is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

ASLEEP = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}  # GNU's reads both: how often a thread asks before it sleeps
OWN = (*ASLEEP, "KMP_BLOCKTIME", "KMP_LIBRARY")  # who sets one of these has chosen how threads wait


def wait_asleep(environment: MutableMapping[str, str], late: bool) -> None:
    """Let threads of this process, and of those it starts, sleep while they wait for one another, unless the environment says otherwise.

    Args:
        late: torch is loaded already, and with it OpenMP, which read the environment then: nothing can be done any more.

    Example:
        >>> environment = {}
        >>> wait_asleep(environment, late=False)
        >>> environment["OMP_WAIT_POLICY"]
        'passive'
        >>> environment = {"OMP_WAIT_POLICY": "active"}
        >>> wait_asleep(environment, late=False)
        >>> environment
        {'OMP_WAIT_POLICY': 'active'}
    """
    if not late and not any(name in environment for name in OWN):
        environment.update(ASLEEP)


def sleep(environment: Mapping[str, str]) -> bool:
    """Return whether waiting threads of a process with this environment sleep soon.

    Example:
        >>> sleep({"OMP_WAIT_POLICY": "PASSIVE"}), sleep({})
        (True, False)
    """
    return environment.get("OMP_WAIT_POLICY", "").lower() == "passive"


@cache
def _pools() -> ThreadpoolController | None:
    try:
        import scipy.linalg  # noqa: F401  # it brings products of its own, which are found here once they are loaded
        from threadpoolctl import ThreadpoolController
    except ImportError:  # both come with scikit-learn
        return None
    return ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let numpy, scipy and scikit-learn use one thread within this for their products; torch keeps its own.

    What they do here is small: more threads win nothing, and waiting for one another, never asleep, they lose much on a busy machine. And
    sums, and so results, do not depend on the machine then. It serves as a decorator too.
    """
    pools = _pools()
    if pools is None:
        yield
        return
    with pools.limit(limits=1, user_api="blas"):
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch, numpy, scipy and scikit-learn use one thread within this, so that a time can be compared with that of others."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with one_blas_thread():
            yield
    finally:
        torch.set_num_threads(before)

"""The names of several points that walk together: the one that is used, and those that were tuned without some of the examples.

The full member has the plain names (``"prompt"``), member `i` that leaves fold `i` out the same names behind ``"fold<i>."``. So they are
stored, restarted and resumed as params always are, and whoever uses a point takes the plain names alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

FULL = ""  # the member that has the plain names
_FOLD = re.compile(r"(fold\d+)\.(.+)", re.DOTALL)


def fold_name(fold: int, name: str) -> str:
    """Return a param's name in the member that leaves a fold out.

    Example:
        >>> fold_name(0, "prompt")
        'fold0.prompt'
    """
    return f"fold{fold}.{name}"


def member_of(name: str) -> str:
    """Return the member that a param belongs to; "" for the full one.

    Example:
        >>> member_of("fold2.head.weight"), member_of("head.weight")
        ('fold2', '')
    """
    found = _FOLD.fullmatch(name)
    return FULL if found is None else found[1]


def plain_name(name: str) -> str:
    """Return a param's name without its member.

    Example:
        >>> plain_name("fold2.head.weight"), plain_name("head.weight")
        ('head.weight', 'head.weight')
    """
    found = _FOLD.fullmatch(name)
    return name if found is None else found[2]


def full_member(params: Mapping[str, T]) -> dict[str, T]:
    """Return the params of the full member, which are those of a run where nothing walks beside it.

    Example:
        >>> full_member({"prompt": 1, "fold0.prompt": 2})
        {'prompt': 1}
    """
    return {name: value for name, value in params.items() if member_of(name) == FULL}


def fold_member(params: Mapping[str, T], fold: int) -> dict[str, T]:
    """Return the params of the member that leaves a fold out, under their plain names.

    Example:
        >>> fold_member({"prompt": 1, "fold0.prompt": 2}, 0)
        {'prompt': 2}
    """
    start = fold_name(fold, "")
    return {name.removeprefix(start): value for name, value in params.items() if name.startswith(start)}


def for_all(params: Mapping[str, T], folds: int) -> dict[str, T]:
    """Return the same params for the full member and for each of the folds' members.

    Example:
        >>> for_all({"prompt": 1}, 2)
        {'prompt': 1, 'fold0.prompt': 1, 'fold1.prompt': 1}
    """
    return {**params, **{fold_name(fold, name): value for fold in range(folds) for name, value in params.items()}}

"""The names of several points in one: those that walk together, and those that are averaged.

Of points that walk together one is used, and the others were tuned without some of the examples. The full member has the plain names
(``"prompt"``), member `i` that leaves fold `i` out the same names behind ``"fold<i>."``. So they are stored, restarted and resumed as
params always are, and whoever uses a point takes the plain names alone.

Of walks that are averaged the first has the plain names, the others theirs behind ``"walk1."``, ``"walk2."``, ... A fold's name stands
before a walk's (``"fold0.walk1.prompt"``): each member is then an average by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")

FULL = ""  # the member that has the plain names
COUNTS = "walk_counts"  # how often each walk counts in an average, where they do not count alike
_WALK = re.compile(r"walk(\d+)\.(.+)", re.DOTALL)
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
    return _in_member(name)[0]


def plain_name(name: str) -> str:
    """Return a param's name without its member.

    Example:
        >>> plain_name("fold2.head.weight"), plain_name("head.weight")
        ('head.weight', 'head.weight')
    """
    return _in_member(name)[1]


def _in_member(name: str) -> tuple[str, str]:
    """Return the member that a param belongs to, and its name there."""
    found = _FOLD.fullmatch(name)
    return (FULL, name) if found is None else (found[1], found[2])


def where_judged(names: Iterable[str]) -> str:
    """Return by which examples a point with tensors of these names was judged, in words.

    Example:
        >>> where_judged(["prompt"]), where_judged(["prompt", "fold0.prompt"])
        ('on select', 'out of fold')
    """
    return "out of fold" if any(member_of(name) != FULL for name in names) else "on select"


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


# -- walks that are averaged


def averaged(points: Sequence[Mapping[str, T]]) -> dict[str, T]:
    """Return one point that holds several; the first, under plain names, stands for it where one alone is used.

    What is an average itself goes into it walk by walk.

    Example:
        >>> averaged([{"prompt": 1, "fold0.prompt": 2}, {"prompt": 3, "fold0.prompt": 4}])
        {'prompt': 1, 'fold0.prompt': 2, 'walk1.prompt': 3, 'fold0.walk1.prompt': 4}
    """
    walks = [walk for point in points for walk in walks_of(point)]
    return {_in_walk(name, i): value for i, walk in enumerate(walks) for name, value in walk.items()}


def walks_of(params: Mapping[str, T]) -> list[dict[str, T]]:
    """Return the points that are averaged in one; most points hold one alone, themselves.

    Example:
        >>> walks_of({"prompt": 1, "walk1.prompt": 2}), walks_of({"prompt": 1})
        ([{'prompt': 1}, {'prompt': 2}], [{'prompt': 1}])
    """
    found: dict[int, dict[str, T]] = {0: {}}
    for name, value in params.items():
        walk, own = _walk_of(name)
        if plain_name(own) != COUNTS:
            found.setdefault(walk, {})[own] = value
    return [found[walk] for walk in sorted(found)]


def bare_name(name: str) -> str:
    """Return a param's name without its fold and its walk.

    Example:
        >>> bare_name("fold0.walk1.prompt"), bare_name("walk1.prompt"), bare_name("prompt")
        ('prompt', 'prompt', 'prompt')
    """
    return plain_name(_walk_of(name)[1])


def fold_names(params: Mapping[str, T]) -> list[str]:
    """Return what stands before the names of each member: "" for the full one, "fold0.", ... in the order of the params.

    Example:
        >>> fold_names({"prompt": 1, "fold0.prompt": 2})
        ['', 'fold0.']
    """
    return list(dict.fromkeys(name.removesuffix(plain_name(name)) for name in params))


def _walk_of(name: str) -> tuple[int, str]:
    """Return which walk a param belongs to, and its name there."""
    plain = plain_name(name)
    found = _WALK.fullmatch(plain)
    if found is None:
        return 0, name
    return int(found[1]), name.removesuffix(plain) + found[2]


def _in_walk(name: str, walk: int) -> str:
    plain = plain_name(name)
    return name if walk == 0 else f"{name.removesuffix(plain)}walk{walk}.{plain}"

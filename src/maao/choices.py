"""What each name in a config leads to: one literal table, of strings, so that nothing is imported before it is chosen.

A value is ``"module:Class"``; the class is a `Section` (`options.py`), whose fields are the settings and whose `build` makes the thing. To
add a mentor, write its file and its row here. A package of your own joins by an entry point in the group ``maao.plugins``, named
``TABLE.NAME`` (``mentor.horoscope``), on equal terms: its settings are checked in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

PLUGINS = "maao.plugins"

CHOICES: Mapping[str, Mapping[str, str]] = {}


class UnknownName(KeyError):
    """There is no such name in a table."""

    def __init__(self, table: str, name: Any) -> None:
        known = names(table)
        near = get_close_matches(str(name), known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        self.told = f"there is no {table} of that name.{hint} Known: {', '.join(known)}"
        super().__init__(self.told)

    def __str__(self) -> str:
        return self.told


@cache
def _plugins() -> Mapping[str, Any]:
    return {entry.name: entry for entry in entry_points(group=PLUGINS)}


def names(table: str) -> tuple[str, ...]:
    """Return the names of a table, those of plugins last."""
    return (*CHOICES[table], *(name.removeprefix(f"{table}.") for name in _plugins() if name.startswith(f"{table}.")))


def load(table: str, name: Any) -> type[Any]:
    """Return the class that a name leads to.

    Raises:
        UnknownName: there is none.

    Example:
        >>> load("mentor", "horoscope")
        Traceback (most recent call last):
        maao.choices.UnknownName: ...
    """
    if not isinstance(name, str) or name not in names(table):
        raise UnknownName(table, name)
    own = CHOICES[table].get(name)
    if own is None:
        found: type[Any] = _plugins()[f"{table}.{name}"].load()
        return found
    module, _, attribute = own.partition(":")
    return getattr(import_module(module), attribute)  # type: ignore[no-any-return]


def readers(table: str, key: str) -> tuple[str, ...]:
    """Return the names of a table whose things read a setting of that name. Imports all of them: for messages."""
    return tuple(name for name in names(table) if key in load(table, name).model_fields)

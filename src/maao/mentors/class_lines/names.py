"""The names of classes between the data, a request and a reply: shown so that they harm no request, found again without guessing."""

from __future__ import annotations

from collections.abc import Sequence

from maao.printable import printable_line


class Names:
    """The classes by what they are called in requests and replies.

    A name in a reply is a class's where it is the same, or where it differs from one class alone by case, spaces, underscores and hyphens.
    What a line says never tells where it belongs.

    Example:
        >>> names = Names(("card_arrival", "Card arrival!", "top\\nup"))
        >>> names.shown("top\\nup"), names.find("Card Arrival"), names.find("TOP UP"), names.find("arrival")
        ('top up', 'card_arrival', 'top\\nup', None)
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._shown = {label: printable_line(label) for label in classes}
        self._exact: dict[str, list[str]] = {}
        self._loose: dict[str, list[str]] = {}
        for label, shown in self._shown.items():
            self._exact.setdefault(shown, []).append(label)
            self._loose.setdefault(_loose(shown), []).append(label)

    def shown(self, label: str) -> str:
        """Return a class's name as requests show it, in one line that no terminal obeys."""
        return self._shown[label]

    def find(self, name: str) -> str | None:
        """Return the class of a name; None where it is no class's, or more than one class's."""
        found = self._candidates(name)
        return found[0] if len(found) == 1 else None

    def why_not(self, name: str) -> str:
        """Say why a name is no class's."""
        found = self._candidates(name)
        if len(found) > 1:
            return f"the name {_short(name)!r} could be {' or '.join(map(repr, found[:3]))}"
        return f"there is no class {_short(name)!r}"

    def _candidates(self, name: str) -> list[str]:
        shown = printable_line(name)
        return self._exact.get(shown) or self._loose.get(_loose(shown), [])


def _loose(name: str) -> str:
    return "".join(char for char in name.casefold() if not (char.isspace() or char in "_-"))


def _short(name: str) -> str:
    shown = printable_line(name)
    return shown if len(shown) <= 80 else f"{shown[:79]}…"

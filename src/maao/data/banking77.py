"""The small part of banking77 that maao packages: customers' messages to a bank, sorted into 77 intents, and a mentor's replies on record.

Of each class ten labelled texts and its part of 1,000 test texts, all chosen by hash, and example lines that a mentor wrote. Where it all
comes from, and what was left out, says ``testbeds/banking77/README.md``.

Source: Casanueva et al., Efficient Intent Detection with Dual Sentence Encoders, 2020 (CC-BY 4.0).
"""

from __future__ import annotations

import json
from pathlib import Path

from maao.class_lines import ClassLines
from maao.errors import DataError
from maao.types import Example

FILE = Path(__file__).parents[1] / "testbeds" / "banking77" / "banking77.json"
REPLIES_BY = (
    "these lines are the replies of a strong assistant model, asked once on 26 November 2026 with the names of the intents alone; it may "
    "know this public data set, so lines that resemble any of its texts are left out. Your own: data.lines = a JSON file (docs/data.md)."
)
SHOTS = 2  # labelled texts of a class that a seed has by default
SEEDS = 5  # that share no label with one another at that number


def _classes() -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def labelled(seed: int, count: int) -> tuple[Example, ...]:
    """Return so many labelled texts of each class (ten at most), which a seed says: of the seeds 0 to 4 no two share one, if two are taken.

    Later seeds begin at the same places again.

    Raises:
        DataError: there are not so many.

    Example:
        >>> texts = [{example.fields["text"] for example in labelled(seed, 2)} for seed in (0, 1, 5)]
        >>> len(texts[0]), len(texts[0] & texts[1]), texts[0] == texts[2]
        (154, 0, True)
    """
    most = min(len(own["labelled"]) for own in _classes().values())
    if count > most:
        raise DataError(f"packaged:banking77 has {most} labelled texts of each class, and {count} were asked for: lower data.shots.")
    begin = SHOTS * (seed % SEEDS)
    return tuple(
        Example({"text": text}, label)
        for label, own in _classes().items()
        for text in (*own["labelled"][begin:], *own["labelled"][:begin])[:count]
    )


def held_out() -> tuple[Example, ...]:
    """Return the test texts, the same for every seed.

    Example:
        >>> len(held_out())
        1000
    """
    return tuple(Example({"text": text}, label) for label, own in _classes().items() for text in own["test"])


def replies() -> ClassLines:
    """Return the mentor's example lines of each class.

    Example:
        >>> len(replies().labels())
        77
    """
    classes = _classes()
    return ClassLines.from_json({label: own["replies"] for label, own in classes.items()}, list(classes))

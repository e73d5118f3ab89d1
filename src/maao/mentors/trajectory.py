"""Choose what of a walk a mentor is shown.

A run visits hundreds of points and an instruction has room for a dozen. Everything here is pure: the same history gives the same selection.
Turning it into words is `instruction.py`; asking is `language_model.py`.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal
from weakref import ref

from maao.mentors.fields import line_of
from maao.protocols import History
from maao.types import P, Round, S, Score

Placed = Sequence[tuple[str, Mapping[str, str]]]  # texts, each with what stands around the slots
Choice = Literal["best", "last", "first", "spread", "diverse", "contrast"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a listing: a text, the score of the point that it tells of, and what its words alone are worth, if known.

    A judged proposal's point was reached by walking `steps` from it; with a `weight` below 1 the walk began that far on the way from the
    incumbent to it. Where a leg `ended`, the text is only what stands nearest to the point: nothing was walked from it. `fields` is what
    was filled beside the slots.
    """

    text: str
    reached: Score
    steps: int
    words: Score | None = None
    weight: float = 1.0
    ended: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """The text, with what was filled beside it."""
        return line_of(self.text, self.fields)


def entries(history: History[P, S], begin: int = 0) -> list[Entry]:
    """Return all that can be listed, in the order it was seen: judged proposals, and the words of where each leg ended, from a round on.

    A text seen twice is listed once, at the lowest loss that it stood for. The untuned start is left out: nobody proposed it and
    nothing was walked from it, and a listing that opens with random words makes a small model go on with random words.
    """
    if not _last.listing.goes_on_in(history, begin):
        _last.listing = _Listing(begin)
    return _last.listing.of(history)


class _Listing:
    """What can be listed of a history. Of a longer one the further rounds alone are looked at: a mentor is asked again and again."""

    def __init__(self, begin: int) -> None:
        self._begin = begin
        self._rounds: list[Callable[[], object]] = []  # those that were looked at; they are not kept alive
        self._filled: Mapping[str, str] = {}  # what stands around the slots behind them
        self._found: dict[str, Entry] = {}
        self._begins = _Begins()

    def goes_on_in(self, history: History[P, S], begin: int) -> bool:
        """Say whether the rounds that were looked at are the very ones that a history begins with."""
        same = all(known() is r for known, r in zip(self._rounds, history, strict=False))
        return begin == self._begin and len(self._rounds) <= len(history) and same

    def of(self, history: History[P, S]) -> list[Entry]:
        """Return what can be listed of a history that goes on."""
        for index in range(len(self._rounds), len(history)):
            tried, self._filled = _stood(history[index], self._filled)
            if index >= self._begin:
                self._look_at(history[index], tried)
            self._rounds.append(ref(history[index]))
        return list(self._found.values())

    def _look_at(self, r: Round[P, S], tried: Placed) -> None:
        for c in r.verdict.considered:
            if c.proposal is not None:
                text, fields = tried[c.proposal]
                itself = c.score if c.age == 0 and c.weight == 1 else None
                entry = Entry(text, c.score, c.age, itself, c.weight, fields=fields)
                self._begins.add(entry, can_be_made=True)
                _add(self._found, entry)
        if r.clues.projection is not None and r.state.step > 0:
            words = r.clues.projection.text
            like = (self._found[line] for line in self._begins.like(words))
            here = (entry.text for entry in like if not entry.ended and entry.fields == self._filled)
            proposed = next((text for text in here if made_to_fit(words, text)), None)  # the words have not moved since the start
            end, score = r.clues.projection.score, r.score
            ended = Entry(proposed or words, score, r.state.age, end, ended=proposed is None, fields=self._filled)
            self._begins.add(ended, can_be_made=proposed is not None)
            _add(self._found, ended)


class _Begins:
    """Texts of which words may be made: found by how they begin, so that what is looked at does not grow with how many there are."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}  # of lines, as they came
        self._words: dict[str, tuple[str, ...]] = {}
        self._whole: dict[tuple[str, ...], list[str]] = {}
        self._longer: dict[int, dict[tuple[str, ...], list[str]]] = {}  # lines of more words than so many, by the first of these

    def add(self, entry: Entry, *, can_be_made: bool) -> None:
        """Take in an entry, which has its place from now on; words may be made of those that were proposed."""
        line = entry.line
        self._places.setdefault(line, len(self._places))
        if not can_be_made or line in self._words:
            return
        words = self._words[line] = tuple(entry.text.split())
        self._whole.setdefault(words, []).append(line)
        for count, held in self._longer.items():
            if len(words) > count:
                held.setdefault(words[:count], []).append(line)

    def like(self, words: str) -> list[str]:
        """Return the lines whose texts were made to fit (`made_to_fit`) to give these words, in the order in which they came."""
        shown = tuple(words.split())
        if len(shown) not in self._longer:
            held = self._longer[len(shown)] = {}
            for line, own in self._words.items():
                if len(own) > len(shown):
                    held.setdefault(own[: len(shown)], []).append(line)
        found = list(self._longer[len(shown)].get(shown, ())) if shown else []
        for count in range(1, len(shown) + 1):
            base = shown[:count]
            if base in self._whole and _repeats(base, shown):
                found += self._whole[base]
        return sorted(found, key=self._places.__getitem__)


class _Last(threading.local):
    """The listing that was asked for last, of each thread: what follows from a history alone, whoever asks, so no mentor owns it."""

    def __init__(self) -> None:
        self.listing = _Listing(0)


_last = _Last()


def known_texts(history: History[P, S]) -> set[str]:
    """Return all texts that a history holds: what can be listed, and every proposal, judged or not."""
    return {entry.text for entry in entries(history)} | {text for text, _ in proposed(history)}


def proposed(history: History[P, S]) -> list[tuple[str, Mapping[str, str]]]:
    """Return every proposal's text, judged or not, with what it was walked in beside the slots: its own fields, or where the walk was."""
    return [one for tried, _ in _placed(history) for one in tried]


def _placed(history: History[P, S]) -> Iterator[tuple[Placed, Mapping[str, str]]]:
    """Yield for each round its proposals' texts, each with what stood around the slots, and what stood there once it was judged."""
    filled: Mapping[str, str] = {}
    for r in history:
        tried, filled = _stood(r, filled)
        yield tried, filled


def _stood(r: Round[P, S], filled: Mapping[str, str]) -> tuple[Placed, Mapping[str, str]]:
    """Return a round's proposals, each with what stood around the slots, and what stands there behind the round; before it, `filled`."""
    tried = [(proposal.text, proposal.fields or filled) for proposal in r.advice.proposals]
    return tried, filled if r.verdict.chosen is None else tried[r.verdict.chosen][1]


def made_to_fit(words: str, text: str) -> bool:
    """Say whether `words` are a text cut or repeated to another length: the same start, which need not be listed twice.

    Example:
        >>> made_to_fit("sort the news sort the", "sort the news"), made_to_fit("sort the", "sort the news"), made_to_fit("news", "sort")
        (True, True, False)
    """
    shown, base = words.split(), text.split()
    return bool(base) and bool(shown) and _repeats(base, shown)


def _repeats(base: Sequence[str], shown: Sequence[str]) -> bool:
    """Say whether words are others, cut or said again and again."""
    return all(word == base[i % len(base)] for i, word in enumerate(shown))


def _add(found: dict[str, Entry], new: Entry) -> None:
    old = found.get(new.line)
    if old is None or new.reached.rank < old.reached.rank or math.isnan(old.reached.loss):
        found[new.line] = new if new.words or old is None else replace(new, words=old.words)


def select(history: History[P, S], count: int, choice: Choice = "best") -> tuple[Entry, ...]:
    """Return at most `count` entries, worst first, so that the best stands next to the request.

    `choice` "best" takes those of lowest loss, "spread" some evenly from worst to best, "last" and "first" those seen last and first.
    "diverse" begins with the best and goes on with the entry that shares fewest words with those taken, the better one of equals.
    "contrast" takes half of them from the best and half from the worst (Liu et al., 2023).
    """
    if count < 1:
        return ()
    known = [entry for entry in entries(history) if math.isfinite(entry.reached.loss)]  # other losses say nothing
    ranked = sorted(known, key=_loss, reverse=True)
    if choice == "best":
        return tuple(ranked[-count:])
    if choice == "contrast":
        good = (count + 1) // 2
        return (*ranked[: min(count // 2, max(0, len(ranked) - good))], *ranked[-good:])
    if choice == "spread":
        return tuple(_spread(ranked, count))
    if choice == "diverse":
        return tuple(sorted(_diverse(ranked, count), key=_loss, reverse=True))
    chosen = known[-count:] if choice == "last" else known[:count]
    return tuple(sorted(chosen, key=_loss, reverse=True))


def _loss(entry: Entry) -> float:
    return entry.reached.loss


def shuffled(chosen: Sequence[Entry], seed: int) -> tuple[Entry, ...]:
    """Return entries with their evidence dealt out anew, worst first: what a mentor reads is as before, but says nothing of the texts.

    Source: the control L-shuffle, asked for in the paper's reviews.
    """
    evidence = list(chosen)
    random.Random(seed).shuffle(evidence)
    dealt = [replace(other, text=entry.text, fields=entry.fields) for entry, other in zip(chosen, evidence, strict=True)]
    return tuple(sorted(dealt, key=_loss, reverse=True))


def _diverse(ranked: Sequence[Entry], count: int) -> list[Entry]:
    """Return entries that share few words: each next one is that with the least overlap (Jaccard) with any taken before."""
    left = list(reversed(ranked))  # best first
    taken = left[:1]
    left = left[1:]
    while left and len(taken) < count:
        farthest = min(left, key=lambda entry: max(_overlap(entry.text, other.text) for other in taken))
        taken.append(farthest)
        left.remove(farthest)
    return taken


def _overlap(one: str, other: str) -> float:
    """Return how many of the words of two texts are common to both.

    Example:
        >>> _overlap("sort the news", "the News today")
        0.5
    """
    first, second = set(one.lower().split()), set(other.lower().split())
    return len(first & second) / max(1, len(first | second))


def _spread(ranked: Sequence[Entry], count: int) -> list[Entry]:
    """Return entries evenly spaced from worst to best, both ends included."""
    if len(ranked) <= count:
        return list(ranked)
    if count == 1:
        return [ranked[-1]]
    return [ranked[round(i * (len(ranked) - 1) / (count - 1))] for i in range(count)]

"""Few-shot samples of pictures, class by class.

What is sampled (`train`, `select`) follows the seed, and what is fixed (`test`) follows a hash, the same for every seed, as with texts
(`maao.data.sampling`). A pool of pictures keeps half of each class to sample from, and a class may have too few where that is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

from maao.core.seeds import seed_for
from maao.data.checks import MAX_LISTED, quote
from maao.data.sampling import IMAGE_SHOTS, at_most, default_select, front_and_end, image_hash, of_each_class, shuffled
from maao.data.splits import from_parts
from maao.errors import DataError
from maao.types import Example, Splits


@dataclass(frozen=True)
class FewShot:
    """How many pictures of each class are sampled, and with which seed.

    Attributes:
        shots: training pictures a class; None: 16, or all of parts that are split already.
        select_shots: pictures of a class to select with; None: as many as shots, at most 4.
        test_size: most pictures in `test`, by hash; None: all there are.
        fewer: take what there is of a class that has too few, at least one picture for each of `train` and `select`; a note names it.
        folds: cross-validate `train` in so many folds at most: no pictures are set apart to select with, and `shots` may be 0.
    """

    shots: int | None = None
    select_shots: int | None = None
    test_size: int | None = None
    seed: int = 0
    fewer: bool = False
    folds: int | None = None

    @property
    def wanted(self) -> tuple[int, int]:
        """How many pictures of a class train and select, where all are sampled."""
        shots = IMAGE_SHOTS if self.shots is None else self.shots
        return shots, 0 if self.folds is not None else self.select_shots or default_select(shots)


def sample_pool(pool: Sequence[Example], labels: Sequence[str], few: FewShot) -> Splits:
    """Cut one pool. Of each class, half (or more, where that is needed) is kept to sample `train` and `select` from; the rest is `test`.

    So `test` is the same for every seed, and also for all shots that half a class has room for.

    Raises:
        DataError: a class has too few pictures, and `fewer` was not asked for.
    """
    shots, select_shots = few.wanted
    by_class = of_each_class(pool, labels)
    need = shots + select_shots
    short = {label: len(own) for label, own in by_class.items() if len(own) < need}
    if short and not few.fewer:
        raise _too_few(short, f"{shots} for train and {select_shots} for select", need)
    test: list[Example] = []
    rest: dict[str, list[Example]] = {}
    for label, own in by_class.items():
        ranked = sorted(own, key=image_hash)
        spare = len(own) - min(len(own), max(need, ceil(len(own) / 2)))
        rest[label] = ranked[spare:]
        test += ranked[:spare]
    test = _test_of(test, few.test_size, labels)
    train, select = _sampled(rest, rest, shots, select_shots, few.seed)
    notes = [
        *([f"train and select: {shots} and {select_shots} pictures of each class, sampled with seed {few.seed}."] if not few.folds else []),
        f"test: {len(test)} of {len(pool)} pictures, chosen by hash, the same for every seed.",
    ]
    return _finished(train, select, test, labels, notes, short, need, few)


def sample_parts(parts: Mapping[str, Sequence[Example]], labels: Sequence[str], few: FewShot) -> Splits:
    """Sample parts that are split already: `train` and, if there is one, `select`; `test` as it is, or the lowest hashes of it.

    Without a part of its own, `select` is sampled out of what `train` leaves.
    """
    if few.folds is not None:
        return _without_select(parts, labels, few)
    shots, fewer = few.shots, few.fewer
    train_by, select_by = of_each_class(parts["train"], labels), of_each_class(parts.get("select", ()), labels)
    own = bool(parts.get("select"))
    everything = shots is None
    if shots is None:
        shots = max(len(held) for held in train_by.values())
        if not own:
            raise DataError("Without a folder of pictures to select with, say how many of each class train: set data.shots.")
        fewer = True
    wanted = few.select_shots if few.select_shots is not None else default_select(shots)
    need = shots if own else shots + wanted
    short = {label: len(held) for label, held in train_by.items() if len(held) < need}
    if short and not fewer:
        raise _too_few(short, f"{shots} for train" + ("" if own else f" and {wanted} for select"), need)
    lacking = {} if everything else short
    if own:
        short = {label: len(held) for label, held in select_by.items() if len(held) < wanted}
        if short and not fewer:
            raise _too_few(short, f"{wanted} for select", wanted)
        lacking = {**lacking, **{f"{label} (select)": count for label, count in short.items()}}
    train, select = _sampled(train_by, select_by if own else train_by, shots, wanted, few.seed)
    where = "" if own else " others, out of train"
    notes = [f"train: {'all' if everything else shots} pictures of each class, select: {wanted}{where}; sampled with seed {few.seed}."]
    given = list(parts.get("test", ()))
    test = _test_of(given, few.test_size, labels)
    if len(test) < len(given):
        notes.append(f"test: {len(test)} of {len(given)} pictures, chosen by hash, the same for every seed.")
    return _finished(train, select, test, labels, notes, lacking, need, few)


def _without_select(parts: Mapping[str, Sequence[Example]], labels: Sequence[str], few: FewShot) -> Splits:
    """Sample `train` out of its part, to be cross-validated: without `shots`, all of it."""
    train_by = of_each_class(parts["train"], labels)
    shots = max(len(held) for held in train_by.values()) if few.shots is None else few.shots
    short = {} if few.shots is None else {label: len(held) for label, held in train_by.items() if len(held) < shots}
    if short and not few.fewer:
        raise _too_few(short, f"{shots} for train", shots)
    train, _ = _sampled(train_by, train_by, shots, 0, few.seed)
    given = list(parts.get("test", ()))
    test = _test_of(given, few.test_size, labels)
    notes = [f"test: {len(test)} of {len(given)} pictures, chosen by hash, the same for every seed."] if len(test) < len(given) else []
    if parts.get("select"):
        notes.append("the pictures to select with are not read: all labels of train train, and judge out of fold.")
    return _finished(train, [], test, labels, notes, short, shots, few)


def _sampled(
    train: Mapping[str, list[Example]], select: Mapping[str, list[Example]], shots: int, select_shots: int, seed: int
) -> tuple[list[Example], list[Example]]:
    """Return samples of each class; where both come from one pool, they share nothing. A short class keeps at least one for each."""
    chosen_train: list[Example] = []
    chosen_select: list[Example] = []
    for label, held in train.items():
        order = _shuffled(held, seed, label)
        end: list[Example]
        if not select_shots:
            front, end = order[:shots], []
        elif select is train:
            if len(held) < 2:
                raise DataError(f"The class {quote(label)} has {len(held)} picture: it needs one to train and one to select with.")
            front, end = front_and_end(order, shots, min(select_shots, max(1, len(held) - shots)))
        else:
            for part, own in (("train", held), ("select", select[label])):
                if not own:
                    raise DataError(f"The class {quote(label)} has no picture in {part}.")
            front, end = order[:shots], _shuffled(select[label], seed, f"{label}/select")[:select_shots]
        chosen_train += front
        chosen_select += end
    return chosen_train, chosen_select


def _finished(
    train: Sequence[Example],
    select: Sequence[Example],
    test: Sequence[Example],
    labels: Sequence[str],
    notes: Sequence[str],
    short: Mapping[str, int],
    need: int,
    few: FewShot,
) -> Splits:
    apart = select if few.folds is None else None
    splits = from_parts(train, apart, test, labels=list(labels), folds=few.folds, seed=few.seed)
    told = list(notes)
    if short:
        told.append(f"{len(short)} classes have fewer pictures than asked for ({need}), and all of theirs are taken: {_each(short)}.")
    return replace(splits, notes=(*told, *splits.notes))


def _shuffled(held: Sequence[Example], seed: int, label: str) -> list[Example]:
    return shuffled(held, seed_for(seed, "pictures", label), image_hash)


def _test_of(test: Sequence[Example], size: int | None, labels: Sequence[str]) -> list[Example]:
    """Return the lowest hashes of a test part, or all of it, class by class."""
    limit = at_most(size, test)
    chosen = test if limit is None else sorted(test, key=image_hash)[:limit]
    order = {label: i for i, label in enumerate(labels)}
    return sorted(chosen, key=lambda e: (order[e.label], e.fields["image"]))


def _too_few(short: Mapping[str, int], wanted: str, need: int) -> DataError:
    return DataError(
        f"{len(short)} of the classes have fewer than the {need} pictures that are asked for ({wanted}): {_each(short)}. Lower "
        "data.shots or data.select_shots, add pictures, or set data.fewer = true to take what there is."
    )


def _each(short: Mapping[str, int]) -> str:
    told = [f"{quote(label)} has {count}" for label, count in sorted(short.items(), key=lambda item: (item[1], item[0]))]
    return ", ".join(told[:MAX_LISTED]) + (f" and {len(told) - MAX_LISTED} more" if len(told) > MAX_LISTED else "")

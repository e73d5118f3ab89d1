"""Make three disjoint splits: `train` gives gradients, `select` every number that influences a choice, `test` is read once.

`few_shot` cuts one pool, `from_parts` takes data that already comes in parts. Both refuse what would spoil a comparison (an example in two
splits, a class that is never trained on) and write down in `Splits.notes` whatever they did.

Two kinds of choice are kept apart. What is *sampled* (`train`, `select`) follows the seed. What is *fixed* (`test`) follows a hash of the
examples, so that every seed is judged on the same test examples. Neither depends on the order in which the examples come. A part of
which nothing is chosen keeps its order.

Examples that make up one question (`Example.group`) are judged together, so `select` and `test` take a question whole or not at all. Groups
are named within one part: the same name in two parts is two questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from maao.data.checks import as_mapping, canonical_json, check_examples, listing, nearest, num_examples, quote
from maao.data.folds import FOLDS, deal
from maao.data.labels import check_labels
from maao.data.repeats import (
    drop_shared,
    note_contradictions,
    note_repeats,
    refuse_contradictions,
    refuse_shared,
    text_key,
    without_repeats,
)
from maao.data.sampling import check_left, count_labels, keep, lowest_hashes, sample, sha256, spared, whole_questions
from maao.errors import ConfigError, DataError
from maao.types import Example, Split, Splits

SPLITS: tuple[Split, ...] = get_args(Split)  # an example in two parts belongs to the first of them


def few_shot(
    examples: Sequence[Example],
    *,
    shots: int,
    select_shots: int,
    test_size: int | None,
    seed: int,
    labels: Sequence[str] | None = None,
    folds: int | None = None,
) -> Splits:
    """Cut one pool of examples into splits: so many of each class for `train` and for `select`, the rest or a part of it for `test`.

    Exact repeats are dropped. The test examples are chosen first, without the seed: those with the lowest hash. `train` and `select` are
    sampled class by class from what is left. For one seed, fewer shots are a part of more shots, and `select` is the same for both.

    Args:
        examples: the pool, in any order.
        shots: examples of each class in `train`.
        select_shots: examples of each class in `select`.
        test_size: most examples in `test`, the same for every seed. Where the pool is too small for that many, each class keeps `shots`
            and `select_shots` examples to sample from, `test` gets the others, and a note says so. None: all that `train` and `select`
            leave, which differs from seed to seed (a note says so).
        seed: what `train` and `select` are sampled with.
        labels: the order of the classes; None: sorted, and labels that seem to be one class are refused.
        folds: cross-validate `train` in so many folds at most (`maao.data.folds`): `select` is empty (`select_shots` must be 0), `shots`
            may be 0, and of a class that has fewer, all are taken.

    Raises:
        DataError: too few examples of a class, one class only, a text with two labels, labels that differ only in case, white space or
            the like, an unusable example.
        ConfigError: a size that cannot be; the examples are parts of questions (they have a `group`), which `from_parts` splits.

    Example:
        >>> pool = [Example({"text": f"{label} {i}"}, label) for label in ("bad", "good") for i in range(10)]
        >>> splits = few_shot(pool, shots=2, select_shots=1, test_size=5, seed=13)
        >>> len(splits.train), len(splits.select), len(splits.test), splits.labels
        (4, 2, 5, ('bad', 'good'))
        >>> splits.test == few_shot(pool, shots=2, select_shots=1, test_size=5, seed=21).test
        True
    """
    _check_size("shots", shots, least=1 if folds is None else 0)
    _check_size("select_shots", select_shots, least=1 if folds is None else 0)
    _check_size("test_size", test_size, least=0)
    _check_folds(folds, select_shots)
    if not examples:
        raise DataError("The pool of examples is empty: there is nothing to make splits of.")
    check_examples(examples, "the pool")
    if examples[0].group:
        raise ConfigError("Several examples of the pool make up one question (`group`): a pool is not cut by questions. Give it in parts.")
    refuse_contradictions(examples, "the pool")
    notes: list[str] = []
    pool = without_repeats(examples, "the pool", notes)
    labels = check_labels(labels, {"the pool": pool})
    test = spared(pool, test_size or 0, reserve=shots + select_shots)
    taken = {text_key(example) for example in test}
    rest = [example for example in pool if text_key(example) not in taken]
    have = count_labels(rest)
    for label in labels:
        if have[label] < shots + select_shots and folds is None:
            raise DataError(
                f"Class {quote(label)}: {shots} examples for train and {select_shots} for select were asked, but the pool "
                f"has {have[label]}."
            )
    train, select = sample(rest, labels, shots, select_shots, seed, purpose="few-shot")
    if folds is None:
        notes.append(f"train and select: {shots} and {select_shots} examples of each class, sampled with seed {seed}.")
    else:
        notes += _sampled_note(train, labels, shots, seed)
    if test_size is None:
        taken = {text_key(example) for example in (*train, *select)}
        rest = [example for example in pool if text_key(example) not in taken]
        test = lowest_hashes(rest, len(rest))
        notes.append(f"test: the {len(test)} examples that train and select left; it differs from seed to seed (test_size would fix it).")
    elif test_size:
        fewer = f", fewer than the {test_size} of test_size since train and select come first" if len(test) < test_size else ""
        notes.append(f"test: {len(test)} of {len(pool)} examples{fewer}, chosen by hash; it is the same for every seed.")
    return _finish(train, select, test, labels, notes, folds, seed)


def from_parts(
    train: Sequence[Example],
    select: Sequence[Example] | None,
    test: Sequence[Example],
    *,
    labels: Sequence[str] | None = None,
    shots: int | None = None,
    select_shots: int | None = None,
    select_share: float = 0.5,
    test_size: int | None = None,
    seed: int = 0,
    drop_repeats: bool = False,
    folds: int | None = None,
) -> Splits:
    """Check data that already comes in parts, and make smaller parts of it where that is asked.

    Args:
        train, select, test: the parts. `select=None`: it is taken out of `train`. `test=()`: there is none.
        labels: the order of the classes; None: sorted, and labels that seem to be one class are refused.
        shots: examples of each class to keep in `train`, sampled with the seed; None: all.
        select_shots: the same for `select`. Where `select` is taken out of `train`, None means `select_share` of each class. Of examples
            in groups, whole questions are taken until every class has that many.
        select_share: the share of each class that `select` takes out of `train` where no `select_shots` are given, between 0 and 1; at
            least one example of each.
        test_size: examples to keep in `test`, chosen by hash and so the same for every seed; None: all. Of examples in groups, the most
            whole questions that this is room for.
        seed: what is sampled is sampled with it.
        drop_repeats: an example in two parts is dropped from the later one (it stays in train before select before test), and exact
            repeats within a part are dropped; a note counts them. Otherwise, an example in two parts is an error.
        folds: cross-validate `train` in so many folds at most (`maao.data.folds`): `select` must be None, and stays empty. Classes that are
            named in `labels` may have no example, and of a class that has fewer than `shots`, all are taken.

    Raises:
        DataError: an example in two parts, a text with two labels in train (in select or test it is noted), a class that train lacks, one
            class only, too few examples of a class, an empty part, an unusable example.
        ConfigError: a size that cannot be.

    Example:
        >>> train = [Example({"text": f"{label} {i}"}, label) for label in ("bad", "good") for i in range(4)]
        >>> splits = from_parts(train, None, [Example({"text": "good 9"}, "good")])
        >>> len(splits.train), len(splits.select), len(splits.test)
        (4, 4, 1)
        >>> from_parts(train, train[:1], [])
        Traceback (most recent call last):
        maao.errors.DataError: train and select share 1 example, such as 'bad 0': ... drop_repeats=True keeps it in train only.
    """
    for name, size, least in (("shots", shots, 1 if folds is None else 0), ("select_shots", select_shots, 1), ("test_size", test_size, 0)):
        _check_size(name, size, least)
    _check_folds(folds, select_shots, select)
    if not 0 < select_share < 1:
        raise ConfigError(f"select_share must lie between 0 and 1; it is {select_share}.")
    parts: dict[str, tuple[Example, ...]] = {"train": tuple(train), "select": tuple(select or ()), "test": tuple(test)}
    may_lack = folds is not None and labels is not None
    for name, part in parts.items():
        if not part and not (name == "test" or (name == "select" and select is None) or may_lack):
            raise DataError(f"{name} is empty." + (" Pass None to take it out of train." if name == "select" else ""))
        check_examples(part, name)
        if parts["train"]:
            _check_same_fields(parts["train"][0], part, name)
    refuse_contradictions(parts["train"], "train")
    notes: list[str] = []
    if drop_repeats or select is None:
        parts["train"] = without_repeats(parts["train"], "train", notes)  # else a repeat could be sampled into both
    if drop_repeats:
        for name in ("select", "test"):
            parts[name] = without_repeats(parts[name], name, notes)
        drop_shared(parts, notes)
        for name, given in (("select", select), ("test", test)):
            if given and not parts[name]:
                raise DataError(f"{name} is empty without the examples that an earlier split has too; it had {num_examples(given)}.")
    else:
        refuse_shared(parts)
        note_repeats(parts, notes)
    labels = check_labels(labels, parts, may_lack=may_lack)
    note_contradictions(parts, notes)
    if folds is None:
        parts = _cut(parts, labels, shots, select_shots, select_share, test_size, seed, take_select=select is None, notes=notes)
    else:
        if shots is not None:
            parts["train"] = keep(parts["train"], "train", labels, shots, seed, fewer=True)
        notes += _sampled_note(parts["train"], labels, shots, seed)
        parts["test"] = _cut_test(parts["test"], test_size, notes)
    return _finish(parts["train"], parts["select"], parts["test"], labels, notes, folds, seed)


def majority_accuracy(splits: Splits, on: Split = "test") -> float:
    """Return the accuracy, on one split, of always answering the class that is most frequent in `train`.

    A tie goes to the class that comes first in `splits.labels`: nothing but `train` may be looked at to break it.

    Example:
        >>> good, bad = Example({"text": "fine"}, "good"), Example({"text": "dull"}, "bad")
        >>> majority_accuracy(Splits((good, bad), (good,), (good, good, good, bad), labels=("bad", "good")))
        0.25
    """
    if on not in SPLITS:
        raise ConfigError(f"There is no split {on!r}.{nearest(str(on), SPLITS)} Splits: {listing(SPLITS)}.")
    part = splits.judged if on == "select" else splits.parts[on]
    if not part:
        raise DataError(f"{on} is empty: there is no accuracy on it.")
    counts = count_labels(splits.train)
    majority = max(splits.labels, key=lambda label: counts[label])  # the first of equals
    return count_labels(part)[majority] / len(part)


# Checks


def _check_size(name: str, size: int | None, least: int) -> None:
    if size is not None and size < least:
        raise ConfigError(f"{name} must be at least {least}; it is {size}.")


def _check_folds(folds: int | None, select_shots: int | None, select: Sequence[Example] | None = None) -> None:
    if folds is None:
        return
    if folds < 2:
        raise ConfigError(f"folds must be at least 2; it is {folds}.")
    if select is not None or select_shots:
        raise ConfigError("Cross-validation sets no examples apart to choose by: give no select, and no select_shots.")


def _check_same_fields(first: Example, part: Sequence[Example], name: str) -> None:
    if part and part[0].fields.keys() != first.fields.keys():
        raise DataError(f"{name}: its examples have the fields {listing(part[0].fields)}, but those of train have {listing(first.fields)}.")
    for what, here, there in (("choices", part and part[0].choices, first.choices), ("groups", part and part[0].group, first.group)):
        if part and bool(here) != bool(there):
            having, lacking = (name, "train") if here else ("train", name)
            raise DataError(f"The examples of {having} have {what}, but those of {lacking} have none.")


# The result


def _cut(
    parts: dict[str, tuple[Example, ...]],
    labels: Sequence[str],
    shots: int | None,
    select_shots: int | None,
    select_share: float,
    test_size: int | None,
    seed: int,
    *,
    take_select: bool,
    notes: list[str],
) -> dict[str, tuple[Example, ...]]:
    train, select, test = (parts[name] for name in SPLITS)
    if take_select:
        have = count_labels(train)
        share = "half of them" if select_share == 0.5 else f"{select_share:g} of them"
        for label in labels:
            wanted = (shots or 1) + (select_shots or max(int(have[label] * select_share), 1))
            if have[label] < wanted:
                asked = f"{shots or 'at least 1'} for train and {select_shots or f'{share} (at least 1)'} for select"
                raise DataError(f"Class {quote(label)}: train has {num_examples(have[label])} of it, but {asked} were asked.")
        size = f"{select_shots} examples" if select_shots else ("half the examples" if select_share == 0.5 else f"{select_share:g}")
        if train[0].group:
            sizes = {label: select_shots or max(int(have[label] * select_share), 1) for label in labels}
            select, train = whole_questions(train, sizes, seed, purpose="from parts")
            check_left(train, labels, shots or 1)
            train = keep(train, "train", labels, shots, seed)
            size = f"whole questions, at least {size}"
        else:
            train, select = sample(train, labels, shots, select_shots, seed, purpose="from parts", select_share=select_share)
        notes.append(f"select: {size} of each class, taken out of train with seed {seed}.")
    else:
        train = keep(train, "train", labels, shots, seed)
        if select_shots is not None and select[0].group:
            select, _ = whole_questions(select, dict.fromkeys(labels, select_shots), seed, purpose="select")
        else:
            select = keep(select, "select", labels, select_shots, seed)
        if select_shots is not None:
            notes.append(_kept_note("select", select_shots, seed, len(select), len(parts["select"])))
    if shots is not None:
        notes.append(_kept_note("train", shots, seed, len(train), len(parts["train"])))
    return {"train": train, "select": select, "test": _cut_test(test, test_size, notes)}


def _cut_test(test: tuple[Example, ...], test_size: int | None, notes: list[str]) -> tuple[Example, ...]:
    """Return so many test examples, chosen by hash; None: all."""
    if test_size is None or test_size == len(test):
        return test
    if test_size > len(test):
        raise DataError(f"test_size asks for {test_size} examples, but test has {len(test)}.")
    kept = lowest_hashes(test, test_size)
    notes.append(f"test: {len(kept)} of {len(test)} examples, chosen by hash; it is the same for every seed.")
    return kept


def _sampled_note(train: Sequence[Example], labels: Sequence[str], shots: int | None, seed: int) -> list[str]:
    """Say how many labels are spent where all of them train."""
    counts = count_labels(train)
    have = sorted({counts[label] for label in labels})
    if not train:
        return ["train is empty: no label is spent, so nothing is tuned or judged."]
    told = f"{have[0]}" if len(have) == 1 else f"{have[0]} to {have[-1]}"
    how = "" if shots is None else f", sampled with seed {seed}"
    fewer = f" ({shots} were asked for)" if shots is not None and have[0] < shots else ""
    return [f"train: {told} examples of each class{how}{fewer}; all labels train, and none is set apart to choose by."]


def _kept_note(name: str, shots: int, seed: int, kept: int, had: int) -> str:
    return f"{name}: {shots} of each class kept, sampled with seed {seed}; {kept} of {had} examples."


def _finish(
    train: tuple[Example, ...],
    select: tuple[Example, ...],
    test: tuple[Example, ...],
    labels: tuple[str, ...],
    notes: list[str],
    folds: int | None = None,
    seed: int = 0,
) -> Splits:
    if not test:
        notes.append("test is empty: no number of this run can be reported as a test result.")
    dealt = () if folds is None else deal(train, labels, folds, seed)
    if dealt:
        notes.append(f"cross-validation: {max(dealt) + 1} folds of train, dealt class by class with seed {seed}.")
    for name, part in (("train", train), ("select", select), ("test", test)):
        counts = count_labels(part)
        absent = [label for label in labels if label not in counts]
        if part and absent:
            notes.append(f"{name}: has no example of {listing(absent)}.")
    return Splits(train, select, test, labels, digest_of(train, select, test, labels, dealt), tuple(notes), dealt)


def known_parts(
    train: Sequence[Example], select: Sequence[Example], test: Sequence[Example], *, labels: Sequence[str], folds: Sequence[int] = ()
) -> Splits:
    """Check splits that are made already, with the folds of `train` where it is cross-validated, and return them with their hash.

    Neither `select` nor folds says that nothing is judged: `train` is empty too.
    """
    if select or (train and not folds):
        return from_parts(train, select, test, labels=labels)
    whole = from_parts(train, None, test, labels=labels, folds=FOLDS)
    numbers = sorted(set(folds))
    if len(folds) != len(whole.train) or len(train) != len(whole.train) or numbers != list(range(len(numbers))) or len(numbers) == 1:
        raise DataError(
            f"folds must give each of the {num_examples(whole.train)} of train, repeats left out, its fold from 0 on; got {len(folds)}."
        )
    digest = digest_of(whole.train, (), whole.test, whole.labels, folds)
    return replace(whole, folds=tuple(folds), digest=digest)


def digest_of(
    train: Sequence[Example], select: Sequence[Example], test: Sequence[Example], labels: Sequence[str], folds: Sequence[int] = ()
) -> str:
    """Return a hash of examples, their splits and folds, and the order of the classes."""
    parts: dict[str, object] = {
        name: [as_mapping(example) for example in part] for name, part in zip(SPLITS, (train, select, test), strict=True)
    }
    dealt = {"folds": list(folds)} if folds else {}
    return "sha256:" + sha256(canonical_json({"labels": list(labels), **parts, **dealt}))

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

import hashlib
import math
import random
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from typing import get_args

from maao.data.checks import as_mapping, canonical, canonical_json, check_examples, listing, nearest, quote
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
    _check_size("shots", shots, least=1)
    _check_size("select_shots", select_shots, least=1)
    _check_size("test_size", test_size, least=0)
    if not examples:
        raise DataError("The pool of examples is empty: there is nothing to make splits of.")
    check_examples(examples, "the pool")
    if examples[0].group:
        raise ConfigError("Several examples of the pool make up one question (`group`): a pool is not cut by questions. Give it in parts.")
    _refuse_contradictions(examples, "the pool")
    notes: list[str] = []
    pool = _without_repeats(examples, "the pool", notes)
    labels = _check_labels(labels, {"the pool": pool})
    test = _spared(pool, test_size or 0, reserve=shots + select_shots)
    taken = {_text_key(example) for example in test}
    rest = [example for example in pool if _text_key(example) not in taken]
    have = _counts(rest)
    for label in labels:
        if have[label] < shots + select_shots:
            raise DataError(
                f"Class {quote(label)}: {shots} examples for train and {select_shots} for select were asked, but the pool "
                f"has {have[label]}."
            )
    train, select = _sample(rest, labels, shots, select_shots, seed, purpose="few-shot")
    notes.append(f"train and select: {shots} and {select_shots} examples of each class, sampled with seed {seed}.")
    if test_size is None:
        taken = {_text_key(example) for example in (*train, *select)}
        rest = [example for example in pool if _text_key(example) not in taken]
        test = _lowest_hashes(rest, len(rest))
        notes.append(f"test: the {len(test)} examples that train and select left; it differs from seed to seed (test_size would fix it).")
    elif test_size:
        fewer = f", fewer than the {test_size} of test_size since train and select come first" if len(test) < test_size else ""
        notes.append(f"test: {len(test)} of {len(pool)} examples{fewer}, chosen by hash; it is the same for every seed.")
    return _finish(train, select, test, labels, notes)


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
    for name, size, least in (("shots", shots, 1), ("select_shots", select_shots, 1), ("test_size", test_size, 0)):
        _check_size(name, size, least)
    if not 0 < select_share < 1:
        raise ConfigError(f"select_share must lie between 0 and 1; it is {select_share}.")
    parts: dict[str, tuple[Example, ...]] = {"train": tuple(train), "select": tuple(select or ()), "test": tuple(test)}
    for name, part in parts.items():
        if not part and not (name == "test" or (name == "select" and select is None)):
            raise DataError(f"{name} is empty." + (" Pass None to take it out of train." if name == "select" else ""))
        check_examples(part, name)
        _check_same_fields(parts["train"][0], part, name)
    _refuse_contradictions(parts["train"], "train")
    notes: list[str] = []
    if drop_repeats or select is None:
        parts["train"] = _without_repeats(parts["train"], "train", notes)  # else a repeat could be sampled into both
    if drop_repeats:
        for name in ("select", "test"):
            parts[name] = _without_repeats(parts[name], name, notes)
        _drop_shared(parts, notes)
        for name, given in (("select", select), ("test", test)):
            if given and not parts[name]:
                raise DataError(f"{name} is empty without the examples that an earlier split has too; it had {_count(given)}.")
    else:
        _refuse_shared(parts)
        _note_repeats(parts, notes)
    labels = _check_labels(labels, parts)
    _note_contradictions(parts, notes)
    parts = _cut(parts, labels, shots, select_shots, select_share, test_size, seed, take_select=select is None, notes=notes)
    return _finish(parts["train"], parts["select"], parts["test"], labels, notes)


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
    part: tuple[Example, ...] = getattr(splits, on)
    if not part:
        raise DataError(f"{on} is empty: there is no accuracy on it.")
    counts = _counts(splits.train)
    majority = max(splits.labels, key=lambda label: counts[label])  # the first of equals
    return _counts(part)[majority] / len(part)


# Checks


def _check_size(name: str, size: int | None, least: int) -> None:
    if size is not None and size < least:
        raise ConfigError(f"{name} must be at least {least}; it is {size}.")


def _check_same_fields(first: Example, part: Sequence[Example], name: str) -> None:
    if part and part[0].fields.keys() != first.fields.keys():
        raise DataError(f"{name}: its examples have the fields {listing(part[0].fields)}, but those of train have {listing(first.fields)}.")
    for what, here, there in (("choices", part and part[0].choices, first.choices), ("groups", part and part[0].group, first.group)):
        if part and bool(here) != bool(there):
            having, lacking = (name, "train") if here else ("train", name)
            raise DataError(f"The examples of {having} have {what}, but those of {lacking} have none.")


def _check_labels(labels: Sequence[str] | None, parts: Mapping[str, Sequence[Example]]) -> tuple[str, ...]:
    """Return the classes in order. The first part (the pool, or train) must hold all of them, and the others no further one."""
    (name, first), *others = parts.items()
    if labels is None:
        _refuse_odd_labels(parts)
    trained = sorted({example.label for example in first})
    for other, part in others:
        for example in part:
            if example.label not in trained:
                raise DataError(
                    f"{other} holds the label {quote(example.label)}, which {name} never does, so it cannot be learnt."
                    f"{nearest(example.label, trained)} Labels of {name}: {listing(trained)}."
                )
    if labels is not None:
        if repeated := sorted({label for label in labels if list(labels).count(label) > 1}):
            raise ConfigError(f"labels names {listing(repeated)} more than once.")
        for label in trained:
            if label not in labels:
                raise DataError(
                    f"{name} holds the label {quote(label)}, which is not among labels: {listing(labels)}.{nearest(label, labels)}"
                )
        for label in labels:
            if label not in trained:
                raise DataError(f"{name} has no example of class {quote(label)}.{nearest(label, trained)} Its labels: {listing(trained)}.")
    if len(trained) < 2:
        raise DataError(f"{name} holds one class only ({quote(trained[0])}): there is nothing to tell apart.")
    return tuple(trained if labels is None else labels)


def _refuse_odd_labels(parts: Mapping[str, Sequence[Example]]) -> None:
    """Refuse labels that look like mistakes; who lists the classes in `labels` has said that they are none."""
    counts = _counts([example for part in parts.values() for example in part])
    if len(counts) > 1 and max(counts.values()) == 1:
        raise DataError(
            f"No two of the {len(counts)} examples have the same label, such as {listing(sorted(counts), 3)}: is the column of the label "
            "an id or a text? Name the right one (in a config: data.label_field)."
        )
    alike: dict[str, list[str]] = {}
    for label in sorted(counts):
        alike.setdefault(_alike(label), []).append(label)
    groups = [group for group in alike.values() if len(group) > 1]
    if groups:
        named = "; ".join(", ".join(f"{quote(label)} ({_count(counts[label])})" for label in group) for group in groups[:10])
        raise DataError(
            f"Labels differ only in case, white space, the form of their characters or of a number: {named}. If they are one class, make "
            "them one in the data, or with label_names (data.label_names); if they are not, list all classes in labels (data.labels)."
        )


def _alike(label: str) -> str:
    """Return a form of a label that is the same for labels which a reader would take for one.

    Example:
        >>> _alike("Sci \u200b Tech"), _alike("1.0"), _alike("\uff11")
        ('sci tech', '1', '1')
    """
    text = unicodedata.normalize("NFKC", label).casefold()
    text = " ".join("".join(char for char in text if unicodedata.category(char) != "Cf").split())
    try:
        number = math.nan if "_" in text else float(text)
    except ValueError:
        return text
    return f"{number:.17g}" if math.isfinite(number) else text


def _refuse_contradictions(examples: Sequence[Example], where: str) -> None:
    for label, example in _contradictions(examples)[:1]:
        raise DataError(
            f"{where}: {_excerpt(example)} has two labels, {quote(label)} and {quote(example.label)}. Keep the right one, "
            "or name a further column in text_fields that tells the two apart."
        )


def _contradictions(examples: Sequence[Example]) -> list[tuple[str, Example]]:
    """Return the examples whose text came before with another label, each with that label."""
    first: dict[str, str] = {}
    labels = [first.setdefault(_text_key(example), example.label) for example in examples]
    return [(label, example) for label, example in zip(labels, examples, strict=True) if label != example.label]


def _refuse_shared(parts: Mapping[str, Sequence[Example]]) -> None:
    for earlier, later in (("train", "select"), ("train", "test"), ("select", "test")):
        labels = {_text_key(example): example.label for example in parts[earlier]}
        shared = [example for example in parts[later] if _text_key(example) in labels]
        if shared:
            other = sum(labels[_text_key(example)] != example.label for example in shared)
            raise DataError(
                f"{earlier} and {later} share {_count(shared)}, such as {_excerpt(shared[0])}: splits must be disjoint"
                f"{f' ({other} of them with different labels)' if other else ''}. drop_repeats=True keeps "
                f"{'it' if len(shared) == 1 else 'them'} in {earlier} only."
            )


# Repeats


def _without_repeats(examples: Sequence[Example], where: str, notes: list[str]) -> tuple[Example, ...]:
    kept = tuple({_repeat_key(example): example for example in examples}.values())
    if len(kept) < len(examples):
        notes.append(f"{where}: {_count(examples[len(kept) :])} dropped that repeat another one; {len(kept)} are left.")
    return kept


def _note_repeats(parts: Mapping[str, Sequence[Example]], notes: list[str]) -> None:
    for name, part in parts.items():
        repeats = len(part) - len({_repeat_key(example) for example in part})
        if repeats:
            notes.append(
                f"{name}: {repeats} of {len(part)} examples repeat another one of {name}; they are kept (drop_repeats=True drops them)."
            )


def _note_contradictions(parts: Mapping[str, Sequence[Example]], notes: list[str]) -> None:
    # Published test sets have some (two readings of one sentence, say). Unlike in train they do no harm, and dropping them would make
    # the numbers incomparable with published ones.
    for name, part in parts.items():
        if found := _contradictions(part):
            label, example = found[0]
            notes.append(
                f"{name}: {_count([example for _, example in found])} kept whose text has another label too, such as {_excerpt(example)} "
                f"({quote(label)} and {quote(example.label)}): no answer gets both right."
            )


def _drop_shared(parts: dict[str, tuple[Example, ...]], notes: list[str]) -> None:
    for earlier, later in (("train", "select"), ("train", "test"), ("select", "test")):
        labels = {_text_key(example): example.label for example in parts[earlier]}
        shared = [example for example in parts[later] if _text_key(example) in labels]
        if shared:
            other = sum(labels[_text_key(example)] != example.label for example in shared)
            parts[later] = tuple(example for example in parts[later] if _text_key(example) not in labels)
            notes.append(
                f"{later}: {_count(shared)} dropped that {earlier} has too{f' ({other} with a different label)' if other else ''}; "
                f"{len(parts[later])} are left."
            )


# Choosing


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
        have = _counts(train)
        share = "half of them" if select_share == 0.5 else f"{select_share:g} of them"
        for label in labels:
            wanted = (shots or 1) + (select_shots or max(int(have[label] * select_share), 1))
            if have[label] < wanted:
                asked = f"{shots or 'at least 1'} for train and {select_shots or f'{share} (at least 1)'} for select"
                raise DataError(f"Class {quote(label)}: train has {_count(have[label])} of it, but {asked} were asked.")
        size = f"{select_shots} examples" if select_shots else ("half the examples" if select_share == 0.5 else f"{select_share:g}")
        if train[0].group:
            sizes = {label: select_shots or max(int(have[label] * select_share), 1) for label in labels}
            select, train = _whole_questions(train, sizes, seed, purpose="from parts")
            _check_left(train, labels, shots or 1)
            train = _keep(train, "train", labels, shots, seed)
            size = f"whole questions, at least {size}"
        else:
            train, select = _sample(train, labels, shots, select_shots, seed, purpose="from parts", select_share=select_share)
        notes.append(f"select: {size} of each class, taken out of train with seed {seed}.")
    else:
        train = _keep(train, "train", labels, shots, seed)
        if select_shots is not None and select[0].group:
            select, _ = _whole_questions(select, dict.fromkeys(labels, select_shots), seed, purpose="select")
        else:
            select = _keep(select, "select", labels, select_shots, seed)
        if select_shots is not None:
            notes.append(_kept_note("select", select_shots, seed, len(select), len(parts["select"])))
    if shots is not None:
        notes.append(_kept_note("train", shots, seed, len(train), len(parts["train"])))
    if test_size is not None:
        if test_size > len(test):
            raise DataError(f"test_size asks for {test_size} examples, but test has {len(test)}.")
        if test_size < len(test):
            test = _lowest_hashes(test, test_size)
            notes.append(f"test: {len(test)} of {len(parts['test'])} examples, chosen by hash; it is the same for every seed.")
    return {"train": train, "select": select, "test": test}


def _kept_note(name: str, shots: int, seed: int, kept: int, had: int) -> str:
    return f"{name}: {shots} of each class kept, sampled with seed {seed}; {kept} of {had} examples."


def _keep(part: tuple[Example, ...], name: str, labels: Sequence[str], shots: int | None, seed: int) -> tuple[Example, ...]:
    """Return the part cut down to `shots` examples of each class, or as it is where `shots` is None."""
    if shots is None:
        return part
    have = _counts(part)
    for label in labels:
        if have[label] < shots:
            raise DataError(f"Class {quote(label)}: {name} has {_count(have[label])} of it, but {shots} were asked.")
    return _sample(part, labels, shots, 0, seed, purpose=name)[0]


def _sample(
    examples: Sequence[Example],
    labels: Sequence[str],
    shots: int | None,
    select_shots: int | None,
    seed: int,
    *,
    purpose: str,
    select_share: float = 0.5,
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Return `train` and `select`, the classes taking turns in both. None: the rest for `train`, `select_share` of it for `select`.

    `train` is the front of a class's shuffled examples and `select` their end: with more shots `train` grows and `select` stays.
    """
    fronts, ends = [], []
    for label in labels:
        members = sorted((example for example in examples if example.label == label), key=_hash)
        random.Random(_seed(seed, purpose, label)).shuffle(members)
        num_select = (max(int(len(members) * select_share), 1) if len(members) > 1 else 0) if select_shots is None else select_shots
        rest, end = members[: len(members) - num_select], members[len(members) - num_select :]
        fronts.append(rest if shots is None else rest[:shots])
        ends.append(end[::-1])
    return _take_turns(fronts), _take_turns(ends)


def _take_turns(groups: Sequence[Sequence[Example]]) -> tuple[Example, ...]:
    return tuple(example for example in chain.from_iterable(zip_longest(*groups)) if example is not None)


def _lowest_hashes(examples: Sequence[Example], count: int) -> tuple[Example, ...]:
    if not examples or not examples[0].group:
        return tuple(sorted(examples, key=_hash)[:count])
    chosen: list[Example] = []
    for question in sorted(_questions(examples), key=_hash_of_question):
        if len(chosen) + len(question) > count:
            break
        chosen += question
    if count and not chosen:
        raise DataError(f"test_size asks for {count} examples, but the first question alone has more; a question is taken whole.")
    return tuple(chosen)


def _whole_questions(
    examples: Sequence[Example], sizes: Mapping[str, int], seed: int, *, purpose: str
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Return whole questions, sampled until every class has at least so many examples, and what is left."""
    questions = sorted(_questions(examples), key=_hash_of_question)
    random.Random(_seed(seed, purpose, "questions")).shuffle(questions)
    have: Counter[str] = Counter()
    taken = 0
    while any(have[label] < size for label, size in sizes.items()):
        if taken == len(questions):
            lacking = next(label for label, size in sizes.items() if have[label] < size)
            raise DataError(f"Class {quote(lacking)}: {_count(have[lacking])} of it, but {sizes[lacking]} were asked.")
        have += _counts(questions[taken])
        taken += 1
    return tuple(chain.from_iterable(questions[:taken])), tuple(chain.from_iterable(questions[taken:]))


def _check_left(train: Sequence[Example], labels: Sequence[str], shots: int) -> None:
    have = _counts(train)
    for label in labels:
        if have[label] < shots:
            raise DataError(
                f"Class {quote(label)}: {_count(have[label])} of it are left in train beside the questions of select, but {shots} "
                "were asked."
            )


def _questions(examples: Sequence[Example]) -> list[list[Example]]:
    """Return the examples question by question, each question's in the order of their hashes."""
    groups: dict[str, list[Example]] = {}
    for example in sorted(examples, key=_hash):
        groups.setdefault(example.group, []).append(example)
    return list(groups.values())


def _hash_of_question(question: Sequence[Example]) -> str:
    return _hash(question[0])


def _spared(pool: Sequence[Example], count: int, reserve: int) -> tuple[Example, ...]:
    """Return the `count` examples with the lowest hash, passing over those whose class would not keep `reserve` others."""
    left = _counts(pool)
    chosen: list[Example] = []
    for example in sorted(pool, key=_hash):
        if len(chosen) == count:
            break
        if left[example.label] > reserve:
            left[example.label] -= 1
            chosen.append(example)
    return tuple(chosen)


def _seed(seed: int, purpose: str, label: str) -> int:
    return int(_sha256(canonical_json([seed, purpose, label])), 16)


def _hash(example: Example) -> str:
    return _sha256(canonical(example))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _text_key(example: Example) -> str:
    fields = dict(example.fields)
    return canonical_json([fields, list(example.choices)] if example.choices else fields)


def _repeat_key(example: Example) -> str:
    # Not the group: the same text may stand under two questions, and must not be sampled into two splits.
    return canonical(replace(example, group=""))


# The result


def _finish(
    train: tuple[Example, ...], select: tuple[Example, ...], test: tuple[Example, ...], labels: tuple[str, ...], notes: list[str]
) -> Splits:
    if not test:
        notes.append("test is empty: no number of this run can be reported as a test result.")
    for name, part in (("select", select), ("test", test)):
        counts = _counts(part)
        absent = [label for label in labels if label not in counts]
        if part and absent:
            notes.append(f"{name}: has no example of {listing(absent)}.")
    return Splits(train, select, test, labels, _digest(train, select, test, labels), tuple(notes))


def _digest(train: Sequence[Example], select: Sequence[Example], test: Sequence[Example], labels: Sequence[str]) -> str:
    parts = {name: [as_mapping(example) for example in part] for name, part in zip(SPLITS, (train, select, test), strict=True)}
    return "sha256:" + _sha256(canonical_json({"labels": list(labels), **parts}))


def _counts(examples: Sequence[Example]) -> Counter[str]:
    return Counter(example.label for example in examples)


def _count(examples: int | Sequence[Example]) -> str:
    number = examples if isinstance(examples, int) else len(examples)
    return f"{number} example" if number == 1 else f"{number} examples"


def _excerpt(example: Example) -> str:
    return " / ".join(quote(text) for text in example.fields.values())

"""Which examples are taken: by seed, so that every run samples anew, or by hash, so that every seed is judged on the same ones.

Neither depends on the order in which examples come. Of a class's shuffled examples `train` is the front and `select` the end: with more
shots `train` grows, and `select` stays. A text's hash is of the whole example, a picture's of its content where that is known, so that
names and places of files do not matter.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Sized
from itertools import chain
from math import ceil

from maao.data.checks import canonical, canonical_json, num_examples, quote
from maao.errors import DataError
from maao.types import Example

IMAGE_SHOTS = 16  # pictures a class by default, the field's largest
SELECT_MOST = 4  # of pictures, by the field's rule: as many as shots, at most four

Key = Callable[[Example], str]  # what examples are put in order by before anything is chosen


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def text_hash(example: Example) -> str:
    return sha256(canonical(example))


def image_hash(example: Example) -> str:
    return hashlib.sha256(example.fields.get("content", example.fields["image"]).encode()).hexdigest()


def text_seed(seed: int, purpose: str, label: str) -> int:
    return int(sha256(canonical_json([seed, purpose, label])), 16)


def shuffled(examples: Sequence[Example], seed: int, key: Key) -> list[Example]:
    """Return examples in an order that depends on them and the seed alone."""
    ordered = sorted(examples, key=key)
    random.Random(seed).shuffle(ordered)
    return ordered


def shuffled_places(examples: Sequence[Example], seed: int, key: Key) -> list[int]:
    """Return the places of examples in such an order; of equal examples the first comes first."""
    ordered = sorted(range(len(examples)), key=lambda i: key(examples[i]))
    random.Random(seed).shuffle(ordered)
    return ordered


def front_and_end(order: Sequence[Example], shots: int | None, num_end: int) -> tuple[list[Example], list[Example]]:
    """Return `shots` from the front of an order, and as many as asked from its end, the last first. None: all that the end leaves.

    Example:
        >>> front_and_end("abcdef", 2, 3)
        (['a', 'b'], ['f', 'e', 'd'])
    """
    cut = len(order) - num_end
    return [*order[:cut]][:shots], [*order[cut:]][::-1]


def count_labels(examples: Sequence[Example]) -> Counter[str]:
    return Counter(example.label for example in examples)


def of_each_class(examples: Sequence[Example], labels: Sequence[str]) -> dict[str, list[Example]]:
    """Return each label's examples, in the order of the labels."""
    found: dict[str, list[Example]] = {label: [] for label in labels}
    for example in examples:
        found[example.label].append(example)
    return found


def at_most(limit: int | None, examples: Sized) -> int | None:
    """Return the limit where it binds: `data.test_size` says how many test examples there are at most.

    Example:
        >>> at_most(2, "abc"), at_most(3, "abc"), at_most(None, "abc")
        (2, None, None)
    """
    return limit if limit is not None and limit < len(examples) else None


def default_select(shots: int) -> int:
    """Return how many pictures of a class select by the field's rule: as many as shots, at most four."""
    return min(shots, SELECT_MOST)


def base_and_new(labels: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the first half of the classes (the larger one, if their number is odd) and the rest.

    Source: Zhou et al., Conditional Prompt Learning, 2022, base-to-new generalisation.

    Example:
        >>> base_and_new(["a", "b", "c"])
        (('a', 'b'), ('c',))
    """
    cut = ceil(len(labels) / 2)
    return tuple(labels[:cut]), tuple(labels[cut:])


# Texts


def keep(
    part: tuple[Example, ...], name: str, labels: Sequence[str], shots: int | None, seed: int, *, fewer: bool = False
) -> tuple[Example, ...]:
    """Return the part cut down to `shots` examples of each class, or as it is without `shots`; with `fewer`, less of some classes."""
    if shots is None:
        return part
    have = count_labels(part)
    for label in labels:
        if have[label] < shots and not fewer:
            raise DataError(f"Class {quote(label)}: {name} has {num_examples(have[label])} of it, but {shots} were asked.")
    return sample(part, labels, shots, 0, seed, purpose=name)[0]


def sample(
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
    for label, members in of_each_class(examples, labels).items():
        order = shuffled(members, text_seed(seed, purpose, label), text_hash)
        num_select = (max(int(len(order) * select_share), 1) if len(order) > 1 else 0) if select_shots is None else select_shots
        front, end = front_and_end(order, shots, num_select)
        fronts.append(front)
        ends.append(end)
    return take_turns(fronts), take_turns(ends)


def take_turns(groups: Sequence[Sequence[Example]]) -> tuple[Example, ...]:
    """Return the first of each group, then the second of each that has one, and so on.

    Example:
        >>> "".join(take_turns(["abc", "", "de"]))
        'adbec'
    """
    found: list[Example] = []
    left, turn = [group for group in groups if group], 0
    while left:
        found += [group[turn] for group in left]
        turn += 1
        left = [group for group in left if len(group) > turn]
    return tuple(found)


def lowest_hashes(examples: Sequence[Example], count: int) -> tuple[Example, ...]:
    if not examples or not examples[0].group:
        return tuple(sorted(examples, key=text_hash)[:count])
    chosen: list[Example] = []
    for question in sorted(_questions(examples), key=_hash_of_question):
        if len(chosen) + len(question) > count:
            break
        chosen += question
    if count and not chosen:
        raise DataError(f"test_size asks for {count} examples, but the first question alone has more; a question is taken whole.")
    return tuple(chosen)


def whole_questions(
    examples: Sequence[Example], sizes: Mapping[str, int], seed: int, *, purpose: str
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Return whole questions, sampled until every class has at least so many examples, and what is left."""
    questions = sorted(_questions(examples), key=_hash_of_question)
    random.Random(text_seed(seed, purpose, "questions")).shuffle(questions)
    have: Counter[str] = Counter()
    taken = 0
    while any(have[label] < size for label, size in sizes.items()):
        if taken == len(questions):
            lacking = next(label for label, size in sizes.items() if have[label] < size)
            raise DataError(f"Class {quote(lacking)}: {num_examples(have[lacking])} of it, but {sizes[lacking]} were asked.")
        have += count_labels(questions[taken])
        taken += 1
    return tuple(chain.from_iterable(questions[:taken])), tuple(chain.from_iterable(questions[taken:]))


def check_left(train: Sequence[Example], labels: Sequence[str], shots: int) -> None:
    have = count_labels(train)
    for label in labels:
        if have[label] < shots:
            raise DataError(
                f"Class {quote(label)}: {num_examples(have[label])} of it are left in train beside the questions of select, but {shots} "
                "were asked."
            )


def _questions(examples: Sequence[Example]) -> list[list[Example]]:
    """Return the examples question by question, each question's in the order of their hashes."""
    groups: dict[str, list[Example]] = {}
    for example in sorted(examples, key=text_hash):
        groups.setdefault(example.group, []).append(example)
    return list(groups.values())


def positions_of_questions(examples: Sequence[Example]) -> list[tuple[int, ...]]:
    """Return the places of each question's examples, in the order of its hash."""
    groups: dict[str, list[int]] = {}
    for place in sorted(range(len(examples)), key=lambda i: text_hash(examples[i])):
        groups.setdefault(examples[place].group, []).append(place)
    return [tuple(places) for places in groups.values()]


def _hash_of_question(question: Sequence[Example]) -> str:
    return text_hash(question[0])


def spared(pool: Sequence[Example], count: int, reserve: int) -> tuple[Example, ...]:
    """Return the `count` examples with the lowest hash, passing over those whose class would not keep `reserve` others."""
    left = count_labels(pool)
    chosen: list[Example] = []
    for example in sorted(pool, key=text_hash):
        if len(chosen) == count:
            break
        if left[example.label] > reserve:
            left[example.label] -= 1
            chosen.append(example)
    return tuple(chosen)

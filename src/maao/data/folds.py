"""Cross-validation: which examples of `train` are left out together, so that every label both trains and judges.

The rule. There are as many folds as asked for, but no more than the most frequent class has examples: then every class loses about the same
share of its examples in each fold. Where no class has two, an example of a class is all that there is of it, and there are as many folds
as asked for, but no more than examples: a class whose example is left out keeps its name. Examples are dealt class by class, in an order
that depends on them and on the seed alone, each to the next fold: so the folds differ by one example at most, and so does each class's
share of them. Questions of several examples (`Example.group`) are dealt whole.
"""

from __future__ import annotations

from collections.abc import Sequence

from maao.data.checks import listing
from maao.data.sampling import count_labels, image_hash, positions_of_questions, shuffled_places, text_hash, text_seed
from maao.errors import DataError
from maao.types import Example

CROSS_VALIDATION = "cross_validation"  # data.select, where no examples are set apart to choose by
FOLDS = 5  # by default
MOST_NAMED = 3  # classes of one example that a note names


def deal(examples: Sequence[Example], labels: Sequence[str], folds: int, seed: int) -> tuple[int, ...]:
    """Return the fold of each example, a number from 0 on; nothing for no examples.

    Args:
        labels: the classes, in their order.
        folds: the most folds, at least 2.
        seed: what is dealt is dealt with it.

    Raises:
        DataError: there is one example only (or one question), which cannot both train and judge.

    Example:
        >>> few = [Example({"text": text}, label) for label, texts in {"bad": "abcd", "good": "ef"}.items() for text in texts]
        >>> sorted(deal(few, ("bad", "good"), 5, seed=0))
        [0, 0, 1, 1, 2, 3]
        >>> sorted(deal(few[3:5], ("bad", "good"), 5, seed=0))
        [0, 1]
    """
    if not examples:
        return ()
    hands = _questions(examples, seed) if examples[0].group else _by_class(examples, labels, seed)
    most = max(count_labels(examples).values())
    count = min(folds, len(hands) if examples[0].group or most < 2 else most)
    if count < 2:
        what = "question" if examples[0].group else "example"
        raise DataError(
            f"There is one labelled {what} only, which cannot both train and judge: cross-validation needs two. Give more, or none at all."
        )
    found = [0] * len(examples)
    for turn, hand in enumerate(hands):
        for place in hand:
            found[place] = turn % count
    return tuple(found)


def told_alone(examples: Sequence[Example], folds: Sequence[int]) -> tuple[str, ...]:
    """Return a note on classes of one example, of which none is left to train on where it is judged; nothing where there are none.

    Example:
        >>> few = [Example({"text": text}, label) for text, label in zip("abcdefgh", ("x", "y", "z", "u", "v", "w", "w", "w"))]
        >>> print(*told_alone(few, deal(few, ("x", "y", "z", "u", "v", "w"), 5, seed=0)))
        5 classes have one example each ('x', 'y', 'z' and 2 more): out of fold such a class is known by its name (or its lines) alone.
    """
    if not folds or examples[0].group:  # members of questions are read by their texts
        return ()
    alone = [label for label, count in count_labels(examples).items() if count == 1]
    if not alone:
        return ()
    own = f"The class {listing(alone)} has one example" if len(alone) == 1 else f"{len(alone)} classes have one example each"
    named, such = ("", "it") if len(alone) == 1 else (f" ({listing(alone, MOST_NAMED)})", "such a class")
    return (f"{own}{named}: out of fold {such} is known by its name (or its lines) alone.",)


def unread_of_folds(is_cross_validated: bool) -> dict[str, str]:
    """Return which settings of `[data]` nothing reads with, or without, cross-validation, each with the reason."""
    if is_cross_validated:
        return {"select_shots": f"data.select is '{CROSS_VALIDATION}', which sets no examples apart to choose by: drop it"}
    return {"folds": f"data.select is not '{CROSS_VALIDATION}': set it, or drop it"}


def _by_class(examples: Sequence[Example], labels: Sequence[str], seed: int) -> list[tuple[int, ...]]:
    """Return the places of the examples one by one, class after class."""
    key = image_hash if "image" in examples[0].fields else text_hash
    places: dict[str, list[int]] = {label: [] for label in labels}
    for place, example in enumerate(examples):
        places[example.label].append(place)
    found: list[tuple[int, ...]] = []
    for label, own in places.items():
        order = shuffled_places([examples[place] for place in own], text_seed(seed, "folds", label), key)
        found += [(own[i],) for i in order]
    return found


def _questions(examples: Sequence[Example], seed: int) -> list[tuple[int, ...]]:
    """Return the places of the examples question by question."""
    questions = positions_of_questions(examples)
    order = shuffled_places([examples[places[0]] for places in questions], text_seed(seed, "folds", "questions"), text_hash)
    return [questions[i] for i in order]

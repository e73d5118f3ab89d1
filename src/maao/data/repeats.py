"""Examples that stand twice, in one split or in two, and texts that have two labels: what is refused, dropped or noted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from maao.data.checks import canonical, canonical_fields, canonical_json, excerpt, num_examples, quote
from maao.errors import DataError
from maao.types import Example

PAIRS = (("train", "select"), ("train", "test"), ("select", "test"))  # an example in two parts belongs to the earlier one


def refuse_contradictions(examples: Sequence[Example], where: str) -> None:
    for label, example in _contradictions(examples)[:1]:
        raise DataError(
            f"{where}: {excerpt(example)} has two labels, {quote(label)} and {quote(example.label)}. Keep the right one, "
            "or name a further column in text_fields that tells the two apart."
        )


def _contradictions(examples: Sequence[Example]) -> list[tuple[str, Example]]:
    """Return the examples whose text came before with another label, each with that label."""
    first: dict[str, str] = {}
    labels = [first.setdefault(text_key(example), example.label) for example in examples]
    return [(label, example) for label, example in zip(labels, examples, strict=True) if label != example.label]


def refuse_shared(parts: Mapping[str, Sequence[Example]]) -> None:
    for earlier, later in PAIRS:
        labels = {text_key(example): example.label for example in parts[earlier]}
        shared = [example for example in parts[later] if text_key(example) in labels]
        if shared:
            other = sum(labels[text_key(example)] != example.label for example in shared)
            raise DataError(
                f"{earlier} and {later} share {num_examples(shared)}, such as {excerpt(shared[0])}: splits must be disjoint"
                f"{f' ({other} of them with different labels)' if other else ''}. drop_repeats=True keeps "
                f"{'it' if len(shared) == 1 else 'them'} in {earlier} only."
            )


def without_repeats(examples: Sequence[Example], where: str, notes: list[str]) -> tuple[Example, ...]:
    kept = tuple({repeat_key(example): example for example in examples}.values())
    if len(kept) < len(examples):
        notes.append(f"{where}: {num_examples(examples[len(kept) :])} dropped that repeat another one; {len(kept)} are left.")
    return kept


def note_repeats(parts: Mapping[str, Sequence[Example]], notes: list[str]) -> None:
    for name, part in parts.items():
        repeats = len(part) - len({repeat_key(example) for example in part})
        if repeats:
            notes.append(
                f"{name}: {repeats} of {len(part)} examples repeat another one of {name}; they are kept (drop_repeats=True drops them)."
            )


def note_contradictions(parts: Mapping[str, Sequence[Example]], notes: list[str]) -> None:
    # Published test sets have some (two readings of one sentence, say). Unlike in train they do no harm, and dropping them would make
    # the numbers incomparable with published ones.
    for name, part in parts.items():
        if found := _contradictions(part):
            label, example = found[0]
            notes.append(
                f"{name}: {num_examples([one for _, one in found])} kept whose text has another label too, such as {excerpt(example)} "
                f"({quote(label)} and {quote(example.label)}): no answer gets both right."
            )


def drop_shared(parts: dict[str, tuple[Example, ...]], notes: list[str]) -> None:
    for earlier, later in PAIRS:
        labels = {text_key(example): example.label for example in parts[earlier]}
        shared = [example for example in parts[later] if text_key(example) in labels]
        if shared:
            other = sum(labels[text_key(example)] != example.label for example in shared)
            parts[later] = tuple(example for example in parts[later] if text_key(example) not in labels)
            notes.append(
                f"{later}: {num_examples(shared)} dropped that {earlier} has too{f' ({other} with a different label)' if other else ''}; "
                f"{len(parts[later])} are left."
            )


def text_key(example: Example) -> str:
    if example.choices:
        return canonical_json([dict(example.fields), list(example.choices)])
    return canonical_fields(example.fields)


def repeat_key(example: Example) -> str:
    # Not the group: the same text may stand under two questions, and must not be sampled into two splits.
    return canonical(replace(example, group="") if example.group else example)

"""Which part of a data set is used for what, as named protocols: two results can be compared only if theirs is the same.

A protocol says how many examples train, which ones choose, and which ones are reported. How examples are sampled is `splits.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maao.data.checks import check_examples, listing, nearest
from maao.data.splits import from_parts
from maao.errors import ConfigError, DataError
from maao.types import Example, Splits


@dataclass(frozen=True, slots=True)
class Protocol:
    """How results are made.

    `shots` and `select_shots` are examples of each class (None: all; for `select`, a given part as it is, or `select_share` of train), and
    `test_size` the most test examples, chosen by hash. `biased` if the examples that chose are the ones that are reported.
    """

    name: str
    description: str
    shots: int | None = None
    select_shots: int | None = None
    select_share: float | None = None
    test_size: int | None = None
    biased: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.description}{'; biased' if self.biased else ''})"


FEW_SHOT_16 = Protocol("few-shot-16", "16 examples a class train, 16 others a class choose, the test set is reported", 16, 16)
FEW_SHOT_16_TEST_500 = Protocol(
    "few-shot-16-test-500",
    "16 examples a class train, 16 others choose, at most 500 of the test set, by hash, are reported",
    16,
    16,
    None,
    500,
)
FEWGLUE_32 = Protocol(
    "fewglue-32",
    "FewGLUE's 32 examples train, its 32 of dev32 choose, at most 500 of the validation set, by hash, are reported",
    test_size=500,
)
FULL = Protocol(
    "full", "nine tenths of the training set train, one tenth of each class chooses, the validation set is reported", select_share=0.1
)
RELEASED = Protocol(
    "released",
    "the training set trains, the validation set both chooses and is reported, as in the reference release, so that the best of many "
    "looks is reported and is too high",
    biased=True,
)
PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol for protocol in (FEW_SHOT_16, FEW_SHOT_16_TEST_500, FEWGLUE_32, FULL, RELEASED)
}


def protocol_named(name: str, protocols: Mapping[str, Protocol] = PROTOCOLS) -> Protocol:
    """Return a protocol; those of pictures are in `maao.data.images.protocols`.

    Raises:
        ConfigError: there is no protocol of this name.

    Example:
        >>> protocol_named("fewglue-32").test_size
        500
    """
    if name not in protocols:
        raise ConfigError(f"There is no protocol {name!r}.{nearest(str(name), protocols)} Protocols: {listing(protocols)}.")
    return protocols[name]


def splits_by(
    protocol: Protocol,
    train: Sequence[Example],
    select: Sequence[Example] | None,
    held_out: Sequence[Example],
    *,
    labels: Sequence[str] | None = None,
    seed: int = 0,
    drop_repeats: bool = False,
) -> Splits:
    """Return the splits that a protocol makes of the parts of a data set; the first note names the protocol.

    Args:
        protocol: which protocol.
        train: the training set, or FewGLUE's 32.
        select: FewGLUE's dev32 or a published set to choose by; None where there is none. `FULL` and `RELEASED` must not be given one.
        held_out: the set that is reported: the validation set for SuperGLUE, whose test set has no labels. By `RELEASED` it becomes
            `select`, and `test` is empty: a number of such a run is one of the examples that chose it, and cannot pass for a test result.
        labels, seed, drop_repeats: as for `maao.data.splits.from_parts`.

    Raises:
        ConfigError: `select` is missing for `FEWGLUE_32`, or given where the protocol makes its own.
        DataError: as for `from_parts`.

    Example:
        >>> train = [Example({"text": f"{label} {i}"}, label) for label in ("bad", "good") for i in range(20)]
        >>> splits = splits_by(FULL, train, None, [Example({"text": "good 20"}, "good")])
        >>> len(splits.train), len(splits.select), len(splits.test), splits.notes[0][:15]
        (36, 4, 1, 'Protocol full (')
    """
    if protocol == FEWGLUE_32 and select is None:
        raise ConfigError(f"The protocol {protocol.name!r} chooses by dev32: give it as select.")
    if (protocol.biased or protocol.select_share is not None) and select is not None:
        own = "reports the set that chooses" if protocol.biased else "takes select out of the training set"
        raise ConfigError(f"The protocol {protocol.name!r} {own}: give no select.")
    if not held_out:
        raise DataError(f"The protocol {protocol.name!r} reports a held-out set, but it is empty.")
    if protocol.biased:
        splits = from_parts(train, held_out, (), labels=labels, seed=seed, drop_repeats=drop_repeats)
    else:
        limit = protocol.test_size if protocol.test_size is not None and protocol.test_size < len(held_out) else None
        check_examples(train, "train")
        splits = from_parts(
            train,
            select,
            held_out,
            labels=labels,
            shots=protocol.shots,
            select_shots=protocol.select_shots,
            select_share=0.5 if protocol.select_share is None else protocol.select_share,
            test_size=limit,
            seed=seed,
            drop_repeats=drop_repeats,
        )
    note = f"Protocol {protocol}."
    return Splits(splits.train, splits.select, splits.test, splits.labels, splits.digest, (note, *splits.notes))


def check_same(rows: Iterable[Mapping[str, Any]], protocols: Mapping[str, Protocol] = PROTOCOLS) -> Protocol:
    """Return the one protocol that all results were made by.

    Args:
        rows: results, each with the name of its protocol under "protocol" and, where it differs from the protocol's own, how many examples
            of each class trained under "shots".
        protocols: the protocols that there are, by name.

    Raises:
        ConfigError: there is no result, a result names no protocol or an unknown one, or two results differ in protocol or shots.

    Example:
        >>> check_same([{"protocol": "full", "accuracy": 0.8}, {"protocol": "full", "accuracy": 0.9}]).name
        'full'
        >>> check_same([{"protocol": "full"}, {"protocol": "fewglue-32"}])
        Traceback (most recent call last):
        maao.errors.ConfigError: Results of different protocols cannot be compared: result 1 is of 'full' (... result 2 of 'fewglue-32' ...
    """
    first: tuple[Protocol, Any] | None = None
    for number, row in enumerate(rows, 1):
        if "protocol" not in row:
            raise ConfigError(f"Result {number} does not say by which protocol it was made. Protocols: {listing(protocols)}.")
        protocol = protocol_named(row["protocol"], protocols)
        this = (protocol, row.get("shots", protocol.shots))
        first = this if first is None else first
        if this != first:
            raise ConfigError(
                f"Results of different protocols cannot be compared: result 1 is of {_told(*first)} and result {number} of {_told(*this)}. "
                "Compare them apart, or run one again by the other's."
            )
    if first is None:
        raise ConfigError("There are no results to compare.")
    return first[0]


def _told(protocol: Protocol, shots: Any) -> str:
    return f"{protocol.name!r} ({'all' if shots is None else shots} shots; {protocol.description}{'; biased' if protocol.biased else ''})"

"""Which part of a data set is used for what, as named protocols: two results can be compared only if theirs is the same.

A protocol says how many examples train, which ones choose, and which ones are reported. How examples are sampled is `sampling.py`.
`PROTOCOLS` are those of texts. Of pictures, `IMAGES_FEW_SHOT[k]`, `BASE_TO_NEW` and `CROSS_DATASET` are the field's, `EMOJI[k]` that of the
emoji task; a config that departs from them (by another number of pictures to select with, or a part of the test set) has a protocol whose
name says so: `protocol_of`.

Sources: Zhou et al., Learning to Prompt for Vision-Language Models, 2022 (few-shot), and Conditional Prompt Learning for Vision-Language
Models, 2022 (base-to-new, cross-dataset).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from maao.data import image_sets
from maao.data.checks import check_examples, listing, nearest
from maao.data.dataset import HUB
from maao.data.image_sets import CATALOG, EMOJI_SELECT, EMOJI_TRAIN
from maao.data.sampling import IMAGE_SHOTS, at_most, default_select
from maao.data.splits import from_parts
from maao.errors import ConfigError, DataError
from maao.types import Example, Splits

if TYPE_CHECKING:
    from maao.data.image_data import ImageData


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


_CROSS_VALIDATION = "cross-validation"  # in names

FIELD_SHOTS = (1, 2, 4, 8, 16)


def images_few_shot(shots: int) -> Protocol:
    """Return the few-shot protocol over all classes.

    Example:
        >>> images_few_shot(8).name, images_few_shot(8).select_shots
        ('images-few-shot-8', 4)
    """
    select = default_select(shots)
    text = f"of all classes, {shots} pictures a class train, {select} others choose, all test pictures are reported"
    return Protocol(f"images-few-shot-{shots}", text, shots, select)


IMAGES_FEW_SHOT: Mapping[int, Protocol] = {shots: images_few_shot(shots) for shots in FIELD_SHOTS}
SHOTS_UNSET = Protocol("images-few-shot-unset", "of all classes, 16 pictures a class train, or all of a folder that comes in parts")
BASE_TO_NEW = Protocol(
    "images-base-to-new",
    "of the first half of the classes, 16 pictures a class train and 4 others choose; the test pictures of that half and of the other, "
    "each among its own classes, are reported, and the harmonic mean",
    IMAGE_SHOTS,
    default_select(IMAGE_SHOTS),
)
CROSS_DATASET = Protocol(
    "images-cross-dataset",
    "of all classes of one data set, 16 pictures a class train and 4 others choose; the test pictures of other data sets are reported",
    IMAGE_SHOTS,
    default_select(IMAGE_SHOTS),
)


def emoji(shots: int, style: str = "twemoji") -> Protocol:
    """Return the protocol of the emoji task."""
    text = f"{shots} of the {EMOJI_TRAIN} groups a class train, {EMOJI_SELECT} others choose, up to 12 others are reported, all by seed"
    drawn = "" if style == "twemoji" else f"-{style}"
    return Protocol(f"emoji-{shots}{drawn}", text + (f", in the {style} style" if drawn else ""), shots, EMOJI_SELECT)


EMOJI: Mapping[int, Protocol] = {shots: emoji(shots) for shots in (1, 2, 4, 8)}
IMAGE_PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol for protocol in (*IMAGES_FEW_SHOT.values(), BASE_TO_NEW, CROSS_DATASET, *EMOJI.values())
}


def cross_validated_name(folds: int, of: str = "") -> str:
    """Return the name of the protocol by which all labels train and each is judged out of fold, in place of a protocol's own choice.

    Example:
        >>> cross_validated_name(5), cross_validated_name(5, "images-few-shot-8")
        ('cross-validation-5', 'images-few-shot-8-cross-validation-5')
    """
    return f"{of}-{_CROSS_VALIDATION}-{folds}" if of else f"{_CROSS_VALIDATION}-{folds}"


def cross_validated(folds: int) -> Protocol:
    """Return the protocol of texts by which all labels train and each is judged out of fold.

    Example:
        >>> cross_validated(5).name
        'cross-validation-5'
    """
    return Protocol(cross_validated_name(folds), f"all labels train, and each is judged by what was tuned without its one of {folds} folds")


def protocol_named(name: str, protocols: Mapping[str, Protocol] = PROTOCOLS) -> Protocol:
    """Return a protocol; of texts, unless others are given.

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
        check_examples(train, "train")
        splits = from_parts(
            train,
            select,
            held_out,
            labels=labels,
            shots=protocol.shots,
            select_shots=protocol.select_shots,
            select_share=0.5 if protocol.select_share is None else protocol.select_share,
            test_size=at_most(protocol.test_size, held_out),
            seed=seed,
            drop_repeats=drop_repeats,
        )
    note = f"Protocol {protocol}."
    return Splits(splits.train, splits.select, splits.test, splits.labels, splits.digest, (note, *splits.notes))


def protocol_of(images: ImageData) -> Protocol:
    """Return the protocol of a `[data]` of pictures: a named one, or one whose name says how it departs from that.

    A folder whose `shots` are not set may come in parts, of which all of train is used: its protocol has no number of shots.
    """
    folder = images.source not in CATALOG and not images.source.startswith(HUB)
    shots = images.shots if images.shots is not None or folder else IMAGE_SHOTS
    departs: list[tuple[str, str]] = []  # what is added to the name, and to the description
    if images.source == image_sets.EMOJI:
        protocol = emoji(images.shots or EMOJI_TRAIN, images.style)
        departs += [] if images.protocol == "few-shot" else [(images.protocol, f"but {images.protocol}")]
    elif images.protocol == "few-shot" and shots is not None:
        protocol = images_few_shot(shots)
    else:
        protocol = {"few-shot": SHOTS_UNSET, "base-to-new": BASE_TO_NEW, "cross-dataset": CROSS_DATASET}[images.protocol]
        if shots is not None and shots != protocol.shots:
            departs.append((f"{shots}", f"but {shots} pictures a class train, and {default_select(shots)} choose"))
            protocol = replace(protocol, shots=shots, select_shots=default_select(shots))
        elif shots is None and images.protocol != "few-shot":
            departs.append(("unset", "but all of a folder that comes in parts"))
            protocol = replace(protocol, shots=None, select_shots=None)
    if images.select_shots not in (None, protocol.select_shots):
        departs.append((f"select-{images.select_shots}", f"but {images.select_shots} pictures a class choose"))
        protocol = replace(protocol, select_shots=images.select_shots)
    if images.is_cross_validated:
        told_of_folds = f"but none is set apart to choose: each is judged by what was tuned without its one of {images.folds} folds"
        departs.append((cross_validated_name(images.folds), told_of_folds))
        protocol = replace(protocol, select_shots=None)
    if images.test_size is not None:
        departs.append((f"test-{images.test_size}", f"but at most {images.test_size} test pictures are reported"))
        protocol = replace(protocol, test_size=images.test_size)
    if images.fewer:
        departs.append(("fewer", "but fewer of a class that has fewer"))
    names, told = [suffix for suffix, _ in departs], [text for _, text in departs]
    return replace(protocol, name="-".join([protocol.name, *names]), description="; ".join([protocol.description, *told]))


def check_same(rows: Iterable[Mapping[str, object]], further: Iterable[Protocol] = ()) -> Protocol:
    """Return the one protocol that all results were made by.

    Args:
        rows: results, each with the name of its protocol under "protocol" and, where it differs from the protocol's own, how many examples
            of each class trained under "shots".
        further: protocols beside the named ones, as `protocol_of` gives them.

    Raises:
        ConfigError: there is no result, a result names no protocol or an unknown one, or two results differ in protocol or shots.

    Example:
        >>> check_same([{"protocol": "full", "accuracy": 0.8}, {"protocol": "full", "accuracy": 0.9}]).name
        'full'
        >>> check_same([{"protocol": "full"}, {"protocol": "fewglue-32"}])
        Traceback (most recent call last):
        maao.errors.ConfigError: Results of different protocols cannot be compared: result 1 is of 'full' (... result 2 of 'fewglue-32' ...
    """
    protocols = {**PROTOCOLS, **IMAGE_PROTOCOLS, **{protocol.name: protocol for protocol in further}}
    first: tuple[Protocol, object] | None = None
    for number, row in enumerate(rows, 1):
        if "protocol" not in row:
            raise ConfigError(f"Result {number} does not say by which protocol it was made. Protocols: {listing(protocols)}.")
        protocol = protocol_named(str(row["protocol"]), protocols)
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


def _told(protocol: Protocol, shots: object) -> str:
    return f"{protocol.name!r} ({'all' if shots is None else shots} shots; {protocol.description}{'; biased' if protocol.biased else ''})"

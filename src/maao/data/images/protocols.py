"""How results on pictures are made, as named protocols: two results can be compared only if theirs is the same.

`FEW_SHOT[k]`, `BASE_TO_NEW` and `CROSS_DATASET` are the field's; `EMOJI[k]` is that of the emoji task. A config that departs from them (by
another number of pictures to select with, or a part of the test set) has a protocol whose name says so: `protocol_of`.

Sources: Zhou et al., Learning to Prompt for Vision-Language Models, 2022 (few-shot), and Conditional Prompt Learning for Vision-Language
Models, 2022 (base-to-new, cross-dataset).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from maao.data.images.catalog import CATALOG
from maao.data.images.emoji import SELECT as EMOJI_SELECT
from maao.data.images.emoji import TRAIN as EMOJI_TRAIN
from maao.data.images.sampling import SHOTS, default_select
from maao.data.protocols import Protocol, check_same

FIELD_SHOTS = (1, 2, 4, 8, 16)


def few_shot(shots: int) -> Protocol:
    """Return the few-shot protocol over all classes.

    Example:
        >>> few_shot(8).name, few_shot(8).select_shots
        ('images-few-shot-8', 4)
    """
    select = default_select(shots)
    text = f"of all classes, {shots} pictures a class train, {select} others choose, all test pictures are reported"
    return Protocol(f"images-few-shot-{shots}", text, shots, select)


FEW_SHOT: Mapping[int, Protocol] = {shots: few_shot(shots) for shots in FIELD_SHOTS}
SHOTS_UNSET = Protocol("images-few-shot-unset", "of all classes, 16 pictures a class train, or all of a folder that comes in parts")
BASE_TO_NEW = Protocol(
    "images-base-to-new",
    "of the first half of the classes, 16 pictures a class train and 4 others choose; the test pictures of that half and of the other, "
    "each among its own classes, are reported, and the harmonic mean",
    SHOTS,
    default_select(SHOTS),
)
CROSS_DATASET = Protocol(
    "images-cross-dataset",
    "of all classes of one data set, 16 pictures a class train and 4 others choose; the test pictures of other data sets are reported",
    SHOTS,
    default_select(SHOTS),
)


def emoji(shots: int, style: str = "twemoji") -> Protocol:
    """Return the protocol of the emoji task."""
    text = f"{shots} of the {EMOJI_TRAIN} groups a class train, {EMOJI_SELECT} others choose, up to 12 others are reported, all by seed"
    drawn = "" if style == "twemoji" else f"-{style}"
    return Protocol(f"emoji-{shots}{drawn}", text + (f", in the {style} style" if drawn else ""), shots, EMOJI_SELECT)


EMOJI: Mapping[int, Protocol] = {shots: emoji(shots) for shots in (1, 2, 4, 8)}
IMAGE_PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol for protocol in (*FEW_SHOT.values(), BASE_TO_NEW, CROSS_DATASET, *EMOJI.values())
}


def protocol_of(images: Any) -> Protocol:
    """Return the protocol of a config's `images` section: a named one, or one whose name says how it departs from that.

    A folder whose `shots` are not set may come in parts, of which all of train is used: its protocol has no number of shots.
    """
    folder = images.source not in CATALOG and not images.source.startswith("hub:")
    shots = images.shots if images.shots is not None or folder else SHOTS
    departs: list[tuple[str, str]] = []  # what is added to the name, and to the description
    if images.source == "emoji":
        protocol = emoji(images.shots or EMOJI_TRAIN, images.style)
        departs += [] if images.protocol == "few-shot" else [(images.protocol, f"but {images.protocol}")]
    elif images.protocol == "few-shot" and shots is not None:
        protocol = few_shot(shots)
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
    if images.test_size is not None:
        departs.append((f"test-{images.test_size}", f"but at most {images.test_size} test pictures are reported"))
        protocol = replace(protocol, test_size=images.test_size)
    if images.fewer:
        departs.append(("fewer", "but fewer of a class that has fewer"))
    names, told = [suffix for suffix, _ in departs], [text for _, text in departs]
    return replace(protocol, name="-".join([protocol.name, *names]), description="; ".join([protocol.description, *told]))


def check_same_images(rows: Iterable[Mapping[str, Any]], protocols: Iterable[Protocol] = ()) -> Protocol:
    """Return the one protocol that all results were made by, as `maao.data.protocols.check_same` does.

    Args:
        rows: results, each with the name of its protocol under "protocol".
        protocols: further protocols than the named ones, as `protocol_of` gives them.

    Raises:
        ConfigError: there is no result, a result names no protocol or an unknown one, or two results differ in protocol.

    Example:
        >>> check_same_images([{"protocol": "images-few-shot-1"}, {"protocol": "images-few-shot-1"}]).shots
        1
        >>> check_same_images([{"protocol": "images-few-shot-1"}, {"protocol": "images-few-shot-16"}])
        Traceback (most recent call last):
        maao.errors.ConfigError: Results of different protocols cannot be compared: result 1 is of 'images-few-shot-1' (1 shots; ...
    """
    return check_same(rows, {**IMAGE_PROTOCOLS, **{protocol.name: protocol for protocol in protocols}})

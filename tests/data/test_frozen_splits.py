"""Which examples are chosen for a seed never changes: the digests of splits, as they were before the rooms of `data/` were rebuilt."""

import os
from pathlib import Path

import pytest

from maao.data.image_data import ImageData
from maao.data.images.sampling import FewShot, sample_parts, sample_pool
from maao.data.protocols import FEW_SHOT_16, FEWGLUE_32, FULL, RELEASED, splits_by
from maao.data.splits import few_shot, from_parts
from maao.types import Example

LABELS = ("bad", "good", "so so")


def texts(count: int, part: str = "", labels: tuple[str, ...] = LABELS, group: int = 0) -> list[Example]:
    return [
        Example({"text": f"{part} {label} {i}"}, label, group=f"{part}{i // group}" if group else "")
        for label in labels
        for i in range(count)
    ]


def pictures(sizes: dict[str, int], part: str = "") -> list[Example]:
    """Return pictures: those of a part are known by their names alone, those of a pool by what they hold."""
    return [
        Example({"image": f"{part}{label}/{i}.png", **({} if part else {"content": f"{i * 7919 % 1009:08x}{label}"})}, label)
        for label, size in sizes.items()
        for i in range(size)
    ]


def of_parts(**given):
    asked = {"shots": None, "select_shots": None, "seed": 3, **given}
    return from_parts(texts(20, "train"), asked.pop("select", None), texts(9, "test"), **asked)


def of_questions(**given):
    return from_parts(texts(12, "a", LABELS[:2], 3), given.pop("select", None), texts(9, "c", LABELS[:2], 3), seed=2, **given)


def of_pool(sizes: dict[str, int], **given):
    asked = {"shots": 4, "select_shots": 2, "test_size": None, "seed": 5, "fewer": False, **given}
    return sample_pool(pictures(sizes), tuple(sizes), FewShot(**asked))


def of_picture_parts(select: bool, **given):
    sizes = dict.fromkeys(LABELS, 9)
    parts = {"train": pictures(sizes, "train/"), "test": pictures(dict.fromkeys(LABELS, 6), "test/")}
    if select:
        parts["select"] = pictures(dict.fromkeys(LABELS, 5), "select/")
    asked = {"shots": 4, "select_shots": None, "test_size": None, "seed": 5, "fewer": False, **given}
    return sample_parts(parts, LABELS, FewShot(**asked))


MADE = {
    "few_shot": lambda: few_shot(texts(40), shots=4, select_shots=3, test_size=30, seed=7),
    "few_shot, all the rest": lambda: few_shot(texts(40), shots=4, select_shots=3, test_size=None, seed=7),
    "few_shot, a small pool": lambda: few_shot(texts(9), shots=4, select_shots=4, test_size=500, seed=1),
    "few_shot, labels in an order": lambda: few_shot(texts(20), shots=2, select_shots=2, test_size=9, seed=0, labels=LABELS[::-1]),
    "from_parts": of_parts,
    "from_parts, few": lambda: of_parts(shots=3, select_shots=2, test_size=11),
    "from_parts, a share": lambda: of_parts(select_share=0.2),
    "from_parts, select given": lambda: of_parts(select=texts(7, "select"), shots=3, select_shots=2),
    "from_parts, questions": of_questions,
    "from_parts, few questions": lambda: of_questions(shots=2, select_shots=2, test_size=10),
    "from_parts, questions of select": lambda: of_questions(select=texts(9, "b", LABELS[:2], 3), select_shots=2),
    "few-shot-16": lambda: splits_by(FEW_SHOT_16, texts(40), None, texts(50, "test"), seed=3),
    "fewglue-32": lambda: splits_by(FEWGLUE_32, texts(11), texts(11, "dev"), texts(200, "test"), seed=3),
    "full": lambda: splits_by(FULL, texts(40), None, texts(50, "test"), seed=3),
    "released": lambda: splits_by(RELEASED, texts(40), None, texts(50, "test"), seed=3),
    "sample_pool": lambda: of_pool(dict.fromkeys(LABELS, 20)),
    "sample_pool, few": lambda: of_pool({"bad": 3, "good": 30, "so so": 5}, shots=8, select_shots=4, fewer=True, test_size=7),
    "sample_parts": lambda: of_picture_parts(True),
    "sample_parts, all": lambda: of_picture_parts(True, shots=None, test_size=5),
    "sample_parts, select out of train": lambda: of_picture_parts(False, seed=1),
}
DIGESTS: dict[str, str] = {
    "few_shot": "sha256:255c8878ddd4c6b66f63ac459e8b643a8651781cf3f9342c778e89f9c7e4f72e",
    "few_shot, all the rest": "sha256:0a685f0ebc6af1af2b4fae2c3b4c745aa4f188ab407097d75ff7f3dd2755f22a",
    "few_shot, a small pool": "sha256:f70cdb6e0a568260bbcdda949898dd32bb76491f1bad739919fdb8f33e008623",
    "few_shot, labels in an order": "sha256:ab2fa208525bcb3254f8aee1572be033d01865a0fe1e0b738397f9a50f2b057f",
    "from_parts": "sha256:9eeb5fc0a9f6c8a4d7fc3011e06219268d970392d182fe0c26275a83b4746eaa",
    "from_parts, few": "sha256:d6a0bb4529ec7c20b88df09c1b628731c1273ccb3e047bb0a09aa63ec2e411eb",
    "from_parts, a share": "sha256:3d2a6eb39af3ef1d6b8ccb8642f862eaa6b90824f9d70c45bb6be4ca0a478caa",
    "from_parts, select given": "sha256:04872d52997934be69c69698f98d1bb46494ffc1ab97835d2584743b5e5cd793",
    "from_parts, questions": "sha256:7ad55aa1dc8f81f3b64ffddf3fb4fe2bd1dd9934a10c5f58ca80b1151604e90c",
    "from_parts, few questions": "sha256:6d135e13536d65b3819e0b3e7e0ae4e726842da34bcb00d36dc7f8a2576f7116",
    "from_parts, questions of select": "sha256:e13a13d7f8e88129d74ba79cd310e5b83a49946c3c14d5248efbacd98bcd8e7f",
    "few-shot-16": "sha256:0892177d118c08d0cc5f6bd2cf1c7151ccf5920789a0b9961070bff689f61961",
    "fewglue-32": "sha256:2700b695e2bf66f33baf537807949bd79f9a906c5739401567736fbe5f5aa870",
    "full": "sha256:cfdfe1f14d5832da7cf2d8ff733b36d53689bcb890c7dc821cc12f31cc380ab6",
    "released": "sha256:30c58f3261cf358c2880e7f8efc8de814838f514c8652ad12d50f5b3078b4cff",
    "sample_pool": "sha256:61314dd3ad5c2691eb3369f4e345d94ed72dfa9cd65cef92861162d2a3ab7a62",
    "sample_pool, few": "sha256:1f2fab59da9401743e386928c4d188a5c2c688b69a9f06a292d605451d1c5f2c",
    "sample_parts": "sha256:0f2c3df9fa770b3068e4d9e826e64bd8d2fdede3edbec0f61951da98bc29c582",
    "sample_parts, all": "sha256:af2b3abed341304843bf33346224d5fc848c201d14e0a2bfdeb2eb482342a2fb",
    "sample_parts, select out of train": "sha256:6646d04e826259135c54a4d5dd90afe2c58edad005545ca4a344bd235ec6c0c3",
}


@pytest.mark.parametrize("name", MADE)
def test_the_same_examples_are_chosen(name):
    assert MADE[name]().digest == DIGESTS[name]


EMOJI = {
    "few": ({"shots": 4}, 1, "sha256:2b7d0d39aa2ea65cdb43a90b3eebfe75908539409fd61603cfb54eacbc0f86b9"),
    "halves": ({"protocol": "base-to-new"}, 0, "sha256:f08d922f1693b280de6295b9a58312bb7484e7b75674e1844d4771049a9cba41"),
    "noto": ({"style": "noto"}, 2, "sha256:9150f4d316918df1487c2f6c1314a44e103ca54d7a4b236bd71325d12fe4a240"),
}


@pytest.mark.skipif(not Path(os.environ.get("MAAO_DATA", "data"), "emoji", "emoji.json").is_file(), reason="MAAO_DATA holds no emoji data")
@pytest.mark.parametrize("name", EMOJI)
def test_the_same_emoji_are_chosen(name):
    given, seed, digest = EMOJI[name]
    assert ImageData(**given).load(seed).splits.digest == digest

"""What is locked is whole: everything that pyproject.toml asks for, at the pins of constraints.txt, with hashes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINNED = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==([\w.+!]+)", flags=re.M)
STALE = "run `make lock`"


def pins(file: str) -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in PINNED.findall((ROOT / file).read_text(encoding="utf-8"))}


def asked_for(extra: str) -> list[Requirement]:
    """Return what an extra asks for, with what its extras of our own ask for, and what is always needed."""
    found: list[Requirement] = []
    for text in PROJECT["optional-dependencies"][extra]:
        one = Requirement(text)
        found += [inner for name in one.extras for inner in asked_for(name)] if one.name == PROJECT["name"] else [one]
    return [*map(Requirement, PROJECT["dependencies"]), *found]


@pytest.mark.parametrize("extra", ["all", "dev"])
def test_what_is_locked_is_all_that_is_asked_for_at_the_pins_and_with_hashes(extra):
    locked, pinned = pins(f"locked/{extra}.txt"), pins("constraints.txt")
    for one in asked_for(extra):
        assert one.specifier.contains(Version(locked[canonicalize_name(one.name)])), f"{one}: {STALE}"
    assert {name: version for name, version in locked.items() if pinned.get(name, version) != version} == {}, STALE
    blocks = re.findall(r"^\w.*(?:\n .*)*\n", (ROOT / f"locked/{extra}.txt").read_text(encoding="utf-8"), flags=re.M)
    assert {canonicalize_name(PINNED.match(block)[1]) for block in blocks} == {*locked}  # some twice, for Pythons of today and to come
    assert all("--hash=sha256:" in block for block in blocks)


def test_every_direct_dependency_of_development_is_pinned():
    pinned = pins("constraints.txt")
    assert sorted(one.name for one in asked_for("dev") if canonicalize_name(one.name) not in pinned) == [], "add them to constraints.txt"

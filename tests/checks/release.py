"""The wheel, built twice with the same bytes, and a bill of what it needs beside it. `make release`.

Each wheel is built from a copy of the committed tree, in another folder and with other times of its files. The umask is set, since
setuptools writes into the wheel what it leaves of a file's mode. The bill of materials (CycloneDX, JSON) is made by cyclonedx-bom from
`locked/all.txt`: what `maao[all]` was resolved to, with hashes.

python -m tests.checks.release dist
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

from tests.checks.record import ROOT, Record

CYCLONEDX = "cyclonedx-bom==7.5.0"  # dev-only, in an environment of its own
LOCKED = ROOT / "locked" / "all.txt"
TIMES = (1_000_000_000, 1_500_000_000)  # of the files of each copy
UMASK = 0o022


def main(to: str | None = None) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        record = Record("release", "make release: the wheel built twice with the same bytes, and its bill of materials.", {folder: "TMP"})
        epoch = subprocess.run(
            ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()  # of the commit
        wheels = [build(record, folder / name, number, epoch) for number, name in enumerate(("one", "elsewhere"))]
        hashes = [hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels]
        record.note("", *(f"sha256 {digest}  {wheel.name}" for digest, wheel in zip(hashes, wheels, strict=True)))
        if hashes[0] != hashes[1]:
            record.note("the two differ", *differing(*wheels))
            record.end()
            sys.exit("the wheel is not reproducible: see what differs above")
        record.note(f"the same bytes, SOURCE_DATE_EPOCH that of the commit; its members are of {members(wheels[0])}")
        bills = [bill(record, folder / f"{number}.cdx.json") for number in range(2)]
        if bills[0].read_bytes() != bills[1].read_bytes():
            sys.exit("the bill of materials is not reproducible")
        record.note("", *check_bill(bills[0]))
        if to is not None:
            Path(to).mkdir(exist_ok=True)
            shutil.copy(wheels[0], to)
            shutil.copy(bills[0], Path(to) / f"{wheels[0].stem}.cdx.json")
        record.end()


def build(record: Record, place: Path, number: int, epoch: str) -> Path:
    """Return a wheel built from a copy of the committed tree."""
    tree = subprocess.run(["git", "archive", "HEAD", "src", *FILES], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(tree)) as archive:
        archive.extractall(place, filter="data")
    for file in place.rglob("*"):
        os.utime(file, (TIMES[number], TIMES[number]))
    before = os.umask(UMASK)
    try:
        out = place.parent / f"dist-{number}"
        record.run([sys.executable, "-m", "build", "--wheel", "--outdir", out, place], last=1, SOURCE_DATE_EPOCH=epoch)
    finally:
        os.umask(before)
    return next(out.glob("*.whl"))


FILES = ("pyproject.toml", "README.md", "LICENSE")


def members(wheel: Path) -> str:
    """Return from when the members of a wheel are."""
    import zipfile

    with zipfile.ZipFile(wheel) as archive:
        return " and ".join(sorted({"{}-{:02}-{:02}".format(*one.date_time[:3]) for one in archive.infolist()}))


def differing(one: Path, other: Path) -> list[str]:
    """Return the names of members that differ between two wheels."""
    import zipfile

    with zipfile.ZipFile(one) as a, zipfile.ZipFile(other) as b:
        held = [{m.filename: (m.CRC, m.date_time, m.external_attr) for m in archive.infolist()} for archive in (a, b)]
    return sorted(name for name in held[0].keys() | held[1].keys() if held[0].get(name) != held[1].get(name))[:20] or ["their order"]


def bill(record: Record, file: Path) -> Path:
    """Write the bill of materials of what the wheel may need."""
    tool = [sys.executable, "-m", "uv", "tool", "run", "--quiet", "--from", CYCLONEDX, "cyclonedx-py"]
    options = ["--pyproject", ROOT / "pyproject.toml", "--mc-type", "library", "--output-reproducible", "--of", "JSON", "-o", file]
    record.run([*tool, "requirements", *options, LOCKED], last=1)
    return file


def check_bill(file: Path) -> list[str]:
    """Return what a bill of materials holds; it must have all that is locked, each with its hashes."""
    held = json.loads(file.read_text(encoding="utf-8"))
    found = {(one["name"].lower(), one["version"]): one for one in held["components"]}
    wanted = set(re.findall(r"^([\w.-]+)(?:\[.*\])?==([\w.]+)", LOCKED.read_text(encoding="utf-8"), flags=re.M))
    assert wanted <= found.keys(), f"the bill of materials lacks {sorted(wanted - found.keys())}"
    bare = sorted(name for name in wanted if not any(ref.get("hashes") for ref in found[name].get("externalReferences", ())))
    assert not bare, f"the bill of materials has no hashes of {bare}"
    main = held["metadata"]["component"]
    told = f"{held['bomFormat']} {held['specVersion']} of {main['name']} {main.get('version', '')}"
    return [f"{told}: {len(wanted)} packages, each with hashes"]


if __name__ == "__main__":
    main(*sys.argv[1:])

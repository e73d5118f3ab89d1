"""A part of the fast tests on the wheel with other versions: the least that ``pyproject.toml`` admits, or another Python.

python -m tests.checks.versions lowest
python -m tests.checks.versions python-3.12 /path/to/python3.12
"""

from __future__ import annotations

import re
import sys
import tempfile
import tomllib
from pathlib import Path

from tests.checks.record import ROOT, Record

EXTRAS = ("local", "openai", "peft", "data", "stats", "sklearn", "plot", "report", "vision", "cma")  # all of `maao[all]`
TESTS = """
    tests/core tests/codecs tests/optimizers tests/evaluation tests/conformance/test_stages.py tests/conformance/test_codecs.py
    tests/test_package.py tests/store/test_run.py tests/store/test_round_trip.py tests/data/test_files.py tests/data/test_packaged.py
    tests/mentors/test_reply.py tests/llm/test_openai_compatible.py tests/llm/test_local.py tests/export/test_methods.py
    tests/baselines/test_on_features.py tests/problems/test_families.py tests/problems/test_heads.py tests/problems/test_text_matchers.py
    tests/problems/vision/test_image_methods.py tests/api/test_tune.py tests/cli/test_requests.py
""".split()
TESTERS = ("pytest==9.2.0", "pytest-socket==0.8.1", "hypothesis==6.170.15")
AT_LEAST = re.compile(r"([\w-]+)(?:\[.*\])?>=([\w.]+)")


def main(name: str, python: str = sys.executable) -> None:
    what = "the least versions that pyproject.toml admits" if name == "lowest" else name.replace("-", " ")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        record = Record(name, f"A part of the fast tests, on the wheel with {what}.", {folder: "TMP", Path(python).parents[1]: "PYTHON"})
        record.run([sys.executable, "-m", "build", "--outdir", folder / "dist", ROOT], last=1)
        wheel = next((folder / "dist").glob("*.whl"))
        own = folder / "venv/bin/python"
        record.run([sys.executable, "-m", "uv", "venv", "--quiet", "--python", python, folder / "venv"])
        install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", own]
        if name == "lowest":
            extras = [part for extra in EXTRAS for part in ("--extra", extra)]
            record.run([*install, "--resolution", "lowest-direct", "--requirement", ROOT / "pyproject.toml", *extras])
            record.run([*install, "--no-deps", wheel])
            record.run([*install, *TESTERS])
        else:
            record.run([*install, "--constraint", ROOT / "constraints.txt", f"{wheel}[{','.join(EXTRAS)}]", *TESTERS])
        record.run([*install, "--no-deps", "--requirement", ROOT / "requirements-packaged.txt"])
        record.versions(own)
        if name == "lowest":
            check_lowest(record, own)
        pytest = [
            own,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-m",
            "not real and not server and not zoo and not browser and not trust",
        ]
        # Warnings are errors with the versions of constraints.txt only: others warn of other things.
        loose = ["-o", "filterwarnings="] if name == "lowest" else []
        record.run([*pytest, *loose, *TESTS], last=15, HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
        record.end()


def check_lowest(record: Record, python: Path) -> None:
    """Fail where a bound of ours is lower than what could be installed: then it was never tried."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = [*table["dependencies"], *(bound for extra in EXTRAS for bound in table["optional-dependencies"][extra])]
    listed = record.run([sys.executable, "-m", "uv", "pip", "freeze", "--quiet", "--python", python], last=0)
    held = dict(line.split("==") for line in listed.splitlines() if "==" in line)
    wanted = dict(found.groups() for bound in bounds if (found := AT_LEAST.match(bound)))
    differing = {name: (least, held[name]) for name, least in wanted.items() if not is_version(held[name], least)}
    record.note("", *(f"{name} {held[name]}" for name in sorted(wanted)))
    if differing:
        record.note(
            "", *(f"{name}: pyproject.toml says {least}, and {found} was the least to be had" for name, (least, found) in differing.items())
        )
        record.end()
        sys.exit(f"bounds that cannot be had: {differing}")


def is_version(found: str, least: str) -> bool:
    """Say whether a version is the least one of a bound: 2.9 is 2.9.0."""
    parts = [*map(int, re.findall(r"\d+", found.partition("+")[0]))]
    wanted = [*map(int, least.split("."))]
    return parts[: len(wanted)] == wanted and not any(parts[len(wanted) :])


if __name__ == "__main__":
    main(*sys.argv[1:])

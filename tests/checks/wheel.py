"""The wheel in an environment of its own, without the sources: what a person gets who installs it. `make test-wheel`."""

from __future__ import annotations

import sys
import tempfile
import zipfile
from pathlib import Path

from tests.checks.record import ROOT, Record


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        record = Record(
            "wheel",
            "make test-wheel: the wheel, built from the source archive, in a new environment far from the sources.",
            {folder: "TMP"},
        )
        record.run([sys.executable, "-m", "build", "--outdir", folder / "dist", ROOT], last=1)
        wheel = next((folder / "dist").glob("*.whl"))
        check_whole(wheel)
        record.run([sys.executable, "-m", "venv", folder / "venv"])
        python, maao = folder / "venv/bin/python", folder / "venv/bin/maao"
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint", ROOT / "constraints.txt"]
        record.run([*pip, "torch"], last=3)
        record.run([*pip, f"{wheel}[packaged,sklearn,report]"], last=3)
        record.versions(python)
        place = folder / "elsewhere"
        place.mkdir()
        offline = {"HF_HUB_OFFLINE": "1", "MAAO_CACHE": str(folder / "cache"), "MAAO_DATA": str(place), "COLUMNS": "80"}
        record.run([python, "-c", "import maao; print(maao.__file__)"], cwd=place)
        for arguments in COMMANDS:
            record.run([maao, *arguments], cwd=place, last=40, **offline)
        record.end()


COMMANDS = (
    ("--version",),
    ("doctor",),
    ("demo", "--run", "run"),
    ("evaluate", "run"),
    ("predict", "run", "my card was swallowed by the machine"),
    ("report", "run", "--to", "report.html"),
)


def check_whole(wheel: Path) -> None:
    """Fail where the wheel lacks a file that stands beside the modules."""
    source = ROOT / "src"
    there = {str(file.relative_to(source)) for file in source.rglob("*") if file.is_file() and "__pycache__" not in file.parts}
    wanted = {name for name in there if not name.split("/")[0].endswith(".egg-info")}
    with zipfile.ZipFile(wheel) as archive:
        missing = sorted(wanted - set(archive.namelist()))
    assert not missing, f"the wheel lacks {missing}: name their kind in tool.setuptools.package-data of pyproject.toml"


if __name__ == "__main__":
    main()

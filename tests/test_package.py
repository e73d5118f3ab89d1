"""The package as a whole: light to import, complete in its names, helpful at the command line."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

import maao

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "pydantic", "httpx2", "safetensors", "peft", "rich", "numpy", "sqlite3")
COMMANDS = (
    "demo",
    "tune",
    "find-lr",
    "baselines",
    "compare",
    "resume",
    "replay",
    "report",
    "watch",
    "init",
    "runs",
    "show",
    "predict",
    "evaluate",
    "export",
    "where",
    "doctor",
)


def loaded_by(code: str) -> set[str]:
    """Return the top-level modules that a fresh process has after running `code`."""
    script = f"import sys, time\nbegan = time.perf_counter()\n{code}\nprint(f'{{time.perf_counter() - began:.3f}} s', file=sys.stderr)\n"
    script += "print('MODULES', *{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    print(f"{code}: {done.stderr.strip()}")
    return set(done.stdout.rpartition("MODULES")[2].split())


def test_importing_maao_loads_nothing_heavy():
    assert not loaded_by("import maao").intersection(HEAVY)


def test_every_public_name_resolves():
    for name in maao.__all__:
        assert getattr(maao, name) is not None
    assert set(maao.__all__) <= set(dir(maao))
    assert list(maao.__all__) == sorted(maao.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'tunne'"):
        _ = maao.tunne


def test_the_version_is_that_of_the_installed_package():
    from importlib.metadata import version

    assert maao.__version__ == version("maao")


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--print-config"], ["where", "packaged:smollm2-135m-instruct"]], ids=" ".join)
def test_what_needs_no_model_loads_no_torch(arguments):
    code = f"from maao.cli import app\napp({arguments!r}, standalone_mode=False)"
    assert not loaded_by(code).intersection({"torch", "transformers"})


def test_config_and_build_load_without_torch():
    code = "import maao.api, maao.doctor\nmaao.read_config('demo-decoder')\nmaao.rounds(2, steps=3)"
    assert not loaded_by(code).intersection({"torch", "transformers"})


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    from typer.testing import CliRunner

    from maao.cli import app

    done = CliRunner().invoke(app, [command, "--help"])
    assert done.exit_code == 0
    assert "Usage:" in done.output and "--help" in done.output


def test_all_commands_are_known_here():
    from maao.cli import app

    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup) and set(group.commands) == {*COMMANDS, "requests"}


def test_a_module_run_as_a_script_is_the_command_line():
    done = subprocess.run([sys.executable, "-m", "maao.cli", "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "soft prompts" in done.stdout


def test_every_target_installs_the_checkout_editable():
    """An install that is not takes the place of the editable one, and edits are no longer seen."""
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    own = [line for line in lines if "pip install" in line and '".[' in line]
    assert len(own) == 4 and all('--editable ".[' in line for line in own)


def test_links_of_pages_lead_to_headings_that_are_there():
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
    wrong = [
        f"{page.name}: {target}#{heading}"
        for page in pages
        for target, heading in re.findall(r"\]\(([\w./-]+\.md|)#([^)\s]+)\)", page.read_text(encoding="utf-8"))
        if heading not in headings(page.parent / target if target else page)
    ]
    assert wrong == []


def headings(page):
    """Return the headings of a page as links name them."""
    found = [line.lstrip("#").strip().lower() for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", heading)).replace(" ", "-") for heading in found}


EXTRAS = {
    "PIL",
    "gguf",
    "httpx2",
    "anyio",
    "stamina",
    "genai_prices",
    "peft",
    "pyarrow",
    "datasets",
    "scipy",
    "sklearn",
    "matplotlib",
    "pandas",
}
EXTRAS |= {"cmaes", "ray", "setfit", "sentence_transformers", "bitsandbytes", "open_clip", "accelerate", "fsspec"}
OF_EXTRAS = (
    "maao.data.images",
    "maao.report.contact_sheet",
    "maao.report.html",
    "maao.sklearn",
)  # nothing else may import these at its top either


def imported_at_the_top(body):
    for node in body:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
        elif isinstance(node, ast.Try | ast.If) and "TYPE_CHECKING" not in ast.unparse(node):
            yield from imported_at_the_top(node.body)


def test_no_module_needs_an_extra_to_be_imported_but_those_that_are_for_it():
    found = set()
    for file in sorted((ROOT / "src").rglob("*.py")):
        module = ".".join(file.relative_to(ROOT / "src").with_suffix("").parts)
        if not module.startswith(OF_EXTRAS):
            names = imported_at_the_top(ast.parse(file.read_text(encoding="utf-8")).body)
            found |= {(module, name) for name in names if name.partition(".")[0] in EXTRAS or name.startswith(OF_EXTRAS)}
    assert not found


def test_the_wheel_holds_every_file_beside_the_modules():
    """`make test-wheel` looks into the wheel itself."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    source = ROOT / "src/maao"
    there = {file for file in source.rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc")}
    assert there == {
        file for pattern in table["tool"]["setuptools"]["package-data"]["maao"] for file in source.glob(pattern) if file in there
    }

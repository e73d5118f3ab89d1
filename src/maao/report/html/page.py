"""The page: runs and comparisons made into one HTML file, by templates that escape whatever they are given."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import maao
from maao.compare.page import RESULTS, ComparisonRecord, read_comparison
from maao.errors import ConfigError, MaaoError, StoreError
from maao.printable import printable
from maao.report.html.comparison_view import ComparisonView, comparison_view
from maao.report.html.run_view import Caps, RunView, Table, Wanted, run_view
from maao.report.html.svg import NEEDED
from maao.result import load
from maao.store.database import DATABASE
from maao.store.files import write_error, write_text_durably

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from maao.deploy import Judged
    from maao.result import Result

MOST_BYTES = 2_000_000  # of a page
TIMES_SMALLER = 8  # that listings are halved until a page is no larger
View: TypeAlias = RunView | ComparisonView


@dataclass(frozen=True)
class RunRead:
    """A run that a page is made of: what is stored, and what its point reads of labelled examples, or why that is not known."""

    result: Result
    judged: Judged | str

    def view(self, anchor: str, wanted: Wanted, caps: Caps) -> View:
        return run_view(self.result, anchor, self.judged, wanted, caps)


@dataclass(frozen=True)
class ComparisonRead:
    """A comparison that a page is made of, and where it is."""

    record: ComparisonRecord
    folder: Path

    def view(self, anchor: str, wanted: Wanted, caps: Caps) -> View:
        return comparison_view(self.record, shlex.quote(str(self.folder)), anchor, caps)


def write_page(folders: Sequence[Path], to: Path, wanted: Wanted, watch: Callable[[str], None] = lambda _: None) -> Path:
    """Write what became of some runs and comparisons into one HTML file, and return it.

    Args:
        folders: run folders, and folders that `maao compare` wrote.
        watch: is told in a few words what is done that takes a while.

    Raises:
        ConfigError: jinja2 or matplotlib is not installed, or so many runs do not fit into one file.
        StoreError: a folder cannot be read, or the file cannot be written.
    """
    environment = _environment()
    held = [_read(folder, wanted, watch) for folder in folders]
    watch("Writing the page")
    text = _small_enough(environment, held, wanted)
    try:
        write_text_durably(to, text)
    except OSError as error:
        raise write_error(to, error, safe="Nothing else was changed.", then="give --to with a file in a folder that exists") from error
    return to


def _read(folder: Path, wanted: Wanted, watch: Callable[[str], None]) -> RunRead | ComparisonRead:
    if (folder / RESULTS).exists():
        return ComparisonRead(read_comparison(folder), folder)
    if not (folder / DATABASE).exists() and folder.is_dir():
        raise StoreError(
            f"{folder} is neither a run (it holds no {DATABASE}) nor a comparison that was read out (it holds no {RESULTS}). "
            f"`maao runs {folder}` lists the runs in it."
        )
    result = load(folder)
    if not result.history:
        why = f" ({result.status_reason})" if result.status_reason else ""
        raise StoreError(f"The run {folder} has no finished round yet{why}. Go on with it: maao resume {folder}")
    return RunRead(result, _judged(result, wanted, watch))


def _judged(result: Result, wanted: Wanted, watch: Callable[[str], None]) -> Judged | str:
    if wanted.split is None:
        return "No examples were read for this page: `--split select` reads those that chose the point, `--split test` the test set again."
    watch(f"Reading {wanted.split} with the tuned point of {result.folder.name}")
    try:
        return result.judged(wanted.split)
    except MaaoError as error:
        return f"Not shown: {error}"


def _small_enough(environment: Environment, held: Sequence[RunRead | ComparisonRead], wanted: Wanted) -> str:
    """Return the page with as long listings as fit."""
    caps, shortened = Caps(), False
    for _ in range(TIMES_SMALLER):
        text = _rendered(environment, [one.view(f"run-{i}", wanted, caps) for i, one in enumerate(held, start=1)], shortened)
        if len(text.encode("utf-8", "backslashreplace")) < MOST_BYTES:
            return text
        caps, shortened = caps.smaller(), True
    raise ConfigError(f"{len(held)} runs do not fit into one page of {MOST_BYTES / 1e6:.0f} MB: give fewer of them.")


def _rendered(environment: Environment, views: Sequence[View], shortened: bool) -> str:
    from markupsafe import Markup

    things = "runs" if all(isinstance(view, RunView) for view in views) else "runs and comparisons"
    title = views[0].title if len(views) == 1 else f"What became of {len(views)} {things}"
    return environment.get_template("page.html").render(
        title=title,
        version=maao.__version__,
        style=Markup(_text("style.css")),
        views=views,
        overview=_overview(views),
        shortened=shortened,
    )


def _overview(views: Sequence[View]) -> Table:
    names = list(dict.fromkeys(figure.name for view in views for figure in view.figures))
    rows = []
    for view in views:
        values = {figure.name: figure.value for figure in view.figures}
        rows.append((view.name, view.status, *(values.get(name, "") for name in names)))
    return Table("All at a glance", ("run", "status", *names), rows, frozenset(range(2, 2 + len(names))))


def _environment() -> Environment:
    """Return the environment of the templates: it escapes all, and shows what a terminal or a browser would obey."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise ConfigError(NEEDED) from error
    found = Environment(
        loader=PackageLoader("maao.report.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless,
    )
    found.filters["breakable"] = _breakable
    return found


def _harmless(value: object) -> object:
    """Return a text without what reorders or hides others; markup of our own and numbers as they are."""
    from markupsafe import Markup

    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _breakable(text: str) -> Markup:
    """Return a text, escaped, that may be broken behind what joins the words of a name."""
    from markupsafe import Markup, escape

    parts = re.split(r"(?<=[_/])(?=\w)", printable(text))
    return Markup("<wbr>").join(escape(part) for part in parts)


def _text(name: str) -> str:
    from importlib.resources import files

    return (files("maao.report.html") / "templates" / name).read_text(encoding="utf-8")

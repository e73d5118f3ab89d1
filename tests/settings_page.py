"""Write `docs/settings.md`: every key of a config, its default and its meaning, from the sections themselves.

python -m tests.settings_page
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from maao import choices
from maao.config import BudgetConfig, Config, FunctionConfig, StoreConfig
from maao.core.plan import LegOptions
from maao.evaluation.undecided import PredictOptions
from maao.mentors.instruction import ShownOptions
from maao.options import Chosen, Section
from maao.problems.settings import ModelConfig

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
OPENING = """# Settings

Every key of a config, its default and its meaning, as the sections themselves declare them (written by
`python -m tests.settings_page`, do not edit). *Read by* names the choices that read a key; where it is empty, all do. A key that nothing
reads is refused, with what reads it. A name may also be a class of your own beside the config (`"FILE.py:Class"`) or that of a plugin:
[extend.md](extend.md). `[mentor.mix]` has the keys of `[mentor]` that its own `name` reads. What an arm of a comparison may
set beside these stands in [compare.md](compare.md).
"""

Rows = dict[tuple[str, str, str], list[str]]  # key, default, meaning -> what reads it


def page() -> str:
    """Return the page."""
    parts = [
        OPENING,
        _table(
            "The config itself", _rows(Config, without={*Config.model_fields} - {"problem", "seed", "threads", "from_run", "baselines"})
        ),
    ]
    model = _rows(ModelConfig)
    for field in ("kind", "method"):
        _merge(model, _chosen(field, {field}))
    _merge(model, {key: [f"codec {name}" for name in names] for key, names in _chosen("codec", {"codec"}).items()})
    parts.append(_table("[model]", model))
    parts.append(_table("[data]", _chosen("data", set()), "input", choices.names("data")))
    parts.append(_table("[function]", _rows(FunctionConfig)))
    parts.append(_table("[stage]", _chosen("stage", set()), "kind", choices.names("stage")))
    parts.append(_table("[plan]", _chosen("plan", set()), "kind", choices.names("plan")))
    parts.append(_table("[[plan.legs]]", _rows(LegOptions)))
    parts.append(_table("[accept]", _chosen("accept", set()), "rule", choices.names("accept")))
    parts.append(_table("[mentor]", _chosen("mentor", set()), "name", choices.names("mentor")))
    parts.append(_table("[mentor.chat]", _chosen("chat", set()), "provider", choices.names("chat")))
    parts.append(_table("[mentor.shown]", _rows(ShownOptions)))
    parts.append(_table("[budget]", _rows(BudgetConfig)))
    parts.append(_table("[predict]", _rows(PredictOptions)))
    parts.append(_table("[store]", _rows(StoreConfig)))
    parts.append(_table("[tracker]", _chosen("tracker", set()), "kind", choices.names("tracker")))
    return "\n".join(parts)


def _table(title: str, rows: Rows, key: str = "", names: tuple[str, ...] = ()) -> str:
    lines = [f"## {title}\n"]
    if key:
        lines.append(f"`{key}` chooses: {', '.join(f'`{name}`' for name in names)}.\n")
    if rows:
        read = any(rows.values())
        lines.append(f"| key | default |{' read by |' if read else ''} meaning |\n| --- | --- |{' --- |' if read else ''} --- |")
    for (name, default, meaning), readers in rows.items():
        by = f" {', '.join(readers)} |" if any(rows.values()) else ""
        lines.append(f"| `{name}` | {default} |{by} {meaning.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def _chosen(table: str, without: set[str]) -> Rows:
    """Return the rows of all that a table's names lead to; what all of them read alike names none."""
    found: Rows = {}
    for name in choices.CHOICES[table]:
        for row in _rows(choices.load(table, name), without=without):
            found.setdefault(row, []).append(name)
    return {row: _in_short(names, [*choices.CHOICES[table]]) for row, names in found.items()}


def _in_short(names: list[str], every: list[str]) -> list[str]:
    """Return nothing where all are named, and what lacks where one of many does."""
    others = [name for name in every if name not in names]
    return [f"all but {others[0]}"] if len(others) == 1 and len(every) > 3 else names if others else []


def _merge(rows: Rows, further: Rows) -> None:
    for row, names in further.items():
        rows.setdefault(row, []).extend(names)


def _rows(section: type[Section], without: set[str] | None = None) -> Rows:
    return {(name, _default(field), f"{field.description or ''}{_one_of(field)}"): [] for name, field in _fields(section, without or set())}


def _fields(section: type[Section], without: set[str]) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        if name not in without:
            yield name, field


def _one_of(field: FieldInfo) -> str:
    """Return the texts that alone may stand there, in words."""
    held = [field.annotation, *get_args(field.annotation)]
    known = [value for part in held if get_origin(part) is Literal for value in get_args(part)]
    return f" One of {', '.join(f'`{value}`' for value in known)}." if len(known) > 1 else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    held: Any = field.get_default(call_default_factory=True)
    if isinstance(held, Chosen):
        return f"`{held.name}`"
    if isinstance(held, Section):
        return "a section"
    return "" if held is None or held in ([], {}) else f"`{json.dumps(held)}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

"""The blocks of code in README and docs/, and how each is held to what it says.

A block says its language. What stands above it says what else there is to know of it:

* ``<!-- not run: WHY -->``: it cannot be run here;
* ``<!-- prints -->`` above a block of text: what the code before it prints, number by number alike in form.

A block with a title (``toml title="news.toml"``) is a file of the page's own folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md")), *DOCS.rglob("*.md")], key=lambda path: path.relative_to(ROOT).as_posix()
)
BLOCK = re.compile(
    r"(?:<!-- (?P<mark>[^>]*?) -->\n)?^(?P<indent> *)```(?P<head>[^\n]*)\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A block of code: of what language, under what title, with what remark above it."""

    language: str
    title: str
    mark: str
    code: str
    line: int

    @property
    def is_run(self) -> bool:
        return not self.mark.startswith("not run: ")


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        language, _, rest = found["head"].partition(" ")
        title = re.search(r'title="([^"]+)"', rest)
        code = re.sub(rf"^{found['indent']}", "", found["code"], flags=re.MULTILINE)
        yield Block(language, title[1] if title else "", found["mark"] or "", code, text[: found.start()].count("\n") + 1)


def of(language: str) -> list[tuple[Path, Block]]:
    """Return all blocks of a language that are to be run, with their pages."""
    return [(page, block) for page in PAGES for block in blocks(page) if block.language == language and block.is_run]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def commands(code: str) -> Iterator[str]:
    """Yield the commands of a block of shell, without remarks, each on one line.

    Example:
        >>> list(commands("maao a  # what\\npip b \\\\\\n    c\\n\\n# so\\n"))
        ['maao a', 'pip b c']
    """
    for line in re.sub(r" *\\\n *", " ", code).splitlines():
        for command in re.sub(r"(^|\s+)#.*", "", line).split(" && "):
            if command.strip():
                yield command.strip()

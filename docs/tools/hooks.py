"""What the site needs beside its pages: files outside docs/ that pages link to, and notebooks as pages.

Pages link to other files of the repository as one reads them there (``../experiments/results/study2.md``). Such a file, and whatever it
links to, becomes a page or a file of the site under ``repo/``; so every link leads somewhere without a network.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import relpath
from typing import Any

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
FENCE = re.compile(r"(^ *```.*?^ *```[^\n]*$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s]+)(\))|(<img[^>]* src=\")([^\"]+)(\")")
OUTSIDE = "repo"


def prose(text: str) -> Iterator[tuple[bool, str]]:
    """Yield the parts of a page: whether it is a block of code, and its text."""
    for part in FENCE.split(text):
        yield part.lstrip().startswith("```"), part


def links(text: str) -> Iterator[str]:
    """Yield the targets of a page's links and pictures that lead to files.

    Example:
        >>> list(links("[a](b.md#c), ![d](e.png), [f](https://g.h), [i](#j)"))
        ['b.md', 'e.png']
    """
    for is_code, part in prose(text):
        if not is_code:
            for found in LINK.finditer(part):
                target = (found[2] or found[5]).partition("#")[0]
                if target and "://" not in target and not target.startswith(("mailto:", "data:")):
                    yield target


def uri_of(target: Path) -> str | None:
    """Return where a file stands in the site; None: a folder that says nothing of itself, or nothing at all."""
    if target.is_dir():
        target = target / "README.md"
    if not target.is_file() or not target.is_relative_to(ROOT):
        return None
    if target.is_relative_to(DOCS):
        return target.relative_to(DOCS).with_suffix(".md" if target.suffix == ".ipynb" else target.suffix).as_posix()
    return f"{OUTSIDE}/{target.relative_to(ROOT).as_posix()}"


def place_of(uri: str) -> Path:
    """Return the file behind a page of the site."""
    return ROOT / uri.removeprefix(f"{OUTSIDE}/") if uri.startswith(f"{OUTSIDE}/") else DOCS / uri


def title_of(page: Path) -> str:
    """Return the title of a page; of a file that has none its name."""
    first = page.read_text(encoding="utf-8").partition("\n")[0] if page.suffix == ".md" else ""
    return first.removeprefix("# ") if first.startswith("# ") else page.name


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File, InclusionLevel

    for notebook in sorted((DOCS / "notebooks").glob("*.ipynb")):
        page = as_page(json.loads(notebook.read_text(encoding="utf-8")))
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=page))
    waiting = [place_of(file.src_uri) for file in files.documentation_pages()]
    while waiting:
        page = waiting.pop()
        if not page.is_file():
            continue  # made of a notebook
        for link in links(page.read_text(encoding="utf-8")):
            target = (page.parent / link).resolve()
            target = target / "README.md" if target.is_dir() else target
            uri = uri_of(target)
            if uri is not None and uri.startswith(f"{OUTSIDE}/") and files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, abs_src_path=str(target), inclusion=InclusionLevel.NOT_IN_NAV))
                waiting += [target] if target.suffix == ".md" else []
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn a page's links to files into links of the site."""
    place, here = place_of(page.file.src_uri), page.file.src_uri

    def turned(found: re.Match[str]) -> str:
        before, link, after = (found[1], found[2], found[3]) if found[2] else (found[4], found[5], found[6])
        target, hash_, anchor = link.partition("#")
        if not target or "://" in target or target.startswith(("mailto:", "data:")):
            return found[0]
        aim = (place.parent / target).resolve()
        uri = uri_of(aim)
        if uri is None and not aim.is_dir():
            logging.getLogger("mkdocs.hooks").warning("%s: nothing is at %s", here, target)  # with `strict` it ends the build
        if uri is None:  # a folder that says nothing of itself stays as its name
            return before[1:-2] if aim.is_dir() else found[0]
        if found[2] and before == f"[{Path(target).name}](":  # the name of a file says little on a site: the title of its page
            before = f"[{title_of(aim)}]("
        return f"{before}{relpath(uri, str(Path(here).parent))}{hash_}{anchor}{after}"

    return "".join(part if is_code else LINK.sub(turned, part) for is_code, part in prose(markdown))


def as_page(notebook: dict[str, Any]) -> str:
    """Return a notebook as Markdown, with its outputs."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code":
            parts.append(f"```python\n{source}\n```")
            parts += [shown(output) for output in cell["outputs"]]
    return "\n\n".join(part for part in parts if part) + "\n"


def shown(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        picture = base64.b64encode(base64.b64decode("".join(data["image/png"]))).decode()
        return f'<img alt="{html.escape("".join(data.get("text/plain", "a picture")))}" src="data:image/png;base64,{picture}">'
    text = "".join(output.get("text", data.get("text/plain", "")))
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""

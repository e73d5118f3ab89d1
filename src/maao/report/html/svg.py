"""A drawing of matplotlib as SVG inside a page: its colours follow the page's, and it says in words what it shows."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from maao.errors import ConfigError
from maao.printable import printable

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDED = 'A report needs jinja2, matplotlib and scikit-learn: pip install "maao[report]"'
# Colours to draw with, each of which stands for a variable of the page's style (style.css).
COLOURS = {
    "#0a0001": "var(--ink)",
    "#0a0002": "var(--muted)",
    "#0a0003": "var(--line)",
    "#0a0004": "var(--paper)",
    "#0a0005": "var(--accent)",
    "#0a0006": "var(--warm)",
    **{f"#0b000{i}": f"var(--s{i})" for i in range(8)},
}
INK, MUTED, LINE, PAPER, ACCENT, WARM = list(COLOURS)[:6]
SERIES = tuple(list(COLOURS)[6:])
POINTS_WIDE = 432  # of every drawing: what it is scaled from
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 10.5,
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": LINE,
    "axes.grid": True,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "savefig.facecolor": "none",
}


@dataclass(frozen=True)
class Drawing:
    """A drawing in a page: what it is called, what it shows in words, and the SVG."""

    name: str
    title: str
    told: str
    svg: Markup


def drawing(
    name: str,
    title: str,
    told: str,
    draw: Callable[[Axes], None],
    *,
    high: float = 3.2,
    titles: Mapping[str, str] | None = None,
) -> Drawing:
    """Return what a function draws on one pair of axes.

    Args:
        name: stands before every id of the SVG, so that several can stand in one page.
        told: what the drawing shows, in words.
        high: inches; it is 6 inches wide.
        titles: what is shown over a part when one points at it, by the part's gid.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    with figure(POINTS_WIDE / 72, high) as made:
        draw(made.add_subplot())
        return Drawing(name, title, told, as_svg(made, name, title, told, titles or {}))


@contextmanager
def figure(wide: float, high: float) -> Iterator[Figure]:
    """Give a figure that is drawn in the page's colours; no text in it is read as a formula."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(NEEDED) from error
    with matplotlib.rc_context(_STYLE):
        yield Figure(figsize=(wide, high), layout="constrained")


def as_svg(made: Figure, name: str, title: str, told: str, titles: Mapping[str, str]) -> Markup:
    """Return a figure as an SVG element to stand in a page; equal figures give equal texts."""
    import matplotlib
    from markupsafe import Markup

    held = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph")  # the page's own font draws it
        made.savefig(held, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(held.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for one in root.iter():
        one.tag = _local(one.tag)  # a page of HTML knows what belongs to SVG without a namespace
        one.attrib = {_local(key): _in_page(_local(key), value, name) for key, value in one.attrib.items()}
    for key in ("width", "height"):
        root.attrib.pop(key, None)
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-title {name}-desc", "class": "plot"}
    parts = {one.attrib.get("id"): one for one in root.iter()}
    for gid, text in titles.items():
        if (part := parts.get(f"{name}-{gid}")) is not None:
            shown = ElementTree.Element("title")
            shown.text = printable(text)
            part.insert(0, shown)
    for place, (tag, text) in enumerate((("title", title), ("desc", told))):
        child = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        child.text = printable(text)
        root.insert(place, child)
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # serialized: every text in it is escaped


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _in_page(key: str, value: str, name: str) -> str:
    """Return an attribute's value with the page's colours, every id and every mention of one behind a name."""
    if key == "id":
        return f"{name}-{value}"
    if key == "href" and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    for drawn, shown in COLOURS.items():
        value = value.replace(drawn, shown)
    return value.replace("url(#", f"url(#{name}-")

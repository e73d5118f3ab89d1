"""Our docstrings say `Example:`; Google's style, which the reference is read by, has `Examples:`."""

from __future__ import annotations

import re
from typing import Any

import griffe

HEAD = re.compile(r"^( *)Example(?: \((.*)\))?:$", re.MULTILINE)


class Examples(griffe.Extension):
    """Turns the heading of an example into one that is known; what stands in brackets becomes its first line."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = HEAD.sub(_examples, obj.docstring.value)


def _examples(found: re.Match[str]) -> str:
    told = f"\n{found[1]}    {found[2].capitalize()}.\n" if found[2] else ""
    return f"{found[1]}Examples:{told}"

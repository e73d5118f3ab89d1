"""What stands in folders of pictures: files at any depth, through links, without what systems and programs leave there."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from maao.data.images.reading import shown
from maao.errors import DataError

# What systems, network drives and archives leave beside pictures; names that begin with a dot are hidden by themselves.
SYSTEM = frozenset(
    "__macosx __pycache__ @eadir @recycle #recycle #snapshot $recycle.bin recycler lost+found thumbs.db ehthumbs.db desktop.ini".split()
) | {"system volume information", "icon\r"}


@dataclass
class Walk:
    """All files below a folder, and what was not gone into, each with its path."""

    files: list[Path] = field(default_factory=list)
    inside: list[Path] = field(default_factory=list)  # folders that hold files themselves
    hidden: list[Path] = field(default_factory=list)
    again: list[Path] = field(default_factory=list)  # links to folders that are read already, perhaps to one that they stand in
    faults: list[str] = field(default_factory=list)  # names that are no text, folders that cannot be read


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is a program's or system's own.

    Example:
        >>> [is_hidden(name) for name in (".ipynb_checkpoints", "._cat.jpg", "__MACOSX", "Thumbs.db", "cat")]
        [True, True, True, True, False]
    """
    return name.startswith(".") or name.casefold() in SYSTEM


def walk(folder: Path) -> Walk:
    """Return what stands in a folder at any depth, by name. Links to folders are followed; no folder is read twice, "
    "so no link leads round."""
    found = Walk()
    _walk(folder, set(), found)
    return found


def _walk(folder: Path, seen: set[tuple[int, int]], found: Walk) -> None:
    try:
        at = folder.stat()
        names = sorted(os.listdir(folder))
    except OSError as error:
        found.faults.append(f"The folder {shown(folder)} cannot be read: {error.strerror or error}.")
        return
    here = (at.st_dev, at.st_ino)
    if here in seen:
        found.again.append(folder)
        return
    seen.add(here)
    before = len(found.files)
    folders: list[Path] = []
    for name in names:
        path = folder / name
        if is_hidden(name):
            found.hidden.append(path)
        elif not is_text(name):
            found.faults.append(f"The name {shown(path)} is no UTF-8: rename it.")
        elif os.path.isdir(path):  # false where it may not be asked
            folders.append(path)
        else:
            found.files.append(path)
    if len(found.files) > before:
        found.inside.append(folder)
    for path in folders:
        _walk(path, seen, found)


def folders_in(base: Path) -> tuple[list[Path], list[Path]]:
    """Return the folders in a folder, by name, and what is hidden there.

    Raises:
        DataError: it cannot be read, or the name of a folder is no text, or would draw a line of its own.
    """
    try:
        paths = sorted(base.iterdir())
    except OSError as error:
        raise DataError(f"The folder {shown(base)} cannot be read: {error.strerror or error}.") from error
    hidden = [path for path in paths if is_hidden(path.name)]
    folders = [path for path in paths if not is_hidden(path.name) and os.path.isdir(path)]
    for path in folders:
        if not is_text(path.name):
            raise DataError(f"The name of the folder {shown(path)} is no UTF-8, so no class can be called so: rename it.")
        if any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in path.name):
            raise DataError(
                f"The name of the folder {shown(path)} holds line breaks or escape codes, so no class can be called so: rename it."
            )
    return folders, hidden


def is_text(name: str) -> bool:
    """Return whether a name is UTF-8: the system hands over other bytes as halves of surrogate pairs."""
    return not any("\ud800" <= char <= "\udfff" for char in name)


def relative(paths: Iterable[Path], base: Path) -> list[str]:
    return sorted(path.relative_to(base).as_posix() for path in paths)

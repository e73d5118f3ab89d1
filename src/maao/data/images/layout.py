"""Which folders are splits, which are classes, and which are neither: what cannot be told apart is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from maao.data.checks import listing
from maao.data.images.reading import SUFFIXES, shown
from maao.data.images.walking import folders_in
from maao.errors import DataError

NAMED = {
    "train": "train training",
    "select": "select selection val valid validate validation dev devel development",
    "test": "test testing tests eval evaluation holdout",
}
PARTS = {name: part for part, names in NAMED.items() for name in names.split()}
KINDS = r"[\W_]*(sets?|splits?|data|dataset|images?|imgs?|pictures?|pics?|folder)?[\W_\d]*"  # "train_set", "Test images", "val2017"


def part_of(name: str) -> str | None:
    """Return the split that a folder of this name holds, if it is a name that the field gives to one.

    Example:
        >>> [part_of(name) for name in ("Training", "test_set", "val2017", "trains", "cat")]
        ['train', 'test', 'select', None, None]
    """
    found = re.fullmatch(f"({'|'.join(sorted(PARTS, key=len, reverse=True))}){KINDS}", name.casefold().strip())
    return PARTS[found[1]] if found else None


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def split_folders(base: Path, inside: Sequence[Path], notes: list[str]) -> dict[str, str]:
    """Return which folders are splits; none, if all are classes. A class may be called "train": a split holds folders, a class pictures.

    Raises:
        DataError: splits beside other folders, no split to train on, splits that hold pictures and no class folders.
    """
    splits = [path for path in inside if part_of(path.name) and folders_in(path)[0]]
    others = [path.name for path in inside if path not in splits]
    if splits and others:
        raise DataError(
            f"The folder {shown(base)} holds splits ({listing(path.name for path in splits)}) and other folders "
            f"({listing(others)}): put those "
            "into a split, or take them out."
        )
    parts = {path.name: part for path in splits if (part := part_of(path.name))}
    if not parts:
        _check_flat(base, others, notes)
    elif "train" not in parts.values():
        raise DataError(f"The folder {shown(base)} holds the splits {listing(parts)}, but no 'train': there is nothing to train on.")
    if renamed := [f"{name} as {part}" for name, part in parts.items() if name != part]:
        notes.append(f"Folders are read as splits: {', '.join(renamed)}")
    return parts


def _check_flat(base: Path, names: Sequence[str], notes: list[str]) -> None:
    """Refuse splits that would become classes, since nothing but pictures is in them."""
    named = [name for name in names if part_of(name)]
    if len({part_of(name) for name in named}) > 1:
        raise DataError(
            f"The folders {listing(named)} in {shown(base)} are called as splits are, but hold pictures and no class "
            "folders. Put the pictures "
            f"into a folder for each class ({named[0]}/CLASS/1.png); if these are classes, rename them."
        )
    if named:
        notes.append(f"The folder {listing(named)} holds pictures and no class folders: it is read as a class, not as a split")


def check_nested(base: Path, pictures: Mapping[Path, Sequence[Path]], notes: list[str]) -> None:
    """Look at folders inside class folders: their pictures count as the class's, with a note, where nothing speaks against it.

    Raises:
        DataError: what is taken for class folders holds the classes, or splits, itself.
    """
    below = {folder: dict.fromkeys(p.relative_to(folder).parts[0] for p in own if p.parent != folder) for folder, own in pictures.items()}
    nested = {folder: list(names) for folder, names in below.items() if names}
    bare = [folder for folder in nested if all(path.parent != folder for path in pictures[folder])]
    if len(pictures) == 1 and bare:
        raise DataError(
            f"The folder {shown(base)} holds one folder, {bare[0].name!r}, and that holds folders of pictures "
            f"({listing(nested[bare[0]])}): if "
            f"these are the classes, give {shown(bare[0])}."
        )
    for folder, names in nested.items():
        splits = [name for name in names if part_of(name)]
        if splits and (folder in bare or len(splits) > 1):
            raise DataError(
                f"The folder {shown(folder)} holds folders called as splits are ({listing(splits)}): put the splits above the classes "
                f"({splits[0]}/{folder.name}/1.png)."
            )
    shared = sorted({name for folder in bare for name in nested[folder] if sum(name in nested[other] for other in bare) > 1})
    if shared:
        raise DataError(
            f"The folders {listing(folder.name for folder in bare)} in {shown(base)} hold no pictures but folders of the same names "
            f"({listing(shared)}). If those are the classes, call what holds them train, select or test, or give one of "
            "them; if not, put all "
            "pictures of a class into its own folder."
        )
    if nested:
        inside = [f"{folder.name}/{name}" for folder, names in nested.items() for name in names]
        notes.append(f"{len(inside)} folders stand inside class folders, and their pictures count as the class's ({listing(inside)})")

"""A folder of pictures: ``ROOT/CLASS/*``, or ``ROOT/{train,select,test}/CLASS/*``.

The label is the folder's name; the class's name in words is that with underscores as spaces. Every picture is opened once, to see that it
can be, and its bytes are hashed: repeats are found, and splits do not depend on how files are called. Nothing is left out in silence. All
grey whose depth no file says is scaled by one depth, the largest that a picture of the folder needs.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from maao.data.checks import listing, nearest, quote
from maao.data.dataset import Dataset
from maao.data.images.layout import check_nested, is_picture, part_of, split_folders
from maao.data.images.levels import BITS_SETTING
from maao.data.images.reading import SUFFIXES, decoded, file_bytes, shown
from maao.data.images.sampling import FewShot, sample_parts, sample_pool
from maao.data.images.source import Files
from maao.data.images.walking import Walk, folders_in, is_hidden, relative, walk
from maao.errors import DataError
from maao.types import Example

POOL = "the folder"  # what a folder without splits is called beside `train`, `select` and `test`
MOST_TOLD = 5  # broken pictures that an error names; the others are counted


def load_folder(
    root: str | Path,
    *,
    shots: int | None = None,
    select_shots: int | None = None,
    test_size: int | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    fewer: bool = False,
    folds: int | None = None,
    bits: int | None = None,
) -> Dataset:
    """Return the task of a folder of pictures.

    Args:
        shots: training pictures a class; by default 16, or all where the folder has parts.
        select_shots: by default as many as shots, at most 4.
        test_size: most test pictures; None: all there are.
        skip_bad: go on without pictures that cannot be read; a note names them.
        fewer: take what there is where a class has too few.
        folds: cross-validate `train` in so many folds at most; no pictures are then set apart to select with.
        bits: depth of grey of more than 8 bits whose files do not say it; None: the largest that one of these pictures needs.

    Raises:
        DataError: no pictures, an empty class, classes that differ only in case, one class only, pictures that cannot be read, too few.
    """
    base = Path(root)
    if not base.is_dir():
        raise DataError(f"There is no folder {shown(base)}. Give a folder that holds a folder of pictures for each class.")
    inside, _ = folders_in(base)
    if not inside:
        raise DataError(
            f"The folder {shown(base)} holds no folders: pictures are read from one folder for each class ({shown(base)}/CLASS/1.png)."
        )
    notes: list[str] = []
    parts = split_folders(base, inside, notes)
    grey = Grey(bits)
    read = {part: _read(base, base / name, notes, grey, skip_bad) for part, name in _by_part(base, parts).items()}
    labels = _labels(read[POOL if POOL in read else "train"], base)
    for part, examples in read.items():
        if unknown := sorted({e.label for e in examples} - set(labels)):
            hint = nearest(unknown[0], labels)
            raise DataError(f"The {part} pictures of {shown(base)} have classes that train lacks: {listing(unknown)}.{hint}")
    kept = without_repeats(read, notes)
    for part, examples in kept.items():
        if not examples:
            raise DataError(f"All pictures of {part} repeat pictures of an earlier split in {shown(base)}: splits must be disjoint.")
    few = FewShot(shots, select_shots, test_size, seed, fewer, folds)
    splits = sample_pool(kept[POOL], labels, few) if POOL in kept else sample_parts(kept, labels, few)
    names = class_names(labels)
    splits = replace(splits, notes=(*splits.notes, *notes, *grey.notes(), *note_on_names(names)))
    return Dataset(splits, names, Files(base, bits=grey.bits), bits=grey.bits)


def read_labelled_folder(
    root: str | Path, *, bits: int | None = None, skip_bad: bool = False
) -> tuple[tuple[Example, ...], tuple[str, ...]]:
    """Return the pictures of a folder that holds a folder for each label, by their whole paths, and notes on what was read.

    Args:
        bits, skip_bad: as for `load_folder`.

    Raises:
        DataError: no pictures, folders of splits in the place of folders of labels, pictures that cannot be read.
    """
    base = Path(root).absolute()
    inside, _ = folders_in(base)
    if not inside:
        raise DataError(f"The folder {shown(base)} holds no folders: labelled pictures stand in a folder for each label (LABEL/1.png).")
    if parts := [path.name for path in inside if part_of(path.name) and folders_in(path)[0]]:
        raise DataError(f"The folder {shown(base)} holds splits ({listing(parts)}): name one of them, such as {shown(base / parts[-1])}.")
    notes: list[str] = []
    grey = Grey(bits)
    found = _read(base, base, notes, grey, skip_bad)
    placed = tuple(replace(example, fields={**example.fields, "image": str(base / example.fields["image"])}) for example in found)
    return placed, (*notes, *grey.notes())


def _by_part(base: Path, parts: Mapping[str, str]) -> dict[str, str]:
    """Return which folder holds which part; where none does, the folder itself is a pool."""
    found: dict[str, str] = {}
    for name, part in parts.items():
        if part in found:
            raise DataError(
                f"The folder {shown(base)} has two folders to {part} with: {' and '.join(n for n, p in parts.items() if p == part)}."
            )
        found[part] = name
    return found or {POOL: "."}


class Grey:
    """How deep the grey of a source is where its files do not say it: a property of the source, since one picture may just be dark."""

    def __init__(self, bits: int | None) -> None:
        self.given = bits
        self.needs: dict[str, int] = {}  # picture -> bits that it needs

    @property
    def bits(self) -> int | None:
        """The depth given, or the largest that a picture needs; None where no picture needs any."""
        return self.given or max(self.needs.values(), default=0) or None

    def notes(self) -> list[str]:
        """Return a note on the depth taken, if any picture is read by it."""
        if self.bits is None or not self.needs:
            return []
        most = max(self.needs, key=lambda key: self.needs[key])
        reason = f"as {BITS_SETTING} says" if self.given else f"as {quote(most)} needs; {BITS_SETTING} sets another depth"
        read = f"{self.bits} bits, {2**self.bits - 1} being white"
        return [
            f"{len(self.needs)} pictures: grey of more than 8 bits of no stated depth is read as {read}, {reason} ({listing(self.needs)})"
        ]


def _read(root: Path, base: Path, notes: list[str], grey: Grey, skip_bad: bool) -> list[Example]:
    """Return all pictures of the class folders in `base`, each opened once to see that it can be. `grey` collects the depths they need."""
    folders, hidden = folders_in(base)
    _check_apart(folders, base)
    walks = {folder: walk(folder) for folder in folders}
    pictures = {folder: [path for path in found.files if is_picture(path)] for folder, found in walks.items()}
    check_nested(base, pictures, notes)
    faults = [fault for found in walks.values() for fault in found.faults]
    if void := [folder.name for folder, own in pictures.items() if not own and not walks[folder].faults]:
        what = "class folder holds" if len(void) == 1 else "class folders hold"
        raise DataError(
            f"{shown(base)}: {len(void)} {what} no pictures ({', '.join(SUFFIXES)}): {listing(void)}. Fill or remove what is empty."
        )
    examples: list[Example] = []
    told: dict[str, list[str]] = {}
    for folder, paths in pictures.items():
        for path in paths:
            try:
                content = file_bytes(path)
                opened = decoded(content, shown(path), grey.given)
            except DataError as error:
                faults.append(str(error))
                continue
            key = path.relative_to(root).as_posix()
            if opened.needs is not None:
                grey.needs[key] = opened.needs
            for note in (*opened.notes, *(["one pixel, enlarged as any other"] if opened.image.size == (1, 1) else [])):
                told.setdefault(note, []).append(key)
            examples.append(Example({"image": key, "content": hashlib.sha256(content).hexdigest()}, folder.name))
    notes += [f"{len(keys)} pictures: {note} ({listing(keys)})" for note, keys in told.items()]
    notes += _left_out(base, hidden, walks.values())
    _tell_faults(faults, notes, skip_bad)
    left = {example.label for example in examples}
    if gone := [folder.name for folder in folders if folder.name not in left]:
        raise DataError(f"No picture of the classes {listing(gone)} in {shown(base)} can be read: nothing is left of them.")
    return examples


def _check_apart(folders: Sequence[Path], base: Path) -> None:
    seen: dict[str, str] = {}
    for folder in folders:
        other = seen.setdefault(_folded(folder.name), folder.name)
        if other != folder.name:
            how = "case" if other.casefold() == folder.name.casefold() else "how their letters are composed"
            raise DataError(f"The folders {other!r} and {folder.name!r} in {shown(base)} differ only in {how}: join or rename them.")


def _left_out(base: Path, hidden: Sequence[Path], walks: Iterable[Walk]) -> list[str]:
    """Return a note for each kind of what is not read."""
    walks = list(walks)
    loose = [path.name for path in base.iterdir() if path.is_file() and is_picture(path) and not is_hidden(path.name)]
    others = {path.name for found in walks for path in found.files if not is_picture(path)}
    count = sum(not is_picture(path) for found in walks for path in found.files)
    unseen = [*hidden, *(path for found in walks for path in found.hidden)]
    again = [path for found in walks for path in found.again]
    told = [
        (len(loose), f"pictures in {base.name} stand in no class folder and are left out", sorted(loose)),
        (count, f"files in {base.name} are no pictures and are left out", sorted(others)),
        (len(unseen), "hidden files and folders, or such as systems leave, are left out", relative(unseen, base)),
        (len(again), "links lead to folders that are read already and are not followed", relative(again, base)),
    ]
    return [f"{number} {what} ({listing(names)})" for number, what, names in told if number]


def _tell_faults(faults: Sequence[str], notes: list[str], skip_bad: bool) -> None:
    if faults and not skip_bad:
        more = f" And {len(faults) - MOST_TOLD} more." if len(faults) > MOST_TOLD else ""
        raise DataError(
            f"{len(faults)} pictures cannot be read: {' '.join(faults[:MOST_TOLD])}{more} Mend or remove them, or set "
            "data.skip_bad = true to go on without them."
        )
    if faults:
        notes.append(f"{len(faults)} pictures cannot be read and are left out: {' '.join(faults)}")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _labels(pool: Sequence[Example], base: Path) -> tuple[str, ...]:
    labels = tuple(sorted({example.label for example in pool}))
    if len(labels) < 2:
        raise DataError(f"The folder {shown(base)} holds one class only ({', '.join(map(quote, labels))}): there is nothing to tell apart.")
    in_words(labels, shown(base))
    return labels


def in_words(labels: Sequence[str], where: str) -> tuple[str, ...]:
    """Return labels as `class_names` does.

    Raises:
        DataError: a name is empty, or two are the same but for case.
    """
    names = class_names(labels)
    first: dict[str, str] = {}
    for label, name in zip(labels, names, strict=True):
        if not name:
            raise DataError(f"{where}: the class {quote(label)} has no name in words (underscores are spaces): rename it.")
        if (other := first.setdefault(_folded(name), label)) != label:
            raise DataError(
                f"{where}: the classes {quote(other)} and {quote(label)} have the same name in words, {quote(name)}: rename one."
            )
    return names


def note_on_names(names: Sequence[str]) -> list[str]:
    """Return a note on class names with letters that an English text tower may not know, if there are any."""
    foreign = [name for name in names if not name.isascii()]
    return [f"class names with letters that an English text tower may not know: {listing(foreign)}"] if foreign else []


def class_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Return labels in words: underscores as spaces.

    Example:
        >>> class_names(["sea_lion", "Straße"])
        ('sea lion', 'Straße')
    """
    return tuple(" ".join(label.replace("_", " ").split()) for label in labels)


def without_repeats(parts: Mapping[str, list[Example]], notes: list[str]) -> dict[str, list[Example]]:
    """Drop pictures that repeat byte for byte: the first stays, in the order train, select, test.

    Raises:
        DataError: one picture stands under two labels.
    """
    first: dict[str, Example] = {}
    kept: dict[str, list[Example]] = defaultdict(list)
    dropped: list[str] = []
    for part in sorted(parts, key=lambda name: ("train", "select", "test").index(name) if name in ("train", "select", "test") else 0):
        kept[part] = []
        for example in parts[part]:
            other = first.setdefault(example.fields["content"], example)
            if other is example:
                kept[part].append(example)
            elif other.label != example.label:
                raise DataError(
                    f"The same picture stands under {quote(other.label)} ({other.fields['image']}) and under {quote(example.label)} "
                    f"({example.fields['image']}): remove one of them."
                )
            else:
                dropped.append(example.fields["image"])
    if dropped:
        notes.append(f"{len(dropped)} pictures repeat others byte for byte and are left out ({listing(dropped)})")
    return dict(kept)

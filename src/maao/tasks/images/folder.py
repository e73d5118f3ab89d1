"""A folder of pictures: ``ROOT/CLASS/*``, or ``ROOT/{train,select,test}/CLASS/*``.

The label is the folder's name; the class's name in words is that with underscores as spaces. Nothing is left out in silence.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from maao.errors import DataError
from maao.tasks.checks import listing, quote
from maao.tasks.images.reading import SUFFIXES, read_image
from maao.tasks.images.sampling import SHOTS, default_select, sample_parts, sample_pool
from maao.tasks.images.source import Files
from maao.tasks.images.task import ImageTask
from maao.types import Example

PARTS = {"train": "train", "select": "select", "val": "select", "valid": "select", "validation": "select", "dev": "select", "test": "test"}


def load_folder(
    root: str | Path,
    *,
    shots: int | None = None,
    select_shots: int | None = None,
    test_size: int | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    fewer: bool = False,
) -> ImageTask:
    """Return the task of a folder of pictures.

    Args:
        shots: training pictures a class; by default 16, or all where the folder has parts.
        select_shots: by default as many as shots, at most 4.
        test_size: most test pictures; None: all there are.
        skip_bad: go on without pictures that cannot be read; a note names them.
        fewer: take what there is where a class has too few.

    Raises:
        DataError: no pictures, an empty class, classes that differ only in case, one class only, pictures that cannot be read, too few.
    """
    base = Path(root)
    if not base.is_dir():
        raise DataError(f"There is no folder {base}. Give a folder that holds a folder of pictures for each class.")
    inside = sorted(path for path in base.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not inside:
        raise DataError(f"The folder {base} holds no folders: pictures are read from one folder for each class ({base}/CLASS/1.png).")
    notes: list[str] = []
    parts = {path.name: PARTS[path.name.lower()] for path in inside if path.name.lower() in PARTS}
    if "train" in parts.values() and len(parts) == len(inside):
        return _with_parts(base, parts, notes, shots, select_shots, test_size, seed, skip_bad, fewer)
    pool = _read(base, base, notes, skip_bad)
    labels = _labels(pool, base)
    pool = _without_repeats({"the folder": pool}, notes)["the folder"]
    wanted = shots or SHOTS
    splits = sample_pool(
        pool,
        labels,
        shots=wanted,
        select_shots=select_shots or default_select(wanted),
        test_size=test_size,
        seed=seed,
        fewer=fewer,
    )
    return _task(base, splits, labels, notes)


def _with_parts(
    base: Path,
    names: Mapping[str, str],
    notes: list[str],
    shots: int | None,
    select_shots: int | None,
    test_size: int | None,
    seed: int,
    skip_bad: bool,
    fewer: bool,
) -> ImageTask:
    found: dict[str, list[Example]] = {}
    for name, part in names.items():
        if part in found:
            raise DataError(f"The folder {base} has two folders to {part} with: {' and '.join(n for n, p in names.items() if p == part)}.")
        found[part] = _read(base, base / name, notes, skip_bad)
    labels = _labels(found["train"], base)
    for part, examples in found.items():
        unknown = sorted({e.label for e in examples} - set(labels))
        if unknown:
            raise DataError(f"The {part} pictures of {base} have classes that train lacks: {listing(map(quote, unknown))}.")
    kept = _without_repeats(found, notes)
    splits = sample_parts(kept, labels, shots=shots, select_shots=select_shots, test_size=test_size, seed=seed, fewer=fewer)
    return _task(base, splits, labels, notes)


def _read(root: Path, base: Path, notes: list[str], skip_bad: bool) -> list[Example]:
    """Return all pictures of the class folders in `base`, each opened once to see that it can be."""
    folders = sorted(path for path in base.iterdir() if path.is_dir() and not path.name.startswith("."))
    seen: dict[str, str] = {}
    for folder in folders:
        if folder.name.lower() in seen:
            raise DataError(
                f"The folders {seen[folder.name.lower()]!r} and {folder.name!r} in {base} differ only in case: join or rename them."
            )
        seen[folder.name.lower()] = folder.name
    loose = [path.name for path in base.iterdir() if path.is_file() and path.suffix.lower() in SUFFIXES]
    if loose:
        notes.append(f"{len(loose)} pictures in {base.name} stand in no class folder and are left out ({listing(sorted(loose))})")
    examples: list[Example] = []
    faults: list[str] = []
    others: list[str] = []
    for folder in folders:
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        pictures = [path for path in files if path.suffix.lower() in SUFFIXES]
        others += [path.name for path in files if path.suffix.lower() not in SUFFIXES]
        if not pictures:
            raise DataError(f"The class folder {folder} holds no pictures ({', '.join(SUFFIXES)}). Fill it, or remove it.")
        for path in pictures:
            try:
                read_image(path)
            except DataError as error:
                faults.append(str(error))
                continue
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            examples.append(Example({"image": path.relative_to(root).as_posix(), "content": content}, folder.name))
    if others:
        notes.append(f"{len(others)} files in {base.name} are no pictures and are left out ({listing(sorted(set(others)))})")
    if faults and not skip_bad:
        raise DataError(
            f"{len(faults)} pictures cannot be read: {' '.join(faults[:5])}{' ...' if len(faults) > 5 else ''} Mend or remove them, or set "
            "images.skip_bad = true to go on without them."
        )
    if faults:
        notes.append(f"{len(faults)} pictures cannot be read and are left out: {' '.join(faults)}")
    gone = [folder.name for folder in folders if folder.name not in {e.label for e in examples}]
    if gone:
        raise DataError(f"No picture of the class {quote(gone[0])} can be read: nothing is left of it.")
    return examples


def _labels(pool: Sequence[Example], base: Path) -> tuple[str, ...]:
    labels = tuple(sorted({example.label for example in pool}))
    if len(labels) < 2:
        raise DataError(f"The folder {base} holds one class only ({', '.join(map(quote, labels))}): there is nothing to tell apart.")
    names = class_names(labels)
    same = [name for name in names if names.count(name) > 1]
    if same:
        raise DataError(f"Two class folders of {base} have the same name in words, {quote(same[0])}: rename one of them.")
    return labels


def class_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Return labels in words: underscores as spaces.

    Example:
        >>> class_names(["sea_lion", "Straße"])
        ('sea lion', 'Straße')
    """
    return tuple(" ".join(label.replace("_", " ").split()) for label in labels)


def _without_repeats(parts: Mapping[str, list[Example]], notes: list[str]) -> dict[str, list[Example]]:
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


def _task(base: Path, splits: object, labels: Sequence[str], notes: Sequence[str]) -> ImageTask:
    from maao.types import Splits

    assert isinstance(splits, Splits)
    names = class_names(labels)
    foreign = [name for name in names if not name.isascii()]
    told = [*notes]
    if foreign:
        told.append(f"class names with letters that an English text tower may not know: {listing(map(quote, foreign))}")
    splits = replace(splits, notes=(*splits.notes, *told))
    return ImageTask(splits, names, Files(base), "", splits.notes)

"""A first config, made from a data file: what the file holds is found by the readers that a run reads it with, and said in comments."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from maao.config import expand_paths as absolute
from maao.config import make_config, parse_toml
from maao.data.checks import TEXT_COLUMNS, Row, as_label, listing, nearest, num_examples
from maao.data.files import SEPARATORS, read_examples, read_rows, seeming_separator
from maao.data.folds import told_alone
from maao.errors import ConfigError, DataError
from maao.printable import printable_line

TEXT_NAMES = (*TEXT_COLUMNS, "message", "utterance", "content", "body", "review", "title", "question", "query", "comment", "tweet", "input")
LABEL_NAMES = ("label", "labels", "class", "category", "intent", "topic", "sentiment", "target", "tag", "y")
TEXT_MODEL = "packaged:all-minilm-l6-v2"
PICTURE_MODEL = "openai/clip-vit-base-patch16"
MOST_LISTED = 8  # classes that a comment names, of each end
TABLES = (".csv", ".tsv")  # whose first line is the header
SHOTS = 16  # pictures a class of a folder that train, at most

Which = Literal["text", "label"]
Ask = Callable[[Which, Sequence[str], str], str]  # of which column, those there are, and what was found; gives the one to take


@dataclass(frozen=True)
class Found:
    """What was found in a data file or a folder of pictures.

    Attributes:
        path: the file or folder; `test` another one, of examples to report on.
        counts: labelled examples a class.
        separator: of a .csv; None: a comma.
        text, label: the columns; `named`, whether a config must say the one of the text.
        splits: of a folder of pictures, whether it holds folders of splits.
        drop_repeats: whether examples of `test` stand in the file too.
        notes: what else there is to know of how a run reads it.
    """

    path: Path
    counts: Counter[str]
    test: Path | None = None
    separator: str | None = None
    text: str = ""
    label: str = ""
    is_pictures: bool = False
    named: bool = False
    splits: bool = False
    drop_repeats: bool = False
    notes: tuple[str, ...] = ()

    @property
    def fewest(self) -> int:
        return min(self.counts.values())


def look(
    path: Path,
    *,
    test: Path | None = None,
    text: str | None = None,
    label: str | None = None,
    separator: str | None = None,
    ask: Ask | None = None,
) -> Found:
    """Return what a file of labelled texts, or a folder of a folder of pictures for each class, holds.

    Args:
        test: further examples, of the same columns, to report on.
        text, label, separator: what is known already.
        ask: puts a question where a person is there to answer; None: what is not clear is an error.

    Raises:
        DataError: it cannot be read, or what is a text and what a label is not clear.
    """
    if path.is_dir():
        given = {"--test": test, "--text": text, "--label": label, "--separator": separator}
        if ignored := [name for name, held in given.items() if held is not None]:
            raise ConfigError(f"{listing(ignored)} would be ignored: {path} is a folder of pictures, whose parts are folders in it.")
        return _pictures(path)
    separator = separator or seeming_separator(path)
    rows = read_rows(path, separator)
    _check_header(path, rows, separator)
    text, label = _columns(path, rows, text, label, ask)
    examples = read_examples(path, separator=separator, text_fields={"text": text}, label_field=label)
    counts = Counter(example.label for example in examples)
    if len(counts) < 2:
        raise DataError(f"{path}: all {num_examples(examples)} have the label {listing(counts)}: there is nothing to tell apart.")
    if max(counts.values()) < 2:
        raise DataError(
            f"{path}: each of the {len(counts)} labels of the column {label!r} stands at one example only. Is it the column of the label? "
            "Name it with --label; or label a second example of some class."
        )
    usual = [name for name in TEXT_COLUMNS if any(name in row for _, row in rows)]
    return Found(path, counts, test, separator, text, label, named=usual != [text])


def _pictures(path: Path) -> Found:
    from maao.data.images import read_labelled_folder
    from maao.data.images.layout import split_folders
    from maao.data.images.walking import folders_in

    parts = split_folders(path, folders_in(path)[0], [])
    train = next((path / name for name, part in parts.items() if part == "train"), path)
    examples, _ = read_labelled_folder(train)
    counts = Counter(example.label for example in examples)
    if len(counts) < 2:
        raise DataError(f"{train}: holds pictures of the class {listing(counts)} alone: there is nothing to tell apart.")
    if min(counts.values()) < 2:
        raise DataError(f"{train}: the class {min(counts, key=lambda name: counts[name])!r} has one picture only: add another one.")
    return Found(path, counts, is_pictures=True, splits=bool(parts))


def _check_header(path: Path, rows: Sequence[Row], separator: str | None) -> None:
    """Refuse a table whose header looks like data: no name is a usual one, and one stands among the values of its own column again."""
    names = list(rows[0][1])
    if path.suffix.lower() not in TABLES or _has_usual_name(names):
        return
    again = [name for name in names if name.strip() and name.strip() in {as_label(value) for value in _values(rows, name)}]
    if again:
        such = (separator or ("\t" if path.suffix.lower() == ".tsv" else ",")).join("label" if name in again else "text" for name in names)
        example = f" such as {printable_line(such)}" if len(names) == 2 and len(again) == 1 else " that names its columns, text and label"
        raise DataError(
            f"{path}: line 1 seems to be data: the file has no header; add a first line{example}. "
            f"({listing(again)} of line 1 stands in the same column of later rows too.)"
        )


def _has_usual_name(names: Sequence[str]) -> bool:
    return bool(_named(names, TEXT_NAMES) or _named(names, LABEL_NAMES))


def _columns(path: Path, rows: Sequence[Row], text: str | None, label: str | None, ask: Ask | None) -> tuple[str, str]:
    """Return the columns of the text and of the label: as given, as asked for, or as found where that is clear."""
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    for option, given in (("--text", text), ("--label", label)):
        if given is not None and given not in names:
            raise DataError(
                f"{path}: there is no column {given!r}, which {option} names.{nearest(given, names)} Columns: {listing(names)}."
            )
    labels = [label] if label is not None else _label_columns(names, rows, text)
    label = _one(path, "label", names, labels, ask) if label is None else label
    texts = [text] if text is not None else _text_columns([name for name in names if name != label], rows)
    text = _one(path, "text", names, texts, ask) if text is None else text
    if text == label:
        raise DataError(f"{path}: the column {text!r} cannot be both the text and the label. Name them with --text and --label.")
    return text, label


def _one(path: Path, which: Which, names: Sequence[str], found: Sequence[str], ask: Ask | None) -> str:
    if ask is not None:
        return ask(which, names, found[0] if found else "")
    if len(found) == 1:
        return found[0]
    seems = f"{listing(found)} could each be it" if found else "none looks like it"
    raise DataError(f"{path}: which column is the {which} is not clear: {seems}. Name it with --{which}. Columns: {listing(names)}.")


def _named(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return the column of the first name that the field uses."""
    lower = {name.strip().lower(): name for name in names}
    return next(([lower[name]] for name in wanted if name in lower), [])


def _label_columns(names: Sequence[str], rows: Sequence[Row], text: str | None) -> list[str]:
    """Return the columns that could hold labels: one of a usual name, or else those of few and short values, which come again."""
    left = [name for name in names if name != text]
    return _named(left, LABEL_NAMES) or [name for name in left if _is_like_labels(_values(rows, name))]


def _text_columns(names: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Return the columns that could hold texts: one of a usual name, or else those of text whose values differ."""
    return _named(names, TEXT_NAMES) or [name for name in names if _is_like_texts(_values(rows, name))]


def _values(rows: Sequence[Row], name: str) -> list[object]:
    return [row.get(name) for _, row in rows]


def _is_like_labels(values: Sequence[object]) -> bool:
    labels = [as_label(value) for value in values]
    if not all(isinstance(label, str) and label and len(label) <= 60 for label in labels):
        return False
    return 2 <= len(set(labels)) <= len(labels) // 2


def _is_like_texts(values: Sequence[object]) -> bool:
    texts = [value for value in values if isinstance(value, str) and value.strip()]
    if len(texts) < len(values) or any(_is_number(text) for text in texts[:20]):
        return False
    return len(set(texts)) > len(texts) // 2 and sum(map(len, texts)) / len(texts) >= 8


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# -- the config


def config_text(found: Found, to: Path, model: str | None = None) -> str:
    """Return a commented config for what was found, to be written to `to`."""
    return _for_pictures(found, to, model or PICTURE_MODEL) if found.is_pictures else _for_texts(found, to, model or TEXT_MODEL)


def checked(found: Found, to: Path, model: str | None = None) -> tuple[Found, str]:
    """Return the config for what was found once a run could read its data, with repeats dropped if it takes that.

    Raises:
        DataError: it could not.
    """
    text = config_text(found, to, model)
    try:
        return replace(found, notes=_try(text, to)), text
    except DataError:
        if found.test is None:
            raise
        dropping = replace(found, drop_repeats=True)
        without = config_text(dropping, to, model)
        try:
            return replace(dropping, notes=_try(without, to)), without
        except DataError as error:  # what is wrong besides
            raise error from None


def _try(text: str, to: Path) -> tuple[str, ...]:
    """Read the data as a run does; return what it would note of classes of one example."""
    values = parse_toml(text, str(to))
    absolute(values, to.parent)
    read = make_config(values, str(to)).builder.load_data()
    return () if read is None else told_alone(read.splits.train, read.splits.folds)


def told(found: Found) -> list[str]:
    """Return what was found, in lines."""
    what = "pictures" if found.is_pictures else "texts"
    total = sum(found.counts.values())
    lines = [
        f"{found.path}: {total:,} labelled {what} of {len(found.counts)} classes, {found.fewest} to {max(found.counts.values())} a class."
    ]
    if not found.is_pictures:
        between = f", separated by {SEPARATORS[found.separator]}" if found.separator in SEPARATORS else ""
        lines.append(f"UTF-8{between}; the text is the column {found.text!r}, the label the column {found.label!r}.")
    if found.path.suffix.lower() in TABLES and not found.is_pictures and not _has_usual_name([found.text, found.label]):
        lines.append("Line 1 is read as the header; if it is an example, put a line that names the columns before it.")
    if found.drop_repeats:
        lines.append(f"Some examples of {found.test} stand in {found.path} too, and are dropped (data.drop_repeats).")
    if _are_numbers(found):
        lines.append("The labels are numbers, and a model knows classes by their names: say them in data.label_names.")
    return [*lines, *found.notes]


def _are_numbers(found: Found) -> bool:
    return all(_is_number(label) for label in found.counts)


def _classes(found: Found) -> str:
    ranked = [f"{printable_line(label)} {count}" for label, count in found.counts.most_common()]
    if len(ranked) > 2 * MOST_LISTED:
        ranked = [*ranked[:MOST_LISTED], "...", *ranked[-MOST_LISTED:]]
    lines, line = [], "#"
    for one in ranked:
        if len(line) + len(one) > 100:
            lines.append(line)
            line = "#"
        line += f" {one},"
    return "\n".join([*lines, line.removesuffix(",")])


def _path(path: Path, to: Path) -> str:
    return _quoted(os.path.relpath(path.resolve(), to.parent.resolve()))


def _quoted(text: str) -> str:
    """Return a TOML string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _line(setting: str, comment: str) -> str:
    return f"{setting:<44} # {comment}"


def _head(found: Found, to: Path) -> list[str]:
    return [
        f"# Written by `maao init` from {printable_line(str(found.path))}. Run it: maao tune {printable_line(str(to))}",
        f"# {sum(found.counts.values()):,} labelled examples of {len(found.counts)} classes:",
        _classes(found),
        "# Every setting: docs/settings.md.",
        "",
        _line("seed = 0", "the same seed gives the same run"),
        "",
    ]


def _model(model: str, told: str) -> list[str]:
    return [
        "[model]",
        _line('kind = "matcher"', "a class is scored by how near its features lie to an input's; best with few labels"),
        _line(f"name = {_quoted(model)}", told),
        _line('method = "class_residual"', "class features begin at names and labelled examples, and are trained"),
        "",
    ]


MENTOR = [
    "[mentor]",
    _line('name = "none"', '"class_lines" asks a language model for lines about each class: docs/class-lines.md'),
    "",
]


def _for_texts(found: Found, to: Path, model: str) -> str:
    data = ["[data]", _line(f"train = {_path(found.path, to)}", "labelled texts, relative to this file")]
    if found.test is not None:
        data.append(_line(f"test = {_path(found.test, to)}", "read once, at the end"))
        data.append(_line("# test_size = 500", "at most so many of them (500 by default)"))
    else:
        data.append(_line('# test = "test.csv"', "labelled texts of the same columns, read once, at the end"))
    if found.drop_repeats:
        data.append(_line("drop_repeats = true", "some examples of test stand in train too: they are dropped"))
    if found.separator is not None:
        data.append(_line(f"separator = {_quoted(found.separator)}", "between columns"))
    if found.named:
        data.append(_line(f"text_fields = {{ text = {_quoted(found.text)} }}", "the column of the text"))
    if found.label != "label":
        data.append(_line(f"label_field = {_quoted(found.label)}", "the column of the label"))
    if _are_numbers(found):
        names = ", ".join(f'{_quoted(label)} = "..."' for label in list(found.counts)[:3])
        data.append(_line(f"# label_names = {{ {names} }}", "names of the classes, which the model reads"))
    data.append(_line('select = "cross_validation"', "all labels train, and each is judged by what was tuned without it"))
    model_lines = _model(model, "any sentence encoder: a hub name or a folder")
    return "\n".join([*_head(found, to), *model_lines, *data, "", *MENTOR])


def _for_pictures(found: Found, to: Path, model: str) -> str:
    data = ["[data]", 'input = "image"', _line(f"source = {_path(found.path, to)}", "a folder for each class, relative to this file")]
    if not found.splits:
        shots = max(1, min(SHOTS, found.fewest // 2))
        data.append(_line(f"shots = {shots}", "pictures a class that train; the others are read once, at the end"))
    data.append(_line('select = "cross_validation"', "all labels train, and each is judged by what was tuned without it"))
    model_lines = _model(model, "a CLIP or SigLIP model: a hub name or a folder")
    return "\n".join([*_head(found, to), *model_lines, *data, "", *MENTOR])

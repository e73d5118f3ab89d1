"""How far recorded lines resemble the data: `make` writes, for each set, the lines of the strong mentor's replies with their similarity to
the nearest row, in runs of three words and of three letters (Jaccard). `data/NAME-similar.json`; one list a reply, in the order of samples.
"""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.demo.packaged import letter_grams, similarities, word_grams
from maao.class_lines import Kind
from maao.mentors.class_lines.base import usable
from maao.mentors.class_lines.mentor import read_about
from maao.mentors.class_lines.names import Names
from maao.mentors.class_lines.reading import Asked, read_reply
from maao.mentors.class_lines.request import Subject, wording_of, write
from maao.store.files import write_text_durably

COUNTS: dict[Kind, int] = {"examples": 8, "descriptions": 3}
SAMPLES = 3
RECORD = "strong-assistant-model.jsonl"


def make(tables: Path, record: Path, data: Path, folder: Path) -> list[str]:
    """Write a file for each task of the tables whose replies are on record; return the tasks of which some are lacking.

    Args:
        tables: the TOML file that has the tasks.
        record: replies on record.
        data: the data folder, for sets whose rows lie there.
        folder: where what `experiments.study2.data` wrote stands, and these files go.
    """
    replies = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()] if record.exists() else []
    said = {(one["request"]["messages"][0]["content"], one["sample"]): one["reply"]["text"] for one in replies if one.get("request")}
    lacking = []
    for task, settings in tomllib.loads(tables.read_text(encoding="utf-8"))["tasks"].items():
        target = folder / f"{Path(settings['mentor.corpus']).stem}-similar.json"
        if target.exists():  # a reply on record is never replaced
            continue
        rows = rows_of(settings, data, folder)
        classes = tuple(sorted({label for _, label in rows}))
        request = write(
            Subject(settings["mentor.description"], classes, about_of(settings, data), wording_of("text")), Asked(classes, COUNTS)
        )
        if any((request, sample) not in said for sample in range(SAMPLES)):
            lacking.append(task)
            continue
        found = [measured(said[request, sample], classes, [text for text, _ in rows]) for sample in range(SAMPLES)]
        write_text_durably(target, json.dumps(found, ensure_ascii=False) + "\n")
    return lacking


def measured(reply: str, classes: tuple[str, ...], rows: Sequence[str]) -> list[dict[str, object]]:
    """Return the lines that a run takes from a reply, each with its similarity to the nearest row."""
    lines, _ = usable(read_reply(reply, Asked(classes, COUNTS), Names(classes))[0], classes)
    of = [line.text for line in lines]
    near = zip(lines, similarities(of, rows, word_grams), similarities(of, rows, letter_grams), strict=True)
    return [
        {"label": line.label, "kind": line.kind, "text": line.text, "words": words, "letters": letters} for line, words, letters in near
    ]


def rows_of(settings: Mapping[str, str], data: Path, folder: Path) -> list[tuple[str, str]]:
    """Return texts and labels of all rows of a task, those of `test` too."""
    found = []
    for name in ("data.train", "data.test"):
        given = settings[name]
        file = data / given.removeprefix("$MAAO_DATA/") if given.startswith("$") else folder / given.removeprefix("data/")
        with file.open(encoding="utf-8", newline="") as held:
            found += [(row["text"], row["label"]) for row in csv.DictReader(held)]
    return found


def about_of(settings: Mapping[str, str], data: Path) -> dict[str, str]:
    """Return what a task says of its classes."""
    given = settings.get("mentor.about_classes")
    return read_about(str(data / given.removeprefix("$MAAO_DATA/"))) if given else {}

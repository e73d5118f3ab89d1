"""What the tables read that is no file of the data folder: emoji by name, sets in parts, corpora, and sentences about classes."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.few_labels.data import make as make_parts
from experiments.study.data import sentences
from maao.data.packaged import bbc_headlines
from maao.data.sampling import sha256
from maao.errors import DataError
from maao.store.files import write_text_durably

BBC = "bbc-headlines"
POOLS = {  # a set, and where its pool lies in the data folder; of others it is made here
    "hwu64": "intents/hwu64",
    "yahoo": "topics/yahoo",
    "dbpedia": "topics/dbpedia",
    "trec": "topics/trec",
    "docstrings": "unseen/docstrings",
    "test-names": "unseen/test-names",
    "banking77": "intents/banking77",
    "clinc150-work": "intents/clinc150-work",
    "clinc150-kitchen": "intents/clinc150-kitchen",
}
MADE = ("emoji", "agnews", "sst-2", BBC)
SAID = ("docstrings", "test-names")  # sets that come with a sentence about each class


def make(folder: Path) -> None:
    """Write all of it into a folder, from `MAAO_DATA`: ``NAME-pool.csv``, ``NAME-test.csv``, a corpus ``NAME.txt``, ``NAME-about.json``."""
    given = os.environ.get("MAAO_DATA")
    if not given:
        raise DataError("The tables read the data folder: set MAAO_DATA to it.")
    data = Path(given)
    make_parts(folder)
    make_emoji(data / "emoji" / "emoji.json", folder)
    headlines = ((example.fields["text"], example.label) for example in bbc_headlines())
    write_parts(BBC, dict(sorted(headlines)).items(), folder)
    for name, place in POOLS.items():
        write_corpus(folder / f"{name}.txt", texts(data / place / "pool.csv"))
    for name in MADE:
        write_corpus(folder / f"{name}.txt", texts(folder / f"{name}-pool.csv"))
    write(folder / "sentences.txt", "\n".join(sentences(data)) + "\n")
    for name in SAID:
        with (data / "unseen" / name / "classes.csv").open(encoding="utf-8", newline="") as held:
            said = {row["label"]: {"descriptions": [row["about"]]} for row in csv.DictReader(held)}
        write(folder / f"{name}-about.json", json.dumps(said, ensure_ascii=False, indent=1) + "\n")


def make_emoji(source: Path, folder: Path) -> None:
    """Write names of emoji with their categories: of a `group` of one thing's variants the first by code, in a part drawn by its hash.

    A name that two groups have is left out of both.
    """
    first: dict[int, dict[str, str]] = {}
    for row in sorted(json.loads(source.read_text(encoding="utf-8")), key=lambda row: row["code"]):
        first.setdefault(row["group"], row)
    counts: dict[str, int] = {}
    for row in first.values():
        counts[row["name"]] = counts.get(row["name"], 0) + 1
    own = {group: (row["name"], row["category"]) for group, row in sorted(first.items()) if counts[row["name"]] == 1}
    write_parts("emoji", own.values(), folder, keys=[f"emoji {group}" for group in own])


def write_parts(name: str, rows: Iterable[tuple[str, str]], folder: Path, keys: Sequence[str] | None = None) -> None:
    """Write texts with their labels into a pool and a test, which a hash of the text (or of a key) says."""
    parts: dict[str, list[tuple[str, str]]] = {"pool": [], "test": []}
    listed = list(rows)
    for row, key in zip(listed, keys or [text for text, _ in listed], strict=True):
        parts["pool" if int(sha256(key)[:8], 16) % 2 else "test"].append(row)
    for part, own in parts.items():
        told = io.StringIO()
        csv.writer(told, lineterminator="\n").writerows([("text", "label"), *own])
        write(folder / f"{name}-{part}.csv", told.getvalue())


def texts(file: Path) -> list[str]:
    """Return the texts of a file of labelled rows."""
    with file.open(encoding="utf-8", newline="") as held:
        return [row["text"] for row in csv.DictReader(held)]


def write_corpus(file: Path, of: Iterable[str]) -> None:
    """Write texts without their labels, a line each and each once."""
    write(file, "\n".join(dict.fromkeys(" ".join(text.split()) for text in of)) + "\n")


def write(file: Path, text: str) -> None:
    """Write a file whole, and only where it says something else: other processes may read it."""
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        write_text_durably(file, text)

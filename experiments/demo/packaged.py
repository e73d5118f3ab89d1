"""Make the set that maao packages of banking77: ten labelled texts a class, 1,000 test texts, and a mentor's replies on record.

python -m experiments.demo.packaged POOL.csv TEST.csv REPLIES.json [REST]

POOL and TEST are banking77's `train.csv` and `test.csv` with the columns `text` and `label`; REPLIES is ``{class: [line, ...]}``. What is
taken follows from the texts alone, by their hashes. Into the folder REST go files of pool texts that are not packaged, to choose settings
by: for seeds 0 to 4 two labelled texts a class (`labels-N.csv`), and 1,000 others (`judge.csv`).
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

from maao.data.banking77 import FILE

LABELLED, TEST = 10, 1000  # texts a class; texts
MOST_WORDS, MOST_LETTERS = 0.3, 0.5  # of the similarity of a reply to any row of the data

Row = tuple[str, str]  # a text and its class


def alike(text: str) -> str:
    """Return the words of a text, as a reader would say them."""
    return " ".join("".join(char if char.isalnum() or char == "'" else " " for char in text.casefold()).split())


def word_grams(text: str) -> frozenset[str]:
    """Return the runs of three words; of a shorter text, the text.

    Example:
        >>> sorted(word_grams("Where is my card?"))
        ['is my card', 'where is my']
    """
    words = alike(text).split()
    return frozenset(" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2)))


def letter_grams(text: str) -> frozenset[str]:
    """Return the runs of three letters, a space before the text and behind it."""
    letters = f" {alike(text)} "
    return frozenset(letters[i : i + 3] for i in range(len(letters) - 2))


def similarities(lines: Sequence[str], texts: Iterable[str], grams: Callable[[str], frozenset[str]]) -> list[float]:
    """Return for each line its largest Jaccard similarity to a text: the share of grams of either that are in both.

    Example:
        >>> similarities(["Where is my card?"], ["where is my cat", "hello"], word_grams)
        [0.3333333333333333]
    """
    counter = CountVectorizer(analyzer=grams, binary=True)
    of_texts = counter.fit_transform([*texts, *lines])
    of_lines, of_texts = of_texts[-len(lines) :], of_texts[: -len(lines)].T.tocsc()
    sizes, own_sizes = np.asarray(of_texts.sum(axis=0)).ravel(), np.asarray(of_lines.sum(axis=1)).ravel()
    found = []
    for number, size in enumerate(own_sizes):
        shared = (of_lines[number] @ of_texts).tocoo()  # of the texts that share a gram with the line
        found.append(float((shared.data / (size + sizes[shared.col] - shared.data)).max(initial=0.0)))
    return found


def told_apart(lines: Mapping[str, Sequence[str]], texts: Sequence[str]) -> dict[str, list[str]]:
    """Return the lines that resemble no text."""
    every = [line for own in lines.values() for line in own]
    words, letters = similarities(every, texts, word_grams), similarities(every, texts, letter_grams)
    kept = {line for line, w, c in zip(every, words, letters, strict=True) if w <= MOST_WORDS and c <= MOST_LETTERS}
    return {label: [line for line in own if line in kept] for label, own in lines.items()}


def by_hash(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: hashlib.sha256(row[0].encode()).hexdigest())


def once(rows: Sequence[Row]) -> list[Row]:
    """Return rows without those that repeat another one (but for case, marks and white space), and without texts of two classes."""
    classes: dict[str, set[str]] = defaultdict(set)
    for text, label in rows:
        classes[alike(text)].add(label)
    kept: dict[str, Row] = {}
    for row in rows:
        if len(classes[alike(row[0])]) == 1:
            kept.setdefault(alike(row[0]), row)
    return list(kept.values())


def make(pool: Sequence[Row], test: Sequence[Row], replies: Mapping[str, Sequence[str]]) -> dict[str, dict[str, list[str]]]:
    """Return for each class its labelled texts, its test texts and the replies, all by hash but the replies."""
    shared = {alike(text) for text, _ in pool} & {alike(text) for text, _ in test}
    apart = [(text, label) for text, label in once(by_hash(pool)) if alike(text) not in shared]
    tested = [(text, label) for text, label in once(by_hash(test)) if alike(text) not in shared][:TEST]
    lines = told_apart(replies, [text for text, _ in (*pool, *test)])
    labels = sorted({label for _, label in pool})
    assert labels == sorted(replies)
    return {
        label: {
            "labelled": [text for text, own in apart if own == label][:LABELLED],
            "test": [text for text, own in tested if own == label],
            "replies": lines[label],
        }
        for label in labels
    }


def rest(pool: Sequence[Row], packaged: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, list[Row]]:
    """Return labels for five seeds, and 1,000 rows to judge by, of the pool without what is packaged."""
    taken = {alike(text) for own in packaged.values() for name in ("labelled", "test") for text in own[name]}
    left = [(text, label) for text, label in once(by_hash(pool)) if alike(text) not in taken]
    of_class = {label: [row for row in left if row[1] == label] for label in packaged}
    found = {f"labels-{seed}": [row for own in of_class.values() for row in own[2 * seed : 2 * seed + 2]] for seed in range(5)}
    spent = {row for rows in found.values() for row in rows}
    return {**found, "judge": [row for row in left if row not in spent][:TEST]}


def write(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def read(path: str) -> list[Row]:
    with open(path, newline="", encoding="utf-8") as file:
        return [(row["text"], row["label"]) for row in csv.DictReader(file)]


def main(pool: str, test: str, replies: str, folder: str = "") -> None:
    classes = make(read(pool), read(test), json.loads(Path(replies).read_text(encoding="utf-8")))
    rows = (f"{json.dumps(label)}:{json.dumps(own, ensure_ascii=False, separators=(',', ':'))}" for label, own in classes.items())
    FILE.write_text("{" + ",\n".join(rows) + "}\n", encoding="utf-8")
    sizes = {name: sum(len(own[name]) for own in classes.values()) for name in ("labelled", "test", "replies")}
    if folder:
        for name, own in rest(read(pool), classes).items():
            write(Path(folder, f"{name}.csv"), own)
    print(f"{FILE}: {FILE.stat().st_size} bytes, {sizes}")


if __name__ == "__main__":
    main(*sys.argv[1:])

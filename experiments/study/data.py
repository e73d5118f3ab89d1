"""Texts that the study makes from the data folder: two tasks on the names of emoji, to search on, and a corpus of random sentences."""

from __future__ import annotations

import json
import os
from pathlib import Path

from maao.errors import DataError
from maao.mentors.random_text import sentences_of

# class -> subcategories of things whose names are to be sorted
KINDS = {
    "animal": ("animal-mammal", "animal-bird", "animal-bug", "animal-marine", "animal-reptile"),
    "food": ("food-prepared", "food-fruit", "food-vegetable", "food-asian", "food-sweet", "drink"),
    "clothes": ("clothing",),
    "vehicle": ("transport-ground", "transport-air", "transport-water"),
    "place": ("place-building", "place-other", "place-map", "place-religious", "place-geographic"),
    "sport": ("sport", "person-sport"),
    "weather": ("sky & weather",),
}
CATEGORIES = {  # category -> class
    "People & Body": "people",
    "Objects": "objects",
    "Symbols": "symbols",
    "Travel & Places": "travel",
    "Smileys & Emotion": "emotion",
    "Animals & Nature": "nature",
    "Food & Drink": "food",
    "Activities": "activities",
}


def make(folder: Path) -> None:
    """Write the texts into a folder, from what the data folder (`MAAO_DATA`) holds."""
    given = os.environ.get("MAAO_DATA")
    if not given:
        raise DataError("The study reads the data folder: set MAAO_DATA to it.")
    folder.mkdir(parents=True, exist_ok=True)
    emoji = json.loads((Path(given) / "emoji" / "emoji.json").read_text(encoding="utf-8"))
    first = {one["group"]: one for one in reversed(emoji)}  # one of each group: variants of one thing would stand in two splits
    kind_of = {sub: kind for kind, subs in KINDS.items() for sub in subs}
    kinds = [(one["name"], kind_of.get(one["subcategory"])) for one in first.values()]
    categories = [(one["name"], CATEGORIES.get(one["category"])) for one in first.values()]
    for name, pairs in (("emoji-kinds", kinds), ("emoji-categories", categories)):
        labels: dict[str, set[str]] = {}
        for text, label in pairs:
            if label is not None:
                labels.setdefault(text.lower(), set()).add(label)
        rows = [{"text": text, "label": found.pop()} for text, found in sorted(labels.items()) if len(found) == 1]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    (folder / "sentences.txt").write_text("\n".join(sentences(Path(given))) + "\n", encoding="utf-8")


def sentences(data: Path) -> tuple[str, ...]:
    """Return the corpus of random sentences: those of BoolQ's training passages in the data folder."""
    rows = (data / "fewglue/BoolQ/train.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(sentences_of("\n".join(json.loads(row)["passage"] for row in rows)))

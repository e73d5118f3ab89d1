"""What the reference runs read: tiny models with random weights, made-up headlines, noise for pictures. Made anew, the same each time."""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path

from tests import tiny_vision
from tests.tiny import tiny_model, tiny_splits

ARCHITECTURES = ("llama", "gpt2", "bert", "bert_masked", "roberta_masked", "t5")
TURN = "<s>user\n{{ messages[0]['content'] }}</s>\n<s>assistant{{ '\\n' }}"
CLASSES = ("cat", "dog", "sea_lion", "lion")
CORPUS = (
    "The news of the bank is good. A team and a coach win the cup. Music of the film star is great. What is the topic of it? "
    "The market fell and the economy grew. Is the album bad? Say which label the text has. The game is on."
)
PIXELS = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}


def make(folder: Path) -> None:
    """Write all of it below a folder: `models`, `pictures`, `data`."""
    for architecture in ARCHITECTURES:
        frozen = tiny_model(architecture)
        frozen.model.save_pretrained(folder / "models" / architecture)
        frozen.tokenizer.save_pretrained(folder / "models" / architecture)
    chat = tiny_model("llama")
    tokenizer = copy.deepcopy(chat.tokenizer)
    tokenizer.chat_template = TURN
    chat.model.save_pretrained(folder / "models" / "llama_chat")
    tokenizer.save_pretrained(folder / "models" / "llama_chat")
    clip = folder / "models" / "clip"
    tiny_vision.clip_model().save_pretrained(clip)
    tiny_vision.clip_tokenizer().save_pretrained(clip)
    (clip / "preprocessor_config.json").write_text(json.dumps(PIXELS))
    _pictures(folder / "pictures")
    _texts(folder / "data")


def _pictures(folder: Path) -> None:
    source = tiny_vision.Pictures()
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
        for number in range(8):
            source.open(f"{label}/{number}").save(folder / label / f"{number}.png")


def _texts(folder: Path) -> None:
    folder.mkdir()
    (folder / "corpus.txt").write_text(CORPUS, encoding="utf-8")
    pool = []
    for name, part in tiny_splits().parts.items():
        rows = [(example.fields["text"], example.label) for example in part]
        pool += rows
        _write(folder / f"{name}.csv", rows)
    _write(folder / "pool.csv", pool)


def _write(file: Path, rows: list[tuple[str, str]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows])

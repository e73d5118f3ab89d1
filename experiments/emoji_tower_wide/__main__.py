"""Train a wider emoji tower: a small vision transformer on Noto drawings against frozen MiniLM texts. Minutes on one core.

`python -m experiments.emoji_tower_wide [--out FOLDER] [--epochs N] [--threads N] [--holdout]`. The same seed, threads, machine and
versions give the same weights. Twemoji drawings are never read. `--holdout` keeps an eighth of the groups (by hash) out, writes nothing,
and prints how well those are named: what was chosen here was chosen by it.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.emoji_tower.shared import DIM, embed, save, vision_transformer
from experiments.emoji_tower_wide.augment import augment
from maao.data.images.emoji import EmojiSource, emoji_classes, emoji_folder

OUT = Path("runs") / "emoji_tower_wide"  # the packaged tower is that of experiments/emoji_tower
STEM = (24, 48, 96, 192)
WIDTH, LAYERS, HEADS = STEM[-1], 6, 3
BATCH, STEPS, EPOCHS, LR, WARMUP, DECAY, EMA = 64, 25, 90, 1e-3, 3, 0.05, 0.995  # STEPS of an epoch, WARMUP in epochs
FIRST_SCALE, MOST_SCALE = 40.0, 100.0
WEIGHTS = {"name": 0.5, "subcategory": 1.0, "category": 0.2}  # of the parts of the loss
SMOOTHING = 0.05
FLAGS = 0.3  # a country flag is drawn as often as that of another emoji: 259 of 1906 are
KIND_WORDINGS = (
    "{}",
    "an emoji of {}",
    "a picture of {}",
    "a drawing of {}",
    "an icon of {}",
    "{} emoji",
    "a cartoon showing {}",
    "this is {}",
    "an image of a {}",
    "a small drawing about {}",
)
NAME_WORDINGS = ("{}", "an emoji of {}", "a picture of {}", "a drawing of {}", "an icon of {}")
NEVER_MIRRORED = (
    "alphanum arrow country-flag currency keycap math other-symbol punctuation subdivision-flag time transport-sign zodiac".split()
)


@dataclass(frozen=True)
class Texts:
    """Features of all that is said of the drawings, embedded once."""

    names: Tensor  # (num_emoji, most, 384): names and keywords in several wordings, repeated to fill
    name_counts: Tensor  # (num_emoji,): how many of them are different
    subcategories: Tensor  # (98, num_wordings, 384)
    categories: Tensor  # (9, num_wordings, 384)


@dataclass(frozen=True)
class Labels:
    """What each drawing is, in the order of the data."""

    subcategory: Tensor
    category: Tensor
    alike: Tensor  # (num_emoji, num_emoji): 1 / size of the group where two are of one group, 0 elsewhere
    may_flip: Tensor
    kept: Tensor  # the numbers of those that train
    often: Tensor  # how often each of those is drawn, relatively
    subcategories: list[str]
    categories: list[str]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.emoji_tower_wide", description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--holdout", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(asked.seed)
    started, spent = time.perf_counter(), time.process_time()
    source = EmojiSource(emoji_folder())
    with np.load(source.folder / "emoji.npz") as held:
        pictures = torch.from_numpy(held["noto"]).permute(0, 3, 1, 2).float() / 255
    labels = labels_of(source.entries, asked.holdout)
    texts = embed_all(source.entries, labels)
    tower, config = vision_transformer(STEM, LAYERS, HEADS)
    projection = nn.Linear(WIDTH, DIM, bias=False)
    scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))
    fit(tower, projection, scale, pictures, texts, labels, asked.epochs, asked.seed)
    seconds, cpu = time.perf_counter() - started, time.process_time() - spent
    count = sum(value.numel() for value in tower.parameters()) + projection.weight.numel()
    print(f"{count} parameters; {seconds:.0f} s, {cpu:.0f} s of CPU on {asked.threads} thread(s)")
    if asked.holdout:
        report_held(tower, projection, pictures, texts, labels, list(emoji_classes(source)))
    else:
        save(asked.out, tower, config, projection, min(float(scale.detach()), math.log(MOST_SCALE)), STEM)
        print(f"written to {asked.out}")


def labels_of(entries: list[dict[str, Any]], holdout: bool) -> Labels:
    subcategories = sorted({entry["subcategory"] for entry in entries})
    categories = sorted({entry["category"] for entry in entries})
    groups = torch.tensor([entry["group"] for entry in entries])
    alike = (groups[:, None] == groups[None]).float()
    held = [holdout and int(hashlib.sha256(str(entry["group"]).encode()).hexdigest(), 16) % 8 == 0 for entry in entries]
    kept = (~torch.tensor(held)).nonzero().view(-1)
    return Labels(
        torch.tensor([subcategories.index(entry["subcategory"]) for entry in entries]),
        torch.tensor([categories.index(entry["category"]) for entry in entries]),
        alike / alike.sum(1, keepdim=True),
        torch.tensor([entry["subcategory"] not in NEVER_MIRRORED for entry in entries]),
        kept,
        torch.tensor([FLAGS if entry["subcategory"] == "country-flag" else 1.0 for entry in entries])[kept],
        subcategories,
        categories,
    )


def embed_all(entries: list[dict[str, Any]], labels: Labels) -> Texts:
    """Return the features of what is said: of an emoji its name, short name and up to three keywords; its subcategory; its category."""
    said: list[list[str]] = []
    for entry in entries:
        words = dict.fromkeys([entry["name"].lower(), _words(entry["short_name"])])
        here = [wording.format(word) for word in words for wording in NAME_WORDINGS]
        here += [wording.format(_words(keyword)) for keyword in entry["keywords"][:3] for wording in NAME_WORDINGS[:2]]
        said.append(here)
    subcategories = [wording.format(_words(name)) for name in labels.subcategories for wording in KIND_WORDINGS]
    categories = [wording.format(name.lower()) for name in labels.categories for wording in KIND_WORDINGS]
    known = {text: i for i, text in enumerate(dict.fromkeys([*(text for here in said for text in here), *subcategories, *categories]))}
    bank = embed(list(known))
    most = max(map(len, said))
    rows = torch.tensor([[known[text] for text in (here * most)[:most]] for here in said])

    def table(texts: list[str]) -> Tensor:
        return bank[torch.tensor([known[text] for text in texts])].view(-1, len(KIND_WORDINGS), DIM)

    return Texts(bank[rows], torch.tensor([len(here) for here in said]), table(subcategories), table(categories))


def _words(name: str) -> str:
    return name.replace("-", " ").replace("_", " ")


def features_of(tower: Any, projection: nn.Linear, images: Tensor) -> Tensor:
    return F.normalize(projection(tower(pixel_values=images * 2 - 1).last_hidden_state.mean(1)), dim=-1)


def fit(
    tower: Any, projection: nn.Linear, scale: nn.Parameter, pictures: Tensor, texts: Texts, labels: Labels, epochs: int, seed: int
) -> None:
    """Train in place; at the end the weights are their moving average.

    The loss is contrastive from images to texts, against *all* names, subcategories and categories rather than those of a batch (their
    features are constants: that costs one small product), each in a wording drawn anew each step.
    """
    held = nn.ModuleList([tower, projection])
    matrices = [p for p in held.parameters() if p.dim() > 1]
    others = [p for p in held.parameters() if p.dim() <= 1] + [scale]
    parts = [{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(parts, lr=LR, betas=(0.9, 0.98))
    average = {name: value.detach().clone() for name, value in held.state_dict().items()}
    draw = torch.Generator().manual_seed(seed)
    began, total = time.perf_counter(), epochs * STEPS
    for step in range(total):
        if step % STEPS == 0:
            order = labels.kept[torch.multinomial(labels.often, STEPS * BATCH, generator=draw)]
        rate = min((step + 1) / (WARMUP * STEPS), 0.5 * (1 + math.cos(math.pi * step / total)))
        for group in optimizer.param_groups:
            group["lr"] = LR * rate
        which = order[step % STEPS * BATCH : (step % STEPS + 1) * BATCH]
        features = features_of(tower, projection, augment(pictures[which], labels.may_flip[which], draw))
        loss = loss_of(scale.clamp(max=math.log(MOST_SCALE)).exp() * features, which, texts, labels, draw)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(held.parameters(), 1.0)
        optimizer.step()
        keep = min(EMA, (1 + step) / (10 + step))
        for name, value in held.state_dict().items():
            average[name].lerp_(value.detach(), 1 - keep)
        if (step + 1) % (10 * STEPS) == 0:
            print(f"epoch {(step + 1) // STEPS}: loss {float(loss.detach()):.3f}, {time.perf_counter() - began:.0f} s", flush=True)
    held.load_state_dict(average)


def loss_of(scaled: Tensor, which: Tensor, texts: Texts, labels: Labels, draw: torch.Generator) -> Tensor:
    """Return the weighted cross entropies to name, subcategory and category; of a name, those of its whole group count as right."""

    def drawn(table: Tensor, counts: Tensor) -> Tensor:
        wording = (torch.rand(len(table), generator=draw) * counts).long()
        return table[torch.arange(len(table)), wording]

    names = drawn(texts.names, texts.name_counts)
    to_names = -(labels.alike[which] * (scaled @ names.T).log_softmax(1)).sum(1).mean()
    loss = WEIGHTS["name"] * to_names
    for part, table, right in (
        ("subcategory", texts.subcategories, labels.subcategory),
        ("category", texts.categories, labels.category),
    ):
        counts = torch.full((len(table),), len(KIND_WORDINGS))
        loss = loss + WEIGHTS[part] * F.cross_entropy(scaled @ drawn(table, counts).T, right[which], label_smoothing=SMOOTHING)
    return loss


def report_held(tower: Any, projection: nn.Linear, pictures: Tensor, texts: Texts, labels: Labels, classes: list[str]) -> None:
    """Print the accuracy over the emoji task's classes (mean of classes) on the held-out drawings, and on those that trained."""
    numbers = torch.tensor([labels.subcategories.index(name) for name in classes])
    inside = torch.isin(labels.subcategory, numbers)
    trained = torch.zeros(len(pictures), dtype=torch.bool)
    trained[labels.kept] = True
    anchors = F.normalize(texts.subcategories[numbers].mean(1), dim=-1)
    tower.eval()
    for title, chosen in (("held out", inside & ~trained), ("trained on", inside & trained)):
        which = chosen.nonzero().view(-1)
        with torch.no_grad():
            read = numbers[torch.cat([features_of(tower, projection, pictures[part]) @ anchors.T for part in which.split(256)]).argmax(1)]
        right = (read == labels.subcategory[which]).float()
        mean = torch.stack([right[labels.subcategory[which] == n].mean() for n in numbers if bool((labels.subcategory[which] == n).any())])
        print(f"{title}: {len(which)} drawings, {100 * float(mean.mean()):.1f} % of {len(classes)} subcategories named (mean of classes)")


if __name__ == "__main__":
    main()

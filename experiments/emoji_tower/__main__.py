"""Train the emoji tower: a small vision transformer on Noto drawings against frozen MiniLM texts. Minutes on two cores.

`python -m experiments.emoji_tower [--out FOLDER] [--epochs N] [--threads N]`. The same seed, threads and versions give the same weights.
Twemoji drawings are never trained on; nothing is chosen by them.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.emoji_tower.shared import DIM, SIZE, embed, hue, save, vision_transformer
from maao.data.images.emoji import EmojiSource, emoji_folder

OUT = Path(__file__).parents[2] / "src" / "maao" / "testbeds" / "emoji_vit"
STEM = (32, 64, 128)
WIDTH, LAYERS, HEADS = STEM[-1], 6, 4
MOST_SCALE = 50.0
BATCH, EPOCHS, LR, WARMUP, DECAY, EMA = 128, 60, 1.5e-3, 3, 0.05, 0.998
WORDINGS = ("{}", "an emoji of {}", "a picture of {}", "a drawing of {}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.emoji_tower", description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(asked.seed)
    started, spent = time.perf_counter(), time.process_time()
    source = EmojiSource(emoji_folder())
    with np.load(source.folder / "emoji.npz") as held:
        pictures = torch.from_numpy(held["noto"]).permute(0, 3, 1, 2).float() / 255
    bank, numbers = texts(source.entries)
    tower, config = vision_transformer(STEM, LAYERS, HEADS)
    projection = nn.Linear(WIDTH, DIM, bias=False)
    scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
    fit(tower, projection, scale, pictures, bank, numbers, asked.epochs, asked.seed)
    save(asked.out, tower, config, projection, min(float(scale.detach()), math.log(MOST_SCALE)), STEM)
    seconds, cpu = time.perf_counter() - started, time.process_time() - spent
    count = sum(value.numel() for value in tower.parameters()) + projection.weight.numel()
    print(f"{count} parameters; {seconds:.0f} s, {cpu:.0f} s of CPU; written to {asked.out}")


def texts(entries: list[dict[str, Any]]) -> tuple[Tensor, list[list[int]]]:
    """Return the features of all texts ``(num_texts, 384)``, and for each emoji the numbers of those that tell of it.

    Of an emoji tell its name, two keywords and its subcategory, each in every wording.
    """
    known: dict[str, int] = {}
    numbers: list[list[int]] = []
    for entry in entries:
        words = [entry["name"].lower(), *(keyword.replace("_", " ") for keyword in entry["keywords"][:2])]
        words.append(entry["subcategory"].replace("-", " "))
        wordings = [wording.format(word) for word in dict.fromkeys(words) for wording in WORDINGS]
        numbers.append([known.setdefault(text, len(known)) for text in wordings])
    return embed(list(known)), numbers


def fit(
    tower: Any, projection: nn.Linear, scale: nn.Parameter, pictures: Tensor, bank: Tensor, numbers: list[list[int]], epochs: int, seed: int
) -> None:
    """Train in place; at the end the weights are their moving average."""
    held = nn.ModuleList([tower, projection])
    own = [p for p in held.parameters() if p.dim() > 1]
    optimizer = torch.optim.AdamW(
        [{"params": own, "weight_decay": DECAY}, {"params": [p for p in held.parameters() if p.dim() <= 1] + [scale], "weight_decay": 0.0}],
        lr=LR,
        betas=(0.9, 0.98),
    )
    average = {name: value.detach().clone() for name, value in held.state_dict().items()}
    draw = torch.Generator().manual_seed(seed)
    per_epoch = len(pictures) // BATCH
    total = epochs * per_epoch
    began = time.perf_counter()
    for step in range(total):
        if step % per_epoch == 0:
            order = torch.randperm(len(pictures), generator=draw)
        rate = min((step + 1) / (WARMUP * per_epoch), 0.5 * (1 + math.cos(math.pi * step / total)))
        for group in optimizer.param_groups:
            group["lr"] = LR * rate
        which = order[step % per_epoch * BATCH : (step % per_epoch + 1) * BATCH]
        chosen = [numbers[i][int(torch.randint(len(numbers[i]), (1,), generator=draw))] for i in which.tolist()]
        features = F.normalize(projection(tower(pixel_values=normal(augment(pictures[which], draw))).last_hidden_state.mean(1)), dim=-1)
        scores = scale.clamp(max=math.log(MOST_SCALE)).exp() * features @ bank[chosen].T
        loss = contrast(scores, [set(numbers[i]) for i in which.tolist()], chosen)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(held.parameters(), 1.0)
        optimizer.step()
        keep = min(EMA, (1 + step) / (10 + step))
        for name, value in held.state_dict().items():
            average[name].lerp_(value.detach(), 1 - keep)
        if (step + 1) % (5 * per_epoch) == 0:
            print(f"epoch {(step + 1) // per_epoch}: loss {float(loss.detach()):.3f}, {time.perf_counter() - began:.0f} s", flush=True)
    held.load_state_dict(average)


def contrast(scores: Tensor, own: list[set[int]], chosen: list[int]) -> Tensor:
    """Return the contrastive loss both ways, where every text that tells of an image counts as right."""
    right = torch.tensor([[text in known for text in chosen] for known in own], dtype=scores.dtype)
    to_texts = -(right / right.sum(1, keepdim=True) * scores.log_softmax(1)).sum(1).mean()
    to_images = -(right / right.sum(0, keepdim=True) * scores.log_softmax(0)).sum(0).mean()
    return (to_texts + to_images) / 2


def normal(pixels: Tensor) -> Tensor:
    return pixels * 2 - 1


def augment(images: Tensor, draw: torch.Generator) -> Tensor:
    """Return drawings as another artist might have made them: moved, turned, recoloured, flattened, blurred, on another ground."""
    count = len(images)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=draw) * (high - low) + low

    def some(share: float) -> Tensor:
        return (torch.rand(count, generator=draw) < share).view(count, 1, 1, 1)

    paper = images.new_ones(count, 3, 1, 1)
    ground = torch.where(some(0.35), uniform(0, 1, 3, 1, 1), paper)
    bare = (images.min(1, keepdim=True).values > 0.97).float()
    images = images * (1 - bare) + ground * bare
    angle, size = uniform(-0.35, 0.35), uniform(0.8, 1.35)
    stretch, flip = uniform(0.85, 1.18), torch.where(some(0.5).view(-1), -1.0, 1.0)
    cos, sin = angle.cos() * size, angle.sin() * size
    theta = torch.stack(
        [torch.stack([cos * flip * stretch, -sin, uniform(-0.2, 0.2)], 1), torch.stack([sin * flip, cos / stretch, uniform(-0.2, 0.2)], 1)],
        1,
    )
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    outside = F.grid_sample(images - ground, grid, align_corners=False)  # zeros outside are the ground
    images = outside + ground
    levels = torch.randint(3, 7, (count, 1, 1, 1), generator=draw).float()
    images = torch.where(some(0.35), (images * levels).round() / levels, images)
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    images = torch.where(some(0.3), blurred, images)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * torch.where(some(0.12), torch.zeros(1), uniform(0.4, 1.7, 1, 1, 1))
    turn = uniform(-0.7, 0.7)
    images = torch.where(some(0.6), torch.einsum("bij,bjhw->bihw", hue(turn), images), images)
    images = torch.where(some(0.06), images[:, torch.randperm(3, generator=draw)], images)
    images = (images - 0.5) * uniform(0.65, 1.4, 1, 1, 1) + 0.5 + uniform(-0.2, 0.2, 1, 1, 1)
    hole = (torch.arange(SIZE).view(1, 1, SIZE) - uniform(0, SIZE, 1, 1)).abs() < uniform(4, 12, 1, 1)
    lines = (torch.arange(SIZE).view(1, SIZE, 1) - uniform(0, SIZE, 1, 1)).abs() < uniform(4, 12, 1, 1)
    images = torch.where(some(0.3) & (hole & lines)[:, None], ground, images)
    return images.clamp(0, 1)


if __name__ == "__main__":
    main()

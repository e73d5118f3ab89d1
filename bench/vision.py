"""An epoch of CoOp with image features that are kept, against the same epoch as CoOp runs it.

CoOp encodes the images at every step and pads texts to 77. Both sides are CLIP ViT-B/16 of transformers with the same random weights: 24
classes with names of 1 to 3 tokens, 16 pictures each, batches of 32, 4 context tokens, SGD with momentum 0.9. They make the same steps from
the same context on the same batches.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from bench.frame import Figure, Run, Seconds, Watch, peak_bytes, take_turns, timed
from maao.codecs.method import MethodCodec, Start
from maao.codecs.nearest_token import NearestTokenCodec
from maao.optimizers.torch import TorchStage
from maao.problems.classification import ClassificationProblem
from maao.problems.methods import Bound
from maao.problems.methods.coop import CoOp
from maao.problems.pictures import PictureReader
from maao.problems.scorers.matcher import Known, Matcher
from maao.problems.towers.class_prompts import Prompt
from maao.problems.towers.dual_loading import from_transformers
from maao.types import Example, Splits

CLASSES, SHOTS, BATCH, CONTEXT, LENGTH = 24, 16, 32, 4, 77
STEPS = CLASSES * SHOTS // BATCH  # of an epoch
LR = 0.002
MEMORY_STEPS = 3
SHAPES = [(BATCH * 197, 768, 3072), (BATCH * 197, 3072, 768)]  # the feed-forward network of the image tower

EPOCH = Figure("coop_epoch_cached_vs_reencoded", "an epoch of CoOp: images encoded at every step / features kept", 20, 35, True)
EPOCH_MEMORY = Figure(
    "coop_peak_memory_cached_vs_reencoded", "highest resident memory of CoOp: features kept / images encoded at every step", 1.0, 1.0, False
)


class Noise:
    """Pictures of random pixels, one for each key."""

    def open(self, key: str) -> Image.Image:
        pixels = np.random.default_rng(int(key)).integers(0, 256, (224, 224, 3), dtype=np.uint8)
        return Image.fromarray(pixels)


class Words:
    """A tokenizer that needs no vocabulary: each word is a made token. What tries a tower's reading asks it for a few short texts."""

    pad_token_id = 0

    def __init__(self, config: Any) -> None:
        self.begin, self.end = config.bos_token_id, config.eos_token_id

    def __call__(self, text: str | list[str], *, return_tensors: str | None = None, **_: Any) -> Any:
        from transformers import BatchEncoding

        texts = [text] if isinstance(text, str) else text
        rows = [[self.begin, *(1000 + sum(map(ord, word)) for word in words.split()), self.end] for words in texts]
        return BatchEncoding({"input_ids": rows[0] if isinstance(text, str) else rows}, tensor_type=return_tensors)


def clip() -> Any:
    """Return CLIP ViT-B/16 with random weights, always the same."""
    from transformers import CLIPConfig, CLIPModel
    from transformers.models.clip.configuration_clip import CLIPTextConfig, CLIPVisionConfig

    torch.manual_seed(0)
    vision = CLIPVisionConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, patch_size=16)
    config = CLIPConfig(text_config=CLIPTextConfig().to_dict(), vision_config=vision.to_dict(), projection_dim=512)
    return CLIPModel(config).eval().requires_grad_(False)


def names() -> list[list[int]]:
    """Return made token ids of the class names: 1 to 3 tokens, a full stop behind them."""
    draw = np.random.default_rng(1)
    return [[*draw.integers(1000, 40000, 1 + c % 3).tolist(), 269] for c in range(CLASSES)]


def ours(model: Any) -> tuple[ClassificationProblem[Known], float]:
    """Return our problem and the seconds that filling the cache took."""
    begin, end = model.config.text_config.bos_token_id, model.config.text_config.eos_token_id
    encoder = from_transformers(model, Words(model.config.text_config), "CLIP ViT-B/16, random weights")
    slots = tuple(range(1, 1 + CONTEXT))
    prompts = tuple(Prompt((begin, *[0] * CONTEXT, *name, end), slots) for name in names())
    train = tuple(Example({"image": str(c * SHOTS + i)}, f"{c:02}") for c in range(CLASSES) for i in range(SHOTS))
    splits = Splits(train, (), (), tuple(f"{c:02}" for c in range(CLASSES)))
    bound = Bound(encoder, prompts, torch.zeros(CLASSES, encoder.embed_dim))
    started = time.perf_counter()
    method, text = CoOp(bound), encoder.text
    nearest = NearestTokenCodec(text.tokenizer, text.table, num_virtual_tokens=CONTEXT)
    codec = MethodCodec(method, nearest, Start("normal", CONTEXT, text.width))
    reader = PictureReader(encoder, Noise(), batch=BATCH)
    problem = ClassificationProblem(method, Matcher(method), codec, reader, splits, batch_size=BATCH, score_batch=BATCH, with_clues=False)
    return problem, time.perf_counter() - started


class Reencoding:
    """CoOp's own step: the image tower runs on every batch, the text tower on all classes at 77 tokens."""

    def __init__(self, model: Any, context: Tensor) -> None:
        self.model = model
        text = model.text_model
        begin, end = model.config.text_config.bos_token_id, model.config.text_config.eos_token_id
        rows = [[begin, *[0] * CONTEXT, *name, end] for name in names()]
        self.ends = torch.tensor([len(row) - 1 for row in rows])
        ids = torch.tensor([row + [0] * (LENGTH - len(row)) for row in rows])
        embedded = text.embeddings.token_embedding(ids)
        self.prefix, self.suffix = embedded[:, :1], embedded[:, 1 + CONTEXT :]
        self.positions = text.embeddings.position_embedding(torch.arange(LENGTH))
        self.mask = torch.full((LENGTH, LENGTH), torch.finfo(torch.float32).min).triu(1)[None, None]
        self.context = context.clone().requires_grad_()
        self.optimizer = torch.optim.SGD([self.context], lr=LR, momentum=0.9)

    def step(self, pixels: Tensor, targets: Tensor) -> float:
        model, text = self.model, self.model.text_model
        images = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
        hidden = torch.cat([self.prefix, self.context.expand(CLASSES, -1, -1), self.suffix], 1) + self.positions
        hidden = text.final_layer_norm(text.encoder(inputs_embeds=hidden, attention_mask=self.mask).last_hidden_state)
        texts = model.text_projection(hidden[torch.arange(CLASSES), self.ends])
        images, texts = F.normalize(images, dim=-1), F.normalize(texts, dim=-1)
        loss = F.cross_entropy(model.logit_scale.exp() * images @ texts.T, targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


def coop_epoch(run: Run) -> None:
    """Measure the ratio of the times of a step, and so of an epoch; the losses of both sides must agree."""
    model = clip()
    problem, filling = ours(model)
    params = problem.initial(0)
    other = Reencoding(model, params["prompt"])
    stage = TorchStage(optimizer="SGD", lr=LR, options={"momentum": 0.9}, max_grad_norm=None)
    state = stage.init(problem, params, seed=0)
    losses: dict[str, list[float]] = {"cached": [], "reencoded": []}

    def cached() -> None:
        nonlocal state
        state, observation = stage.step(problem, state)
        losses["cached"].append(observation.loss)

    def reencoded() -> Seconds:
        # Reading and transforming the pictures counts for neither side.
        batch = problem.batch(len(losses["reencoded"]), 0)
        pixels = torch.stack([problem.reader.encoder.pixels.pixels(problem.reader.source.open(str(i))) for i in batch.which])
        return timed(lambda: losses["reencoded"].append(other.step(pixels, batch.targets)))()

    with Watch() as watch:
        turns = take_turns({"cached": timed(cached), "reencoded": reencoded}, run.turns(2 * STEPS, 2), shapes=SHAPES)
    apart = max(abs(a - b) / abs(b) for a, b in zip(losses["cached"], losses["reencoded"], strict=True))
    if apart > 1e-4:
        raise SystemExit(f"The losses of the two sides differ by {apart:.2g}: they do not make the same steps.")
    samples = {**turns.samples(), "filling_seconds": filling, "largest_relative_loss_difference": apart, "steps_an_epoch": STEPS}
    EPOCH.report(run, watch, turns.ratios("reencoded", "cached"), samples)


def coop_memory(run: Run) -> None:
    """Measure the highest resident set of each side, in processes of their own: loading, (filling the cache,) and a few steps."""
    peaks: dict[str, list[int]] = {"cached": [], "reencoded": []}
    with Watch() as watch:
        for _ in range(run.turns(3, 1)):
            for side, own in peaks.items():
                own.append(_peak_of(side))
    values = [ours / theirs for ours, theirs in zip(peaks["cached"], peaks["reencoded"], strict=True)]
    EPOCH_MEMORY.report(run, watch, values, {"bytes": peaks})


def _peak_of(side: str) -> int:
    done = subprocess.run([sys.executable, "-m", "bench.vision", side], check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout.splitlines()[-1])["bytes"])


def _few_steps(side: str) -> None:
    model = clip()
    if side == "cached":
        problem, _ = ours(model)
        stage = TorchStage(optimizer="SGD", lr=LR, options={"momentum": 0.9}, max_grad_norm=None)
        state = stage.init(problem, problem.initial(0), seed=0)
        for _ in range(MEMORY_STEPS):
            state, _ = stage.step(problem, state)
    else:
        encoder = from_transformers(model, Words(model.config.text_config), "")
        other = Reencoding(model, torch.randn(CONTEXT, 512) * 0.02)
        for step in range(MEMORY_STEPS):
            pixels = torch.stack([encoder.pixels.pixels(Noise().open(str(step * BATCH + i))) for i in range(BATCH)])
            other.step(pixels, torch.arange(BATCH) % CLASSES)
    print(json.dumps({"bytes": peak_bytes()}))


if __name__ == "__main__":
    _few_steps(sys.argv[1])

"""Solve the cells of the search for all rules at once: `python -m experiments.judge.search OUT [--sets A,B] [--labels 1,2]`.

A cell is a set, a seed and a number of labels a class. The objective and the walk are the library's (class features, 100 steps of AdamW on
all rows, gradients clipped to a norm of 1, each member by itself); members of all folds and all weightings of one set of lines walk
together. A cell's file holds the losses of each label out of fold, those on the judged rows, and accuracies: what any judge would have
chosen follows from them (`read_out.py`).
"""

from __future__ import annotations

import argparse
import pickle
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.judge.data import make
from maao.build import build
from maao.class_lines import ClassLines, Line, texts_of, without_repeats
from maao.compare.table import read_table
from maao.config import make_config
from maao.llm.record import read_record
from maao.mentors.class_lines.base import usable
from maao.mentors.class_lines.mentor import swaps
from maao.mentors.class_lines.names import Names
from maao.mentors.class_lines.reading import Asked, read_reply
from maao.mentors.class_lines.writers import wordings
from maao.problems.classification import ClassificationProblem
from maao.problems.line_weights import responsibilities
from maao.types import Example

HERE = Path(__file__).parent
MENTORS = HERE.parent / "mentors"
RECORDS = {"strong": "strong-assistant-model.jsonl", "1.5 B": "qwen2.5-coder-1.5b.jsonl", "135 M": "smollm2-135m.jsonl"}
LABELS = (1, 2, 4, 8)
STEPS, RACE, LR, ANCHOR = 100, 25, 0.05, 0.003
SMALL = ("CLINC150 work", "CLINC150 kitchen")  # sets whose lines small models have said
FEW_SEEDS = ("banking77",)


def main() -> None:
    """Solve the cells that the command line names and that have no file yet."""
    parser = argparse.ArgumentParser(prog="python -m experiments.judge.search", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sets", default="")
    parser.add_argument("--labels", default=",".join(map(str, LABELS)))
    parser.add_argument("--seeds", default="0,1,2,3,4")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.out.mkdir(parents=True, exist_ok=True)
    make(HERE / "data")
    table = read_table(HERE / "labels-2.toml")
    for name in filter(None, asked.sets.split(",") if asked.sets else table.tasks):
        here = Set.read(name, table.tasks[name])
        for seed in map(int, asked.seeds.split(",")):
            if name in FEW_SEEDS and seed > 1:
                continue
            for shots in (0, *map(int, asked.labels.split(","))):
                file = asked.out / f"{name}_{seed}_{shots}.pickle"
                if file.exists():
                    continue
                began = time.time()
                found = here.cell(seed, shots)
                file.write_bytes(pickle.dumps(found))
                print(file.name, round(time.time() - began, 1), brief(found), flush=True)


def brief(found: Mapping[str, Any]) -> str:
    return " ".join(
        f"{source}/{way} {own['accuracy']:.3f}" for (source, way), own in found["ways"].items() if way in ("none", "W0", "alone")
    )


@dataclass
class Rows:
    """What members walk on; weights are ``(members, rows)``, starts ``(members, classes, width)``, scales and anchors ``(members,)``."""

    features: Tensor
    targets: Tensor
    weights: Tensor
    starts: Tensor
    scales: Tensor
    anchors: Tensor


def walk(rows: Rows, stops: Sequence[int]) -> dict[int, tuple[Tensor, Tensor]]:
    """Return what members multiply features by ``(members, classes, width)``, and their biases, after each of some steps."""
    residual, bias = torch.zeros_like(rows.starts), torch.zeros(rows.starts.shape[:2])
    moments = [(torch.zeros_like(own), torch.zeros_like(own)) for own in (residual, bias)]
    weights = rows.weights / rows.weights.sum(1, keepdim=True)
    total = rows.weights.sum(1)[:, None, None]
    hot = F.one_hot(rows.targets, rows.starts.shape[1]).float()
    base = rows.scales[:, None, None] * rows.starts
    found = {0: (base.clone(), bias.clone())} if 0 in stops else {}
    for step in range(1, max(stops) + 1):
        scores = rows.features @ (base + residual).transpose(1, 2) + bias[:, None]
        pulls = (scores.softmax(-1) - hot) * weights[..., None]
        slopes = [pulls.transpose(1, 2) @ rows.features + rows.anchors[:, None, None] * residual / total, pulls.sum(1)]
        norm = sum(own.flatten(1).pow(2).sum(1) for own in slopes)
        clip = (1 / (cast(Tensor, norm).sqrt() + 1e-6)).clamp(max=1)
        for value, slope, (first, second) in zip((residual, bias), slopes, moments, strict=True):
            own = slope * clip.view(-1, *[1] * (slope.dim() - 1))
            first.mul_(0.9).add_(own, alpha=0.1)
            second.mul_(0.999).addcmul_(own, own, value=0.001)
            value -= LR / (1 - 0.9**step) * first / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        if step in stops:
            found[step] = (base + residual, bias.clone())
    return found


@dataclass
class Set:
    """A set with the features of everything that is read."""

    name: str
    task: Mapping[str, Any]
    problem: ClassificationProblem[Any]
    labels: tuple[str, ...]
    features: dict[str, Tensor]

    @classmethod
    def read(cls, name: str, task: Mapping[str, Any]) -> Set:
        problem = build(config_of(task, 0, 0)).problem
        plain = getattr(problem, "full", problem)
        plain = getattr(plain, "plain", plain)
        assert isinstance(plain, ClassificationProblem)
        return cls(name, task, plain, plain.splits.labels, {})

    def of(self, texts: Sequence[str]) -> Tensor:
        """Return features of texts, read once."""
        missing = [text for text in dict.fromkeys(texts) if text not in self.features]
        if missing:
            read = self.problem.reader.given([Example({self.problem.fields[0]: text}, "") for text in missing]).features
            self.features |= dict(zip(missing, read, strict=True))
        return torch.stack([self.features[text] for text in texts]) if texts else torch.zeros(0, self.problem.scorer.encoder.embed_dim)  # type: ignore[attr-defined]

    def said(self, seed: int) -> dict[str, ClassLines]:
        """Return the lines of each source."""
        found: dict[str, ClassLines] = {}
        for source, file in RECORDS.items():
            if source != "strong" and self.name not in SMALL:
                continue
            counts: Any = {"examples": 8, "descriptions": 3} if source == "strong" else {"examples": 4, "descriptions": 1}
            lines: list[Line] = []
            for asked, text in replies(
                MENTORS / file,
                self.task["mentor.description"],
                self.labels,
                seed % int(self.task["mentor.samples"]) if source == "strong" else 0,
            ):
                lines += read_reply(text, Asked(asked or self.labels, counts), Names(self.labels))[0].lines
            if lines:
                found[source] = usable(ClassLines(tuple(lines)), self.labels)[0]
        if "strong" in found:
            swapped = swaps(self.labels, seed)
            some = set(random.Random(seed).sample(self.labels, max(2, len(self.labels) // 2)))
            halved = swaps(tuple(label for label in self.labels if label in some), seed)
            for source, other in (("shuffled", swapped), ("half", halved)):
                moved = (Line(other.get(line.label, line.label), line.kind, line.text) for line in found["strong"])
                found[source] = ClassLines(tuple(moved)).in_order(self.labels)
        names = [label.replace("_", " ") for label in self.labels]
        worded = (
            Line(label, "examples", text)
            for label, name in zip(self.labels, names, strict=True)
            for text, _ in zip(wordings(name), range(11), strict=False)
        )
        found["wordings"] = usable(ClassLines(tuple(worded)), self.labels)[0]
        return found

    def cell(self, seed: int, shots: int) -> dict[str, Any]:
        data = config_of(self.task, seed, shots).builder.load_data()
        assert data is not None
        splits: Any = data.splits
        number = {label: i for i, label in enumerate(self.labels)}
        assert splits.labels == self.labels
        field = self.problem.fields[0]
        scorer: Any = self.problem.scorer
        texts = scorer.bound.texts.flatten(0, 1)
        text_classes = torch.arange(len(texts)) % len(self.labels)
        train, test = ([example.fields[field] for example in part] for part in (splits.train, splits.test))
        targets = torch.tensor([number[example.label] for example in splits.train], dtype=torch.long)
        own, judged = self.of(train), self.of(test)
        judged_targets = torch.tensor([number[example.label] for example in splits.test])
        about = splits.lines
        about_features, about_classes = (
            self.of([line.text for line in about]),
            torch.tensor([number[line.label] for line in about], dtype=torch.long),
        )
        about_weights = torch.tensor([line.weight for line in about])
        folds = torch.tensor(splits.folds, dtype=torch.long)
        count = splits.num_folds if shots else 0
        masks = torch.stack([torch.ones(len(train)), *[(folds != fold).float() for fold in range(count)]])  # full member first
        out: dict[tuple[str, str], dict[str, Any]] = {}

        def start(features: Tensor, classes: Tensor, weights: Tensor) -> Tensor:
            """Return where members begin ``(members, classes, width)``."""
            hot = F.one_hot(classes, len(self.labels)).float()
            each = weights[..., None] * hot
            counts, sums = each.sum(1), each.transpose(1, 2) @ features
            mean = (2 * scorer.bound.anchors + sums) / (2 + counts)[..., None]
            return F.normalize(torch.where(counts[..., None] > 0, mean, scorer.bound.anchors.expand_as(mean)), dim=-1)

        def solve(lines: ClassLines, each: Tensor, anchors: Sequence[float], masks: Tensor, names: Sequence[str], source: str) -> None:
            """Walk ways ``(ways, members, lines)`` of weighing lines, and keep what they come to."""
            ways, members = each.shape[:2]
            numbers = torch.tensor([number[line.label] for line in lines], dtype=torch.long)
            features = torch.cat([own, about_features, self.of([line.text for line in lines])])
            classes = torch.cat([targets, about_classes, numbers])
            weights = torch.cat([masks.repeat(ways, 1), about_weights.expand(ways * members, -1), each.flatten(0, 1)], 1)
            starts = start(features, classes, weights)
            scales = torch.where(weights.sum(1) > 0, scorer.encoder.scale / 2, scorer.encoder.scale).float()
            rows = Rows(
                torch.cat([features, texts]), torch.cat([classes, text_classes]),
                torch.cat([weights, torch.ones(len(weights), len(texts))], 1),
                starts, scales, torch.tensor(anchors).repeat_interleave(members),
            )  # fmt: skip
            stays = not bool(weights.sum() > 0)
            ends = (
                {stop: (rows.scales[:, None, None] * starts, torch.zeros(starts.shape[:2])) for stop in (RACE, STEPS)}
                if stays
                else walk(rows, (RACE, STEPS))
            )
            for way, name in enumerate(names):
                place = way * members
                found: dict[str, Any] = {"lines": len(lines), "mean_weight": float(each[way, 0].mean()) if len(lines) else 0.0}
                for stop, (weight, bias) in ends.items():
                    scores = judged @ weight[place].T + bias[place]
                    loss = F.cross_entropy(scores, judged_targets)
                    found[f"loss{stop}"], found[f"accuracy{stop}"] = (
                        float(loss),
                        float((scores.argmax(-1) == judged_targets).float().mean()),
                    )
                    if stop == STEPS:
                        found["loss"], found["accuracy"], found["scores"] = float(loss), found[f"accuracy{stop}"], scores.half()
                    if shots:
                        which = folds + 1 if members > 1 else torch.zeros_like(folds)
                        read = torch.einsum("nd,ncd->nc", own, weight[place + which]) + bias[place + which]
                        found[f"losses{stop}"] = F.cross_entropy(read, targets, reduction="none").numpy()
                        found[f"right{stop}"] = (read.argmax(-1) == targets).numpy()
                out[source, name] = found

        nothing = ClassLines()
        none = torch.zeros(1, 1, len(train))
        solve(nothing, torch.zeros(1, 1, 0), [ANCHOR], none[0], ["names"], "")  # no label at all
        if shots:
            solve(nothing, torch.zeros(1, count + 1, 0), [ANCHOR], masks, ["none"], "")
            right = out["", "none"][f"right{STEPS}"].mean()
            chance = 1 / len(self.labels)
            skill = max(0.0, (float(right) - chance) / (1 - chance))
        known = texts_of(splits)
        for source, said in self.said(seed).items():
            lines = without_repeats(said, known)[0]
            features, numbers = self.of([line.text for line in lines]), torch.tensor([number[line.label] for line in lines])

            def belief(own_masks: Tensor) -> Tensor:
                """Return r of each line for each member."""
                weights = torch.cat([own_masks, about_weights.expand(len(own_masks), -1)], 1)
                starts = start(torch.cat([own, about_features]), torch.cat([targets, about_classes]), weights)  # noqa: B023
                scores = scorer.encoder.scale * features @ starts.transpose(1, 2)  # noqa: B023
                p = scores.softmax(-1).gather(-1, numbers.expand(len(own_masks), -1)[..., None])[..., 0]  # noqa: B023
                return responsibilities(p, len(self.labels))

            named = belief(none[0])
            solve(lines, 0.5 * named[None], [ANCHOR], none[0], ["alone"], source)
            solve(lines, torch.full_like(named[None], 0.5), [ANCHOR], none[0], ["alone, all"], source)
            if not shots:
                continue
            r = belief(masks)
            tempered = 1 - skill * (1 - r)
            by_names, ones = named.expand_as(r), torch.ones_like(r)
            ways = {"W0": r, "W1": ones, "W2": by_names, "W3": tempered}
            some = {name: 0.5 * own for name, own in ways.items()} | {"W0 at 1": r, "W2 at 1": by_names}
            if source == "strong" and self.name not in FEW_SEEDS:
                some |= {
                    "W1 at 1": ones,
                    "W3 at 1": tempered,
                    "W0 at 2": 2 * r,
                    "W2 at 2": 2 * by_names,
                    "W0, anchor 10": 0.5 * r,
                    "W0, anchor 30": 0.5 * r,
                }
            if self.name in FEW_SEEDS:
                some = {name: some[name] for name in ("W0", "W1", "W2", "W3")}
            anchors = [ANCHOR * float(name.partition("anchor ")[2] or 1) for name in some]
            for name, anchor in zip(some, anchors, strict=True) if self.name in FEW_SEEDS else ():
                solve(lines, some[name][None], [anchor], masks, [name], source)
            if self.name not in FEW_SEEDS:
                solve(lines, torch.stack(list(some.values())), anchors, masks, list(some), source)
            mixed = out[source, "W0"]["scores"].float() + out[source, "alone"]["scores"].float()
            out[source, "mean"] = {
                "loss": float(F.cross_entropy(mixed / 2, judged_targets)),
                "accuracy": float((mixed.argmax(-1) == judged_targets).float().mean()),
            }
        for kept in out.values():
            kept.pop("scores", None)
        return {"set": self.name, "seed": seed, "shots": shots, "classes": len(self.labels), "folds": count, "ways": out}


def config_of(task: Mapping[str, Any], seed: int, shots: int) -> Any:
    """Return the config of a cell without a mentor."""
    values: dict[str, Any] = {
        "seed": seed, "threads": 1, "model": {"kind": "matcher", "name": "packaged:all-minilm-l6-v2"},
        "data": {"select": "cross_validation", "shots": shots, "test_size": 500, "drop_repeats": True},
    }  # fmt: skip
    for key, value in task.items():
        if key.startswith("data."):
            values["data"][key.removeprefix("data.")] = str(HERE / value)
    return make_config(values)


def replies(record: Path, description: str, labels: Sequence[str], sample: int) -> list[tuple[tuple[str, ...], str]]:
    """Return a mentor's replies about some classes: which of them it was asked for (): all), and its text."""
    found = []
    for entry in read_record(record).values():
        text = entry.request.messages[0].content
        shown = {line[2:].split(": ")[0] for line in text.split(" classes:\n")[1].split("\n\n")[0].splitlines()}
        if f"The task: {description}\n" in text and shown == set(labels) and entry.request.sample == sample:
            if "Its lines so far" in text:
                continue
            alone = text.split("Write for these alone")[1].split("\n\n")[0] if "Write for these alone" in text else ""
            found.append((tuple(line[2:] for line in alone.splitlines() if line.startswith("- ")), entry.reply.text))
    return found


if __name__ == "__main__":
    main()

"""Six checks of one model, against plain transformers: its own forward on the token ids of one text, with nothing else in the batch."""

from __future__ import annotations

import copy
import random
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maao.build import build_plan, build_stage
from maao.build_text import build_language
from maao.config import make_config
from maao.errors import ConfigError, ModelError
from maao.export.peft_write import export_peft, why_not_peft
from maao.problems.text_problem import TextProblem
from maao.problems.towers.text.forward import embedding_table
from maao.problems.towers.text.loading import FrozenModel, load_frozen
from maao.problems.towers.text.template import Tokenized
from maao.types import Example, Splits
from tests.tiny import LABELS, WORDS
from tests.zoo.cases import Case, save_config, save_tiny
from tests.zoo.table import BY_TYPE
from tests.zoo.table import TOLERANCE as TOLERANCES

NUM_VIRTUAL_TOKENS = 24  # more than a window, which is 16
LENGTHS = (2, 30, 3, 45, 7)  # words of a text: some within a window, some beyond it
INSTRUCTION = "the plan of the government is to tax all sales of software and music to fund news of sport in the world"
TEMPLATES = {
    "front": "{slots} {text} Topic:",
    "inside": "{text} {slots} Topic:",
    "between": "text {text} {slots} answer",
    "behind an instruction": INSTRUCTION + " {slots} {text} Topic:",
}
QUICK = {name: TEMPLATES[name] for name in ("inside", "behind an instruction")}
TOLERANCE = 1e-5  # of scores, relative to the largest logit
GRADIENT_TOLERANCE = 1e-4  # relative to the largest gradient
DEPENDS = 1e-4  # how far scores of other texts, or of other prompts, must lie apart, relative to the largest logit


@dataclass
class Report:
    """What was found of a case. `outcome` is "right", "refused" (in words), "wrong" or "crashed"."""

    case: str
    outcome: str = "right"
    refusal: str = ""
    worst: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    crashed: dict[str, str] = field(default_factory=dict)
    limits: dict[str, str] = field(default_factory=dict)  # of what does not work, why
    works: dict[str, bool] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def compare(self, name: str, found: Tensor, wanted: Tensor, scale: float, allowed: float) -> None:
        """Note how far two tensors lie apart, and that this is wrong where it is more than allowed (or is not a number)."""
        far = float((found.detach().float() - wanted.detach().float()).abs().max()) / scale
        self.worst[name] = max(self.worst.get(name, 0.0), far) if far == far else float("inf")
        if not far <= allowed:
            self.wrong.append(f"{name}: {far:.1e}")

    def forget(self, folder: str, name: str) -> None:
        """Call a model by its type where texts name its folder."""
        self.refusal = self.refusal.replace(folder, name)
        self.limits = {key: text.replace(folder, name) for key, text in self.limits.items()}
        self.notes = list(dict.fromkeys(note.replace(folder, name) for note in self.notes))

    @contextmanager
    def trying(self, name: str) -> Iterator[None]:
        """Go on behind a check that crashes; what the product refuses in words is a limit, and nothing wrong."""
        try:
            yield
        except (ModelError, ConfigError) as error:
            self.limits[name] = str(error)
        except Exception:
            self.crashed[name] = traceback.format_exc(limit=-8)


def examine(case: Case, *, quick: bool = False) -> Report:
    """Run all checks of a case; `quick` tries two templates in place of four."""
    report = Report(str(case))
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(place) / case.type
        original = save_config(case, folder) if str(case) in BY_TYPE else save_tiny(case, folder)
        try:
            frozen = load_frozen(str(folder), kind=case.kind)  # type: ignore[arg-type]
            _check_all(report, frozen, original, folder, QUICK if quick else TEMPLATES, TOLERANCES.get(str(case), TOLERANCE))
        except (ModelError, ConfigError) as error:
            report.refusal = str(error)
        except Exception:
            report.crashed["load"] = traceback.format_exc(limit=-8)
    report.forget(str(folder), case.type)
    report.outcome = "crashed" if report.crashed else "wrong" if report.wrong else "refused" if report.refusal else "right"
    return report


def _check_all(report: Report, frozen: FrozenModel, original: Any, folder: Path, templates: Mapping[str, str], tolerance: float) -> None:
    base = problem_of(frozen, TEMPLATES["inside"])
    _check_reload(report, base, original, folder)
    _check_dependence(report, base)
    for name, template in templates.items():
        for side in ("right", "left") if name in ("inside", "behind an instruction") else ("right",):
            words = {"music": "music film"} if name == "between" else {}
            with report.trying(f"{name}, {side}"):
                problem = problem_of(frozen, template, side=side, words=words, part_tokens=512 if side == "right" else 128)
                _check_template(report, problem, f"{name}, {side}", tolerance)
                _note_shortcuts(report, problem, name)
    with report.trying("steps"):
        _check_steps(report, base)
    with report.trying("deep prompts"):
        _check_deep(report, frozen, tolerance)
    with report.trying("PEFT"):
        _check_peft(report, problem_of(frozen, TEMPLATES["front"]), Path(folder).parent / "peft")


# -- the problem, as a run builds it


def problem_of(
    frozen: FrozenModel,
    template: str,
    *,
    side: str = "right",
    words: Mapping[str, str] | None = None,
    method: str = "prompt_tuning",
    part_tokens: int = 512,
) -> TextProblem:
    """Return the problem of a run's default settings."""
    model: dict[str, Any] = {"num_virtual_tokens": NUM_VIRTUAL_TOKENS, "padding_side": side, "method": method, "part_tokens": part_tokens}
    if frozen.kind != "encoder":
        model["label_words"] = {label: label for label in LABELS} | dict(words or {})
    model["template"] = template + " {mask}" if frozen.kind == "masked" else template
    return build_language(make_config({"model": model, "stage": {"batch_size": len(LENGTHS)}}), splits(), frozen)[0].plain


def splits() -> Splits:
    """Return texts of unequal lengths, the same in `train` and `select`, so that each is read in both ways."""
    examples = tuple(Example({"text": text}, LABELS[i % 3]) for i, text in enumerate(texts()))
    return Splits(examples, examples, examples[:2], LABELS, digest="zoo")


def texts() -> list[str]:
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=count)) for count in LENGTHS]


def start(problem: TextProblem) -> tuple[dict[str, Tensor], list[int]]:
    """Return params whose soft prompt is some tokens' embeddings, and these tokens."""
    draw = random.Random(1)
    tokenizer = problem.frozen.tokenizer
    ids = tokenizer(" " + " ".join(draw.choices(WORDS, k=2 * NUM_VIRTUAL_TOKENS)), add_special_tokens=False).input_ids[:NUM_VIRTUAL_TOKENS]
    params = {"prompt": embedding_table(problem.frozen)[ids].clone(), **problem.scorer.extra(0)}
    if "head.weight" in params:
        params["head.weight"] = params["head.weight"] * 5  # so that classes differ
    return params, ids


# -- plain transformers


@contextmanager
def _rows_replaced(model: Any, where: slice, prompt: Tensor) -> Iterator[None]:
    """Let the model's own embedding of token ids give `prompt` at some positions, so that a gradient reaches it."""

    def replace(_: Any, __: Any, output: Tensor) -> Tensor:
        if output.shape[1] < where.stop:  # padding of the model's own, which some families embed by itself
            return output
        return torch.cat([output[:, : where.start], prompt[None].to(output), output[:, where.stop :]], dim=1)

    reads = model.get_encoder() if model.config.is_encoder_decoder else model
    if not hasattr(reads, "get_input_embeddings"):  # FSMT's encoder names no embedding: that of the whole model is its own
        reads = model
    handle = reads.get_input_embeddings().register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def plain_scores(problem: TextProblem, params: Mapping[str, Tensor], ids: Sequence[int], text: str) -> tuple[Tensor, float]:
    """Return a text's class scores as plain transformers gives them for the text alone, and the largest logit."""
    frozen, row = problem.frozen, problem.tokenizer({"text": text})
    if frozen.kind == "encoder":
        hidden = _forward(frozen, row, ids, params["prompt"]).last_hidden_state[0]
        scores = F.linear(hidden.mean(0), params["head.weight"], params["head.bias"])
        return scores, float(scores.detach().abs().max())
    words = problem.scorer.words  # type: ignore[attr-defined]
    before = [(0,) * (len(word) - 1) if frozen.kind == "masked" else word[:-1] for word in words]
    first = dict(zip(before[::-1], words[::-1], strict=True))  # of words before whose last token the same is read, one runs
    found = {own: _answer_logits(problem, row, ids, params["prompt"], word) for own, word in first.items()}
    logits = [found[own] for own in before]
    scale = max(float(own.detach().abs().max()) for own in logits)
    if all(len(word) == 1 for word in words):
        return logits[0][0, [word[0] for word in words]], scale
    means = [own.log_softmax(-1)[range(len(word)), list(word)].mean() for own, word in zip(logits, words, strict=True)]
    return torch.stack(means), scale


def _answer_logits(problem: TextProblem, row: Tokenized, ids: Sequence[int], prompt: Tensor, word: Sequence[int]) -> Tensor:
    """Return the logits ``(tokens of the word, vocab_size)`` where each of its tokens is read."""
    frozen = problem.frozen
    if frozen.kind == "masked":
        row = row.with_masks(len(word), frozen.tokenizer.mask_token_id)
        first = (row.mask_at or 0) + (len(ids) if (row.mask_at or 0) >= len(row.before) else 0)
        return _forward(frozen, row, ids, prompt).logits[0, first : first + len(word)]
    if frozen.kind == "encoder_decoder":
        spoken = torch.tensor([[frozen.model.config.decoder_start_token_id, *word[:-1]]])
        return _forward(frozen, row, ids, prompt, decoder_input_ids=spoken).logits[0]
    return _forward(frozen, row, ids, prompt, answer=word[:-1]).logits[0, -len(word) :]


def _forward(frozen: FrozenModel, row: Tokenized, ids: Sequence[int], prompt: Tensor, answer: Sequence[int] = (), **options: Any) -> Any:
    text = torch.tensor([[*row.before, *ids, *row.after, *answer]])
    if not prompt.requires_grad:
        return frozen.model(input_ids=text, **options)
    with _rows_replaced(frozen.model, slice(len(row.before), len(row.before) + len(ids)), prompt):
        return frozen.model(input_ids=text, **options)


# -- checks


def _check_reload(report: Report, problem: TextProblem, original: Any, folder: Path) -> None:
    """A model that was saved and loaded gives the numbers that it gave, in plain transformers and in ours."""
    frozen = problem.frozen
    params, ids = start(problem)
    again = problem_of(load_frozen(str(folder), kind=frozen.kind), TEMPLATES["inside"])
    with torch.no_grad():
        wanted, scale = plain_scores(problem, params, ids, texts()[1])
        own = FrozenModel(original, frozen.tokenizer, frozen.kind, frozen.name)
        unsaved = plain_scores(_with(problem, own), params, ids, texts()[1])[0]
        report.compare("reload", unsaved, wanted, scale, TOLERANCE)
        examples = problem.splits.train
        first, second = (each.probabilities(params, examples) for each in (problem, again))
        report.compare("reload", first, second, 1.0, 0.0)


def _with(problem: TextProblem, frozen: FrozenModel) -> TextProblem:
    other = copy.copy(problem)
    other.scorer = copy.copy(problem.tokens)
    other.scorer.frozen = frozen
    return other


def _check_dependence(report: Report, problem: TextProblem) -> None:
    """What is compared depends on the text and on the prompt: without that, agreement would prove nothing."""
    params, ids = start(problem)
    with torch.no_grad():
        here, scale = plain_scores(problem, params, ids, texts()[1])
        text = plain_scores(problem, params, ids, texts()[3])[0]
        prompt = plain_scores(problem, {**params, "prompt": params["prompt"].flip(0)}, ids[::-1], texts()[1])[0]
    for name, other in (("text", text), ("prompt", prompt)):
        if not float((here - other).abs().max()) / scale > DEPENDS:
            report.wrong.append(f"the zoo: scores do not depend on the {name}")


def _check_template(report: Report, problem: TextProblem, name: str, tolerance: float) -> None:
    """Slots equal tokens, alone and beside other texts and from what is kept of them; so do the training loss and its gradient."""
    params, ids = start(problem)
    theirs = {key: value.clone().requires_grad_() for key, value in params.items()}
    plain = [plain_scores(problem, theirs, ids, text) for text in texts()]
    scores, scale = torch.stack([own for own, _ in plain]), max(largest for _, largest in plain)
    with torch.no_grad():  # of token ids alone, with no embedding replaced by an equal one
        report.compare(f"tokens ({name})", plain_scores(problem, params, ids, texts()[1])[0], scores[1], scale, tolerance)
    batch = problem.batch(0, 0)
    wanted = F.cross_entropy(scores, batch.targets)
    wanted.backward()
    _check_scores(report, problem, name, scores.detach().log_softmax(-1), scale, tolerance)
    ours = {key: value.clone().requires_grad_() for key, value in params.items()}
    loss = problem.loss(ours, batch)
    loss.backward()
    report.compare(f"loss ({name})", loss, wanted, scale, tolerance)
    for key, value in ours.items():
        own, other = value.grad, theirs[key].grad
        assert own is not None and other is not None
        largest = float(other.abs().max())
        if not largest > 0:
            report.wrong.append(f"the zoo: no gradient ({name})")
        report.compare(f"gradient ({name})", own, other, largest, GRADIENT_TOLERANCE * tolerance / TOLERANCE)


def _check_scores(report: Report, problem: TextProblem, name: str, wanted: Tensor, scale: float, tolerance: float) -> None:
    params = start(problem)[0]
    fields = [Example({"text": text}, "") for text in texts()]
    alone = torch.cat([problem.probabilities(params, [own]) for own in fields]).log()
    report.compare(f"slots ({name})", alone, wanted, scale, tolerance)
    report.compare(f"batch ({name})", problem.probabilities(params, fields).log(), wanted, scale, tolerance)
    loss = F.nll_loss(wanted, problem.batch(0, 0).targets)
    for score in problem.score([params, params], "select"):
        report.compare(f"score ({name})", torch.tensor(score.loss), loss, scale, tolerance)


def _check_steps(report: Report, problem: TextProblem) -> None:
    """Three steps of the default stage give finite losses and move the prompt."""
    config = make_config({})
    accept = config.accept.options.build()
    stage = build_stage(config, build_plan(config, 1), accept)
    params = start(problem)[0]
    state = stage.init(problem, params, seed=0)
    for _ in range(3):
        state, told = stage.step(problem, state)
        if not torch.isfinite(torch.tensor(float(told.loss))):
            report.wrong.append(f"steps: loss {told.loss}")
    if torch.equal(state.params["prompt"], params["prompt"]):
        report.wrong.append("steps: the prompt did not move")


def _note_shortcuts(report: Report, problem: TextProblem, name: str) -> None:
    params, _ = start(problem)
    rows = problem.read(problem.batch(0, 0))
    for shortcut, held in {
        "shared keys": name in ("front", "behind an instruction") and problem.scorer.share(params, rows) is not None,
        "kept keys": problem.prepared.model_tokens > 0,
        "packing": problem.scorer.packs(NUM_VIRTUAL_TOKENS, rows),  # type: ignore[call-arg, arg-type]
    }.items():
        report.works[shortcut] = report.works.get(shortcut, False) or held
    report.notes += [note for note in problem.notes if note not in report.notes]


def _check_deep(report: Report, frozen: FrozenModel, tolerance: float) -> None:
    """Keys and values that a decoder computed of tokens read like these tokens in front of all; for any model, batches do not matter."""
    problem = problem_of(frozen, TEMPLATES["inside"], method="prefix_tuning")
    params, ids = start(problem)
    rest = {key: value for key, value in params.items() if key != "prompt"}
    deep = {**problem.method.start(params["prompt"]), **rest}
    fields = [Example({"text": text}, "") for text in texts()]
    together = problem.probabilities(deep, fields).log()
    alone = torch.cat([problem.probabilities(deep, [own]) for own in fields]).log()
    report.compare("deep prompts alone and together", together, alone, max(1.0, float(alone.abs().max())), tolerance)
    if frozen.kind == "decoder":
        rows = [problem.tokenizer({"text": text}) for text in texts()]
        with torch.no_grad():
            first = [word[0] for word in problem.scorer.words]  # type: ignore[attr-defined]
            plain = [frozen.model(input_ids=torch.tensor([[*ids, *row.before, *row.after]])).logits[0, -1] for row in rows]
        wanted = torch.stack([logits[first].log_softmax(-1) for logits in plain])
        report.compare("deep prompts equal tokens", together, wanted, max(float(logits.abs().max()) for logits in plain), tolerance)
    report.works["deep prompts"] = True


def _check_peft(report: Report, problem: TextProblem, folder: Path) -> None:
    """The adapter that PEFT loads gives our scores; the product compares them itself, and refuses to export where they differ."""
    reason = why_not_peft(problem)
    if reason:
        raise ConfigError(reason)
    folder.mkdir()
    params = {**start(problem)[0]}
    _, worst = export_peft(problem, params, folder, {"labels": list(LABELS), "revision": None}, [{"text": text} for text in texts()[:3]])
    report.worst["PEFT"] = worst
    report.works["PEFT export"] = True

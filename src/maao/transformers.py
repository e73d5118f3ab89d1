"""A mentor for a prompt that PEFT tunes in a script of one's own: `MentorCallback`, for transformers' `Trainer`.

The Trainer walks; at chosen steps the mentor is shown the walk in words, its proposals are judged by the rules of `core/acceptance.py`, and
a winner takes the place of the prompt. Needs ``pip install "maao[peft]"`` and accelerate.
"""

from __future__ import annotations

import base64
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors.numpy
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.func import functional_call

from maao.codecs.nearest_token import NearestTokenCodec
from maao.config import make_config
from maao.core.acceptance import Race, keep
from maao.core.budget import Budget
from maao.core.loop import judge
from maao.core.scoring import score_all
from maao.core.seeds import seed_for
from maao.errors import ConfigError, MaaoError, ProblemError, StoreError
from maao.llm.chat import Reply, Request
from maao.llm.ledger import MemoryLedger, Totals, is_same, used_by
from maao.llm.provider import Here
from maao.llm.record import ENDING, Entry, add_to_record, entry_of, line_of, read_record
from maao.llm.recording import Recording
from maao.llm.secrets import names_secret, without_keys
from maao.mentors.built import BuiltMentor, OwnMentor, build_chosen, build_own
from maao.mentors.context import CodecWords, MentorContext
from maao.optimizers.serializer import TorchSerializer
from maao.optimizers.torch import TorchStage, TorchState
from maao.problems.settings import ModelConfig
from maao.problems.texts import LoadedModels
from maao.protocols import Acceptance, Arrays, Params
from maao.store.attempts import Spending
from maao.store.values import Unknowns, decode, encode
from maao.types import JSON, Advice, Clues, Cost, Leg, Projection, Round, Score, Split, Verdict, total_cost

try:
    from transformers import Trainer, TrainerCallback
except ImportError as error:  # it is a dependency, but its Trainer asks for accelerate
    raise MaaoError(f"maao.transformers needs transformers' Trainer ({error}). Install it with: pip install accelerate") from error

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

Batch = Mapping[str, Tensor]
Evaluate = Callable[[], float]
NAME = "prompt"
KEPT = "maao.MentorCallback"  # in a checkpoint's `stateful_callbacks`


class MentorCallback(TrainerCallback):
    """Let a mentor propose where the prompt of a PEFT model goes on from, while transformers' Trainer tunes it.

    After every `every` optimizer steps the prompt embeddings are put into words (the nearest token of each row), the mentor is asked with
    all that came before, and its proposals race: each walks `race_steps` gradient steps from its own words and is compared, at equal age,
    with the walk of the prompt itself. A proposal that wins takes the place of the prompt embeddings, and the optimizer's moments of these
    are cleared; nothing else of the training changes. All of it is written into a file of JSON lines.

    A training that goes on from a checkpoint goes on with the rounds of that checkpoint, which stand in its ``trainer_state.json``. Replies
    are written into a file beside that of the lines as they come: none that was paid for is asked for again, and all count for the budget.

    Args:
        trainer: with a PEFT model whose prompt is a table of embeddings (`PromptTuningConfig`), on one process.
        mentor: a mapping of a config's mentor section (``{"description": ..., "chat": {...}}``), a mentor's name, or a mentor of your own,
            as for `maao.tune`.
        every: optimizer steps between two questions.
        rounds: the most questions.
        proposals: how many are asked for each time.
        race_steps: gradient steps of a race; each proposal and the prompt itself walk so far.
        accept: another rule than that race: ``maao.BestOf()`` tests proposals as they stand.
        evaluate: the loss that chooses, of the model as it stands (lower is better); by default the mean loss of the Trainer's own
            evaluation set. Name data that nothing is reported on.
        budget: hard caps of the mentor, by name: ``{"llm_calls": 10, "usd": 1.0}``.
        seed: of what is random here.
        file: the JSON lines; by default ``mentor.jsonl`` in the Trainer's output folder. A training that goes on appends. Replies stand
            beside it, in ``mentor-replies.jsonl``, what was spent in ``mentor-replies.sqlite``; a training that begins anew numbers those
            of the one before.

    Attributes:
        history: the rounds, `maao.types.Round`.
        disclosure: what the mentor is sent, and where to.

    Example:
        >>> from maao.transformers import MentorCallback
        >>> mentor = MentorCallback(trainer, mentor={"chat": {"provider": "openai", "name": "gpt-5"}}, every=50)  # doctest: +SKIP
        >>> trainer.add_callback(mentor)  # doctest: +SKIP
        >>> trainer.train()  # doctest: +SKIP
    """

    def __init__(
        self,
        trainer: Trainer,
        *,
        mentor: str | Mapping[str, object] | OwnMentor,
        every: int = 50,
        rounds: int = 3,
        proposals: int = 3,
        race_steps: int = 10,
        accept: Acceptance[Params, TorchState] | None = None,
        evaluate: Evaluate | None = None,
        budget: Mapping[str, float] | None = None,
        seed: int = 0,
        file: str | Path | None = None,
    ) -> None:
        if min(every, rounds, proposals, race_steps) < 1:
            raise ConfigError("every, rounds, proposals and race_steps are counts of at least 1.")
        if trainer.args.world_size > 1:
            raise ConfigError(f"MentorCallback works in one process, and this Trainer has {trainer.args.world_size}: start it with one.")
        self.every, self.rounds, self.proposals, self.seed = every, rounds, proposals, seed
        self.file = Path(file or Path(trainer.args.output_dir) / "mentor.jsonl")
        self._problem = PeftPrompt(trainer, evaluate)
        self._stage = TorchStage(lr=trainer.args.learning_rate)
        self._accept = accept or Race(race_steps)
        self._ledger = KeptLedger(self.file.with_name(f"{self.file.stem}-replies{ENDING}"))
        self._built = _built(mentor, self._problem, budget or {}, seed, self._ledger)
        self.disclosure = self._built.disclosure
        self.history: tuple[Round[Params, TorchState], ...] = ()
        self._asked, self._opened_at, self._since = 0, 0, 0  # questions; the steps at which the open leg, and the present walk, began
        self._start: Params = {}
        self._open: tuple[Advice[Params], Verdict[TorchState]] | None = None

    def __repr__(self) -> str:
        return f"MentorCallback(every={self.every}, {len(self.history)} rounds so far, file={str(self.file)!r})"

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        kept = state.stateful_callbacks.get(KEPT) if state.global_step and isinstance(state.stateful_callbacks, dict) else None
        told: JSON = {"step": state.global_step, "every": self.every, "rounds": self.rounds, "told": self.disclosure}
        if kept is not None:
            self._restore(kept)
            self._write({"event": "went on", **told, "done": len(self.history), "asked": self._asked})
            return
        self._ledger.begin_anew()
        self.history, self._asked = (), 0
        self._start, self._since, self._opened_at = self._problem.rows(), state.global_step, state.global_step
        self._write({"event": "began", **told})
        begin = keep(self._at(state.global_step))
        self._open = Advice(), begin
        self._close(state.global_step)  # round 0: the prompt as it was given
        self._open = Advice(), begin
        self._keep_in(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kept: object) -> None:
        step = state.global_step
        if step % self.every or self._asked == self.rounds or step >= state.max_steps:  # at the end no walk would follow
            return
        self._close(step)
        self._ask(step, trainer_optimizer=kept.get("optimizer"))
        self._keep_in(state)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        self._close(state.global_step)
        self._built.models.close()
        self._write({"event": "ended", "step": state.global_step, "cost": _spent(total_cost(self.history))})

    def _keep_in(self, state: TrainerState) -> None:
        """Let the checkpoints to come hold how far this is. (Not as `ExportableState`, which would make another callback by name.)"""
        state.stateful_callbacks = state.stateful_callbacks or {}
        assert isinstance(state.stateful_callbacks, dict)
        state.stateful_callbacks[KEPT] = {
            "rounds": [encode(one, Round, WRITE) for one in self.history],
            "start": _params_text(self._start),
            "asked": self._asked,
            "opened_at": self._opened_at,
            "since": self._since,
            "advice": None if self._open is None else encode(self._open[0], Advice, WRITE),
            "verdict": None if self._open is None else encode(self._open[1], Verdict, WRITE),
            "replies": self._ledger.lines(),
        }

    def _restore(self, kept: JSON) -> None:
        """Go on as `_keep_in` wrote it."""
        try:
            self.history = tuple(decode(one, Round, READ) for one in kept["rounds"])
            self._start = _params_from(kept["start"])
            self._asked, self._opened_at, self._since = (int(kept[name]) for name in ("asked", "opened_at", "since"))
            is_open = kept["verdict"] is not None
            self._open = (decode(kept["advice"], Advice, READ), decode(kept["verdict"], Verdict, READ)) if is_open else None
            self._ledger.go_on([entry_of(line) for line in kept["replies"]])
        except (KeyError, TypeError, ValueError, SafetensorError) as error:
            raise StoreError(f"What the checkpoint holds of the mentor is damaged ({error}). Go on from an earlier checkpoint.") from error

    def _at(self, step: int) -> TorchState:
        """Return where the Trainer's walk stands."""
        return TorchState(self._problem.rows(), self._start, self.seed, step, step - self._since)

    def _close(self, step: int) -> None:
        """Score the end of the open leg, put it into words, and keep both."""
        if self._open is None:
            return
        advice, verdict = self._open
        self._open = None
        here, index = self._at(step), len(self.history)
        with self._problem.judging():
            score = score_all(self._problem, [here.params], "select")[0]
            clues = self._problem.clues(here.params, start=here.start, score=score)
        leg = Leg(step - self._opened_at, ask=self._asked > 0, proposals=self.proposals)
        cost = advice.cost + verdict.cost + score.cost + clues.cost + Cost(gradient_steps=leg.steps)
        self.history = (*self.history, Round(index, leg, advice, verdict, (), score, clues, here, cost))
        words = clues.projection
        told = {} if words is None else {"words": words.text, "loss_of_words": _finite(words.score.loss)}
        self._write({"event": "walked", "round": index, "step": step, "loss": _finite(score.loss), **told, "cost": _spent(cost)})
        self._opened_at = step

    def _ask(self, step: int, trainer_optimizer: object) -> None:
        """Ask the mentor, let the rule judge, and put what won in the place of the prompt."""
        here, index = self.history[-1].state, len(self.history)
        with self._problem.judging():
            advice = self._built.mentor.propose(self.history, count=self.proposals, seed=seed_for(self.seed, "mentor", index))
            verdict = judge(self._problem, self._stage, self._accept, self.history, here, advice, seed=self.seed)
        self._asked += 1
        self._open = advice, verdict
        if verdict.chosen is not None:
            self._problem.put(verdict.state.params)
            self._problem.forget_moments(trainer_optimizer)
            self._start, self._since = verdict.state.start, step - verdict.state.age
        self._write(
            {
                "event": "asked",
                "round": index,
                "step": step,
                "proposals": [{"text": one.text, "source": one.source, "note": one.note} for one in advice.proposals],
                "rejected": [{"text": one.text, "reason": one.reason, "kind": one.kind} for one in advice.rejected],
                "judged": [{"proposal": one.proposal, "age": one.age, "loss": _finite(one.score.loss)} for one in verdict.considered],
                "taken": verdict.chosen,
                "why": verdict.reason,
                "cost": _spent(advice.cost + verdict.cost),
            }
        )

    def _write(self, line: JSON) -> None:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(without_keys(json.dumps(line, ensure_ascii=False)) + "\n")
        except OSError as error:
            raise StoreError(f"Cannot write {self.file}: {error.strerror or error}.") from error


class KeptLedger(MemoryLedger):
    """A ledger whose replies are in a record before they are used, so that no reply is paid for twice.

    What is spent stands in a file beside it, each attempt before it goes, so that caps hold over kills, checkpoints and failed calls.

    Args:
        record: the file, of JSON lines.
    """

    def __init__(self, record: Path) -> None:
        super().__init__()
        self._record, self._spent_in = record, record.with_suffix(".sqlite")
        self._account = Spending(self._spent_in)
        self._is_used = False

    def begin_anew(self) -> None:
        """Forget the replies; the record of a training before this one is numbered. What was spent by this ledger stays spent."""
        self.clear()
        self._set_aside(self._record)
        if not self._is_used:
            self._set_aside(self._spent_in)
            self._account = Spending(self._spent_in)
        self._is_used = True

    def go_on(self, kept: Sequence[Entry]) -> None:
        """Take in what a checkpoint holds, then what the record holds behind it; a record of another training is numbered."""
        self.clear()
        self._is_used = True
        held = read_record(self._record)
        if any(not is_same(held[one.request.key].reply, one.reply) for one in kept if one.request.key in held):
            self._set_aside(self._record)
            held = {}
        for entry in held.values():
            super().put(*entry)
        for entry in kept:
            self.put(*entry)
        if not self.spent().calls:  # a checkpoint that was taken elsewhere, without what says what was spent
            for request, reply in self.entries.values():
                self.replied(self.begin(request.key, used_by(reply), lambda spent: ""), used_by(reply))

    def _set_aside(self, file: Path) -> None:
        if file.exists():
            others = (file.with_stem(f"{file.stem}-{i}") for i in itertools.count(1))
            file.rename(next(path for path in others if not path.exists()))

    def begin(self, key: str, worst: Totals, refusal: Callable[[Totals], str]) -> int:
        return self._account.begin(key, worst, refusal)

    def end(self, attempt: int, used: Totals) -> None:
        self._account.end(attempt, used)

    def replied(self, attempt: int, used: Totals) -> None:
        self._account.replied(attempt, used)

    def waits(self, attempt: int) -> None:
        self._account.waits(attempt)

    def waiting(self, key: str) -> int | None:
        return self._account.waiting(key)

    def spent(self) -> Totals:
        return self._account.spent()

    def put(self, request: Request, reply: Reply) -> None:
        if self.get(request.key) is None and not names_secret(dict(request.extra)):  # a record goes from hand to hand
            add_to_record(self._record, [Entry(request, reply)])
        super().put(request, reply)

    def lines(self) -> list[str]:
        """Return the replies as lines of a record."""
        return [line_of(Entry(*entry)) for entry in self.entries.values() if not names_secret(dict(entry[0].extra))]


class PeftPrompt:
    """The prompt of a PEFT model in a Trainer as a problem, ``{"prompt": (num_virtual_tokens, embed_dim)}``.

    Its losses are the Trainer's own (`compute_loss`), on its training and evaluation sets.

    Args:
        evaluate: the loss that chooses, in place of that on the evaluation set.

    Raises:
        ConfigError: the model has no table of prompt embeddings, or what is needed of the Trainer is missing.
    """

    def __init__(self, trainer: Trainer, evaluate: Evaluate | None = None) -> None:
        from peft import PeftModel, PeftType

        model = trainer.model
        if not isinstance(model, PeftModel):
            raise ConfigError(
                f"MentorCallback needs a PEFT model: get_peft_model(model, PromptTuningConfig(...)); got {type(model).__name__}."
            )
        settings = model.active_peft_config
        if settings.peft_type != PeftType.PROMPT_TUNING or settings.num_transformer_submodules != 1:
            raise ConfigError(
                "MentorCallback needs a prompt that is a table of embeddings in front of the input of one model: PromptTuningConfig, and "
                f"no encoder-decoder; got {settings.peft_type.value}. For other methods tune with maao itself (docs/methods.md)."
            )
        if trainer.processing_class is None:
            raise ConfigError("MentorCallback needs the tokenizer: Trainer(..., processing_class=tokenizer).")
        if evaluate is None and trainer.eval_dataset is None:
            raise ConfigError("MentorCallback judges proposals: give Trainer an eval_dataset, or MentorCallback evaluate=..., a loss.")
        if evaluate is None and isinstance(trainer.eval_dataset, Mapping):
            names = ", ".join(map(str, trainer.eval_dataset))
            raise ConfigError(f"This Trainer has several evaluation sets ({names}): say by evaluate=..., a loss, what chooses.")
        if not isinstance(trainer.train_dataset, Sized):
            raise ConfigError("MentorCallback draws batches for its races: give Trainer a train_dataset that has a length, no stream.")
        self.model, self._trainer, self._evaluate = model, trainer, evaluate
        self._name = f"prompt_encoder.{model.active_adapter}.embedding.weight"
        self._weight: nn.Parameter = dict(model.named_parameters())[self._name]
        table = model.get_base_model().get_input_embeddings().weight
        self.codec = NearestTokenCodec(trainer.processing_class, table.detach().cpu(), num_virtual_tokens=len(self._weight))
        self.model_name = str(settings.base_model_name_or_path or "")
        self._batches: tuple[Sequence[object], Callable[[list[object]], Batch]] | None = None

    def rows(self) -> Params:
        """Return the prompt embeddings as they are, a copy on the CPU."""
        return {NAME: self._weight.detach().float().cpu().clone()}

    def put(self, params: Params) -> None:
        """Put rows in the place of the prompt embeddings."""
        with torch.no_grad():
            self._weight.copy_(params[NAME])

    def forget_moments(self, optimizer: object) -> None:
        """Clear what an optimizer has gathered of the prompt embeddings: it speaks of where they were."""
        if isinstance(optimizer, torch.optim.Optimizer):  # accelerate's wrapper is one too, and shows the same state
            optimizer.state.pop(self._weight, None)

    @contextmanager
    def judging(self) -> Iterator[None]:
        """Let the model be read without dropout, and without a trace in the random numbers of the training."""
        training = self.model.training
        trained = [value for value in self.model.parameters() if value.requires_grad]
        self.model.eval()
        for value in trained:  # so that no walk of a race leaves a gradient in them, a head's say
            value.requires_grad_(False)
        try:
            with torch.random.fork_rng():
                yield
        finally:
            self.model.train(training)
            for value in trained:
                value.requires_grad_(True)

    def initial(self, seed: int) -> Params:
        return self.rows()

    def batch(self, step: int, seed: int) -> Batch:
        if self._batches is None:
            loader = self._trainer.get_train_dataloader()
            self._batches = loader.dataset, loader.collate_fn
        rows, collate = self._batches
        size = min(self._trainer.args.train_batch_size, len(rows))
        drawn = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed_for(seed, "batch", step)))[:size]
        return self._moved(collate([rows[int(i)] for i in drawn]))

    def _moved(self, batch: Batch) -> Batch:
        return {name: value.to(self._weight.device) for name, value in batch.items()}

    def loss(self, params: Params, batch: Batch) -> Tensor:
        loss = self._trainer.compute_loss(_With(self.model, self._name, params[NAME].to(self._weight)), dict(batch))
        assert isinstance(loss, Tensor)
        return loss

    def num_tokens(self, params: Params, batch: Batch) -> int:
        read = batch.get("input_ids")
        return 0 if read is None else read.numel() + len(read) * len(params[NAME])

    def score(self, points: Sequence[Params], split: Split) -> tuple[Score, ...]:
        if split != "select":
            raise ProblemError(f"A script that PEFT tunes in is judged on 'select' alone, its evaluation set; got '{split}'.")
        return tuple(map(self._score, points))

    def _score(self, params: Params) -> Score:
        if self._evaluate is not None:
            before = self.rows()
            self.put(params)
            try:
                return Score(float(self._evaluate()), cost=Cost(selection_evals=1))
            finally:
                self.put(before)
        total, count, tokens = 0.0, 0, 0
        for given in self._trainer.get_eval_dataloader():
            batch = self._moved(given)
            size = len(next(iter(batch.values())))
            with torch.no_grad():
                total += float(self.loss(params, batch)) * size
            count, tokens = count + size, tokens + self.num_tokens(params, batch)
        loss = total / count if count else math.nan
        return Score(loss, num_examples=count, cost=Cost(model_tokens=tokens, scored_examples=count, selection_evals=1))

    def clues(self, params: Params, *, start: Params | None = None, score: Score | None = None) -> Clues:
        """Return the nearest words of a point, what they are worth alone, and the five nearest tokens of each row."""
        decoded = self.codec.decode(params)
        nearest = self.codec.nearest(params[NAME], 5)
        if decoded.text is None:
            return Clues(nearest=nearest)
        words = self._score(self.codec.encode(decoded.text).params)
        gap = math.nan if score is None else words.loss - score.loss
        return Clues(Projection(decoded.text, words, gap), nearest, cost=words.cost)


class _With(nn.Module):
    """A model that reads other rows than its own, so that a loss can be differentiated with respect to them."""

    def __init__(self, model: nn.Module, name: str, rows: Tensor) -> None:
        super().__init__()
        self.model, self._name, self._rows = model, name, rows

    def forward(self, **given: object) -> object:
        return functional_call(self.model, {self._name: self._rows}, (), dict(given))


def _built(
    mentor: str | Mapping[str, object] | OwnMentor, problem: PeftPrompt, budget: Mapping[str, float], seed: int, ledger: KeptLedger
) -> BuiltMentor:
    """Build the mentor as a run does, with what it may use of the script."""
    given = {"name": mentor} if isinstance(mentor, str) else dict(mentor) if isinstance(mentor, Mapping) else {"name": "custom"}
    config = make_config({"mentor": given, "budget": dict(budget)})
    if config.mentor.options.proposes_lines:
        raise ConfigError(
            f"The mentor '{config.mentor.name}' proposes class lines, and a script trains on its own data: take 'language_model'."
        )
    loaded = LoadedModels()
    here = Here(problem.model_name, lambda name: loaded.load(name, ModelConfig()))
    models = Recording(ledger, here, Budget(**config.budget.model_dump()))
    codec, length = problem.codec, problem.codec.num_virtual_tokens
    run = MentorContext(
        codec,
        models.record,
        models.chat,
        template="{slots} {text}",
        length=max(1, round(length * 0.75)),
        max_tokens=length,
        seed=seed,
        tuned=problem.model_name,
        vocabulary=CodecWords(codec, codec, lambda params: params[NAME]),
    )
    return build_chosen(config.mentor, run, models) if isinstance(mentor, str | Mapping) else build_own(mentor, run, models)


def _arrays_text(arrays: Arrays) -> str:
    """Return arrays as text for JSON: safetensors in base64."""
    return base64.b64encode(safetensors.numpy.save(dict(arrays))).decode("ascii")


def _params_text(params: Params) -> str:
    return _arrays_text(TorchSerializer().dump_params(params))


def _params_from(text: object) -> Params:
    return TorchSerializer().load_params(safetensors.numpy.load(base64.b64decode(str(text))))


def _state_json(state: TorchState) -> JSON:
    arrays, meta = TorchSerializer().dump_state(state)
    return {"arrays": _arrays_text(arrays), "meta": encode(meta, JSON)}


def _state_from(data: JSON) -> TorchState:
    return TorchSerializer().load_state(safetensors.numpy.load(base64.b64decode(data["arrays"])), decode(data["meta"], JSON))


WRITE: Unknowns = {"P": _params_text, "S": _state_json}
READ: Unknowns = {"P": _params_from, "S": _state_from}


def _spent(cost: Cost) -> JSON:
    return {name: value for name, value in asdict(cost).items() if value}


def _finite(number: float) -> float | None:
    """Return a number for JSON, which knows no NaN."""
    return number if math.isfinite(number) else None

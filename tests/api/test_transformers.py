"""A PEFT script with transformers' Trainer gains a mentor: the prompt changes as the verdict says, and the training goes on."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

import maao
from maao.errors import BudgetError, ConfigError, StoreError
from maao.llm.budget import Caps, Meter
from maao.llm.chat import Message, Reply, Request
from maao.llm.price import FREE
from maao.llm.record import Entry
from maao.transformers import KeptLedger, MentorCallback
from maao.types import Advice, Proposal
from tests.api.small_runs import REPLIES, pairs

NUM = 4
TEXTS = ["music team bank", "the news of the world", "sport and music", "business news", "label of the text", "film actor"]


class Rows(Dataset[dict[str, torch.Tensor]]):
    """Texts that a causal model learns to go on with their label."""

    def __init__(self, tokenizer: Any, split: str) -> None:
        texts = [f"{text} Topic: {label}" for text, label in pairs(split)]
        self.rows = tokenizer(texts, padding="max_length", max_length=16, truncation=True, return_tensors="pt")["input_ids"]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.rows[index], "labels": self.rows[index]}


def peft_trainer(folder: Path, output: Path, *, steps: int = 12, save_every: int = 0, **changes: Any) -> Trainer:
    from peft import PromptTuningConfig, TaskType, get_peft_model

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    settings = changes.pop("peft", None) or PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=NUM)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's own
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), settings)
    arguments = TrainingArguments(
        output_dir=str(output), max_steps=steps, per_device_train_batch_size=4, learning_rate=0.01, report_to=[], use_cpu=True,
        disable_tqdm=True, save_strategy="steps" if save_every else "no", save_steps=save_every or 500, logging_strategy="no", seed=0,
    )  # fmt: skip
    given = {"processing_class": tokenizer, "eval_dataset": Rows(tokenizer, "select"), **changes}
    return Trainer(model, arguments, train_dataset=Rows(tokenizer, "train"), **given)


def prompt(trainer: Trainer) -> torch.Tensor:
    return trainer.model.prompt_encoder["default"].embedding.weight.detach().clone()


def lines(callback: MentorCallback) -> list[dict[str, Any]]:
    return [json.loads(line) for line in callback.file.read_text(encoding="utf-8").splitlines()]


class Seen(MentorCallback):
    """Keeps the prompt right after each question, and whether moments were left then."""

    seen: list[tuple[torch.Tensor, bool]]

    def on_step_end(self, args: Any, state: Any, control: Any, **kept: Any) -> None:
        asked = len(self.history)
        super().on_step_end(args, state, control, **kept)
        if len(self.history) > asked:
            weight = self._problem._weight
            self.seen.append((weight.detach().clone(), weight in kept["optimizer"].state))


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def trained(request: pytest.FixtureRequest, model_folder: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, Seen]:
    trainer = peft_trainer(model_folder(request.param), tmp_path_factory.mktemp("out"))
    callback = Seen(trainer, mentor={"name": "scripted", "texts": TEXTS}, every=4, rounds=2, proposals=2, race_steps=2, accept=None)
    callback.seen = []
    trainer.add_callback(callback)
    trainer.train()
    return trainer, callback


def test_the_history_is_that_of_a_walk_with_a_mentor(trained: tuple[Trainer, Seen]) -> None:
    _, callback = trained
    assert [(one.leg.steps, one.leg.ask) for one in callback.history] == [(0, False), (4, False), (4, True), (4, True)]
    assert [[p.text for p in one.advice.proposals] for one in callback.history[2:]] == [TEXTS[:2], TEXTS[2:4]]
    for one in callback.history[2:]:
        assert len(one.verdict.considered) == 3 and {c.age for c in one.verdict.considered} == {2}  # at equal age
        losses = {c.proposal: c.score.loss for c in one.verdict.considered}
        best = min(losses, key=lambda proposal: losses[proposal])
        assert one.verdict.chosen == best


def test_the_prompt_is_what_the_verdict_says_and_its_moments_are_cleared(trained: tuple[Trainer, Seen]) -> None:
    trainer, callback = trained
    assert len(callback.seen) == 2
    for (rows, has_moments), asked, before in zip(callback.seen, callback.history[2:], callback.history[1:], strict=False):
        if asked.verdict.chosen is None:
            assert torch.equal(rows, before.state.params["prompt"]) and has_moments
        else:
            assert torch.equal(rows, asked.verdict.state.params["prompt"]) and not has_moments
            assert not torch.equal(rows, before.state.params["prompt"])
        assert not torch.equal(asked.state.params["prompt"], asked.verdict.state.params["prompt"])  # the training went on
    assert torch.equal(prompt(trainer), callback.history[-1].state.params["prompt"])
    assert trainer.state.global_step == 12


def test_what_happened_is_kept_as_json_lines(trained: tuple[Trainer, Seen]) -> None:
    _, callback = trained
    kept = lines(callback)
    assert [line["event"] for line in kept] == ["began", "walked", "walked", "asked", "walked", "asked", "walked", "ended"]
    asked = [line for line in kept if line["event"] == "asked"]
    assert [line["taken"] for line in asked] == [one.verdict.chosen for one in callback.history[2:]]
    assert [line["why"] for line in asked] == [one.verdict.reason for one in callback.history[2:]]
    assert [p["text"] for p in asked[0]["proposals"]] == TEXTS[:2] and len(asked[0]["judged"]) == 3
    walked = [line for line in kept if line["event"] == "walked"]
    assert [line["loss"] for line in walked] == [one.score.loss for one in callback.history]
    assert all(line["words"] and line["loss_of_words"] for line in walked)
    assert kept[-1]["cost"]["gradient_steps"] == sum(one.cost.gradient_steps for one in callback.history)


def always(taken: int) -> Any:
    """Return a rule that takes the proposal of that number."""

    def rule(problem: Any, stage: Any, history: Any, state: Any, proposals: Any, *, seed: int) -> Any:
        chosen = stage.restart(state, proposals[taken].params, seed=seed)
        return maao.types.Verdict(chosen, taken, reason="always")

    rule.max_steps = lambda proposals: 0  # type: ignore[attr-defined]
    return rule


def test_a_mentor_changes_nothing_where_nothing_wins(llama: Path, tmp_path: Path) -> None:
    plain = peft_trainer(llama, tmp_path / "plain")
    plain.train()

    class Nothing:
        def propose(self, history: Any, *, count: int, seed: int) -> Advice[Any]:
            return Advice()

    helped = peft_trainer(llama, tmp_path / "helped")
    helped.add_callback(MentorCallback(helped, mentor=Nothing(), every=4, rounds=2))
    helped.train()
    assert torch.equal(prompt(plain), prompt(helped))


def test_a_lost_race_leaves_no_trace_in_a_trained_head(llama: Path, tmp_path: Path) -> None:
    from peft import PromptTuningConfig, TaskType, get_peft_model
    from transformers import AutoModelForSequenceClassification

    class Labelled(Rows):
        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"input_ids": self.rows[index], "labels": index % 3}

    def with_head(place: Path) -> Trainer:
        trainer = peft_trainer(llama, place, steps=6)
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT's own
            model = AutoModelForSequenceClassification.from_pretrained(llama, num_labels=3, pad_token_id=0)
            model = get_peft_model(model, PromptTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=NUM))
        rows = {name: Labelled(trainer.processing_class, name) for name in ("train", "select")}
        given = {"train_dataset": rows["train"], "eval_dataset": rows["select"], "processing_class": trainer.processing_class}
        return Trainer(model, trainer.args, **given)

    plain, helped = with_head(tmp_path / "plain"), with_head(tmp_path / "helped")
    scripted = {"name": "scripted", "texts": TEXTS}
    callback = MentorCallback(helped, mentor=scripted, every=2, rounds=2, proposals=1, accept=maao.Race(2, margin=100.0))
    helped.add_callback(callback)
    plain.train()
    helped.train()
    assert [one.verdict.chosen for one in callback.history[2:]] == [None, None] and callback.history[2].verdict.considered
    ours, theirs = dict(helped.model.named_parameters()), dict(plain.model.named_parameters())
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_rule_of_ones_own_and_an_evaluation_of_ones_own(llama: Path, tmp_path: Path) -> None:
    trainer = peft_trainer(llama, tmp_path, eval_dataset=None)
    read: list[torch.Tensor] = []

    def evaluate() -> float:
        read.append(prompt(trainer))
        return float(read[-1].abs().mean())

    rows = torch.full((NUM, read_width(trainer)), 0.25)

    class Rowed:
        def propose(self, history: Any, *, count: int, seed: int) -> Advice[Any]:
            return Advice((Proposal("flat rows", {"prompt": rows}),))

    callback = Seen(trainer, mentor=Rowed(), every=6, rounds=1, accept=always(0), evaluate=evaluate)
    callback.seen = []
    trainer.add_callback(callback)
    trainer.train()
    assert callback.history[2].verdict.reason == "always" and callback.history[2].state.start["prompt"].equal(rows)
    ((now, has_moments),) = callback.seen
    assert now.equal(rows) and not has_moments and not prompt(trainer).equal(rows)
    assert callback.history[0].score.loss == float(callback.history[0].state.params["prompt"].abs().mean())
    assert len(read) == 2 * len(callback.history)  # the point, and its words


def read_width(trainer: Trainer) -> int:
    return int(prompt(trainer).shape[1])


def test_a_language_model_is_shown_the_walk_in_words(llama: Path, tmp_path: Path) -> None:
    trainer = peft_trainer(llama, tmp_path)
    mentor = {"retries": 0, "description": "Tell the topic of a text.", "chat": {"provider": "scripted", "replies": REPLIES}}
    callback = MentorCallback(trainer, mentor=mentor, every=5, rounds=2, proposals=2, race_steps=1, budget={"llm_calls": 1})
    trainer.add_callback(callback)
    trainer.train()
    first, second = callback.history[2:]
    assert [p.text for p in first.advice.proposals] == ["music team bank", "the news of the world"]
    assert first.cost.llm_calls == 1 and second.cost.llm_calls == 0
    assert [line.kind for line in second.advice.rejected] == ["capped"]
    assert "scripted" in callback.disclosure.lower() and "Tell the topic" not in callback.disclosure


def test_what_cannot_be_mentored_is_refused_in_words(llama: Path, tmp_path: Path) -> None:
    from peft import PrefixTuningConfig, TaskType

    scripted = {"name": "scripted", "texts": TEXTS}
    prefix = PrefixTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=NUM)
    with pytest.raises(ConfigError, match="PromptTuningConfig, and no encoder-decoder; got PREFIX_TUNING"):
        MentorCallback(peft_trainer(llama, tmp_path, peft=prefix), mentor=scripted)
    with pytest.raises(ConfigError, match="give Trainer an eval_dataset"):
        MentorCallback(peft_trainer(llama, tmp_path, eval_dataset=None), mentor=scripted)
    several = peft_trainer(llama, tmp_path)
    several.eval_dataset = {"a": several.eval_dataset}
    with pytest.raises(ConfigError, match=r"several evaluation sets \(a\)"):
        MentorCallback(several, mentor=scripted)
    with pytest.raises(ConfigError, match="needs the tokenizer"):
        MentorCallback(peft_trainer(llama, tmp_path, processing_class=None), mentor=scripted)
    with pytest.raises(ConfigError, match="at least 1"):
        MentorCallback(peft_trainer(llama, tmp_path), mentor=scripted, every=0)
    with pytest.raises(ConfigError, match="proposes class lines"):
        MentorCallback(peft_trainer(llama, tmp_path), mentor={"name": "class_names"})
    trainer = peft_trainer(llama, tmp_path)
    trainer.model = trainer.model.get_base_model()
    with pytest.raises(ConfigError, match="needs a PEFT model"):
        MentorCallback(trainer, mentor=scripted)


# -- a training that goes on from a checkpoint


class Saying:
    """A chat model that says something else each time, and counts."""

    name, is_remote, price = "saying", False, None

    def __init__(self) -> None:
        self.asked = 0

    def complete(self, request: Any) -> Any:
        from maao.llm.chat import Reply, Usage

        self.asked += 1
        return Reply(TEXTS[self.asked % len(TEXTS)] + f" {self.asked}", Usage(10, 5), self.name)

    def close(self) -> None: ...


def with_checkpoints(llama: Path, output: Path, model: Saying, *, rounds: int = 3, **budget: float) -> tuple[Trainer, MentorCallback]:
    def mentor(run: Any) -> Any:
        asked = run.record(model)

        class Asks:
            def propose(self, history: Any, *, count: int, seed: int) -> Advice[Any]:
                from maao.errors import BudgetError
                from maao.llm.chat import Message, Request

                seen = " ".join(f"{one.score.loss!r}" for one in history)
                try:
                    reply = asked.complete(Request("saying", (Message("user", seen),), max_tokens=20, seed=seed))
                except BudgetError as error:
                    return Advice(rejected=(maao.types.Rejected("", str(error), "capped"),))
                params = run.codec.encode(reply.text).params
                return Advice((Proposal(reply.text, params, "saying"),))

        return Asks()

    trainer = peft_trainer(llama, output, steps=16, save_every=6)
    callback = MentorCallback(trainer, mentor=mentor, every=4, rounds=rounds, proposals=1, race_steps=2, budget=budget)
    trainer.add_callback(callback)
    return trainer, callback


def test_a_training_goes_on_from_a_checkpoint_with_its_rounds_and_its_budget(llama: Path, tmp_path: Path) -> None:
    from maao.optimizers.serializer import TorchSerializer
    from maao.store.digest import round_digest

    def digests(callback: MentorCallback) -> list[str]:
        return [round_digest(one, TorchSerializer()) for one in callback.history]

    model = Saying()
    whole, unbroken = with_checkpoints(llama, tmp_path / "out", model, llm_calls=2)
    whole.train()
    assert model.asked == 2 and [len(one.advice.proposals) for one in unbroken.history] == [0, 0, 1, 1, 0]
    later = Saying()  # the calls behind the checkpoint were recorded, and count
    again, callback = with_checkpoints(llama, tmp_path / "out", later, llm_calls=2)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-6"))
    assert later.asked == 0
    assert digests(callback) == digests(unbroken) and torch.equal(prompt(again), prompt(whole))
    assert next(line for line in lines(callback) if line["event"] == "went on") | {"told": ""} == {
        "event": "went on", "step": 6, "every": 4, "rounds": 3, "told": "", "done": 2, "asked": 1,
    }  # fmt: skip


def test_a_checkpoint_elsewhere_holds_the_replies_up_to_it_and_a_new_training_begins_anew(llama: Path, tmp_path: Path) -> None:
    import shutil

    model = Saying()
    first, callback = with_checkpoints(llama, tmp_path / "out", model, rounds=1)
    first.train()
    shutil.copytree(tmp_path / "out" / "checkpoint-6", tmp_path / "checkpoint-6")
    moved, other = with_checkpoints(llama, tmp_path / "elsewhere", Saying(), rounds=1, llm_calls=1)
    moved.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert len(other.history) == 3 and other._ledger.totals().calls == 1 and torch.equal(prompt(moved), prompt(first))
    state = tmp_path / "checkpoint-6" / "trainer_state.json"
    held = json.loads(state.read_text())
    held["stateful_callbacks"]["maao.MentorCallback"]["rounds"][0].pop("score")
    state.write_text(json.dumps(held))
    with pytest.raises(StoreError, match="What the checkpoint holds of the mentor is damaged"):
        with_checkpoints(llama, tmp_path / "third", Saying())[0].train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    anew, callback = with_checkpoints(llama, tmp_path / "out", model, rounds=1, llm_calls=1)
    anew.train()
    assert model.asked == 2 and callback._ledger.totals().calls == 1
    names = [f"mentor-replies{number}.{kind}" for number in ("-1", "") for kind in ("jsonl", "sqlite")]
    assert sorted(path.name for path in (tmp_path / "out").glob("mentor-*")) == names


def test_what_a_trainer_s_mentor_spent_stays_spent_over_going_on_training_anew_and_kills(tmp_path: Path) -> None:
    def tried(ledger: KeptLedger, text: str) -> bool:
        """Begin a call under a cap of three, and let nobody say how it ended, as a kill does."""
        request = Request("m", (Message("user", text),))
        try:
            Meter([(ledger, Caps(calls=3))], FREE).begin(request)
        except BudgetError:
            return False
        return True

    record = tmp_path / "replies.jsonl"
    ledger = KeptLedger(record)
    ledger.begin_anew()
    request = Request("m", (Message("user", "a"),))
    Meter([(ledger, Caps(calls=3))], FREE).begin(request).replied(Reply("hello"))
    ledger.put(request, Reply("hello"))
    assert tried(ledger, "b") and ledger.spent().calls == 2
    ledger.begin_anew()  # the same callback trains again
    assert ledger.get(request.key) is None and tried(ledger, "c") and not tried(ledger, "d")
    ledger.put(request, Reply("asked anew"))
    again = KeptLedger(record)  # another process
    again.go_on([Entry(request, Reply("another"))])  # of the training before the last: its reply is the checkpoint's
    assert again.get(request.key) == Reply("another") and not tried(again, "d")
    elsewhere = KeptLedger(tmp_path / "moved" / "replies.jsonl")
    elsewhere.go_on([Entry(request, Reply("hello"))])
    assert (elsewhere.spent().calls, elsewhere.totals().calls) == (1, 1)
    new = KeptLedger(record)
    new.begin_anew()
    assert tried(new, "a") and new.spent().calls == 1

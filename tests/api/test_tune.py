"""What a notebook does: tune on lists, mappings or files, then read, predict, save."""

from __future__ import annotations

import math
import os
import signal
from dataclasses import replace

import pytest
import torch

import maao
from maao.config import make_config
from maao.errors import ChatError, ConfigError, DataError, StoreError
from maao.llm.chat import Message, Request
from maao.llm.scripted import Scripted
from maao.mentors.language_model import no_reply
from maao.runner import free_folder
from maao.store.recorded import IN_RUN
from maao.types import Advice, Example, Proposal, Splits
from tests.api.small_runs import LABELS, REPLIES, Notes, StopAt, config, digests, examples, pairs, write_csv

CHAT = {"retries": 0, "chat": {"provider": "scripted", "replies": REPLIES}}
SMALL = {"model.num_virtual_tokens": 4, "accept.steps": 2, "plan.store_every": 2, "plan.proposals": 2, "threads": 1}


def tune(model, folder, **changes):
    given = {"train": pairs("train"), "select": pairs("select"), "test": pairs("test"), "mentor": CHAT, "rounds": 1, "steps": 2}
    asks = changes.get("mentor") != "none"  # no rule judges where nobody proposes
    small = {key: value for key, value in SMALL.items() if asks or not key.startswith(("accept.", "plan.proposals"))}
    settings = {**small, **changes.pop("settings", {})}
    return maao.tune(model=str(model), folder=folder, settings=settings, **{**given, **changes})


@pytest.fixture(scope="module")
def result(llama, tmp_path_factory):
    return tune(llama, tmp_path_factory.mktemp("tuned") / "run", rounds=2)


def test_a_run_finishes_and_says_nothing_more(result):
    assert (result.status, result.status_reason) == ("finished", "")


def test_the_history_holds_every_planned_leg(result):
    assert [(r.leg.steps, r.leg.ask) for r in result.history] == [(0, False), (2, False), (2, True), (2, True)]
    assert [r.index for r in result.history] == [0, 1, 2, 3]


def test_the_mentors_texts_come_into_the_history_as_said(result):
    asked = result.history[2]
    assert [p.text for p in asked.advice.proposals] == ["music team bank", "the news of the world"]
    assert asked.advice.proposals[0].source == "scripted"
    assert asked.verdict.reason


def test_the_chosen_round_is_the_best_on_select(result):
    assert result.chosen.score.loss == min(r.score.loss for r in result.history)
    assert torch.equal(result.params["prompt"], result.chosen.state.params["prompt"])
    assert result.text == result.chosen.clues.projection.text


def test_the_cost_adds_up_rounds_what_was_read_before_them_and_the_reading_of_test(result):
    cost = result.cost
    assert cost.gradient_steps == sum(r.cost.gradient_steps for r in result.history)
    tested = [final.score.cost for final in result.finals.values()]
    assert len(tested) == 3 and all(one.model_tokens > 0 and one.selection_evals == 0 for one in tested)
    walked = sum(r.cost.model_tokens for r in result.history) + result.environment["prepared_tokens"]
    assert cost.model_tokens == walked + sum(one.model_tokens for one in tested)
    assert cost.scored_examples == sum(r.cost.scored_examples for r in result.history) + 3 * len(pairs("test"))
    assert result.environment["prepared_tokens"] > 0  # the texts stand before the slots: their keys and values are computed once
    assert cost.llm_calls == 2 and cost.input_tokens > 0


def test_test_is_read_for_the_three_declared_points(result):
    assert list(result.finals) == ["untuned", "chosen", "words"]
    assert {final.split for final in result.finals.values()} == {"test"}
    assert result.finals["words"].text == result.text
    assert all(final.score.num_examples == len(pairs("test")) for final in result.finals.values())


def test_predictions_are_probabilities_over_the_labels_in_the_order_asked(result):
    texts = [text for text, _ in pairs("test")][:5]
    found = result.predict(texts)
    assert len(found) == 5
    for one in found:
        assert set(one.probabilities) == set(LABELS)
        assert math.isclose(sum(one.probabilities.values()), 1.0, rel_tol=1e-5)
        assert one.probability == max(one.probabilities.values()) and one.cut == 0
    assert result.predict(texts[::-1])[0].label == found[-1].label
    assert result.predict([{"text": texts[0]}])[0].label == found[0].label


def test_the_accuracy_on_test_is_that_of_predicting_it(result):
    right = [p.label == label for p, (_, label) in zip(result.predict([t for t, _ in pairs("test")]), pairs("test"), strict=True)]
    assert sum(right) / len(right) == pytest.approx(result.finals["chosen"].score.accuracy)


def test_a_result_loaded_from_its_folder_predicts_the_same(result):
    loaded = maao.load(result.folder)
    texts = [text for text, _ in pairs("select")]
    for a, b in zip(loaded.predict(texts), result.predict(texts), strict=True):
        assert a.label == b.label
        assert a.probabilities == pytest.approx(b.probabilities, rel=1e-5)
    assert digests(loaded) == digests(result)


def test_predicting_nothing_gives_nothing_and_one_text_is_refused(result):
    assert result.predict([]) == []
    with pytest.raises(DataError, match=r"predict\(\[text\]\)"):
        result.predict("music film")


def test_a_text_that_lacks_the_templates_field_is_refused(result):
    with pytest.raises(DataError, match=r"1 of 2 inputs .* number 2 \(it has no 'text', which the template reads; it has: 'headline'\)"):
        result.predict(["team match", {"headline": "music film"}])
    with pytest.raises(DataError, match=r"number 1 \(the field 'text' is the number 0.5, not text\)"):
        result.predict([{"text": 0.5}])


def test_a_long_text_is_cut_and_told(result):
    short, long = result.predict(["music film", "music film " * 200])
    assert short.cut == 0
    assert long.cut > 100


def test_the_text_is_saved_as_a_file(result, tmp_path):
    (path,) = result.save(tmp_path / "out" / "deep", "text")
    assert path.read_text(encoding="utf-8") == result.text + "\n"


def test_a_run_without_clues_is_exported_with_its_words(llama, tmp_path):
    result = tune(llama, tmp_path / "run", mentor="none", settings={"plan.clues": False})
    assert result.text == ""
    (path,) = result.save(tmp_path / "exported", "text")
    problem = result._tuned(result.params).problem
    assert path.read_text(encoding="utf-8").strip() == problem.codec.decode(result.params).text != ""


def test_an_unknown_format_is_refused(result, tmp_path):
    with pytest.raises(ConfigError, match=r"Unknown format 'onnx': use text, tensor, peft or peft-classifier"):
        result.save(tmp_path, "onnx")


def test_saving_where_a_file_stands_is_told(result, tmp_path):
    (tmp_path / "taken").write_text("x")
    with pytest.raises(StoreError, match="Cannot write to"):
        result.save(tmp_path / "taken", "text")


# -- what examples may be


def test_mappings_and_files_and_pairs_give_the_same_run(llama, tmp_path):
    mappings = {split: [{"text": text, "label": label} for text, label in pairs(split)] for split in ("train", "select", "test")}
    files = {split: write_csv(tmp_path / f"{split}.csv", pairs(split)) for split in ("train", "select", "test")}
    as_pairs, as_mappings, as_files = (
        tune(llama, tmp_path / f"run{i}", **given) for i, given in enumerate(({}, mappings, {k: str(v) for k, v in files.items()}))
    )
    assert digests(as_pairs) == digests(as_mappings) == digests(as_files)


def test_a_generator_is_read_once(llama, tmp_path):
    result = tune(llama, tmp_path / "run", train=(pair for pair in pairs("train")), select=iter(pairs("select")), test=None)
    assert result.status == "finished" and result.finals == {}


def test_select_is_taken_out_of_train_where_it_is_not_given(llama, tmp_path):
    result = tune(llama, tmp_path / "run", select=None, test=None)
    assert any("taken out of train" in note for note in result.environment["notes"])
    assert result.history[0].score.num_examples == len(pairs("train")) // 2


def test_a_cap_on_test_that_does_not_bind_is_no_error(llama, tmp_path):
    result = tune(llama, tmp_path / "run", settings={"data.test_size": 10_000})
    assert result.finals["chosen"].score.num_examples == len(pairs("test"))
    result = tune(llama, tmp_path / "run2", settings={"data.test_size": 5})
    assert result.finals["chosen"].score.num_examples == 5


def test_test_is_scored_together_where_the_problem_can_and_the_costs_add_up(llama, tmp_path, monkeypatch):
    from maao.problems.text_problem import TextProblem

    asked, together = [], TextProblem.read_split

    def read_split(self, points, split):
        asked.append((split, len(points)))
        return together(self, points, split)

    monkeypatch.setattr(TextProblem, "read_split", read_split)
    result = tune(llama, tmp_path / "run")
    assert [count for split, count in asked if split == "test"] == [3] and len(result.finals) == 3
    assert sum(final.score.cost.scored_examples for final in result.finals.values()) == 3 * len(pairs("test"))


def test_a_stop_between_two_readings_of_test_changes_no_reading(llama, tmp_path, monkeypatch):
    """What is scored together may differ by rounding from what is scored with fewer, so all are scored again, and none recorded twice."""
    from maao.problems.text_problem import TextProblem
    from maao.store.run import RunFolder

    together = TextProblem.score

    def score(self, points, split):  # a loss that shows how many were scored together
        return tuple(replace(score, loss=score.loss + len(points)) for score in together(self, points, split))

    monkeypatch.setattr(TextProblem, "score", score)
    whole = tune(llama, tmp_path / "whole")
    record = RunFolder.record_final

    def stop_at_the_second(self, name, *rest):
        if name == "chosen":
            raise KeyboardInterrupt
        record(self, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "record_final", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            tune(llama, tmp_path / "run")
    before = maao.load(tmp_path / "run").finals
    result = maao.resume(tmp_path / "run")
    assert list(before) == ["untuned"] and result.finals["untuned"] == before["untuned"]
    assert {n: f.score.loss for n, f in result.finals.items()} == {n: f.score.loss for n, f in whole.finals.items()}


def test_label_words_may_differ_from_labels_and_fix_their_order(llama, tmp_path):
    result = tune(llama, tmp_path / "run", labels={"sport": "team", "music": "song", "business": "bank"})
    assert list(result.predict(["a"])[0].probabilities) == ["sport", "music", "business"]
    assert result.config.model.kind.options.label_words == {"sport": "team", "music": "song", "business": "bank"}


def test_labels_alone_fix_the_order(llama, tmp_path):
    result = tune(llama, tmp_path / "run", labels=["music", "sport", "business"])
    assert list(result.predict(["a"])[0].probabilities) == ["music", "sport", "business"]


def test_a_template_may_have_several_fields(llama, tmp_path):
    def split(name):
        return [{"head": text.split()[0], "body": text.split()[1] + " news", "label": label} for text, label in pairs(name)]

    given = {name: split(name) for name in ("train", "select", "test")}
    result = tune(llama, tmp_path / "run", template="{head} {slots} {body} Topic:", **given)
    assert result.fields == ("head", "body")
    found = result.predict([{"head": "music", "body": "film", "more": "not read"}, {"body": "film", "head": "music"}])
    assert found[0].label in LABELS and found[0].probabilities == pytest.approx(found[1].probabilities)
    with pytest.raises(DataError, match=r'a mere text is not enough, .* reads head, body: give mappings \{"head": "...", "body": "..."\}'):
        result.predict(["music film"])
    with pytest.raises(DataError, match=r"number 1 \(it has no 'body', which the template reads; it has: 'head'\)"):
        result.predict([{"head": "music"}])


def test_a_mere_text_stands_for_the_templates_only_field_whatever_its_name(llama, tmp_path):
    given = {name: [{"headline": text, "label": label} for text, label in pairs(name)] for name in ("train", "select", "test")}
    result = tune(llama, tmp_path / "run", template="{headline} {slots} Topic:", **given)
    plain, named, example = result.predict(["music film", {"headline": "music film"}, Example({"headline": "music film"}, "sport")])
    assert plain.probabilities == pytest.approx(named.probabilities)
    assert plain.probabilities == pytest.approx(example.probabilities)  # its label is not looked at


@pytest.mark.parametrize(
    ("train", "told"),
    [
        ([("a", "x"), "text alone"], "`train`, example 2: it is 'text alone': give pairs"),
        ([("a", "x", "more")], "`train`, example 1: it is a tuple"),
        ([{"text": "a"}], "there is no column 'label'"),
        ([(0.5, "x")], "example 1 (the field 'text' is the number 0.5, not text)"),
        ([], "train is empty"),
        ([("a", "x"), ("b", "x")], "one class only"),
    ],
)
def test_examples_that_cannot_be_used_are_named(llama, tmp_path, train, told):
    with pytest.raises(DataError) as error:
        tune(llama, tmp_path / "run", train=train, select=None, test=None)
    assert told in str(error.value)
    assert not (tmp_path / "run").exists()


def test_the_run_folder_is_a_new_one_by_default(llama, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = (tune(llama, None, seed=3, test=None) for _ in range(2))
    assert [r.folder.as_posix() for r in (first, second)] == ["runs/tune-seed3", "runs/tune-seed3-2"]
    assert digests(first) == digests(second)


def test_a_relative_model_folder_can_be_used_from_elsewhere(llama, tmp_path, monkeypatch):
    monkeypatch.chdir(llama.parent)
    result = tune(llama.name, tmp_path / "run", test=None)
    monkeypatch.chdir("/")
    assert maao.load(result.folder).predict(["music film"])[0].label in LABELS


def test_another_seed_begins_elsewhere(llama, tmp_path):
    a, b = (tune(llama, tmp_path / f"run{seed}", seed=seed) for seed in (0, 1))
    assert not torch.equal(a.history[0].state.params["prompt"], b.history[0].state.params["prompt"])


def test_settings_are_checked_like_a_config(llama, tmp_path):
    with pytest.raises(ConfigError, match=r"unknown key 'stage.rate'"):
        tune(llama, tmp_path / "run", settings={"stage.rate": 1})
    with pytest.raises(ConfigError, match="input should be a valid integer"):
        tune(llama, tmp_path / "run", settings={"seed.x": 1})


def test_free_folder_numbers_what_is_taken(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a-2").mkdir()
    with free_folder(tmp_path, "a") as place:
        assert place.name == "a-3"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a-2"]  # no run was made


def test_two_that_begin_at_once_get_a_folder_each(tmp_path, monkeypatch):
    """Here the second begins while the first one reads its data: a process that is killed then leaves its folder to the next."""
    from maao.store.listing import list_runs

    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        with free_folder(tmp_path / "runs", "tune-seed0") as place:
            os.write(writer, place.name.encode())
            signal.pause()
    try:
        assert os.read(reader, 100) == b"tune-seed0"
        assert list_runs(tmp_path / "runs") == ()
        with free_folder(tmp_path / "runs", "tune-seed0") as place:
            assert place.name == "tune-seed0-2"
            made = maao.run(make_config({"problem": "function", "threads": 1, "plan": {"rounds": 1, "steps": 1}}), place)
        assert made.folder == tmp_path / "runs" / "tune-seed0-2" and maao.load(made.folder).status == "finished"
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(reader)
        os.close(writer)
    with free_folder(tmp_path / "runs", "tune-seed0") as place:
        assert place.name == "tune-seed0"


# -- kinds of run


def test_an_encoder_with_a_head_is_tuned_and_used(model_folder, tmp_path):
    result = tune(model_folder("bert"), tmp_path / "run", template="{slots} {text}")
    assert set(result.params) == {"prompt", "head.weight", "head.bias"}
    assert result.predict(["music film"])[0].label in LABELS
    assert maao.load(result.folder).predict(["music film"])[0].probabilities == pytest.approx(
        result.predict(["music film"])[0].probabilities, rel=1e-5
    )


def test_plain_prompt_tuning_asks_nobody(llama, tmp_path):
    result = tune(llama, tmp_path / "run", mentor="none")
    assert not any(r.leg.ask for r in result.history)
    assert result.cost.llm_calls == 0


@pytest.mark.parametrize("mentor", ["random_restart", "reproject", {"name": "scripted", "texts": ["music team", "sport"]}], ids=str)
def test_mentors_that_do_not_speak_propose(llama, tmp_path, mentor):
    result = tune(llama, tmp_path / "run", mentor=mentor)
    assert result.history[2].advice.proposals
    assert maao.replay(result.folder).equal


@pytest.mark.parametrize("initial", ["normal", "labels", "vocabulary"])
def test_every_beginning_can_be_read_out_at_the_end(llama, tmp_path, initial):
    result = tune(llama, tmp_path / "run", settings={"model.initial": initial})
    assert "untuned" in result.finals


def test_a_function_is_tuned_and_has_nothing_to_predict(tmp_path):
    config = maao.Config(problem="function", mentor={"name": "random_restart"}, plan={"rounds": 2, "steps": 5, "store_every": 0})
    result = maao.run(config, tmp_path / "run")
    assert result.chosen.score.loss <= result.history[0].score.loss
    assert result.finals == {} and result.text
    for use in (lambda: result.predict(["x"]), lambda: result.save(tmp_path, "text")):
        with pytest.raises(ConfigError, match="tunes the function rastrigin: it has nothing to predict or export"):
            use()
    assert maao.replay(result.folder).equal


def test_a_language_model_can_be_the_mentor_of_a_function(tmp_path):
    mentor = {"retries": 0, "chat": {"provider": "scripted", "replies": ["1. 0.1 0.2\n2. 9\n3. -1 0.5"]}}
    config = maao.Config(problem="function", mentor=mentor, plan={"rounds": 1, "steps": 3, "store_every": 0})
    result = maao.run(config, tmp_path / "run")
    asked = result.history[-1].advice
    assert [p.text for p in asked.proposals] == ["0.1 0.2", "-1 0.5"]
    assert [r.text for r in asked.rejected] == ["9"]


# -- a mentor of one's own


class Echo:
    """Proposes the prompt of the last round, moved a little, and remembers nothing."""

    def propose(self, history, *, count, seed):
        prompt = history[-1].state.params["prompt"]
        return Advice(tuple(Proposal(f"moved by {i}", {"prompt": prompt + 0.01 * i}, "echo") for i in range(1, count + 1)))


def test_a_mentor_of_ones_own_is_asked(llama, tmp_path):
    result = tune(llama, tmp_path / "run", mentor=Echo())
    assert [p.text for p in result.history[2].advice.proposals] == ["moved by 1", "moved by 2"]
    assert result.config.mentor.name == "custom"


def test_a_run_with_a_mentor_of_ones_own_goes_on_only_with_it(llama, tmp_path):
    whole = tune(llama, tmp_path / "whole", mentor=Echo(), rounds=2)

    with pytest.raises(KeyboardInterrupt):
        tune(llama, tmp_path / "run", mentor=Echo(), rounds=2, watch=StopAt(2))
    assert maao.load(tmp_path / "run").status == "stopped"
    with pytest.raises(ConfigError, match=r"a mentor of your own: resume it from Python"):
        maao.resume(tmp_path / "run")
    assert digests(maao.resume(tmp_path / "run", mentor=Echo())) == digests(whole)
    with pytest.raises(ConfigError, match="replay it from Python"):
        maao.replay(tmp_path / "run")
    assert maao.replay(tmp_path / "run", mentor=Echo()).equal


def test_another_mentor_than_the_runs_own_is_refused(result):
    with pytest.raises(ConfigError, match="began with the mentor 'language_model' of its config"):
        maao.replay(result.folder, mentor=Echo())


def test_a_run_that_goes_on_has_its_mentor_made_once(llama, tmp_path):
    made = []

    def make(run):
        made.append(run)
        return Echo()

    with pytest.raises(KeyboardInterrupt):
        tune(llama, tmp_path / "run", mentor=make, watch=StopAt(0))
    begun = len(made)
    assert maao.resume(tmp_path / "run", mentor=make).status == "finished" and len(made) == begun + 1


def test_a_mentor_of_ones_own_takes_the_place_of_no_other_in_silence(llama, tmp_path):
    with pytest.raises(ConfigError, match=r"takes the place of the config's, whose mentor.name, mentor.listing would be ignored"):
        tune(llama, tmp_path / "run", mentor=Echo(), settings={"mentor.listing": 3})
    assert not (tmp_path / "run").exists()


def test_what_cannot_propose_is_no_mentor(llama, tmp_path):
    with pytest.raises(ConfigError, match=r"an object with a method `propose`, or a function .*; got 3"):
        tune(llama, tmp_path / "run", mentor=3)
    assert not (tmp_path / "run").exists()


class Asking:
    """Asks a chat model of its own for a number, and moves the prompt of the last round by it."""

    def __init__(self, model):
        self.model = model

    def propose(self, history, *, count, seed):
        try:
            text = self.model.complete(Request(self.model.name, (Message("user", f"round {len(history)}"),), seed=seed)).text
        except ChatError as error:
            return Advice(rejected=(no_reply(error),))
        return Advice((Proposal(text, {"prompt": history[-1].state.params["prompt"] + float(text)}, "asking"),))


def live(request):
    """Another answer each time: a model that is really asked."""
    live.calls += 1
    return f"0.0{live.calls}"


def recorded_mentor(parts):
    return Asking(parts.record(Scripted(live, "live")))


def test_a_mentor_of_ones_own_may_have_its_model_recorded_and_is_replayed_from_the_record(llama, tmp_path):
    live.calls = 0
    asked = []

    class Calls(maao.Watch):
        def call(self, request):
            asked.append(request)

    result = tune(llama, tmp_path / "run", mentor=recorded_mentor, rounds=2, watch=Calls())
    assert [p.text for r in result.history for p in r.advice.proposals] == ["0.01", "0.02"]
    assert len(asked) == 2 and result.config.mentor.name == "custom"
    found = maao.replay(result.folder, mentor=recorded_mentor)
    assert found.equal and found.llm_calls == 0 and live.calls == 2


def test_the_model_of_a_mentor_of_ones_own_is_held_to_the_caps(llama, tmp_path):
    live.calls = 0
    result = tune(llama, tmp_path / "run", mentor=recorded_mentor, rounds=2, settings={"budget.llm_calls": 1})
    assert live.calls == 1 and result.status_reason == "the budget kept the mentor from being asked once"
    found = maao.replay(result.folder, mentor=recorded_mentor)
    assert found.equal and found.llm_calls == 0 and live.calls == 1


def test_a_replay_does_not_claim_to_know_what_an_unrecorded_mentor_asked(llama, tmp_path):
    result = tune(llama, tmp_path / "run", mentor=Echo())
    found = maao.replay(result.folder, mentor=Echo())
    assert found.equal and found.llm_calls is None


def test_a_class_makes_its_mentor_from_the_parts(llama, tmp_path):
    class Rewrite:
        def __init__(self, parts):
            self.codec = parts.codec

        def propose(self, history, *, count, seed):
            return Advice((Proposal("music team", self.codec.encode("music team").params, "rewrite"),))

    result = tune(llama, tmp_path / "run", mentor=Rewrite)
    assert [p.text for p in result.history[2].advice.proposals] == ["music team"]


def test_a_config_cannot_name_a_mentor_of_ones_own(llama, tmp_path):
    with pytest.raises(ConfigError, match="start the run from Python, with mentor="):
        tune(llama, tmp_path / "run", mentor="custom")


# -- examples in memory


def test_examples_from_memory_are_kept_in_the_run_folder(result):
    assert result.config.texts.source == IN_RUN
    assert (result.folder / "examples.json").is_file()
    assert maao.replay(result.folder).equal


def test_splits_made_by_hand_are_kept_with_the_hash_of_what_they_hold(llama, tmp_path):
    splits = Splits(tuple(examples("train")), tuple(examples("select")), tuple(examples("test")), LABELS)
    config = maao.load(tune(llama, tmp_path / "first").folder).config
    result = maao.run(config, tmp_path / "run", splits=splits)
    assert result.environment["data"].startswith("sha256:")
    assert maao.replay(result.folder).equal


def test_examples_with_choices_are_kept_whole_and_can_be_predicted(llama, tmp_path):
    def part(*words):
        return tuple(Example({"text": word}, str(i % 2), choices=("good news", "bad news")) for i, word in enumerate(words))

    splits = Splits(part("music", "film", "song"), part("team", "match"), part("bank", "world"), ("0", "1"))
    settings = config(llama, {}, data__test_size=None, mentor__name="none")
    result = maao.run(settings, tmp_path / "run", splits=splits)
    assert maao.replay(result.folder).equal  # read back from the run folder
    (one,) = maao.load(result.folder).predict(part("film"))
    assert set(one.probabilities) == {"0", "1"}


def test_splits_that_overlap_are_refused(llama, tmp_path):
    splits = Splits((Example({"text": "a"}, "music"), Example({"text": "b"}, "sport")), (Example({"text": "a"}, "music"),), (), LABELS)
    config = maao.load(tune(llama, tmp_path / "first").folder).config
    with pytest.raises(DataError, match="share 1 example"):
        maao.run(config, tmp_path / "run", splits=splits)


def test_kept_examples_that_were_changed_are_refused(llama, tmp_path):
    result = tune(llama, tmp_path / "run")
    file = result.folder / "examples.json"
    file.write_text(file.read_text(encoding="utf-8").replace(f'"{pairs("train")[0][0]}"', '"other news"'), encoding="utf-8")
    with pytest.raises(StoreError, match="The data has changed"):
        maao.replay(result.folder)
    file.unlink()
    with pytest.raises(StoreError, match=r"examples.json is missing"):
        maao.replay(result.folder)


def test_notes_are_not_told_twice_when_a_run_goes_on(llama, tmp_path):
    long = [(f"{text} " * 60, label) for text, label in pairs("train")]

    first, again = Notes(), Notes()
    result = tune(llama, tmp_path / "run", train=long, watch=first)
    assert sum("were cut to fit the context" in note for note in first.notes) == 1
    maao.replay(result.folder, watch=again)
    assert again.notes == first.notes


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model.template": "{slots} {text}"}, r"`settings` names 'model.template', which the argument `template` says: give it there"),
        ({"plan": {"rounds": 2}}, "names 'plan', which the argument `rounds` says"),
        ({"mentor.name": "perturb"}, "the argument `mentor` says"),
    ],
)
def test_a_setting_that_an_argument_says_is_refused(llama, tmp_path, settings, told):
    with pytest.raises(ConfigError, match=told):
        tune(llama, tmp_path / "run", mentor="none", template="{text} {slots} Topic:", settings=settings)


def test_another_source_of_pictures_than_the_argument_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"names 'data.source', which the argument `images` says"):
        maao.tune_images(tmp_path, settings={"data.source": "emoji"})


def test_an_unknown_kind_is_told_with_the_nearest_one():
    with pytest.raises(ConfigError, match=r"kind='matchr': there is no kind of that name. Did you mean 'matcher'\?"):
        maao.tune(kind="matchr", train=pairs("train"))


def test_a_point_that_was_not_read_on_test_is_told(llama, tmp_path):
    result = tune(llama, tmp_path / "run", test=None, mentor="none", rounds=1, steps=1)
    assert result.finals == {} and result.finals.get("chosen") is None
    with pytest.raises(KeyError, match="'chosen' was read on test; the run has no test"):
        result.finals["chosen"]

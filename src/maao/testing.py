"""Conformance suites: what every implementation of a protocol owes. The author of a new one subclasses its suite and gives fixtures.

Example (in a test file):

    class TestMyMentor(MentorConformance):
        @pytest.fixture
        def mentor(self): return MyMentor()

The suites need pytest; nothing else in maao does. Fixtures named in a suite's docstring must be given by the subclass.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Protocol

import pytest

from maao.core.loop import alternate
from maao.core.plan import Plan, rounds
from maao.data.task import cloze_examples, examples_of, task_named
from maao.errors import DataError
from maao.evaluation.metrics import measure
from maao.llm.chat import Message, Request, Style
from maao.protocols import Acceptance, Averages, ChatModel, Codec, GradientStage, History, Mentor, Params, Problem, Proposals, Serializer
from maao.store.digest import params_digest, round_digest
from maao.types import Advice, Cost, Example, P, S, Split, Verdict

SMALL_PLAN: Plan = rounds(2, steps=2, store_every=1, proposals=2)


def assert_same_history(first: History[P, S], second: History[P, S], serializer: Serializer[P, S]) -> None:
    """Fail unless two histories are equal bit for bit (times apart), and name the first round that differs."""
    assert len(first) == len(second), f"{len(first)} rounds against {len(second)}"
    for a, b in zip(first, second, strict=True):
        assert round_digest(a, serializer) == round_digest(b, serializer), f"round {a.index} differs"


class ProblemConformance:
    """Fixtures: `problem`, `serializer`; `splits` may be overridden."""

    @pytest.fixture
    def splits(self) -> tuple[Split, ...]:
        return ("train", "select", "test")

    def test_same_seed_gives_same_start(self, problem: Problem[P], serializer: Serializer[P, S]) -> None:
        assert params_digest(problem.initial(3), serializer) == params_digest(problem.initial(3), serializer)

    def test_other_seed_gives_other_start(self, problem: Problem[P], serializer: Serializer[P, S]) -> None:
        assert params_digest(problem.initial(3), serializer) != params_digest(problem.initial(4), serializer)

    def test_batch_depends_on_step_and_seed_only(self, problem: Problem[P]) -> None:
        params = problem.initial(0)
        later = [float(problem.loss(params, problem.batch(step, 1))) for step in (2, 0, 1)]
        assert [float(problem.loss(params, problem.batch(step, 1))) for step in (2, 0, 1)] == later

    def test_loss_is_a_finite_scalar(self, problem: Problem[P]) -> None:
        loss = problem.loss(problem.initial(0), problem.batch(0, 0))
        assert loss.dim() == 0 and math.isfinite(float(loss))

    def test_num_tokens_is_positive(self, problem: Problem[P]) -> None:
        assert problem.num_tokens(problem.initial(0), problem.batch(0, 0)) > 0

    def test_score_is_deterministic_and_changes_nothing(
        self, problem: Problem[P], serializer: Serializer[P, S], splits: tuple[Split, ...]
    ) -> None:
        params = problem.initial(0)
        before = params_digest(params, serializer)
        for split in splits:
            assert problem.score([params], split) == problem.score([params], split)
        assert params_digest(params, serializer) == before

    def test_every_point_is_scored_in_its_order(self, problem: Problem[P], splits: tuple[Split, ...]) -> None:
        points = [problem.initial(0), problem.initial(1), problem.initial(0)]
        for split in splits:
            together = problem.score(points, split)
            alone = [problem.score([point], split)[0] for point in points]
            assert [score.loss for score in together] == pytest.approx([score.loss for score in alone], rel=1e-4)
            assert together[0].loss == together[2].loss

    def test_a_look_is_counted_on_select_only(self, problem: Problem[P], splits: tuple[Split, ...]) -> None:
        params = problem.initial(0)
        assert [problem.score([params], split)[0].cost.selection_evals for split in splits] == [int(split == "select") for split in splits]

    def test_clues_are_deterministic(self, problem: Problem[P]) -> None:
        params = problem.initial(0)
        assert problem.clues(params, start=problem.initial(1)) == problem.clues(params, start=problem.initial(1))

    def test_a_given_score_changes_no_clue(self, problem: Problem[P]) -> None:
        params = problem.initial(0)
        given = problem.clues(params, score=problem.score([params], "select")[0])
        own = problem.clues(params)
        assert (given.projection, given.nearest, given.confusions) == (own.projection, own.nearest, own.confusions)


class AveragingProblem(Problem[P], Averages[P], Protocol[P]):
    """A problem that reads several points as one."""


class AveragesConformance:
    """Of a problem that reads several points as one. Fixtures: `averages` (the problem), `points` (three or more), `serializer`."""

    def test_an_average_of_one_point_is_that_point(
        self, averages: AveragingProblem[P], points: tuple[P, ...], serializer: Serializer[P, S]
    ) -> None:
        assert params_digest(averages.average(points[:1], [3]), serializer) == params_digest(points[0], serializer)

    def test_an_average_of_a_point_with_itself_says_what_it_says(self, averages: AveragingProblem[P], points: tuple[P, ...]) -> None:
        twice, alone = averages.score([averages.average([points[0], points[0]], [1, 2]), points[0]], "select")
        assert twice.loss == pytest.approx(alone.loss, rel=1e-5) and twice.metrics == alone.metrics
        assert twice.cost.model_tokens >= alone.cost.model_tokens  # as many passes, or what is shared is read once

    def test_a_point_that_counts_more_weighs_more(self, averages: AveragingProblem[P], points: tuple[P, ...]) -> None:
        a, b = points[:2]
        often, again = averages.score([averages.average([a, b], [2, 1]), averages.average([a, b, a], [1, 1, 1])], "select")
        assert often.loss == pytest.approx(again.loss, rel=1e-5)

    def test_an_average_is_no_worse_than_its_members_in_the_mean(self, averages: AveragingProblem[P], points: tuple[P, ...]) -> None:
        whole, *each = averages.score([averages.average(points, [1] * len(points)), *points], "select")
        assert whole.loss <= sum(score.loss for score in each) / len(each) + 1e-5  # log-loss is convex in class scores

    def test_what_is_picked_is_no_worse_than_any_point(self, averages: AveragingProblem[P], points: tuple[P, ...]) -> None:
        counts, cost = averages.pick(points, 5)
        used = [(point, count) for point, count in zip(points, counts, strict=True) if count]
        whole, *each = averages.score([averages.average(*zip(*used, strict=True)), *points], "select")
        assert sum(counts) == 5 and cost.selection_evals == len(points)
        assert whole.loss <= min(score.loss for score in each) + 1e-5

    def test_what_is_averaged_twice_counts_walk_by_walk(
        self, averages: AveragingProblem[P], points: tuple[P, ...], serializer: Serializer[P, S]
    ) -> None:
        nested = averages.average([averages.average(points[:2], [1, 2]), *points[2:]], [2, *[1] * len(points[2:])])
        flat = averages.average(points, [2, 4, *[1] * len(points[2:])])
        assert params_digest(nested, serializer) == params_digest(flat, serializer)

    def test_the_first_point_can_be_walked_on_from(self, averages: AveragingProblem[P], points: tuple[P, ...]) -> None:
        batch = averages.batch(0, 0)
        assert float(averages.loss(averages.average(points, [1] * len(points)), batch)) == float(averages.loss(points[0], batch))


class CodecConformance:
    """Fixtures: `codec`, `texts` (to encode), `points` (params to put into words), `serializer`."""

    def test_decoding_an_encoded_text_gives_that_text(self, codec: Codec[P], texts: tuple[str, ...]) -> None:
        for text in texts:
            encoded = codec.encode(text)
            assert codec.decode(encoded.params).text == encoded.text

    def test_words_of_a_point_survive_another_round(self, codec: Codec[P], points: tuple[P, ...]) -> None:
        for point in points:
            words = codec.decode(point).text
            assert words is not None and codec.decode(codec.encode(words).params).text == codec.encode(words).text

    def test_encoding_is_deterministic(self, codec: Codec[P], texts: tuple[str, ...], serializer: Serializer[P, S]) -> None:
        for text in texts:
            assert params_digest(codec.encode(text).params, serializer) == params_digest(codec.encode(text).params, serializer)

    def test_a_random_start_depends_on_its_seed_only(self, codec: Codec[P], serializer: Serializer[P, S]) -> None:
        first, again, other = (params_digest(codec.random(seed), serializer) for seed in (3, 3, 4))
        assert first == again != other

    def test_a_random_start_names_what_a_text_replaces(self, codec: Codec[Params], texts: tuple[str, ...]) -> None:
        assert set(codec.random(0)) == set(codec.encode(texts[0]).params)

    def test_the_whole_way_between_two_points_is_the_second(
        self, codec: Codec[P], points: tuple[P, ...], serializer: Serializer[P, S]
    ) -> None:
        old, new = points[:2]
        assert params_digest(codec.blend(old, new, 1.0), serializer) == params_digest(new, serializer)

    def test_what_cannot_be_filled_is_refused(self, codec: Codec[P], texts: tuple[str, ...]) -> None:
        from maao.errors import CodecError

        with pytest.raises(CodecError):
            codec.encode(texts[0], {"no such field": "x"})

    def test_empty_text_is_refused(self, codec: Codec[P]) -> None:
        from maao.errors import CodecError

        with pytest.raises(CodecError):
            codec.encode("   ")


class StageConformance:
    """Fixtures: `problem`, `stage`, `serializer`."""

    def test_step_leaves_the_old_state_as_it_was(
        self, problem: Problem[P], stage: GradientStage[P, S], serializer: Serializer[P, S]
    ) -> None:
        state, _ = stage.step(problem, stage.init(problem, problem.initial(0), seed=0))
        before = _dumped(state, serializer)
        stage.step(problem, state)
        assert _dumped(state, serializer) == before

    def test_same_state_gives_same_step(self, problem: Problem[P], stage: GradientStage[P, S], serializer: Serializer[P, S]) -> None:
        state, _ = stage.step(problem, stage.init(problem, problem.initial(0), seed=0))
        (a, seen_a), (b, seen_b) = stage.step(problem, state), stage.step(problem, state)
        assert _dumped(a, serializer) == _dumped(b, serializer) and seen_a == seen_b

    def test_stored_state_goes_on_like_the_state_itself(
        self, problem: Problem[P], stage: GradientStage[P, S], serializer: Serializer[P, S]
    ) -> None:
        state = stage.init(problem, problem.initial(0), seed=0)
        for _ in range(3):
            state, _ = stage.step(problem, state)
        restored = serializer.load_state(*serializer.dump_state(state))
        for _ in range(2):
            (state, a), (restored, b) = stage.step(problem, state), stage.step(problem, restored)
            assert a == b
        assert _dumped(state, serializer) == _dumped(restored, serializer)

    def test_observation_holds_the_loss_at_the_point_it_names(self, problem: Problem[P], stage: GradientStage[P, S]) -> None:
        state = stage.init(problem, problem.initial(0), seed=0)
        for step in range(3):
            batch = problem.batch(state.step, 0)
            after, seen = stage.step(problem, state, keep=True)
            assert seen.params is not None
            assert seen.step == step and seen.loss == pytest.approx(float(problem.loss(state.params, batch)), rel=1e-6)
            assert float(problem.loss(seen.params, batch)) == float(problem.loss(state.params, batch))
            state = after

    def test_restart_moves_to_the_given_params_and_begins_a_new_walk(
        self, problem: Problem[P], stage: GradientStage[P, S], serializer: Serializer[P, S]
    ) -> None:
        state, _ = stage.step(problem, stage.init(problem, problem.initial(0), seed=0))
        target = problem.initial(9)
        moved = stage.restart(state, target, seed=5)
        assert params_digest(moved.params, serializer) == params_digest(target, serializer)
        assert params_digest(moved.start, serializer) == params_digest(target, serializer)
        assert (moved.age, moved.step) == (0, state.step)


class AcceptanceConformance:
    """Fixtures: `problem`, `stage`, `accept`, `proposals`, `serializer`."""

    def _judge(
        self, problem: Problem[P], stage: GradientStage[P, S], accept: Acceptance[P, S], proposals: Proposals
    ) -> tuple[S, Verdict[S]]:
        state = stage.init(problem, problem.initial(0), seed=0)
        return state, accept(problem, stage, (), state, proposals, seed=7)

    def test_same_proposals_get_the_same_verdict(
        self, problem: Problem[P], stage: GradientStage[P, S], accept: Acceptance[P, S], proposals: Proposals, serializer: Serializer[P, S]
    ) -> None:
        (_, a), (_, b) = self._judge(problem, stage, accept, proposals), self._judge(problem, stage, accept, proposals)
        assert (a.chosen, _considered(a), a.reason, a.cost) == (b.chosen, _considered(b), b.reason, b.cost)
        assert _dumped(a.state, serializer) == _dumped(b.state, serializer)

    def test_without_proposals_the_incumbent_goes_on(
        self, problem: Problem[P], stage: GradientStage[P, S], accept: Acceptance[P, S], serializer: Serializer[P, S]
    ) -> None:
        state, verdict = self._judge(problem, stage, accept, ())
        assert verdict.chosen is None and verdict.reason and verdict.cost == Cost()
        assert _dumped(verdict.state, serializer) == _dumped(state, serializer)

    def test_verdict_says_why_and_counts_every_look(
        self, problem: Problem[P], stage: GradientStage[P, S], accept: Acceptance[P, S], proposals: Proposals
    ) -> None:
        _, verdict = self._judge(problem, stage, accept, proposals)
        assert verdict.reason
        assert verdict.cost.selection_evals == len(verdict.considered)

    def test_judging_takes_no_more_steps_than_it_says(
        self, problem: Problem[P], stage: GradientStage[P, S], accept: Acceptance[P, S], proposals: Proposals
    ) -> None:
        _, verdict = self._judge(problem, stage, accept, proposals)
        assert verdict.cost.gradient_steps <= accept.max_steps(len(proposals))


class MentorConformance:
    """Fixtures: `mentor`, `history` (of at least two rounds that asked), `problem`, `stage`, `accept`, `serializer`."""

    def test_same_history_and_seed_give_same_advice(self, mentor: Mentor[P], history: History[P, S], serializer: Serializer[P, S]) -> None:
        a, b = (mentor.propose(history, count=2, seed=11) for _ in range(2))
        assert _advice(a, serializer) == _advice(b, serializer)

    def test_does_not_change_history(self, mentor: Mentor[P], history: History[P, S], serializer: Serializer[P, S]) -> None:
        before = [round_digest(r, serializer) for r in history]
        mentor.propose(history, count=2, seed=11)
        assert [round_digest(r, serializer) for r in history] == before

    @pytest.mark.parametrize("count", [1, 2, 5])
    def test_returns_at_most_count_proposals(self, mentor: Mentor[P], history: History[P, S], count: int) -> None:
        assert len(mentor.propose(history, count=count, seed=1).proposals) <= count

    @pytest.mark.parametrize("length", [0, 1])
    def test_accepts_a_short_history(self, mentor: Mentor[P], history: History[P, S], length: int) -> None:
        assert isinstance(mentor.propose(history[:length], count=2, seed=1), Advice)

    def test_every_proposal_can_be_started_from(
        self, mentor: Mentor[P], history: History[P, S], problem: Problem[P], stage: GradientStage[P, S]
    ) -> None:
        for proposal in mentor.propose(history, count=2, seed=1).proposals:
            state = stage.restart(history[-1].state, proposal.params, seed=0)
            assert math.isfinite(stage.step(problem, state)[1].loss)
            assert (proposal.text or proposal.fields) and proposal.source

    def test_resumed_run_equals_uninterrupted_run_at_every_leg(
        self, mentor: Mentor[P], problem: Problem[P], stage: GradientStage[P, S], accept: Acceptance[P, S], serializer: Serializer[P, S]
    ) -> None:
        def run(history: History[P, S] = ()) -> History[P, S]:
            return (*history, *alternate(problem, stage, mentor, plan=SMALL_PLAN, accept=accept, seed=5, history=history))

        whole = run()
        for stop_after in range(len(SMALL_PLAN)):
            assert_same_history(run(whole[:stop_after]), whole, serializer)


class ChatModelConformance:
    """Fixtures: `model` (which can reply to anything), `style` ("chat" or "completion")."""

    @pytest.fixture
    def style(self) -> Style:
        return "chat"

    def _request(self, model: ChatModel, style: Style) -> Request:
        return Request(model.name, (Message("user", "The best music is"),), style=style, max_tokens=8, seed=1)

    def test_reply_names_its_model_and_counts_tokens(self, model: ChatModel, style: Style) -> None:
        reply = model.complete(self._request(model, style))
        assert isinstance(reply.text, str) and reply.model
        assert reply.usage.input_tokens >= 0 and reply.usage.output_tokens >= 0

    def test_equal_requests_get_equal_replies(self, model: ChatModel, style: Style) -> None:
        assert model.complete(self._request(model, style)) == model.complete(self._request(model, style))


class MetricConformance:
    """Fixtures: `metric` (its name in a config), `examples` (of at least two classes), `labels`, and `better`: "higher" or "lower"."""

    @pytest.fixture
    def better(self) -> str:
        return "higher"

    def _scores(self, examples: Sequence[Example], labels: Sequence[str]) -> list[list[float]]:
        """Return scores that answer some examples rightly and some wrongly, none of them sure."""
        return [[(7 * i + 3 * j) % 5 - 2.0 for j in range(len(labels))] for i in range(len(examples))]

    def test_is_one_finite_number_and_the_same_each_time(self, metric: str, examples: Sequence[Example], labels: Sequence[str]) -> None:
        scores = self._scores(examples, labels)
        first, again = (measure((metric,), examples, labels, scores)[metric] for _ in range(2))
        assert isinstance(first, float) and math.isfinite(first) and first == again

    def test_the_order_of_examples_is_of_no_matter(self, metric: str, examples: Sequence[Example], labels: Sequence[str]) -> None:
        scores = self._scores(examples, labels)
        back = measure((metric,), examples[::-1], labels, scores[::-1])[metric]
        assert math.isclose(measure((metric,), examples, labels, scores)[metric], back, abs_tol=1e-12)

    def test_right_answers_are_better_than_wrong_ones(
        self, metric: str, examples: Sequence[Example], labels: Sequence[str], better: str
    ) -> None:
        right = [[9.0 if label == example.label else 0.0 for label in labels] for example in examples]
        wrong = [[-score for score in row] for row in right]
        good, bad = (measure((metric,), examples, labels, scores)[metric] for scores in (right, wrong))
        assert good < bad if better == "lower" else good > bad


class TaskConformance:
    """Fixtures: `task` (its name in a config) and `rows` (some as they are published, at least one)."""

    def test_wordings_have_slots_and_the_cloze_an_answer(self, task: str) -> None:
        found = task_named(task)
        assert found.labels and len(set(found.labels)) == len(found.labels)
        assert "{slots}" in found.pair and "{slots}" in found.cloze and found.cloze.endswith("{mask}")
        assert not found.label_words or set(found.label_words) == set(found.labels)

    def test_rows_become_examples_of_its_classes(self, task: str, rows: Sequence[Mapping[str, object]]) -> None:
        found, examples = task_named(task), examples_of(task, rows)
        assert len(examples) >= len(rows) and {example.label for example in examples} <= set(found.labels)
        assert examples_of(task, rows) == examples

    def test_examples_have_the_fields_that_the_wordings_read(self, task: str, rows: Sequence[Mapping[str, object]]) -> None:
        found, examples = task_named(task), examples_of(task, rows)
        for wording, worded in ((found.pair, examples), (found.cloze, cloze_examples(task, examples))):
            fields = {*re.findall(r"\{(\w+)\}", wording)} - {"slots", "mask", "sep", "choice"}
            assert all(fields <= {*example.fields} for example in worded)

    def test_a_row_without_its_columns_is_told(self, task: str, rows: Sequence[Mapping[str, object]]) -> None:
        with pytest.raises(DataError):
            examples_of(task, [*rows, {"label": rows[0].get("label")}])


def _dumped(state: S, serializer: Serializer[P, S]) -> object:
    arrays, meta = serializer.dump_state(state)
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}, meta


def _considered(verdict: Verdict[S]) -> object:
    """Return what a verdict looked at; losses as text, since NaN equals nothing."""
    return [(c.proposal, c.age, repr(c.score.loss), c.score.metrics, c.score.cost) for c in verdict.considered]


def _advice(advice: Advice[P], serializer: Serializer[P, S]) -> object:
    told = [(p.text, p.source, p.note, p.fields, params_digest(p.params, serializer)) for p in advice.proposals]
    return told, advice.rejected, advice.cost

"""The soft-prompt problem: label words, heads, batches, starts, notes and clues, on tiny models."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from maao.build_text import build_language
from maao.codecs.nearest_token import NearestTokenCodec
from maao.config import make_config
from maao.errors import ConfigError, ModelError, ProblemError
from maao.problems.clues import gradient
from maao.problems.scorers.head import PooledHead
from maao.problems.scorers.label_words import label_word_ids
from maao.problems.towers.text import probes
from maao.problems.towers.text.forward import embedding_table
from maao.problems.towers.text.template import Template, TemplateTokenizer
from maao.types import Clues, Example, Splits
from tests.conformance.parts import ROWS, kept_problem, soft_prompt_problem
from tests.tiny import LABELS, tiny_model, tiny_splits

LLAMA = ("llama", "{text} {slots} Topic:")
WORDS = {"business": "market", "music": "song", "sport": "team"}


def ids_of(words, labels=LABELS, architecture="llama", template="{text} {slots} Topic:"):
    frozen = tiny_model(architecture)
    tokenize = TemplateTokenizer(frozen.tokenizer, Template.parse(template), kind=frozen.kind, max_length=64, reserved=3)
    return label_word_ids(tokenize, labels, words, frozen.name)


# -- label words


def test_label_words_come_in_the_order_of_the_labels():
    decode = tiny_model("llama").tokenizer.decode
    assert [decode(list(ids)) for ids in ids_of(dict(reversed(WORDS.items())))] == [" market", " song", " team"]


def test_label_words_may_have_several_tokens():
    assert [len(ids) for ids in ids_of({**WORDS, "sport": "team goal"})] == [1, 1, 2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"business": "market"}, r"Labels without label words: music, sport.*model\.label_words"),
        ({**WORDS, "weather": "rain"}, "does not have: weather. It has: business, music, sport"),
        ({**WORDS, "music": "  "}, "label word of 'music' is empty"),
        ({**WORDS, "music": "market"}, "'business' and 'music' have the same label word 'market'"),
        ({**WORDS, "music": " market "}, "have the same label word"),
    ],
)
def test_impossible_label_words_are_refused(words, said):
    with pytest.raises(ConfigError, match=said):
        ids_of(words)


def test_label_word_that_cannot_be_written_is_refused():
    with pytest.raises(ModelError, match="The label word '日本語' of 'music' cannot be used"):
        ids_of({**WORDS, "music": "日本語"}, architecture="bert")


def test_words_of_another_kind_give_other_losses():
    params = kept_problem(*LLAMA).initial(0)
    scores = {
        soft_prompt_problem(*LLAMA, words=words).score([params], "select")[0].loss
        for words in (WORDS, {**WORDS, "sport": "team goal"}, None)
    }
    assert len(scores) == 3


# -- heads


def test_head_is_tuned_with_the_soft_prompt():
    params = kept_problem("bert", "{text} {slots}").initial(0)
    assert {name: tuple(value.shape) for name, value in params.items()} == {"prompt": (ROWS, 32), "head.weight": (3, 32), "head.bias": (3,)}


def test_gradient_reaches_prompt_and_head():
    problem = kept_problem("bert", "{text} {slots}")
    params = {name: value.requires_grad_() for name, value in problem.initial(0).items()}
    gradients = torch.autograd.grad(problem.loss(params, problem.batch(0, 0)), list(params.values()))
    assert all(bool(g.any()) for g in gradients)


def test_head_depends_on_the_seed_only():
    head = PooledHead(tiny_model("bert"), 3)
    assert torch.equal(head.extra(1)["head.weight"], head.extra(1)["head.weight"])
    assert not torch.equal(head.extra(1)["head.weight"], head.extra(2)["head.weight"])


# -- where a soft prompt begins


def test_vocabulary_start_is_rows_of_whole_words():
    problem = kept_problem(*LLAMA)
    rows = problem.initial(3)["prompt"]
    nearest = NearestTokenCodec(problem.frozen.tokenizer, embedding_table(problem.frozen), num_virtual_tokens=ROWS)
    words = nearest.embeddings[nearest.words]
    assert all(bool((words == row).all(-1).any()) for row in rows)


def test_normal_start_has_the_spread_of_the_table():
    problem = soft_prompt_problem(*LLAMA, initial="normal", num_virtual_tokens=30)
    table = embedding_table(problem.frozen)
    assert float(problem.initial(0)["prompt"].std()) == pytest.approx(float(table.std()), rel=0.1)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"initial": "labels"}, "business music sport"), ({"initial": "text", "initial_text": "the news"}, "the news the")],
)
def test_start_from_words_says_those_words(options, words):
    problem = soft_prompt_problem(*LLAMA, **options)
    assert problem.codec.decode(problem.initial(0)).text == words


def test_start_from_a_text_needs_the_text():
    with pytest.raises(ConfigError, match=r"set `model\.initial_text`"):
        soft_prompt_problem(*LLAMA, initial="text")


def test_start_can_be_moved_without_moving_the_problem():
    problem = kept_problem(*LLAMA)
    before = problem.initial(0)["prompt"].clone()
    problem.initial(0)["prompt"].add_(1)
    assert torch.equal(problem.initial(0)["prompt"], before)


# -- batches


def seen(problem, steps, seed=0):
    return [row.before for step in steps for row in problem.read(problem.batch(step, seed))]


def test_an_epoch_covers_each_example_once():
    problem = soft_prompt_problem(*LLAMA, splits=tiny_splits(4), batch_size=3)  # 12 examples
    whole = sorted(row.before for row in problem.inputs("train"))
    for epoch in range(3):
        assert sorted(seen(problem, range(4 * epoch, 4 * epoch + 4))) == whole


def test_epochs_come_in_different_orders():
    problem = soft_prompt_problem(*LLAMA, splits=tiny_splits(4), batch_size=3)
    assert seen(problem, range(4)) != seen(problem, range(4, 8))


def test_what_does_not_fill_a_batch_is_left_out_of_an_epoch():
    problem = soft_prompt_problem(*LLAMA, splits=tiny_splits(4), batch_size=5)
    first = seen(problem, range(2))
    assert len(first) == len(set(first)) == 10


def test_batch_no_smaller_than_train_is_all_of_it():
    problem = soft_prompt_problem(*LLAMA, batch_size=6)
    assert len(seen(problem, [0])) == 6 and seen(problem, [0]) == seen(problem, [1])


# -- scores, notes, clues


def test_scoring_in_parts_changes_nothing():
    whole, parts = (soft_prompt_problem(*LLAMA, score_batch=size) for size in (64, 2))
    params = whole.initial(1)
    a, b = whole.score([params], "select")[0], parts.score([params], "select")[0]
    assert a.loss == pytest.approx(b.loss, rel=1e-5) and a.metrics == b.metrics


def test_loss_of_all_of_train_is_the_score_of_train():
    problem = soft_prompt_problem(*LLAMA, batch_size=100)
    params = problem.initial(0)
    with torch.no_grad():
        assert float(problem.loss(params, problem.batch(0, 0))) == pytest.approx(problem.score([params], "train")[0].loss, rel=1e-5)


def test_accuracy_and_its_balanced_kind_count_what_is_read_right():
    problem = kept_problem(*LLAMA)
    params = problem.initial(0)
    examples = problem.splits.select
    read = problem.probabilities(params, examples).argmax(-1).tolist()
    right = [LABELS[i] == e.label for i, e in zip(read, examples, strict=True)]
    metrics = problem.score([params], "select")[0].metrics
    assert metrics["accuracy"] == pytest.approx(sum(right) / len(right))
    per_class = [[r for r, e in zip(right, examples, strict=True) if e.label == label] for label in LABELS]
    assert metrics["balanced_accuracy"] == pytest.approx(sum(sum(c) / len(c) for c in per_class) / 3)


@pytest.mark.parametrize("split", ["select", "valid"])
def test_split_without_examples_cannot_be_scored(split):
    problem = soft_prompt_problem(*LLAMA, splits=replace(tiny_splits(2), select=()))
    with pytest.raises(ProblemError, match=f"no examples in the split '{split}'"):
        problem.score([problem.initial(0)], split)


def test_unlabelled_examples_without_the_field_are_refused():
    problem = kept_problem(*LLAMA)
    with pytest.raises(ConfigError, match=r"unknown field {text}\. Did you mean {texts}"):
        problem.probabilities(problem.initial(0), [Example({"texts": "music"}, "")])


def test_template_with_an_unknown_field_is_refused_at_once():
    with pytest.raises(ConfigError, match=r"unknown field {headline}"):
        soft_prompt_problem("llama", "{headline} {slots}")


def test_note_says_how_many_texts_were_cut_and_by_how_much():
    long = [Example({"text": "music " * n}, "music") for n in (40, 50)]
    splits = tiny_splits(2)
    splits = Splits((*splits.train, *long), splits.select, (*splits.test, long[0]), LABELS)
    problem = soft_prompt_problem(*LLAMA, splits=splits, max_length=32)
    cut = max(row.cut for row in problem.inputs("train"))
    assert cut > 20
    *cuts, short = problem.notes
    assert "each input begins with a short text" in short
    assert tuple(cuts) == (
        f"2 of 8 texts of train were cut to fit the context, by at most {cut} tokens",
        f"1 of 7 texts of test were cut to fit the context, by at most {cut - 10} tokens",
    )


@pytest.mark.parametrize(
    ("kind", "template", "words", "told"),
    [
        ("llama", "{text} {slots} Topic:", 3, True),
        ("llama", "{text} {slots} Topic:", 12, False),  # long
        ("llama", "news {text} {slots} Topic:", 3, False),  # a word stands first
        ("llama", "{slots} {text} Topic:", 3, False),  # the slots do
        ("bert", "{text} {slots} Topic:", 3, False),  # [CLS] does
    ],
)
def test_note_says_that_a_short_text_stands_first(kind, template, words, told):
    splits = tiny_splits(2)
    splits = replace(splits, train=tuple(replace(e, fields={"text": " ".join(["music"] * words)}) for e in splits.train))
    notes = soft_prompt_problem(kind, template, splits=splits).notes
    assert any("begins with a short text (" in note and f"'Text: {template}'" in note for note in notes) is told


def test_note_says_why_texts_are_not_kept():
    _, note = soft_prompt_problem(*LLAMA, max_cache_bytes=10).notes
    assert "more than the 0 MiB allowed" in note


def test_kept_texts_change_no_score_and_cost_less():
    kept, plain = (soft_prompt_problem(*LLAMA, max_cache_bytes=size) for size in (2**20, 0))
    params = kept.initial(0)
    a, b = kept.score([params], "select")[0], plain.score([params], "select")[0]
    assert a.loss == pytest.approx(b.loss, rel=1e-4) and a.metrics == b.metrics
    assert a.cost.model_tokens < b.cost.model_tokens and kept.prepared.model_tokens > 0


def test_misread_examples_come_from_train_only_and_are_misread():
    problem = kept_problem(*LLAMA)
    params = problem.initial(0)
    misread = problem.clues(params).misclassified
    train = {e.fields["text"]: e.label for e in problem.splits.train}
    assert misread and all(train[m.text] == m.label != m.predicted for m in misread)


def test_confusions_count_every_misread_example():
    problem = kept_problem(*LLAMA)
    params = problem.initial(0)
    wrong = round((1 - problem.score([params], "train")[0].metrics["accuracy"]) * len(problem.splits.train))
    assert sum(c.count for c in problem.clues(params).confusions) == wrong


def test_displacement_points_to_the_words_walked_towards():
    problem = kept_problem(*LLAMA)
    start = {"prompt": torch.zeros(ROWS, 32)}
    target = problem.codec.encode("music film team").params
    assert [slot[0].text for slot in problem.clues(target, start=start).displacement] == ["music", "film", "team"]


def test_walk_that_has_not_moved_points_nowhere():
    problem = kept_problem(*LLAMA)
    assert problem.clues(problem.initial(0), start=problem.initial(0)).displacement == ()


def test_words_of_a_prompt_of_words_lose_nothing():
    problem = kept_problem(*LLAMA)
    projection = problem.clues(problem.codec.encode("music film team").params).projection
    assert (projection.text, projection.gap) == ("music film team", 0.0)


def test_gradient_clue_is_that_of_all_of_train():
    problem = soft_prompt_problem(*LLAMA, batch_size=100)
    params = problem.initial(0)
    leaf = params["prompt"].clone().requires_grad_()
    gradient = torch.autograd.grad(problem.loss({"prompt": leaf}, problem.batch(0, 0)), leaf)[0]
    told = [[t.text for t in slot] for slot in problem.clues(params).gradient]
    assert told == [[t.text for t in slot] for slot in problem.codec.nearest(-gradient, 3)]


def test_model_gives_its_own_account_where_it_can():
    words = soft_prompt_problem(*LLAMA, continuation_tokens=4).clues(kept_problem(*LLAMA).initial(0)).self_continuation
    assert isinstance(words, str)
    assert (
        soft_prompt_problem("bert", "{text} {slots}", continuation_tokens=4)
        .clues(kept_problem("bert", "{text} {slots}").initial(0))
        .self_continuation
        is None
    )


@pytest.mark.parametrize("objective", ["classes", "vocabulary"])
@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_a_batch_in_parts_has_the_loss_and_gradient_of_the_whole(architecture, objective):
    model = {"objective": objective} if architecture == "llama" else {}
    label_words = {"label_words": {"business": "business", "music": "music film", "sport": "sport"}} if architecture == "llama" else {}
    found = []
    for part_tokens in (10**6, 40, 1):
        settings = {"model": {"name": "tiny", "num_virtual_tokens": 3, "part_tokens": part_tokens, **model, **label_words}}
        problem = build_language(make_config(settings), tiny_splits(), tiny_model(architecture))[0].plain
        params = {name: value.clone().requires_grad_() for name, value in problem.initial(0).items()}
        batch = problem.batch(0, 0)
        loss = problem.loss(params, batch)
        loss.backward()
        found.append((float(loss.detach()), *(value.grad for value in params.values())))
    for loss, *gradients in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-5)
        assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(gradients, found[0][1:], strict=True))


def test_clues_can_be_done_without():
    problem = soft_prompt_problem(*LLAMA, with_clues=False)
    assert problem.clues(problem.initial(0)) == Clues()


# -- what runs through the model, and what is said of it


def tokens_run(problem, call):
    """Return how many real tokens a call runs through the frozen model, counted there."""
    counted = []

    def count(module, arguments, given):
        inputs = given["inputs_embeds"] if given.get("inputs_embeds") is not None else given["input_ids"]
        mask, length = given.get("attention_mask"), inputs.shape[1]
        counted.append(inputs.shape[0] * length if mask is None else int(mask[:, -length:].sum()))  # without a mask: packed, no padding

    hook = problem.frozen.model.base_model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        call()
    finally:
        hook.remove()
    return sum(counted)


def tried(problem):
    """Return a problem whose model has been tried for what it reads alike, which is no part of any step."""
    frozen = problem.frozen
    for length in (1, 32, 64):
        probes.way_of(frozen, length, "right")
        probes.supports_kv_cache(frozen, length)
        assert all(isinstance(probes.supports_packing(frozen, length, ahead), bool) for ahead in (0, 1))
    probes.head_of(frozen), probes.continues_vectors(frozen), probes.supports_tail(frozen), probes.supports_front(frozen)
    return problem


TEMPLATES = ("{text} {slots} Topic:", "{slots} {text} Topic:", "Topic {slots} {text} Topic:")


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("words", [None, {**WORDS, "sport": "team goal"}])
def test_the_tokens_of_a_score_are_those_that_ran(template, cached, count, words):
    problem = tried(soft_prompt_problem("llama", template, words=words, max_cache_bytes=2**30 if cached else 0))
    points, scores = [problem.initial(seed) for seed in range(count)], []
    ran = tokens_run(problem, lambda: scores.extend(problem.score(points, "test")))
    assert sum(score.cost.model_tokens for score in scores) == ran


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("objective", ["classes", "vocabulary"])
def test_the_tokens_of_a_step_are_those_that_ran(template, objective):
    words = {**WORDS, "music": "song film award", "sport": "team goal"}
    problem = tried(soft_prompt_problem("llama", template, words=words, model={"objective": objective}, part_tokens=30))
    params = {name: value.requires_grad_() for name, value in problem.initial(0).items()}
    batch = problem.batch(0, 0)
    assert problem.num_tokens(params, batch) == tokens_run(problem, lambda: problem.loss(params, batch))


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_tokens_of_clues_are_those_that_ran(template):
    problem = tried(soft_prompt_problem("llama", template, part_tokens=30))
    params, found = problem.initial(0), []
    own = problem.score([params], "select")[0]
    ran = tokens_run(problem, lambda: found.append(problem.clues(params, score=own)))
    clues = found[0]
    of_words = clues.projection.score.cost.model_tokens
    assert ran == (clues.cost.model_tokens - of_words) // 2 + of_words  # the gradient's tokens count forward and backward


@pytest.mark.parametrize("model", [{"method": "prefix_tuning"}, {"codec": "fluent"}, {"method": "p_tuning", "codec": "fluent"}], ids=str)
def test_what_putting_into_words_and_back_runs_is_part_of_the_clues_cost(model):
    problem = soft_prompt_problem("llama", "{slots} {text} Topic:", model=model)
    tried(problem)
    params, found = problem.method.start(torch.randn(3, 32, generator=torch.Generator().manual_seed(1))), []
    own = problem.score([params], "select")[0]
    whole: list[int] = []
    hook = problem.frozen.model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: whole.append(kwargs["input_ids"].numel() if kwargs.get("input_ids") is not None else 0),
        with_kwargs=True,
    )
    ran = tokens_run(problem, lambda: found.append(problem.clues(params, score=own)))
    hook.remove()
    clues = found[0]
    assert clues.projection is not None
    gradient = problem.scorer.num_tokens(params, problem.inputs("train"))
    assert ran - gradient == clues.cost.model_tokens - 2 * gradient
    beside = clues.cost.model_tokens - 2 * gradient - clues.projection.score.cost.model_tokens
    assert beside == (sum(whole) if "codec" in model else 3) > 0


def test_a_start_that_runs_through_the_model_is_prepared():
    begun = {
        initial: soft_prompt_problem(model={"method": "prefix_tuning"}, initial=initial) for initial in ("vocabulary", "labels", "normal")
    }
    assert {initial: problem.prepared.model_tokens for initial, problem in begun.items()} == {"vocabulary": 3, "labels": 3, "normal": 0}
    for problem in begun.values():
        assert tokens_run(problem, lambda held=problem: held.initial(0)) == problem.prepared.model_tokens


def test_choices_run_as_many_tokens_as_are_told_whatever_they_run_beside():
    choices = (("market", "song"), ("market", "song film"), ("team goal", "song film"))
    rows = tuple(Example({"text": f"the news {i}"}, "0", choices=own) for i, own in enumerate(choices))
    splits = Splits(rows, rows, rows, ("0", "1"))
    for architecture, template in (("llama", "{text} {slots} Topic:"), ("bert_masked", "{text} {slots} Topic {mask}")):
        problem = soft_prompt_problem(architecture, template, splits=splits, max_cache_bytes=0)
        problem.score([problem.initial(0)], "select")  # what is tried of a model is no part of a score
        told = []
        ran = tokens_run(problem, lambda held=problem, found=told: found.append(held.score([held.initial(0)], "select")[0]))
        assert told[0].cost.model_tokens == ran, architecture


def gradient_of(problem):
    """Return what clues take the gradient and the class scores from."""
    targets = torch.tensor([problem.splits.labels.index(example.label) for example in problem.splits.train])
    own = problem.method, problem.scorer, problem.initial(0), problem.inputs("train"), targets
    return gradient(*own, problem._part_tokens, problem._score_batch)


@pytest.mark.parametrize("template", ["{slots} {text} Topic:", "Topic {text} {slots}"])
@pytest.mark.parametrize("method", ["prompt_tuning", "prefix_tuning", "p_tuning"])
def test_clues_in_parts_say_what_those_of_the_whole_say(template, method):
    told = []
    for part_tokens in (10, 100_000):
        problem = soft_prompt_problem("llama", template, model={"method": method}, part_tokens=part_tokens, max_cache_bytes=0)
        told.append(gradient_of(problem))
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(*told, strict=True))


def test_clues_take_no_more_memory_than_a_step():
    problem = soft_prompt_problem("llama", "{slots} {text} Topic:", part_tokens=20)
    seen = []
    scored = problem.scorer.class_scores
    problem.scorer.class_scores = lambda params, rows: seen.append(sum(map(len, rows))) or scored(params, rows)
    gradient_of(problem)
    assert len(seen) > 1 and max(seen) <= 20


def test_accuracies_are_exact_ratios():
    problem = soft_prompt_problem(splits=tiny_splits(5))  # 15 examples in three classes: not what a float32 can hold
    seen = set()
    for seed in range(6):
        metrics = problem.score([problem.initial(seed)], "select")[0].metrics
        assert metrics["accuracy"] in {right / 15 for right in range(16)}
        assert metrics["balanced_accuracy"] == pytest.approx(metrics["accuracy"], abs=1e-15)  # five of each class
        seen.add(metrics["accuracy"])
    assert seen - {0.0, 1.0}

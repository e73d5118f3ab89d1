"""Masked models, encoder-decoders, choices and class weights: what is read where, against the model's own forward."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from maao.build_text import build_language
from maao.config import make_config
from maao.errors import ConfigError, ModelError
from maao.problems.scorers.label_words import LabelWords
from maao.problems.towers.text import probes
from maao.problems.towers.text.forward import activation_bytes, embedding_table
from maao.problems.towers.text.template import Template, TemplateTokenizer
from maao.types import Example, Splits
from tests.conformance.parts import soft_prompt_problem
from tests.tiny import LABELS, bpe_tokenizer, tiny_model, tiny_splits

TEXT = "shares profit the news"
PROMPT = ["music", "team", "bank"]


def prompt_ids(frozen):
    return [i for word in PROMPT for i in frozen.tokenizer(" " + word, add_special_tokens=False).input_ids][:3]


def problem_of(architecture, template, **options):
    frozen = tiny_model(architecture)
    return soft_prompt_problem(architecture, template, **options), {"prompt": embedding_table(frozen)[prompt_ids(frozen)]}


def ids_with_prompt(problem, text=TEXT):
    row = problem.tokenizer({"text": text})
    return [*row.before, *prompt_ids(problem.frozen), *row.after]


@pytest.mark.parametrize("template", ["{text} {slots} Topic {mask}.", "{slots} {text} Topic {mask}", "text {mask} {text} {slots}"])
@pytest.mark.parametrize("architecture", ["bert_masked", "roberta_masked", "deberta_masked"])
def test_label_words_are_read_at_the_mask(architecture, template):
    problem, params = problem_of(architecture, template)
    frozen = problem.frozen
    ids = ids_with_prompt(problem)
    assert ids.count(frozen.tokenizer.mask_token_id) == 1
    where = ids.index(frozen.tokenizer.mask_token_id)
    theirs = frozen.model(input_ids=torch.tensor([ids])).logits[0, where, [word[0] for word in problem.scorer.words]]
    assert all(len(word) == 1 for word in problem.scorer.words)
    rows = [problem.tokenizer({"text": text}) for text in (TEXT, "team", "the market was good and the bank is bad")]
    batched = problem.scorer.class_scores(params, rows)[0]
    for ours in (batched, problem.scorer.class_scores(params, rows[:1])[0]):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize("architecture", ["bert_masked", "roberta_masked"])
def test_a_word_of_two_tokens_takes_two_masks(architecture):
    words = {"business": "business", "music": "music film", "sport": "sport"}
    problem, params = problem_of(architecture, "{slots} {text} Topic {mask}.", words=words)
    frozen, mask = problem.frozen, problem.frozen.tokenizer.mask_token_id
    long = problem.scorer.words[1]
    assert [len(word) for word in problem.scorer.words] == [1, 2, 1]
    ids = ids_with_prompt(problem)
    where = ids.index(mask)
    two = [*ids[:where], mask, mask, *ids[where + 1 :]]
    logits = frozen.model(input_ids=torch.tensor([two])).logits[0].log_softmax(-1)
    expected = (logits[where, long[0]] + logits[where + 1, long[1]]) / 2
    ours = problem.scorer.class_scores(params, [problem.tokenizer({"text": TEXT})])[0, 1]
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("template", ["{text} {slots} Topic {mask}", "{slots} {text} Topic"])
def test_label_words_are_what_a_decoder_says(template):
    problem, params = problem_of("t5", template)
    frozen = problem.frozen
    lead = [0] + ([frozen.tokenizer.convert_tokens_to_ids("<extra_id_0>")] if "{mask}" in template else [])
    rows = [problem.tokenizer({"text": text}) for text in (TEXT, "team")]
    for k, word in enumerate(problem.scorer.words):
        spoken = torch.tensor([[*lead, *word[:-1]]])
        logits = frozen.model(input_ids=torch.tensor([ids_with_prompt(problem)]), decoder_input_ids=spoken).logits[0].log_softmax(-1)
        expected = torch.stack([logits[len(lead) - 1 + j, token] for j, token in enumerate(word)]).mean()
        scores = problem.scorer.class_scores(params, rows)[0].log_softmax(-1)
        if all(len(w) == 1 for w in problem.scorer.words):
            expected = logits[-1, [w[0] for w in problem.scorer.words]].log_softmax(-1)[k]
            torch.testing.assert_close(scores[k], expected, rtol=1e-4, atol=1e-5)
        else:
            torch.testing.assert_close(problem.scorer.class_scores(params, rows)[0, k], expected, rtol=1e-4, atol=1e-5)


CHOICES = Example({"text": "the market was good"}, "1", choices=("the bank won", "music film"))


@pytest.mark.parametrize("architecture", ["llama", "bert_masked", "t5"])
def test_choices_are_answers_scored_by_their_mean_log_probability(architecture):
    template = "{text} {slots} so" if architecture == "llama" else "{text} {slots} so {mask}"
    splits = Splits((CHOICES,), (CHOICES,), (), ("0", "1"))
    problem, params = problem_of(architecture, template, splits=splits)
    together = problem.probabilities(params, [CHOICES, Example({"text": "team"}, "", choices=("cup", "the race"))])[0].log()
    apart = []
    for choice in CHOICES.choices:
        reader = type(problem.scorer)(
            problem.frozen, [problem.tokenizer.word(choice)] * 2, **({"lead": problem.scorer._lead[1:]} if architecture == "t5" else {})
        )
        apart.append(reader._logits(params, [problem.tokenizer(CHOICES.fields)], [problem.tokenizer.word(choice)]))
    means = []
    for logits, choice in zip(apart, CHOICES.choices, strict=True):
        word = problem.tokenizer.word(choice)
        means.append(logits[0].log_softmax(-1)[torch.arange(len(word)), list(word)].mean())
    torch.testing.assert_close(together, torch.stack(means).log_softmax(-1), rtol=1e-4, atol=1e-5)


def test_a_head_gives_each_choice_a_score_from_the_same_weights():
    splits = Splits((CHOICES,), (CHOICES,), (), ("0", "1"))
    problem, params = problem_of("bert", "{slots} {text} {sep} {choice}", splits=splits)
    params = {**params, **problem.scorer.extra(0)}
    assert params["head.weight"].shape[0] == 1
    both = problem.scorer.class_scores(params, [problem.tokenizer.example(CHOICES)])
    swapped = problem.scorer.class_scores(params, [problem.tokenizer.example(Example(CHOICES.fields, "0", choices=CHOICES.choices[::-1]))])
    torch.testing.assert_close(both, swapped.flip(-1))


def test_segments_are_parted_as_the_tokenizer_parts_them():
    for architecture in ("bert", "roberta"):
        frozen = tiny_model(architecture)
        tokenize = TemplateTokenizer(frozen.tokenizer, Template.parse("{slots} {a} {sep} {b}"), kind="encoder", max_length=60, reserved=3)
        row = tokenize({"a": "music film", "b": "team"})
        pair = frozen.tokenizer("music film", "team")
        between = [frozen.tokenizer.sep_token_id] * (2 if architecture == "roberta" else 1)
        assert list(row.after[row.second - len(between) :]) == [*between, *frozen.tokenizer("team").input_ids[1:]]
        if architecture == "bert":  # a RoBERTa's first word has its space here, since it stands behind the slots
            assert list(row.after) == pair.input_ids


def test_second_segment_has_the_token_type_of_the_tokenizers_pairs():
    problem, params = problem_of("bert", "{slots} {text} {sep} news")
    row = problem.tokenizer({"text": TEXT})
    ids = ids_with_prompt(problem)
    types = [0] * (3 + row.second) + [1] * (len(ids) - 3 - row.second)
    theirs = problem.frozen.model(input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([types])).last_hidden_state.mean(1)
    params = {**params, "head.weight": torch.eye(32)[:3], "head.bias": torch.zeros(3)}
    ours = problem.scorer.class_scores(params, [row, problem.tokenizer({"text": "team"})])[0]
    torch.testing.assert_close(ours, theirs[0, :3], rtol=1e-4, atol=1e-5)


# -- class weights, memory, dropout


@pytest.mark.parametrize(("architecture", "objective"), [("llama", "classes"), ("llama", "vocabulary"), ("bert", "classes")])
@pytest.mark.parametrize("part_tokens", [10**6, 20])
def test_class_weights_are_those_of_cross_entropy(architecture, objective, part_tokens):
    weights = {"business": 1.0, "music": 5.0, "sport": 0.5}
    model = {"class_weights": weights, "objective": objective, "num_virtual_tokens": 3, "part_tokens": part_tokens, "name": "tiny"}
    problem = build_language(make_config({"model": {**model, "template": "{text} {slots}"}}), tiny_splits(), tiny_model(architecture))[
        0
    ].plain
    params, batch = problem.initial(0), problem.batch(0, 0)
    given = {name: value.clone().requires_grad_() for name, value in params.items()}
    loss = problem.loss(given, batch)
    if objective == "classes":
        scores = problem.scorer.class_scores(params, problem.read(batch))
        expected = F.cross_entropy(scores, batch.targets, weight=torch.tensor([weights[label] for label in LABELS]))
    else:
        words = [problem.scorer.words[target] for target in batch.targets.tolist()]
        logits = problem.scorer._logits(params, problem.read(batch), words)
        own = torch.tensor([weights[LABELS[target]] for target in batch.targets.tolist()])
        log = torch.stack([logits[i, j].log_softmax(-1)[t] * own[i] for i, word in enumerate(words) for j, t in enumerate(word)])
        expected = -log.sum() / (own * torch.tensor([float(len(word)) for word in words])).sum()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)


def test_balanced_weights_are_the_inverse_of_how_often_a_label_is_there():
    examples = tiny_splits().train
    rare = tuple(e for e in examples if e.label != "sport") + tuple(e for e in examples if e.label == "sport")[:1]
    splits = Splits(rare, rare, (), LABELS)
    problem = build_language(
        make_config({"model": {"class_weights": "balanced", "template": "{text} {slots}"}}), splits, tiny_model("llama")
    )[0].plain
    weights = problem.scorer._class_weights
    counts = torch.tensor([sum(e.label == label for e in rare) for label in LABELS])
    torch.testing.assert_close(weights * counts, torch.full((3,), len(rare) / 3))


def test_class_weights_for_other_labels_are_refused():
    config = make_config({"model": {"class_weights": {"business": 1.0, "weather": 2.0}, "template": "{text} {slots}"}})
    with pytest.raises(ConfigError, match="weight above zero for each of the labels business, music, sport"):
        build_language(config, tiny_splits(), tiny_model("llama"))


def test_a_memory_limit_sets_how_much_runs_at_a_time():
    frozen = tiny_model("llama")
    each = activation_bytes(frozen)
    assert activation_bytes(frozen, tokens=32) == pytest.approx(each, rel=0.3)
    small, large = (
        build_language(make_config({"model": {"memory_mib": mib, "template": "{text} {slots}"}}), tiny_splits(), frozen)[0].plain
        for mib in (1, 4)
    )
    assert small._part_tokens == int(2**20 / each) and large._part_tokens == int(4 * 2**20 / each)


def test_dropout_of_the_frozen_model_follows_from_the_step():
    problem = soft_prompt_problem("bert", "{text} {slots}", frozen_dropout=True)
    params = problem.initial(0)
    here, again, later = (float(problem.loss(params, problem.batch(step, 0))) for step in (0, 0, 1))
    assert here == again != later
    assert here != float(soft_prompt_problem("bert", "{text} {slots}").loss(params, problem.batch(0, 0)))
    assert not problem.frozen.model.training


def test_what_a_model_reads_alike_is_tried_without_its_dropout():
    problems = [soft_prompt_problem("gpt2", "{slots} {text}") for _ in range(2)]
    problems[1].frozen.model.train()
    try:
        found = [(probes.supports_kv_cache(problem.frozen, 16), probes.supports_packing(problem.frozen, 16, 0)) for problem in problems]
        assert problems[1].frozen.model.training
    finally:
        problems[1].frozen.model.eval()
    assert found[0] == found[1] == (True, True)


@pytest.mark.parametrize("template", ["{text} {slots} Topic:", "{slots} {text} Topic:"])
def test_dropout_reaches_each_row_of_a_decoder_by_itself(template):
    problem = soft_prompt_problem("gpt2", template, frozen_dropout=True)
    assert problem.prepared.model_tokens == 0 and problem.scorer.share(problem.initial(0), problem.read(problem.batch(0, 0))) is None
    params = {name: value.requires_grad_() for name, value in problem.initial(0).items()}
    here, again, later = (float(problem.loss(params, problem.batch(step, 0)).detach()) for step in (0, 0, 1))
    assert here == again != later


@pytest.mark.parametrize("packed", [False, True])
def test_attention_drops_out_what_the_model_says(packed, monkeypatch):
    problem = soft_prompt_problem("llama", "{text} {slots}", frozen_dropout=True)
    monkeypatch.setattr(type(problem.scorer), "packs", lambda self, count, rows: packed)
    for layer in problem.frozen.model.base_model.layers:
        monkeypatch.setattr(layer.self_attn, "attention_dropout", 0.5)  # all the dropout that there is in this architecture
    batch, params = problem.batch(0, 0), problem.initial(0)
    kept = soft_prompt_problem("llama", "{text} {slots}")
    assert float(problem.loss(params, batch)) != pytest.approx(float(kept.loss(params, batch)), abs=1e-7)


def test_the_first_virtual_token_is_read_only_where_there_is_one():
    with pytest.raises(ConfigError, match=r"reads the first row in the slots, and prefix_tuning has none"):
        soft_prompt_problem("bert", "{slots} {text}", model={"pooling": "virtual", "method": "prefix_tuning"})


# -- candidates together


@pytest.mark.parametrize("template", ["{text} {slots} Topic:", "{slots} {text} Topic:", "text {text} {slots}"])
@pytest.mark.parametrize("cached", [False, True])
def test_points_scored_together_have_the_scores_they_have_apart(template, cached):
    problem = soft_prompt_problem("llama", template, max_cache_bytes=2**30 if cached else 0, score_batch=5)
    points = [problem.initial(seed) for seed in range(4)]
    together, apart = problem.score(points, "test"), [problem.score([point], "test")[0] for point in points]
    for a, b in zip(together, apart, strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-5) and a.metrics == b.metrics
    tokens = [sum(score.cost.model_tokens for score in scores) for scores in (together, apart)]
    assert tokens[0] < tokens[1] if not template.startswith("{slots}") else tokens[0] == tokens[1]
    assert problem.score(points, "test") == together


# -- what cannot be read


def test_a_masked_model_needs_a_mask_in_its_template():
    with pytest.raises(ConfigError, match=r"no place for the label word of a masked model: write \{mask\}"):
        soft_prompt_problem("bert_masked", "{text} {slots} Topic")


def test_a_tokenizer_without_a_mask_token_is_told():
    with pytest.raises(ModelError, match=r"has no mask token.*trained head"):
        TemplateTokenizer(bpe_tokenizer(), Template.parse("{text} {slots} {mask}"), kind="masked", max_length=60, reserved=3)


def test_a_head_reads_no_mask():
    with pytest.raises(ConfigError, match=r"a trained head reads no mask.*model.kind = \"masked\""):
        soft_prompt_problem("bert", "{text} {slots} {mask}")


def test_a_decoder_answers_at_the_end():
    with pytest.raises(ConfigError, match=r"put \{mask\} last"):
        soft_prompt_problem("llama", "{text} {slots} {mask} it was")


def test_a_tokenizer_without_pairs_is_told():
    with pytest.raises(ModelError, match=r"nothing between the two texts of a pair"):
        soft_prompt_problem("llama", "{text} {sep} {slots} news")


def test_a_tokenizer_without_a_pad_token_changes_nothing():
    frozen = tiny_model("llama")
    with_pad = LabelWords(frozen, [(3,), (4,)])
    rows = [soft_prompt_problem("llama").tokenizer({"text": text}) for text in (TEXT, "team")]
    params = {"prompt": embedding_table(frozen)[[5, 6]]}
    expected = with_pad.class_scores(params, rows)
    pad_token, frozen.tokenizer.pad_token = frozen.tokenizer.pad_token, None
    try:
        assert torch.equal(LabelWords(frozen, [(3,), (4,)]).class_scores(params, rows), expected)
    finally:
        frozen.tokenizer.pad_token = pad_token


def test_a_text_that_says_mask_has_no_mask():
    problem, _ = problem_of("bert_masked", "{text} {slots} Topic {mask}")
    row = problem.tokenizer({"text": "music [MASK] team"})
    assert [*row.before, *row.after].count(problem.frozen.tokenizer.mask_token_id) == 1
    assert row.mask_at == len(row) - 2


def test_choices_need_their_place_in_the_template_of_a_head_only():
    splits = Splits((CHOICES,), (CHOICES,), (), ("0", "1"))
    with pytest.raises(ConfigError, match=r"with \{choice\} in the template"):
        soft_prompt_problem("bert", "{text} {slots}", splits=splits)
    with pytest.raises(ConfigError, match=r"leave \{choice\} out"):
        soft_prompt_problem("llama", "{text} {choice} {slots}", splits=splits)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("out of memory. Tried to allocate 20 GiB."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"),
    ],
)
def test_no_room_is_told_with_what_to_do(monkeypatch, error):
    from maao.errors import ProblemError

    problem = soft_prompt_problem("llama")

    def full(*_, **__):
        raise error

    monkeypatch.setattr(problem.scorer, "loss", full)
    with pytest.raises(ProblemError, match=r"no room in memory for a part of a batch.*Lower model.part_tokens \(now 512\).*memory_mib"):
        problem.loss(problem.initial(0), problem.batch(0, 0))


def test_more_masks_move_a_second_segment_that_stands_behind_them():
    problem, _params = problem_of("bert_masked", "{slots} {text} {mask} {sep} news")
    row = problem.tokenizer({"text": TEXT})
    longer = row.with_masks(3, 4)
    assert longer.second == row.second + 2 and longer.mask_at == row.mask_at
    assert [*longer.before, *longer.after][longer.second :] == [*row.before, *row.after][row.second :]
    before, _ = problem_of("bert_masked", "{slots} {text} {sep} {mask}")
    row = before.tokenizer({"text": TEXT})
    assert row.with_masks(3, 4).second == row.second

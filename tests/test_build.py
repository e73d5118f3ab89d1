"""From names to objects: what is built, what is refused before anything is loaded, and what a mentor will be shown."""

from __future__ import annotations

import pytest
from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from maao import build as building
from maao import choices
from maao.build import build_plan
from maao.build_mentor import build_mentor
from maao.builder import load_data
from maao.config import make_config, read_config
from maao.core.acceptance import AcceptOptions, AlwaysFirst, BestOf, IfBetter, Interpolate, Race
from maao.data.checks import canonical
from maao.data.hub import NoSuchLabels
from maao.data.sampling import at_most
from maao.environment import environment
from maao.errors import BudgetError, ConfigError, DataError, MaaoError, ModelError
from maao.llm.chat import Request
from maao.llm.ledger import MemoryLedger, Wrapper
from maao.llm.scripted import Scripted
from maao.mentors.context import MentorOptions
from maao.mentors.controls import RandomRestart
from maao.mentors.instruction import wording as named_wording
from maao.mentors.language_model import LanguageModelOptions
from maao.types import Advice, Leg
from tests.api.fixtures import llama, model_folder  # noqa: F401  (fixtures)
from tests.api.small_runs import KEY_NAME, REMOTE, examples, pairs, values, write_csv, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


# -- refusals


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        (
            {"mentor": {"name": "languag_model"}},
            ConfigError,
            "'mentor.name': there is no mentor of that name. Did you mean 'language_model'?",
        ),
        ({"mentor__name": "custom"}, ConfigError, "start the run from Python"),
        ({"mentor__name": "scripted"}, ConfigError, "needs mentor.texts"),
        ({"mentor__chat": {"provider": "scripted"}}, ConfigError, "Scripted replies are"),
        ({"mentor__chat": {"provider": "openai"}}, ConfigError, "needs mentor.chat.name"),
        ({"mentor__chat": {**REMOTE, "usd_per_million_input": 1}}, ConfigError, "usd_per_million_output, or neither"),
        ({"mentor__chat": {**REMOTE, "base_url": "models.example.com"}}, ConfigError, "is not the address of a server"),
        ({"mentor__wording": "shouting"}, ConfigError, "Unknown wording 'shouting'"),
        (
            {"accept": {"rule": "bestof"}},
            ConfigError,
            "'accept.rule': there is no acceptance rule of that name. Did you mean 'best_of'? Known: always_first, best_of",
        ),
        ({"accept": {"rule": "interpolate", "inner": "rase"}}, ConfigError, "'accept.inner': there is no acceptance rule of that name"),
        ({"accept": {"rule": "interpolate"}, "model__length": "free"}, ConfigError, "use model.length = 'fixed'"),
        ({"stage__optimizer": "Adamm"}, ConfigError, "Unknown optimizer 'Adamm'"),
        ({"plan": {"kind": "legs"}}, ConfigError, "at least one leg with a gradient step"),
        ({"plan": {"kind": "epochs", "epochs": 2, "ask_after": [5]}}, ConfigError, "cannot be asked after epochs"),
        ({"plan__rounds": 0}, ConfigError, "cannot have 0 rounds"),
        ({"model__template": "{text} Topic:"}, ConfigError, "has no places for the soft prompt"),
        ({"model__template": "{slots} {text} {slots}"}, ConfigError, "has 2 places"),
        ({"model__template": "{slots} Topic:"}, ConfigError, "shows nothing of an example"),
        ({"model__template": "{slots} {txt} Topic:"}, DataError, "there is no column 'txt'. Did you mean 'text'?"),
        ({"model__name": "no-such-folder/model"}, ModelError, "Cannot load the model 'no-such-folder/model'"),
        ({"model__name": "packaged:smolm2"}, ModelError, "Unknown packaged model 'packaged:smolm2'"),
        ({"model__name": "nowhere.gguf"}, ModelError, "There is no file nowhere.gguf"),
        ({"model__device": "cuda:77"}, ModelError, "Cannot move"),
        ({"model__max_length": 4096}, ConfigError, "is more than"),
        ({"model__num_virtual_tokens": 66}, MaaoError, "do not fit the model's context of 66 tokens"),
        ({"model__chat": True}, ModelError, "has no chat template"),
        ({"model__initial": "text"}, ConfigError, "set `model.initial_text`"),
        ({"model__initial": "labels", "mentor__name": "random_restart"}, ConfigError, "is the same text each time"),
        ({"model__initial": "labels", "mentor__mix": {"name": "random_restart"}}, ConfigError, "is the same text each time"),
        ({"data": {"task": "rte"}}, ConfigError, "reads the task's own files: name them in data.train"),
        (
            {"data": {"task": "rte", "train": "t.jsonl", "label_field": "gold"}},
            ConfigError,
            "'data.label_field' would be ignored, since data.task = 'rte' knows the fields",
        ),
        (
            {"data": {"protocol": "few-shot-16", "train": "t.csv", "test_size": 9}},
            ConfigError,
            "'data.test_size' would be ignored, since the protocol 'few-shot-16' says how many",
        ),
        ({"model__label_words": {"sport": "team"}}, ConfigError, "Labels without label words: business, music"),
        ({"model__label_words": {"sport": "a", "music": "a", "business": "b"}}, ConfigError, "the same label word"),
        ({"data__labels": ["sport", "music"]}, DataError, "which is not among labels"),
        ({"data__label_field": "topic"}, DataError, "topic"),
        ({"data__shots": 99}, DataError, "but 99 were asked"),
        ({"data": {"source": "parts"}}, DataError, "needs at least data.train"),
        ({"data": {"source": "packaged:cnn"}}, DataError, "Unknown packaged data 'packaged:cnn'"),
        ({"data": {"source": "missing.csv"}}, DataError, "there is no such file"),
        (
            {"data": {"source": "pool.csv", "select": "s.csv"}},
            ConfigError,
            "'data.select' would be ignored, since all splits are sampled out",
        ),
        ({"data": {"source": "pool.csv", "test": "t.csv"}}, ConfigError, "'data.test' would be ignored"),
        ({"data": {"source": "pool.csv", "drop_repeats": True}}, ConfigError, "repeats in a pool are always dropped"),
        ({"data": {"source": "pool.csv", "hub_config": "sst2"}}, ConfigError, "'data.hub_config' would be ignored"),
        ({"data": {"source": "hub:a/b", "test": "t.csv"}}, ConfigError, "a hub data set has splits of its own"),
        ({"data__source": "pool.csv"}, ConfigError, "data.train and data.source = 'pool.csv' name two sources"),
        ({"data": {"text_fields": {"text": "headline"}}}, ConfigError, "packaged data come with fields and labels"),
        ({"data": {"label_names": {"a": "b"}}}, ConfigError, "'data.label_names' would be ignored"),
        ({"data": {"label_field": "topic"}}, ConfigError, "'data.label_field' would be ignored"),
        (
            {"model__projection": True},
            ConfigError,
            "'model.projection' would be ignored, since model.method is 'prompt_tuning', and prefix_tuning reads it",
        ),
        ({"model__method": "p_tuning", "model__projection": True}, ConfigError, "'model.projection' would be ignored"),
        (
            {"model__encoder": "mlp"},
            ConfigError,
            "'model.encoder' would be ignored, since model.method is 'prompt_tuning', and p_tuning",
        ),
        (
            {"model__hidden": 16},
            ConfigError,
            "'model.hidden' would be ignored, since model.method is 'prompt_tuning', and p_tuning, prefix_",
        ),
        ({"model__method": "prefix_tuning", "model__hidden": 16}, ConfigError, "set model.projection = true"),
        ({"model__initial_text": "the news"}, ConfigError, "'model.initial_text' would be ignored, since model.initial is 'vocabulary'"),
        ({"model__initial_text": "a", "model__initial": "labels"}, ConfigError, "since model.initial is 'labels'"),
        ({"model__part_tokens": 64, "model__memory_mib": 64}, ConfigError, "'model.part_tokens' would be ignored, since model.memory_mib"),
        ({"model__pooling": "first"}, ConfigError, "model.pooling would be ignored, since"),
        ({"function__name": "rosenbrock", "function__dim": 1, "problem": "function"}, ConfigError, "needs a dimension of 2"),
    ],
    ids=lambda value: ", ".join(f"{k}" for k in value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_built_is_refused_with_the_way_out(llama, data, monkeypatch, changes, error, told):  # noqa: F811
    monkeypatch.setenv(KEY_NAME, "not-a-key")
    with pytest.raises(error) as raised:
        build_mentor(building.build(make_config(values(llama, data, **changes))), MemoryLedger())
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_encoder_has_no_label_words_and_cannot_write(model_folder, data):  # noqa: F811
    bert = model_folder("bert")
    with pytest.raises(ConfigError, match=r"leave model.label_words out"):
        building.build(make_config(values(bert, data, model__label_words={"a": "b"})))
    parts = building.build(make_config(values(bert, data, mentor__chat={"provider": "local"})))
    with pytest.raises(ConfigError, match="is an encoder and cannot write"):
        build_mentor(parts, MemoryLedger())


def test_a_head_has_no_vocabulary_to_be_trained_over(model_folder, data):  # noqa: F811
    with pytest.raises(ConfigError, match=r"model\.objective would be ignored, since .* is read by a head"):
        building.build(make_config(values(model_folder("bert"), data, model__objective="vocabulary")))


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "prefix_tuning", "projection": True, "hidden": 16},
        {"method": "p_tuning", "encoder": "mlp", "hidden": 16},
        {"initial": "text", "initial_text": "the news"},
        {"part_tokens": 64},
        {"memory_mib": 64},
    ],
    ids=lambda settings: ", ".join(settings),
)
def test_a_setting_that_is_read_is_not_refused(llama, data, settings):  # noqa: F811
    building.build(make_config(values(llama, data, **{f"model__{name}": value for name, value in settings.items()})))


def test_a_folder_without_a_model_is_told(tmp_path, data):
    with pytest.raises(ModelError, match=r"holds no config.json"):
        building.build(make_config(values(tmp_path, data)))


# -- what is built


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"rule": "always_first"}, AlwaysFirst()),
        ({"rule": "best_of"}, BestOf()),
        ({"rule": "if_better"}, IfBetter()),
        ({"rule": "race", "steps": 3, "margin": 0.1}, Race(3, 0.1)),
        ({}, Race()),
        ({"rule": "interpolate"}, Interpolate()),
        ({"rule": "interpolate", "weight": 0.2, "inner": "race", "steps": 4}, Interpolate(0.2, Race(4, 0.0))),
    ],
)
def test_rules_are_built_by_name(settings, rule):
    config = make_config({"accept": settings})
    assert config.accept.options.build() == rule
    assert make_config({"accept": config.model_dump(mode="json")["accept"]}) == config


def test_plans_are_built_by_kind():
    def plan(**settings):
        return build_plan(make_config({"plan": settings}), steps_per_epoch=5)

    assert [leg.steps for leg in plan(rounds=1, steps=3, store_every=2)] == [0, 2, 1, 2, 1]
    assert plan(kind="epochs", epochs=3, ask_after=[0], proposals=2) == (Leg(5, False, 2), Leg(5, True, 2), Leg(5, False, 2))
    assert plan(kind="legs", legs=[{"steps": 0}, {"steps": 4, "ask": True, "proposals": 1, "keep_every": 2}])[1] == Leg(4, True, 1, 2)


def test_without_a_mentor_nobody_is_asked_by_any_plan():
    for kind in ({}, {"kind": "epochs", "epochs": 5}, {"kind": "legs", "legs": [{"steps": 1, "ask": True}]}):
        plan = build_plan(make_config({"plan": kind, "mentor": {"name": "none"}}), steps_per_epoch=5)
        assert not any(leg.ask for leg in plan)


def test_the_mentor_shares_the_tuned_models_weights(llama, data):  # noqa: F811
    parts = building.build(make_config(values(llama, data, mentor__chat={"provider": "local"})))
    found = build_mentor(parts, MemoryLedger())
    asked = found.mentor.model
    while isinstance(asked, Wrapper):  # recorded, capped, guarded
        asked = asked.model
    assert asked.model is parts.frozen.model


def test_another_local_model_is_loaded_beside_the_tuned_one(llama, model_folder, data):  # noqa: F811
    chat = {"provider": "local", "name": str(model_folder("gpt2"))}
    parts = building.build(make_config(values(llama, data, mentor__chat=chat)))
    found = build_mentor(parts, MemoryLedger())
    assert found.mentor.model.model.model is not parts.frozen.model
    assert found.mentor.model.name == str(model_folder("gpt2"))


def test_one_pool_is_cut_into_disjoint_splits(llama, tmp_path):  # noqa: F811
    pool = write_csv(tmp_path / "pool.csv", [*pairs("train"), *pairs("select"), *pairs("test")])
    settings = values(llama, {"source": str(pool), "shots": 3, "select_shots": 2, "test_size": 9})
    splits = building.build(make_config(settings)).splits
    assert (len(splits.train), len(splits.select), len(splits.test)) == (9, 6, 9)


def test_a_pool_smaller_than_the_most_test_examples_gives_what_it_can_spare(llama, tmp_path):  # noqa: F811
    pool = write_csv(tmp_path / "pool.csv", [*pairs("train"), *pairs("select")])
    tests = set()
    for seed in (0, 1):
        splits = building.build(make_config(values(llama, {"source": str(pool), "shots": 4}, seed=seed))).splits
        assert (len(splits.train), len(splits.select), len(splits.test)) == (12, 12, 12)
        assert any(note.startswith("test: 12 of 36 examples, fewer than the 500 of test_size") for note in splits.notes)
        tests.add(tuple(map(canonical, splits.test)))
    assert len(tests) == 1


@pytest.mark.parametrize("source", [{"source": "parts"}, {}], ids=str)
def test_a_training_file_may_say_how_it_is_read(source, tmp_path):
    rows = "headline,topic\n" + "\n".join(f"{text},{label[0]}" for text, label in pairs("train"))
    (tmp_path / "train.csv").write_text(rows, encoding="utf-8")
    names = {"b": "business", "m": "music", "s": "sport"}
    data = {"train": str(tmp_path / "train.csv"), "text_fields": {"text": "headline"}, "label_field": "topic", "label_names": names}
    splits = load_data(make_config({"data": {**source, **data, "drop_repeats": True}})).splits
    assert splits.labels == ("business", "music", "sport")


def test_the_splits_of_the_decoder_demo_are_what_they_were():
    splits = load_data(read_config("demo-decoder")).splits
    assert splits.digest == "sha256:6f61cd365ae023ffce713892868ed871f26d56213f72223cd8c2d13d9b783b1d"
    assert (len(splits.train), len(splits.select), len(splits.test)) == (80, 80, 500)


def test_a_norm_of_zero_in_a_config_means_no_clipping(llama, data):  # noqa: F811
    stages = [building.build(make_config(values(llama, data, stage__max_grad_norm=norm))).stage for norm in (0, 0.5)]
    assert [stage.max_grad_norm for stage in stages] == [None, 0.5]


# -- hub data sets


@pytest.fixture
def hub(monkeypatch):
    """Return the function from what each split holds (examples, or the error of reading it) to the splits of a config that names it."""

    def load(**held):
        def read_hub(name, config, split, **_):
            if isinstance(held[split], Exception):
                raise held[split]
            return tuple(held[split])

        monkeypatch.setattr("maao.data.hub.read_hub", read_hub)
        return load_data(make_config({"data": {"source": "hub:a/b", "shots": 2}})).splits

    return load


def test_a_hub_test_split_is_used_where_there_is_one(hub):
    splits = hub(train=examples("train"), test=examples("test"))
    assert sorted(map(canonical, splits.test)) == sorted(map(canonical, examples("test")))
    assert not any("validation" in note for note in splits.notes)


def test_the_validation_split_is_test_where_test_is_missing_and_a_note_says_so(hub):
    splits = hub(train=examples("train"), test=NoSuchLabels("2 of 2 rows have no label."), validation=examples("test"))
    assert sorted(map(canonical, splits.test)) == sorted(map(canonical, examples("test")))
    told = "test: the split 'validation' of a/b, since the split 'test' cannot be used: 2 of 2 rows have no label."
    assert told in splits.notes


def test_any_other_trouble_with_a_hub_test_split_is_told(hub):
    with pytest.raises(DataError, match="row 7 is empty"):
        hub(train=examples("train"), test=DataError("row 7 is empty"), validation=examples("test"))


def test_a_cap_binds_or_does_not():
    assert [at_most(limit, [None] * 3) for limit in (None, 2, 3, 4)] == [None, 2, None, None]


def test_texts_that_do_not_fit_the_context_are_noted(llama, tmp_path):  # noqa: F811
    rows = [(f"{text} " * 40, label) for text, label in pairs("train")]
    data = {"train": str(write_csv(tmp_path / "train.csv", rows))}
    notes = building.build(make_config(values(llama, data))).notes
    assert any(note.startswith("9 of 9 texts of train were cut to fit the context, by at most ") for note in notes)


def test_what_a_result_depends_on_is_written_down(llama, data):  # noqa: F811
    found = environment(building.build(make_config(values(llama, data))))
    assert set(found["packages"]) >= {"maao", "torch", "transformers"}
    assert found["data"].startswith("sha256:") and found["labels"] == ["business", "music", "sport"]
    assert found["threads"] == 1 and found["majority"] == pytest.approx(1 / 3)


# -- plugins


class FakeEntry:
    def __init__(self, name, made):
        self.name, self.made = name, made

    def load(self):
        return self.made


@pytest.fixture
def plugins(monkeypatch):
    """Return the function that makes entry points of names, for the time of a test."""

    def give(**named):
        found = {name.replace("__", "."): FakeEntry(name.replace("__", "."), made) for name, made in named.items()}
        monkeypatch.setattr(choices, "_plugins", lambda: found)

    return give


class Mine(MentorOptions):
    """A mentor of a package of one's own, with a setting."""

    depth: int = Field(1, ge=1)

    def build(self, run):
        return RandomRestart(run.codec)


class Ours(AcceptOptions):
    """A rule of a package of one's own, with a setting."""

    share: float = 0.5

    def build(self):
        return Interpolate(self.share)


def test_plugins_are_found_by_name_and_their_settings_are_checked_like_ours(llama, data, plugins):  # noqa: F811
    plugins(mentor__mine=Mine, accept__ours=Ours)
    settings = values(llama, data, mentor={"name": "mine", "depth": 3}, accept={"rule": "ours", "share": 0.2})
    parts = building.build(make_config(settings))
    found = build_mentor(parts, MemoryLedger())
    assert isinstance(found.mentor, RandomRestart) and found.disclosure == "Restarts come from the plugin 'mine'."
    assert found.live_calls is None  # it had no model recorded, and what it asks is not known
    assert parts.config.mentor.options == Mine(depth=3) and parts.accept == Interpolate(0.2)
    assert make_config(parts.config.model_dump(mode="json", exclude={"function"})).mentor == parts.config.mentor
    for section, told in (
        ({"mentor": {"name": "mine", "dept": 3}}, "unknown key 'mentor.dept'. Did you mean 'mentor.depth'?"),
        ({"mentor": {"name": "mine", "depth": 0}}, "'mentor.depth': input should be greater than or equal to 1"),
        ({"mentor": {"name": "mine", "style": "chat"}}, "'mentor.style' would be ignored, since mentor.name is 'mine'"),
        ({"accept": {"rule": "ours", "steps": 3}}, "'accept.steps' would be ignored, since accept.rule is 'ours'"),
        ({"accept": {"share": 0.1}}, "'accept.share' would be ignored, since accept.rule is 'race', and ours reads it"),
        ({"mentor": {"name": "theirs"}}, "Known: none, custom"),
    ):
        with pytest.raises(ConfigError) as raised:
            make_config(section)
        assert told in str(raised.value)


def test_a_plugin_that_is_no_class_of_settings_is_refused(plugins):
    plugins(mentor__mine=lambda options, parts: None)
    with pytest.raises(ConfigError, match=r"'mentor.name': the plugin of that name leads to .* a subclass of maao.options.Section"):
        make_config({"mentor": {"name": "mine"}})


class Broken:
    """An entry point whose module raises what a module can raise."""

    value = "theirs:Mentor"

    def load(self):
        raise ImportError("no module named cma")


def test_a_plugin_that_cannot_be_imported_is_told_where_it_is_chosen_and_breaks_nothing_else(monkeypatch):
    monkeypatch.setattr(choices, "_plugins", lambda: {"mentor.theirs": Broken(), "mentor.odd": FakeEntry("mentor.odd", print)})
    told = r"'mentor.name': the mentor 'theirs' is a plugin's, theirs:Mentor, which cannot be imported \(ImportError: no module named cma\)"
    with pytest.raises(ConfigError, match=told):
        make_config({"mentor": {"name": "theirs"}})
    with pytest.raises(ConfigError, match=r"'mentor.size' would be ignored, since mentor.name is 'reproject', and perturb reads it"):
        make_config({"mentor": {"name": "reproject", "size": 0.1}})
    with pytest.raises(ConfigError, match=r"unknown key 'mentor.sise'"):
        make_config({"mentor": {"name": "perturb", "sise": 0.1}})


class Even(MentorOptions):
    """A mentor with a check that has an error of its own."""

    depth: int = 2

    @field_validator("depth")
    @classmethod
    def _even(cls, depth):
        if depth % 2:
            raise PydanticCustomError("odd", "it is odd: {depth}", {"depth": depth})
        return depth


def test_an_error_of_a_plugins_own_kind_is_told(plugins):
    plugins(mentor__even=Even)
    with pytest.raises(ConfigError, match=r"'mentor.depth': it is odd: 3; got 3\."):
        make_config({"mentor": {"name": "even", "depth": 3}})


class AsksOptions(MentorOptions):
    """A mentor whose chat model is recorded."""

    def build(self, run):
        return Asks(run.record(Scripted(["hello"], "theirs")))


class Asks:
    def __init__(self, model):
        self.model = model

    def propose(self, history, *, count, seed):
        return Advice()


def test_a_plugin_may_have_its_chat_model_recorded(llama, data, plugins):  # noqa: F811
    plugins(mentor__mine=AsksOptions)
    parts, ledger = building.build(make_config(values(llama, data, mentor={"name": "mine"}, budget={"llm_calls": 1}))), MemoryLedger()
    found = build_mentor(parts, ledger)
    assert found.live_calls == 0
    assert found.mentor.model.complete(Request("theirs", ())).text == "hello"
    assert found.live_calls == 1 and ledger.totals().calls == 1
    with pytest.raises(BudgetError, match="the cap of 1 calls is reached"):
        found.mentor.model.complete(Request("theirs", (), seed=1))
    again = build_mentor(parts, ledger, replay=())
    assert again.mentor.model.complete(Request("theirs", ())).text == "hello" and again.live_calls == 0


def test_what_is_no_chat_model_cannot_be_recorded(llama, data):  # noqa: F811
    class Half:
        name = "half"

        def complete(self, request): ...

    parts = building.build(make_config(values(llama, data)))
    with pytest.raises(ConfigError, match="A chat model has name, is_remote, price, complete and close"):
        build_mentor(parts, MemoryLedger(), own=lambda run: Asks(run.record(Half())))


@pytest.mark.parametrize("name", ["language_model", "person"])
def test_a_mentor_that_reads_the_walk_needs_clues(llama, data, name):  # noqa: F811
    with pytest.raises(ConfigError, match=f"'{name}' reads the walk in words: set plan.clues = true"):
        building.build(make_config(values(llama, data, mentor__name=name, plan__clues=False)))


def test_a_start_from_the_labels_is_in_the_words_that_answer(llama, data):  # noqa: F811
    words = {"business": "market", "music": "song", "sport": "team"}
    starts = {"words": {"model__label_words": words}, "labels": {}}
    said = {}
    for name, more in starts.items():
        parts = building.build(make_config(values(llama, data, model__initial="labels", model__num_virtual_tokens=3, **more)))
        said[name] = parts.codec.decode(parts.problem.initial(0)).text
    assert said == {"words": "market song team", "labels": "business music sport"}


@pytest.mark.parametrize(
    ("input", "wording", "wanted"),
    [
        ("text", None, "guided"),
        ("text", "chat", "chat"),
        ("image", None, "vision_guided"),
        ("numbers", None, "chat"),
        ("image", "guided", "vision_guided"),
        ("image", "contrast", "contrast"),
    ],
)
def test_pictures_have_their_own_text_of_a_wording_where_there_is_one(input, wording, wanted):
    assert LanguageModelOptions(wording=wording).wording_name(input, "chat", is_person=False) == wanted


@pytest.mark.parametrize("settings", [{"name": "person"}, {"chat": {"provider": "person"}}])
def test_a_person_is_shown_no_worked_examples(settings):
    text = make_config({"mentor": settings}).mentor.options.wording_text("text")
    assert text == named_wording("chat").template
    filled = make_config({"mentor": {**settings, "fills": ["template"]}}).mentor.options.wording_text("text")
    assert filled.startswith(named_wording("guided", filled=True).template)

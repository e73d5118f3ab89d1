"""No setting is ever ignored in silence: what the kind of problem, the plan, the rule or the mentor does not read is refused by name."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import pytest

import maao
from maao import cli
from maao.build import build
from maao.compare import cells, compare, read_table
from maao.config import Config, make_config, read_config, read_with_notes, set_value, stored_config, unread_sections
from maao.errors import ConfigError, MaaoError
from maao.store.listing import list_runs
from maao.store.recorded import FORMAT, FORMAT_KEY

NONE = {"name": "none"}
PICTURES = {"source": "emoji"}
OPENAI = {"name": "language_model", "chat": {"provider": "openai", "name": "m"}}


@pytest.mark.parametrize(
    ("values", "key", "told"),
    [
        ({"data": PICTURES, "function": {"dim": 3}}, "function.dim", "reads [model] and [data] and [predict]"),
        ({"function": {"dim": 3}}, "function.dim", "reads [model] and [data] and [predict]"),
        ({"problem": "function", "model": {"method": "coop"}}, "model.method", "reads [function]"),
        ({"problem": "function", "model": {"weight": 3.0, "method": "tcp"}}, "model.weight", "reads [function]"),
        ({"problem": "function", "model": {"name": "gpt2"}}, "model.name", "reads [function]"),
        ({"problem": "function", "data": {"shots": 3}}, "data.shots", "reads [function]"),
        ({"problem": "function", "data": {"root": "x"}}, "data.root", "reads [function]"),
    ],
)
def test_l12_a_section_of_another_problem_is_refused(values, key, told):
    with pytest.raises(ConfigError) as error:
        make_config({**values, "mentor": NONE}, "run.toml")
    assert "run.toml: " in str(error.value) and f"'{key}' would be ignored, since problem is" in str(error.value)
    assert told in str(error.value) and "drop it" in str(error.value)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"plan": {"kind": "epochs", "steps": 7}}, "plan.steps"),
        ({"plan": {"kind": "legs", "legs": [{"steps": 1}], "rounds": 7}}, "plan.rounds"),
        ({"plan": {"epochs": 7}}, "plan.epochs"),
        ({"plan": {"legs": [{"steps": 3}]}}, "plan.legs"),
        ({"accept": {"rule": "best_of", "steps": 3}}, "accept.steps"),
        ({"accept": {"rule": "if_better", "rungs": [1]}}, "accept.rungs"),
        ({"accept": {"weight": 0.25}}, "accept.weight"),
        ({"accept": {"rule": "interpolate", "steps": 3}}, "accept.steps"),
        ({"accept": {"rule": "interpolate", "rungs": [1]}}, "accept.rungs"),
        ({"accept": {"steps": 3}, "mentor": NONE}, "accept.steps"),
        ({"accept": {"rule": "best_of"}, "mentor": NONE}, "accept.rule"),
        ({"plan": {"proposals": 5}, "mentor": NONE}, "plan.proposals"),
        ({"plan": {"kind": "epochs", "proposals": 5}, "mentor": NONE}, "plan.proposals"),
        ({"stage": {"kind": "cma_es", "lr_grid": [0.1]}}, "stage.lr_grid"),
        ({"mentor": {"name": "none", "temperature": 0.1}}, "mentor.temperature"),
        ({"mentor": {"name": "perturb", "listing": 3}}, "mentor.listing"),
        ({"mentor": {"name": "random_restart", "texts": ["a"]}}, "mentor.texts"),
        ({"mentor": {"name": "opro", "wording": "chat"}}, "mentor.wording"),
        ({"mentor": {"name": "ape", "top_p": 0.5}}, "mentor.top_p"),
        ({"mentor": {"mix_share": 0.25}}, "mentor.mix_share"),
        ({"mentor": {"name": "person", "mix": {"name": "perturb"}}}, "mentor.mix"),
        ({"mentor": {"name": "perturb", "chat": {"provider": "openai"}}}, "mentor.chat"),
        ({"mentor": {"name": "none", "chat": {"name": "m"}}}, "mentor.chat"),
        ({"mentor": {"name": "custom", "wording": "x"}}, "mentor.wording"),
        ({"mentor": {"name": "person", "style": "chat"}}, "mentor.style"),
        ({"mentor": {"name": "person", "retries": 2}}, "mentor.retries"),
        ({"mentor": {"name": "person", "chat": {"provider": "openai"}}}, "mentor.chat.provider"),
        ({"mentor": {"retries": 2, "chat": {"provider": "person"}}}, "mentor.retries"),
        ({"mentor": {"style": "completion", "chat": {"provider": "person"}}}, "mentor.style"),
        ({"mentor": {"temperature": 0.1, "chat": {"provider": "person"}}}, "mentor.temperature"),
        ({"mentor": {"mix": {"name": "perturb", "texts": ["a"]}}}, "mentor.mix.texts"),
        ({"mentor": {"chat": {"base_url": "http://127.0.0.1:1/v1"}}}, "mentor.chat.base_url"),
        ({"mentor": {"chat": {"provider": "scripted", "timeout": 5}}}, "mentor.chat.timeout"),
        ({"mentor": {"chat": {"provider": "openai", "name": "m", "replies": ["a"]}}}, "mentor.chat.replies"),
        ({"mentor": {"name": "person", "chat": {"attempts": 2}}}, "mentor.chat.attempts"),
        ({"mentor": {"max_samples": 3}}, "mentor.max_samples"),
        ({"mentor": {"name": "person", "style": "completion", "max_samples": 3}}, "mentor.max_samples"),
        ({"mentor": {"style": "completion", "retries": 3}}, "mentor.retries"),
        ({"stage": {"kind": "cma_es", "warmup_lr": 0.1, "warmup_steps": 2}}, "stage.warmup_lr"),
    ],
)
def test_l12_a_setting_that_nothing_reads_is_refused(values, key):
    with pytest.raises(ConfigError, match=rf"'{key}' would be ignored, since .*: drop it"):
        make_config(values)


@pytest.mark.parametrize(
    ("key", "value", "needed", "held"),
    [
        ("plan.min_delta", 0.1, "plan.patience", 2),
        ("stage.warmup_lr", 0.1, "stage.warmup_steps", 2),
        ("stage.average_std", 2.0, "stage.average_mean", 3.0),
        ("stage.population", 5, "stage.kind", "cma_es"),
        ("mentor.max_samples", 3, "mentor.style", "completion"),
        ("mentor.max_samples", 3, "mentor.name", "soft_input"),
        ("mentor.mix_share", 0.25, "mentor.mix", {"name": "perturb"}),
    ],
)
def test_l12_a_setting_that_needs_another_is_refused_without_it(key, value, needed, held):
    values: dict = {}
    set_value(values, key, value)
    with pytest.raises(ConfigError, match=rf"'{key}' would be ignored, since"):
        make_config(values)
    set_value(values, needed, held)
    make_config(values)


@pytest.mark.parametrize(
    "values",
    [
        {"accept": {"rule": "interpolate", "inner": "race", "steps": 3, "rungs": [1]}},
        {"plan": {"kind": "epochs", "proposals": 2}},
        {"mentor": OPENAI},
        {"mentor": {"name": "evoprompt_ga", "texts": ["a"], "temperature": 0.2}},
        {"mentor": {"name": "opro", "mix": {"name": "scripted", "texts": ["a"]}, "mix_share": 0.25}},
        {"mentor": {"name": "soft_input", "max_tokens": 3}},
        {"mentor": {"name": "custom"}},
        {"mentor": {"name": "opro", "chat": OPENAI["chat"]}},
        {"problem": "function", "model": {"device": "cpu"}, "mentor": {"name": "language_model"}},
        {"problem": "function", "model": {}, "mentor": NONE},
    ],
)
def test_l12_what_is_read_is_taken(values):
    make_config(values)


def test_l12_one_rate_beside_a_grid_of_rates_is_refused():
    with pytest.raises(ConfigError, match=r"'stage.lr' would be ignored, since stage.lr_grid is searched .*: drop one of the two"):
        make_config({"stage": {"lr": 0.5, "lr_grid": [0.1, 0.2]}})


@pytest.mark.parametrize(
    ("data", "key", "told"),
    [
        ({"source": "emoji", "separator": ";"}, "separator", "input is 'image', and text reads it: drop it"),
        ({"train": "x.csv", "fewer": True}, "fewer", "input is 'text', and image reads it: drop it"),
        ({"source": "emoji", "test_size": 9}, "test_size", "data.source is 'emoji', of which 4 groups a class choose"),
        ({"source": "dtd", "root": "x", "skip_bad": True}, "skip_bad", "only of a folder are all pictures opened: drop it"),
        ({"source": "hub:x", "image_field": "scan", "style": "noto"}, "style", "only emoji is drawn in styles: drop it"),
        ({"input": "image", "source": "x", "label_field": "y"}, "label_field", "data.source names no hub data set: drop it"),
        ({"source": "hub:x", "separator": ";"}, "separator", "a hub data set is no .csv file: drop it"),
        ({"protocol": "full", "train": "x.csv", "shots": 3}, "shots", "the protocol 'full' says how many examples there are: drop it"),
    ],
)
def test_l12_a_setting_of_data_that_its_source_does_not_read_is_refused(data, key, told):
    with pytest.raises(ConfigError) as error:
        make_config({"data": data})
    assert f"'data.{key}' would be ignored, since " in str(error.value) and told in str(error.value)


@pytest.mark.parametrize(
    ("data", "input"),
    [
        ({}, "text"), ({"train": "x.csv"}, "text"), ({"source": "hub:x"}, "text"), ({"source": "nowhere"}, "text"),
        ({"source": "emoji"}, "image"), ({"source": "oxford_pets", "root": "x"}, "image"),
        ({"source": "hub:x", "image_field": "image"}, "image"),
        ({"source": "hub:x", "fewer": True}, "image"), ({"source": "nowhere", "input": "image"}, "image"),
    ],
)  # fmt: skip
def test_l12_a_source_says_whether_it_is_of_texts_or_of_pictures(data, input):
    config = make_config({"data": data})
    assert config.data.name == input and config.model_dump(mode="json")["data"]["input"] == input
    assert (config.texts is None) == (input == "image") == (config.pictures is not None)


def test_l12_a_folder_of_folders_is_of_pictures_and_a_file_of_texts(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "pool.csv").write_text("text,label\n")
    assert make_config({"data": {"source": str(tmp_path)}}).data.name == "image"
    assert make_config({"data": {"source": str(tmp_path / "pool.csv")}}).data.name == "text"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"model": {"name": "packaged:emoji-vit"}, "data": {"source": "x.csv"}},
            r"reads pictures, and data.source = 'x.csv' is of texts.* data.input = 'image'",
        ),
        (
            {"model": {"kind": "decoder"}, "data": {"source": "emoji"}},
            r"reads texts, and data.source = 'emoji' is of pictures \(data.input = 'image'\)",
        ),
    ],
)
def test_l12_a_model_and_data_of_different_inputs_are_refused_before_anything_is_loaded(values, told):
    with pytest.raises(ConfigError, match=told):
        build(make_config({**values, "mentor": NONE}))


def test_l12_what_texts_and_pictures_share_in_a_table_is_read_by_those_that_can(tmp_path):
    file = tmp_path / "t.toml"
    file.write_text(
        'seeds = [0]\n[base]\n"mentor.name" = "none"\n"data.test_size" = 200\n"data.drop_repeats" = true\n'
        '[tasks.texts]\n"data.train" = "x.csv"\n[tasks.emoji]\n"data.source" = "emoji"\n[[arms]]\nname = "one"\n'
    )
    found = {cell.task: cell.config for cell in cells(read_table(file), tmp_path)}
    assert found["texts"].texts.test_size == 200 and found["texts"].texts.drop_repeats
    assert found["emoji"].pictures.test_size is None


def test_l12_a_mentor_in_this_process_reads_no_more_of_the_model_than_its_own():
    with pytest.raises(ConfigError, match=r"'model.template' would be ignored.* of \[model\] only the mentor's own model"):
        make_config({"problem": "function", "model": {"name": "packaged:x", "template": "{slots} {text}"}})
    with pytest.raises(ConfigError, match=r"'model.name' would be ignored"):
        make_config({"problem": "function", "model": {"name": "packaged:x"}, "mentor": OPENAI})


def test_l12_all_that_is_ignored_is_told_at_once():
    values = {"problem": "function", "model": {"name": "x"}, "plan": {"epochs": 3}, "accept": {"weight": 0.1}, "mentor": NONE}
    with pytest.raises(ConfigError) as error:
        make_config(values)
    assert all(f"'{key}' would be ignored" in str(error.value) for key in ("model.name", "plan.epochs", "accept.weight"))


TEXTS = [
    "model.name", "model.template", "model.revision", "model.device", "model.initial_text", "model.adapter", "data.source", "data.train",
    "data.select", "data.test", "data.hub_config", "data.protocol", "data.label_field", "stage.optimizer",
    "mentor.description", "mentor.wording", "mentor.corpus", "mentor.chat.name", "mentor.chat.base_url",
]  # fmt: skip


NEEDED = {
    "mentor.corpus": {"mentor.name": "random_text"},
    "mentor.chat.base_url": {"mentor.chat.provider": "openai"},
}


@pytest.mark.parametrize("blank", ["", "  ", "\n"])
@pytest.mark.parametrize("key", TEXTS)
def test_l12_an_empty_text_is_no_default(key, blank):
    values: dict = {}
    for needed, held in NEEDED.get(key, {}).items():
        set_value(values, needed, held)
    set_value(values, key, blank)
    with pytest.raises(ConfigError, match=rf"'{key}': it is empty: leave it out for the default"):
        make_config(values)


@pytest.mark.parametrize("key", ["mentor.name", "accept.rule", "plan.kind", "stage.kind", "mentor.chat.provider"])
def test_l12_an_empty_name_is_no_default(key):
    values: dict = {}
    set_value(values, key, "")
    with pytest.raises(ConfigError, match=rf"'{key}': there is no [\w ]+ of that name.* Known: .*; got ''"):
        make_config(values)


@pytest.mark.parametrize("key", ["name", "template", "initial_text", "revision", "device"])
def test_l12_an_empty_text_of_a_matcher_is_no_default(key):
    with pytest.raises(ConfigError, match=rf"'model.{key}': it is empty"):
        make_config({"data": PICTURES, "model": {key: ""}})


FUNCTION = {"problem": "function", "threads": 1, "plan": {"rounds": 0, "steps": 2}, "mentor": NONE}


def test_l12_a_run_stores_the_sections_that_it_reads_and_no_other(tmp_path):
    result = maao.run(make_config(FUNCTION), tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert not {"model", "data"} & set(stored) and stored["function"]["dim"] == 2
    assert maao.load(tmp_path / "run").config == result.config == make_config(FUNCTION)
    del stored[FORMAT_KEY]  # says how the folder is written
    assert make_config(stored) == result.config  # so it can be run again as it is


def test_l12_a_run_that_stored_every_section_still_loads(tmp_path):
    """One that was made where its sections were read, and stored them."""
    result = maao.run(make_config(FUNCTION), tmp_path / "run")
    file = tmp_path / "run" / "config.json"
    every = result.config.model_dump(mode="json")
    file.write_text(json.dumps({FORMAT_KEY: FORMAT, **every}))
    assert maao.load(tmp_path / "run").config.function == result.config.function
    assert maao.replay(tmp_path / "run").equal
    assert [summary.problem for summary in list_runs(tmp_path)] == [None]
    assert stored_config(every, file) == result.config


def test_l12_what_a_mentor_in_this_process_reads_is_stored():
    config = make_config({"problem": "function", "model": {"name": "packaged:x"}})
    assert "model" not in unread_sections(config)
    assert "model" in unread_sections(Config(problem="function", mentor=NONE))


TABLE = """
seeds = [0]
[base]
"problem" = "function"
"accept.steps" = 3
"mentor.chat.provider" = "openai"
"mentor.chat.name" = "m"
[tasks.a]
[[arms]]
name = "none"
settings = { "mentor.name" = "none" }
[[arms]]
name = "model"
[[arms]]
name = "best"
settings = { "accept.rule" = "best_of"OWN }
"""


def setting(config, key):
    """Return a setting as it is stored; None where the chosen thing has none of that name."""
    section, name = key.split(".")
    return config.model_dump(mode="json")[section].get(name)


def test_l12_what_arms_share_is_read_by_those_that_can(tmp_path):
    file = tmp_path / "t.toml"
    file.write_text(TABLE.replace("OWN", ""))
    found = {cell.arm: cell.config for cell in cells(read_table(file), tmp_path)}
    assert setting(found["none"], "mentor.chat") is None and setting(found["model"], "mentor.chat")["provider"] == "openai"
    assert setting(found["model"], "accept.steps") == 3 and setting(found["best"], "accept.steps") is None
    assert setting(found["none"], "accept.steps") == 10


def test_l12_what_an_arm_itself_names_must_be_read(tmp_path):
    file = tmp_path / "t.toml"
    file.write_text(TABLE.replace("OWN", ', "accept.steps" = 3'))
    with pytest.raises(ConfigError, match=r"arm 'best'.*'accept.steps' would be ignored"):
        list(cells(read_table(file), tmp_path))


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"mentor": {"description": ""}}, "mentor.description"),
        ({"model": {"template": ""}, "mentor": NONE}, "model.template"),
        ({"model": {"initial_text": " "}, "mentor": NONE}, "model.initial_text"),
        ({"model": {"kind": "matcher", "initial_text": ""}, "mentor": NONE}, "model.initial_text"),
    ],
)
def test_l12_an_empty_text_that_an_older_run_stored_is_read_as_it_was(values, key, tmp_path):
    assert setting(stored_config(values, tmp_path / "config.json"), key).strip() == ""
    with pytest.raises(ConfigError, match=rf"'{key}': it is empty"):
        make_config(values)


def test_l12_an_older_run_with_an_empty_description_is_repeated(tmp_path):
    asks = {"chat": {"provider": "scripted", "replies": ["1 2"]}}
    maao.run(make_config({**FUNCTION, "plan": {"rounds": 1, "steps": 2}, "mentor": {**asks, "description": "x"}}), tmp_path / "run")
    file = tmp_path / "run" / "config.json"
    stored = json.loads(file.read_text())
    stored["mentor"]["description"] = ""
    file.write_text(json.dumps(stored))
    assert setting(maao.load(tmp_path / "run").config, "mentor.description") == ""
    with pytest.raises(MaaoError, match="call that was never recorded"):  # it is asked other words, so it is the empty one that is read
        maao.replay(tmp_path / "run")


EMOJI = Path(__file__).parents[2] / "examples" / "emoji.toml"


@pytest.mark.parametrize(
    ("assignment", "dropped"),
    [
        ("mentor.name=none", {"mentor.description", "mentor.style", "accept.steps"}),
        ("mentor.name=random_restart", {"mentor.description", "mentor.style"}),
        ("mentor.name=opro", {"mentor.style"}),
        ("accept.rule=if_better", {"accept.steps"}),
        ("plan.kind=epochs", {"plan.steps", "plan.store_every", "plan.first"}),
    ],
)
@pytest.mark.parametrize("path", ["demo-decoder", EMOJI], ids=["demo", "emoji"])
def test_l12_what_a_setting_of_the_command_line_leaves_unread_is_dropped_and_told(path, assignment, dropped):
    config, notes = read_with_notes(path, (assignment,))
    key, value = assignment.split("=")
    assert setting(config, key) == value
    (note,) = notes
    assert dropped <= set(note.split(": ")[1].split(", "))
    assert all(setting(config, key) in (None, setting(Config(), key)) for key in dropped)


def test_l12_nothing_is_told_where_nothing_is_dropped():
    assert read_with_notes("demo-decoder")[1] == () and read_with_notes("demo-decoder", ("stage.lr=0.03",))[1] == ()


@pytest.mark.parametrize(
    ("text", "settings", "key"),
    [
        ('[plan]\nepochs = 4\n[mentor]\nname = "language_model"\nstyle = "completion"', ("mentor.name=none",), "plan.epochs"),
        ("[plan]\nrounds = 4", ("plan.epochs=3",), "plan.epochs"),
        ("[plan]\nrounds = 4", ("mentor.name=none", "mentor.style=completion"), "mentor.style"),
        ("[accept]\nsteps = 4", ("accept.rule=best_of", "accept.weight=0.5"), "accept.weight"),
    ],
)
def test_l12_what_a_file_or_the_command_line_itself_names_must_be_read(tmp_path, text, settings, key):
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=rf"'{key}' would be ignored"):
        read_config(file, settings)


def test_l12_the_command_line_tells_what_it_leaves_out(tmp_path, monkeypatch, capsys):
    file = tmp_path / "run.toml"
    file.write_text('problem = "function"\n[plan]\nrounds = 1\nsteps = 2\n[accept]\nsteps = 1\n[mentor]\nname = "perturb"\n')
    settings = ["--set", "mentor.name=reset", "--set", "accept.rule=best_of"]
    monkeypatch.setattr(sys, "argv", ["maao", "tune", str(file), *settings, "--run", str(tmp_path / "run")])
    with contextlib.suppress(SystemExit):
        cli.main()
    assert f"Note: with these --set, {file} sets what nothing reads, which is left out: accept.steps.\n" in capsys.readouterr().err
    assert maao.load(tmp_path / "run").status == "finished"


@pytest.mark.parametrize(
    ("section", "line", "key"),
    [
        ("base", '"plan.epochs" = 50', "plan.epochs"),
        ("base", '"model.method" = "coop"', "model.method"),
        ("base", '"model.name" = "packaged:x"', "model.name"),
        ("base", '"mentor.chat.replies" = ["a"]', "mentor.chat.replies"),
        ("tasks.a", '"data.shots" = 4', "data.shots"),
        ("models.m", '"model" = { depth = 3 }', "model.depth"),
    ],
)
def test_l12_what_arms_share_is_refused_where_no_cell_reads_it(tmp_path, section, line, key):
    file = tmp_path / "t.toml"
    table = TABLE.replace("OWN", "").replace("[tasks.a]", "[models.m]\n[tasks.a]")
    file.write_text(table.replace(f"[{section}]\n", f"[{section}]\n{line}\n"))
    with pytest.raises(ConfigError, match=rf"^t: no cell reads what all share: '{key}' in \[{section}\] would be ignored, since [^;]*\.$"):
        list(cells(read_table(file), tmp_path))
    with pytest.raises(ConfigError, match=rf"'{key}' in \[{section}\]"):
        compare(file, tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("shared", "own", "key"),
    [
        ('"stage.lr" = 0.1', '"stage.kind" = "cma_es"', "stage.lr"),
        ('"stage.kind" = "cma_es"\n"stage.population" = 6', '"stage.kind" = "gradient"', "stage.population"),
        ('"mentor.size" = 0.3\n"mentor.name" = "perturb"', '"mentor.name" = "none"', "mentor.size"),
        ('"mentor.population" = 4\n"mentor.name" = "evolution"', '"mentor.name" = "random_restart"', "mentor.population"),
        ('"mentor.exemplars" = 4\n"mentor.name" = "opro"', '"mentor.name" = "evoprompt_ga"', "mentor.exemplars"),
        ('"mentor.fills" = ["template"]\n"mentor.name" = "person"', '"mentor.name" = "perturb"', "mentor.fills"),
        ('"mentor.structured" = true\n"mentor.chat.provider" = "openai"', '"mentor.chat.provider" = "local"', "mentor.structured"),
        ('"mentor.structured" = true\n"mentor.chat.provider" = "openai"', '"mentor.style" = "completion"', "mentor.structured"),
        ('"model.method" = "p_tuning"\n"model.encoder" = "mlp"', '"model.method" = "pez"', "model.encoder"),
        ('"model.method" = "p_tuning"\n"model.hidden" = 16', '"model.method" = "prompt_tuning"', "model.hidden"),
        ('"model.initial" = "text"\n"model.initial_text" = "a"', '"model.initial" = "normal"', "model.initial_text"),
        ('"model.part_tokens" = 64', '"model.memory_mib" = 64', "model.part_tokens"),
        ('"model.method" = "tcp"\n"model.depth" = 3', '"model.method" = "coop"', "model.depth"),
        ('"model.kind" = "matcher"\n"model.num_virtual_tokens" = 3', '"model.method" = "lp++"', "model.num_virtual_tokens"),
        ('"model.kind" = "matcher"\n"stage.lr_grid" = [0.1]', '"model.method" = "zero_shot"', "stage.lr_grid"),
    ],
)
def test_l12_what_a_stage_a_method_or_a_mentor_does_not_read_may_be_shared(tmp_path, shared, own, key):
    file = tmp_path / "t.toml"
    file.write_text(f'seeds = [0]\n[base]\n{shared}\n[tasks.a]\n[[arms]]\nname = "reads"\n[[arms]]\nname = "not"\nsettings = {{ {own} }}\n')
    found = {cell.arm: cell.config for cell in cells(read_table(file), tmp_path)}
    default = setting(Config(model={"kind": found["not"].model.kind.name}), key)
    assert setting(found["not"], key) in (None, default) and setting(found["reads"], key) != default


PAIRS = [(f"{word} {i}", word) for i in range(8) for word in ("a", "b")]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("source", "pool.csv"), ("train", "other.csv"), ("select", "s.csv"), ("test", "t.csv"), ("hub_config", "x"), ("task", "rte"),
        ("protocol", "full"),
    ],
)  # fmt: skip
def test_l12_where_tune_takes_its_examples_from_is_no_further_setting(tmp_path, key, value):
    for settings in ({f"data.{key}": value}, {"data": {key: value}}):
        with pytest.raises(ConfigError, match=rf"maao.tune would ignore data.{key} of `settings`: its arguments `train`"):
            maao.tune(model=str(tmp_path), train=PAIRS, mentor="none", folder=tmp_path / "run", settings=settings)
    assert not (tmp_path / "run").exists()


def test_l12_tune_reads_no_pictures(tmp_path):
    for settings in ({"data.fewer": True}, {"data": {"source": "emoji"}}):
        with pytest.raises(ConfigError, match=r"maao.tune reads texts, .* use maao.tune_images for pictures"):
            maao.tune(model=str(tmp_path), train=PAIRS, mentor="none", folder=tmp_path / "run", settings=settings)
    assert not (tmp_path / "run").exists()

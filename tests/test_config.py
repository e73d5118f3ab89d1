"""Configs: what is written is what is meant, and what is not understood is refused with the way out."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic.fields import FieldInfo

from maao.choices import load, names
from maao.config import Config, assign, expand_paths, make_config, read_config, set_value, unread_sections
from maao.errors import ConfigError
from maao.options import OneOf, Section
from maao.problems.settings import ModelConfig


def sections(section: type[Section] = Config, path: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield every field of every section, and of all that a name can choose, with its dotted path."""
    for name, field in section.model_fields.items():
        yield f"{path}{name}", field
        own = [held for held in get_args(field.annotation) if isinstance(held, type) and issubclass(held, Section)]
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            own = [field.annotation]
        chosen = [held.table for held in field.metadata if isinstance(held, OneOf)]
        for inner in [*own, *(load(table, held) for table in chosen for held in names(table))]:
            yield from sections(inner, f"{path}{name}.")
        if section is ModelConfig and name in section.chooses:
            for held in names(section.chooses[name]):
                yield from sections(load(section.chooses[name], held), path)


@pytest.mark.parametrize(("path", "field"), list(sections()), ids=lambda v: v if isinstance(v, str) else "")
def test_every_setting_says_what_it_is(path, field):
    assert field.description and field.description.endswith((".", "...")), path


def test_the_list_of_settings_reaches_all_depths():
    paths = {path for path, _ in sections()}
    assert {
        "seed",
        "data.separator",
        "data.style",
        "plan.legs.keep_every",
        "mentor.shown.self_continuation",
        "mentor.chat.base_url",
        "budget.usd",
        "function.digits",
        "model.dtype",
        "model.pooling",
        "model.wordings",
        "model.depth",
    } <= paths


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"sede": 1}, "unknown key 'sede'. Did you mean 'seed'?"),
        ({"mentor": {"propsals": 3}}, "unknown key 'mentor.propsals'."),
        ({"plan": {"propsals": 3}}, "unknown key 'plan.propsals'. Did you mean 'plan.proposals'?"),
        (
            {"mentor": {"chat": {"provider": "openai", "base_ulr": "x"}}},
            "unknown key 'mentor.chat.base_ulr'. Did you mean 'mentor.chat.base_url'?",
        ),
        ({"mentor": {"shown": {"gradients": True}}}, "unknown key 'mentor.shown.gradients'. Did you mean 'mentor.shown.gradient'?"),
        (
            {"plan": {"kind": "legs", "legs": [{"steps": 1}, {"steps": 1, "ak": True}]}},
            "unknown key 'plan.legs.1.ak'. Did you mean 'plan.legs.1.ask'?",
        ),
        ({"xyzzy": 1}, "unknown key 'xyzzy'. Known keys: problem, seed, threads, from_run, model,"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(values, told):
    with pytest.raises(ConfigError) as error:
        make_config(values)
    assert told in str(error.value)
    assert "Known keys: " in str(error.value)


@pytest.mark.parametrize(
    ("values", "key", "value"),
    [
        ({"seed": "one"}, "'seed'", "'one'"),
        ({"stage": {"lr": "fast"}}, "'stage.lr'", "'fast'"),
        ({"model": {"num_virtual_tokens": 0}}, "'model.num_virtual_tokens'", "0"),
        ({"model": {"dtype": "float8"}}, "'model.dtype'", "'float8'"),
        ({"model": {"label_words": {"a": 1}}}, "'model.label_words.a'", "1"),
        ({"plan": {"kind": "legs", "legs": [{"ask": True}]}}, "'plan.legs.0.steps'", "field required"),
        ({"plan": {"kind": "round"}}, "'plan.kind'", "'round'"),
        ({"accept": {"rule": "interpolate", "weight": 0}}, "'accept.weight'", "0"),
        ({"accept": {"rule": "interpolate", "inner": "interpolate"}}, "'accept.inner'", "'interpolate'"),
        ({"mentor": {"chat": {"provider": "openai", "timeout": -1}}}, "'mentor.chat.timeout'", "-1"),
        ({"data": "train.csv"}, "'data'", "'train.csv'"),
        ({"threads": 0}, "'threads'", "0"),
    ],
)
def test_a_wrong_value_is_told_with_its_key(values, key, value):
    with pytest.raises(ConfigError) as error:
        make_config(values, "run.toml")
    assert str(error.value).startswith("run.toml: ")
    assert key in str(error.value) and value in str(error.value)
    assert "\n" not in str(error.value)


def test_all_faults_are_told_at_once():
    with pytest.raises(ConfigError, match=r"(?s)'seed'.*'stage.lr'"):
        make_config({"seed": "x", "stage": {"lr": "y"}})


def test_a_config_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Config().seed = 3


def test_the_demo_is_the_job_on_packaged_data_and_a_packaged_encoder():
    config = read_config("demo")
    assert config.model.name == "packaged:all-minilm-l6-v2" and config.model.method.name == "class_residual"
    assert config.texts.source == config.texts.lines == "packaged:banking77"
    assert config.texts.select == "cross_validation" and config.texts.shots == 2


def test_the_decoder_demo_is_valid_and_is_what_it_says():
    config = read_config("demo-decoder")
    assert config.model.name == "packaged:smollm2-135m-instruct"
    assert config.texts.source == "packaged:bbc-headlines"
    assert config.mentor.options.chat.name == "local"


def test_settings_are_laid_over_the_file():
    config = read_config("demo-decoder", ("stage.lr=0.5", "seed=7", "data.shots=2"))
    assert (config.stage.options.lr, config.seed, config.texts.shots) == (0.5, 7, 2)
    assert config.stage.options.batch_size == read_config("demo-decoder").stage.options.batch_size


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("seed=3", {"seed": 3}),
        ("stage.lr = 0.03", {"stage": {"lr": 0.03}}),
        ("model.chat=true", {"model": {"chat": True}}),
        ("data.labels=['a', 'b']", {"data": {"labels": ["a", "b"]}}),
        ("mentor.name=none", {"mentor": {"name": "none"}}),
        ('mentor.name="none"', {"mentor": {"name": "none"}}),
        ("model.template={text} {slots} =", {"model": {"template": "{text} {slots} ="}}),
        ("a.b.c=1", {"a": {"b": {"c": 1}}}),
        ("mentor.chat.base_url=http://127.0.0.1:80/v1?a=b", {"mentor": {"chat": {"base_url": "http://127.0.0.1:80/v1?a=b"}}}),
        ("model.initial_text=", {"model": {"initial_text": ""}}),
    ],
)
def test_an_assignment_is_read_as_toml_or_else_as_text(text, values):
    found: dict = {}
    assign(found, text)
    assert found == values


@pytest.mark.parametrize("text", ["seed", "=3", "", "  =1"])
def test_an_assignment_without_key_or_sign_is_refused(text):
    with pytest.raises(ConfigError, match=r"write key=value"):
        assign({}, text)


def test_a_value_is_no_section():
    with pytest.raises(ConfigError, match="'seed' is a value, not a section"):
        assign({"seed": 1}, "seed.x=1")
    with pytest.raises(ConfigError, match="'legs' is a value"):
        set_value({"plan": {"legs": []}}, "plan.legs.0", {})


# -- files


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_paths_are_relative_to_the_config_file_and_become_absolute(tmp_path, monkeypatch):
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    write(tmp_path / "wording.txt", "$listing")
    file = write(
        tmp_path / "run.toml",
        '[data]\nsource = "pool.csv"\ntrain = "in/train.csv"\n[model]\nname = "models/tiny"\n[mentor]\nwording = "wording.txt"',
    )
    monkeypatch.chdir("/")
    config = read_config(file)
    assert config.texts.train == str(tmp_path / "in" / "train.csv")
    assert config.texts.source == str(tmp_path / "pool.csv")  # whether it is there is for the reader to say
    assert config.model.name == str(tmp_path / "models" / "tiny")
    assert config.mentor.options.wording == str(tmp_path / "wording.txt")


def test_names_that_are_no_paths_stay(tmp_path):
    values = {"data": {"source": "hub:super_glue"}, "model": {"name": "gpt2"}, "mentor": {"wording": "chat"}}
    expand_paths(values, tmp_path)
    assert values == {"data": {"source": "hub:super_glue"}, "model": {"name": "gpt2"}, "mentor": {"wording": "chat"}}


def test_a_path_may_hold_a_colon(tmp_path):
    values = {"data": {"train": "a:b/train.csv"}}
    expand_paths(values, tmp_path)
    assert values["data"]["train"] == str(tmp_path / "a:b" / "train.csv")


def test_environment_variables_and_the_home_folder_are_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("NEWS", str(tmp_path / "news"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    values = {"data": {"train": "$NEWS/train.csv", "select": "~/select.csv", "test": "${NEWS}/test.csv"}}
    expand_paths(values, Path("/elsewhere"))
    assert values["data"] == {
        "train": str(tmp_path / "news" / "train.csv"),
        "select": str(tmp_path / "home" / "select.csv"),
        "test": str(tmp_path / "news" / "test.csv"),
    }


def test_an_unset_variable_is_named(monkeypatch):
    monkeypatch.delenv("NO_SUCH_PLACE", raising=False)
    with pytest.raises(ConfigError, match=r"'data.train' = '\$NO_SUCH_PLACE/a.csv' names an environment variable that is not set"):
        expand_paths({"data": {"train": "$NO_SUCH_PLACE/a.csv"}}, Path())


def test_a_missing_file_is_told_with_the_nearest(tmp_path):
    write(tmp_path / "headlines.toml", "")
    with pytest.raises(ConfigError, match=r"There is no config file .*headline.toml. Did you mean .*headlines.toml\?"):
        read_config(tmp_path / "headline.toml")
    with pytest.raises(ConfigError, match="--print-config"):
        read_config(tmp_path / "nowhere" / "x.toml")


def test_bad_toml_is_told_with_its_line(tmp_path):
    with pytest.raises(ConfigError, match=r"run.toml is not valid TOML: .*line 2"):
        read_config(write(tmp_path / "run.toml", "seed = 1\nstage = = 2"))


def test_a_file_that_is_not_utf8_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"run.toml, line 2: byte 0xff is not UTF-8 \(invalid start byte\). Save it as UTF-8"):
        read_config(write(tmp_path / "run.toml", b"seed = 0\nname = '\xff'"))


def test_a_folder_is_no_config(tmp_path):
    with pytest.raises(ConfigError, match="Cannot read"):
        read_config(tmp_path)


def test_an_unknown_key_of_a_file_names_the_file(tmp_path):
    with pytest.raises(ConfigError, match=r"run.toml: unknown key 'stage.learning_rate'"):
        read_config(write(tmp_path / "run.toml", "[stage]\nlearning_rate = 1"))


def test_a_config_survives_being_stored():
    config = make_config({"seed": 4, "plan": {"kind": "legs", "legs": [{"steps": 3, "ask": True}]}, "mentor": {"chat": {"name": "m"}}})
    assert make_config(config.model_dump(mode="json", exclude=unread_sections(config))) == config


def test_the_demo_file_holds_no_default_twice():
    from importlib.resources import files

    for name, file in (("demo", "demo.toml"), ("demo-decoder", "demo_decoder.toml")):
        values = tomllib.loads((files("maao") / file).read_text(encoding="utf-8"))
        assert make_config(values) == read_config(name)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"problem": "vision", "vision": {"method": "tcp"}},
            "'problem' = 'vision': leave it out: a source of pictures.*'vision.method' is now 'model.method'",
        ),
        ({"images": {"source": "emoji", "shots": 2}}, "'images.source' is now 'data.source'; 'images.shots' is now 'data.shots'"),
        ({"model": {"kind": "encoder"}}, "'model.kind' = 'encoder': model.kind = \"head\""),
        ({"mentor": {"beside": "perturb", "beside_share": 0.5}}, "'mentor.beside' is now 'mentor.mix.name'; 'mentor.beside_share' is now"),
        ({"mentor": {"options": {"stars": 3}}}, "'mentor.options.stars' is now 'mentor.stars'"),
    ],
)
def test_a_setting_of_an_older_config_is_told_with_its_name_of_today(values, told):
    with pytest.raises(ConfigError, match=f"the settings: settings have other names now: .*{told}"):
        make_config(values)


def test_a_setting_of_another_codec_is_refused_with_the_codec_that_reads_it():
    with pytest.raises(
        ConfigError, match=r"'model.fluency' would be ignored, since model.codec is 'nearest_token', and fluent reads it: drop it"
    ):
        make_config({"model": {"fluency": 0.2}})
    assert make_config({"model": {"codec": "fluent", "fluency": 0.2}}).model.kind.options.codec.options.fluency == 0.2


@pytest.mark.parametrize("key", ["mentor", "mentor.mix", "mentor.chat", "accept", "plan", "stage", "data"])
@pytest.mark.parametrize("given", [3, "perturb", [], [{}], True, 1.5])
def test_a_value_where_a_section_is_wanted_is_told(key, given):
    values = {}
    set_value(values, key, given)
    with pytest.raises(ConfigError, match=rf"'{key}': it is a section, with keys of its own: .* got {re.escape(repr(given))}\."):
        make_config(values)


def test_a_class_of_a_file_that_sets_something_else_is_told(tmp_path):
    (tmp_path / "own.py").write_text("from maao.core.plan import EpochsOptions\n")
    told = r"'mentor.name': '.*own.py:EpochsOptions' leads to EpochsOptions, .* a subclass of maao.mentors.context.MentorOptions"
    with pytest.raises(ConfigError, match=told):
        make_config({"problem": "function", "mentor": {"name": f"{tmp_path}/own.py:EpochsOptions"}})


def test_a_file_that_ends_the_process_is_told(tmp_path):
    (tmp_path / "own.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(ConfigError, match=r"own.py cannot be imported \(SystemExit: 3\)"):
        make_config({"problem": "function", "mentor": {"name": f"{tmp_path}/own.py:Mine"}})


def test_a_text_that_ends_like_a_name_in_a_file_stays_as_it_is(tmp_path):
    values = {"mentor": {"name": "my own.py:Mine", "texts": ["Look into main.py:Main"]}, "model": {"template": "{text} of a.py:B"}}
    (tmp_path / "my own.py").touch()
    expand_paths(values, tmp_path)
    assert values["mentor"] == {"name": f"{tmp_path}/my own.py:Mine", "texts": ["Look into main.py:Main"]}
    assert values["model"]["template"] == "{text} of a.py:B"

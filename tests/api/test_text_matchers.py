"""Whole runs of matchers on texts and of heads on decoders: tuned, replayed, used and exported."""

from __future__ import annotations

import ast
import json
import runpy
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import maao
from maao import run
from maao.config import make_config
from maao.data.files import ENDINGS, unread_format
from maao.errors import ConfigError
from maao.export import use_classes, use_prompt
from maao.export.context import _use, by_keyword
from maao.problems.towers.text.sentence import load_sentence_encoder
from tests.api.small_runs import pairs, values, write_data
from tests.export.written import copied, written
from tests.tiny import LABELS
from tests.tiny_sentence import sentence_folder

TEXTS = ["shares profit the news", "song album", "team match the news"]
PROMPTED = ("coop", "kgcoop", "prograd", "cocoop", "tcp", "input_prompt", "maple", "promptsrc")
PROBES = ("zero_shot", "linear_probe", "lp++", "class_residual")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sentence_folder(tmp_path_factory.mktemp("encoder"), max_length=12)[0]


def settings(model: Path, tmp_path: Path, **changes: Any) -> dict[str, Any]:
    own = {"kind": "matcher", "name": str(model), "wordings": ["{class}"]}
    return values(model, write_data(tmp_path), **{"model": own, "mentor": {"name": "none"}, **changes})


@pytest.mark.parametrize("method", [*PROMPTED, *PROBES])
def test_every_method_tunes_texts_predicts_and_replays(method: str, encoder: Path, tmp_path: Path) -> None:
    result = run(make_config(settings(encoder, tmp_path, model__method=method)), tmp_path / "run")
    assert result.finals["chosen"].score.num_examples == len(pairs("test"))
    assert ("log_scale" in result.params) == (method in (*PROMPTED, "class_residual"))
    assert maao.replay(tmp_path / "run").equal
    loaded = maao.load(tmp_path / "run")
    assert [p.probabilities for p in loaded.predict(TEXTS)] == [p.probabilities for p in result.predict(TEXTS)]
    assert (
        loaded.evaluate([{"text": text, "label": label} for text, label in pairs("test")]).score.metrics
        == result.finals["chosen"].score.metrics
    )
    assert all(one.example.label != one.predicted for one in loaded.mistakes())


def test_a_mentor_proposes_words_around_the_classes(encoder: Path, tmp_path: Path) -> None:
    mentor = {"name": "language_model", "retries": 0, "chat": {"provider": "scripted", "replies": ["- news of\n- a text about"] * 4}}
    result = run(make_config(settings(encoder, tmp_path, mentor=mentor, model__method="coop")), tmp_path / "run")
    asked = [one for one in result.history if one.leg.ask]
    assert asked and any(p.text.startswith("news of") for one in asked for p in one.advice.proposals)
    assert maao.replay(tmp_path / "run").equal


def test_words_of_classes_and_fields_of_an_example_are_named(encoder: Path, tmp_path: Path) -> None:
    words = {"business": "bank market", "music": "song", "sport": "game"}
    changes = {"model__label_words": words, "model__input_template": "the news: {text}", "model__method": "zero_shot"}
    result = run(make_config(settings(encoder, tmp_path, **changes)), tmp_path / "run")
    plain = run(make_config(settings(encoder, tmp_path, model__method="zero_shot")), tmp_path / "plain")
    assert result.predict(TEXTS)[0].probabilities != plain.predict(TEXTS)[0].probabilities
    assert result.environment["class_names"] == ["bank market", "song", "game"]
    assert set(result.predict(TEXTS)[0].probabilities) == set(LABELS)


def test_a_long_text_is_cut_and_told(encoder: Path, tmp_path: Path) -> None:
    result = run(make_config(settings(encoder, tmp_path, model__method="zero_shot", model__max_length=5)), tmp_path / "run")
    assert any("were cut to fit the context" in note for note in result.environment["notes"])
    assert result.predict(["song album award star team match"])[0].cut > 0


@pytest.mark.parametrize("method", ["coop", "class_residual"])
def test_exports_of_a_matcher_serve_with_plain_transformers(method: str, encoder: Path, tmp_path: Path) -> None:
    own = {"model__method": method} if method == "coop" else {"model__method": method, "model__bias": True}
    result = run(make_config(settings(encoder, tmp_path, **own)), tmp_path / "run")
    out = tmp_path / "out"
    if method == "coop":
        result.save(out, "ctx")
    result.save(out, "classes")
    classes, feature = copied(out / "use_classes.py").Classes(out), copied(out / "text_feature.py").feature
    for text in TEXTS:
        expected = dict(result.predict([text])[0].probabilities)
        assert classes.probabilities(feature(text=text)) == pytest.approx(expected, abs=1e-5)
    result.save(out, "tensor")
    assert json.loads((out / "maao.json").read_text())["input_template"] == "{text}"


def test_exported_classes_are_used_as_their_page_says(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result, out = run(make_config(settings(encoder, tmp_path, model__method="class_residual")), tmp_path / "run"), tmp_path / "out"
    result.save(out, "classes")
    page = (out / "USE.md").read_text()
    assert "texts" in (out / "use_classes.py").read_text().splitlines()[0] and 'python use_classes.py "..." "..."' in page
    monkeypatch.chdir(out)
    monkeypatch.syspath_prepend(str(out))
    exec(page.split("```python\n")[1].split("```")[0].replace('"..."', repr(TEXTS[0])), {})
    for name in ("use_classes", "text_feature"):  # others are called so elsewhere
        sys.modules.pop(name)
    assert ast.literal_eval(capsys.readouterr().out) == pytest.approx(dict(result.predict(TEXTS[:1])[0].probabilities), abs=1e-5)

    def by_command(*given: str) -> list[list[str]]:
        monkeypatch.setattr(sys, "argv", ["use_classes.py", *given])
        runpy.run_path(str(out / "use_classes.py"), run_name="__main__")
        return [line.split("\t") for line in capsys.readouterr().out.splitlines()]

    found = result.predict(TEXTS)
    assert by_command(*TEXTS) == [[p.label, f"{p.probability:.3f}", text] for p, text in zip(found, TEXTS, strict=True)]
    with pytest.raises(SystemExit, match=r'Usage: python use_classes.py "..."'):
        by_command()
    with pytest.raises(SystemExit, match=r"labels\.json is a file, and texts are named here"):
        by_command(TEXTS[0], "labels.json")
    assert [line[-1] for line in by_command("USE.md", "https://a.b/labels.json")] == ["USE.md", "https://a.b/labels.json"]
    (out / "text_feature.py").unlink()  # as of pictures
    with pytest.raises(SystemExit, match=r"text_feature\.py is not here"):
        by_command(TEXTS[0])


def test_who_takes_an_export_says_whether_code_of_the_models_own_runs(encoder: Path, tmp_path: Path) -> None:
    made = make_config(settings(encoder, tmp_path, model__method="class_residual", model__trust_remote_code=True))
    result, out = run(made, tmp_path / "run"), tmp_path / "out"
    result.save(out, "classes")
    told = "**The frozen model runs Python code of its own** (`trust_remote_code`): read it before you use this classifier. Then set "
    assert f"{told}`TRUST_REMOTE_CODE = True` at the top of `text_feature.py`." in (out / "USE.md").read_text()
    named, code = copied(out / "use_classes.py").named, out / "text_feature.py"
    with pytest.raises(SystemExit, match=r"text_feature\.py: .* set TRUST_REMOTE_CODE = True at the top of this file"):
        named(TEXTS[:1], out)
    code.write_text(code.read_text().replace("TRUST_REMOTE_CODE = False", "TRUST_REMOTE_CODE = True", 1))
    assert named(TEXTS[:1], out)[0].startswith(f"{result.predict(TEXTS[:1])[0].label}\t")


def test_pages_and_code_of_an_export_hold_hostile_names_as_they_are(encoder: Path, tmp_path: Path) -> None:
    names = ("from", 'it\'s "a"\n```\n# b', "text.__class__")
    rows = {part: [{**dict.fromkeys(names, text), "label": label} for text, label in pairs(part)] for part in ("train", "test")}
    own = {"threads": 1, "model.input_template": "{%s} {%s} {%s} }{" % names, "model.wordings": ["{class}"]}  # noqa: UP031
    result = maao.tune(
        model=str(encoder), kind="matcher", method="class_residual", **rows, rounds=1, steps=2, settings=own, folder=tmp_path / "run"
    )
    out = tmp_path / "out"
    result.save(out, "classes")
    page = (out / "USE.md").read_text()
    calls = ast.parse(page.split("```python\n")[1].split("\n```")[0])
    (given,) = [one for one in ast.walk(calls) if isinstance(one, ast.Dict)]
    assert ast.literal_eval(given) == dict.fromkeys(names, "...") and "\n# b" not in page and page.count("\n```\n") == 1
    assert "python use_classes.py" not in page  # one of the names stands in no line
    fields = dict.fromkeys(names, TEXTS[0])
    feature = copied(out / "text_feature.py").feature(**fields)
    expected = dict(result.predict([fields])[0].probabilities)
    assert copied(out / "use_classes.py").Classes(out).probabilities(feature) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("names", [["from", 'it\'s "a"', "$(x)"], ["\ufb01eld", "b"], ["a", "b=c"], ["a", "b\u202e"], ["a", "b"]])
def test_a_page_calls_fields_of_any_names(encoder: Path, names: list[str]) -> None:
    assert eval(f"dict({by_keyword(names)})") == dict.fromkeys(names, "...")
    scorer = SimpleNamespace(encoder=load_sentence_encoder(str(encoder)))
    scorer.encoder = SimpleNamespace(name="e", input=scorer.encoder.inputs)
    template = "".join(f"{{{name}}}" for name in names)
    page = _use(scorer, torch.ones(2, 3), template, {"what": "", "bias": ""}, has_code=True)  # type: ignore[arg-type]
    shown = [shlex.split(line)[2:] for line in page.splitlines() if line.startswith("python use_classes.py")]
    assert shown == ([] if {"b=c", "b\u202e"} & {*names} else [[f"{name}=..." for name in names]])


def test_texts_of_several_fields_are_named_by_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copyfile(use_classes.__file__, tmp_path / "use_classes.py")
    code = "import torch\nFIELDS = ('a', 'b')\ndef feature(a, b):\n    return torch.tensor([float(a[:1]), float(b[:1])])\n"
    (tmp_path / "text_feature.py").write_text(code)
    (tmp_path / "labels.json").write_text('["one", "two"]')
    save_file({"weight": torch.eye(2), "scale": torch.tensor(1.0)}, tmp_path / "classes.safetensors")
    named = copied(tmp_path / "use_classes.py").named
    assert named(["a=1", "b=3"], tmp_path) == ["two\t0.881\t1 3"]  # 1 / (1 + e^-2)
    for given in (["a=1"], ["a=1", "b=3", "rows.csv"], ["a=1", "b=3", "b=4"]):
        with pytest.raises(SystemExit, match=r'Usage: python use_classes.py a="..." b="..."'):
            named(given, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert capsys.readouterr().err == ""
    assert named(["a=1.csv", "b=3"], tmp_path) == ["two\t0.881\t1.csv 3"]
    assert capsys.readouterr().err == "Note: 1.csv is taken for a text, since no file is called so.\n"
    (tmp_path / "1.csv").touch()
    with pytest.raises(SystemExit, match=r"1\.csv is a file"):
        named(["a=1.csv", "b=3"], tmp_path)


@pytest.mark.parametrize("program", [use_classes, use_prompt])
def test_programs_of_an_export_know_the_endings_of_data_files(program: ModuleType) -> None:
    assert [end for end in program.DATA if unread_format(end) is None] == [*ENDINGS, ".txt"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model__views": 2}, r"'model\.views' would be ignored, since the inputs are texts"),
        ({"model__template": "{class}"}, r"has no \{slots\}"),
        ({"model__input_template": "all the same"}, "shows nothing of an example"),
        ({"model__label_words": {"music": "song"}}, "needs the words of each of the labels"),
        ({"model__name": "packaged:emoji-vit"}, "reads pictures"),
    ],
)
def test_what_cannot_be_is_named(changes: dict[str, Any], told: str, encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        run(make_config(settings(encoder, tmp_path, **changes)), tmp_path / "run")


# -- heads on decoders


def head(model: Path, tmp_path: Path, **changes: Any) -> dict[str, Any]:
    own = {"kind": "head", "name": str(model), "num_virtual_tokens": 3, "template": "{text} {slots} so"}
    return values(model, write_data(tmp_path), **{"model": own, "mentor": {"name": "none"}, **changes})


@pytest.mark.parametrize(
    ("start", "pooling"),
    [
        ("auto", "auto"),
        ("auto", "mean"),
        ("class_texts", "auto"),
        ("class_texts_and_prototypes", "mean"),
        ("logistic_regression", "auto"),
        ("logistic_regression", "mean"),
    ],
)
def test_a_head_on_a_decoder_from_beginning_to_end(start: str, pooling: str, model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    if start == "logistic_regression":
        pytest.importorskip("sklearn")
    held = {"model__head_anchor": 2.0} if "prototypes" in start else {}
    changes = {"model__head_start": start, "model__pooling": pooling, **held}
    result = run(make_config(head(model_folder("llama"), tmp_path, **changes)), tmp_path / "run")
    assert maao.replay(tmp_path / "run").equal
    assert set(result.params) == {"prompt", "head.weight", "head.bias"} | ({"head.start"} if held else set())
    assert any("C = " in note for note in result.environment["notes"]) == (start == "logistic_regression")
    ours = [p.probabilities for p in maao.load(tmp_path / "run").predict(TEXTS)]
    assert ours == [p.probabilities for p in result.predict(TEXTS)]
    result.save(tmp_path / "out", "tensor")
    prompt = written(tmp_path / "out")
    for text, expected in zip(TEXTS, ours, strict=True):
        assert prompt.probabilities({"text": text}) == pytest.approx(dict(expected), abs=1e-5)


@pytest.mark.parametrize(
    ("format", "changes"),
    [
        ("peft-classifier", {"model__head_bias": False}),
        ("peft", {"model__head_bias": False}),
        ("peft", {}),
        ("peft", {"model__pooling": "mean"}),
        ("peft", {"model__method": "prefix_tuning"}),
    ],
)
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_an_adapter_of_a_decoders_head_gives_its_scores(
    format: Any, changes: dict[str, Any], architecture: str, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    values = head(model_folder(architecture), tmp_path, model__template="{slots} {text} so", **changes)
    result = run(make_config(values), tmp_path / "run")
    result.save(tmp_path / "out", format)
    prompt = written(tmp_path / "out", "use_adapter.json")
    for text in TEXTS:
        assert prompt.probabilities({"text": text}) == pytest.approx(dict(result.predict([text])[0].probabilities), abs=1e-5)


@pytest.mark.parametrize(("changes", "told"), [({}, "has no bias"), ({"model__pooling": "mean"}, "reads the last token")])
def test_a_head_that_no_stock_classifier_can_hold_is_refused_in_words(
    changes: dict[str, Any], told: str, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    values = head(model_folder("llama"), tmp_path, model__template="{slots} {text} so", **changes)
    result = run(make_config(values), tmp_path / "run")
    with pytest.raises(ConfigError, match=told):
        result.save(tmp_path / "out", "peft-classifier")


@pytest.mark.parametrize(
    ("architecture", "changes", "told"),
    [
        ("llama", {"model__pooling": "first"}, "has seen nothing of the text"),
        ("llama", {"model__pooling": "virtual"}, "has seen nothing of the text"),
        ("bert", {"model__pooling": "last"}, "is for decoders"),
        ("llama", {"model__head_text_weight": 2.0}, "head_text_weight' would be ignored, since model.head_start is 'auto'"),
        ("llama", {"model__head_start": "class_texts", "model__template": "{text} {label} {slots} so"}, "has 2 fields"),
    ],
)
def test_a_head_that_cannot_be_is_named(
    architecture: str, changes: dict[str, Any], told: str, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=told):
        run(make_config(head(model_folder(architecture), tmp_path, **changes)), tmp_path / "run")


def test_logistic_regression_is_a_better_start_than_zeros(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    found: dict[str, Tensor] = {}
    for start in ("zeros", "logistic_regression"):
        result = run(make_config(head(model_folder("llama"), tmp_path, model__head_start=start)), tmp_path / start)
        found[start] = torch.tensor(result.finals["untuned"].score.loss)
    assert float(found["zeros"]) == pytest.approx(1.0986, abs=1e-3) and found["logistic_regression"] < found["zeros"]

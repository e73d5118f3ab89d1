"""No file that someone else made is run: the source is searched for whatever would run one."""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import maao
from maao.errors import ModelError, StoreError
from maao.hub import model_card
from maao.problems.towers.dual_loading import load_dual_encoder
from maao.problems.towers.text.loading import code_notes, code_of, kind_of, load_encoder, load_frozen, loading_options
from maao.problems.towers.text.sentence import load_sentence_encoder
from maao.report.html.page import write_page
from maao.report.html.run_view import Wanted
from tests.api.fixtures import llama, model_folder
from tests.api.small_runs import config
from tests.commands import ran
from tests.tiny import tiny_splits

__all__ = ["llama", "model_folder"]

SOURCE = Path(maao.__file__).parent
PICKLES = frozenset({"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"})
RUNS = frozenset({"eval", "exec", "compile", "__import__"})
STARTS = frozenset({"os.system", "os.popen", "os.startfile", "commands.getoutput"})
UNPACKS = frozenset({"extractall", "extract", "unpack_archive"})
LOADERS = frozenset({"from_pretrained", "from_config"})
ALLOWED = {  # where it is meant
    ("choices.py", "exec_module"): "a file of one's own that a config names a class of (docs/run-folder.md)",
}


def unsafe(source: str, file: str = "") -> Iterator[str]:
    """Yield what in a source runs what it reads."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (f"imports {name}" for name in names if name.partition(".")[0] in PICKLES | {"yaml"})
        if not isinstance(node, ast.Call):
            continue
        given = {word.arg: word.value.value if isinstance(word.value, ast.Constant) else ... for word in node.keywords if word.arg}
        called = ast.unparse(node.func)
        last = called.rpartition(".")[2]
        if called in RUNS or called in STARTS:
            yield f"calls {called}"
        if last == "exec_module" and (file, last) not in ALLOWED:
            yield f"calls {called}"
        if called == "torch.load" and given.get("weights_only") is not True:
            yield "calls torch.load without weights_only=True"
        if last == "read_pickle" or given.get("allow_pickle") is True:
            yield f"{called} reads pickles"
        if given.get("shell", False) is not False:
            yield f"{called} starts a shell"
        if last in UNPACKS:
            yield f"{called} unpacks an archive"
        if given.get("trust_remote_code") is True:
            yield f"{called} trusts code"
        if last in LOADERS and "Peft" not in called and "trust_remote_code" not in given and not _passes_options(node):
            yield f"{called} leaves trust_remote_code open: transformers then asks at the terminal"
        if last == "Environment" and "autoescape" not in given:
            yield f"{called} does not escape"


def _passes_options(node: ast.Call) -> bool:
    """Say whether a call passes the options that `loading_options` made."""
    return any(word.arg is None and ast.unparse(word.value) == "options" for word in node.keywords)


def test_nothing_that_is_read_is_run():
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 200
    found = {str(file.relative_to(SOURCE)): list(unsafe(file.read_text(encoding="utf-8"), file.name)) for file in files}
    assert {file: told for file, told in found.items() if told} == {}


@pytest.mark.parametrize(
    "source",
    [
        "AutoModel.from_config(config)",
        "import pickle",
        "from joblib import load",
        "import yaml",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "eval(text)",
        "exec(text)",
        "spec.loader.exec_module(module)",
        "subprocess.run(command, shell=True)",
        "subprocess.run(command, shell=asked)",
        "os.system(command)",
        "tarfile.open(path).extractall(folder)",
        "archive.extract(name)",
        "shutil.unpack_archive(path)",
        "np.load(path, allow_pickle=True)",
        "pandas.read_pickle(path)",
        "AutoModel.from_pretrained(name)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "jinja2.Environment()",
    ],
)
def test_the_search_finds(source):
    assert list(unsafe(source))


# -- code that comes with a model

CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

with Path({marker!r}).open("a") as file:
    file.write("ran ")

class OwnConfig(LlamaConfig):
    model_type = "own-llama"

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def own_code(llama, tmp_path, monkeypatch) -> tuple[Path, Path]:
    """Return the folder of a model that comes with Python code, and the file that this code writes when it runs."""
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder, marker = tmp_path / "own", tmp_path / "marker"
    shutil.copytree(llama, folder)
    about = json.loads((folder / "config.json").read_text())
    named = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    about |= {"model_type": "own-llama", "architectures": ["OwnForCausalLM"], "auto_map": named}
    (folder / "config.json").write_text(json.dumps(about))
    (folder / "modeling_own.py").write_text(CODE.format(marker=str(marker)))
    return folder, marker


def test_code_that_comes_with_a_model_is_not_run(own_code, monkeypatch):
    folder, marker = own_code
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks at the terminal"))
    for load in (load_frozen, load_encoder, kind_of, load_dual_encoder, load_sentence_encoder):
        with pytest.raises(ModelError, match="Python code of its own, which is not run"):
            load(str(folder))
    with pytest.raises(ModelError, match="Python code of its own"):
        maao.run(config(folder, {}, plan__rounds=1, plan__steps=2), folder.parent / "run", splits=tiny_splits())
    assert not marker.exists()


def test_where_a_config_says_so_it_is_run_and_recorded(own_code, tmp_path, monkeypatch, capsys):
    folder, marker = own_code
    made = config(folder, {}, model__trust_remote_code=True, mentor={"name": "none"}, accept={}, plan={"rounds": 1, "steps": 1})
    result = maao.run(made, tmp_path / "run", splits=tiny_splits())
    assert marker.exists()
    digest = hashlib.sha256((folder / "modeling_own.py").read_bytes()).hexdigest()
    assert result.environment["remote_code"] == {"modeling_own.py": digest}
    assert json.loads((tmp_path / "run/config.json").read_text())["model"]["trust_remote_code"] is True
    told = f"modeling_own.py (sha256 {digest[:12]})"
    assert told in " ".join(ran(monkeypatch, capsys, "show", tmp_path / "run").out.split())
    write_page([tmp_path / "run"], tmp_path / "page.html", Wanted(None, False))
    assert told in (tmp_path / "page.html").read_text(encoding="utf-8")
    card = model_card(result, result.predictor, "me/own")
    assert "runs Python code of its own" in card and "maao.from_hub('me/own', trust_remote_code=True)" in card
    result.predictor.save(tmp_path / "shared")
    with pytest.raises(StoreError, match="asks for Python code that comes with the frozen model"):
        maao.from_hub(tmp_path / "shared")
    assert maao.from_hub(tmp_path / "shared", trust_remote_code=True).labels == result.predictor.labels
    (folder / "modeling_own.py").write_text(CODE.format(marker=str(marker)) + "# other\n")
    marker.unlink()
    uses = (
        lambda: maao.load(tmp_path / "run").predict(["music"]),
        lambda: maao.load(tmp_path / "run").evaluate("train"),
        lambda: maao.load(tmp_path / "run").evaluate(tiny_splits().train),
        lambda: maao.replay(tmp_path / "run"),
    )
    for use in uses:
        with pytest.raises(StoreError, match="The Python code that comes with the model has changed"):
            use()
    assert not marker.exists()  # it is found out before any of it runs


AWAY = {
    "the config": ("config.json", {"auto_map": {"AutoModelForCausalLM": "else/where--mod.Model"}}),
    "the tokenizer": ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["else/where--mod.Tokenizer", None]}}),
    "a part": ("config.json", {"text_config": {"auto_map": {"AutoModel": "else/where--mod.Model"}}}),
    "a config of another version": ("config.5.0.0.json", {"auto_map": {"AutoConfig": "else/where--mod.Config"}}),
}


@pytest.mark.parametrize(("file", "named"), AWAY.values(), ids=AWAY)
def test_code_of_another_repository_is_not_run(own_code, monkeypatch, file, named):
    from transformers import dynamic_module_utils

    folder, marker = own_code
    about = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**about, "configuration_files": ["config.5.0.0.json"]}))
    held = json.loads((folder / file).read_text()) if (folder / file).exists() else about
    (folder / file).write_text(json.dumps({**held, **named}))
    fetched = []
    monkeypatch.setattr(dynamic_module_utils, "get_cached_module_file", lambda *given, **_: fetched.append(given))
    for load in (load_frozen, load_encoder, kind_of, load_dual_encoder, load_sentence_encoder):
        with pytest.raises(ModelError, match=r"names code of another repository \('else/where--mod"):
            load(str(folder), trust_remote_code=True)
    with pytest.raises(ModelError, match="another repository"):
        maao.run(config(folder, {}, model__trust_remote_code=True), folder.parent / "run", splits=tiny_splits())
    assert not fetched and not marker.exists()


@pytest.mark.parametrize("named", ["/tmp/mod.Own", "../mod.Own", "a/../../mod.Own"])
def test_code_outside_of_a_models_folder_is_not_run(own_code, named):
    folder, marker = own_code
    about = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**about, "auto_map": {"AutoConfig": named}}))
    with pytest.raises(ModelError, match="outside of its folder"):
        load_frozen(str(folder), trust_remote_code=True)
    assert not marker.exists()


def test_a_part_of_a_model_does_not_ask_at_the_terminal(llama, tmp_path, monkeypatch):
    """Models that are made of parts make these without passing on what was said of code."""
    from transformers import CLIPVisionConfig, VisionTextDualEncoderConfig

    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks at the terminal"))
    text = json.loads((llama / "config.json").read_text())
    vision = CLIPVisionConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2).to_dict()
    about = {"model_type": "vision-text-dual-encoder", "vision_config": vision, "text_config": text}
    VisionTextDualEncoderConfig(vision_config=vision, text_config=text)  # such a one there is
    about["vision_config"] = {"model_type": "align_vision_model", "auto_map": {"AutoModel": "modeling_own.Own"}}
    shutil.copytree(llama, tmp_path / "own")
    (tmp_path / "own/config.json").write_text(json.dumps(about))
    with pytest.raises(ModelError, match="Python code of its own, which is not run"):
        load_dual_encoder(str(tmp_path / "own"))


def test_code_is_on_record_wherever_it_is_loaded_from(own_code, tmp_path):
    """The language model of a sentence encoder may stand in a folder inside; code may stand in one, and import more of it."""
    own, _ = own_code
    about = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps({**about, "auto_map": {**about["auto_map"], "AutoModel": "more/layers.Own"}}))
    (own / "more").mkdir()
    (own / "more/layers.py").write_text("from .gates import gate\n")
    (own / "more/gates.py").write_text("from .layers import Own\n")
    files = {file: hashlib.sha256((own / file).read_bytes()).hexdigest() for file in ("modeling_own.py", "more/gates.py", "more/layers.py")}
    assert code_of(str(own)) == files == code_of(str(own / "model.safetensors"))
    outer = tmp_path / "sentences"
    shutil.copytree(own, outer / "0_Transformer")
    modules = [{"type": "sentence_transformers.models.Transformer", "path": "0_Transformer"}]
    (outer / "modules.json").write_text(json.dumps(modules))
    assert code_of(str(outer)) == {f"0_Transformer/{file}": digest for file, digest in files.items()}
    assert code_of("packaged:emoji-vit") == {}


def test_where_there_is_no_code_nothing_is_said_to_run(llama):
    (told,) = code_notes(str(llama), None, trust_remote_code=True)
    assert told.endswith("comes with no Python code of its own")
    assert code_notes(str(llama), None, trust_remote_code=False) == ()


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_run_with_code_of_the_hub_goes_where_nothing_was_fetched_yet(own_code, tmp_path, monkeypatch):
    from huggingface_hub import constants

    folder, marker = own_code
    about = json.loads((folder / "config.json").read_text())
    about["auto_map"]["AutoConfig"] = "me/own--modeling_own.OwnConfig"  # its own name is no other repository
    (folder / "config.json").write_text(json.dumps(about))
    full, empty = tmp_path / "full", tmp_path / "empty"
    snapshot = full / "models--me--own/snapshots" / COMMIT
    shutil.copytree(folder, snapshot)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(full))
    made = config(
        "me/own",
        {},
        model__trust_remote_code=True,
        model__revision=COMMIT,
        mentor={"name": "none"},
        accept={},
        plan={"rounds": 1, "steps": 1},
    )
    result = maao.run(made, tmp_path / "run", splits=tiny_splits())
    digest = hashlib.sha256((folder / "modeling_own.py").read_bytes()).hexdigest()
    assert result.environment["remote_code"] == {"modeling_own.py": digest}
    (snapshot / "other.py").write_text("# what another tool fetched")
    assert maao.load(tmp_path / "run").predict(["music"]) and maao.replay(tmp_path / "run").equal
    # Where only the config has come yet, the rest is fetched when the model is loaded; here nothing can be.
    (empty / snapshot.relative_to(full)).mkdir(parents=True)
    shutil.copy(folder / "config.json", empty / snapshot.relative_to(full))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(empty))
    with pytest.raises(ModelError, match="Cannot load the model 'me/own'"):
        maao.load(tmp_path / "run").predict(["music"])
    shutil.copytree(snapshot, empty / snapshot.relative_to(full), dirs_exist_ok=True)
    assert maao.load(tmp_path / "run").predict(["music"])
    # A copy that was written to is other code under the same commit.
    (snapshot / "modeling_own.py").write_text(CODE.format(marker=str(marker)) + "# other\n")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(full))
    marker.unlink()
    for use in (lambda: maao.load(tmp_path / "run").predict(["music"]), lambda: maao.replay(tmp_path / "run")):
        with pytest.raises(StoreError, match="The Python code that comes with the model has changed"):
            use()
    assert not marker.exists()


def test_code_of_the_hub_is_that_of_a_commit():
    for revision in (None, "main", "abc"):
        with pytest.raises(ModelError, match=r"set model\.revision to its commit"):
            loading_options("me/own", revision, trust_remote_code=True)
    assert loading_options("me/own", COMMIT, trust_remote_code=True) == {"trust_remote_code": True, "revision": COMMIT}
    assert loading_options("me/own", None) == {"trust_remote_code": False}

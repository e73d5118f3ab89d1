"""Hostile words in data, labels, replies and names, through one small run of each kind, to every place that a person or a program reads."""

from __future__ import annotations

import ast
import csv
import html
import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from markdown_it import MarkdownIt
from PIL import Image

import maao
from maao import choices, cli
from maao.class_lines import ClassLines
from maao.compare import compare
from maao.config import make_config
from maao.hub import save_for_hub
from maao.printable import markdown, printable_line
from maao.report.html.page import write_page
from maao.report.html.run_view import Wanted
from maao.types import Example, Splits
from tests import tiny_vision as tiny
from tests.api.fixtures import llama, model_folder
from tests.api.small_runs import config, to_toml, write_table
from tests.cases.hostile import LABELS, OBEYED, WORDS
from tests.commands import ran
from tests.compare.conftest import worker_here
from tests.tiny_sentence import sentence_folder

__all__ = ["llama", "model_folder", "worker_here"]
pytestmark = [pytest.mark.trust, pytest.mark.filterwarnings("ignore:.*[Gg]lyph", "ignore::DeprecationWarning")]
PER_CLASS = 3
KNOWN = dict(zip(LABELS, "music sport news bank film team market law tax".split(), strict=True))  # words that tiny tokenizers know


def hostile_splits(labels: tuple[str, ...] = LABELS) -> Splits:
    """Return splits whose labels and texts are hostile; each text but its number is one of the words."""
    words, parts = list(WORDS.values()), []
    for part in ("train", "select", "test"):
        made = [
            Example({"text": f"{words[(i * 7 + k) % len(words)]} {part} {i} {k}"}, label)
            for i, label in enumerate(labels)
            for k in range(PER_CLASS)
        ]
        parts.append(tuple(made))
    return Splits(*parts, labels, digest="hostile")


REPLIES = [
    "\n".join(f"{i}. {word} {i}" for i, word in enumerate(list(WORDS.values())[:6], 1)),
    json.dumps({
        "prompts": ["Name the topic", WORDS["an order"], WORDS["escape codes"]],
        "template": "{text} {slots} X",
        "label_words": dict.fromkeys(LABELS, "music"),
        "mentor": {"max_tokens": 10**9},
        "budget": {"llm_calls": 10**9},
        "run": "../../elsewhere",
        "__class__": "os.system",
    }),
]  # fmt: skip
LIMITS = {"llm_calls": 6, "gradient_steps": 500}


@pytest.fixture(scope="module")
def texts(llama, tmp_path_factory) -> Path:
    """A run on texts, by label words, with a language model as mentor whose replies mean harm."""
    folder = tmp_path_factory.mktemp("texts") / "run"
    made = config(
        llama,
        {},
        model__label_words=KNOWN,
        model__max_length=60,
        mentor__chat={"provider": "scripted", "replies": REPLIES},
        budget=LIMITS,
        baselines=["majority"],
        plan__steps=2,
    )
    maao.run(made, folder, splits=hostile_splits())
    return folder


@pytest.fixture(scope="module")
def lines(tmp_path_factory) -> Path:
    """A run of a matcher of texts whose mentor says class lines: all that it says of a class means harm."""
    place = tmp_path_factory.mktemp("lines")
    encoder = sentence_folder(place / "encoder", max_length=12)[0]
    told = [word for word in WORDS.values() if len(word) < 200]
    said = {label: {"examples": [f"{word} of {i}" for word in told[i : i + 5]], "template": "x"} for i, label in enumerate(LABELS)}
    reply = json.dumps({**said, "budget": {"usd": 1e9}, "other": {"examples": ["x"]}})
    values = {
        "threads": 1,
        "baselines": [],
        "model": {"kind": "matcher", "name": str(encoder), "wordings": ["{class}"], "label_words": KNOWN},
        "mentor": {"name": "class_lines", "retries": 0, "chat": {"provider": "scripted", "replies": [reply] * 40}},
        "plan": {"rounds": 1, "steps": 2},
        "budget": {"llm_calls": 40},
    }
    maao.run(make_config(values), place / "run", splits=hostile_splits())
    return place / "run"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A run on pictures whose classes, folders and texts mean harm."""
    place = tmp_path_factory.mktemp("pictures")
    tiny.clip_model().save_pretrained(place / "clip")
    tiny.clip_tokenizer().save_pretrained(place / "clip")
    about = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    (place / "clip" / "preprocessor_config.json").write_text(json.dumps(about))
    named = ("=1+1", "\u202etxet", "[red]x[red]", "{slots} {class}", "$x_{$", "<b>|`a`")
    for i, label in enumerate(named):
        (place / "data" / label).mkdir(parents=True)
        for k in range(6):
            Image.new("RGB", (8, 8), (i * 40, k * 30, 99)).save(place / "data" / label / f"{k} <i>|.png")
    values = {
        "threads": 1,
        "baselines": [],
        "model": {"name": str(place / "clip"), "initial": "vocabulary"},
        "data": {"source": str(place / "data"), "shots": 2, "select_shots": 2},
        "plan": {"rounds": 1, "steps": 2},
        "accept": {"rule": "best_of"},
        "mentor": {"name": "scripted", "texts": ["a photo of the", WORDS["escape codes"]]},
    }
    maao.run(make_config(values), place / "run")
    return place / "run"


@pytest.fixture(scope="module")
def function(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("function") / "run"
    mentor = {"name": "scripted", "texts": ["1 1", *list(WORDS.values())]}
    maao.run(make_config({"problem": "function", "threads": 1, "plan": {"rounds": 1, "steps": 2}, "mentor": mentor}), place)
    return place


KINDS = ("texts", "lines", "pictures", "function")


@pytest.fixture(params=KINDS)
def folder(request) -> Path:
    return request.getfixturevalue(request.param)


# -- what is looked for


def assert_shown(told: str) -> None:
    """Nothing that a terminal obeys, and no line of a screen's length without end."""
    assert not OBEYED & set(told.replace("\r\n", "\n")), [char for char in OBEYED if char in told]
    told.encode()


class Page(HTMLParser):
    """Finds what runs, fetches or leads away."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "object", "embed", "form", "base", "link"):
            self.found.append(tag)
        for name, value in attrs:
            held = (value or "").strip().lower()
            if name.startswith("on") or held.startswith(("javascript:", "data:text")):
                self.found.append(f"{tag} {name}={value}")
            if name in ("src", "href", "action", "xlink:href") and not held.startswith(("#", "data:image/")):
                self.found.append(f"{tag} {name}={value}")


def assert_harmless(page: str) -> None:
    found = Page()
    found.feed(page)
    assert found.found == []
    assert_shown(page)


def assert_no_formula(table: str, names: tuple[str, ...]) -> None:
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    assert rows
    for row in rows:
        for name in names:
            assert row[name][:1] not in ("=", "+", "-", "@", "\t", "\r"), row[name]


def strict_json(text: str) -> Any:
    held = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    text.encode()
    return held


# -- the outlets that there are

COMMANDS = {  # command -> the test below that drives it, or why nothing from outside is shown by it
    "runs": "test_what_commands_show", "show": "test_what_commands_show", "replay": "test_what_commands_show",
    "resume": "test_what_commands_show", "watch": "test_what_commands_show", "predict": "test_what_is_predicted",
    "evaluate": "test_evaluations", "report": "test_reports", "export": "test_exports", "compare": "test_a_comparison",
    "tune": "test_commands_that_read_data", "find-lr": "test_commands_that_read_data", "baselines": "test_commands_that_read_data",
    "init": "test_commands_that_read_data", "requests list": "test_requests", "requests export": "test_requests",
    "requests import": "test_requests", "requests record": "test_requests",
    "demo": "its data are carried", "doctor": "names of packages alone", "where": "a path of a package",
}  # fmt: skip
WRITERS = {  # module -> the test that reads what it writes
    "origin": "test_files_of_runs", "stored_run": "test_files_of_runs", "store/run": "test_files_of_runs",
    "store/files": "test_files_of_runs",
    "store/tensors": "test_files_of_runs", "store/mirror": "tests/cases/test_untrusted_files.py", "llm/record": "test_requests",
    "cli_requests": "test_requests", "cli_setup": "test_commands_that_read_data", "cli_reading": "test_evaluations",
    "report/html/page": "test_reports", "report/html/pictures": "test_reports", "report/html/svg": "test_reports",
    "report/evaluation_plot": "test_evaluations", "export/tensors": "test_exports", "export/peft_write": "test_exports",
    "export/tuned": "test_exports", "export/context": "test_exports", "predictor": "test_cards", "hub": "test_cards",
    "compare/page": "test_a_comparison", "compare/workers": "test_a_comparison", "sklearn": "drawings of figures",
    "baselines/setfit": "nothing is kept", "baselines/measured": "a counter of the system",
    "transformers": "rounds and replies of a Trainer (tests/api/test_transformers.py)",
    "problems/towers/text/loading": "converted weights", "problems/towers/text/tokenized": "token ids",
}  # fmt: skip
TABLES = {"report/mistakes": "test_evaluations", "prediction": "test_what_is_predicted"}  # what writes CSV
REPRS = {
    "evaluation/evaluation",
    "config",
    "llm/openai_compatible",
    "runner",
    "predictor",
    "result",
    "deploy",
    "build",
    "types",
    "transformers",
}
WRITES = re.compile(r"\.(write_text|write_bytes|savefig|save)\(|write_durably\(|write_text_durably\(|save_file\(|open\([^)]*\"w")


def sources() -> dict[str, str]:
    root = Path(maao.__file__).parent
    return {file.relative_to(root).with_suffix("").as_posix(): file.read_text(encoding="utf-8") for file in sorted(root.rglob("*.py"))}


def test_every_outlet_is_known_here():
    """A new command, writer of files, table, tracker, form of export or repr fails this until it is driven by a test below."""
    own = {test for test in globals() if test.startswith("test_")}

    def named(command: Any, before: str = "") -> list[str]:
        inside = getattr(command, "commands", None)
        if inside is None:
            return [before]
        return [name for key, inner in inside.items() for name in named(inner, f"{before} {key}".strip())]

    assert set(named(typer.main.get_command(cli.app))) == set(COMMANDS)
    code = {name: ast.unparse(ast.parse(text)) for name, text in sources().items()}
    without_docs = {name: re.sub(r'"""(?:.|\n)*?"""', "", text) for name, text in sources().items()}
    writers = {name for name, text in without_docs.items() if WRITES.search(re.sub(r"def \w+\(", "", text))}
    assert writers == set(WRITERS)
    assert {name for name, text in code.items() if "csv.writer(" in text} == set(TABLES)
    assert {name for name, text in code.items() if "def __repr__" in text} == REPRS
    assert not [name for name, text in code.items() if "_repr_html_" in text or "_repr_markdown_" in text]
    assert set(choices.names("tracker")) == {"none", "tensorboard", "trackio", "mlflow", "wandb"}  # test_trackers
    assert set(choices.names("export")) == {"text", "tensor", "peft", "peft-classifier", "ctx", "classes"}  # test_exports
    assert {told for told in (*COMMANDS.values(), *WRITERS.values(), *TABLES.values()) if told.startswith("test_")} <= own


@pytest.fixture
def said(monkeypatch, capsys):
    """Return the function that runs a command as at a terminal: what it prints for a person, and as a document."""

    def said(*arguments: object, terminal: bool = True, code: tuple[int, ...] = (0, 3)) -> str:
        capsys.readouterr()  # what was printed while a run was made
        monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
        monkeypatch.setenv("TERM", "dumb")  # so that no escape code is the program's own
        done = ran(monkeypatch, capsys, *arguments)
        assert done.code in code, done.told()[-2000:]
        if terminal:
            assert_shown(done.out)
        assert_shown(done.err)
        return done.out

    return said


def test_what_commands_show(said, folder):
    for command in (
        ("runs", folder.parent),
        ("show", folder, "--clues", "--calls", "--lines"),
        ("replay", folder),
        ("resume", folder),
        ("watch", folder),
    ):
        told = said(*command)
        assert told.strip()
    strict_json(said("show", folder, "--json", "--clues", "--calls", terminal=False))
    assert len(said("show", folder)) < 60_000  # no word is told at any length


def test_what_is_predicted(said, texts, tmp_path):
    write_table(tmp_path / "a.csv", ["text", "=id"], [(word, word) for word in WORDS.values()])
    said("predict", texts, *[word for word in WORDS.values() if not word.startswith("-")])
    said("predict", texts, "--file", tmp_path / "a.csv")
    exact = list(csv.DictReader(io.StringIO(said("predict", texts, "--file", tmp_path / "a.csv", terminal=False), newline="")))
    assert [row["text"] for row in exact] == list(WORDS.values())  # a program gets its own cells back
    assert_no_formula(said("predict", texts, "--file", tmp_path / "a.csv", "--spreadsheet", terminal=False), ("text", "'=id", "predicted"))
    found = strict_json(said("predict", texts, "--json", "--file", tmp_path / "a.csv", terminal=False))
    assert {one["label"] for one in found["predictions"]} <= {*LABELS}


def test_evaluations(said, texts, pictures, tmp_path):
    for name, run in (("texts", texts), ("pictures", pictures)):
        said(
            "evaluate",
            run,
            "--all",
            "--plot",
            tmp_path / f"{name}.png",
            "--mistakes",
            tmp_path / f"{name}.csv",
            "--suspects",
            tmp_path / "s.csv",
        )
        strict_json(said("evaluate", run, "--json", terminal=False))
        column = "text" if name == "texts" else "image"
        assert_no_formula((tmp_path / f"{name}.csv").read_text(encoding="utf-8"), (column, "label", "predicted"))
    said("show", pictures, "--mistakes", tmp_path / "sheet.png")


def test_reports(said, folder, tmp_path):
    write_page([folder], tmp_path / "page.html", Wanted("select" if folder.parent.name[:4] != "func" else None, True))
    assert_harmless((tmp_path / "page.html").read_text(encoding="utf-8"))


def test_exports(said, folder, tmp_path):
    place = tmp_path / "out"
    if "function" not in str(folder):
        said("export", folder, "--to", place)
        assert {file for file in tmp_path.rglob("*") if file.is_file()} == {file for file in place.rglob("*") if file.is_file()}
        for file in place.rglob("*.json"):
            strict_json(file.read_text(encoding="utf-8"))
        for file in place.rglob("*.py"):
            ast.parse(file.read_text(encoding="utf-8"))
        for file in place.rglob("*"):
            assert re.fullmatch(r"[\w.-]+", file.name), file.name


def test_cards(texts, lines, tmp_path):
    for number, run in enumerate((texts, lines)):
        about = "\n".join(WORDS.values())
        files = save_for_hub(
            maao.load(run), tmp_path / str(number), base_model="me/base", about=about, license=WORDS["front matter"], language="e\nn: x"
        )
        card = files[0].read_text(encoding="utf-8")
        found = re.fullmatch(r"---\n(.*?)\n---\n(.*)", card, re.DOTALL)
        assert found is not None
        held, body = yaml.safe_load(found[1]), found[2]
        assert held["license"] == WORDS["front matter"] and held["language"] == "e\nn: x" and held["library_name"] == "maao"
        assert set(held) <= {"license", "language", "library_name", "base_model", "datasets", "pipeline_tag", "tags", "model-index"}
        shown = re.sub(r"\\.", "", body)  # without what is escaped
        assert not re.search(r"<\w|\]\(|!\[|\|\||javascript:", shown)
        assert_shown(body)
        strict_json(files[1].read_text(encoding="utf-8"))


MARKED = """# a|C #|1. x|12) x|- a|+ b|> q|===|***|___|__init__|_a_|a_b|~~s~~|&copy;|&#x41; R&D|a\\|`c`|``` x|![x](y)|<b>|<!-- x|[a]: http://b
[^1]: x|1.5|---|* * *|\\*x|5 < 6|:smile:""".replace("\n", "|").split("|")


@pytest.mark.parametrize("around", ["{}", "# {}", "- {}", "**{}**", "x: {}", "above\n{}", "[{}](y)", "| a |\n| --- |\n| {} |"])
def test_markdown_shows_words_as_they_are(around):
    render = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render
    plain = render(around.format("WORD"))
    for word in [*WORDS.values(), *LABELS, *MARKED, "| a |"]:
        shown = html.escape(printable_line(word), quote=False).replace('"', "&quot;")
        assert render(around.format(markdown(word))) == plain.replace("WORD", shown), word


ADDRESSES = """http://a.b https://a.b/c ftp://a.b http://localhost http://1.2.3.4 //a.b //localhost //1.2.3.4 a.com a.com/b 1.com 1.2.com
www.a.b www.1.com a\u0301.com \u0663.com \U0001f600.com a.co.uk:80 a.\u0440\u0444 a@b.com mailto:a@b.com mailto:a@b a@1.2.3.4"""


def test_addresses_in_words_are_no_links_of_a_page():
    for word in ("www.a.b", "WWW.1.2", "www.-a.b"):  # links of GitHub and of the hub
        assert "www." not in markdown(word).lower()
    assert markdown("a.com 1.5 ... $x$ http://a //b c@d") == "a\\.com 1.5 ... \\$x\\$ http\\://a \\//b c\\@d"
    render = MarkdownIt("gfm-like").render
    for word in ADDRESSES.split():
        assert render(markdown(word)) == f"<p>{word}</p>\n", word


def test_trackers(texts):
    from maao.tracking import settings_told

    told = settings_told(maao.load(texts).config)
    assert not [value for value in told.values() if isinstance(value, str) and (value in WORDS.values() or value in LABELS)]
    assert not [key for key in told if any(label in key for label in LABELS)]


def test_notebooks(folder):
    result = maao.load(folder)
    things: list[Any] = [result, result.config, *result.history, *(one for r in result.history for one in r.advice.proposals)]
    if "function" not in str(folder) and "pictures" not in str(folder):
        things += [*result.predict(["music"]), result.predictor, result.evaluate("select")]
    for thing in things:
        assert_shown(repr(thing))


def test_files_of_runs(folder):
    names = {re.sub(r"[0-9a-f]{64}", "HASH", file.relative_to(folder).as_posix()) for file in folder.rglob("*") if file.is_file()}
    assert names <= {
        "run.sqlite", "run.lock", "config.json", "environment.json", "examples.json", "seen.json", "baselines.json", "undecided.json",
        "sent.json",
        "tensors/HASH.safetensors",
    }  # fmt: skip
    for file in folder.glob("*.json"):
        strict_json(file.read_text(encoding="utf-8"))
    assert {path.name for path in folder.parent.iterdir()} <= {"run", "encoder", "clip", "data"}


def test_orders_in_data_and_replies_change_nothing(texts, lines):
    """What was asked for is all that a reply fills; limits, settings and files are those of the config."""
    result = maao.load(texts)
    assert result.config.budget.llm_calls == LIMITS["llm_calls"] and result.config.mentor.options.max_tokens < 10**6
    assert result.cost.llm_calls <= LIMITS["llm_calls"]
    assert all(not proposal.fields for r in result.history for proposal in r.advice.proposals)  # nothing but prompts was asked for
    assert str(result.config.model.template) == "{text} {slots} Topic:"
    lined = maao.load(lines)
    assert lined.config.budget.usd is None
    allowed = {f"{kind}.{label}" for kind in ("examples", "descriptions") for label in LABELS}
    fields = {name for r in lined.history for proposal in r.advice.proposals for name in proposal.fields}
    assert fields and fields <= {*allowed, "lines_weight"}
    told = [ClassLines.from_fields(proposal.fields, LABELS) for r in lined.history for proposal in r.advice.proposals]
    assert all(line.text.endswith(f" of {LABELS.index(line.label)}") for lines in told for line in lines)  # where it was said


def test_a_comparison(said, worker_here, tmp_path, monkeypatch):
    monkeypatch.setattr("maao.compare.page.without_loss", list)  # its page names the arms of cells without a loss
    named = [word.strip() for name, word in WORDS.items() if name not in ("a long line", "front matter")]
    arms = [{"name": name, "settings": {"stage.lr": 0.1 + i / 100}} for i, name in enumerate(named[:4])]
    head = {"title": named[3], "about": "\n".join(named), "name": named[0], "seeds": [0, 1], "baseline": named[0]}
    text = to_toml(head) + '\n[base]\nproblem = "function"\n"plan.steps" = 2\n"plan.rounds" = 1\n"mentor.name" = "none"\n'
    text += "".join(f'\n[tasks.{json.dumps(name)}]\n"function.name" = "ackley"\n' for name in named[4:6])
    text += "".join(
        f'\n[[arms]]\nname = {json.dumps(arm["name"])}\nsettings = {{ "stage.lr" = {arm["settings"]["stage.lr"]} }}\n' for arm in arms
    )
    (tmp_path / "table.toml").write_text(text, encoding="utf-8")
    page = compare(tmp_path / "table.toml", tmp_path / "out", workers=1)
    shown = page.read_text(encoding="utf-8")
    assert_shown(shown)
    (without,) = (line for line in shown.splitlines() if "have no finite loss" in line)
    assert [name for name in named[:4] if markdown(name) != name] and all(markdown(name) in without for name in named[:4])
    assert not re.search(r"<(script|img|style)", re.sub(r"&lt;", "", shown.partition("| arm |")[2]))
    strict_json((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    said("compare", tmp_path / "table.toml", "--out", tmp_path / "out", "--workers", "1")
    write_page([tmp_path / "out"], tmp_path / "page.html", Wanted(None, False))
    assert_harmless((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert {file.name for file in tmp_path.iterdir()} == {"table.toml", "out", "page.html"}
    for file in (tmp_path / "out").rglob("*"):
        assert len(file.name.encode()) < 256 and not any(ord(char) < 32 for char in file.name) and ".." not in file.name.split("/")


def test_requests(said, tmp_path):
    prompt = [("user", word) for word in WORDS.values()]
    waiting = tmp_path / "run"
    values = {"problem": "function", "threads": 1, "plan": {"rounds": 1, "steps": 1}, "accept": {"rule": "always_first"}}
    mentor = {"name": "language_model", "description": "\n".join(word for _, word in prompt[:3])}
    chat = {"provider": "batch", "name": WORDS["a path"] + WORDS["escape codes"]}
    from maao.errors import Waiting

    with pytest.raises(Waiting):
        maao.run(make_config({**values, "mentor": {**mentor, "chat": chat}}), waiting)
    said("requests", "list", waiting, "--full")
    strict_json(said("requests", "list", waiting, "--json", terminal=False))
    said("requests", "export", waiting, "--to", tmp_path / "asked.jsonl")
    said("requests", "export", waiting, "--to", tmp_path / "asked")
    held = [strict_json(line) for line in (tmp_path / "asked.jsonl").read_text(encoding="utf-8").splitlines()]
    replies = [{"custom_id": one["custom_id"], "text": REPLIES[0], "who": WORDS["escape codes"], "how": WORDS["a formula"]} for one in held]
    lines = [json.dumps(one) for one in replies] + [json.dumps({"custom_id": word, "text": word}) for word in WORDS.values()]
    (tmp_path / "replies.jsonl").write_text("\n".join(lines), encoding="utf-8")
    said("requests", "import", waiting, tmp_path / "replies.jsonl", "--into", tmp_path / "record.jsonl")
    said("requests", "record", waiting, "--to", tmp_path / "again.jsonl")
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == {
        "run", "asked.jsonl", "asked", "replies.jsonl", "record.jsonl", "again.jsonl",
    }  # fmt: skip


def test_commands_that_read_data(said, llama, tmp_path):
    rows = [(example.fields["text"], example.label) for example in hostile_splits().train]
    write_table(tmp_path / "=a.csv", ["text", "label"], rows)
    said("init", tmp_path / "=a.csv", "--to", tmp_path / "own.toml", "--yes", "--model", llama)
    for word in WORDS.values():
        if "\0" not in word and len(word) < 200:
            said("tune", tmp_path / word.replace("/", "_"), code=(1, 2))
            said("init", tmp_path / word.replace("/", "_"), code=(1, 2))
    written = (tmp_path / "own.toml").read_text(encoding="utf-8")
    assert_shown(written)
    short = ("--set", "plan.rounds=1", "--set", "plan.steps=1", "--set", "model.max_length=60", "--set", "baselines=[]")
    for command in (("find-lr", tmp_path / "own.toml", *short), ("baselines", tmp_path / "own.toml", "--only", "majority", *short)):
        said(*command, code=(0, 1))

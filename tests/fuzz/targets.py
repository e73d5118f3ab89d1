"""What is fuzzed. A target reads as a run or a command would, and stops before anything is computed: it parses and checks."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from maao.carried import carried
from maao.class_lines import ClassLines
from maao.config import make_config, read_config
from maao.data.files import read_examples, scan_rows, seeming_separator
from maao.data.lines import read_lines
from maao.llm.batch_lines import batch_line, custom_id, read_replies
from maao.llm.chat import Message, Reply, Request, Usage
from maao.llm.record import Entry, line_of, read_record
from maao.llm.server_reply import Answer, read_answer
from maao.mentors.class_lines.names import Names
from maao.mentors.class_lines.reading import Asked, read_reply
from maao.mentors.fields import Fields
from maao.mentors.reply import read_continuation, read_list, read_one
from tests.fuzz.inputs import WORDS, damaged, texts, values
from tests.fuzz.running import Target

PLACE = Path(tempfile.gettempdir()) / f"maao-fuzz-{os.getpid()}"


def place(name: str) -> Path:
    """Return a folder of this process; `clean` removes all of them."""
    folder = PLACE / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def clean() -> None:
    shutil.rmtree(PLACE, ignore_errors=True)


# -- configs

TABLE = """name = "t"
seeds = [0]
[base]
"plan.steps" = 3
problem = "function"
[tasks.a]
"function.name" = "ackley"
[[arms]]
name = "one"
settings = { "stage.lr" = 0.1 }
[[arms]]
name = "two"
how = "majority"
"""
OWN = """seed = 3
[model]
name = "packaged:smollm2-135m-instruct"
template = "{text} {slots} Topic:"
label_words = { a = "x", b = "y" }
[data]
train = "a.csv"
text_fields = { text = "t" }
[stage]
lr_grid = [0.1, 0.01]
[plan]
rounds = 2
[mentor]
name = "language_model"
fills = ["template"]
[mentor.chat]
provider = "openai"
name = "m"
[budget]
usd = 1.0
"""
ASSIGNED = ("stage.lr=0.03", "mentor.name=none", "model.method=coop", "data.source=emoji", "a.b.c=[1]", "seed=9", "=", "model=3", "..=1")


@cache
def _keys() -> tuple[str, ...]:
    from maao.config import Config

    sections = list(Config.model_fields)
    inner = [key for name in ("model", "budget", "function") for key in Config.model_fields[name].annotation.model_fields]  # type: ignore[union-attr]
    further = (
        "name kind source train select test rounds steps lr lr_grid optimizer options chat provider rule texts template method".split()
    )
    return (*sections, *inner, *further)


def _read_toml(given: tuple[bytes, list[str]]) -> object:
    data, assigned = given
    file = place("configs") / "config.toml"
    file.write_bytes(data)
    return read_config(file, tuple(assigned)).model_dump(mode="json")


def _read_table(data: bytes) -> object:
    from maao.compare.table import cells, read_table

    file = place("configs") / "table.toml"
    file.write_bytes(data)
    return list(cells(read_table(file), file.parent))


def _read_config(given: Any) -> object:
    match given:
        case bytes():
            return _read_table(given)
        case tuple():
            return _read_toml(given)
        case _:
            return make_config(given).model_dump(mode="json")


def _configs() -> Target[Any]:
    wholes = [carried("demo").encode(), carried("demo-decoder").encode(), OWN.encode()]
    assigned = st.one_of(st.just([]), st.lists(texts(ASSIGNED), max_size=2))
    keys = _keys()
    return Target(
        "configs",
        "config files with assignments laid over them, settings from Python, tables of comparisons",
        st.one_of(
            st.tuples(damaged(wholes), assigned),
            st.tuples(damaged(wholes), assigned),
            st.dictionaries(st.sampled_from(keys), values(keys), max_size=4),
            damaged([TABLE.encode()]),
        ),
        _read_config,
        {
            "settings": lambda n: (b"".join(b"k%d = 1\n" % i for i in range(n // 8)), []),
            "a list": lambda n: (b"seed = [" + b"1," * (n // 2) + b"]", []),
            "a text": lambda n: (b"[data]\ntrain = '" + b"x" * n + b"'", []),
            "label words": lambda n: ({"model": {"name": "x", "label_words": {str(i): "w" for i in range(n // 8)}}}),
            "arms": lambda n: TABLE.encode() + b"".join(b'[[arms]]\nname = "a%d"\n' % i for i in range(n // 16)),
        },
    )


# -- data files

ROWS = [("the film was good", "positive"), ('a "dull", long\nfilm', "negative"), ("team 1;2", "positive"), ("x|y", "negative")]


@cache
def _data_wholes() -> tuple[tuple[str, bytes], ...]:
    import csv

    def table(separator: str) -> bytes:
        out = io.StringIO()
        csv.writer(out, delimiter=separator).writerows([("text", "label"), *ROWS])
        return out.getvalue().encode()

    objects = [{"text": text, "label": label, "idx": i} for i, (text, label) in enumerate(ROWS)]
    lines = {"positive": ["good", ["fine", 0.5]], "negative": {"examples": ["dull"], "descriptions": [["what is bad", 1.0]]}}
    return (
        (".csv", table(",")),
        (".csv", table(";")),
        (".tsv", b"text\tlabel\nx\tp\ny\tn\nz\tp\n"),
        (".jsonl", "\n".join(map(json.dumps, objects)).encode()),
        (".json", json.dumps(objects, indent=1).encode()),
        (".lines", json.dumps(lines).encode()),
        (".parquet", _parquet()),
    )


def _parquet() -> bytes:
    import pyarrow
    import pyarrow.parquet

    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}), out)
    return out.getvalue()


def _read_data(given: tuple[str, bytes, str]) -> object:
    ending, data, separator = given
    if ending == ".lines":
        file = place("data") / "lines.json"
        file.write_bytes(data)
        return read_lines(file).to_json()
    from maao.first_config import look

    file = place("data") / f"data{ending}"
    file.write_bytes(data)
    own = {"separator": separator} if separator and ending == ".csv" else {}
    found: list[object] = []
    for read in (
        partial(read_examples, file, **own),
        partial(read_examples, file, **own, text_fields={"text": "text"}, label_field="label", label_names={"0": "zero", "positive": "p"}),
        partial(scan_rows, file, **own),
        partial(seeming_separator, file),
        partial(look, file, **own),
    ):
        with _ours():
            found.append(read())
    return found


def _data() -> Target[Any]:
    wholes = _data_wholes()
    by_ending = {ending: [whole for other, whole in wholes if other == ending] for ending, _ in wholes}
    separators = st.sampled_from(("", "", "", ";", "\t", "|", '"', "ab", "\0", "\n", "é"))
    one_of = [st.tuples(st.just(ending), damaged(held), separators) for ending, held in by_ending.items()]
    return Target(
        "data",
        "tables (.csv, .tsv, .jsonl, .json, .parquet) as examples, as rows and as `maao init` looks at them; files of class lines",
        st.one_of(one_of),
        _read_data,
        {
            "rows": lambda n: (".csv", b"text,label\n" + b"a,b\n" * (n // 4), ""),
            "open quotes": lambda n: (".csv", b"text,label\n" + b'"a\n' * (n // 3), ""),
            "quotes": lambda n: (".csv", b'text,label\n"' + b'"' * n, ""),
            "columns": lambda n: (".csv", b"text,label" + b"".join(b",c%d" % i for i in range(n // 6)) + b"\n" + b"," * (n // 6 + 1), ""),
            "a header that repeats": lambda n: (".csv", b"text," * (n // 5) + b"\nx", ""),
            "separators": lambda n: (".csv", b"a;b|c\td\n" * (n // 8), ""),
            "bytes that are no text": lambda n: (".tsv", b"text\tlabel\n" + b"\xff\n" * (n // 2), ""),
            "brackets": lambda n: (".jsonl", b"[" * n, ""),
            "objects": lambda n: (".jsonl", b'{"text":"a","label":"b"}\n' * (n // 24), ""),
            "keys": lambda n: (".jsonl", json.dumps({str(i): i for i in range(n // 8)}).encode(), ""),
            "a list": lambda n: (".json", b"[" + b"{}," * (n // 3) + b"{}]", ""),
            "digits": lambda n: (".json", b"[" + b"9" * n + b"]", ""),
            "lines": lambda n: (".lines", json.dumps({"a": [f"text {i}" for i in range(n // 8)]}).encode(), ""),
            "classes of lines": lambda n: (".lines", json.dumps({f"c{i}": ["x"] for i in range(n // 10)}).encode(), ""),
        },
    )


@contextmanager
def _ours() -> Iterator[None]:
    """Let errors of ours pass: the input is read in another way too."""
    from maao.errors import MaaoError

    try:
        yield
    except MaaoError as error:
        str(error).encode("utf-8", "surrogateescape")


# -- templates

TEMPLATES = ("{slots} {text} It was", "{text} {slots} Topic:", "Text: {text} {sep} {slots} {mask}.", "{slots}", "a {text}{choice}{slots}")
CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "{{ raise_exception('no') }}",
    "{{ messages[0]['content'] | trim }}",
    "{% set ns = namespace(x=1) %}{{ ns.x / 0 }}{{ strftime_now('%d') }}",
)
TURNS = ("User: {turn}\nAssistant:", "{turn|trim}", "{turn} {turn}", "{slots}{turn}", "")


@cache
def _tokenizers() -> dict[str, Any]:
    from tests.tiny import bpe_tokenizer, roberta_tokenizer, t5_tokenizer, wordpiece_tokenizer

    made = {"decoder": bpe_tokenizer(), "masked": roberta_tokenizer(), "encoder": wordpiece_tokenizer(), "encoder_decoder": t5_tokenizer()}
    return deepcopy(made)  # others read the same, and these are given hostile chat templates


def _read_template(given: Any) -> object:
    from maao.problems.framed import in_braces
    from maao.problems.towers.text.chat_turn import in_turn, render_turn
    from maao.problems.towers.text.template import Template, TemplateTokenizer
    from maao.types import Example

    template, text, kind, turn, chat, choices = given
    tokenizer = _tokenizers()[kind]
    in_braces(template)
    if chat:
        tokenizer.chat_template = chat
        with _ours():
            render_turn(tokenizer, template)
    if turn:
        with _ours():
            in_turn(turn, template)
    parsed = Template.parse(template, chat=bool(turn), turn=turn or None)
    example = Example({"text": text}, "a", choices)
    parsed.check_fields(example)
    bound = TemplateTokenizer(tokenizer, parsed, kind=kind, max_length=40, reserved=6, rows=len(tokenizer))
    with _ours():
        bound.word(text)
    read = bound.example(example)
    assert len(read) <= 34
    return read


def _templates() -> Target[Any]:
    kinds = st.sampled_from(("decoder", "masked", "encoder", "encoder_decoder"))
    turns, chats = st.one_of(st.just(""), st.just(""), texts(TURNS)), st.one_of(st.just(""), st.just(""), st.just(""), texts(CHAT))
    some = texts(("the film was good", "体育", "a <mask> b </s> [SEP] <extra_id_0> {slots}", ""))
    choices = st.one_of(st.just(()), st.just(()), st.tuples(some, some))
    plain: tuple[str, str, tuple[str, ...]] = ("decoder", "", ())

    def grows(template: Callable[[int], str], text: Callable[[int], str]) -> Callable[[int], Any]:
        kind, turn, no_choices = plain
        return lambda n: (template(n), text(n), kind, turn, "", no_choices)

    fixed: Callable[[int], str] = lambda n: "{text} {slots} It was"  # noqa: E731
    return Target(
        "templates",
        "templates, chat templates, turns and label words, with texts of examples put in and cut to a model's length",
        st.tuples(st.one_of(texts(TEMPLATES), st.sampled_from(TEMPLATES)), some, kinds, turns, chats, choices),
        _read_template,
        {
            "braces": grows(lambda n: "{slots}{text}" + "{" * n, lambda n: "a"),
            "fields": grows(lambda n: "{slots}" + "{text}" * (n // 6), lambda n: "a"),
            "unknown fields": grows(lambda n: "{slots}" + "".join(f"{{f{i}}}" for i in range(n // 6)), lambda n: "a"),
            "a long text": grows(fixed, lambda n: "film " * (n // 5)),
            "a text of one word": grows(fixed, lambda n: "x" * n),
            "a text of names of special tokens": grows(fixed, lambda n: "<s>" * (n // 3)),
            "spaces": grows(fixed, lambda n: " " * n),
        },
        (("{slots} {text} It w\udc84s", "a", "encoder", "", "", ()), ("{slots} {text}", "a", "decoder", "\ud800 {turn}", "", ())),
    )


# -- replies

REPLIES = (
    "<think>\n1. no\n</think>\nSure! Here are two:\n1. sort the news\n2. topic of a headline",
    '```json\n{"prompts": ["sort the news", "topic of a headline"], "why": "short"}\n```',
    '{"good": {"examples": ["a fine film", "I liked it"], "descriptions": ["what is praised"]}, "bad": ["dull"]}',
    "| # | Prompt | Why |\n|---|---|---|\n| 1 | sort the news | short |\n",
    "## good\n- a fine film\n- I liked it\n\n**bad**\n1. dull\n2) a waste",
    "sort the news | {text} {slots} Topic: | good: great | bad: terrible",
    "<prompt>sort the news</prompt> (loss 0.31)",
)
BODIES = (
    {"choices": [{"message": {"content": "hi", "reasoning_content": "hm"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3}},
    {"choices": [{"message": {"content": [{"type": "text", "text": "hi"}]}}], "usage": {"completion_tokens": 2.0}, "model": "m"},
    {"error": {"message": "slow down", "code": 429, "metadata": {"headers": {"Retry-After": "3"}}}},
    [{"error": {"message": "no", "status": "RESOURCE_EXHAUSTED"}}],
)
HEADERS = {"retry-after": "3", "x-ratelimit-reset-requests": "20s", "content-type": "text/html", "x-ratelimit-reset": "1700000000000"}
LABELS = ("good", "bad", 'a "class": {x}')


def _read_any_reply(given: Any) -> object:
    if isinstance(given, str):
        names, cut = Names(LABELS), "the reply was cut"
        fields = Fields(("template", "label_words"), LABELS[:2])
        found: list[object] = [
            read_list(given, count=3, cut=cut),
            read_list(given, count=2, fill=fields.line_of_object),
            read_one(given, tag="prompt", last=True),
            read_continuation(given, cut=cut),
        ]
        for classes in (LABELS[:1], LABELS):
            lines, rejected = read_reply(given, Asked(classes, {"examples": 2, "descriptions": 1}), names, cut)
            assert {line.label for line in lines} <= {*classes} and len(lines) <= 3 * len(classes)
            assert ClassLines.from_json(lines.to_json(), LABELS) == lines
            found.append(rejected)
        for line in given.split("\n")[:3]:
            with _ours():
                _, filled = fields.split(line)
                assert {*filled} <= {"template", "label_words.good", "label_words.bad"}
        return found
    status, headers, body = given
    return read_answer(Answer(status, headers, body), Request("m", (Message("user", "hi"),)), "m")


def _replies() -> Target[Any]:
    bodies = [json.dumps(body).encode() for body in BODIES] + [b"<html><title>502 Bad Gateway</title>", b"data: {}\n\ndata: [DONE]"]
    headers = st.dictionaries(st.sampled_from(tuple(HEADERS)), texts(tuple(HEADERS.values())), max_size=2)
    answers = st.tuples(st.sampled_from((200, 200, 204, 301, 400, 401, 429, 500, 503, 999)), headers, damaged(bodies))
    repeated = {
        name: (lambda n, piece=piece: piece * (n // len(piece)))
        for name, piece in {
            "thoughts": "<think>",
            "brackets": "[",
            "objects": '{"prompts":[',
            "quotes": '"a" ',
            "headings": "## good\n- x\n",
            "tags": "<prompt>a</prompt>",
            "bars": "a | b | ",
            "classes": '{"good":["x"]}\n',
            "names and spaces": '"prompt"   ',
            "escapes": "\\u",
            "marks that combine": "e\u0301",
        }.items()
    }
    return Target(
        "replies",
        "what a mentor says, as prompts, fillings and class lines; what a server answers, with its headers",
        st.one_of(texts(REPLIES), texts(REPLIES), answers),
        _read_any_reply,
        {
            **repeated,
            "a body of brackets": lambda n: (200, {}, b"[" * n),
            "parts": lambda n: (200, {}, json.dumps({"choices": [{"message": {"content": [{"text": "a"}] * (n // 14)}}]}).encode()),
            "an error of brackets": lambda n: (500, {}, b'{"error":' * (n // 9)),
            "titles": lambda n: (502, {}, b"<title" * (n // 6)),
            "a long wait": lambda n: (429, {"retry-after": "9" * n, "x-ratelimit-reset-tokens": "1h" * (n // 2)}, b"{}"),
        },
    )


# -- batch files

ASKED = (
    Request("m", (Message("user", "What is it?"),)),
    Request("m", (Message("system", "s"), Message("user", "Grüße\n雪")), stop=("end",), sample=2, extra={"top_k": 5}, schema={"a": 1}),
    Request("c", (Message("user", "Once"),), style="completion"),
)


@cache
def _batch_wholes() -> tuple[bytes, ...]:
    usage = {"prompt_tokens": 3, "completion_tokens": 1}
    lines = [
        *(line_of(Entry(asked, Reply("hi", Usage(3, 1), "m", who="w", date="2026-01-31T12:00:00+00:00"))) for asked in ASKED),
        *(json.dumps({"custom_id": custom_id(asked.key), "text": "hi", "who": "w", "when": "2026-01-31", "how": "h"}) for asked in ASKED),
        *(
            json.dumps(
                {
                    "custom_id": custom_id(asked.key),
                    "response": {"status_code": 200, "body": {**BODIES[0], "usage": usage, "created": 1700000000}},  # type: ignore[dict-item]
                    "error": None,
                }
            )
            for asked in ASKED
        ),
        *map(batch_line, ASKED),
    ]
    return (
        "\n".join(lines[:3]).encode(),
        "\n".join(lines[3:6]).encode(),
        "\n".join(lines[6:9]).encode(),
        *(line.encode() for line in lines),
    )


def _read_batch(data: bytes) -> object:
    file = place("batch") / f"replies-{zlib.crc32(data):08x}.jsonl"  # each input a name of its own: records are kept by name and time
    file.write_bytes(data)
    try:
        known = [Entry(ASKED[0], Reply("hi", Usage(3, 1)))]
        lines = [(f"line {i}", line) for i, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1)]
        read = read_replies(lines, ASKED, known)
        assert {entry.request.key for entry in read.entries} <= {asked.key for asked in ASKED}
        for entry in read.entries:
            line_of(entry).encode("utf-8", "backslashreplace")
        with _ours():
            read_record(file)
    finally:
        file.unlink()
    return read


def _batch() -> Target[bytes]:
    wholes = _batch_wholes()
    plain = json.dumps({"custom_id": custom_id(ASKED[0].key), "text": "hi"}).encode() + b"\n"
    return Target(
        "batch",
        "files of replies (a provider's batch, plain lines, records) read for requests that are open, and as records",
        damaged(wholes),
        _read_batch,
        {
            "lines": lambda n: plain * (n // len(plain)),
            "brackets": lambda n: b"[" * n,
            "a long text": lambda n: plain.replace(b"hi", b"x" * n),
            "empty lines": lambda n: b"\n" * n,
            "ids": lambda n: b"".join(b'{"custom_id": "%d", "text": "x"}\n' % i for i in range(n // 32)),
        },
    )


# -- run folders

WALKED = {
    "problem": "function",
    "threads": 1,
    "stage": {"lr_grid": [0.01, 0.1], "lr_steps": 2},
    "plan": {"rounds": 1, "steps": 3},
    "accept": {"steps": 2},
    "mentor": {"name": "scripted", "texts": ["1 1", "2 2", "nonsense"]},
}
COLUMNS = {
    "rounds": "round leg advice_cost loss accuracy score clues cost chosen verdict_cost verdict_meta verdict_tensors state_tensors "
    "state_meta",
    "observations": "round position step loss cost params_tensors",
    "proposals": "round position text source note fields params_tensors",
    "rejected": "round position text kind reason",
    "considered": "round proposal age weight score",
    "calls": "key model date request reply input_tokens output_tokens usd seconds",
    "finals": "name split score text date",
    "meta": "key value",
}


@cache
def _runs() -> dict[str, dict[str, bytes]]:
    """Return the files of a finished run on a function, of one on texts with recorded calls, and of a saved classifier."""
    import maao
    from tests.api.small_runs import config
    from tests.tiny import tiny_model, tiny_splits

    base = place("whole")
    frozen = tiny_model("llama")
    frozen.model.save_pretrained(base / "model")
    frozen.tokenizer.save_pretrained(base / "model")
    maao.run(make_config(WALKED), base / "function")
    language = maao.run(config(base / "model", {}, plan__rounds=1, plan__steps=2), base / "language", splits=tiny_splits())
    language.predictor.save(base / "classifier")
    return {
        name: {str(file.relative_to(base / name)): file.read_bytes() for file in sorted((base / name).rglob("*")) if file.is_file()}
        for name in ("function", "language", "classifier")
    }


def _read_run(given: tuple[str, str, bytes | tuple[str, str, object, bool]]) -> object:
    name, file, change = given
    folder = place(f"runs of {name}") / name
    whole = _runs()[name]
    if not folder.exists():
        for inside, held in whole.items():
            (folder / inside).parent.mkdir(parents=True, exist_ok=True)
            (folder / inside).write_bytes(held)
    try:
        if isinstance(change, bytes):
            (folder / file).write_bytes(change)
        else:
            _set_cell(folder / file, *change)
        return _read_classifier(folder) if name == "classifier" else _read_whole(folder)
    finally:
        (folder / file).write_bytes(whole[file])


def _set_cell(file: Path, table: str, column: str, value: object, checked: bool) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = MEMORY")
        with suppress(sqlite3.Error, OverflowError, UnicodeError):  # what SQLite itself does not take
            connection.execute(f"UPDATE {table} SET {column} = ?", (value,))
        if not checked:
            connection.execute("UPDATE rounds SET checksum = NULL")


def _read_classifier(folder: Path) -> object:
    from maao.predictor import load

    return load(folder)


def _read_whole(folder: Path) -> object:
    import maao
    from maao.report.documents import clues_document, dumped, run_document
    from maao.report.run import report
    from maao.store.listing import list_runs
    from maao.waiting import answered_in, read_waits

    found = list_runs(folder.parent)
    with _ours():
        read_waits(folder)
    with _ours():
        answered_in(folder)
    result = maao.load(folder)
    dumped({**run_document(result), "clues": clues_document(result)}).encode("utf-8", "surrogatepass")
    report(result)
    return found


def _run_folders() -> Target[Any]:
    keys = ("rounds", "text", "fields", "metrics", "loss", "accuracy", "name", "model", "problem", "format", "labels", "notes", "weights")
    files = [
        st.tuples(st.just(name), st.just(file), damaged([whole]))
        for name, inside in _runs().items()
        for file, whole in inside.items()
        if file != "run.lock"
    ]
    exchanged = [
        st.tuples(st.just(name), st.just(file), st.builds(_exchanged, st.just(whole), st.integers(0, 2**16), values(keys)))
        for name, inside in _runs().items()
        for file, whole in inside.items()
        if file.endswith(".json")
    ]
    cell = st.one_of(
        values(keys).map(lambda value: json.dumps(value, default=str)),
        st.sampled_from(WORDS).map(lambda word: word.encode("utf-8", "replace").decode()),
        st.binary(max_size=8),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(),
        st.none(),
    )
    columns = [(table, column) for table, named in COLUMNS.items() for column in named.split()]
    cells = [
        st.tuples(
            st.just(name),
            st.just("run.sqlite"),
            st.tuples(st.sampled_from(columns), cell, st.booleans()).map(lambda c: (*c[0], c[1], c[2])),
        )
        for name in ("function", "language")
    ]
    return Target(
        "runs",
        "every file of run folders and of saved classifiers, and every column of run.sqlite: listed, shown, as a document, as requests",
        st.one_of(st.one_of(files), st.one_of(exchanged), *cells, *cells),
        _read_run,
        {
            "brackets in the config": lambda n: ("function", "config.json", b"[" * n),
            "keys in the config": lambda n: ("function", "config.json", json.dumps({str(i): i for i in range(n // 10)}).encode()),
            "a long note": lambda n: ("function", "run.sqlite", ("proposals", "note", "x" * n, False)),
            "a long text": lambda n: ("language", "run.sqlite", ("proposals", "text", "x " * (n // 2), False)),
        },
    )


def _exchanged(whole: bytes, number: int, value: object) -> bytes:
    """Return a JSON document with one of its values, at any depth, exchanged for another."""
    held = json.loads(whole)
    places: list[tuple[Any, Any]] = []
    inside: list[Any] = [held]
    while inside:
        one = inside.pop()
        for key in list(one) if isinstance(one, dict) else range(len(one)):
            places.append((one, key))
            if isinstance(one[key], dict | list):
                inside.append(one[key])
    one, key = places[number % len(places)]
    one[key] = value
    return json.dumps(held, default=str).encode()


# -- pictures


@cache
def _pictures() -> tuple[bytes, ...]:
    from PIL import Image

    noise = bytes((x * 37 + x * x * 11) % 256 for x in range(8 * 6 * 4))
    of = {mode: Image.frombytes(mode, (8, 6), noise[: 8 * 6 * size]) for mode, size in (("RGB", 3), ("RGBA", 4), ("L", 1), ("CMYK", 4))}
    of["P"] = of["RGB"].convert("P", palette=Image.Palette.ADAPTIVE, colors=7)
    of["1"], of["I;16"] = of["L"].convert("1"), Image.frombytes("I;16", (8, 6), noise[:96])
    of["LA"] = of["RGBA"].convert("LA")
    frames = [of["RGB"].rotate(90 * i) for i in range(1, 3)]
    exif = Image.Exif()
    exif[0x0112] = 6
    saved: list[tuple[str, str, dict[str, Any]]] = [
        ("RGB", "PNG", {}), ("RGBA", "PNG", {}), ("I;16", "PNG", {}), ("P", "PNG", {"transparency": 1}), ("1", "PNG", {}),
        ("RGB", "PNG", {"save_all": True, "append_images": frames}), ("RGB", "JPEG", {"exif": exif}), ("CMYK", "JPEG", {}),
        ("L", "JPEG", {"progressive": True}), ("P", "GIF", {}), ("RGB", "GIF", {"save_all": True, "append_images": frames}),
        ("RGB", "BMP", {}), ("RGB", "PPM", {}), ("L", "PPM", {}), ("RGB", "TIFF", {}), ("I;16", "TIFF", {}),
        ("1", "TIFF", {"compression": "group4"}),
        ("RGB", "TIFF", {"compression": "tiff_lzw", "save_all": True, "append_images": frames}), ("RGB", "WEBP", {}),
        ("RGBA", "WEBP", {"save_all": True, "append_images": [of["RGBA"].rotate(90)]}), ("LA", "PNG", {}),
    ]  # fmt: skip
    found = []
    for mode, kind, how in saved:
        out = io.BytesIO()
        of[mode].save(out, kind, **how)
        found.append(out.getvalue())
    return tuple(found)


def _read_picture(data: bytes) -> object:
    from maao.data.images.reading import decoded

    read = decoded(data, "a.png")
    assert read.image.mode == "RGB"
    for note in read.notes:
        note.encode()
    return read


def _picture_target() -> Target[bytes]:
    def frames(kind: str) -> Callable[[int], bytes]:
        def make(n: int) -> bytes:
            from PIL import Image

            out = io.BytesIO()
            pictures = [Image.new("L", (1, 1), i % 2 * 255) for i in range(2 + n // 64)]
            pictures[0].save(out, kind, save_all=True, append_images=pictures[1:])
            return out.getvalue()

        return make

    def square(n: int) -> bytes:
        from PIL import Image

        out = io.BytesIO()
        side = max(1, min(4000, int(n**0.5)))
        Image.new("RGB", (side, side)).save(out, "BMP")
        return out.getvalue()

    return Target(
        "pictures",
        "picture files of every format that is read, as one picture in RGB with its notes",
        damaged(_pictures()),
        _read_picture,
        {
            "zeros": lambda n: bytes(n),
            "a picture and what follows": lambda n: _pictures()[0] + bytes(n),
            "frames of a GIF": frames("GIF"),
            "frames of a TIFF": frames("TIFF"),
            "a large picture": square,
            "comments of a PPM": lambda n: b"P6\n" + b"# x\n" * (n // 4) + b"1 1\n255\nabc",
            "blocks of a GIF": lambda n: b"GIF89a\1\0\1\0\0\0\0" + b"!\xfe\1a\0" * (n // 5) + b";",
            "segments of a JPEG": lambda n: b"\xff\xd8" + b"\xff\xfe\0\4ab" * (n // 6) + b"\xff\xd9",
            "chunks of a PNG": lambda n: _pictures()[0][:33] + _chunk(b"tEXt", b"a\0b") * (n // 15) + _pictures()[0][33:],
        },
    )


def _chunk(kind: bytes, held: bytes) -> bytes:
    return len(held).to_bytes(4, "big") + kind + held + zlib.crc32(kind + held).to_bytes(4, "big")


# -- GGUF


@cache
def gguf_bytes() -> bytes:
    """Return a small whole GGUF file."""
    import gguf
    import numpy

    file = place("gguf") / "whole.gguf"
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_uint32("llama.block_count", 1)
    writer.add_uint32("llama.embedding_length", 4)
    writer.add_float32("llama.rope.freq_base", 1e4)
    writer.add_string("general.name", "tiny")
    writer.add_token_list(["<s>", "a", "b"])
    writer.add_token_types([3, 1, 1])
    writer.add_tensor("token_embd.weight", numpy.arange(12, dtype=numpy.float32).reshape(3, 4))
    writer.add_tensor("output.weight", numpy.zeros((3, 4), numpy.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file.read_bytes()


def _read_gguf(data: bytes) -> object:
    from maao.problems.towers.text.gguf_header import check_gguf

    file = place("gguf") / "model.gguf"
    file.write_bytes(data)
    check_gguf(file)
    return len(data)


def _gguf() -> Target[bytes]:
    whole = gguf_bytes()

    def count(tensors: int, values: int) -> bytes:
        return whole[:8] + number(tensors) + number(values)

    def number(value: int) -> bytes:
        return value.to_bytes(8, "little")

    def text(data: bytes) -> bytes:
        return number(len(data)) + data

    return Target(
        "gguf",
        "the header of GGUF files, which is looked at before anything is made of one",
        damaged([whole]),
        _read_gguf,
        {
            "settings": lambda n: count(0, n // 16) + (text(b"abc") + b"\4\0\0\0\1\0\0\0") * (n // 16),
            "a list of texts": lambda n: count(0, 1) + text(b"a") + b"\x09\0\0\0\x08\0\0\0" + number(n // 9) + text(b"x") * (n // 9),
            "tensors": lambda n: count(n // 30, 0) + (text(b"t") + b"\0" * 21) * (n // 30),
        },
    )


MAKERS: dict[str, Callable[[], Target[Any]]] = {
    "configs": _configs,
    "data": _data,
    "templates": _templates,
    "replies": _replies,
    "runs": _run_folders,
    "pictures": _picture_target,
    "batch": _batch,
    "gguf": _gguf,
}


@cache
def target(name: str) -> Target[Any]:
    """Return the target of a name."""
    return MAKERS[name]()

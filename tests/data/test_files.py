"""Reading files: every format, and every way in which a file can be wrong."""

import csv
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maao.data.files import read_examples
from maao.errors import ConfigError, DataError
from maao.types import Example

POLARITY = {"0": "negative", "1": "positive"}
EXPECTED = (Example({"text": "dull"}, "0"), Example({"text": "fine"}, "1"))


def message(path, **kwargs) -> str:
    with pytest.raises(DataError) as caught:
        read_examples(path, **kwargs)
    return str(caught.value)


# What is read


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text,label\ndull,0\nfine,1\n"),
        ("a.csv", "label,text\r\n0,dull\r\n1,fine\r\n"),
        ("a.CSV", "text,label\n\ndull,0\nfine,1"),
        ("a.tsv", "text\tlabel\ndull\t0\nfine\t1\n\n"),
        ("a.tsv", "sentence\tlabel\r\ndull\t 0\r\nfine\t1 \r\n"),
        ("a.tsv", b"\xef\xbb\xbftext\tlabel\ndull\t0\nfine\t1\n"),
        ("a.csv", b"\xef\xbb\xbftext,label\ndull,0\nfine,1\n"),
        ("a.jsonl", '{"text": "dull", "label": 0}\n\n{"text": "fine", "label": "1", "more": [1]}\n'),
        ("a.json", '{"sentence": "dull", "label": 0}\r\n{"sentence": "fine", "label": 1}\r\n'),
        ("a.ndjson", b'\xef\xbb\xbf{"text": "dull", "label": 0}\n{"text": "fine", "label": 1}'),
        ("a.json", '\n[{"text": "dull", "label": 0},\n {"text": "fine", "label": 1}]\n'),
    ],
)
def test_every_text_format_gives_the_same_examples(write, name, content):
    assert read_examples(write(name, content)) == EXPECTED


def test_parquet_gives_the_same_examples_as_text(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["dull", "fine"], "label": [0, 1], "unread": [{"a": 1}, {"a": 2}]}), path)
    assert read_examples(path) == EXPECTED
    assert read_examples(path, text_fields={"n": "unread.a"}) == (Example({"n": "1"}, "0"), Example({"n": "2"}, "1"))


def test_several_columns_become_template_fields(write):
    path = write("a.tsv", "id\tsentence1\tsentence2\tgold\n7\tIt rains.\tIt is wet.\tyes\n")
    fields = {"premise": "sentence1", "hypothesis": "sentence2"}
    assert read_examples(path, text_fields=fields, label_field="gold") == (
        Example({"premise": "It rains.", "hypothesis": "It is wet."}, "yes"),
    )


def test_dots_reach_into_nested_columns(write):
    path = write("a.jsonl", '{"text": "Bob is he.", "target": {"span1_text": "Bob"}, "label": true}')
    fields = {"text": "text", "noun": "target.span1_text"}
    assert read_examples(path, text_fields=fields) == (Example({"text": "Bob is he.", "noun": "Bob"}, "true"),)


def test_json_booleans_and_integers_become_text(write):
    path = write("a.jsonl", "\n".join(json.dumps({"text": "x", "label": label}) for label in (True, False, 12, -1)))
    assert [example.label for example in read_examples(path)] == ["true", "false", "12", "-1"]


def test_label_names_rename_raw_labels(write):
    path = write("a.csv", "text,label\ndull,0\nfine,1\n")
    assert [example.label for example in read_examples(path, label_names=POLARITY)] == ["negative", "positive"]


def test_csv_quotes_may_hold_separators_quotes_and_line_breaks(write):
    path = write("a.csv", 'text,label\n"one, ""two""\r\nthree",0\n')
    assert read_examples(path) == (Example({"text": 'one, "two"\r\nthree'}, "0"),)


def test_tsv_quotes_are_ordinary_characters(write):
    path = write("a.tsv", 'text\tlabel\n"open and `` bad \'\'\t0\na "b" c"\t1\n')
    assert [example.fields["text"] for example in read_examples(path)] == ["\"open and `` bad ''", 'a "b" c"']


def test_text_keeps_its_white_space_and_odd_separators(write):
    text = " a\u2028b\x0cc\u0085d\re "
    assert read_examples(write("a.tsv", f"text\tlabel\n{text}\t0\n"))[0].fields["text"] == text
    assert read_examples(write("a.jsonl", json.dumps({"text": text, "label": 0}, ensure_ascii=False)))[0].fields["text"] == text


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_very_long_fields_are_read_and_the_csv_limit_is_put_back(write, ending):
    limit, separator = csv.field_size_limit(), "," if ending == "csv" else "\t"
    text = "word " * 100_000
    assert read_examples(write(f"a.{ending}", f"text{separator}label\n{text}{separator}0\n"))[0].fields["text"] == text
    assert csv.field_size_limit() == limit


CELLS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1).filter(str.strip)


@given(texts=st.lists(CELLS, min_size=1, max_size=5))
def test_whatever_the_csv_module_writes_is_read_back(tmp_path_factory, texts):
    path = tmp_path_factory.getbasetemp() / "round_trip.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *((text, "x") for text in texts)])
    assert [example.fields["text"] for example in read_examples(path)] == texts


# What is refused


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize(("name", "separator"), [("a.csv", b","), ("a.tsv", b"\t")])
def test_bytes_that_are_not_utf8_name_file_and_line(write, name, separator, bom):
    text = message(write(name, bom + b"text" + separator + b"label\nfine" + separator + b"1\ncaf\xe9" + separator + b"0\n"))
    assert name in text and "line 3" in text and "0xe9" in text and "UTF-8" in text


def test_utf16_is_named_as_such(write):
    assert "UTF-16" in message(write("a.csv", "text,label\nfine,1\n".encode("utf-16")))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_a_nul_byte_names_its_line(write, name):
    text = message(write(name, "text,label\nfi\0ne,1\n"))
    assert "line 2" in text and "NUL" in text


def test_a_malformed_json_line_is_named(write):
    text = message(write("a.jsonl", '{"text": "fine", "label": 1}\n{"text": "dull", "label": \n'))
    assert "a.jsonl, line 2" in text and "not correct JSON" in text


def test_a_malformed_json_list_names_its_line(write):
    assert "line 3" in message(write("a.json", '[{"text": "a", "label": 0},\n {"text": "b", "label": 1},\n {"text" "c"}]'))


@pytest.mark.parametrize("content", ["[" * 100_000, '{"text": "a", "label": ' + "9" * 10_000 + "}"])
def test_json_that_python_cannot_hold_is_an_error_of_ours(write, content):
    assert "line 1" in message(write("a.json", content))


def test_a_json_line_that_is_no_object_is_named(write):
    assert "line 2: is a str" in message(write("a.jsonl", '{"text": "a", "label": 0}\n"b"\n'))
    assert "item 2: is a list" in message(write("a.json", '[{"text": "a", "label": 0}, []]'))


def test_a_missing_column_names_those_there_and_the_nearest(write):
    text = message(write("a.csv", "text,Label,idx\nfine,1,0\n"))
    assert "no column 'label'" in text and "Did you mean 'Label'?" in text and "'text', 'Label', 'idx'" in text


def test_a_missing_column_in_parquet_names_those_there(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["dull"], "lable": [0], "other": ["x"]}), path)
    text = message(path)
    assert "Did you mean 'lable'?" in text and "'other'" in text


def test_a_json_row_without_the_column_is_named(write):
    text = message(write("a.jsonl", '{"text": "a", "label": 0}\n{"txt": "b", "label": 1}\n'))
    assert "line 2: there is no column 'text'. Did you mean 'txt'?" in text


def test_without_text_or_sentence_the_columns_are_listed(write):
    text = message(write("a.csv", "headline,label\nfine,1\n"))
    assert "no column is called 'text' or 'sentence'" in text and "text_fields" in text and "'headline', 'label'" in text


def test_text_and_sentence_together_are_ambiguous(write):
    path = write("a.csv", "text,sentence,label\na,b,1\n")
    assert "both" in message(path)
    assert read_examples(path, text_fields={"text": "sentence"})[0].fields == {"text": "b"}


def test_no_text_fields_at_all_are_refused(write):
    with pytest.raises(ConfigError, match="text_fields"):
        read_examples(write("a.csv", "text,label\na,1\n"), text_fields={})


def test_a_missing_file_names_near_ones(write):
    path = write("train.tsv", "text\tlabel\na\t1\n")
    assert "no such file. Did you mean 'train.tsv'?" in message(path.with_name("trian.tsv"))
    assert "'train.tsv'" in message(path.with_name("x.parquet"))
    write("train.csv", "text,label\na,1\n")
    write("one.csv", "text,label\na,1\n")
    write("s.csv", "text,label\na,1\n")
    assert "Did you mean 'train.csv' or 'train.tsv'?" in message(path.with_name("trian.csv"))
    text = message(path.with_name("nope.csv"))  # an ending that is the same makes no names alike
    assert "Did you mean" not in text and "Files in that folder: 'one.csv', 's.csv', 'train.csv', 'train.tsv'." in text


def test_a_missing_folder_is_said_so(tmp_path):
    assert "does not exist either" in message(tmp_path / "nowhere" / "train.tsv")


def test_a_folder_is_no_file(write, tmp_path):
    write("train.tsv", "text\tlabel\na\t1\n")
    text = message(tmp_path)
    assert "is a folder" in text and "'train.tsv'" in text


def test_an_unknown_ending_lists_those_known(write):
    assert ".csv, .tsv, .jsonl" in message(write("a.xlsx", "text,label\na,1\n"))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet"])
def test_an_empty_file_is_refused(write, name):
    assert "empty" in message(write(name, ""))


@pytest.mark.parametrize("content", ["\n \n", "\ufeff"])
def test_white_space_alone_is_an_empty_file(write, content):
    assert "empty" in message(write("a.csv", content))


def test_a_header_alone_holds_no_examples(write):
    assert "no examples: line 1 is read as the header ('text', 'label')" in message(write("a.tsv", "text\tlabel\n"))
    assert "no examples" in message(write("a.json", "[]"))


@pytest.mark.parametrize(
    ("row", "count"),
    [("a\t1\tb", 3), ("alone", 1)],
)
def test_a_row_of_the_wrong_width_names_its_line(write, row, count):
    text = message(write("a.tsv", f"text\tlabel\nfine\t1\n{row}\n"))
    assert f"line 3: has {count} columns where the header has 2" in text


def test_a_csv_row_of_the_wrong_width_names_the_line_it_starts_on(write):
    assert "line 4: has 3 columns" in message(write("a.csv", 'text,label\n"two\nlines",1\n"also\ntwo",1,2\n'))


def test_a_quote_left_open_names_the_line_it_opens_on(write):
    text = message(write("a.csv", 'text,label\nfine,1\n"open,0\nand,1\n'))
    assert "line 3: not correct CSV" in text


def test_a_header_that_repeats_a_name_is_refused(write):
    assert "'text' more than once" in message(write("a.csv", "text,text,label\na,b,1\n"))


def test_empty_texts_and_labels_are_named_all_together(write):
    text = message(write("a.tsv", "text\tlabel\n \t1\nfine\t1\nfine\t \n"))
    assert "2 of 3 rows" in text and "line 2 (the field 'text' is empty)" in text and "line 4 (the label is empty)" in text


def test_many_bad_rows_are_counted(write):
    assert "20 of 20 rows" in (text := message(write("a.csv", "text,label\n" + ",1\n" * 20))) and "and 10 more" in text


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"text": null, "label": 1}', "the field 'text' is missing (null)"),
        ('{"text": ["a"], "label": 1}', "the field 'text' is a list"),
        ('{"text": "a", "label": null}', "the label is missing (null)"),
        ('{"text": "a", "label": 0.5}', "the label is the number 0.5"),
        ('{"text": "a", "label": NaN}', "the label is missing (null)"),
        ('{"text": "a\\u0000", "label": 1}', "NUL"),
        ('{"text": "a\\ud800", "label": 1}', "surrogate"),
    ],
)
def test_values_that_are_no_text_are_named(write, row, said):
    text = message(write("a.jsonl", row))
    assert "line 1 (" in text and said in text


def test_a_label_without_a_name_is_named_with_its_row(write):
    text = message(write("a.csv", "text,label\ndull,0\nfine,2\n"), label_names=POLARITY)
    assert "line 3 (the label '2' is not in label_names)" in text and "label_names knows '0', '1'" in text


def test_an_empty_label_name_is_refused(write):
    with pytest.raises(ConfigError, match="empty name"):
        read_examples(write("a.csv", "text,label\ndull,0\n"), label_names={"0": " "})


@pytest.mark.parametrize("values", ["text that is no UTF-8", "a date that no calendar has"])
def test_a_value_of_parquet_that_cannot_be_read_is_named_by_row_and_column(tmp_path, values):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    if values.startswith("text"):
        column = pa.array([b"fine", b"na\xefve"]).view(pa.string())
    else:
        column = pa.array([0, 2**31 - 1], pa.int32()).view(pa.date32())
    pq.write_table(pa.table({"text": column, "label": ["0", "1"]}), path)
    assert "a.parquet, row 2, column 'text': cannot be read" in message(path)


def test_bytes_that_are_no_parquet_are_refused(write):
    pytest.importorskip("pyarrow")
    assert "cannot be read as parquet" in message(write("a.parquet", b"text,label\nfine,1\n"))


def test_a_column_of_parquet_whose_name_is_no_text_is_refused(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"text": ["fine"], "labeler": ["0"]}), tmp_path / "a.parquet", store_schema=False)
    held = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(held.replace(b"labeler", b"lab\x89ler"))
    assert "a.parquet: cannot be read as parquet: 'utf-8' codec" in message(tmp_path / "a.parquet")


def test_parquet_without_pyarrow_names_the_extra(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert 'pip install "maao[data]"' in message(write("a.parquet", b"PAR1"))


# Real data


@pytest.fixture(scope="module")
def data() -> Path:
    folder = os.environ.get("MAAO_DATA")
    if not folder or not Path(folder, "fewshot").is_dir():
        pytest.skip("MAAO_DATA does not name the folder with the real data (fewshot/, fewglue/)")
    return Path(folder)


@pytest.mark.parametrize(
    ("name", "rows", "labels"),
    [
        ("sst-2/seed-13/train", 32, {"0", "1"}),
        ("sst-2/test", 1821, {"0", "1"}),
        ("agnews/seed-13/train", 64, {"0", "1", "2", "3"}),  # its header says `text`
        ("agnews/test", 7600, {"0", "1", "2", "3"}),  # and this one `sentence`
    ],
)
def test_real_tables_are_read_whole(data, name, rows, labels):
    examples = read_examples(data / f"fewshot/{name}.tsv")
    assert len(examples) == rows and {example.label for example in examples} == labels


@pytest.mark.parametrize(
    ("task", "fields", "labels"),
    [
        ("BoolQ", {"passage": "passage", "question": "question"}, {"true", "false"}),
        ("COPA", {"premise": "premise", "choice1": "choice1", "choice2": "choice2"}, {"0", "1"}),
        ("RTE", {"premise": "premise", "hypothesis": "hypothesis"}, {"entailment", "not_entailment"}),
        ("WiC", {"sentence1": "sentence1", "sentence2": "sentence2", "word": "word"}, {"true", "false"}),
        ("WSC", {"text": "text", "noun": "target.span1_text", "pronoun": "target.span2_text"}, {"true", "false"}),
    ],
)
def test_real_json_lines_are_read_whole(data, task, fields, labels):
    for part in ("train", "dev32"):
        examples = read_examples(data / f"fewglue/{task}/{part}.jsonl", text_fields=fields)
        assert len(examples) == 32 and {example.label for example in examples} == labels

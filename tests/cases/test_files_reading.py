"""Files and people: what is in a file is read as it stands, or its lines are named with what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maao.builder import load_data
from maao.config import make_config
from maao.data.files import read_examples, scan_rows
from maao.data.task import read_task
from maao.errors import ConfigError, DataError
from maao.types import Example


def told(path: Path, error: type[Exception] = DataError, **kwargs) -> str:
    with pytest.raises(error) as caught:
        read_examples(path, **kwargs)
    return str(caught.value)


# -- separators


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")])
def test_f_another_separator_is_named_and_read_if_told_so(write, separator, name):
    path = write("a.csv", f'text{separator}label\n"good, very; good|film\t."{separator}pos\ndull{separator}neg\n')
    text = told(path)
    assert f"seem to be separated by {name}" in text and f"Set data.separator = {json.dumps(separator)}." in text
    assert read_examples(path, separator=separator) == (
        Example({"text": "good, very; good|film\t."}, "pos"),
        Example({"text": "dull"}, "neg"),
    )


def test_f_a_separator_that_is_not_the_files_is_told(write):
    assert "separated by commas" in (text := told(write("a.csv", "text,label\na,1\n"), separator=";")) and "Drop data.separator" in text


def test_f_commas_in_texts_do_not_hide_the_separator(write):
    assert "semicolons" in told(write("a.csv", "text;label\na, b, c;1\nd, e;0\n"))


def test_f_one_column_with_a_semicolon_in_its_rows_alone_is_one_column(write):
    assert "no column is called" in told(write("a.csv", "headline\na; b\n"))


@pytest.mark.parametrize("name", ["a.tsv", "a.jsonl"])
def test_f_a_separator_that_would_be_ignored_is_refused(write, name):
    assert "data.separator = ';' would be ignored" in told(write(name, "text\tlabel\na\t1\n"), ConfigError, separator=";")


@pytest.mark.parametrize("separator", ["", ";;", '"', "\n"])
def test_f_a_separator_that_cannot_be_is_refused(write, separator):
    assert "must be one character" in told(write("a.csv", "text,label\na,1\n"), ConfigError, separator=separator)


def test_f_the_separator_and_the_columns_are_settings(write):
    rows = "\n".join(f"{i};text {i};{'yes' if i % 2 else 'no'}" for i in range(8))
    path = write("pool.csv", f"id;headline;verdict\n{rows}\n")
    data = {
        "source": str(path),
        "separator": ";",
        "text_fields": {"text": "headline"},
        "label_field": "verdict",
        "shots": 1,
        "test_size": 2,
    }
    splits = load_data(make_config({"data": data})).splits
    assert splits.labels == ("no", "yes") and all(example.fields["text"].startswith("text ") for example in splits.train)
    with pytest.raises(ConfigError, match=r"'data\.separator' would be ignored"):
        load_data(make_config({"data": {"separator": ";"}}))


# -- columns


def test_f_boolq_with_its_answer_column_says_which_columns_there_are(write):
    path = write("train.jsonl", '{"question": "is it", "answer": true, "passage": "It is."}\n')
    with pytest.raises(DataError) as caught:
        read_task("boolq", path)
    text = str(caught.value)
    assert "'question', 'answer', 'passage'" in text and "data.label_field ('answer'?)" in text and "data.text_fields" in text


def test_f_a_file_of_superglue_without_labels_is_still_the_test_split(write):
    path = write("test.jsonl", '{"question": "is it", "passage": "It is.", "idx": 0}\n')
    with pytest.raises(DataError, match="Is this the test split"):
        read_task("boolq", path)


def test_f_a_missing_label_column_says_how_to_name_it(write):
    text = told(write("a.jsonl", '{"question": "q", "answer": true, "text": "t"}'))
    assert "Columns: 'question', 'answer', 'text'. Name the column of the label with data.label_field." in text
    assert read_examples(write("b.jsonl", '{"answer": true, "text": "t"}'), label_field="answer")[0].label == "true"


def test_f_the_fields_of_a_template_are_columns_of_their_names(write):
    path = write("a.csv", "id,premise,hypothesis,label\n1,It rains.,It is wet.,yes\n")
    (example,) = read_examples(path, fields=("premise", "hypothesis"))
    assert example == Example({"premise": "It rains.", "hypothesis": "It is wet."}, "yes")


def test_f_columns_named_twice_are_refused_in_every_format(write, tmp_path):
    assert "'text' more than once" in told(write("a.csv", "text,text,label\na,b,1\n"))
    assert "names 'text' more than once" in told(write("a.jsonl", '{"text": "a", "text": "b", "label": 1}'))
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), tmp_path / "a.parquet")
    assert "'text' names more than one column" in told(tmp_path / "a.parquet")


# -- cells


def test_f_cells_are_text_as_it_stands(write):
    cells = ["NA", "null", "None", "nan", "N/A", "007", "1.0", "1e3", " spaced ", "TRUE", "2024-01-05", "=1+1", "1,000"]
    rows = "".join(f'"{cell}",{number % 2}\n' for number, cell in enumerate(cells))
    assert [example.fields["text"] for example in read_examples(write("a.csv", f"text,label\n{rows}"))] == cells
    labels = ["NA", "null", "None", "nan", "007", "1.0"]
    assert [e.label for e in read_examples(write("b.csv", "text,label\n" + "".join(f"t,{label}\n" for label in labels)))] == labels


def test_f_a_json_number_is_one_label_however_it_is_written(write):
    rows = "\n".join(f'{{"text": "a", "label": {label}}}' for label in ("1", "1.0", '"1"', " 1e0"))
    assert {example.label for example in read_examples(write("a.jsonl", rows))} == {"1"}


@pytest.mark.parametrize("label", ['["a", "b"]', '{"a": 1}', "[]", "[0, 1, 0]"])
def test_f_several_labels_for_one_example_are_refused_in_words(write, label):
    text = told(write("a.jsonl", f'{{"text": "a", "label": {label}}}'))
    assert "line 1 (the label is a" in text and "several for one are not read" in text


def test_f_a_byte_order_mark_and_windows_line_ends_are_passed_over(write):
    path = write("a.csv", b'\xef\xbb\xbftext,label\r\n"one\r\ntwo",1\r\n')
    assert read_examples(path) == (Example({"text": "one\r\ntwo"}, "1"),)


def test_f_other_encodings_are_told_with_what_to_do(write):
    assert "iconv -f WINDOWS-1252 -t UTF-8" in told(write("a.csv", "text,label\ncaf\xe9,1\n".encode("latin-1")))
    assert "UTF-16" in told(write("b.csv", "text,label\na,1\n".encode("utf-16")))


def test_f_all_malformed_rows_are_named(write):
    path = write("a.csv", b"text,label\na,1\nb\nc\xff,0\nd,1,2\n")
    text = told(path)
    assert "3 of 4 rows cannot be used" in text
    for part in ("line 3 (has 1 columns", "line 4 (byte 0xff is not UTF-8", "line 5 (has 3 columns"):
        assert part in text


def test_f_what_mends_a_file_is_said_once(write):
    text = told(write("a.csv", b"text,label\nc\xe9,1\nd\xe9,0\ne\xe9,0\n"))
    assert "3 of 3 rows cannot be used" in text and text.count("iconv") == 1 and "For " not in text
    text = told(write("b.csv", b"text,label\na,1\nb\nc\xff,0\nd\xff,1\n"))
    assert text.count("iconv") == text.count("separator missing") == 1
    assert "For 1 of them: Is a separator missing" in text and "For 2 of them: Save the file as UTF-8" in text


def test_f_good_rows_stand_beside_the_malformed_ones(write):
    found = scan_rows(write("a.jsonl", b'{"text": "a"}\n{"text": \n\xff\n[1]\n{"text": "e"}\n'))
    assert [row if isinstance(row, tuple) else row.place for row in found] == [
        ("line 1", {"text": "a"}), "line 2", "line 3", "line 4", ("line 5", {"text": "e"}),
    ]  # fmt: skip


def test_f_reading_goes_on_after_a_quote_that_closes_too_early(write):
    found = scan_rows(write("a.csv", 'text,label\n"a" b,1\nc,0\n'))
    assert found[0].reason.startswith("not correct CSV") and found[1] == ("line 3", {"text": "c", "label": "0"})


@pytest.mark.parametrize(
    ("rows", "places"),
    [
        ('0,music\n1,"unclosed\n2,ok\n3,ok\n', ["line 2", "line 4", "line 5"]),
        ('0,music\n1,"unclosed\n2,"quoted, text"\n3,ok\n', ["line 2", "line 4", "line 5"]),
        ('0,music\n1,ok\n2,ok\n3,"unclosed', ["line 2", "line 3", "line 4"]),
        ('0,music\r1,"unclosed\r2,""\r3,ok', ["line 2", "line 4", "line 5"]),
    ],
)
def test_f_a_quote_that_is_not_closed_costs_its_own_row_alone(write, rows, places):
    found = scan_rows(write("a.csv", f"id,text\n{rows}"))
    assert [row[0] for row in found if isinstance(row, tuple)] == places
    (bad,) = [row for row in found if not isinstance(row, tuple)]
    assert len(found) == 4 and "not correct CSV" in bad.reason
    text = told(write("b.csv", f"text,label\n{rows}"))
    assert f"{bad.place}: not correct CSV" in text


def test_f_many_quotes_that_are_not_closed_are_read_in_one_go(write):
    """Each takes the rest of the file along at most once."""
    found = scan_rows(write("a.csv", "id,text\n" + "".join(f'{i},"open\n{i},x""y\n' for i in range(3000))))
    assert len(found) == 6000 and sum(isinstance(row, tuple) for row in found) == 3000
    whole = scan_rows(write("b.csv", 'id,text\n1,"two\nlines"\n2,"open\n3,"two\nlines"\n'))
    assert [row if isinstance(row, tuple) else row.place for row in whole] == [
        ("line 2", {"id": "1", "text": "two\nlines"}), "line 4", ("line 5", {"id": "3", "text": "two\nlines"}),
    ]  # fmt: skip


def test_f_in_a_table_of_one_column_an_empty_line_is_an_empty_cell(write):
    found = scan_rows(write("a.csv", "text\na\n\nb\n\n\n"))
    assert found == [("line 2", {"text": "a"}), ("line 3", {"text": ""}), ("line 4", {"text": "b"})]


def test_f_spreadsheets_and_packed_files_say_what_to_do(write):
    assert "Save the sheet as CSV in UTF-8" in told(write("a.xlsx", b"PK\3\4"))
    assert "Unpack it first" in told(write("a.csv.gz", b"\x1f\x8b"))


def test_f_nested_columns_of_parquet_are_reached_with_dots(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = {"doc": [{"body": {"text": "a"}}, {"body": {"text": "b"}}], "label": ["x", "y"]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    found = read_examples(tmp_path / "a.parquet", text_fields={"text": "doc.body.text"})
    assert [example.fields["text"] for example in found] == ["a", "b"]

"""Hub data sets, read from folders laid out like them; the hub itself is never asked."""

import sys

import pytest

from maao.data.hub import NoSuchLabels, read_hub, read_task_hub
from maao.data.task import examples_of
from maao.errors import DataError
from maao.types import Example

datasets = pytest.importorskip("datasets")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


pytestmark = pytest.mark.usefixtures("quiet_datasets")


@pytest.fixture
def read(tmp_path):
    def read(*args, name=str(tmp_path / "set"), **kwargs):
        return read_hub(name, *args, cache_dir=tmp_path / "cache", **kwargs)

    return read


@pytest.fixture
def write(tmp_path):
    (tmp_path / "set").mkdir()

    def write(split: str, columns: dict, features=None) -> None:
        datasets.Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "set" / f"{split}.parquet")

    return write


def message(read, *args, **kwargs) -> str:
    with pytest.raises(DataError) as caught:
        read(*args, **kwargs)
    return str(caught.value)


def test_splits_are_read_with_the_same_field_mapping_as_files(write, read):
    write("train", {"sentence": ["dull", "fine"], "label": [0, 1]})
    write("test", {"sentence": ["so so"], "label": [1]})
    assert read() == (Example({"text": "dull"}, "0"), Example({"text": "fine"}, "1"))
    assert read(None, "test", text_fields={"review": "sentence"}, label_names={"1": "good"}) == (Example({"review": "so so"}, "good"),)
    assert len(read(None, "train[:1]")) == 1


def test_class_names_of_the_data_set_are_used_unless_others_are_given(write, read):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    write("train", {"text": ["dull", "fine"], "label": [0, 1]}, features)
    write("test", {"text": ["a", "b"], "label": [-1, -1]}, features)
    assert [example.label for example in read()] == ["neg", "pos"]
    assert [example.label for example in read(label_names={"0": "bad", "1": "good"})] == ["bad", "good"]
    assert "2 of 2 rows have no label" in message(read, None, "test")


@pytest.mark.parametrize("label_names", [None, {"0": "bad", "1": "good"}])
def test_a_split_without_labels_is_told_apart_from_other_trouble(write, read, label_names):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    write("train", {"text": ["dull", "fine"], "label": [0, 1]}, features)
    write("test", {"text": ["a", "b"], "label": [-1, -1]}, features)
    for split in ("test", "validation"):
        with pytest.raises(NoSuchLabels):
            read(None, split, label_names=label_names)
    with pytest.raises(DataError) as caught:
        read(label_field="lable")
    assert not isinstance(caught.value, NoSuchLabels)


def test_plain_numbers_are_missing_labels_only_where_all_are(write, read):
    write("train", {"text": ["dull", "fine"], "label": [-1, 1]})
    write("test", {"text": ["a", "b"], "label": [-1, -1]})
    assert [example.label for example in read()] == ["-1", "1"]
    assert "2 of 2 rows have no label" in message(read, None, "test")


def test_a_missing_split_column_or_configuration_is_named(write, read):
    write("train", {"sentence": ["dull"], "lable": [0], "idx": [0]})
    assert "there is no split 'trian'. Did you mean 'train'?" in message(read, None, "trian")
    text = message(read)
    assert "Did you mean 'lable'?" in text and "'idx'" in text
    assert "no column is called 'text' or 'sentence'" not in text
    assert "'sst2'" in message(read, "sst2")


def test_empty_rows_are_named(write, read):
    write("train", {"text": ["dull", ""], "label": [0, 1]})
    assert "row 2 (the field 'text' is empty)" in message(read)


def test_files_other_than_parquet_are_refused(write, read, tmp_path):
    (tmp_path / "set" / "train.csv").write_text("text,label\na,0\n")
    text = message(read)
    assert "only parquet" in text and "'train.csv'" in text


def test_a_folder_without_data_is_said_so(write, read):
    assert "no such data set" in message(read)


def test_an_unreachable_hub_is_said_in_plain_words(read, monkeypatch):
    def unreachable(*args, **kwargs):
        raise ConnectionError("Couldn't reach 'nobody/nothing' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset_builder", unreachable)
    for setting in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(setting, raising=False)
    text = message(read, name="nobody/nothing")
    assert "cannot be reached" in text and "Check the network" in text and "OFFLINE" not in text
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set and forbids downloads" in message(read, name="nobody/nothing")


def test_an_unknown_data_set_is_said_in_plain_words(read, monkeypatch):
    def unknown(*args, **kwargs):
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'nobody/nothing' doesn't exist on the Hub or cannot be accessed.")

    monkeypatch.setattr(datasets, "load_dataset_builder", unknown)
    text = message(read, name="nobody/nothing")
    assert "nobody/nothing" in text and "no such data set" in text and "logged in" in text


def test_without_datasets_the_extra_is_named(read, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert 'pip install "maao[data]"' in message(read)


# SuperGLUE


@pytest.fixture
def task_set(tmp_path):
    def write(folder: str, split: str, rows: list, features=None) -> str:
        (tmp_path / "glue" / folder).mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "glue" / folder / f"{split}.parquet")
        return str(tmp_path / "glue")

    return write


BOOLQ = [{"question": "is it", "passage": "It is.", "idx": 0, "label": 1}, {"question": "is he", "passage": "No.", "idx": 1, "label": 0}]
QUERY = {"passage": "Bob met Ann.", "query": "@placeholder left.", "entities": ["Bob", "Ann"], "idx": {"passage": 0, "query": 4}}


def test_a_task_is_read_from_its_folder_with_classes_as_numbers_and_named(task_set, tmp_path):
    features = datasets.Features(
        {name: datasets.Value("string") for name in ("question", "passage")}
        | {"idx": datasets.Value("int32"), "label": datasets.ClassLabel(names=["False", "True"])}
    )
    task_set("boolq", "train", BOOLQ[:1], features)
    folder = task_set("boolq", "validation", BOOLQ, features)
    task_set("rte", "train", [{"premise": "a", "hypothesis": "b", "label": 0, "idx": 0}])
    found = read_task_hub("boolq", "validation", name=folder, cache_dir=tmp_path / "cache")
    assert found == examples_of("boolq", BOOLQ) and [example.label for example in found] == ["true", "false"]
    assert len(read_task_hub("boolq", name=folder, cache_dir=tmp_path / "cache")) == 1
    assert read_task_hub("rte", name=folder, cache_dir=tmp_path / "cache")[0].label == "entailment"


def test_flat_questions_are_read_in_groups(task_set, tmp_path):
    folder = task_set("record", "validation", [{**QUERY, "answers": ["Ann"]}])
    found = read_task_hub("record", "validation", name=folder, cache_dir=tmp_path / "cache")
    assert [(example.fields["entity"], example.label, example.group) for example in found] == [
        ("Bob", "false", "0-4"),
        ("Ann", "true", "0-4"),
    ]


def test_task_splits_without_labels_or_not_there_are_told_apart(task_set, tmp_path):
    folder = task_set("boolq", "test", [{**row, "label": -1} for row in BOOLQ])
    task_set("record", "test", [{**QUERY, "answers": [None]}, {**QUERY, "answers": ["Bob"]}])
    for split, found in (("test", "2 of 2 rows have no label"), ("train", "there is no split 'train'")):
        with pytest.raises(NoSuchLabels, match=found):
            read_task_hub("boolq", split, name=folder, cache_dir=tmp_path / "cache")
    with pytest.raises(DataError, match=r"no folder 'rte' in it.* Folders: 'boolq', 'record'"):
        read_task_hub("rte", name=folder, cache_dir=tmp_path / "cache")


def test_a_task_on_the_hub_is_asked_for_in_its_parquet_form(monkeypatch):
    asked = []

    def unreachable(*args, **kwargs):
        asked.append((args, kwargs))
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset_builder", unreachable)
    with pytest.raises(DataError, match="cannot be reached"):
        read_task_hub("wsc")
    ((name, config), options) = asked[0]
    assert (name, config, options["data_dir"], options["revision"]) == ("aps/super_glue", None, "wsc.fixed", "refs/convert/parquet")

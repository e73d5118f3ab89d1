"""Name texts or pictures by exported class features, without maao: `maao export` copies this file beside the features that it writes.

    from use_classes import Classes
    print(Classes(".").probabilities(feature))

and, where ``text_feature.py`` stands beside it, the label, the probability and the text of each argument, separated by tabs:

    python use_classes.py "Who wrote Hamlet?" "How far is the moon?"
    python use_classes.py premise="It rains." hypothesis="It is dry."     # of a text of several fields, one

``classes.safetensors`` holds `weight`, shape (classes, embed_dim), which is one feature a class in the order of ``labels.json``,
and `scale`; `bias` where classes have one. The feature of an input is normalised: of a text that of ``text_feature.py``, of a picture that
of the image tower. It needs torch and safetensors, ``text_feature.py`` transformers too.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from runpy import run_path

from safetensors.torch import load_file
from torch import Tensor

DATA = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".txt", ".xlsx", ".xls", ".ods", ".gz", ".zip", ".bz2", ".xz", ".zst")
FEATURES = "text_feature.py"  # beside this file, where texts are named: makes the feature of one


class Classes:
    """The features of the classes, and the scale of their likeness to an input's.

    Args:
        folder: where they were exported to.
    """

    def __init__(self, folder: str | Path = ".") -> None:
        folder = Path(folder)
        self.labels: list[str] = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
        held = load_file(folder / "classes.safetensors")
        self.weight, self.scale = held["weight"], float(held["scale"])
        self.bias = held.get("bias", 0.0)

    def probabilities(self, feature: Tensor) -> dict[str, float]:
        """Return the probability of each label for the feature of an input ``(embed_dim,)``."""
        scores = self.scale * (self.weight @ feature) + self.bias
        return dict(zip(self.labels, scores.softmax(-1).tolist(), strict=True))


def named(given: list[str], folder: Path) -> list[str]:
    """Return the label, the probability and the text of each input that a command line gives, as lines. Exits where none can be read."""
    code = folder / FEATURES
    if not code.is_file():
        sys.exit(f"{FEATURES} is not here, so that no feature is made of an argument: give one from Python (USE.md says how).")
    try:
        code_names = run_path(str(code))
    except ImportError as error:  # a package is not here, or code of the model's own was not trusted
        sys.exit(f"{FEATURES}: {error}")
    classes, fields = Classes(folder), code_names["FIELDS"]
    if len(fields) == 1:
        inputs = [{fields[0]: text} for text in given]
    else:
        inputs = [dict(argument.partition("=")[::2] for argument in given)]
    if not given or any(set(one) != set(fields) for one in inputs) or (len(fields) > 1 and len(given) != len(fields)):
        sys.exit("Usage: python use_classes.py " + ('"..."' if len(fields) == 1 else " ".join(f'{name}="..."' for name in fields)))
    for text in [text for one in inputs for text in one.values() if text.lower().endswith(DATA)]:
        if os.path.isfile(text):
            sys.exit(f"{text} is a file, and texts are named here. Read files in Python, with Classes and `feature` of {FEATURES}.")
        if len(text.split()) == 1 and "://" not in text:
            print(f"Note: {text} is taken for a text, since no file is called so.", file=sys.stderr)
    lines = []
    for one in inputs:
        probabilities = classes.probabilities(code_names["feature"](**one))
        label = max(probabilities, key=lambda name: probabilities[name])
        lines.append(f"{label}\t{probabilities[label]:.3f}\t{' '.join(' '.join(one.values()).split())}")
    return lines


if __name__ == "__main__":
    print("\n".join(named(sys.argv[1:], Path(__file__).parent)))

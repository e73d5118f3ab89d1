"""Take a tuned context elsewhere: as a tensor that CoOp's own code loads, and as class features that need no text tower to serve.

What is written is read back and compared before the export counts as done.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from keyword import iskeyword
from pathlib import Path
from unicodedata import normalize

import torch
from torch import Tensor

from maao.errors import ConfigError, ModelError
from maao.export import use_classes
from maao.export.sentence_code import TRUST, feature_code
from maao.export.tensors import write_tensors
from maao.export.tuned import Tuned
from maao.printable import markdown, printable_line
from maao.problems.averages import counted, mean_scores
from maao.problems.classification import ClassificationProblem
from maao.problems.scorers.matcher import Known, KnownScorer
from maao.problems.towers.text.inputs import InputTemplate
from maao.problems.towers.text.loading import CODE_RUNS
from maao.problems.towers.text.sentence import TextInputs
from maao.protocols import Params

COOP_FILE = "model.pth.tar"
CLASSES_FILE = "classes.safetensors"
USE = """# Class features of {model}

`{file}` holds `weight`, shape ({count}, {width}): {what} a class, in the order of `labels.json`;
and `scale`{bias}. `use_classes.py` names {input} by them:

```python
from use_classes import Classes
{code}
print(Classes(".").probabilities({feature}
```
"""
PICTURES = "feature))  # (embed_dim,), the image tower's normalised feature of a picture"
BY_COMMAND = """
From the command line, the label of each text and its probability:

```sh
python use_classes.py {fields}
```
"""


def export_ctx(params: Params, folder: Path) -> list[Path]:
    """Write the context as CoOp's checkpoints hold it: ``state_dict`` with the key ``ctx``; and the same tensor as safetensors.

    Raises:
        ConfigError: the method has no context.
        ModelError: it reads back differently.
    """
    if "prompt" not in params:
        raise ConfigError("This method trains no context: there is no `ctx` to export.")
    ctx = params["prompt"].detach().cpu().contiguous()
    path, plain = folder / COOP_FILE, folder / "ctx.safetensors"
    torch.save({"state_dict": {"ctx": ctx}, "epoch": 0}, path)
    read = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]["ctx"]
    if not torch.equal(read, ctx):
        raise ModelError(f"The exported context reads back from {path} differently from what was written. Is the disk sound?")
    write_tensors("context", {"ctx": ctx}, plain)
    return [path, plain]


def export_classes(
    problem: ClassificationProblem[Known],
    params: Params,
    folder: Path,
    labels: Sequence[str],
    input_template: str | None = None,
    *,
    trust_remote_code: bool = False,
) -> list[Path]:
    """Write the features of the classes, their labels and the scale, so that serving needs the tower of inputs alone.

    Raises:
        ConfigError: they differ from input to input, or inputs run through a tuned tower (its prompts are in ``prompt.safetensors``).
    """
    scorer = problem.scorer
    assert isinstance(scorer, KnownScorer)
    tower = "image" if scorer.encoder.pixels is not None else "text"
    if scorer.tunes_inputs:
        raise ConfigError(
            f"'{scorer.name}' has prompts in the {tower} tower too: class features alone do not serve it. Use `maao predict`, or the "
            "tensors of the export."
        )
    with torch.no_grad():
        read = [_classes(scorer, walk) for walk, _ in counted(params)]
    held = read[0]
    if len(read) > 1:  # the mean of class scores is what the mean of scaled features gives
        counts = [count for _, count in counted(params)]
        scaled = mean_scores([own["scale"] * own["weight"] for own in read], counts)
        held = {name: mean_scores([own[name] for own in read], counts) for name in held}
        held["weight"] = scaled / held["scale"]
    path, names, readme = folder / CLASSES_FILE, folder / "labels.json", folder / "USE.md"
    write_tensors("class feature", held, path)
    names.write_text(json.dumps(list(labels), ensure_ascii=False), encoding="utf-8")
    told = {"what": "one normalised feature" if len(read) == 1 else f"the mean of {len(read)} walks' features"}
    told["bias"] = ", and `bias`, one number a class" if "bias" in held else ""
    code = _feature_code(scorer, input_template, trust_remote_code)
    page = _use(scorer, held["weight"], input_template, told, has_code=code is not None)
    page += f"\n{CODE_RUNS} Then set `{TRUST} = True` at the top of `{use_classes.FEATURES}`.\n" if code and trust_remote_code else ""
    readme.write_text(page, encoding="utf-8")
    used = folder / "use_classes.py"
    shutil.copyfile(use_classes.__file__, used)
    if code is None:
        return [path, names, used, readme]
    features = folder / use_classes.FEATURES
    features.write_text(code + "\n", encoding="utf-8")
    return [path, names, used, features, readme]


def _classes(scorer: KnownScorer, params: Params) -> dict[str, Tensor]:
    """Return the features of the classes, the scale of their likeness to an input's, and what is added to it, if anything is."""
    bias = scorer.class_bias(params)
    scale = torch.as_tensor(scorer.scale(params), dtype=torch.float32).cpu()
    own = {} if bias is None else {"bias": bias.cpu().contiguous()}
    return {"weight": scorer.classes(params).cpu().contiguous(), "scale": scale, **own}


def _feature_code(scorer: KnownScorer, input_template: str | None, trust_remote_code: bool) -> str | None:
    """Return code that makes the feature of an input; None: of a picture, or of a text where plain transformers lacks a part of it."""
    encoder = scorer.encoder
    if not isinstance(encoder.input, TextInputs) or input_template is None:
        return None
    return feature_code(encoder.input, input_template, encoder.revision, trust_remote_code=trust_remote_code)


def _use(scorer: KnownScorer, classes: Tensor, input_template: str | None, about: Mapping[str, str], *, has_code: bool) -> str:
    """Return the page that says how class features are used."""
    encoder, (count, width) = scorer.encoder, classes.shape
    told = {"model": markdown(encoder.name), "file": CLASSES_FILE, "count": count, "width": width, **about}
    if not isinstance(encoder.input, TextInputs) or input_template is None:
        return USE.format(**told, input="a picture", code="", feature=PICTURES)
    if not has_code:
        told_feature = f"feature))  # (embed_dim,), the normalised feature that {printable_line(encoder.input.name)} makes of a text"
        return USE.format(**told, input="a text", code="", feature=told_feature)
    names = InputTemplate.parse(input_template).fields
    code = f"from {Path(use_classes.FEATURES).stem} import feature\n"
    page = USE.format(**told, input="a text", code=code, feature=f"feature({by_keyword(names)})))")
    if len(names) == 1:
        return page + BY_COMMAND.format(fields='"..." "..."')
    if any("=" in name or printable_line(name) != name for name in names):
        return page  # no command line can name it
    return page + BY_COMMAND.format(fields=" ".join(f'{shlex.quote(name)}="..."' for name in names))


def by_keyword(names: Sequence[str]) -> str:
    """Return the arguments of a call that gives each field by name, as code.

    Example:
        >>> by_keyword(["title", "text"]), by_keyword(["from"])
        ('title="...", text="..."', "**{'from': '...'}")
    """
    if all(name.isidentifier() and not iskeyword(name) and normalize("NFKC", name) == name for name in names):  # Python normalises names
        return ", ".join(f'{name}="..."' for name in names)
    return f"**{dict.fromkeys(names, '...')!r}"


class ContextExport:
    """The context, as CoOp's checkpoints hold one."""

    by_name_only, writes_averages = False, False

    def serves(self, problem: object) -> bool:
        return isinstance(problem, ClassificationProblem) and isinstance(problem.scorer, KnownScorer)

    def write(self, tuned: Tuned, folder: Path) -> list[Path]:
        return export_ctx(tuned.params, folder)


class ClassesExport:
    """The features of the classes, of an average of walks their mean."""

    by_name_only, writes_averages = False, True

    def serves(self, problem: object) -> bool:
        return isinstance(problem, ClassificationProblem) and isinstance(problem.scorer, KnownScorer)

    def write(self, tuned: Tuned, folder: Path) -> list[Path]:
        about = tuned.about
        read, trusted = about.get("input_template"), about["trust_remote_code"]
        return export_classes(tuned.problem, tuned.params, folder, about["labels"], read, trust_remote_code=trusted)

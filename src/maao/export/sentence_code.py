"""Code that makes a text's feature with plain transformers, as a sentence encoder here makes it."""

from __future__ import annotations

from maao.problems.towers.text.loading import locate
from maao.problems.towers.text.sentence import TextInputs

POOLED = {
    "mean": "states.mean(0)",
    "first": "states[0]",
    "last": "states[-1]",
    "max": "states.max(0).values",
    "weighted_mean": "(torch.arange(1, len(states) + 1) / len(states)) @ states",
}


def feature_code(inputs: TextInputs, template: str, revision: str | None = None) -> str | None:
    """Return code that defines ``feature``, from the fields of the input template to ``(embed_dim,)``; None: more than the pooling
    stands between the hidden states and the vector (dense layers, a projection), which maao alone puts together.

    Args:
        template: what of an example is read.
        revision: on the hub.
    """
    reading = inputs.reading
    if not inputs.plain or reading.pooling not in POOLED:
        return None
    place = repr(locate(inputs.name)) if not reading.place else repr(inputs.name)
    given = "".join(f", {key}={value!r}" for key, value in (("subfolder", reading.place), ("revision", revision)) if value)
    lower = ".lower()" if reading.lowercase else ""
    asked = ", output_hidden_states=True" if reading.hidden_layers else ""
    beside = [
        f"    parts = [vector, *(output.hidden_states[layer][0].mean(0) for layer in {list(reading.hidden_layers)})]",
        "    vector = torch.cat([part / part.norm() for part in parts])",
    ]
    return "\n".join(
        [
            "import torch",
            "from transformers import AutoModel, AutoTokenizer",
            "",
            f"model = AutoModel.from_pretrained({place}{given}).eval()",
            f"tokenizer = AutoTokenizer.from_pretrained({place}{given})",
            "",
            "def feature(**fields):",
            f"    text = ({reading.prompt!r} + {template!r}.format(**fields)).strip(){lower}",
            f'    inputs = tokenizer([text], truncation=True, max_length={inputs.tower.most}, return_tensors="pt")',
            "    with torch.no_grad():",
            f"        output = model(**inputs{asked})",
            "    states = output.last_hidden_state[0]  # (tokens, width)",
            f"    vector = {POOLED[reading.pooling]}",
            *(beside if reading.hidden_layers else []),
            "    return vector / vector.norm()",
        ]
    )

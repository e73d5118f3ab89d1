"""What settings were called in older configs: told, with today's name, where a config that holds one is refused. Nothing reads them."""

from __future__ import annotations

from collections.abc import Iterator

from maao.types import JSON

RENAMED = {  # a key, or a section with all its keys
    "vision": "model",
    "images": "data",
    "mentor.beside": "mentor.mix.name",
    "mentor.beside_share": "mentor.mix_share",
    "mentor.shown.account": "mentor.shown.self_continuation",
    "mentor.options": "mentor",
    "accept.options": "accept",
    "model.released": "model.codec, whose settings stand in experiments/paper/released.py",
    "stage.schedule_every": "stage.every, where stage.kind is that of experiments/paper/released.py",
}
OTHERWISE = {
    ("problem", "language"): "leave it out",
    ("problem", "vision"): "leave it out: a source of pictures says it (of a hub data set data.input = 'image')",
    ("model.kind", "encoder"): 'model.kind = "head"',
    ("mentor.choice", "released"): "a mentor of experiments/paper/released.py makes it",
    ("mentor.wording", "released"): "experiments/paper/released.txt, by its path",
}


def renamed(values: JSON) -> str:
    """Return what of nested values has another name today, and which; nothing where all have their own.

    Example:
        >>> renamed({"problem": "language", "images": {"shots": 4}})
        "'problem' = 'language': leave it out; 'images.shots' is now 'data.shots'"
        >>> renamed({"model": {"kind": "auto"}, "mentor": {"name": "none"}})
        ''
    """
    told = [f"{key!r} = {value!r}: {now}" for (key, value), now in OTHERWISE.items() if _at(values, key) == value]
    for old, now in RENAMED.items():
        held = _at(values, old)
        told += [f"{f'{old}{key}'!r} is now {f'{now}{key}'!r}" for key in _keys(held)]
    return "; ".join(told)


def _at(values: object, key: str) -> object:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _keys(held: object) -> Iterator[str]:
    """Yield what stands behind a name: the keys of a section, or nothing where a value stands there."""
    if isinstance(held, dict):
        yield from (f".{key}" for key in held)
    elif held is not None:
        yield ""

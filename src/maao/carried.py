"""The configs that maao carries, by name: those of its demos."""

from __future__ import annotations

from importlib.resources import files

CARRIED = {"demo": "demo.toml", "demo-decoder": "demo_decoder.toml"}


def carried(name: str) -> str:
    """Return the text of a config that maao carries.

    Example:
        >>> carried("demo").startswith("# The demo")
        True
    """
    return (files("maao") / CARRIED[name]).read_text(encoding="utf-8")

"""Inputs that a caller gives to predict, one by one: what of each is read, or why it cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from maao.data.checks import Unread
from maao.data.memory import things_to_predict, to_predict
from maao.errors import DataError
from maao.types import Example


class GivenInputs(Protocol):
    """How the inputs of a run are read."""

    @property
    def fields(self) -> tuple[str, ...]:
        """What a mapping must name."""
        ...

    @property
    def template(self) -> str:
        """The text in which a model reads the fields; empty where it reads no text."""
        ...

    @property
    def columns(self) -> Mapping[str, str] | None:
        """Field -> column, where inputs may be the rows of a table; None: they may not."""
        ...

    @property
    def advice(self) -> str:
        """What to say beside what cannot be read."""
        ...

    @property
    def told_at_once(self) -> bool:
        """Whether what cannot be read is known before it is used: a picture file shows only when it is opened."""
        ...

    def things(self, given: object) -> list[object]:
        """Return what is given, one by one. Raises `DataError` where that is one thing and no list."""
        ...

    def read(self, thing: object, place: str) -> Example | Unread: ...


@dataclass(frozen=True)
class GivenTexts:
    """Texts, or mappings of the template's fields; `columns` is where the run's data had them."""

    fields: tuple[str, ...]
    template: str
    columns: Mapping[str, str] = field(default_factory=dict)
    told_at_once = True

    @property
    def advice(self) -> str:
        return f" The template {self.template!r} is read."

    def things(self, given: object) -> list[object]:
        return things_to_predict(given)

    def read(self, thing: object, place: str) -> Example | Unread:
        return to_predict(thing, self.fields, self.columns, place)


@dataclass(frozen=True)
class GivenPictures:
    """Paths of image files.

    Example:
        >>> GivenPictures().read(3, "number 1").reason
        'it is a int, and a run on pictures predicts the paths of image files'
    """

    fields: tuple[str, ...] = ("image",)
    template: str = ""
    columns: None = None
    advice: str = ""
    told_at_once = False

    def things(self, given: object) -> list[object]:
        if isinstance(given, str | Path | Mapping):
            raise DataError("Give `predict` a list of image files, not one file: predict([path]).")
        return things_to_predict(given)

    def read(self, thing: object, place: str) -> Example | Unread:
        if not isinstance(thing, str | Path):
            return Unread(place, f"it is a {type(thing).__name__}, and a run on pictures predicts the paths of image files")
        return Example({"image": str(thing)}, "-") if str(thing).strip() else Unread(place, "there is no file name")


def read_given(inputs: GivenInputs, given: object, places: Sequence[str] | None) -> tuple[list[Example | Unread], Sequence[str]]:
    """Return each input as it is read, or why it is not, and what each is called: by default "number 3"."""
    things = inputs.things(given)
    names = places or [f"number {number}" for number in range(1, len(things) + 1)]
    return [inputs.read(thing, name) for thing, name in zip(things, names, strict=True)], names

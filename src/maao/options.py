"""Sections of a config, each declared beside the thing that it sets, and the choice of one of them by a name.

A `Section` is closed: a key that nobody reads is refused, with what reads it or the nearest known one. Where a name chooses what reads the
other keys (``[mentor] name = "perturb", size = 0.1``), the names stand in a table of `choices.py`; the class that a name leads to is
imported when it is chosen, and it alone says which keys there are.

Example:
    >>> class Jump(Section):
    ...     size: float = 0.1
    >>> Jump.model_validate({"sise": 1})  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    ValidationError: 1 validation error for Jump
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, ClassVar, Generic, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    ModelWrapValidatorHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from maao import choices

STORED = "stored"  # the context of a config that a run stored, which names every setting, those too that it does not read
UNREAD, UNKNOWN = "unread", "unknown_key"  # types of errors: a setting that nothing reads here, and one that is nowhere
OWN = (UNREAD, UNKNOWN, "unknown_name", "section")
PYDANTICS = frozenset(get_args(core_schema.ErrorType))

SectionT = TypeVar("SectionT", bound="Section", covariant=True)


@dataclass(frozen=True)
class Chosen(Generic[SectionT]):
    """What a name chose: the name, and the settings that it reads, an instance of its class."""

    name: str
    options: SectionT

    def with_options(self, **changes: Any) -> Chosen[SectionT]:
        """Return the same choice with some settings changed, unchecked."""
        return replace(self, options=self.options.model_copy(update=changes))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.is_instance_schema(cls)


class Section(BaseModel):
    """Base of all sections: frozen, and closed to unknown keys.

    `chooses` names the fields of type `Chosen` that stand beside others in the section, each with its table: the keys that the chosen class
    declares are read from this section.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)
    chooses: ClassVar[Mapping[str, str]] = {}

    def unread(self) -> Mapping[str, str]:
        """Return the settings that nothing reads as the others stand, each with the reason and the way out. Told only where one was given.

        A reason goes on from "'stage.warmup_lr' would be ignored, since ...". A dotted key names a setting of a section within this one: it
        is told always, so it is to be returned only where it was given.
        """
        return {}

    @model_validator(mode="wrap")
    @classmethod
    def _read_section(cls, given: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        if not isinstance(given, dict):
            return handler(given)
        values, faults = dict(given), list[InitErrorDetails]()
        known = [*cls.model_fields]
        for field, table in cls.chooses.items():
            default = cls.model_fields[field].get_default(call_default_factory=True)
            chosen, read, wrong = _choose(table, field, default, values, info)
            values[field] = chosen or default
            known += read
            faults += wrong
        others = {key: held for field, table in cls.chooses.items() for key, held in _made(field, table, values[field]).items()}
        for key in [key for key in values if key not in cls.model_fields]:
            if key not in known:
                faults.append(_extra(key, values[key], known, others))
            del values[key]
        try:
            made = handler(values)
        except ValidationError as error:
            raise _error(cls.__name__, [*faults, *_details(error)]) from None
        made.model_fields_set.difference_update({*cls.chooses} - {*given})
        if info.context != STORED:
            changed = made.changed()
            faults += [_ignored(key, why) for key, why in made.unread().items() if "." in key or key in changed]
        if faults:
            raise _error(cls.__name__, faults)
        return made

    def changed(self) -> list[str]:
        """Return the settings that were given another value than their default, sorted; those too that a name chose to be read."""
        fields = type(self).model_fields
        own = [k for k in self.model_fields_set if getattr(self, k) != fields[k].get_default(call_default_factory=True)]
        return sorted([*own, *(key for field in self.chooses for key in getattr(self, field).options.changed())])

    def given(self) -> list[str]:
        """Return the settings that were given, sorted; those too that a name chose to be read."""
        chosen: list[Chosen[Section]] = [getattr(self, field) for field in self.chooses]
        return sorted([*self.model_fields_set, *(key for choice in chosen for key in choice.options.given())])

    @model_serializer(mode="wrap")
    def _write_section(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        held = handler(self)
        flat: dict[str, Any] = {}
        for key, value in held.items():
            flat |= _flat(key, getattr(self, key)) if key in self.chooses else {key: value}
        return flat


@dataclass(frozen=True)
class OneOf:
    """A section that is read as a whole by what its `key` chooses from a table: ``Annotated[Chosen, OneOf("mentor", "name", "none")]``.

    Where the key is left out, `infer` tells it from the other keys, or else it is the default.
    """

    table: str
    key: str
    default: str
    infer: Callable[[Mapping[str, Any]], str] | None = None

    def chosen(self, values: Mapping[str, Any] | None = None) -> Chosen[Any]:
        """Return the choice that values make; by default the default's own settings."""
        return _whole(self, dict(values or {}), None)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        kinds = tuple(kind for kind in get_args(source) if isinstance(kind, type | UnionType))

        def read(given: Any, info: core_schema.ValidationInfo) -> Chosen[Any]:
            chosen = given if isinstance(given, Chosen) else _whole(self, given, info)
            if kinds and not isinstance(chosen.options, kinds):
                told = f"'{chosen.name}' leads to {type(chosen.options).__name__}, which has settings of something else"
                fault = _custom("unknown_name", told=f"{told}: the class must be a subclass of {_called(kinds)}")
                raise _error(self.table, [InitErrorDetails(type=fault, loc=(self.key,), input=chosen.name)])
            return chosen

        write = core_schema.plain_serializer_function_ser_schema(lambda held: _flat(self.key, held))
        return core_schema.with_info_plain_validator_function(read, serialization=write)


def _called(kinds: Iterable[type | UnionType]) -> str:
    return " or ".join(f"{kind.__module__}.{kind.__name__}" if isinstance(kind, type) else str(kind) for kind in kinds)


def _whole(one: OneOf, given: Any, info: core_schema.ValidationInfo | None) -> Chosen[Any]:
    if not isinstance(given, dict):
        raise _custom("section", told="it is a section, with keys of its own: write them behind a dot or under a header")
    values = dict(given)
    if one.infer is not None:
        values.setdefault(one.key, one.infer(values))
    made, known, faults = _choose(one.table, one.key, one.default, values, info)
    if made is not None:
        others = _made(one.key, one.table, made)
        known = [one.key, *known]
        faults = [*faults, *(_extra(key, value, known, others) for key, value in values.items() if key not in known)]
    if faults:
        raise _error(one.table, faults)
    assert made is not None
    return made


def _choose(
    table: str, key: str, default: Any, values: dict[str, Any], info: ValidationInfo | core_schema.ValidationInfo | None
) -> tuple[Chosen[Any] | None, list[str], list[InitErrorDetails]]:
    """Return what values choose, the keys that it reads, which are left among the values, and what is wrong with it.

    What has a wrong setting is chosen as if that were not given, so that the other keys are looked at too. None: there is no such name.
    """
    given = values.get(key, default)
    if isinstance(given, Chosen):
        if key in values:
            return given, _keys(type(given.options), values, key), []
        given = given.name
    try:
        kind: type[Section] = choices.load(table, given)
    except choices.UnknownName as error:
        return None, [*values], [InitErrorDetails(type=_custom("unknown_name", told=str(error)), loc=(key,), input=given)]
    if not (isinstance(kind, type) and issubclass(kind, Section)):
        told = f"the plugin of that name leads to {kind!r}; it must lead to a class of settings, a subclass of maao.options.Section"
        return None, [*values], [InitErrorDetails(type=_custom("unknown_name", told=told), loc=(key,), input=given)]
    read = _keys(kind, values, key)
    own = {name: value for name, value in values.items() if name in read}
    context = None if info is None else info.context
    try:
        return Chosen(given, kind.model_validate(own, context=context)), read, []
    except ValidationError as error:
        return Chosen(given, kind.model_construct()), read, _details(error)


def _keys(kind: type[Section], values: Mapping[str, Any], chooser: str) -> list[str]:
    """Return the keys that a class reads where `chooser` chose it: its fields, and what those of them choose that choose again."""
    keys = [name for name in kind.model_fields if name != chooser]
    for field, table in kind.chooses.items():
        held = values.get(field, kind.model_fields[field].get_default(call_default_factory=True))
        name = held.name if isinstance(held, Chosen) else held
        with suppress(choices.UnknownName):  # which is told where it is chosen
            keys += _keys(choices.load(table, name), values, field) if field != chooser else []
    return keys


def _made(field: str, table: str, chosen: Chosen[Any]) -> dict[str, tuple[str, str]]:
    """Return the table and the name of a choice by its field, and those of what it chose in turn."""
    found = {field: (table, chosen.name)}
    for further, its_table in chosen.options.chooses.items():
        if further != field:
            found |= _made(further, its_table, getattr(chosen.options, further))
    return found


def _extra(key: str, value: Any, known: Iterable[str], chosen: Mapping[str, tuple[str, str]]) -> InitErrorDetails:
    """Return what is wrong with a key that a section does not read: another choice reads it, or nothing does."""
    for field, (table, name) in chosen.items():
        readers = choices.readers(table, key)
        if readers:
            told = f"{field} is '{name}', and {', '.join(readers)} read{'s' if len(readers) == 1 else ''} it: drop it"
            return _ignored(key, told, beside=True)
    names = [*known]
    near = get_close_matches(key, names, n=1)
    told = f"unknown key.{f' Did you mean {near[0]!r}?' if near else ''} Known keys: {', '.join(names)}."
    return InitErrorDetails(type=_custom(UNKNOWN, told=told, near=near, known=names), loc=(key,), input=value)


def _ignored(key: str, reason: str, *, beside: bool = False) -> InitErrorDetails:
    """Return that nothing reads a key, and why; `beside` where the reason begins with a setting of the same section, to be told in full."""
    told = _custom(UNREAD, told=f"would be ignored, since {reason}", reason=reason, beside=beside)
    return InitErrorDetails(type=told, loc=(*key.split("."),), input=None)


def _custom(kind: Any, **held: Any) -> PydanticCustomError:
    return PydanticCustomError(kind, "{told}", held)  # what is told may hold braces


def _error(title: str, faults: list[InitErrorDetails]) -> ValidationError:
    return ValidationError.from_exception_data(title, faults)


def _details(error: ValidationError) -> list[InitErrorDetails]:
    """Return an error's faults, to be raised again with others."""
    again = []
    for fault in error.errors():
        held = fault.get("ctx", {})
        kind: Any = fault["type"]
        if kind in OWN:
            kind = _custom(kind, **held)
        elif kind not in PYDANTICS:  # of a plugin's own
            kind = _custom(kind, **held | {"told": fault["msg"]})
        again.append(InitErrorDetails(type=kind, loc=fault["loc"], input=fault["input"], ctx=held))
    return again


def _flat(key: str, chosen: Chosen[Any]) -> dict[str, Any]:
    return {key: chosen.name, **chosen.options.model_dump(mode="json")}


# -- types of settings


MANY = 10**9  # more steps, examples or tokens than any run reaches, and within what every library below counts with


def _not_blank(text: str, info: ValidationInfo) -> str:
    if not text.strip() and info.context != STORED:  # a run that stored one was made with it
        raise ValueError("it is empty: leave it out for the default")
    return text


def named(table: str) -> AfterValidator:
    """Return the check that a text is a name of a table (`choices.py`)."""

    def check(name: str, info: ValidationInfo) -> str:
        if info.context != STORED:  # a run that stored one was made with it
            try:
                choices.load(table, name)
            except choices.UnknownName as error:
                raise ValueError(str(error)) from None
        return name

    return AfterValidator(check)


def _plain(value: Any) -> Any:
    """Refuse what a stored config cannot hold: what is no JSON, and numbers that no library takes."""
    if isinstance(value, dict):
        return {key: _plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(held) for held in value]
    if (isinstance(value, int) and abs(value) >= 2**63) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError("it holds a number that is not finite, or too large for any library")
    if not (value is None or isinstance(value, str | int | float)):
        raise ValueError(f"it holds {value!r}; give texts, numbers, true or false, lists, and mappings of these")
    return value


Text = Annotated[str, AfterValidator(_not_blank)]  # an empty one would be taken for none in silence
Options = Annotated[dict[str, Any], AfterValidator(_plain)]

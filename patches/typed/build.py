"""From a type to its converter."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from enum import Enum
from typing import Annotated, Any, Final, Literal, NotRequired, Required, TypeVar, Union

from patches.errors import InvalidRequestError
from patches.typed.classes import RecordMaker, record_maker_of
from patches.typed.codecs import BIG_INTEGER, CODECS
from patches.typed.containers import (
    EnumOf,
    ListOf,
    LiteralOf,
    MapOf,
    TupleOf,
    UnionOf,
    tags_of,
)
from patches.typed.converter import (
    ALL_KINDS,
    BOOLEAN,
    COUNTER,
    FLOAT,
    INTEGER,
    JSON,
    NULL,
    STRING,
    Checked,
    Codec,
    Coded,
    Converter,
)
from patches.typed.marks import BIG_INT_MARK, COUNTER_MARK
from patches.typed.records import Field, Record
from patches.typed.rich_text import TEXT, RichText

_SCALARS: Final[Mapping[Any, Converter[Any]]] = {
    str: STRING,
    int: INTEGER,
    float: FLOAT,
    bool: BOOLEAN,
    None: NULL,
    type(None): NULL,
    Any: JSON,
    object: JSON,
    RichText: TEXT,
}
_LISTS: Final = (list, Sequence, MutableSequence)
_MAPS: Final = (dict, Mapping, MutableMapping)
_SETS: Final = (set, frozenset)
_WRAPPERS: Final = (Required, NotRequired)

#: Converters of other libraries: who knows a class, and makes its converter.
_REGISTERED: Final[list[tuple[Callable[[Any], bool], Callable[[Any], Converter[Any]]]]] = []


def register_converter(
    predicate: Callable[[Any], bool], factory: Callable[[Any], Converter[Any]]
) -> None:
    """Let documents hold values of classes for which `predicate(cls)` is true.

    `factory(cls)` gives the converter. The newest registration is asked first.
    """
    _REGISTERED.insert(0, (predicate, factory))


def converter_of(type_: Any, codecs: Mapping[type, Codec] | None = None) -> Converter[Any]:
    """The converter of a type. Raises `InvalidRequestError`, naming the field it cannot convert."""
    return _Builder({**CODECS, **(codecs or {})}).build(type_, _name(type_), {})


class _Builder:
    def __init__(self, codecs: Mapping[type, Codec]) -> None:
        self._codecs = codecs
        self._records: dict[Any, Record] = {}  # by type and parameters: a class may hold itself

    def build(self, type_: Any, where: str, variables: Mapping[Any, Any]) -> Converter[Any]:
        if isinstance(type_, TypeVar):
            type_ = variables.get(type_, type_.__bound__ or Any)
        for predicate, factory in _REGISTERED:
            if predicate(type_):
                return factory(type_)
        try:
            if type_ in _SCALARS:
                return _SCALARS[type_]
            if type_ in self._codecs:
                return Coded(type_, self._codecs[type_], _kinds_of(type_))
        except TypeError:  # not hashable
            raise _unsupported(type_, where) from None
        origin, args = typing.get_origin(type_), typing.get_args(type_)
        if origin is Annotated:
            return self._annotated(args[0], args[1:], type_, where, variables)
        if origin in _WRAPPERS or getattr(origin, "__name__", "") == "ReadOnly":
            return self.build(args[0], where, variables)
        if origin is Literal:
            return LiteralOf(args)
        if origin in (Union, types.UnionType):
            return self._union([self.build(arg, where, variables) for arg in args], where)
        return self._container(type_, origin, args, where, variables)

    def _container(
        self, type_: Any, origin: Any, args: Any, where: str, variables: Mapping[Any, Any]
    ) -> Converter[Any]:
        base = origin or type_
        if base in _LISTS:
            return ListOf(self.build(args[0] if args else Any, f"{where}[...]", variables))
        if base in _MAPS:
            key = args[0] if args else str
            if key is not str:
                raise InvalidRequestError(f"{where}: the keys of a JSON object are str, not {key}")
            return MapOf(self.build(args[1] if args else Any, f"{where}[...]", variables))
        if base is tuple:
            if len(args) == 2 and args[1] is Ellipsis:
                return ListOf(self.build(args[0], where, variables), of_tuple=True)
            return TupleOf([self.build(arg, where, variables) for arg in args])
        if base in _SETS:
            raise InvalidRequestError(
                f"{where}: a set does not merge; use dict[str, bool] instead of {type_}"
            )
        if isinstance(base, type) and issubclass(base, Enum):
            return EnumOf(base)
        maker = record_maker_of(base)
        if maker is not None:
            return self._record(maker, type_, args, variables)
        raise _unsupported(type_, where)

    def _record(
        self, maker: RecordMaker, type_: Any, args: Any, variables: Mapping[Any, Any]
    ) -> Record:
        args = tuple(variables.get(arg, arg) if isinstance(arg, TypeVar) else arg for arg in args)
        key = (maker.cls, args)
        if key in self._records:
            return self._records[key]
        parameters = getattr(maker.cls, "__parameters__", ())
        inner = dict(zip(parameters, args, strict=False))
        record = self._records[key] = Record(maker.record_class())
        fields = []
        for part in maker.fields():
            where = f"{maker.cls.__name__}.{part.name}"
            converter = self.build(part.annotation, where, inner)
            if part.check is not None:
                converter = Checked(converter, converter.name, part.check)
            fields.append(Field(part.name, part.member, converter, part.default, part.is_optional))
        record.fill(fields)
        return record

    def _annotated(
        self, base: Any, marks: Any, type_: Any, where: str, variables: Mapping[Any, Any]
    ) -> Converter[Any]:
        if COUNTER_MARK in marks:
            return COUNTER
        if BIG_INT_MARK in marks:
            return Coded(int, BIG_INTEGER, frozenset({"string", "number"}))
        inner = self.build(base, where, variables)
        for mark in marks:
            if type(mark).__module__.partition(".")[0] == "msgspec":
                import msgspec  # the library of the annotation

                def check(value: Any) -> object:
                    return msgspec.convert(value, type_)

                return Checked(inner, inner.name, check)
        return inner

    def _union(self, options: Sequence[Converter[Any]], where: str) -> Converter[Any]:
        for index, one in enumerate(options):
            for other in options[:index]:
                shared = one.kinds & other.kinds
                if shared and not _can_be_told_apart(one, other):
                    raise InvalidRequestError(
                        f"{where}: {other.name} and {one.name} are both written as "
                        f"{_names(shared)}; "
                        f"give both a member with a Literal of its own"
                    )
        return UnionOf(options)


def _names(kinds: frozenset[str]) -> str:
    return "any JSON" if len(kinds) > 3 else " or ".join(sorted(kinds))


def _can_be_told_apart(one: Converter[Any], other: Converter[Any]) -> bool:
    if isinstance(one, Record) and isinstance(other, Record):
        mine, others = tags_of(one), tags_of(other)
        return any(set(mine[key]).isdisjoint(others[key]) for key in mine.keys() & others.keys())
    plain = (LiteralOf, EnumOf, type(STRING))
    return isinstance(one, plain) and isinstance(other, plain)


def _kinds_of(type_: type) -> frozenset[str]:
    return frozenset({"string"}) if type_ in CODECS else ALL_KINDS


def _name(type_: Any) -> str:
    return getattr(type_, "__name__", str(type_))


def _unsupported(type_: Any, where: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{where}: no converter for {type_}; use a TypedDict, a dataclass, a msgspec.Struct, a "
        f"pydantic model, or register_converter()"
    )

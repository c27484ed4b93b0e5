"""The classes that have fields: TypedDict, dataclasses, and those of msgspec and pydantic.

The libraries are used only if a class is of theirs, so the program has imported them already.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NotRequired, Protocol

from patches.errors import InvalidRequestError
from patches.json_patch import ABSENT
from patches.typed.records import RecordClass


@dataclass(frozen=True, slots=True)
class Part:
    """A field as its class declares it."""

    name: str
    member: str
    annotation: Any
    default: Callable[[], Any] | None = None
    is_optional: bool = False
    #: A check of the library's, beyond the annotation. Raises `ValueError`.
    check: Callable[[Any], object] | None = None


class RecordMaker(Protocol):
    """What is known of a class with fields."""

    cls: type

    def record_class(self) -> RecordClass:
        """How instances are recognised, read and made."""
        ...

    def fields(self) -> Iterator[Part]:
        """Its fields, in order."""
        ...


def record_maker_of(cls: Any) -> RecordMaker | None:
    """What is known of a class with fields; `None` for any other."""
    if typing.is_typeddict(cls):
        return TypedDictMaker(cls)
    if not isinstance(cls, type):
        return None
    msgspec, pydantic = sys.modules.get("msgspec"), sys.modules.get("pydantic")
    if msgspec is not None and issubclass(cls, msgspec.Struct):
        return StructMaker(cls)
    if pydantic is not None and issubclass(cls, pydantic.BaseModel):
        return ModelMaker(cls)
    if dataclasses.is_dataclass(cls):
        return DataclassMaker(cls)
    return None


class TypedDictMaker:
    """A TypedDict: its values are dicts."""

    def __init__(self, cls: type) -> None:
        self.cls = cls

    def record_class(self) -> RecordClass:
        return RecordClass(
            self.cls,
            self.cls.__name__,
            build=dict,
            is_instance=lambda value: isinstance(value, Mapping),
            get=lambda value, name: value.get(name, ABSENT),
            is_dict=True,
        )

    def fields(self) -> Iterator[Part]:
        required: frozenset[str] = getattr(self.cls, "__required_keys__", frozenset())
        for name, annotation in _hints(self.cls).items():
            # `__required_keys__` does not see NotRequired in a module with postponed annotations
            is_optional = name not in required or typing.get_origin(annotation) is NotRequired
            yield Part(name, name, annotation, is_optional=is_optional)


class DataclassMaker:
    """A dataclass of the standard library."""

    def __init__(self, cls: type) -> None:
        self.cls = cls

    def record_class(self) -> RecordClass:
        return _object_class(self.cls, lambda values: self.cls(**values))

    def fields(self) -> Iterator[Part]:
        hints = _hints(self.cls)
        for field in dataclasses.fields(self.cls):
            if not field.init:
                continue
            default: Callable[[], Any] | None = None
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory
            elif field.default is not dataclasses.MISSING:
                default = partial(_same, field.default)
            yield Part(field.name, field.name, hints[field.name], default)


class StructMaker:
    """A `msgspec.Struct`."""

    def __init__(self, cls: Any) -> None:
        self.cls = cls

    def record_class(self) -> RecordClass:
        config = self.cls.__struct_config__
        tag = None if config.tag is None else (config.tag_field, config.tag)
        return _object_class(self.cls, lambda values: self.cls(**values), tag=tag)

    def fields(self) -> Iterator[Part]:
        import msgspec  # imported by whoever made the class

        hints = _hints(self.cls)
        for field in msgspec.structs.fields(self.cls):
            default: Callable[[], Any] | None = None
            if field.default_factory is not msgspec.NODEFAULT:
                default = field.default_factory
            elif field.default is not msgspec.NODEFAULT:
                default = partial(_same, field.default)
            yield Part(field.name, field.encode_name, hints[field.name], default)


class ModelMaker:
    """A pydantic model. Its validators run when an instance is made."""

    def __init__(self, cls: Any) -> None:
        self.cls = cls

    def record_class(self) -> RecordClass:
        validator = self.cls.__pydantic_validator__

        def build(values: dict[str, Any]) -> Any:
            return validator.validate_python(values, by_alias=False, by_name=True)

        return _object_class(self.cls, build)

    def fields(self) -> Iterator[Part]:
        import pydantic  # imported by whoever made the class

        hints = _hints(self.cls)
        fields: Mapping[str, Any] = self.cls.model_fields
        for name, field in fields.items():
            default = None if field.is_required() else partial(_pydantic_default, field)
            check = None
            if field.metadata:
                adapter: Any = pydantic.TypeAdapter(field.rebuild_annotation())
                check = adapter.validate_python
            member = field.serialization_alias or field.alias or name
            yield Part(name, member, hints[name], default, check=check)


def _object_class(
    cls: type, build: Callable[[dict[str, Any]], Any], *, tag: Any = None
) -> RecordClass:
    return RecordClass(
        cls,
        cls.__name__,
        build=build,
        is_instance=lambda value: isinstance(value, cls),
        get=lambda value, name: getattr(value, name, ABSENT),
        tag=tag,
    )


def _hints(cls: type) -> dict[str, Any]:
    """The annotations of a class, resolved. Raises `InvalidRequestError`."""
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except NameError as exc:
        raise InvalidRequestError(
            f"{cls.__name__}: {exc}; the types of its fields have to be names of its module"
        ) from None


def _same(value: Any) -> Any:
    return value


def _pydantic_default(field: Any) -> Any:
    return field.get_default(call_default_factory=True)

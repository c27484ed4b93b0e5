"""Converters of lists, objects with any keys, tuples, literals, enums and unions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from itertools import zip_longest
from typing import Any, Final

from patches.json_patch import ABSENT
from patches.json_patch.pointer import is_index
from patches.model.json_values import Json
from patches.typed.converter import Before, Converter, Kind
from patches.typed.misfit import Misfit, described

_KEY_OF_ITEMS: Final = "id"


class ListOf(Converter[Any]):
    """A list, or a tuple of any length, of one type."""

    kinds: frozenset[Kind] = frozenset({"list"})

    def __init__(self, item: Converter[Any], *, of_tuple: bool = False) -> None:
        self.item: Converter[Any] = item
        self.of_tuple: bool = of_tuple
        self.name: str = f"tuple[{item.name}, ...]" if of_tuple else f"list[{item.name}]"

    def decode(self, value: Json, before: Before = None) -> Any:
        if not isinstance(value, list):
            raise Misfit(self.name, described(value))
        if before is not None and before[0] is value:
            return before[1]
        decode, index = self.item.decode, 0
        try:
            if self.is_json:
                for index, item in enumerate(value):  # noqa: B007  # read by the handler
                    decode(item)
                return tuple(value) if self.of_tuple else value
            items: list[Any] = []
            known = _known(before)
            for index, item in enumerate(value):  # noqa: B007
                items.append(decode(item, known.get(id(item))))
        except Misfit as misfit:
            raise misfit.within(index) from None
        return tuple(items) if self.of_tuple else items

    def encode(self, value: object, current: Json = ABSENT) -> Json:
        if not isinstance(value, (list, tuple)) or isinstance(value, list) is self.of_tuple:
            if not (isinstance(value, Sequence) and not isinstance(value, (str, bytes, tuple))):
                raise Misfit(self.name, described(value))
        items: list[Json] = []
        there = current if isinstance(current, list) else []
        by_key = {_key(item): item for item in there if _key(item) is not None}
        for index, item in enumerate(value):
            try:
                encoded = self.item.encode(item)
                # Unknown members are kept by the item's own key, or by its place without one.
                at = there[index] if index < len(there) else ABSENT
                key = _key(encoded)
                old = at if key is None else by_key.get(key, ABSENT)
                items.append(encoded if old is ABSENT else self.item.encode(item, old))
            except Misfit as misfit:
                raise misfit.within(index) from None
        return items

    def at(self, key: str) -> Converter[Any] | None:
        return self.item if key == "-" or is_index(key) else None

    def keeps_json(self, seen: set[int]) -> bool:
        return not self.of_tuple and _keeps(self, seen, self.item)


def _known(before: Before) -> dict[int, tuple[Json, Any]]:
    """The converted items by the identity of their JSON; scalars are converted again."""
    if before is None or not isinstance(before[0], list):
        return {}
    return {
        id(old): (old, value)
        for old, value in zip_longest(*before)
        if isinstance(old, (dict, list))
    }


def _key(item: Json) -> Any:
    key = item.get(_KEY_OF_ITEMS) if isinstance(item, dict) else None
    return key if isinstance(key, (str, int)) else None


def _keeps(converter: Converter[Any], seen: set[int], *parts: Converter[Any]) -> bool:
    if id(converter) in seen:
        return True
    seen.add(id(converter))
    return all(part.keeps_json(seen) for part in parts)


class MapOf(Converter[Any]):
    """An object with any keys and values of one type."""

    kinds: frozenset[Kind] = frozenset({"object"})

    def __init__(self, item: Converter[Any]) -> None:
        self.item: Converter[Any] = item
        self.name: str = f"dict[str, {item.name}]"

    def decode(self, value: Json, before: Before = None) -> Any:
        if not isinstance(value, dict):
            raise Misfit(self.name, described(value))
        if before is not None and before[0] is value:
            return before[1]
        old: Any = before if before is not None and isinstance(before[0], dict) else ({}, {})
        members: dict[str, Any] = {}
        for key, item in value.items():
            known = (old[0][key], old[1][key]) if key in old[0] and key in old[1] else None
            try:
                members[key] = self.item.decode(item, known)
            except Misfit as misfit:
                raise misfit.within(key) from None
        return value if self.is_json else members

    def encode(self, value: object, current: Json = ABSENT) -> Json:
        if not isinstance(value, Mapping):
            raise Misfit(self.name, described(value))
        there = current if isinstance(current, dict) else {}
        members: dict[str, Json] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise Misfit("a str as key", described(key))
            try:
                members[key] = self.item.encode(item, there.get(key, ABSENT))
            except Misfit as misfit:
                raise misfit.within(key) from None
        return members

    def at(self, key: str) -> Converter[Any]:
        return self.item

    def keeps_json(self, seen: set[int]) -> bool:
        return _keeps(self, seen, self.item)


class TupleOf(Converter[Any]):
    """A tuple of fixed length."""

    kinds: frozenset[Kind] = frozenset({"list"})

    def __init__(self, items: Sequence[Converter[Any]]) -> None:
        self.items: tuple[Converter[Any], ...] = tuple(items)
        self.name: str = f"tuple[{', '.join(item.name for item in items)}]"

    def decode(self, value: Json, before: Before = None) -> Any:
        return tuple(self._each("decode", value, list))

    def encode(self, value: object, current: Json = ABSENT) -> Json:
        return self._each("encode", value, tuple)

    def _each(self, how: str, value: Any, kind: type) -> list[Any]:
        parts: Any = value if isinstance(value, kind) else ()
        if len(parts) != len(self.items):
            raise Misfit(self.name, described(value))
        converted = []
        for index, (item, part) in enumerate(zip(self.items, parts, strict=True)):
            try:
                converted.append(getattr(item, how)(part))
            except Misfit as misfit:
                raise misfit.within(index) from None
        return converted

    def at(self, key: str) -> Converter[Any] | None:
        return self.items[int(key)] if is_index(key) and int(key) < len(self.items) else None

    def is_required(self, key: str) -> bool:
        return True


class LiteralOf(Converter[Any]):
    """One of some values."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.values: tuple[Any, ...] = tuple(values)
        self.name: str = f"Literal[{', '.join(map(repr, values))}]"
        self.kinds: frozenset[Kind] = frozenset(map(kind_of, values))

    def decode(self, value: Json, before: Before = None) -> Any:
        for each in self.values:
            if each == value and isinstance(each, bool) == isinstance(value, bool):
                return each
        raise Misfit(self.name, described(value))

    def encode(self, value: object, current: Json = ABSENT) -> Json:
        return self.decode(value)

    def keeps_json(self, seen: set[int]) -> bool:
        return True


class EnumOf(Converter[Any]):
    """A member of an `Enum`, written as its value."""

    def __init__(self, cls: type[Enum]) -> None:
        self.cls: type[Enum] = cls
        self.name: str = cls.__name__
        self.kinds: frozenset[Kind] = frozenset(kind_of(member.value) for member in cls)

    def decode(self, value: Json, before: Before = None) -> Any:
        for member in self.cls:
            if member.value == value and isinstance(member.value, bool) == isinstance(value, bool):
                return member
        raise Misfit(self.name, described(value))

    def encode(self, value: object, current: Json = ABSENT) -> Json:
        if not isinstance(value, self.cls):
            raise Misfit(self.name, described(value))
        return value.value


class UnionOf(Converter[Any]):
    """One of several types, distinguished by the kind of JSON, or by a member with a literal."""

    def __init__(self, options: Sequence[Converter[Any]]) -> None:
        self.options: tuple[Converter[Any], ...] = tuple(options)
        self.name: str = " | ".join(option.name for option in options)
        self.kinds: frozenset[Kind] = frozenset().union(*(option.kinds for option in options))
        self.is_text: bool = any(option.is_text for option in options)

    def decode(self, value: Json, before: Before = None) -> Any:
        return self.option_of(value).decode(value, before)

    def option_of(self, value: Json) -> Converter[Any]:
        """The converter that a value is for. Raises `Misfit`."""
        kind = kind_of(value)
        fitting = [option for option in self.options if kind in option.kinds]
        if len(fitting) == 1:
            return fitting[0]
        for option in fitting:
            if isinstance(value, dict):
                if _has_tags_of(option, value):
                    return option
                continue
            try:
                option.decode(value)
            except Misfit:
                continue
            return option
        raise Misfit(self.name, described(value))

    def encode(self, value: object, current: Json = ABSENT) -> Json:
        innermost: Misfit | None = None
        for option in self.options:
            try:
                return option.encode(value, current)
            except Misfit as misfit:
                if misfit.keys and (innermost is None or len(misfit.keys) > len(innermost.keys)):
                    innermost = misfit  # it is this option, but for one of its parts
        raise innermost or Misfit(self.name, described(value))

    def at(self, key: str) -> Converter[Any] | None:
        found = [at for option in self.options if (at := option.at(key)) is not None]
        if len(found) > 1:
            return UnionOf(list({id(each): each for each in found}.values()))
        return found[0] if found else None

    def is_required(self, key: str) -> bool:
        having = [option for option in self.options if option.at(key) is not None]
        return bool(having) and all(option.is_required(key) for option in having)

    def keeps_json(self, seen: set[int]) -> bool:
        return _keeps(self, seen, *self.options)


def _has_tags_of(option: Converter[Any], value: dict[str, Json]) -> bool:
    tags = tags_of(option)
    return bool(tags) and all(value.get(key) in values for key, values in tags.items())


def tags_of(option: Converter[Any]) -> Mapping[str, Sequence[Json]]:
    """The members of a record that hold literals, with their values."""
    found: Mapping[str, Sequence[Json]] = getattr(option, "tags", {})
    return found


def kind_of(value: object) -> Kind:
    """The kind of a JSON value."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "list"
    return "object"

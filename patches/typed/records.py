"""`Record`: the converter of a class with fields, whichever library the class is of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from patches.json_patch import ABSENT
from patches.model.json_values import Json, json_equal
from patches.typed.containers import EnumOf, LiteralOf
from patches.typed.converter import Before, Converter, Kind
from patches.typed.misfit import Misfit, described


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its name in Python and in JSON."""

    name: str
    member: str
    converter: Converter[Any]
    #: Makes its default; `None`: it has none.
    default: Callable[[], Any] | None = None
    #: Whether it may be missing without a default (`NotRequired`).
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class RecordClass:
    """What a library's class needs to be read and made."""

    cls: type
    name: str
    #: Makes an instance of values by field name. Raises `ValueError` or `TypeError`.
    build: Callable[[dict[str, Any]], Any]
    is_instance: Callable[[object], bool]
    get: Callable[[Any, str], Any]  # `ABSENT`: it has no such field
    is_dict: bool = False
    #: A member that names the class, written by the library itself.
    tag: tuple[str, Json] | None = None


class Record(Converter[Any]):
    """An object whose members are the fields of a class. Unknown members are left alone."""

    kinds: frozenset[Kind] = frozenset({"object"})

    def __init__(self, record: RecordClass) -> None:
        self.record: RecordClass = record
        self.name: str = record.name
        self.fields: Sequence[Field] = ()  # filled in later: a class may refer to itself
        self.by_member: Mapping[str, Field] = {}
        self.by_name: Mapping[str, Field] = {}

    def fill(self, fields: Sequence[Field]) -> None:
        """Set the fields. Called once, by whoever made this."""
        self.fields = tuple(fields)
        self.by_member = {field.member: field for field in fields}
        self.by_name = {field.name: field for field in fields}

    @property
    def tags(self) -> Mapping[str, Sequence[Json]]:
        """The members that distinguish this class from others in a union."""
        tags: dict[str, Sequence[Json]] = {}
        for field in self.fields:
            if isinstance(field.converter, LiteralOf):
                tags[field.member] = field.converter.values
            elif isinstance(field.converter, EnumOf) and len(field.converter.cls) == 1:
                tags[field.member] = [member.value for member in field.converter.cls]
        if self.record.tag is not None:
            tags[self.record.tag[0]] = (self.record.tag[1],)
        return tags

    def decode(self, value: Json, before: Before = None) -> Any:
        if not isinstance(value, dict):
            raise Misfit(self.name, described(value))
        if before is not None and before[0] is value:
            return before[1]
        values: dict[str, Any] = {}
        get = self.record.get
        old: Any = before[0] if before is not None and self._is_of(before, value) else None
        for field in self.fields:
            member = field.member
            part = value.get(member, ABSENT)
            if part is ABSENT:
                if field.default is None and not field.is_optional:
                    raise Misfit(field.converter.name, "nothing").within(member)
                continue
            known = None
            if old is not None and type(part) in (dict, list) and old.get(member) is part:
                known = (part, get(before[1], field.name))  # type: ignore[index]
            elif old is not None and type(part) in (dict, list) and member in old:
                kept = get(before[1], field.name)  # type: ignore[index]
                known = None if kept is ABSENT else (old[member], kept)
            try:
                values[field.name] = field.converter.decode(part, known)
            except Misfit as misfit:
                raise misfit.within(member) from None
        if self.is_json:
            return value
        return self._built(values, value)

    def encode(self, value: object, current: Json = ABSENT) -> Json:
        if not self.record.is_instance(value):
            raise Misfit(self.name, described(value))
        there = current if isinstance(current, dict) else {}
        # The members that the class does not know are somebody else's.
        members = {key: part for key, part in there.items() if key not in self.by_member}
        if self.record.tag is not None:
            members[self.record.tag[0]] = self.record.tag[1]
        for field in self.fields:
            part = self.record.get(value, field.name)
            old = there.get(field.member, ABSENT)
            if part is ABSENT:
                if not field.is_optional:
                    raise Misfit(field.converter.name, "nothing").within(field.member)
                continue
            try:
                encoded = field.converter.encode(part, old)
            except Misfit as misfit:
                raise misfit.within(field.member) from None
            # In an object that is there, what reads as the default anyway is not written.
            is_new = current is ABSENT and encoded is not None
            if old is not ABSENT or is_new or not self._is_default(field, encoded):
                members[field.member] = encoded
        if self.record.is_dict:
            self._check_members(value, there)
        return members

    def at(self, key: str) -> Converter[Any] | None:
        field = self.by_member.get(key)
        if field is None and self.record.tag is not None and key == self.record.tag[0]:
            return LiteralOf([self.record.tag[1]])
        return None if field is None else field.converter

    def is_required(self, key: str) -> bool:
        field = self.by_member.get(key)
        return field is not None and field.default is None and not field.is_optional

    def keeps_json(self, seen: set[int]) -> bool:
        if not self.record.is_dict:
            return False
        if id(self) in seen:
            return True
        seen.add(id(self))
        return all(field.converter.keeps_json(seen) for field in self.fields)

    # ---- inside ----------------------------------------------------------------------------------

    def _built(self, values: dict[str, Any], value: dict[str, Json]) -> Any:
        if self.record.is_dict:
            return {**{k: v for k, v in value.items() if k not in self.by_member}, **values}
        try:
            return self.record.build(values)
        except (ValueError, TypeError) as exc:
            reason = " ".join(str(exc).split())
            raise Misfit(f"a {self.name} ({reason})", described(value)) from None

    def _is_default(self, field: Field, encoded: Json) -> bool:
        if field.default is None:
            return False
        try:
            return json_equal(encoded, field.converter.encode(field.default()))
        except Misfit:
            return False

    def _is_of(self, before: tuple[Json, Any], value: dict[str, Json]) -> bool:
        """Whether a value that was converted before was of this class, and not of another one of a
        union.
        """
        old = before[0]
        if not isinstance(old, dict) or not self.record.is_instance(before[1]):
            return False
        return not self.record.is_dict or all(old.get(tag) == value.get(tag) for tag in self.tags)

    def _check_members(self, value: Any, there: dict[str, Json]) -> None:
        """Refuse a key that is misspelt. What a newer program wrote is there already."""
        for key in value:
            if key not in self.by_member and key not in there:
                raise Misfit(f"a member of {self.name}", f"the key {key!r}").within(key)

"""Drafts of typed documents: the parts of a draft with the attributes and values of their types.

They hold nothing of their own but the part of the draft below, which records what is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping, MutableSequence
from difflib import get_close_matches
from types import FunctionType, MethodType
from typing import Any, ClassVar

from patches.documents.draft import DraftList
from patches.documents.draft.container import Container
from patches.documents.draft.node import Node, plain_value
from patches.json_patch import ABSENT
from patches.model.json_values import Json
from patches.typed.containers import ListOf, MapOf, UnionOf
from patches.typed.converter import COUNTER, JSON, Checked, Converter
from patches.typed.misfit import Misfit
from patches.typed.records import Field, Record
from patches.typed.rich_text import TEXT

_put = object.__setattr__

#: Gives the part of the draft; one that reads as a default is written by that, softly.
_Find = Callable[[], Container]


class TypedPart:
    """What typed parts of a draft share. `_part` is the part below, or `None` for a default."""

    __slots__ = ("_converter", "_default", "_find", "_part")

    _part: Any
    _converter: Any
    _find: _Find | None
    _default: Any  # its JSON, while the part is a default

    def _real(self) -> Any:
        """The part to be written to."""
        if self._part is None:
            assert self._find is not None
            _put(self, "_part", self._find())
        return self._part

    def _readable(self) -> Any:
        """The part, or the JSON of the default that it reads as."""
        return self._default if self._part is None else self._part

    def _json(self) -> Json:
        return plain_value(self._readable())

    def __eq__(self, other: object) -> bool:
        mine = self._converter.decode(self._json())
        theirs = other._converter.decode(other._json()) if isinstance(other, TypedPart) else other
        return bool(mine == theirs)

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # changes, and is compared by value

    def __repr__(self) -> str:
        return f"draft of {self._json()!r}"


class RecordDraft(TypedPart):
    """A draft of an instance: its fields are attributes, its methods and properties run on it."""

    __slots__ = ()

    @property
    def __class__(self) -> type:
        cls: type = self._converter.record.cls
        return cls

    @__class__.setter
    def __class__(self, cls: type) -> None:
        raise AttributeError("the class of a draft cannot be changed")

    def __getattr__(self, name: str) -> Any:
        field = self._converter.by_name.get(name)
        if field is None:
            return self._of_class(name)
        return _member(self, self._readable(), field)

    def __setattr__(self, name: str, value: Any) -> None:
        field = self._converter.by_name.get(name)
        if field is None:
            prop = getattr(self._converter.record.cls, name, None)
            if isinstance(prop, property) and prop.fset is not None:
                prop.fset(self, value)
                return
            raise AttributeError(self._unknown(name))
        _write(self._real(), field.member, value)

    def __delattr__(self, name: str) -> None:
        field = self._converter.by_name.get(name)
        if field is None or field.member not in self._readable():
            raise AttributeError(self._unknown(name))
        del self._real()[field.member]

    def _member_of(self, name: Any) -> Any:
        field = self._converter.by_name.get(name)
        return name if field is None else field.member

    def _of_class(self, name: str) -> Any:
        cls = self._converter.record.cls
        for base in cls.__mro__:
            found = base.__dict__.get(name, ABSENT)
            if isinstance(found, property) and found.fget is not None:
                return found.fget(self)
            if isinstance(found, FunctionType):
                return MethodType(found, self)
            if isinstance(found, classmethod):
                return found.__get__(None, cls)
            if isinstance(found, staticmethod):
                return found.__func__
            if found is not ABSENT and not name.startswith("__"):
                return found
        raise AttributeError(self._unknown(name))

    def _unknown(self, name: str) -> str:
        near = get_close_matches(name, [field.name for field in self._converter.fields], 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"{self._converter.name!r} has no field {name!r}{hint}"


class MappingDraft(TypedPart, MutableMapping[str, Any]):
    """A draft of a dict, or of a TypedDict, whose values are not all JSON."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:
        part = self._readable()
        if key not in part:
            raise KeyError(key)
        return shown(self._converter.at(key) or JSON, part, key)

    def __setitem__(self, key: str, value: Any) -> None:
        _write(self._real(), key, value)

    def __delitem__(self, key: str) -> None:
        del self._real()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._readable())

    def __len__(self) -> int:
        return len(self._readable())

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The member, set to `default` if it is missing: a soft write."""
        self._real().setdefault(key, default)
        return self[key]


class ListDraft(TypedPart, MutableSequence[Any]):
    """A draft of a list whose elements are not all JSON."""

    __slots__ = ()

    @property
    def __class__(self) -> type:
        return list

    @__class__.setter
    def __class__(self, cls: type) -> None:
        raise AttributeError("the class of a draft cannot be changed")

    def __getitem__(self, index: Any) -> Any:
        part = self._readable()
        if isinstance(index, slice):
            return [self[place] for place in range(len(part))[index]]
        if self._part is None and isinstance(self._default[index], (dict, list)):
            part = self._real()  # so that what is written to the element is not lost
        return shown(self._converter.item, part, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            value = [_unwrapped(each) for each in value]
        self._real()[index] = _unwrapped(value)

    def __delitem__(self, index: int | slice) -> None:
        del self._real()[index]

    def __len__(self) -> int:
        return len(self._readable())

    def insert(self, index: int, value: Any) -> None:
        self._real().insert(index, _unwrapped(value))

    def extend(self, values: Iterable[Any]) -> None:
        self._real().extend([_unwrapped(value) for value in values])

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        part: DraftList = self._real()
        return part.index(self._wire(value), start, stop)

    def count(self, value: Any) -> int:
        part: DraftList = self._real()
        return part.count(self._wire(value))

    def __contains__(self, value: object) -> bool:
        return self._wire(value) in self._readable()

    def reverse(self) -> None:
        self._real().reverse()

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """Sort in place, by as few moves as possible."""
        item = self._converter.item

        def by(part: Any) -> Any:
            value = _shown_value(item, part)
            return value if key is None else key(value)

        self._real().sort(key=by, reverse=reverse)

    def clear(self) -> None:
        self._real().clear()

    def move(self, source: Any, target: Any) -> None:
        """Move an element; edits that others make to it meanwhile follow it."""
        self._real().move(source, target)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._real(), name)

    def _wire(self, value: Any) -> Json:
        value = _unwrapped(value)
        if isinstance(value, Node):
            return plain_value(value)
        try:
            return self._converter.item.encode(value)
        except Misfit:
            return ABSENT  # equal to no element


class CounterValue(int):
    """The value of a `Counter` in a draft: `draft.views += 3` becomes an increment."""

    def __iadd__(self, by: Any) -> Any:  # type: ignore[misc]  # it marks what is assigned
        return _Added(int(self) + by, by) if isinstance(by, int) else NotImplemented

    def __isub__(self, by: Any) -> Any:  # type: ignore[misc]  # as above
        return _Added(int(self) - by, -by) if isinstance(by, int) else NotImplemented


class _Added(int):
    by: int

    def __new__(cls, value: int, by: int) -> _Added:
        added = super().__new__(cls, value)
        added.by = by
        return added


def shown_root(converter: Converter[Any], root: Any) -> Any:
    """What the function of an edit gets for the root of its draft."""
    return _shown_value(converter, root)


def shown(converter: Converter[Any], part: Any, key: Any) -> Any:
    """What a reader gets for what stands at `key` in a part of the draft, or in its JSON."""
    value = part[key]
    if _is_text(converter) and isinstance(part, Container) and value is not None:
        return part.text(key)
    return _shown_value(converter, value)


def _shown_value(converter: Converter[Any], value: Any) -> Any:
    if not isinstance(value, Container):
        decoded = converter.decode(value)
        return CounterValue(decoded) if converter is COUNTER else decoded
    if converter.is_json:
        return value
    while isinstance(converter, (UnionOf, Checked)):
        if isinstance(converter, Checked):
            converter = converter.inner
        else:
            converter = converter.option_of(value._plain())
    return _typed(converter, value)


def _typed(
    converter: Converter[Any], part: Any, find: _Find | None = None, json: Any = None
) -> Any:
    """The typed part of a draft, or of a default that nothing was written to yet."""
    kind: type[TypedPart]
    if isinstance(converter, Record) and not converter.record.is_dict:
        kind = RecordDraft
    elif isinstance(converter, ListOf) and not converter.of_tuple:
        kind = ListDraft
    elif isinstance(converter, (MapOf, Record)):
        kind = MappingDraft
    else:
        return converter.decode(plain_value(part))  # a tuple, or of another library
    typed = object.__new__(kind)
    for name, value in (
        ("_converter", converter),
        ("_part", part),
        ("_find", find),
        ("_default", json),
    ):
        _put(typed, name, value)
    return typed


def _member(draft: RecordDraft, part: Any, field: Field) -> Any:
    if field.member in part:
        return shown(field.converter, part, field.member)
    if _is_text(field.converter) and field.converter is TEXT:
        return draft._real().text(field.member)
    if field.default is None:
        raise AttributeError(f"the draft has no member {field.member!r} yet")
    default = field.default()
    json = field.converter.encode(default)
    if not isinstance(json, (dict, list)):
        return CounterValue(default) if field.converter is COUNTER else default

    def find() -> Container:
        # Softly, so that it yields to what another client writes there at the same time.
        found: Container = draft._real().setdefault(field.member, default)
        return found

    if field.converter.is_json:
        return _typed(_as_typed(json), None, find, json)
    converter = field.converter
    while isinstance(converter, (UnionOf, Checked)):
        converter = converter.inner if isinstance(converter, Checked) else converter.option_of(json)
    return _typed(converter, None, find, json)


def _as_typed(json: Json) -> Converter[Any]:
    """A converter for a default of plain JSON, which is a part of its own until it is written."""
    return ListOf(JSON) if isinstance(json, list) else MapOf(JSON)


def _is_text(converter: Converter[Any]) -> bool:
    if isinstance(converter, UnionOf):
        return any(option is TEXT for option in converter.options)
    return converter is TEXT


def _write(part: Any, key: Any, value: Any) -> None:
    if isinstance(value, _Added):
        part.increment(key, value.by)
    else:
        part[key] = _unwrapped(value)


def _unwrapped(value: Any) -> Any:
    """What the draft below takes for a value: its own parts, and anything else as it is."""
    kind = type(value)
    if issubclass(kind, TypedPart):
        return value._readable()
    return int(value) if kind in (CounterValue, _Added) else value

"""`Converter`: from JSON to a value of a type and back. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Generic, TypeAlias, TypeVar

from patches.json_patch import ABSENT
from patches.model.json_values import Json
from patches.typed.misfit import Misfit, described

V = TypeVar("V")

#: A value that was converted before: its JSON and what it became.
Before: TypeAlias = "tuple[Json, Any] | None"

#: The kinds of JSON values that distinguish the members of a union.
Kind: TypeAlias = str
ALL_KINDS: Final[frozenset[Kind]] = frozenset(
    {"null", "boolean", "number", "string", "list", "object"}
)


class Converter(ABC, Generic[V]):
    """Converts values of one type. `register_converter` takes converters of other libraries."""

    #: The type, as messages name it.
    name: str
    #: The kinds of JSON that it reads.
    kinds: frozenset[Kind] = ALL_KINDS
    #: Whether a text that is edited by `@txt` may stand here.
    is_text: bool = False

    @abstractmethod
    def decode(self, value: Json, before: Before = None) -> V:
        """The value of a JSON value. Raises `Misfit`.

        Parts that are the same objects as in `before` become the same values as there.
        """

    @abstractmethod
    def encode(self, value: object, current: Json = ABSENT) -> Json:
        """The JSON of a value. Raises `Misfit`, also for a value of another class.

        `current`: what stands there now, of which unknown members are kept.
        """

    def at(self, key: str) -> Converter[Any] | None:
        """The converter of a member or element; `None` if there is none of that name."""
        return None

    def is_required(self, key: str) -> bool:
        """Whether a value does not fit any more when this member is taken out."""
        return False

    def keeps_json(self, seen: set[int]) -> bool:
        """Whether every value is its own JSON. `seen`: converters that are being asked."""
        return False

    @cached_property
    def is_json(self) -> bool:
        """Whether what it reads is the JSON itself."""
        return self.keeps_json(set())


class Plain(Converter[Any]):
    """Anything that is JSON, as it is."""

    name = "JSON"

    def decode(self, value: Json, before: Before = None) -> Json:
        return value

    def encode(self, value: object, current: Json = ABSENT) -> Json:
        return value  # checked where it is written

    def at(self, key: str) -> Converter[Any]:
        return self

    is_text = True

    def keeps_json(self, seen: set[int]) -> bool:
        return True


JSON: Final = Plain()


class Scalar(Converter[Any]):
    """A JSON scalar that is its own value."""

    def __init__(self, name: str, kinds: frozenset[Kind], fits: Callable[[object], bool]) -> None:
        self.name: str = name
        self.kinds: frozenset[Kind] = kinds
        self._fits = fits

    def decode(self, value: Json, before: Before = None) -> Json:
        if not self._fits(value):
            raise Misfit(self.name, described(value))
        return value

    def encode(self, value: object, current: Json = ABSENT) -> Json:
        return self.decode(value)

    def keeps_json(self, seen: set[int]) -> bool:
        return True


STRING: Final = Scalar("str", frozenset({"string"}), lambda value: isinstance(value, str))
BOOLEAN: Final = Scalar("bool", frozenset({"boolean"}), lambda value: isinstance(value, bool))
NULL: Final = Scalar("None", frozenset({"null"}), lambda value: value is None)
FLOAT: Final = Scalar(
    "float",
    frozenset({"number"}),
    lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
)
INTEGER: Final = Scalar(
    "int",
    frozenset({"number"}),
    # 2.0 is the same JSON number as 2
    lambda value: (
        (isinstance(value, int) and not isinstance(value, bool))
        or (isinstance(value, float) and value.is_integer())
    ),
)


class CounterNumber(Scalar):
    """An `int` of which a draft records `+= 3` as an increment."""

    def __init__(self) -> None:
        super().__init__("Counter", frozenset({"number"}), INTEGER._fits)


COUNTER: Final = CounterNumber()


@dataclass(frozen=True, slots=True)
class Codec:
    """How values of a class are written: `encode` gives a JSON scalar or value, `decode` reads it.

    `decode` raises `ValueError` or `TypeError` for what it did not write.
    """

    encode: Callable[[Any], Json]
    decode: Callable[[Any], Any]


class Coded(Converter[Any]):
    """A class with a codec."""

    def __init__(self, cls: type, codec: Codec, kinds: frozenset[Kind] = ALL_KINDS) -> None:
        self.name: str = cls.__name__
        self.kinds: frozenset[Kind] = kinds
        self._cls, self._codec = cls, codec

    def decode(self, value: Json, before: Before = None) -> Any:
        try:
            return self._codec.decode(value)
        except (ValueError, TypeError, ArithmeticError, AttributeError):
            raise Misfit(self.name, described(value)) from None

    def encode(self, value: object, current: Json = ABSENT) -> Json:
        # `datetime` is a `date`, and is not to lose its time
        if not isinstance(value, self._cls) or _is_other(value, self._cls):
            raise Misfit(self.name, described(value))
        try:
            return self._codec.encode(value)
        except (ValueError, TypeError, ArithmeticError) as exc:
            raise Misfit(self.name, str(exc)) from None


def _is_other(value: object, cls: type) -> bool:
    return cls.__name__ == "date" and type(value).__name__ == "datetime"


class Checked(Converter[Any]):
    """A type with a further check, such as a library's constraints."""

    def __init__(self, inner: Converter[Any], name: str, check: Callable[[Any], object]) -> None:
        self.inner: Converter[Any] = inner
        self.name: str = name
        self._check = check
        self.kinds: frozenset[Kind] = inner.kinds
        self.is_text: bool = inner.is_text

    def decode(self, value: Json, before: Before = None) -> Any:
        decoded = self.inner.decode(value, before)
        self._try(decoded, value)
        return decoded

    def encode(self, value: object, current: Json = ABSENT) -> Json:
        encoded = self.inner.encode(value, current)
        self._try(value, encoded)
        return encoded

    def at(self, key: str) -> Converter[Any] | None:
        return self.inner.at(key)

    def is_required(self, key: str) -> bool:
        return self.inner.is_required(key)

    def keeps_json(self, seen: set[int]) -> bool:
        return self.inner.keeps_json(seen)

    def _try(self, value: Any, encoded: Json) -> None:
        try:
            self._check(value)
        except (ValueError, TypeError) as exc:
            raise Misfit(f"{self.name} ({exc})", described(encoded)) from None

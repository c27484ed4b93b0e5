"""`Misfit`: a value that does not fit its type, with the place that is filled in on the way out."""

from __future__ import annotations

from patches.errors import StateTypeError
from patches.json_patch import pointer
from patches.json_patch.pointer import escape


class Misfit(Exception):  # noqa: N818  # a message between converters, never a user's
    """Raised by a converter. Each container above adds the key that it was reading."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(expected, found)
        self.expected: str = expected
        self.found: str = found
        self.keys: list[str | int] = []  # innermost first

    def within(self, key: str | int) -> Misfit:
        """The same, seen from one container further out."""
        self.keys.append(key)
        return self

    def as_error(self, path: str = "") -> StateTypeError:
        """As users get it. `path`: of the value that was converted."""
        inner = "".join(f"/{escape(key)}" for key in reversed(self.keys))
        return StateTypeError(path + inner, self.expected, self.found)


def described(value: object) -> str:
    """A value in a message: its kind, and what it is if that is short."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            return f"the string {value if len(value) <= 40 else value[:40] + '...'!r}"
        case int() | float():
            return f"the number {value}"
        case list():
            return "a list"
        case dict():
            return "an object"
    return f"a value of class {type(value).__name__}"


def keys_of(path: str) -> list[str]:
    """The parts of a JSON Pointer."""
    return [*pointer.parse(path)] if path else []

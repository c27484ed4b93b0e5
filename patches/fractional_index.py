"""Keys that order the items of a list, each between any two others.

The rules: `docs/internals/json-patch.md` 14.

A key sorts by plain comparison. It is an integer part, whose first character says how long it is,
and a fraction in base 62 that does not end in `0`. Everything here is deterministic: two people who
insert at one place at once get the same key, and `heal_duplicate_orders` tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar, overload

from patches.errors import PatchError

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SMALLEST: Final = "A" + "0" * 26
_LARGEST: Final = "z" * 27
_ZERO: Final = "a0"

Item = TypeVar("Item")


@overload
def fractional_index(a: str | None, b: str | None, count: None = None) -> str: ...
@overload
def fractional_index(a: str | None, b: str | None, count: int) -> list[str]: ...
def fractional_index(a: str | None, b: str | None, count: int | None = None) -> str | list[str]:
    """A key between `a` and `b`; with `count`, a list of so many.

    `None` or `""` is an open end. If `a` is greater they change places (and a list comes out
    descending). Raises `PatchError` for what is not a key, or has none below or above it.
    """
    a, b = a or None, b or None
    if count is None:
        return _between(a, b)
    return _many(a, b, count)


def _many(a: str | None, b: str | None, count: int) -> list[str]:
    if count <= 0:
        return []
    if count == 1:
        return [_between(a, b)]
    keys: list[str] = []
    if b is None:
        for _ in range(count):
            a = _between(a, None)
            keys.append(a)
        return keys
    if a is None:
        for _ in range(count):
            b = _between(None, b)
            keys.append(b)
        return keys[::-1]
    middle = _between(a, b)
    below = count // 2
    return [*_many(a, middle, below), middle, *_many(middle, b, count - below - 1)]


def _between(a: str | None, b: str | None) -> str:
    if a is not None and b is not None and a >= b:
        a, b = b, a
    if a is not None:
        _check(a, but_not=_LARGEST)
    if b is not None:
        _check(b, but_not=_SMALLEST)
    if a is None:
        return _ZERO if b is None else _below(b)
    if b is None:
        return _above(a)
    whole_a, whole_b = _integer(a), _integer(b)
    if whole_a == whole_b:
        return whole_a + _midpoint(a[len(whole_a) :], b[len(whole_b) :])
    above = _increment(whole_a)
    if above is not None and above < b:
        return above
    return whole_a + _midpoint(a[len(whole_a) :], "")


def _below(key: str) -> str:
    whole = _integer(key)
    fraction = key[len(whole) :]
    if whole == _SMALLEST:
        return whole + _midpoint("", fraction)
    if fraction:
        return whole
    lower = _decrement(whole)
    if lower is None:
        raise PatchError(f"Invalid order key: {key}")
    return lower


def _above(key: str) -> str:
    whole = _integer(key)
    return _increment(whole) or whole + _midpoint(key[len(whole) :], "")


def _check(key: str, *, but_not: str) -> None:
    whole = _integer(key)
    fraction = key[len(whole) :]
    known = all(digit in _DIGITS for digit in key)
    if key == but_not or fraction.endswith("0") or not known:
        raise PatchError(f"Invalid order key: {key}")


def _integer(key: str) -> str:
    head = key[0]
    if "a" <= head <= "z":
        length = ord(head) - ord("a") + 2
    elif "A" <= head <= "Z":
        length = ord("Z") - ord(head) + 2
    else:
        raise PatchError(f"Invalid order key head: {head}")
    if length > len(key):
        raise PatchError(f"Invalid order key: {key}")
    return key[:length]


def _midpoint(a: str, b: str) -> str:
    """A fraction between two; an empty `b` is open."""
    if a and b and a >= b:
        a, b = b, a
    if a.endswith("0") or b.endswith("0"):
        raise PatchError("Trailing zero")
    common = _common_prefix(a, b)
    if common:
        return b[:common] + _midpoint(a[common:], b[common:])
    digit_a = _DIGITS.index(a[0]) if a else 0
    digit_b = _DIGITS.index(b[0]) if b else len(_DIGITS)
    if digit_b - digit_a > 1:
        return _DIGITS[(digit_a + digit_b + 1) // 2]  # half goes up; `round` would go to even
    if len(b) > 1:
        return b[0]
    return _DIGITS[digit_a] + _midpoint(a[1:], "")


def _common_prefix(a: str, b: str) -> int:
    """How far the two agree, with zeros after the end of `a`."""
    for index, digit in enumerate(b):
        if (a[index] if index < len(a) else "0") != digit:
            return index
    return len(b)


def _increment(whole: str) -> str | None:
    head, digits = whole[0], whole[1:]
    rest = digits.rstrip("z")
    zeros = "0" * (len(digits) - len(rest))
    if rest:
        return f"{head}{rest[:-1]}{_DIGITS[_DIGITS.index(rest[-1]) + 1]}{zeros}"
    if head == "Z":
        return _ZERO
    if head == "z":
        return None
    return chr(ord(head) + 1) + (zeros + "0" if head > "Z" else zeros[1:])


def _decrement(whole: str) -> str | None:
    head, digits = whole[0], whole[1:]
    rest = digits.rstrip("0")
    nines = "z" * (len(digits) - len(rest))
    if rest:
        return f"{head}{rest[:-1]}{_DIGITS[_DIGITS.index(rest[-1]) - 1]}{nines}"
    if head == "a":
        return "Zz"
    if head == "A":
        return None
    return chr(ord(head) - 1) + (nines[1:] if head > "Z" else nines + "z")


def sort_by_order(
    items: Mapping[str, Item], field: str | Literal[False] = "order"
) -> list[tuple[str, Item]]:
    """The entries `(key, item)` by the order string in the item's `field`, then by key.

    With `field=False` the items are the order strings themselves.
    """
    return sorted(
        items.items(),
        key=lambda entry: (_utf16_key(_order(entry[1], field)), _utf16_key(entry[0])),
    )


def heal_duplicate_orders(
    items: Mapping[str, Item], field: str | Literal[False] = "order"
) -> dict[str, str] | None:
    """New orders for the items whose order is not greater than the one before, by item key.

    `None` if nothing is to be mended. The others keep their order.
    """
    entries = [(key, _order(item, field)) for key, item in sort_by_order(items, field)]
    healed: dict[str, str] = {}
    previous = entries[0][1] if entries else ""
    above = 0  # the first entry whose order is greater; it only moves on, as `previous` grows
    for index, (key, order) in enumerate(entries[1:], start=1):
        if _utf16_key(order) > _utf16_key(previous):
            previous = order
            continue
        above = max(above, index + 1)
        while above < len(entries) and _utf16_key(entries[above][1]) <= _utf16_key(previous):
            above += 1
        previous = _between(previous or None, entries[above][1] if above < len(entries) else None)
        healed[key] = previous
    return healed or None


def _order(item: Any, field: str | Literal[False]) -> str:
    """The order string of an item; `""`, which sorts first, if it has none."""
    order = item if field is False else item.get(field) if isinstance(item, Mapping) else None
    return order if isinstance(order, str) else ""


def _utf16_key(text: str) -> bytes:
    return text.encode("utf-16-be", "surrogatepass")

"""Attribute maps of rich text: compose, transform, invert and diff.

The rules: `docs/internals/json-patch.md` 6.5.

A map that would be empty is `None`: the op then carries no `attributes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from patches.model.json_values import Json, json_equal

#: How a piece of text is formatted. In a change, `None` under a key removes it.
Attributes: TypeAlias = Mapping[str, Json]


def compose_attributes(
    a: Attributes | None, b: Attributes | None, *, keep_null: bool
) -> dict[str, Json] | None:
    """`a`, then `b`. `keep_null` keeps removals: needed where there may still be text below."""
    a, b = a or {}, b or {}
    composed: dict[str, Json] = {}
    for key, value in b.items():
        below = a.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            value = compose_attributes(below, value, keep_null=keep_null)
            if value is None:
                continue
        if keep_null or not _is_deep_null(value):
            composed[key] = value
    composed |= {key: value for key, value in a.items() if key not in b}
    return composed or None


def transform_attributes(
    a: Attributes | None, b: Attributes | None, *, priority: bool
) -> Attributes | None:
    """`b` after `a`. With priority `a` wins the keys that both set."""
    if not a or not b:
        return b or None
    if not priority:
        return b
    kept: dict[str, Json] = {}
    nothing_left = True
    for key, value in b.items():
        if key not in a:
            kept[key] = value
        elif isinstance(value, dict) and isinstance(a[key], dict):
            inner = transform_attributes(a[key], value, priority=True)
            if inner is not None:
                kept[key] = inner
        else:
            continue
        nothing_left = False  # also if the recursion left nothing: the wire then has `{}`
    return None if nothing_left else kept


def invert_attributes(attributes: Attributes | None, base: Attributes | None) -> dict[str, Json]:
    """What undoes `attributes` on text that had `base`."""
    attributes, base = attributes or {}, base or {}
    inverse: dict[str, Json] = {}
    for key, value in base.items():
        if key in attributes and not json_equal(attributes[key], value):
            now = attributes[key]
            both = isinstance(value, dict) and isinstance(now, dict)
            inverse[key] = invert_attributes(now, value) if both else value
    for key in attributes:
        if key not in base:
            inverse[key] = None
    return inverse


def diff_attributes(a: Attributes | None, b: Attributes | None) -> dict[str, Json] | None:
    """The smallest change that makes `b` of `a`."""
    a, b = a or {}, b or {}
    change: dict[str, Json] = {key: None for key in a if key not in b}
    for key, value in b.items():
        if key in a and json_equal(a[key], value):
            continue
        # objects compose by key, so what only `a` has below must be removed by name
        nested = isinstance(value, dict) and isinstance(a.get(key), dict)
        change[key] = diff_attributes(a[key], value) if nested else value
    return change or None


def _is_deep_null(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_deep_null, value.values()))
    return value is None

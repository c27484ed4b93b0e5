"""Ids and random numbers that are the same whenever and wherever an action runs. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from patches.model.json_values import Json, Op, plain_number

_NAMESPACE: Final = bytes.fromhex("9a1f2c4e8b7d5e3fa6c0d1e2f3041526")


def row_id(change_id: str, table: str, identity: Sequence[Json]) -> str:
    """The id of a row that an action inserts: the same for the same change, table and identity."""
    space = _uuid5(_NAMESPACE, change_id)
    return _shown(_uuid5(space, f"{table}|{canonical_json(list(identity))}"))


def effect_id(doc_id: str, change_ids: Sequence[str], ops: Sequence[Op]) -> str:
    """The id of the change that adds these operations to the effect of actions: the same on all
    devices of a user.
    """
    space = _uuid5(_NAMESPACE, doc_id)
    return _shown(_uuid5(space, canonical_json([list(change_ids), list(ops)])))


def random_float(change_id: str, number: int) -> float:
    """The `number`-th random number of an action, from 0 up to and without 1."""
    digest = hashlib.sha256(f"{number}|{change_id}".encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def canonical_json(value: Json) -> str:
    """JSON with one form for each value: keys by code point, no spaces, `1` for `1.0`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        number = plain_number(value)
        return str(number) if isinstance(number, int) else repr(number)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, dict):
        members = (f"{_string(key)}:{canonical_json(value[key])}" for key in sorted(value))
        return "{" + ",".join(members) + "}"
    return "[" + ",".join(map(canonical_json, value)) + "]"


def _string(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    shown = (f"\\u{ord(char):04x}" if char < " " else char for char in escaped)
    return f'"{"".join(shown)}"'


def _uuid5(namespace: bytes, name: str) -> bytes:
    digest = bytearray(
        hashlib.sha1(namespace + name.encode("utf-8", "surrogatepass")).digest()[:16]
    )
    digest[6] = digest[6] & 0x0F | 0x50  # version 5
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


def _shown(uuid: bytes) -> str:
    digits = uuid.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

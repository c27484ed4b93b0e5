"""JSON Pointers (RFC 6901), read as leniently as the wire's other library.

The rules: `docs/internals/json-patch.md` 2.

A document stands in a holder, under the key `""`: the pointer `/a/b` is the keys `""`, `a`, `b`
from there. So the root is a member like any other, and a pointer without its leading `/` leads to
another slot of the holder, where nothing is read and what is written is not seen.
"""

from __future__ import annotations

import re
from typing import Final

from patches.errors import PatchError
from patches.json_patch.javascript import ABSENT
from patches.model.json_values import Json

_ESCAPE: Final = re.compile("~[01]")


def escape(key: str | int) -> str:
    """A key as a part of a pointer: `~` is written `~0`, `/` is written `~1`."""
    key = str(key)
    if "~" in key or "/" in key:
        return key.replace("~", "~0").replace("/", "~1")
    return key


def unescape(part: str) -> str:
    """The key that a part of a pointer stands for."""
    if "~" in part:
        return _ESCAPE.sub(lambda match: "~" if match.group() == "~0" else "/", part)
    return part


def parse(pointer: str) -> list[str]:
    """The keys of a pointer. Raises `PatchError` unless it is empty or begins with `/`."""
    if pointer and not pointer.startswith("/"):
        raise PatchError(f"a JSON Pointer is empty or begins with '/', not {pointer!r}")
    return holder_keys(pointer)[1:]


def text_of(path: object) -> str:
    """A pointer that a program gives, as a string: also that of a `jsonpointer.JsonPointer`.

    Raises `PatchError` for anything else.
    """
    found = path if isinstance(path, str) else getattr(path, "path", None)
    if not isinstance(found, str):
        raise PatchError(f"a path is a JSON Pointer, not {type(path).__name__}")
    parse(found)
    return found


def join(*keys: str | int) -> str:
    """The pointer of these keys."""
    return "".join(f"/{escape(key)}" for key in keys)


def holder_keys(pointer: str) -> list[str]:
    """The keys of a pointer from the holder on; the first is `""` in any proper one."""
    parts = pointer.split("/")
    if "~" in pointer:
        return [unescape(part) for part in parts]
    return parts


def is_index(key: str) -> bool:
    """Whether a key is an index as it is written: `0`, `12`, but not `01` or `-`."""
    return key.isdecimal() and key.isascii() and (key[0] != "0" or key == "0")


def index_of(key: str) -> int:
    """The number in a key of digits. Beyond any list it is only known to be large."""
    return int(key) if len(key) < 16 else 10**16


def member(container: Json, key: str) -> Json:
    """A plain read: a member, or an element at a canonical index; else `ABSENT`."""
    if isinstance(container, dict):
        return container.get(key, ABSENT)
    if isinstance(container, list) and is_index(key) and index_of(key) < len(container):
        return container[int(key)]
    return ABSENT


def value_at(state: Json, pointer: str) -> Json:
    """The value that a pointer leads to, by plain reads; `ABSENT` if there is none.

    Raises `PatchError` for what is no pointer.
    """
    for key in parse(pointer):
        state = member(state, key)
    return state


def is_under(pointer: str, above: str) -> bool:
    """Whether `pointer` leads to something inside of what `above` leads to."""
    return pointer.startswith(above) and pointer.startswith("/", len(above))


def parent(pointer: str) -> str:
    """The pointer of the container. Raises `PatchError` for the root, which has none."""
    head, slash, _ = pointer.rpartition("/")
    if not slash:
        raise PatchError(f"{pointer!r} has no parent")
    return head


def last_key(pointer: str) -> str:
    """The last key of a pointer as it is written there, with its escapes; `""` for the root."""
    return pointer[pointer.rfind("/") + 1 :]


def container_prefix(pointer: str) -> str:
    """What the pointers of all siblings begin with: `/a/` for `/a/b`."""
    return pointer[: pointer.rfind("/") + 1]

"""Paths as programs give them: JSON Pointers, as strings or of the library `jsonpointer`."""

from __future__ import annotations

from patches.errors import PatchError
from patches.json_patch import pointer


def pointer_of(path: object) -> str:
    """A path as a string: also that of a `jsonpointer.JsonPointer`. Raises `PatchError`."""
    found = path if isinstance(path, str) else getattr(path, "path", None)
    if not isinstance(found, str):
        raise PatchError(f"a path is a JSON Pointer, not {type(path).__name__}")
    pointer.parse(found)
    return found

"""A document while a patch is applied to it: containers are copied as they are first written.

Everything else is shared with the document that the patch was applied to. A walk only reads; the
containers on its way are copied when a write is decided, and no container twice in one patch.

A copy may live from patch to patch (`atomic`), for an owner who shows the document to nobody in
between: what was copied for one patch is then written in place by the next, so an edit of a large
object costs no copy of it. A patch that fails is taken back write by write. Where a write cannot be
taken back exactly (a removed member comes back at the end, a list shifts), the container is copied
after all. A patch of one operation needs none of this: it fails before it writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from patches.errors import PatchError
from patches.json_patch.javascript import ABSENT
from patches.json_patch.pointer import holder_keys, index_of, is_index, member
from patches.model.json_values import Json

#: The most `null`s that a write beyond the end of a list puts before it: memory, for a few bytes.
_MOST_PADDING: Final = 100_000


class Place:
    """Where a path leads: the containers from the holder down, and the keys.

    `chain` ends early where a container is missing; `found` says whether it is whole.
    """

    __slots__ = ("chain", "found", "keys")

    def __init__(self, keys: list[str], chain: list[Any], found: bool) -> None:
        self.keys: list[str] = keys
        self.chain: list[Any] = chain
        self.found: bool = found

    @property
    def container(self) -> Json:
        """What holds the last key; `ABSENT` if a container is missing."""
        return self.chain[-1] if self.found else ABSENT

    @property
    def last(self) -> str:
        """The last key."""
        return self.keys[-1]

    def read(self) -> Json:
        """The value, looked up by its key as it is written; `ABSENT` if there is none."""
        if not self.found:
            return ABSENT
        container, key = self.chain[-1], self.keys[-1]
        return container.get(key, ABSENT) if type(container) is dict else member(container, key)


class WorkingCopy:
    """One document and the containers in it that belong to this copy alone."""

    __slots__ = ("_earlier", "_holder", "_owned", "_undo", "is_written")

    def __init__(self, state: Json) -> None:
        self._holder: dict[str, Json] = {} if state is ABSENT else {"": state}
        # the containers themselves, so that no id is used again while the patch lasts; what holds
        # an owned container is owned too
        self._owned: dict[int, Json] = {id(self._holder): self._holder}
        #: Within a patch of several operations: what is owned since earlier patches, and how the
        #: writes to it are taken back (the container, its key, what was there).
        self._earlier: dict[int, Json] = {}
        self._undo: list[tuple[Any, Any, Json]] = []
        #: Whether the patch has written anything.
        self.is_written: bool = False

    @property
    def state(self) -> Json:
        """The document as it is now; `ABSENT` if its root was removed."""
        return self._holder.get("", ABSENT)

    @property
    def owned_count(self) -> int:
        """How many containers belong to this copy alone."""
        return len(self._owned)

    @property
    def holder(self) -> dict[str, Json]:
        """What holds the document under the key `""`. Not to be written."""
        return self._holder

    def place(self, path: str) -> Place:
        """Walk to the container of the last key of `path`. Only reads."""
        keys = holder_keys(path) if "~" in path else path.split("/")
        container: Any = self._holder
        chain = [container]
        for depth in range(len(keys) - 1):
            key = keys[depth]
            if isinstance(container, dict):
                container = container.get(key)
            elif isinstance(container, list) and is_index(key) and index_of(key) < len(container):
                container = container[int(key)]
            else:
                container = None
            if not container and not isinstance(container, (dict, list)):
                return Place(keys, chain, found=False)
            chain.append(container)
        return Place(keys, chain, found=True)

    def writable(self, place: Place, *, removes: bool = False) -> Any:
        """The container at the end of the chain, the copy's own: copied if need be.

        `removes`: the caller takes the member of the next key out of it; else it sets that.
        """
        chain, keys, owned = place.chain, place.keys, self._owned
        self.is_written = True
        container = chain[0]
        last = len(chain) - 1
        for depth in range(1, last + 1):
            inner: Any = chain[depth]
            if id(inner) not in owned:
                if not isinstance(inner, (dict, list)):
                    break  # a scalar, which only fails when it is written below
                if id(inner) not in self._earlier or (
                    depth == last and (removes or isinstance(inner, list))
                ):
                    inner = inner.copy()
                    owned[id(inner)] = inner
                    key = keys[depth - 1] if isinstance(container, dict) else int(keys[depth - 1])
                    if id(container) in self._earlier:
                        self._undo.append((container, key, chain[depth]))
                    container[key] = inner
                    chain[depth] = inner
                elif depth == last and isinstance(inner, dict):
                    self._undo.append((inner, keys[depth], inner.get(keys[depth], ABSENT)))
            container = inner
        return chain[-1]

    def set_below(self, place: Place, value: Json, *, lists: bool) -> None:
        """Put `value` where the walk found no container, making what is missing.

        That is objects; with `lists`, a list where the next key is `0` or `-`. On the way, `-` is a
        list's last element, which a mere read does not find. Raises `PatchError` below a scalar.
        """
        keys = place.keys
        container = self.writable(place)
        for depth in range(len(place.chain) - 1, len(keys) - 1):
            if not isinstance(container, (dict, list)):
                raise below_scalar(keys[depth], container)
            inner: Any = _on_the_way(container, keys[depth])
            if isinstance(inner, (dict, list)):
                if id(inner) not in self._owned:
                    inner = inner.copy()
            elif not inner:
                inner = [] if lists and keys[depth + 1] in ("0", "-") else {}
            if isinstance(inner, (dict, list)):
                self._owned[id(inner)] = inner
            _put_on_the_way(container, keys[depth], inner)
            container = inner
        if isinstance(container, dict):
            container[keys[-1]] = value
        elif isinstance(container, list):
            put_at(container, list_index(keys[-1], len(container)), value)
        else:
            raise below_scalar(keys[-1], container)

    def copy(self, value: Any) -> Json:
        """A copy of a container of this document, for a second place in it."""
        for inner in value.values() if isinstance(value, dict) else value:
            if isinstance(inner, (dict, list)):
                self.share(inner)
        copied: Json = value.copy()
        self._owned[id(copied)] = copied
        return copied

    def share(self, value: Json) -> None:
        """Own nothing in `value` any more: it is held in a second place as well."""
        is_owned = self._owned.pop(id(value), None) is not None
        if not is_owned and self._earlier.pop(id(value), None) is None:
            return  # nor is anything in it
        for inner in value.values() if isinstance(value, dict) else value:
            if isinstance(inner, (dict, list)):
                self.share(inner)

    def share_all(self, value: Json) -> None:
        """Own nothing that is found anywhere in `value`, a value from outside of the document."""
        if len(self._owned) > 1 and isinstance(value, (dict, list)):
            self.share(value)
            for inner in value.values() if isinstance(value, dict) else value:
                self.share_all(inner)

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """Inside, apply one patch: all of it, or nothing if it raises."""
        self._earlier, self._owned = self._owned, {id(self._holder): self._holder}
        before = dict(self._holder)
        try:
            yield
        except BaseException:
            self._take_back()
            self._holder.clear()
            self._holder.update(before)
            self._owned = {id(self._holder): self._holder}
            raise
        finally:
            self._earlier.update(self._owned)
            self._owned, self._earlier = self._earlier, {}
            self._undo.clear()

    def _take_back(self) -> None:
        while self._undo:
            container, key, value = self._undo.pop()
            if value is ABSENT:
                del container[key]
            else:
                container[key] = value


def put_at(container: list[Json], index: int, value: Json) -> None:
    """Set an element; beyond the end, `null`s go before it.

    A negative index stands for a key that is none: such a property of a list lives in a browser's
    memory and never reaches JSON.
    """
    if index >= len(container):
        if index > len(container) + _MOST_PADDING:
            raise PatchError(f"The index {index} is too far beyond the end of the array")
        container.extend([None] * (index + 1 - len(container)))
    if index >= 0:
        container[index] = value


def _on_the_way(container: Any, key: str) -> Json:
    """What a write goes through; there, `-` is the last element."""
    if key == "-" and isinstance(container, list):
        return container[-1] if container else ABSENT
    return member(container, key)


def _put_on_the_way(container: Any, key: str, value: Json) -> None:
    if isinstance(container, dict):
        container[key] = value
    elif key == "-":
        put_at(container, max(len(container) - 1, 0), value)
    else:
        put_at(container, index_of(key) if is_index(key) else -1, value)


def list_index(key: str, length: int) -> int:
    """The index that the last key of a path stands for in a list; -1 if it stands for none."""
    if key == "-":
        return length
    if key.isdigit() and key.isascii():
        return index_of(key)
    return -1 if key else 0


def below_scalar(key: str, container: Json) -> PatchError:
    """The error for a write below a text, a number or `true`."""
    return PatchError(f"Cannot write the member {key!r} of {type(container).__name__}")

"""What is stored, sent and shown: changes, snapshots and the records around them.

camelCase is translated here and nowhere else. A change is encoded once: `Change.encoded` is the
stored row, the element of every answer and broadcast, and it is kept beside the object. A change
that comes from a store is decoded only when somebody asks for its ops (`docs/internals/ot.md` 1,
`docs/decisions.md`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self, TypeAlias

from patches.errors import InvalidRequestError
from patches.model import codec
from patches.model.json_values import Json, Op
from patches.runtime import Millis

if TYPE_CHECKING:
    import jsonpatch

DocSyncStatus: TypeAlias = Literal["unsynced", "syncing", "synced", "error"]

_WIRE_FIELDS: Final = {
    "id": "id",
    "ops": "ops",
    "baseRev": "base_rev",
    "rev": "rev",
    "createdAt": "created_at",
    "committedAt": "committed_at",
    "batchId": "batch_id",
    "clientId": "client_id",
}
_SLOTS: Final = (*_WIRE_FIELDS.values(), "metadata")
_values_of: Final = attrgetter(*_SLOTS)
_WIRE_NAMES: Final = frozenset(_WIRE_FIELDS)
_REQUIRED: Final = ("id", "ops", "baseRev", "rev")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeInput:
    """What a commit may hold: a change that leaves revisions and times to the server (`None`)."""

    id: str
    ops: list[Op]
    base_rev: int | None = None
    rev: int | None = None
    created_at: Millis | None = None
    committed_at: Millis = 0
    batch_id: str | None = None
    client_id: str | None = None
    metadata: Mapping[str, Json] = field(default_factory=dict)

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        """From a wire object whose shape has been checked; unknown fields become metadata."""
        return cls(**_fields(wire))


class Change:
    """One edit of one document, immutable. `committed_at` is 0 while it is pending.

    `ops` is a sequential program: op N is written for the state after op N-1. `metadata` holds the
    fields of newer or other peers, which go out again unchanged.
    """

    __slots__ = (*_SLOTS, "_encoded")

    id: str
    ops: list[Op]
    base_rev: int
    rev: int
    created_at: Millis
    committed_at: Millis
    batch_id: str | None
    client_id: str | None
    metadata: Mapping[str, Json]
    _encoded: bytes | None

    def __init__(
        self,
        *,
        id: str,
        ops: list[Op],
        base_rev: int,
        rev: int,
        created_at: Millis,
        committed_at: Millis = 0,
        batch_id: str | None = None,
        client_id: str | None = None,
        metadata: Mapping[str, Json] | None = None,
    ) -> None:
        _put_id(self, id)
        _put_ops(self, ops)
        _put_base_rev(self, base_rev)
        _put_rev(self, rev)
        _put_created_at(self, created_at)
        _put_committed_at(self, committed_at)
        _put_batch_id(self, batch_id)
        _put_client_id(self, client_id)
        _put_metadata(self, metadata if metadata is not None else {})
        _put_encoded(self, None)

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        """From a wire object of a trusted shape; unknown fields become metadata.

        Raises `InvalidRequestError` when a required field is missing.
        """
        get = wire.get
        id, ops, base_rev, rev = get("id"), get("ops"), get("baseRev"), get("rev")
        if id is None or ops is None or base_rev is None or rev is None:
            missing = [_WIRE_FIELDS[name] for name in _REQUIRED if get(name) is None]
            raise InvalidRequestError(f"a change lacks {', '.join(missing)}")
        change = cls.__new__(cls)
        _put_id(change, id)
        _put_ops(change, ops)
        _put_base_rev(change, base_rev)
        _put_rev(change, rev)
        _put_created_at(change, get("createdAt") or 0)
        _put_committed_at(change, get("committedAt") or 0)
        _put_batch_id(change, get("batchId"))
        _put_client_id(change, get("clientId"))
        _put_metadata(change, {} if wire.keys() <= _WIRE_NAMES else _others(wire))
        _put_encoded(change, None)
        return change

    @classmethod
    def from_encoded(cls, encoded: bytes, **known: Any) -> Self:
        """From its stored bytes, decoded on first need. `known` are fields read beside them
        (`rev=`, `id=`, ...), which then cost no decoding."""
        change = cls.__new__(cls)
        object.__setattr__(change, "_encoded", encoded)
        for name, value in known.items():
            object.__setattr__(change, name, value)
        return change

    def to_wire(self) -> dict[str, Any]:
        """The wire object. Its ops are this change's own list: do not change them."""
        wire: dict[str, Any] = {
            "id": self.id,
            "ops": self.ops,
            "baseRev": self.base_rev,
            "rev": self.rev,
            "createdAt": self.created_at,
            "committedAt": self.committed_at,
        }
        if self.batch_id is not None:
            wire["batchId"] = self.batch_id
        if self.client_id is not None:
            wire["clientId"] = self.client_id
        wire.update(self.metadata)
        return wire

    def to_jsonpatch(self, before: Json) -> jsonpatch.JsonPatch:
        """The change as RFC 6902 has it, for the state that it was made for.

        `change.to_jsonpatch(before).apply(before)` is the state after it: increments, text edits
        and soft writes become what they come to there. Raises `PatchError` if the change cannot be
        applied to `before`.
        """
        # By name: what converts stands above the model, and few programs convert.
        plain: Any = import_module("patches.history.plain")
        found: jsonpatch.JsonPatch = plain.jsonpatch_of(self.ops, before)
        return found

    @property
    def encoded(self) -> bytes:
        """The wire object as JSON bytes, made once."""
        encoded = self._encoded
        if encoded is None:
            encoded = codec.encode(self.to_wire())
            _put_encoded(self, encoded)
        return encoded

    def replace(self, **fields: Any) -> Change:
        """A copy with other field values."""
        values = dict(zip(_SLOTS, _values_of(self), strict=True))
        values.update(fields)
        return Change(**values)

    def __getattr__(self, name: str) -> Any:
        # Reached only for a slot that is not set: a change from a store, still encoded.
        if name not in _SLOTS:
            raise AttributeError(name)
        assert self._encoded is not None
        decoded = Change.from_wire(codec.decode(self._encoded))
        for slot in _SLOTS:
            object.__setattr__(self, slot, getattr(decoded, slot))
        return getattr(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Change is immutable: use replace({name}=...)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a Change is immutable")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Change):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _SLOTS)

    def __hash__(self) -> int:
        return hash((self.id, self.rev))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in _SLOTS)
        return f"Change({fields})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_unpickled, (self.to_wire(),))


# The setters of the slots: a change refuses to be written to, and many are made.
_put_id: Final = Change.__dict__["id"].__set__
_put_ops: Final = Change.__dict__["ops"].__set__
_put_base_rev: Final = Change.__dict__["base_rev"].__set__
_put_rev: Final = Change.__dict__["rev"].__set__
_put_created_at: Final = Change.__dict__["created_at"].__set__
_put_committed_at: Final = Change.__dict__["committed_at"].__set__
_put_batch_id: Final = Change.__dict__["batch_id"].__set__
_put_client_id: Final = Change.__dict__["client_id"].__set__
_put_metadata: Final = Change.__dict__["metadata"].__set__
_put_encoded: Final = Change.__dict__["_encoded"].__set__


class Snapshot:
    """A state at a revision, and changes on top of it.

    On a client: the committed state at `rev` and the pending changes. From a server's `get_doc`: a
    state at `rev` and the changes committed since (LWW: `rev` is the head already). The state is
    kept as the value, as JSON bytes, or both; each is made from the other on first use.
    `metadata` holds other fields of a server's answer, for algorithms that have some.
    """

    __slots__ = ("_encoded_state", "_state", "changes", "metadata", "rev")

    def __init__(
        self,
        *,
        state: Json,
        rev: int,
        changes: Sequence[Change] = (),
        metadata: Mapping[str, Json] | None = None,
    ) -> None:
        self._state = state
        self._encoded_state: bytes | None = None
        self.rev: int = rev
        self.changes: Sequence[Change] = changes
        self.metadata: Mapping[str, Json] = metadata if metadata is not None else {}

    @classmethod
    def from_encoded(
        cls, encoded_state: bytes, *, rev: int, changes: Sequence[Change] = ()
    ) -> Self:
        """With the state as stored JSON bytes, parsed on first use of `state`."""
        snapshot = cls(state=_NOT_PARSED, rev=rev, changes=changes)
        snapshot._encoded_state = encoded_state
        return snapshot

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        """From a `getDoc` answer."""
        return cls(
            state=wire.get("state"),
            rev=wire["rev"],
            changes=[Change.from_wire(change) for change in wire.get("changes") or ()],
            metadata={key: value for key, value in wire.items() if key not in _SNAPSHOT_FIELDS},
        )

    @property
    def state(self) -> Json:
        """The JSON value. Shared, not copied: do not change it."""
        if self._state is _NOT_PARSED:
            assert self._encoded_state is not None
            self._state = codec.decode(self._encoded_state)
        return self._state

    @property
    def encoded_state(self) -> bytes:
        """The state as JSON bytes."""
        if self._encoded_state is None:
            self._encoded_state = codec.encode(self._state)
        return self._encoded_state

    @property
    def head(self) -> int:
        """The revision after all changes."""
        return self.changes[-1].rev if self.changes else self.rev

    def to_wire(self) -> dict[str, Any]:
        """The wire object; state and changes stay encoded."""
        return {
            "state": codec.Encoded(self.encoded_state),
            "rev": self.rev,
            "changes": [codec.Encoded(change.encoded) for change in self.changes],
            **self.metadata,
        }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Snapshot):
            return NotImplemented
        return (
            self.rev == other.rev
            and self.state == other.state
            and list(self.changes) == list(other.changes)
        )

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # compared by value, and holds mutable JSON

    def __repr__(self) -> str:
        return f"Snapshot(state={self.state!r}, rev={self.rev}, changes={list(self.changes)!r})"


_NOT_PARSED: Final = object()
_SNAPSHOT_FIELDS: Final = frozenset({"state", "rev", "changes"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedDoc:
    """A document that is kept in sync here; `deleted`: its deletion is not yet confirmed.

    `is_damaged`: its record cannot be read. Opening it raises `CorruptDataError`.
    """

    doc_id: str
    committed_rev: int
    deleted: bool = False
    algorithm: str = "ot"
    is_damaged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedChange:
    """A local change that the server refused for good, kept until somebody decides about it."""

    doc_id: str
    change_id: str
    change: Change
    reason: str
    quarantined_at: Millis


def replaced(change: Change | ChangeInput, **fields: Any) -> Change | ChangeInput:
    """A copy of either kind with other field values."""
    return (
        replace(change, **fields) if isinstance(change, ChangeInput) else change.replace(**fields)
    )


def _fields(wire: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        name: wire[key]
        for key, name in _WIRE_FIELDS.items()
        if wire.get(key) is not None  # `null` is "not set" for every field of a change
    }
    fields["metadata"] = _others(wire)
    return fields


def _others(wire: Mapping[str, Any]) -> dict[str, Json]:
    return {key: value for key, value in wire.items() if key not in _WIRE_NAMES}


def _unpickled(wire: dict[str, Any]) -> Change:
    return Change.from_wire(wire)

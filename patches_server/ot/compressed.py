"""`CompressedStore`: an OT server store around another one, whose changes it keeps compressed.

Only the operations are compressed, and only where that saves something, so that a log may be
compressed in part: the wrapper can be added to a store that is in use. The price is that a change
is decoded and encoded again whenever it is read.
"""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, Protocol

from patches.errors import CorruptDataError
from patches.model import codec
from patches.model.change import Change
from patches.runtime import Millis
from patches_server.documents.branch_store import BranchStore
from patches_server.documents.measure import Bounds
from patches_server.documents.records import Tombstone
from patches_server.documents.version_store import VersionStore
from patches_server.ot.store import DocHead, OTServerStore, StoredSnapshot

#: Before compressed operations, which are then a text where a list would stand.
_MARK: Final = "compressed:"


class Compressor(Protocol):
    """Makes bytes smaller, as text that can stand in JSON."""

    def compress(self, data: bytes) -> str: ...
    def decompress(self, text: str) -> bytes: ...


class ZlibCompressor:
    """Deflate, in base 64."""

    def compress(self, data: bytes) -> str:
        return b64encode(zlib.compress(data)).decode("ascii")

    def decompress(self, text: str) -> bytes:
        return zlib.decompress(b64decode(text, validate=True))


class CompressedStore:
    """An `OTServerStore` that compresses the operations of the changes in `store`.

    Versions and branch records go to the inner store as they are.
    """

    def __init__(self, store: OTServerStore, compressor: Compressor | None = None) -> None:
        self._store = store
        self._compressor: Compressor = compressor or ZlibCompressor()

    @property
    def versions(self) -> VersionStore:
        return self._store.versions

    @property
    def branches(self) -> BranchStore:
        return self._store.branches

    async def get_head(self, doc_id: str) -> DocHead:
        return await self._store.get_head(doc_id)

    async def save_changes(
        self,
        doc_id: str,
        changes: Sequence[Change],
        *,
        expected: DocHead,
        now: Millis,
        bounds: Bounds | None = None,
    ) -> None:
        packed = [self._packed(change) for change in changes]
        await self._store.save_changes(doc_id, packed, expected=expected, now=now, bounds=bounds)

    async def list_changes(
        self,
        doc_id: str,
        *,
        start_after: int | None = None,
        end_before: int | None = None,
        limit: int | None = None,
        reverse: bool = False,
        without_batch_id: str | None = None,
        max_bytes: int | None = None,
    ) -> list[Change]:
        """As the inner store; `max_bytes` counts compressed bytes."""
        changes = await self._store.list_changes(
            doc_id,
            start_after=start_after,
            end_before=end_before,
            limit=limit,
            reverse=reverse,
            without_batch_id=without_batch_id,
            max_bytes=max_bytes,
        )
        return self._unpacked(doc_id, changes)

    async def load_snapshot(self, doc_id: str, *, rev: int | None = None) -> StoredSnapshot:
        snapshot = await self._store.load_snapshot(doc_id, rev=rev)
        return replace(snapshot, changes=self._unpacked(doc_id, snapshot.changes))

    async def prune_changes(self, doc_id: str, *, through_rev: int) -> None:
        await self._store.prune_changes(doc_id, through_rev=through_rev)

    async def delete_doc(self, doc_id: str, tombstone: Tombstone | None, *, now: Millis) -> None:
        await self._store.delete_doc(doc_id, tombstone, now=now)

    async def get_tombstone(self, doc_id: str) -> Tombstone | None:
        return await self._store.get_tombstone(doc_id)

    async def remove_tombstone(self, doc_id: str) -> bool:
        return await self._store.remove_tombstone(doc_id)

    async def last_server_time(self) -> Millis:
        return await self._store.last_server_time()

    def _packed(self, change: Change) -> Change:
        text = _MARK + self._compressor.compress(codec.encode(change.ops))
        encoded = codec.encode({**change.to_wire(), "ops": text})
        return change if len(encoded) >= len(change.encoded) else _with_bytes(change, encoded)

    def _unpacked(self, doc_id: str, changes: Iterable[Change]) -> list[Change]:
        unpacked: list[Change] = []
        for change in changes:
            wire = codec.decode(change.encoded)
            ops = wire["ops"]
            if isinstance(ops, str) and ops.startswith(_MARK):
                try:
                    data = self._compressor.decompress(ops.removeprefix(_MARK))
                except (ValueError, zlib.error) as exc:
                    raise CorruptDataError(
                        f"document {doc_id!r}: revision {change.rev} cannot be decompressed"
                    ) from exc
                change = _with_bytes(change, codec.encode({**wire, "ops": codec.Encoded(data)}))
            unpacked.append(change)
        return unpacked


def _with_bytes(change: Change, encoded: bytes) -> Change:
    return Change.from_encoded(
        encoded,
        id=change.id,
        rev=change.rev,
        created_at=change.created_at,
        batch_id=change.batch_id,
        client_id=change.client_id,
    )

"""What the hub sends to subscribers, and what a call names to subscribe to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from patches.errors import InvalidRequestError, StatusError
from patches.limits import Limits
from patches.model import codec
from patches.model.change import Change
from patches.model.json_values import Json
from patches_server.documents.records import CommitOptions
from patches_server.service.fanout.outbox import Event
from patches_server.wire.checks import is_doc_id
from patches_server.wire.frames import as_text, committed_params


def wanted_ids(wanted: Json, limits: Limits) -> list[str]:
    """One document id or a list of them, each once; what cannot be an id is left out."""
    if isinstance(wanted, str):
        wanted = [wanted]
    if not isinstance(wanted, list):
        raise InvalidRequestError(
            f"INVALID_REQUEST: a document id or a list of them is required (got {as_text(wanted)})"
        )
    maximum = limits.max_ids_per_call
    if maximum is not None and len(wanted) > maximum:
        raise InvalidRequestError(f"INVALID_REQUEST: at most {maximum} ids in one call")
    return list(dict.fromkeys(item for item in wanted if is_doc_id(item, limits)))


def committed_event(doc_id: str, changes: Iterable[Change], options: CommitOptions | None) -> Event:
    wire: dict[str, Any] | None = options.to_wire() if options is not None else None
    return Event("changesCommitted", committed_params(doc_id, changes, wire))


def deletion_event(doc_id: str) -> Event:
    return Event("docDeleted", b'{"docId":' + codec.encode(doc_id) + b"}")


def ended_event(doc_id: str, refusal: StatusError) -> Event:
    """A subscription that its client did not end. A client of @dabble/patches ignores this."""
    why = {"docId": doc_id, "code": refusal.code, "message": str(refusal)}
    return Event("subscriptionEnded", codec.encode(why))

"""From who has signed in to who writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from patches.model.json_values import Json
from patches_server.collections.calls import Caller
from patches_server.documents.context import CallContext

#: What is known of a principal.
ClaimsOf: TypeAlias = Callable[[Any], Mapping[str, Json]]


def caller_of(doc_id: str, context: CallContext, claims_of: ClaimsOf | None) -> Caller:
    """The caller of a call. A principal has an `id`, or is one; its `claims` are its own."""
    principal = context.principal
    user_id = getattr(principal, "id", principal)
    if principal is None or claims_of is None:  # nobody: the application's own call
        claims = getattr(principal, "claims", {})
    else:
        claims = claims_of(principal)
    return Caller(
        doc_id=doc_id,
        user_id=user_id if isinstance(user_id, str) else None,
        claims=dict(claims) if isinstance(claims, Mapping) else {},
        client_id=context.client_id,
        connection_id=context.connection_id,
    )

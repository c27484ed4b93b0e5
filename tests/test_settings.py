"""Settings are checked where they enter: every public constructor names the one that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from patches import Patches, PatchesSync
from patches.errors import InvalidRequestError, PatchesError
from patches.limits import Limits
from patches.options import DocOptions
from patches.stores.sqlite.backend import SqliteBackend as ClientBackend
from patches_server import (
    LWWServer,
    MemoryBackend,
    OTBranchManager,
    OTServer,
    SqliteBackend,
    allow_all,
    create_app,
)
from patches_server.auth.jwt import JwtAuth


def sync(**options: Any) -> PatchesSync:
    return PatchesSync(Patches(), "ws://127.0.0.1:1/ws", **options)


def app(**options: Any) -> Any:
    return create_app(auth=allow_all, **options)


def ot_server(**options: Any) -> OTServer:
    return OTServer(MemoryBackend(), **options)


def lww_server(**options: Any) -> LWWServer:
    return LWWServer(MemoryBackend(), **options)


def branches(**options: Any) -> OTBranchManager:
    backend = MemoryBackend()
    return OTBranchManager(backend, OTServer(backend), **options)


def jwt(**options: Any) -> JwtAuth:
    return JwtAuth("k" * 32, **{"can_access": allow_all, **options})


def client_file(**options: Any) -> ClientBackend:
    return ClientBackend("never-made.db", **options)


def server_file(**options: Any) -> SqliteBackend:
    return SqliteBackend("never-made.db", **options)


NAN = float("nan")
CASES: list[tuple[Callable[..., Any], str, list[Any]]] = [
    (Patches, "limits", [5, {}]),
    (Patches, "doc_options", [5, {"max_payload_bytes": 5}]),
    (Patches, "runtime", ["now"]),
    (Patches, "metadata", [5, "text"]),
    (Patches, "default_algorithm", ["crdt", 5]),
    (sync, "subscribe_filter", [5, ["a"]]),
    (sync, "websocket", [5, "x"]),
    (sync, "max_payload_bytes", [-1, 0, 1.5, True, "5"]),
    (sync, "max_storage_bytes", [-1, 0, 1.5]),
    (sync, "max_unsplittable_bytes", [-1, 0, 1.5]),
    (sync, "size_calculator", [5]),
    (DocOptions, "max_payload_bytes", [-1, 0, 1.5, True, "5"]),
    (app, "limits", [5]),
    (app, "runtime", [5]),
    (app, "reauth_s", [-1, NAN, "5", True, None]),
    (app, "drain_s", [-1, NAN, float("inf")]),
    (app, "durability", ["maybe", 5]),
    (app, "validate", [5]),
    (app, "relay", [None, "yes"]),
    (app, "page", ["yes"]),
    (app, "metrics", [1]),
    (app, "hide_existence", [0]),
    (client_file, "durability", ["maybe"]),
    (server_file, "durability", ["maybe"]),
    (ot_server, "session_timeout_minutes", [-1, "x"]),
    (ot_server, "max_changes_per_version", [-1, 1.5]),
    (ot_server, "limits", [5]),
    (ot_server, "runtime", [5]),
    (lww_server, "change_id_ttl", [-1, 1.5]),
    (lww_server, "removal_ttl", [-1, None]),
    (lww_server, "limits", [5]),
    (branches, "max_payload_bytes", [0, -1]),
    (branches, "max_changes_per_merge", [0, -1]),
    (branches, "max_bytes_per_merge_window", [0]),
    (branches, "new_branch_id", [5]),
    (jwt, "can_access", [5]),
    (jwt, "algorithms", ["HS256"]),
    (jwt, "leeway_s", [-1]),
    *[(Limits, each.name, ["5", -1, NAN]) for each in fields(Limits)],
]


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        pytest.param(make, name, value, id=f"{make.__name__} {name} {value!r}")
        for make, name, values in CASES
        for value in values
    ],
)
def test_a_wrong_setting_is_named_at_once(
    make: Callable[..., Any], name: str, value: Any, tmp_path: Path
) -> None:
    with pytest.raises(PatchesError) as refused:
        make(**{name: value})
    message = str(refused.value)
    assert name.removeprefix("default_") in message
    assert name == "metadata" or repr(value) in message or "mapping" in message


def test_a_sync_needs_a_client() -> None:
    with pytest.raises(InvalidRequestError, match="patches must be a Patches"):
        PatchesSync("ws://127.0.0.1:1/ws", Patches())  # type: ignore[arg-type]

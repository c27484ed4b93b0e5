"""Rights: who is asked what, and what an answer other than yes leads to."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from patches.errors import (
    ChangeRefusedError,
    ForbiddenError,
    InvalidRequestError,
    StatusError,
    UnauthorizedError,
)
from patches.runtime import Runtime
from patches_server.auth.access import Access, Principal, allow_all, principal_key

CHANGE = {"id": "c1", "ops": []}

#: Each method, the parameters of a call, and the right it needs.
METHODS: dict[str, tuple[list[Any], str]] = {
    "getDoc": (["d"], "read"),
    "getChangesSince": (["d", 0], "read"),
    "commitChanges": (["d", [CHANGE]], "write"),
    "deleteDoc": (["d"], "write"),
    "undeleteDoc": (["d"], "write"),
    "getAlgorithm": (["d"], "read"),
    "listVersions": (["d"], "read"),
    "createVersion": (["d", {}], "write"),
    "updateVersion": (["d", "v", {}], "write"),
    "getVersionState": (["d", "v"], "read"),
    "getVersionChanges": (["d", "v"], "read"),
    "getStateBeforeVersion": (["d", "v"], "read"),
    "listBranches": (["d"], "read"),
    "createBranch": (["d", 1], "write"),
}


@pytest.mark.parametrize("method", METHODS)
async def test_every_method_asks_for_its_own_right(serve: Any, method: str) -> None:
    params, kind = METHODS[method]
    asked: list[Any] = []

    def refuse(*question: Any) -> bool:
        asked.append(question)
        return False

    error = await (await serve(auth=refuse))("ann").error(method, *params)
    assert error == {"code": 403, "message": f"{kind.upper()}_FORBIDDEN:d"}
    shown = {"docId": "d", "changes": [CHANGE]} if method == "commitChanges" else None
    assert asked == [("ann", "d", kind, method, shown)]


async def test_without_a_provider_everything_is_denied(serve: Any) -> None:
    peer = (await serve(auth=None))()
    error = await peer.error("getDoc", "d")
    assert (error["code"], error["message"][:13]) == (403, "no auth given")
    assert await peer.result("subscribe", "d") == []


async def test_a_refused_commit_stores_nothing(serve: Any, documents: Any) -> None:
    peer = (await serve(auth=lambda *question: question[2] == "read"))()
    assert (await peer.error("commitChanges", "d", [CHANGE]))["code"] == 403
    assert await peer.result("getChangesSince", "d", 0) == []
    assert documents.entered == []


@pytest.mark.parametrize("answer", [1, "yes", None, object()])
async def test_only_true_allows(answer: object) -> None:
    access = Access(lambda *_: answer, timeout_s=1.0)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ForbiddenError, match=r"^WRITE_FORBIDDEN:d$"):
        await access.require("ann", "d", "write", "deleteDoc")


async def test_a_hook_that_fails_refuses_and_one_that_hangs_is_503() -> None:
    async def broken(*_: object) -> bool:
        raise RuntimeError("database password is hunter2")

    with pytest.raises(ForbiddenError, match=r"^READ_FORBIDDEN:d$"):
        await Access(broken, timeout_s=1.0).require("ann", "d", "read", "getDoc")

    async def hangs(*_: object) -> bool:
        await asyncio.Event().wait()
        return True

    with pytest.raises(StatusError, match="timed out") as caught:
        await Access(hangs, timeout_s=0.01).require("ann", "d", "read", "getDoc")
    assert caught.value.code == 503


async def test_a_hooks_own_error_reaches_the_caller(serve: Any) -> None:
    async def no_shouting(_p: Any, _d: str, _k: str, method: str, params: Any) -> bool:
        if method == "commitChanges":
            raise ChangeRefusedError(params["changes"][0]["id"], "please do not shout")
        return True

    error = await (await serve(auth=no_shouting))().error("commitChanges", "d", [CHANGE])
    assert error == {
        "code": 400,
        "message": "please do not shout",
        "data": {"changeId": "c1", "scope": "change"},
    }


class Provider:
    def __init__(self, principal: object) -> None:
        self.principal = principal

    async def authenticate(self, request: Any) -> object:
        if isinstance(self.principal, Exception):
            raise self.principal
        return self.principal

    async def can_access(self, *_: Any) -> bool:
        return True


async def test_authentication_gives_a_principal_or_refuses() -> None:
    assert await Access(Provider("ann"), timeout_s=1.0).authenticate("request") == "ann"
    assert await Access(allow_all, timeout_s=1.0).authenticate("request") is None
    with pytest.raises(UnauthorizedError):
        await Access(Provider(None), timeout_s=1.0).authenticate("request")
    with pytest.raises(ForbiddenError, match=r"^authentication failed$"):
        await Access(Provider(RuntimeError("secret")), timeout_s=1.0).authenticate("request")
    with pytest.raises(StatusError, match="pay first"):
        await Access(Provider(StatusError(402, "pay first")), timeout_s=1.0).authenticate("r")


async def test_a_lasting_client_id_is_stamped_on_changes(serve: Any) -> None:
    peer = (await serve())(Principal(id="ann", client_id="anns-laptop"))
    result = await peer.result("commitChanges", "d", [CHANGE])
    assert result["changes"][0]["clientId"] == "anns-laptop"


async def test_a_sign_in_that_ends_is_401_and_closes_the_connection(serve: Any) -> None:
    clock = itertools.count(1_000, 400)  # a reading of the clock moves it
    connect = await serve(runtime=Runtime(wall_ms=lambda: next(clock)))
    peer = connect(Principal(id="ann", expires_at=1_500))
    await peer.result("getDoc", "d")
    assert (await peer.error("getDoc", "d"))["code"] == 401
    assert peer.session.outbox.closing.code == 4401


async def test_a_sign_in_that_ends_closes_an_idle_connection(serve: Any) -> None:
    peer = (await serve(runtime=Runtime(wall_ms=lambda: 1_000)))(
        Principal(id="ann", expires_at=1_010)
    )
    async with asyncio.timeout(5):
        assert await peer.session.outbox.get() is None
    assert peer.session.outbox.closing.code == 4401


async def test_privileged_options_need_the_capability(serve: Any, documents: Any) -> None:
    connect = await serve()
    options = {"historicalImport": True, "allowRootReplace": True, "maxChangesPerVersion": 3}
    anybody, importer = connect(), connect(Principal(id="i", capabilities=frozenset({"import"})))
    admin = connect(Principal(id="a", capabilities=frozenset({"admin"})))

    seen = []
    for peer, given in (
        (anybody, {**options, "forceCommit": True}),
        (anybody, options),
        (importer, options),
    ):
        await peer.result("commitChanges", "d", [CHANGE], given)
        seen.append(documents.options and documents.options.to_wire())
    assert seen == [{"forceCommit": True}, None, options]

    for peer, skipped in ((anybody, False), (importer, False), (admin, True)):
        await peer.result("undeleteDoc", "d")
        await peer.result("deleteDoc", "d", {"skipTombstone": True})
        assert documents.skipped_tombstone is skipped


async def test_a_provider_may_grant_capabilities_per_document(serve: Any, documents: Any) -> None:
    class Granting(Provider):
        async def capabilities(self, principal: object, doc_id: str) -> set[str]:
            return {"import"} if doc_id == "mine" else set()

    peer = (await serve(auth=Granting("ann")))("ann")
    for doc_id, granted in (("mine", True), ("yours", False)):
        await peer.result("commitChanges", doc_id, [CHANGE], {"historicalImport": True})
        assert (documents.options is not None) is granted


def test_principals_are_told_apart_by_their_id() -> None:
    assert principal_key(Principal(id="ann")) == "ann"
    assert principal_key("ann") == "ann"
    assert principal_key(None) is None
    assert principal_key({"name": "ann"}) is None, "what cannot be compared is anonymous"


def test_what_is_no_provider_is_refused_at_once() -> None:
    with pytest.raises(InvalidRequestError, match="authenticate"):
        Access(object(), timeout_s=None)  # type: ignore[arg-type]  # that is the point

"""Signed tokens say who is connected."""

from __future__ import annotations

import time
from typing import Any

import aiohttp
import jwt
import pytest

from patches.errors import UnauthorizedError
from patches_server.auth.jwt import JwtAuth
from patches_server.http.app import SERVER, create_app

KEY = "a secret of at least thirty-two bytes"
LATER = 4_000_000_000


def own_documents(principal: Any, doc_id: str, *_: object) -> bool:
    return doc_id.startswith(f"{principal.id}/")


class FakeRequest:
    def __init__(self, headers: dict[str, str] | None = None, **cookies: str) -> None:
        self.headers, self.cookies = headers or {}, cookies


def bearer(claims: dict[str, Any], *, key: str = KEY, algorithm: str = "HS256") -> FakeRequest:
    token = jwt.encode(claims, key, algorithm=algorithm)
    return FakeRequest({"Authorization": f"Bearer {token}"})


async def test_the_claims_become_the_principal() -> None:
    auth = JwtAuth(KEY, own_documents, leeway_s=0)
    claims = {"sub": "ann", "exp": LATER, "capabilities": ["import", 7], "team": "x"}
    principal = await auth.authenticate(bearer(claims))
    assert principal.id == "ann"
    assert principal.expires_at == LATER * 1000
    assert principal.capabilities == {"import"}
    assert principal.claims["team"] == "x"
    assert await auth.can_access(principal, "ann/plan", "read", "getDoc", None) is True
    assert await auth.can_access(principal, "bob/plan", "read", "getDoc", None) is False


@pytest.mark.parametrize(
    "request_",
    [
        FakeRequest(),
        FakeRequest({"Authorization": "Basic x"}),
        FakeRequest({"Authorization": "Bearer nonsense"}),
        FakeRequest({"Sec-WebSocket-Protocol": "patches"}),
        bearer({"sub": "ann"}, key="another secret of thirty-two bytes"),
        bearer({"sub": "ann"}, key="", algorithm="none"),
        bearer({"sub": "ann", "exp": 1}),
        bearer({"sub": "ann", "nbf": LATER}),
        bearer({"sub": "ann", "aud": "elsewhere"}),
        bearer({"name": "ann", "aud": "here", "iss": "us", "exp": LATER}),
        bearer({"sub": "ann", "aud": "here", "iss": "somebody", "exp": LATER}),
        bearer({"sub": "ann", "aud": "here", "iss": "us"}),
    ],
    ids=[
        *("nothing", "basic", "nonsense", "no token", "other key", "no signature", "expired"),
        *("not yet", "other audience", "nobody", "other issuer", "no expiry"),
    ],
)
async def test_anything_but_a_good_token_is_401(request_: Any) -> None:
    auth = JwtAuth(KEY, own_documents, audience="here", issuer="us")
    with pytest.raises(UnauthorizedError):
        await auth.authenticate(request_)


async def test_a_token_may_come_as_sub_protocol_or_cookie_and_keys_from_a_function() -> None:
    token = jwt.encode({"sub": "ann", "exp": LATER}, KEY)

    async def key(_token: str) -> str:
        return KEY

    auth = JwtAuth(key, own_documents, cookie="session")
    for request in (
        FakeRequest({"Sec-WebSocket-Protocol": f"patches, {token}"}),
        FakeRequest(session=token),
    ):
        assert (await auth.authenticate(request)).id == "ann"


async def test_a_token_that_never_expires_is_accepted_only_if_that_was_asked_for() -> None:
    request = bearer({"sub": "ann"})
    with pytest.raises(UnauthorizedError):
        await JwtAuth(KEY, own_documents).authenticate(request)
    auth = JwtAuth(KEY, own_documents, allow_no_expiry=True)
    assert (await auth.authenticate(request)).expires_at is None


async def test_a_browser_signs_in_over_a_socket(aiohttp_client: Any) -> None:
    app = create_app(auth=JwtAuth(KEY, own_documents), relay=False)
    client = await aiohttp_client(app)
    token = jwt.encode({"sub": "ann", "exp": int(time.time()) + 3600}, KEY)
    async with client.ws_connect("/ws", protocols=("patches", token)) as ws:
        assert ws.protocol == "patches"
        await ws.send_json({"id": 1, "method": "getChangesSince", "params": ["ann/plan", 0]})
        assert (await ws.receive_json(timeout=5))["result"] == []
        await ws.send_json({"id": 2, "method": "getChangesSince", "params": ["bob/plan", 0]})
        assert (await ws.receive_json(timeout=5))["error"]["message"] == "READ_FORBIDDEN:bob/plan"
        app[SERVER].revoke(principal="ann")
        message = await ws.receive(timeout=5)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 4401)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.ws_connect("/ws", protocols=("patches", "nonsense"))
    assert refused.value.status == 401

"""Tokens: what is kept of them, what they open, and until when."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from patches.errors import InvalidRequestError, NotFoundError, StorageError, UnauthorizedError
from patches.runtime import Runtime
from patches_server.auth.tokens import TokenAuth, TokenFile, parse_docs


class Clock:
    now = 1_800_000_000_000

    def runtime(self) -> Runtime:
        return Runtime(wall_ms=lambda: self.now)


def bearer(token: str) -> Any:
    return SimpleNamespace(headers={"Authorization": f"Bearer {token}"})


async def may(auth: TokenAuth, principal: Any, doc_id: str, kind: Any) -> bool:
    return await auth.can_access(principal, doc_id, kind, "m", None)


async def test_a_token_opens_the_documents_that_it_names(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    _, secret = file.create("ann", [parse_docs("team/secret*=r"), parse_docs("team/*=rw")])
    auth = TokenAuth(file)
    ann = await auth.authenticate(bearer(secret))
    assert ann.id == "ann"
    assert await may(auth, ann, "team/plan", "write")
    assert await may(auth, ann, "team/a/b", "write")
    assert await may(auth, ann, "team/secrets", "read")
    assert not await may(auth, ann, "team/secrets", "write")
    assert not await may(auth, ann, "teams", "read")
    assert not await may(auth, ann, "x/team/plan", "read")
    browser = SimpleNamespace(headers={"Sec-WebSocket-Protocol": f"patches, {secret}"})
    assert (await auth.authenticate(browser)).id == "ann"


async def test_the_file_holds_no_token_and_is_its_owners_alone(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "deep" / "tokens.json")
    token, secret = file.create("ann", [parse_docs("*=r")])
    text = file.path.read_text()
    assert secret not in text
    assert secret.removeprefix("pt_") not in text
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert file.read() == [token]
    for not_a_token in (token.sha256, token.id, "", "pt_"):
        with pytest.raises(UnauthorizedError):
            await TokenAuth(file).authenticate(bearer(not_a_token))
    with pytest.raises(UnauthorizedError, match="not signed in"):
        await TokenAuth(file).authenticate(SimpleNamespace(headers={}))


async def test_a_revoked_token_opens_nothing_any_more(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    token, secret = file.create("ann", [parse_docs("*=rw")])
    _, other = file.create("bob", [parse_docs("*=rw")])
    auth = TokenAuth(tmp_path / "tokens.json")
    ann = await auth.authenticate(bearer(secret))
    assert auth.refresh() == set()
    with pytest.raises(NotFoundError):
        file.revoke("nobody")
    file.revoke(token.id)
    assert not await may(auth, ann, "d", "read")
    assert not await auth.can_list(ann, "")
    with pytest.raises(UnauthorizedError, match="not valid"):
        await auth.authenticate(bearer(secret))
    assert (await auth.authenticate(bearer(other))).id == "bob"
    with pytest.raises(NotFoundError):
        file.revoke(token.id)


async def test_refresh_names_those_that_are_gone(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    token, secret = file.create("ann", [parse_docs("*=rw")])
    auth = TokenAuth(file)
    await auth.authenticate(bearer(secret))
    file.revoke(token.id)
    assert auth.refresh() == {"ann"}
    assert auth.refresh() == set()


async def test_a_token_expires(tmp_path: Path) -> None:
    clock = Clock()
    file = TokenFile(tmp_path / "tokens.json", runtime=clock.runtime())
    _, secret = file.create("ann", [parse_docs("*=rw")], expires_at=clock.now + 1000)
    auth = TokenAuth(file, runtime=clock.runtime())
    ann = await auth.authenticate(bearer(secret))
    assert ann.expires_at == clock.now + 1000
    assert await may(auth, ann, "d", "write")
    clock.now += 1000
    assert not await may(auth, ann, "d", "read")
    with pytest.raises(UnauthorizedError, match="expired"):
        await auth.authenticate(bearer(secret))


@pytest.mark.parametrize("text", ["", "team", "=rw", "team/*=w", "team/*=", "a=rw=x"])
def test_documents_are_named_with_rights(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="expected PATTERN=r or PATTERN=rw"):
        parse_docs(text)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version": 2, "tokens": []}', '{"version": 1, "tokens": [{}]}']
)
async def test_a_file_that_cannot_be_read_is_an_error_and_opens_nothing(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(content)
    with pytest.raises(StorageError, match=r"tokens\.json"):
        TokenFile(path).read()
    with pytest.raises(StorageError):
        await TokenAuth(path).authenticate(bearer("pt_x"))


def test_a_name_and_documents_are_needed(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    for name, docs in (("", [("*", "r")]), ("ann", [])):
        with pytest.raises(InvalidRequestError):
            file.create(name, docs)  # type: ignore[arg-type]  # on purpose
    assert file.read() == []
    assert json.dumps(file.read()) == "[]"

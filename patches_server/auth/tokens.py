"""`TokenAuth`: who is connected, by tokens that an administrator has made. There is no password.

A token is 32 random bytes. The file holds its SHA-256, its name, the documents that it opens, and
when it expires; whoever reads the file cannot sign in with it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

from patches.errors import InvalidRequestError, NotFoundError, StorageError, UnauthorizedError
from patches.runtime import Millis, Runtime
from patches_server.auth.access import Kind, Principal

PREFIX: Final = "pt_"
_VERSION: Final = 1
#: What a token may do with documents: read, or read and write.
Rights = Literal["r", "rw"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is kept of a token. `docs` are patterns of ids with their rights; the first that matches
    counts, `*` stands for anything. Times are milliseconds since 1970; `expires_at` may be `None`.
    """

    id: str
    name: str
    sha256: str
    docs: tuple[tuple[str, Rights], ...]
    created_at: Millis
    expires_at: Millis | None = None

    def allows(self, doc_id: str, kind: Kind) -> bool:
        """Whether it opens a document to be read or written."""
        for pattern, rights in self.docs:
            if _regex(pattern).fullmatch(doc_id):
                return kind == "read" or rights == "rw"
        return False

    def is_expired(self, now: Millis) -> bool:
        """Whether it was good until now."""
        return self.expires_at is not None and self.expires_at <= now


class TokenFile:
    """The tokens of a server, in a file that only its owner may read."""

    def __init__(self, path: Path | str, *, runtime: Runtime | None = None) -> None:
        self.path: Path = Path(path)
        self._now: Final[Callable[[], Millis]] = (runtime or Runtime()).wall_ms

    def read(self) -> list[Token]:
        """The tokens, oldest first; none if there is no file. Raises `StorageError`."""
        try:
            text = self.path.read_text("utf-8")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StorageError(f"{self.path}: {error.strerror}") from error
        try:
            found = json.loads(text)
            if found["version"] != _VERSION:
                raise StorageError(f"{self.path} is of version {found['version']!r:.20}")
            return [_token_of(each) for each in found["tokens"]]
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{self.path} is no file of tokens: {error}") from error

    def create(
        self, name: str, docs: Sequence[tuple[str, Rights]], *, expires_at: Millis | None = None
    ) -> tuple[Token, str]:
        """Make a token. Returns what is kept of it, and the token itself, which is kept nowhere.

        Raises `InvalidRequestError` for an empty name or pattern, and `StorageError`.
        """
        if not name or not docs or not all(pattern for pattern, _ in docs):
            raise InvalidRequestError("a token needs a name, and the documents that it opens")
        secret = PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        token = Token(
            id=secrets.token_hex(4), name=name, sha256=_digest(secret), docs=tuple(docs),
            created_at=self._now(), expires_at=expires_at,
        )  # fmt: skip
        self._write([*self.read(), token])
        return token, secret

    def revoke(self, token_id: str) -> Token:
        """Forget a token, by its id. Raises `NotFoundError`, `StorageError`."""
        tokens = self.read()
        for token in tokens:
            if token.id == token_id:
                self._write([each for each in tokens if each is not token])
                return token
        raise NotFoundError(f"there is no token {token_id!r}")

    def _write(self, tokens: Sequence[Token]) -> None:
        text = json.dumps({"version": _VERSION, "tokens": [asdict(each) for each in tokens]})
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}-")
            with os.fdopen(handle, "w", encoding="utf-8") as file:  # readable by its owner alone
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.path)
        except OSError as error:
            raise StorageError(f"{self.path}: {error.strerror}") from error


class TokenAuth:
    """An `AuthProvider` over a `TokenFile`, which is read again when it changes.

    The token comes from the header `Authorization: Bearer ...`, or from the second sub-protocol of
    a browser (`new WebSocket(url, ["patches", token])`). The principal's `id` is the token's name.
    """

    def __init__(self, file: TokenFile | Path | str, *, runtime: Runtime | None = None) -> None:
        self._file: Final = file if isinstance(file, TokenFile) else TokenFile(file)
        self._now: Final[Callable[[], Millis]] = (runtime or Runtime()).wall_ms
        self._stamp: tuple[int, int, int] | None = None
        self._by_id: dict[str, Token] = {}

    async def authenticate(self, request: Any) -> Principal:
        """The principal of a request. Raises `UnauthorizedError`."""
        given = _given(request)
        if given is None:
            raise UnauthorizedError("not signed in")
        digest = _digest(given)
        for token in self._tokens().values():
            if secrets.compare_digest(token.sha256, digest):
                if token.is_expired(self._now()):
                    raise UnauthorizedError("the token has expired")
                return Principal(
                    id=token.name, expires_at=token.expires_at, claims={"token": token.id}
                )
        raise UnauthorizedError("the token is not valid")

    async def can_access(
        self, principal: Any, doc_id: str, kind: Kind, method: str, params: Mapping[str, Any] | None
    ) -> bool:
        """Whether the token is still there, and opens the document."""
        token = self._token_of(principal)
        return token is not None and token.allows(doc_id, kind)

    async def can_list(self, principal: Any, prefix: str) -> bool:
        """Whoever has a token may list: documents that it does not open are left out."""
        return self._token_of(principal) is not None

    def refresh(self) -> set[str]:
        """Read the file again if it has changed. Returns the names of tokens that are gone."""
        before = {token.id: token.name for token in self._by_id.values()}
        now = self._tokens()
        return {name for token_id, name in before.items() if token_id not in now}

    def _token_of(self, principal: Any) -> Token | None:
        claims = getattr(principal, "claims", None) or {}
        token = self._tokens().get(claims.get("token", ""))
        return None if token is None or token.is_expired(self._now()) else token

    def _tokens(self) -> dict[str, Token]:
        stamp = None
        with suppress(OSError):
            stat = self._file.path.stat()
            stamp = stat.st_mtime_ns, stat.st_size, stat.st_ino
        if stamp != self._stamp:
            self._by_id = {token.id: token for token in self._file.read()}
            self._stamp = stamp
        return self._by_id


def parse_docs(text: str) -> tuple[str, Rights]:
    """`team/*=rw` as a pattern and its rights. Raises `InvalidRequestError`."""
    pattern, _, rights = text.rpartition("=")
    if not pattern or rights not in ("r", "rw"):
        raise InvalidRequestError(f"expected PATTERN=r or PATTERN=rw, not {text!r}")
    return pattern, cast("Rights", rights)


def _token_of(stored: Mapping[str, Any]) -> Token:
    docs = tuple(parse_docs(f"{pattern}={rights}") for pattern, rights in stored["docs"])
    return Token(**{**stored, "docs": docs})


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _given(request: Any) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return str(token.strip())
    offered = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
    return str(offered[1].strip()) if len(offered) > 1 else None


def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)

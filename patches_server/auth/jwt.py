"""`JwtAuth`: who is connected, from a signed token (JSON Web Token). Needs the extra `jwt`."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import jwt

from patches.errors import InvalidRequestError, UnauthorizedError
from patches.model.settings import check_function, check_number
from patches_server.auth.access import CanAccess, Kind, Principal


class JwtAuth:
    """An `AuthProvider`: verifies the token of each connection, and asks `can_access` for rights.

    The token comes from the header `Authorization: Bearer ...`, from the second sub-protocol
    (`new WebSocket(url, ["patches", token])`), or from the cookie named `cookie`. The principal's
    `id` is the claim `sub`, which it must have, `expires_at` comes from `exp`, `capabilities` is
    the list in the claim `capabilities`, and `claims` are all of them.

    Args:
        key: the secret, the public key as PEM text, or a function of the token that gives it.
        can_access: `can_access(principal, doc_id, kind, method, params)`, as elsewhere.
        algorithms: the ones that are accepted; nothing else is, whatever a token says.
        audience, issuer: what the claims `aud` and `iss` must be, if given.
        leeway_s: how far the clocks of issuer and server may differ.
        allow_no_expiry: accept tokens without the claim `exp`, which are good for ever.
    """

    def __init__(
        self,
        key: Any,
        can_access: CanAccess,
        *,
        algorithms: Sequence[str] = ("HS256",),
        audience: str | Collection[str] | None = None,
        issuer: str | None = None,
        cookie: str | None = None,
        leeway_s: float = 10.0,
        allow_no_expiry: bool = False,
    ) -> None:
        check_function("can_access", can_access)
        check_number("leeway_s", leeway_s)
        if isinstance(algorithms, str) or not all(isinstance(each, str) for each in algorithms):
            raise InvalidRequestError(f"algorithms must be a list of names, not {algorithms!r}")
        self._key: Final = key
        self._can_access: Final = can_access
        self._algorithms: Final = list(algorithms)
        self._audience, self._issuer = audience, issuer
        self._cookie, self._leeway_s = cookie, leeway_s
        self._required: Final = ["sub"] if allow_no_expiry else ["sub", "exp"]

    async def authenticate(self, request: Any) -> Principal:
        """The principal of a request. Raises `UnauthorizedError`."""
        token = self._token(request)
        if token is None:
            raise UnauthorizedError("not signed in")
        key = self._key(token) if callable(self._key) else self._key
        if inspect.isawaitable(key):
            key = await key
        audience = self._audience
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=self._algorithms,
                audience=audience if audience is None or isinstance(audience, str) else [*audience],
                issuer=self._issuer,
                leeway=self._leeway_s,
                options={"require": self._required, "verify_aud": audience is not None},
            )
        except jwt.ExpiredSignatureError:
            raise UnauthorizedError("the sign-in has expired") from None
        except jwt.PyJWTError:
            raise UnauthorizedError("the token is not valid") from None
        return _principal(claims, self._leeway_s)

    async def can_access(
        self,
        principal: Any,
        doc_id: str,
        kind: Kind,
        method: str,
        params: Mapping[str, Any] | None,
    ) -> bool:
        """What the function given says."""
        allowed = self._can_access(principal, doc_id, kind, method, params)
        return await allowed if inspect.isawaitable(allowed) else allowed

    def _token(self, request: Any) -> str | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            return str(token.strip())
        offered = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
        if len(offered) > 1:
            return str(offered[1].strip())
        return request.cookies.get(self._cookie) if self._cookie else None


def _principal(claims: Mapping[str, Any], leeway_s: float) -> Principal:
    capabilities = claims.get("capabilities")
    expires_at = claims.get("exp")
    return Principal(
        id=str(claims["sub"]),
        expires_at=None if expires_at is None else int((expires_at + leeway_s) * 1000),
        capabilities=frozenset(item for item in capabilities if isinstance(item, str))
        if isinstance(capabilities, list)
        else frozenset(),
        claims=claims,
    )

"""Who may do what: the provider an application gives, and the one place that asks it.

`auth` is an object with `authenticate(request)` and `can_access(principal, doc_id, kind, method,
params)`, or the second alone as a function. Without one, everything is denied
(`docs/internals/reliability.md` T1-T9).
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeAlias, cast, runtime_checkable

from patches.errors import (
    ForbiddenError,
    InvalidRequestError,
    StatusError,
    UnauthorizedError,
    UnavailableError,
)
from patches.runtime import Millis

_log = logging.getLogger("patches_server.auth.access")

#: What a server without `auth` says when it starts, and to each who calls it.
NO_AUTH: Final = (
    "no auth given, so everything is refused; to try things out: create_server(auth=allow_all)"
)

Kind: TypeAlias = Literal["read", "write"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who is connected, as `authenticate` returns it. Any other object will do as well; these
    attributes are read where it has them.

    `client_id` is a lasting identity for the person's OT changes, `expires_at` ends the connection
    (Unix milliseconds), `capabilities` may hold `"import"` and `"admin"`.
    """

    id: str
    client_id: str | None = None
    expires_at: Millis | None = None
    capabilities: frozenset[str] = field(default_factory=frozenset)
    claims: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class AuthProvider(Protocol):
    """What an application implements."""

    async def authenticate(self, request: Any) -> object:
        """The principal of an HTTP request (an `aiohttp.web.Request`), before its socket opens.

        `None` or a `StatusError` refuses the connection.
        """

    async def can_access(
        self,
        principal: Any,
        doc_id: str,
        kind: Kind,
        method: str,
        params: Mapping[str, Any] | None,
    ) -> bool:
        """Whether the principal may. Only `True` allows; a `StatusError` goes to the caller.

        `params` is given for `commitChanges` alone: `docId`, `changes` and `options` as they came.
        """


CanAccess: TypeAlias = Callable[
    [Any, str, Kind, str, "Mapping[str, Any] | None"], "bool | Awaitable[bool]"
]
Auth: TypeAlias = AuthProvider | CanAccess


def allow_all(
    principal: object, doc_id: str, kind: Kind, method: str, params: Mapping[str, Any] | None
) -> bool:
    """Allows every call. Must be passed explicitly."""
    return True


def deny_all(
    principal: object, doc_id: str, kind: Kind, method: str, params: Mapping[str, Any] | None
) -> bool:
    """Refuses every call: the default of `create_app` without `auth`."""
    return False


def principal_key(principal: object) -> Hashable | None:
    """The identity of a principal: its `id` if it has one, else the object itself. `None` is
    anonymous, and so is what can be neither."""
    key: Any = getattr(principal, "id", principal)
    try:
        hash(key)
    except TypeError:
        return None
    return cast(Hashable, key)  # it has just been hashed


class _ServerItself:
    """The principal of what the server's own program does: it may do everything."""


#: See `PatchesServer.open`.
SERVER_ITSELF: Final = _ServerItself()


class Access:
    """Asks the provider, with a time limit, and turns anything but a clear yes into a refusal."""

    def __init__(self, auth: Auth | None, *, timeout_s: float | None) -> None:
        if not (auth is None or isinstance(auth, AuthProvider) or callable(auth)):
            raise InvalidRequestError(
                f"auth= takes a function, or an object with authenticate and can_access: {auth!r}"
            )
        self._provider: Final = auth if isinstance(auth, AuthProvider) else None
        self._can_access: Final[Callable[..., Any]] = (
            auth.can_access if isinstance(auth, AuthProvider) else auth or deny_all
        )
        self._timeout_s = timeout_s
        #: Whether connections are authenticated.
        self.signs_in: bool = self._provider is not None
        #: No auth was given: everything is refused.
        self.refuses_all: bool = auth is None
        #: Nothing to ask again: the answer is always yes.
        self.open: bool = self._can_access is allow_all
        self._is_plain = not inspect.iscoroutinefunction(self._can_access)

    async def authenticate(self, request: object) -> object:
        """The principal of a connection that is opening. Raises `StatusError`."""
        if self._provider is None:
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                principal = await _maybe_await(self._provider.authenticate(request))
        except TimeoutError:
            raise UnavailableError("authentication timed out") from None
        except StatusError:
            raise
        except Exception:  # boundary: a hook that fails allows nothing
            _log.exception("authenticate failed")
            raise ForbiddenError("authentication failed") from None
        if principal is None:
            raise UnauthorizedError("not signed in")
        return principal

    async def require(
        self,
        principal: object,
        doc_id: str,
        kind: Kind,
        method: str,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Raise unless the principal may. 403, the hook's own `StatusError`, or 503 in time."""
        if self.open or principal is SERVER_ITSELF:
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                allowed = await _maybe_await(
                    self._can_access(principal, doc_id, kind, method, params)
                )
        except TimeoutError:
            raise UnavailableError("authorization timed out", {"reason": "AUTH"}) from None
        except StatusError:
            raise
        except Exception:  # boundary: a hook that fails allows nothing
            _log.exception("can_access failed for %s", method)
            allowed = False
        if self.refuses_all:
            raise ForbiddenError(NO_AUTH)
        if allowed is not True:
            raise ForbiddenError(f"{kind.upper()}_FORBIDDEN:{doc_id}")

    def allows_now(
        self,
        principal: object,
        doc_id: str,
        kind: Kind,
        method: str,
        params: Mapping[str, Any] | None = None,
    ) -> bool:
        """Whether a hook that is a plain function allows it, asked in this turn.

        `False` decides nothing: `require` has to be awaited, which says why.
        """
        if self.open or principal is SERVER_ITSELF:
            return True
        if not self._is_plain:
            return False
        try:
            allowed = self._can_access(principal, doc_id, kind, method, params)
        except Exception:  # boundary: `require` calls it again, and reports
            return False
        if inspect.isawaitable(allowed):
            self._is_plain = False
            if isinstance(allowed, Coroutine):
                allowed.close()
            return False
        return allowed is True

    async def may_list(self, principal: object, prefix: str) -> bool:
        """Whether the principal may list documents: what a provider's `can_list(principal,
        prefix)` says. Without that method nobody may."""
        ask = getattr(self._provider, "can_list", None)
        if ask is None:
            return False
        try:
            async with asyncio.timeout(self._timeout_s):
                return await _maybe_await(ask(principal, prefix)) is True
        except Exception:  # boundary: a hook that fails allows nothing
            _log.exception("can_list failed")
            return False

    async def capabilities(self, principal: object, doc_id: str) -> frozenset[str]:
        """What is granted beyond read and write: the principal's own, and per document what a
        provider's `capabilities(principal, doc_id)` says, if it has one."""
        own = frozenset(getattr(principal, "capabilities", ()))
        granted = getattr(self._provider, "capabilities", None)
        if granted is None:
            return own
        try:
            async with asyncio.timeout(self._timeout_s):
                return own | frozenset(await _maybe_await(granted(principal, doc_id)))
        except Exception:  # boundary: a hook that fails grants nothing
            _log.exception("capabilities failed")
            return own


async def _maybe_await(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value

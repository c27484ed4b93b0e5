"""Who is calling: set by the RPC layer around each call, read where a server is entered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from patches.errors import UnavailableError
from patches.model.change import Change, ChangeInput
from patches.model.json_values import Json

#: `(change, before, after)`: the state without and with a change, as it is to be stored. Raises
#: what the change is refused with.
Reviewer: TypeAlias = Callable[[Change | ChangeInput, Json, Json], Awaitable[None]]


def _never() -> bool:
    return False


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class CallContext:
    """The caller of a remote method.

    `client_id` is the connection's identity, or the lasting one that `authenticate` gave;
    `connection_id` is the socket's: a commit is not broadcast to it. `capabilities`: what the auth
    provider grants beyond read and write. `options`: the options object of `getDoc`,
    `getChangesSince` or `commitChanges` as it came, checked by nobody; a document server with a
    wire of its own finds its token there. `has_given_up`: whether the caller has been answered
    already, because it waited too long, and makes the same call again. `keep_waiting()`: the caller
    waits for a commit of its own that is under way, and is not to be sent away from it. `review`
    judges what a commit of the caller's makes of a document, before it is stored.
    """

    client_id: str | None = None
    connection_id: str | None = None
    principal: Any = None
    capabilities: frozenset[str] = field(default_factory=frozenset)
    options: Mapping[str, Json] = field(default_factory=dict, compare=False)
    has_given_up: Callable[[], bool] = field(default=_never, compare=False)
    keep_waiting: Callable[[], None] = field(default=_nothing, compare=False)
    review: Reviewer | None = field(default=None, compare=False)

    def with_options(self, options: Mapping[str, Json]) -> CallContext:
        """The same caller with the options of a call. `dataclasses.replace` takes ten times as
        long."""
        return CallContext(
            self.client_id,
            self.connection_id,
            self.principal,
            self.capabilities,
            options,
            self.has_given_up,
            self.keep_waiting,
            self.review,
        )

    def require_waiting(self) -> None:
        """Raise `UnavailableError` if nobody waits for the call any more.

        Called when a call has its turn at last, before its work: under a load that lasts, work
        for those who have given up would take the time of those who ask again.
        """
        if self.has_given_up():
            raise UnavailableError("no answer in time", {"reason": "STORAGE"})


_NOBODY = CallContext()
_current: ContextVar[CallContext] = ContextVar("patches_call_context", default=_NOBODY)


def current_context() -> CallContext:
    """The context of the call being served; one without identity outside of any call."""
    return _current.get()


@contextmanager
def call_context(context: CallContext) -> Iterator[None]:
    """Serve a call as `context` says."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)

"""What a session needs of the server that it is with, and how its calls end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from patches.limits import Limits
from patches.runtime import Runtime
from patches_server.documents.offload import Offloader
from patches_server.service.calls import Calls
from patches_server.service.fanout.hub import Hub
from patches_server.service.fanout.relay import AwarenessRelay
from patches_server.service.fanout.subscriber import Subscriber
from patches_server.service.memory_budget import MemoryBudget
from patches_server.service.methods import Method
from patches_server.service.stats import ServerStats
from patches_server.wire.frames import Answer


@dataclass(slots=True)
class Outcome:
    """How a call ended. `error` (code, message, data) is what may leave the server; without one,
    `result` is JSON, or `None` for a method that returns nothing."""

    result: Answer = None
    error: Mapping[str, Any] | None = None


Reply: TypeAlias = Callable[[Outcome], None]


class SessionHost(Protocol):
    """What a session needs of the server that it is with."""

    limits: Limits
    runtime: Runtime
    offload: Offloader
    memory: MemoryBudget
    stats: ServerStats
    hub: Hub
    relay: AwarenessRelay | None
    calls: Calls
    methods: dict[str, Method]
    closing: bool

    def begin(self, serve: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a call as a task of the server, which may outlive the session."""

    def call_begun(self) -> None:
        """A call goes on without a task."""

    def call_ended(self) -> None:
        """It is over."""

    def disconnected(self, session: Subscriber) -> None:
        """The session has ended."""

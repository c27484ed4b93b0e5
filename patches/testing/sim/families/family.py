"""`DocumentFamily`: what the documents of one more algorithm bring to a run.

The base has no documents, and each of its hooks does nothing. It lives as long as the run; clients
and servers begin and end many lives meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from patches.documents.document import Document
from patches.runtime import Runtime
from patches.testing.sim.config import Config
from patches.testing.sim.loop import Life
from patches.testing.sim.nodes import SimClient
from patches.testing.sim.servers import SimServer
from patches.testing.sim.trace import Trace
from patches.testing.sim.workload import Action
from patches_server.documents.services import ServedAlgorithm


@dataclass(frozen=True, slots=True)
class Scene:
    """What a family works with. Clients and servers are there when the run begins."""

    config: Config
    clients: Sequence[SimClient]
    servers: Sequence[SimServer]
    trace: Trace
    #: Says that an invariant does not hold, and why.
    fail: Callable[[str, str], None]
    #: Passes a named crash point: it may not return.
    pass_point: Callable[[Life, str], Awaitable[None]]


class DocumentFamily:
    """No documents. See the module."""

    #: The name of the algorithm, which is the beginning of its documents' ids, too.
    name: ClassVar[str] = ""
    #: What users do with a document, and how often each is chosen, beside opening and closing it.
    edits: ClassVar[Mapping[str, int]] = {}

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    @property
    def doc_ids(self) -> list[str]:
        """Its documents."""
        return self.scene.config.family_ids

    def client_algorithms(self, name: str, runtime: Runtime) -> list[Any]:
        """What the process of the client of this name is started with."""
        return []

    def served(self, life: Life, runtime: Runtime) -> list[ServedAlgorithm]:
        """What a server's process is started with."""
        return []

    def server_ended(self, life: Life) -> None:
        """A server's process is gone, in good order or not."""

    async def begin(self) -> None:
        """The first server listens; no client has started. Fills the documents."""

    async def opened(self, client: SimClient, doc: Document) -> None:
        """A client has opened a document."""

    async def act(self, client: SimClient, action: Action) -> None:
        """A user does one of `edits`. Errors of `patches` are taken for a refusal."""

    def given_up(self, client: str, doc_id: str) -> None:
        """A client forgets what it has not sent of a document."""

    def look(self) -> None:
        """Check what has to hold at any time."""

    def restless(self) -> str:
        """What keeps the documents from being at rest; `""` if nothing does."""
        return ""

    async def check(self) -> None:
        """Check what has to hold when all is at rest."""

    def close(self) -> None:
        """The run is over."""

"""The algorithms of this server. Another one is registered with a line in `ALGORITHMS`.

Replay documents need an application's actions, so their server is made by `replay(actions)`, and
only what looks after their tables is here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from patches.limits import Limits
from patches.runtime import Runtime
from patches_server.documents.backend import Backend
from patches_server.documents.checkup import Checkup
from patches_server.documents.services import ServedAlgorithm, Services
from patches_server.lww.algorithm import LWW
from patches_server.ot.algorithm import OT
from patches_server.replay.stores.checkup import ReplayCheckup

ALGORITHMS: Final[tuple[ServedAlgorithm, ...]] = (OT, LWW)
#: What the doctor asks about the tables of a file.
CHECKUPS: Final[tuple[Checkup, ...]] = (
    *(algorithm.checkup for algorithm in ALGORITHMS if algorithm.checkup is not None),
    ReplayCheckup(),
)


def services_on(
    backend: Backend,
    *,
    more: Iterable[ServedAlgorithm] = (),
    limits: Limits | None = None,
    runtime: Runtime | None = None,
) -> dict[str, Services]:
    """The services of all algorithms and of `more`, whose documents are kept in `backend`."""
    return {
        algorithm.name: algorithm.serve(backend, limits, runtime)
        for algorithm in (*ALGORITHMS, *more)
    }

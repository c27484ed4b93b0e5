"""Documents of other algorithms than OT and LWW in the simulation, one family a run.

A family is a `DocumentFamily`; `FAMILIES` lists them by the name of their algorithm. It says what
clients and servers need to keep its documents, what users do with them, and what must hold. What
holds for every run, the network, the processes and their faults, is the rest of the simulation's.
"""

from collections.abc import Mapping
from typing import Final

from patches.testing.sim.families.collections_family import CollectionsFamily
from patches.testing.sim.families.family import DocumentFamily
from patches.testing.sim.families.replay_family import ReplayFamily

FAMILIES: Final[Mapping[str, type[DocumentFamily]]] = {
    "collections": CollectionsFamily,
    "replay": ReplayFamily,
}

__all__ = ["FAMILIES", "CollectionsFamily", "DocumentFamily", "ReplayFamily"]

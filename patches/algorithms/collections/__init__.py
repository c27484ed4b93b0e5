"""Collections: tables that the server owns, and the client's live, optimistic copy of them.

The declaration is shared with the server. Here are the client's algorithm and document, and the
pure functions below them; the server's half is in `patches_server.collections`.
"""

from patches.algorithms.collections.algorithm import CollectionsAlgorithm
from patches.algorithms.collections.collection import Collection
from patches.algorithms.collections.declaration import Collections, DeclaredTable
from patches.algorithms.collections.doc import CollectionsDoc
from patches.algorithms.collections.live import Live
from patches.algorithms.collections.optimistic import Tx
from patches.algorithms.collections.queries import Query
from patches.algorithms.collections.store_views import EventStore, SingularStore
from patches.algorithms.collections.writes import Write

__all__ = [
    "Collection",
    "Collections",
    "CollectionsAlgorithm",
    "CollectionsDoc",
    "DeclaredTable",
    "EventStore",
    "Live",
    "Query",
    "SingularStore",
    "Tx",
    "Write",
]

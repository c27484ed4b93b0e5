"""Collections on the server: documents whose rows the server owns.

What is here decides who may write, carries it out in SQL and decides who is sent what. It knows
the databases only as `engines`, and neither sockets nor subscriptions.
"""

from patches_server.collections.algorithm import collections
from patches_server.collections.calls import Caller, Event, RowWrite
from patches_server.collections.engines.sqlite import SQLiteEngine
from patches_server.collections.server import CollectionsServer

__all__ = ["Caller", "CollectionsServer", "Event", "RowWrite", "SQLiteEngine", "collections"]

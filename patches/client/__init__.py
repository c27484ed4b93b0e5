"""`Patches`: the documents of one client, their algorithms and backends.

Stores edits and tracks documents. Knows no network: `patches.sync` listens to its signals.
"""

from patches.client.patches import Patches

__all__ = ["Patches"]

"""`Patches`: the documents of one client, their algorithms and backends, without a network."""

from patches.client.patches import Patches

__all__ = ["Patches"]

"""The server of replay documents: it runs their actions, each at the place of its clock.

`ReplayServer` is what applications use; `live` and `views` decide, `stores` keep the log. Knows no
sockets and no subscriptions.
"""

from patches_server.replay.server import ReplayServer

__all__ = ["ReplayServer"]

"""The fake connection does what a real one does."""

from __future__ import annotations

from patches.testing.contracts.connection import ConnectionContract, ConnectionScene
from patches.testing.fake_connection import FakeConnection


class TestFakeConnection(ConnectionContract):
    def scene(self) -> ConnectionScene:
        connection = FakeConnection()
        del connection.replies["subscribe"]

        def set_reachable(is_reachable: bool) -> None:
            connection.up = is_reachable

        return ConnectionScene(
            connection=connection, set_reachable=set_reachable, cut=connection.drop
        )

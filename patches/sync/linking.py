"""`Linking`: the part of a `PatchesSync` that follows its connection, and shows how it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

from patches.aio.tasks import TaskScope
from patches.net.connection import PatchesConnection
from patches.net.transport import TransportState
from patches.sync.link import Link
from patches.sync.reporting import Reporting
from patches.sync.state import SyncState


class Linking(Reporting, ABC):
    """Makes a `Link` of each connection that comes up, and ends it when that is lost."""

    def __init__(self, connection: PatchesConnection) -> None:
        super().__init__()
        self.connection: PatchesConnection = connection
        self._scope = TaskScope("patches sync", on_error=self._task_failed)
        self._link: Link | None = None  # while there is a connection
        self._failure: Exception | None = None  # why there is none, if an attempt has failed
        self._failure_reported = False  # since `connect`

    def set_online(self, online: bool) -> None:
        """Say whether the host has a network. Offline, nothing is tried."""
        if online:
            self._show(replace(self._state, online=True))
        else:
            self._disconnected(online=False)
        self.connection.set_online(online)
        if online and self._link is None and self.connection.state == "connected":
            self._connected()

    @abstractmethod
    def _link_up(self, link: Link) -> None:
        """There is a connection."""

    @abstractmethod
    def _link_down(self) -> None:
        """There is no connection, or it does not count any more."""

    def _connection_changed(self, state: TransportState) -> None:
        if state == "connected":
            if self._state.online and self._scope.running:
                self._connected()
        elif self._link is not None or state != "connecting":
            self._disconnected(was_lost=True)
            failure = self.connection.failure
            if state == "error" and failure is not None and self._scope.running:
                self._cannot_connect(failure)

    def _connected(self) -> None:
        self._end_link()
        self._link = Link()
        self._failure, self._failure_reported = None, True
        self._show(replace(self._state, connected=True, syncing=None))
        self._link_up(self._link)

    def _cannot_connect(self, failure: Exception) -> None:
        """An attempt has failed; the connection goes on trying. The first cause is reported."""
        self._failure = failure
        self._show(replace(self._state, syncing=failure))
        if not self._failure_reported:
            self._failure_reported = True
            self._report(failure, None)

    def _disconnected(self, *, online: bool | None = None, was_lost: bool = False) -> None:
        self._end_link(was_lost=was_lost)
        self._link_down()
        online = self._state.online if online is None else online
        if not online:
            self._failure = None
        self._show(SyncState(online=online, connected=False, syncing=self._failure))

    def _end_link(self, *, was_lost: bool = False) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.end(was_lost=was_lost)

"""Carries the actions of a script out, as tasks of the clients that they belong to."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, Final

from patches.errors import DeletionPendingError, PatchesError
from patches.json_patch import invert_patch
from patches.testing.sim.checker import Checker, Made
from patches.testing.sim.config import Config
from patches.testing.sim.families.family import DocumentFamily
from patches.testing.sim.nodes import SimClient
from patches.testing.sim.trace import Trace
from patches.testing.sim.workload import (
    EDITS,
    LASTING,
    Action,
    first_state,
    halves,
    marker,
    mistyped,
    offline_time_s,
    undoable,
)

#: The longest absence in runs with documents of another family.
_MAX_OFFLINE_S: Final = 3 * 86_400.0


class Users:
    """The users of a run, one per client. `restart(name)` ends a client's process and starts it."""

    def __init__(
        self,
        config: Config,
        clients: list[SimClient],
        checker: Checker,
        trace: Trace,
        restart: Callable[[str], None],
        family: DocumentFamily,
    ) -> None:
        self._family = family
        self._config, self._clients, self._restart = config, clients, restart
        self._checker, self._trace = checker, trace
        self._markers = 0
        self._under_way: dict[asyncio.Task[Any], None] = {}
        self._branches: list[str] = []
        self.done: int = 0
        self.besides: Counter[str] = Counter()

    @property
    def at_work(self) -> bool:
        """Whether an action has not ended yet."""
        return bool(self._under_way)

    def begin(self, action: Action) -> None:
        """Start an action; it goes on by itself, and ends with its client's process."""
        client = self._clients[action.client]
        self._trace.add(client.name, "action", action)
        if action.kind == "offline":
            for_s = offline_time_s(action.random())
            if self._config.family_docs:  # servers of these look around all the time
                for_s = min(for_s, _MAX_OFFLINE_S)
            self._go_offline(client, for_s)
        elif client.running and client.life is not None:
            task = client.life.spawn(self._act(client, action), name=f"user {action.kind}")
            self._under_way[task] = None
            task.add_done_callback(lambda task: self._under_way.pop(task, None))
        self.done += 1

    def _go_offline(self, client: SimClient, for_s: float) -> None:
        client.set_online(False)
        asyncio.get_running_loop().call_later(for_s, client.set_online, True)

    def _shares(self, client: SimClient) -> bool:
        """Whether another client works on the same file: its data is not this one's to remove."""
        disk = client.node.disk
        return any(other is not client and other.node.disk is disk for other in self._clients)

    async def _act(self, client: SimClient, action: Action) -> None:
        try:
            await self._do(client, action)
        except (PatchesError, KeyError, IndexError, TimeoutError) as exc:
            self._trace.add(client.name, "refused", f"{action} {type(exc).__name__} {exc}")
        except (AttributeError, TypeError) as exc:
            # the document's members are of another kind where it was deleted and made anew
            if "mortal" not in action.doc_id:
                raise
            self._trace.add(client.name, "refused", f"{action} {exc}")

    async def _do(self, client: SimClient, action: Action) -> None:
        patches, random = client.patches, action.random()
        assert patches is not None
        doc_id = action.doc_id
        match action.kind:
            case "open":
                await self.open(client, doc_id)
            case "close":
                await patches.close_doc(doc_id)
            case "untrack":
                if not self._shares(client):
                    await self._untrack(client, doc_id)
            case "delete":
                await self._delete(client, doc_id)
                if random.random() < 0.4:  # perhaps before the server has heard of it
                    await self.open(client, doc_id)
            case "delete_offline":
                await self._delete_offline(client, doc_id, random)
            case "delete_and_open":
                await self._delete(client, doc_id)
                await self.open(client, doc_id)
            case "undelete":
                if "rebirth" in self._config.faults or not any(
                    other.holds(doc_id) for other in self._clients
                ):
                    await self._call(client, "undeleteDoc", doc_id)
            case "remake":
                await self._remake(client, doc_id, random)
            case "mistype":
                await self._mistype(client, doc_id, random)
            case "version":
                await self._call(client, "createVersion", doc_id, {"name": f"v{action.number}"})
            case "branch":
                await self._branch(client, doc_id)
            case "merge":
                if self._branches:
                    await self._call(client, "mergeBranch", random.choice(self._branches))
            case "set_aside":
                await self._set_aside(client, action, random)
            case "undo":
                self.besides["undo"] += 1
                await self._undo(client, doc_id, random)
            case "create":
                await self._create(client, doc_id)
            case "presence":
                self.besides["presence"] += 1
                await self._be_seen(client, doc_id, random)
            case "pause":
                pass
            case _ if doc_id in self._config.family_ids:
                await self._family.act(client, action)
            case "halves":
                await self._edit(client, action, lambda doc: doc.apply(halves(random)))
            case "burst":
                is_lww = doc_id.startswith("lww/")
                usable = ("tree", "count", "flat") if is_lww else ("type", "items", "tree", "count")
                for _ in range(random.randint(5, 30)):
                    self.done += client.doc(doc_id) is not None
                    await self._draft(client, action, random.choice(usable), random, flush=False)
            case _:
                await self._draft(client, action, action.kind, random)

    async def open(self, client: SimClient, doc_id: str) -> None:
        """Open a document, unless it is open, or its deletion is to be told to the server first."""
        patches = client.patches
        if patches is None or patches.get_open_doc(doc_id) is not None:
            return
        try:
            if doc_id in self._config.family_ids:
                doc = await patches.open_doc(doc_id, algorithm=self._family.name)
                await self._family.opened(client, doc)
                return
            await patches.open_doc(doc_id, algorithm="lww" if doc_id.startswith("lww/") else "ot")
        except DeletionPendingError:
            self._trace.add(client.name, "refused", f"open {doc_id}, which is being deleted")

    async def _draft(
        self, client: SimClient, action: Action, kind: str, random: Random, *, flush: bool = True
    ) -> None:
        if kind in LASTING or kind in ("flat", "wide", "vetoed"):
            self._markers += 1
        mark = marker(self._markers, kind)
        made = None
        if kind in LASTING or kind in ("flat", "wide", "vetoed"):
            self.besides["wide"] += kind == "wide"
            self.besides["refusing"] += kind == "vetoed"
            made = Made(action.doc_id, client.name, mark, kind)
        await self._edit(
            client,
            action,
            lambda doc: doc.change(lambda draft: EDITS[kind](draft, random, mark)),
            made,
            flush=flush,
        )

    async def _edit(
        self,
        client: SimClient,
        action: Action,
        edit: Callable[[Any], object],
        made: Made | None = None,
        *,
        flush: bool = True,
    ) -> None:
        doc = client.doc(action.doc_id)
        if doc is None or not doc.is_loaded or not doc.state:
            return
        before = doc.state
        edit(doc)
        if made is not None and action.doc_id in self._config.lasting_ids:
            if made.kind == "flat":
                made.field = "f0" if doc.state["f0"] == made.mark else "f1"
                made.seen = before[made.field]
            self._checker.made(made)
        if flush:
            await doc.flush()
            if made is not None:
                made.stored = True

    async def _untrack(self, client: SimClient, doc_id: str) -> None:
        assert client.patches is not None
        for give_up in (self._checker.given_up, self._family.given_up):
            give_up(client.name, doc_id)
        await client.patches.untrack_docs([doc_id])
        for give_up in (self._checker.given_up, self._family.given_up):  # what came meanwhile
            give_up(client.name, doc_id)
        await asyncio.sleep(1.0)
        await self.open(client, doc_id)

    async def _delete(self, client: SimClient, doc_id: str) -> None:
        """Delete a document for everybody, unless another client keeps it in the same file."""
        if self._shares(client):
            return
        assert client.patches is not None
        life = self._checker.lives[doc_id]
        self._checker.deleted(doc_id, client.name, life)  # the server may refuse it before the end
        try:
            await client.patches.delete_doc(doc_id)
        except BaseException:  # also of a process that is killed
            self._checker.forget_deletion(doc_id, client.name)
            raise

    async def _delete_offline(self, client: SimClient, doc_id: str, random: Random) -> None:
        """Delete a document without a connection; perhaps the process ends before there is one, or
        the user tries to open the document again.
        """
        self.besides["rebirth"] += 1
        self._go_offline(client, random.uniform(5, 90))
        await self._delete(client, doc_id)
        restarts, opens = random.random() < 0.7, random.random() < 0.5
        if opens:
            await self.open(client, doc_id)
        if restarts:
            self._restart(client.name)

    async def _remake(self, client: SimClient, doc_id: str, random: Random) -> None:
        """Delete a document and make it again under its id, while somebody may be away."""
        self.besides["rebirth"] += 1
        if random.random() < 0.7:
            self._go_offline(random.choice(self._clients), random.uniform(10, 200))
        if not client.sync or not client.sync.state.connected or self._shares(client):
            return
        if not self._checker.log(doc_id).deleted:
            await self._delete(client, doc_id)
        await asyncio.sleep(random.uniform(0.2, 3.0))
        await self._call(client, "undeleteDoc", doc_id)
        await self._create(client, doc_id)
        for _ in range(random.randint(0, 8)):  # revisions that those who are away know, too
            doc = client.doc(doc_id)
            if doc is not None and isinstance(doc.state, dict) and "count" in doc.state:
                doc.change(lambda draft: draft.increment("count", 1))
                await doc.flush()
                await asyncio.sleep(0.2)

    async def _mistype(self, client: SimClient, doc_id: str, random: Random) -> None:
        """Write something and take it back at once, as two changes."""
        self.besides["close_edits"] += 1
        doc = client.doc(doc_id)
        if doc is None or not doc.is_loaded or not isinstance(doc.state, dict) or not doc.state:
            return
        back: list[Callable[[Any], object]] = []
        doc.change(lambda draft: back.append(mistyped(draft, random)))
        doc.change(back[0])
        await doc.flush()

    async def _set_aside(self, client: SimClient, action: Action, random: Random) -> None:
        """Take a pending change out of the queue, and put it back some time later.

        Often one that is under way: it may be committed meanwhile, and is not there to put back.
        """
        patches, doc_id = client.patches, action.doc_id
        assert patches is not None
        if random.random() < 0.8:
            await self._draft(client, action, random.choice(("type", "count")), random)
            await asyncio.sleep(random.uniform(0, 0.2))
        pending = (await client.node.disk.backend.stores["ot"].load_queue(doc_id)).pending
        if not pending or doc_id not in patches.tracked_docs:
            return
        change_id = random.choice(pending).id
        self._checker.set_aside(change_id)
        if await patches.eject_pending_change(doc_id, change_id) is not None:
            await asyncio.sleep(random.choice((0, 0.1, 20)) * random.random())
            if doc_id in patches.tracked_docs:
                await patches.retry_quarantined_change(doc_id, change_id)

    async def _branch(self, client: SimClient, doc_id: str) -> None:
        doc = client.doc(doc_id)
        if doc is None or not doc.committed_rev:
            return
        branch_id = await self._call(client, "createBranch", doc_id, doc.committed_rev)
        if isinstance(branch_id, str) and branch_id not in self._branches:
            self._branches.append(branch_id)
            assert client.patches is not None
            branch = await client.patches.open_doc(branch_id, algorithm="ot")
            await asyncio.sleep(5.0)
            if isinstance(branch.state, dict) and "items" in branch.state:
                branch.change(lambda draft: draft["items"].append("from a branch"))
                await branch.flush()

    async def _undo(self, client: SimClient, doc_id: str, random: Random) -> None:
        """Make an edit, and take it back when others may have edited meanwhile."""
        doc = client.doc(doc_id)
        if doc is None or not doc.is_loaded or not doc.state:
            return
        before, ops = doc.state, undoable(doc_id, random)
        doc.apply(ops)
        await doc.flush()
        await asyncio.sleep(random.choice((0.0, 0.5, 8.0)))
        doc.apply(invert_patch(before, ops))
        await doc.flush()

    async def _create(self, client: SimClient, doc_id: str) -> None:
        """Fill a document that nobody has, by one write of the whole."""
        if "rebirth" not in self._config.faults and any(
            other is not client and other.holds(doc_id) for other in self._clients
        ):
            return  # the server takes such a write from one creator
        await self.open(client, doc_id)
        doc = client.doc(doc_id)
        if doc is not None and doc.is_loaded and not doc.state and not doc.committed_rev:
            doc.apply([{"op": "replace", "path": "", "value": first_state(doc_id)}])
            await doc.flush()

    async def _be_seen(self, client: SimClient, doc_id: str, random: Random) -> None:
        assert client.sync is not None
        text = None if doc_id.startswith("lww/") else "/body"
        async with client.sync.presence(doc_id, {"who": client.name}, text=text) as room:
            for _ in range(random.randint(1, 6)):
                room.update(cursor=random.randrange(40))
                await asyncio.sleep(random.choice((0.0, 0.05, 4.0)))

    @staticmethod
    async def _call(client: SimClient, method: str, *params: Any) -> Any:
        assert client.sync is not None
        return await client.sync.connection.call(method, *params)

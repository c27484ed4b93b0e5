"""Patches without `async`: for scripts, notebooks, and frameworks of threads.

    from patches.blocking import connect

    with connect("ws://127.0.0.1:8000/ws", store="notes.db") as patches:
        doc = patches.open_doc("plan")
        doc.change(lambda draft: draft.update(title="Plan"))
        patches.settled(timeout=10)

A `Client` has one thread with an event loop, in which the asyncio objects live. Here are the calls
that wait for it; what documents are and how they sync is decided elsewhere.
"""

from patches.blocking.client import Client, connect
from patches.blocking.document import Document

__all__ = ["Client", "Document", "connect"]

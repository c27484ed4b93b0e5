"""What the demonstration page shows first: a text and some tasks, unless they exist already."""

from __future__ import annotations

import logging
from typing import Final

from patches.errors import PatchesError
from patches.json_patch import JSONPatch
from patches_server.service.router import Router

TEXT_ID: Final = "welcome/text"
TASKS_ID: Final = "lww/welcome-tasks"

_TEXT: Final = """\
Welcome to Patches.

This text belongs to everybody who has the page open. Type in two windows at once: both keep \
every letter, and your cursor stays where you put it.

Then work offline in one of them, go on writing in both, and come back.
"""
_TASKS: Final = (
    ("Open this page in a second window", False),
    ("Type in both at the same time", False),
    ("Check, rename and reorder some tasks", False),
    ("Go offline, edit, come back", False),
    ("Start the server", True),
)

_log = logging.getLogger("patches_server.demo.content")


async def add_demo_documents(router: Router) -> None:
    """Make the page's two documents where there are none. What fails is logged."""
    for doc_id, edit in ((TEXT_ID, _write_text), (TASKS_ID, _write_tasks)):
        documents = (await router.find(doc_id)).documents
        try:
            if not await documents.get_changes_since(doc_id, 0):
                await documents.change(doc_id, edit)
        except PatchesError:  # deleted, say: then it stays so
            _log.info("the document %.128r was not made", doc_id, exc_info=True)


def _write_text(patch: JSONPatch) -> None:
    patch.text("/body", [{"insert": _TEXT.removesuffix("\n")}])


def _write_tasks(patch: JSONPatch) -> None:
    for index, (title, done) in enumerate(_TASKS):
        order = "BFJNRV"[index]
        patch.replace(f"/tasks/welcome-{index}", {"title": title, "done": done, "order": order})

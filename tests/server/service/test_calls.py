"""How a call is carried out: parameters, rights, rules, its turn, and then what it is for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from patches.errors import (
    AlgorithmMismatchError,
    ChangeRefusedError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    StatusError,
    UnavailableError,
)
from patches.limits import Limits
from patches.runtime import Runtime
from patches_server.auth.access import Access
from patches_server.documents.context import CallContext, current_context
from patches_server.documents.offload import Offloader
from patches_server.documents.services import Services
from patches_server.service.calls import Call, Calls
from patches_server.service.methods import method_table
from patches_server.service.router import Router
from patches_server.service.stats import ServerStats
from patches_server.service.validation import Validation

TABLE = method_table(has_relay=False)
CHANGE = {"id": "c1", "ops": [{"op": "replace", "path": "/a", "value": 1}]}

#: `(doc_id, kind)` of a call to the access provider.
Right = tuple[str, str]


class Branches:
    """Branch records, and what was done with them: "b" is of "source", "gone" was deleted."""

    def __init__(self) -> None:
        self.merged: list[tuple[str, str | None]] = []

    async def find_source(self, branch_id: str) -> str | None:
        return "source" if branch_id in ("b", "gone") else None

    async def get_source_doc_id(self, branch_id: str) -> str:
        if branch_id != "b":
            raise NotFoundError(f"Branch {branch_id} not found")
        return "source"

    async def create_branch(self, doc_id: str, rev: int, metadata: Mapping[str, Any]) -> str:
        return str(metadata.get("id") or "made")

    async def merge_branch(self, branch_id: str) -> list[Any]:
        self.merged.append((branch_id, current_context().connection_id))
        return []


class Scene:
    """The calls of a server, whose access provider notes what it is asked."""

    def __init__(self, documents: Any, **options: Any) -> None:
        self.asked: list[Right] = []
        self.forbidden: set[Right] = options.pop("forbidden", set())
        self.branches = Branches()
        validate: Callable[..., Any] | None = options.pop("validate", None)
        services: Any = Services(documents, branches=self.branches)  # type: ignore[arg-type]  # as much as is called
        limits = Limits()
        offload = Offloader(Runtime(), limits)
        self.calls = Calls(
            Router({"ot": services}),
            Access(self._may, timeout_s=5),
            None if validate is None else Validation(validate, limits, offload),
            limits=limits,
            offload=offload,
            stats=ServerStats(),
            hide_existence=options.pop("hide_existence", False),
        )
        assert not options

    def _may(self, _who: object, doc_id: str, kind: str, _method: str, _params: object) -> bool:
        self.asked.append((doc_id, kind))
        return (doc_id, kind) not in self.forbidden

    async def run(self, name: str, *params: Any, **context: Any) -> Any:
        call = Call(
            name=name,
            method=TABLE[name],
            params=params,
            size=100,
            context=CallContext(connection_id="me", client_id="me", **context),
        )
        return await self.calls.run(call)


async def test_parameters_come_before_rights(documents: Any) -> None:
    scene = Scene(documents)
    with pytest.raises(InvalidRequestError):
        await scene.run("commitChanges", "d", [{"ops": 1}])
    with pytest.raises(StatusError):
        await scene.run("getDoc", 7)
    assert scene.asked == []


async def test_a_commit_needs_both_rights_and_then_the_rules(documents: Any) -> None:
    def validate(_who: object, _doc_id: str, changes: Any) -> None:
        raise ChangeRefusedError(changes[0].id, "not today")

    scene = Scene(documents, validate=validate)
    with pytest.raises(ChangeRefusedError, match="not today"):
        await scene.run("commitChanges", "d", [CHANGE])
    assert scene.asked == [("d", "write"), ("d", "read")]
    scene.forbidden = {("d", "read")}
    with pytest.raises(ForbiddenError, match="READ_FORBIDDEN:d"):
        await scene.run("commitChanges", "d", [CHANGE])
    assert documents.logs == {}


async def test_who_names_a_branch_needs_the_right_to_that_name(documents: Any) -> None:
    scene = Scene(documents, forbidden={("taken", "write")})
    with pytest.raises(ForbiddenError, match="WRITE_FORBIDDEN:taken"):
        await scene.run("createBranch", "d", 1, {"id": "taken"})
    assert await scene.run("createBranch", "d", 1, {"id": "free"}) == b'"free"'
    assert scene.asked[-3:] == [("d", "write"), ("d", "read"), ("free", "write")]


async def test_a_branch_is_judged_on_its_source_and_told_to_its_caller_too(documents: Any) -> None:
    scene = Scene(documents)
    await scene.run("mergeBranch", "b")
    assert scene.asked == [("source", "write"), ("source", "read")]
    assert scene.branches.merged == [("b", None)], "the caller gets the broadcast as well"


@pytest.mark.parametrize(
    ("branch_id", "may", "hides", "message"),
    [
        ("b", False, False, "WRITE_FORBIDDEN:b"),
        ("unknown", False, False, "WRITE_FORBIDDEN:unknown"),
        ("unknown", True, False, "Branch unknown not found"),
        ("unknown", True, True, "WRITE_FORBIDDEN:unknown"),
        ("gone", True, False, "Branch gone not found"),
        ("gone", False, False, "WRITE_FORBIDDEN:gone"),
    ],
)
async def test_a_refusal_names_the_branch_alone(
    documents: Any, branch_id: str, may: bool, hides: bool, message: str
) -> None:
    forbidden = set() if may else {("source", "write"), ("unknown", "write")}
    scene = Scene(documents, forbidden=forbidden, hide_existence=hides)
    with pytest.raises(StatusError, match=f"^{message}$"):
        await scene.run("mergeBranch", branch_id)
    assert scene.branches.merged == []


async def test_a_caller_with_another_algorithm_is_told_the_documents_own(documents: Any) -> None:
    scene = Scene(documents)
    with pytest.raises(AlgorithmMismatchError) as mismatch:
        await scene.run("commitChanges", "d", [CHANGE], {"algorithm": "lww"})
    assert (mismatch.value.expected, mismatch.value.got) == ("ot", "lww")
    assert documents.logs == {}


async def test_a_call_whose_caller_has_given_up_is_not_begun(documents: Any) -> None:
    scene = Scene(documents)
    with pytest.raises(UnavailableError):
        await scene.run("commitChanges", "d", [CHANGE], has_given_up=lambda: True)
    assert documents.entered == []


async def test_the_document_server_sees_the_options_of_the_call(documents: Any) -> None:
    seen: list[Mapping[str, Any]] = []

    async def get_doc(doc_id: str, *, rev: int | None = None) -> Any:
        seen.append(current_context().options)
        return await type(documents).get_doc(documents, doc_id, rev=rev)

    documents.get_doc = get_doc
    await Scene(documents).run("getDoc", "d", {"mine": 1})
    assert seen == [{"mine": 1}]

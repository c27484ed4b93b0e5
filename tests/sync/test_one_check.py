"""What a client accepts, a server with the same limits accepts: ids, metadata, edits."""

from __future__ import annotations

import random
from dataclasses import fields
from typing import Any

import pytest

from patches import Patches
from patches.errors import ChangeRefusedError, PatchError, QueueFullError, StatusError
from patches.limits import Limits
from patches.model.change import Change
from patches.model.json_values import MAX_DOUBLE, MAX_SAFE_INTEGER, Json
from patches.testing.fixtures import ClientFixture, ServerFixture

LIMITS = Limits(
    max_change_bytes=3_000,
    max_commit_bytes=6_000,
    max_path_segments=6,
    max_value_depth=5,
    max_path_bytes=60,
    max_ops_per_change=12,
    max_changes_per_commit=3,
    max_doc_id_bytes=24,
    max_metadata_bytes=120,
    max_text_op_len=2_900,
    max_doc_bytes=9_000,
    max_doc_depth=12,
)
#: Of these the client knows nothing, and breaking them costs a client time and no work.
NOT_OF_EDITS = {
    "max_response_buffer_bytes",
    "max_response_buffer_msgs",
    "send_timeout_s",
    "max_inflight_requests",
    "requests_per_s",
    "requests_burst",
    "commit_bytes_per_s",
    "commit_bytes_burst",
    "max_subscriptions",
    "handshake_timeout_s",
    "heartbeat_s",
    "max_connections",
    "max_connections_per_principal",
    "max_connections_per_ip",
    "connects_per_min_per_ip",
    "compress",
    "presence_per_s",
    "presence_bytes_per_s",
    "max_parsed_bytes",
    "max_transform_steps",
    "max_catchup_changes",
    "max_concurrent_snapshots",
    "store_timeout_s",
    "hook_timeout_s",
    "yield_every_ms",
    "max_pending_per_doc",  # the client's own
    "max_pending_bytes_per_doc",
    "max_presence_bytes",  # `tests/sync/presence/test_presence.py`
    "max_change_id_bytes",  # ids of changes are the client's own
    "max_depth",  # of a frame: `max_value_depth` and what surrounds it are far below
}
ALGORITHMS = pytest.mark.parametrize("algorithm", ["ot", "lww"])


def doc_id_for(algorithm: str, name: str = "plan") -> str:
    return f"lww/{name}" if algorithm == "lww" else name


async def require_committed(server: ServerFixture, client: ClientFixture, doc_id: str) -> None:
    """Everything that the client took is on the server, and nothing was set aside."""
    await client.sync.settled(timeout=60)
    assert client.errors == []
    assert await client.patches.list_quarantined_changes() == []
    doc = client.patches.get_open_doc(doc_id)
    assert doc is not None
    assert doc.state == await server.state(doc_id)


# ---- ids -----------------------------------------------------------------------------------------

BAD_IDS: list[Any] = [
    "", "a\0b", "a\nb", "a\tb", "\x7f", "a\x85", "half \ud83d", "\ude00", "x" * 513, "é" * 257,
    None, 5, b"plan", ["plan"], True,
]  # fmt: skip
GOOD_IDS = ["x", "x" * 512, "é" * 256, "../x", "a b", "😀", "a/b", "%00", "\u200b", "ﬃ", "'; --"]


@pytest.mark.parametrize("doc_id", BAD_IDS, ids=ascii)
async def test_no_door_of_the_client_takes_an_id_that_the_server_refuses(doc_id: Any) -> None:
    async with ServerFixture() as server:
        client = await server.client()
        doors = [
            client.patches.open_doc(doc_id),
            client.patches.track_docs([doc_id]),
            client.patches.delete_doc(doc_id),
            client.patches.submit_doc_change(doc_id, [{"op": "add", "path": "/a", "value": 1}]),
        ]
        for door in doors:
            with pytest.raises(PatchError, match="document id"):
                await door
        assert client.patches.tracked_docs == frozenset()
        with pytest.raises(StatusError) as refused:
            await client.sync.connection.call("getDoc", [] if doc_id == b"plan" else doc_id)
        assert refused.value.code == 400


@pytest.mark.parametrize("doc_id", GOOD_IDS, ids=ascii)
async def test_any_other_id_is_taken_by_both(doc_id: str) -> None:
    async with ServerFixture() as server:
        client = await server.client()
        doc = await client.open_doc(doc_id)
        doc.change(lambda draft: draft.update(a=1))
        await require_committed(server, client, doc_id)


@pytest.mark.parametrize("seed", range(3))
async def test_ids_around_the_limit_are_judged_alike(seed: int) -> None:
    rng = random.Random(seed)
    letters = ["a", "/", " ", "é", "😀", "\x00", "\x1f", "\x7f", "\x9f", "\xa0", "\ud800", "\udfff"]
    async with ServerFixture({"limits": LIMITS}) as server:
        client = await server.client(limits=LIMITS)
        for _ in range(150):
            size = rng.choice([0, 1, 2, 6, 11, 12, 23, 24, 25])
            pool = letters if rng.random() < 0.5 else letters[:5]
            doc_id = "".join(rng.choice(pool) for _ in range(size))
            try:
                await client.sync.connection.call("getDoc", doc_id)
                served = True
            except StatusError:
                served = False
            try:
                await client.patches.track_docs([doc_id])
                taken = True
            except PatchError:
                taken = False
            assert taken == served, doc_id


@pytest.mark.parametrize(
    "ids", ["plan", b"plan", 5, None, {"a": 1}.items()], ids=lambda value: type(value).__name__
)
async def test_several_ids_are_a_list_of_ids(ids: Any) -> None:
    async with Patches() as patches:
        with pytest.raises(PatchError, match="document id"):
            await patches.track_docs(ids)


# ---- metadata ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metadata",
    [
        {"note": "x" * 17_000},
        {"__proto__": 1},
        {"a": {"__proto__": 1}},
        {"a": float("nan")},
        {"a": 2**53},
        {"a": b"bytes"},
        {1: "a"},
        [["a", 1]],
        "text",
    ],
    ids=lambda value: ascii(value)[:30],
)
async def test_metadata_that_the_server_refuses_is_refused_at_every_door(metadata: Any) -> None:
    with pytest.raises(PatchError):
        Patches(metadata=metadata)
    async with Patches() as patches:
        with pytest.raises(PatchError):
            await patches.open_doc("plan", metadata=metadata)
        assert patches.tracked_docs == frozenset()
        await patches.open_doc("plan")
        with pytest.raises(PatchError):
            await patches.submit_doc_change(
                "plan", [{"op": "add", "path": "/a", "value": 1}], metadata
            )


async def test_metadata_of_client_and_call_count_together() -> None:
    async with ServerFixture({"limits": LIMITS}) as server:
        client = await server.client(limits=LIMITS, metadata={"who": "a" * 60})
        with pytest.raises(PatchError, match="bytes"):
            await client.open_doc("plan", metadata={"why": "b" * 50})
        doc = await client.open_doc("plan", metadata={"why": "b" * 20})
        doc.change(lambda draft: draft.update(a="x" * 2_300))
        await require_committed(server, client, "plan")


# ---- edits ---------------------------------------------------------------------------------------


def random_edit(rng: random.Random, state: Json, algorithm: str) -> Any:
    """A callable on a document: an edit at or around some limit."""
    keys = ["a", "b", "c", "n", "a/b", "k" * rng.choice([1, 28, 29, 30, 55, 58, 59, 60])]
    key = rng.choice(keys)

    def path(length: int) -> str:
        return "".join(f"/{rng.choice('abc')}" for _ in range(length))

    def nested(levels: int) -> Json:
        value: Json = rng.choice([1, "x"])
        for _ in range(levels):
            value = [value] if rng.random() < 0.5 else {"z": value}
        return value

    size = rng.choice([10, 100, 899, 900, 901, 2_000, 2_400, 2_480, 2_500, 2_950, 3_000, 3_100])
    number = rng.choice(
        [0, 1.5, MAX_SAFE_INTEGER, MAX_SAFE_INTEGER + 1, 1e308, MAX_DOUBLE, float("inf"), -0.0]
    )
    many = rng.choice([11, 12, 13, 40])
    depth = rng.randint(3, 7)
    where = path(rng.randint(1, 8))
    edits = [
        lambda doc: doc.change(lambda draft: draft.update({key: "x" * size})),
        lambda doc: doc.change(lambda draft: draft.update({key: "é" * (size // 2)})),
        lambda doc: doc.change(lambda draft: draft.update({f"m{i}": i for i in range(many)})),
        lambda doc: doc.change(
            lambda draft: [draft.pop(f"m{i}", None) for i in range(many)] and None
        ),
        lambda doc: doc.change(lambda draft: draft.update({key: nested(depth)})),
        lambda doc: doc.change(lambda draft: draft.increment("n", number)),
        lambda doc: doc.change(lambda draft: draft.update({"n": number})),
        lambda doc: doc.set({"a": nested(depth), "b": "y" * (size // 3)}),
        lambda doc: doc.set({f"s{i}": "z" * (size // 10) for i in range(many)}),
        lambda doc: doc.set([1, 2] if doc.committed_rev else {}),
        lambda doc: doc.set({}),
        lambda doc: doc.apply([{"op": "replace", "path": "", "value": {"r": "w" * (size // 4)}}]),
        lambda doc: doc.apply([{"op": "remove", "path": ""}]),
        lambda doc: doc.apply([{"op": "replace", "path": where, "value": nested(depth)}]),
        lambda doc: doc.apply([{"op": "add", "path": where, "value": {"t": "t" * size}}]),
        lambda doc: doc.apply([{"op": "move", "from": "/a", "path": where}]),
        lambda doc: doc.apply([{"op": "copy", "from": "/a", "path": where}]),
        lambda doc: doc.apply([{"op": "copy", "from": "/b", "path": f"/c{depth}"}]),
        lambda doc: doc.apply(
            [{"op": "test", "path": "/a", "value": state["a"] if "a" in state else 0}]
        ),
        lambda doc: doc.apply([{"op": "replace", "path": "/__proto__", "value": 1}]),
        lambda doc: doc.apply([{"op": "replace", "path": "/q", "value": 1, "ts": 5}]),
        lambda doc: doc.apply([{"op": "replace", "path": "/q", "value": {"__proto__": 1}}]),
        lambda doc: doc.apply([{"op": "replace", "path": "/q", "value": 1, "own": nested(8)}]),
    ]
    if algorithm == "ot":
        edits += [
            lambda doc: doc.change(lambda draft: draft.text("t").insert(0, "w" * size)),
            lambda doc: doc.change(lambda draft: draft.text("t").delete(0, size)),
            lambda doc: doc.change(
                lambda draft: draft.update(t={"ops": [{"insert": "v" * size + "\n"}]})
            ),
        ]
    return rng.choice(edits)


@ALGORITHMS
@pytest.mark.parametrize("seed", range(12))
async def test_an_edit_is_refused_at_once_or_committed(algorithm: str, seed: int) -> None:
    rng = random.Random(f"{algorithm}{seed}")
    doc_id = doc_id_for(algorithm)
    async with ServerFixture({"limits": LIMITS}) as server:
        client = await server.client(limits=LIMITS)
        doc = await client.open_doc(doc_id, algorithm=algorithm)
        taken = 0
        for _ in range(40):
            before = doc.state
            edit = random_edit(rng, before, algorithm)
            try:
                edit(doc)
                taken += 1
            except (PatchError, QueueFullError, TypeError, AttributeError, LookupError):
                assert doc.state is before
            if rng.random() < 0.4:
                await require_committed(server, client, doc_id)
        await require_committed(server, client, doc_id)
        assert taken > 5


@ALGORITHMS
async def test_edits_beyond_the_default_sizes_are_refused_at_once(algorithm: str) -> None:
    doc_id = doc_id_for(algorithm)
    async with ServerFixture() as server:
        client = await server.client()
        doc = await client.open_doc(doc_id, algorithm=algorithm)
        for size in (4_300_000, 9_000_000):
            with pytest.raises(PatchError, match="bytes"):
                doc.set({"k": "x" * size})
        assert doc.state == {}
        doc.change(lambda draft: draft.update(k="x" * 4_190_000, more="y" * 4_190_000))
        await require_committed(server, client, doc_id)


@ALGORITHMS
async def test_any_number_of_operations_arrives_in_several_changes(algorithm: str) -> None:
    doc_id = doc_id_for(algorithm)
    async with ServerFixture() as server:
        client = await server.client()
        doc = await client.open_doc(doc_id, algorithm=algorithm)
        doc.set({f"f{i}": i for i in range(21_000)})
        await require_committed(server, client, doc_id)
        await client.sync.disconnect()
        doc.change(lambda draft: [draft.pop(f"f{i}") for i in range(10_500)] and None)
        doc.change(lambda draft: [draft.pop(f"f{i}") for i in range(10_500, 21_000)] and None)
        await client.sync.connect()
        await require_committed(server, client, doc_id)
        assert doc.state == {}


async def test_a_large_text_is_cut() -> None:
    async with ServerFixture() as server:
        client = await server.client()
        doc = await client.open_doc("plan")
        doc.change(lambda draft: draft.text("body").insert(0, "x" * 5_000_000))
        await require_committed(server, client, "plan")


@ALGORITHMS
async def test_the_root_of_a_document_that_exists(algorithm: str) -> None:
    doc_id = doc_id_for(algorithm)
    async with ServerFixture() as server:
        client = await server.client()
        doc = await client.open_doc(doc_id, algorithm=algorithm)
        doc.set({"a": 1, "b": 2})
        await require_committed(server, client, doc_id)
        doc.apply([{"op": "replace", "path": "", "value": {"b": 3}}])
        await require_committed(server, client, doc_id)
        assert doc.state == {"b": 3}
        doc.apply([{"op": "remove", "path": ""}])
        await require_committed(server, client, doc_id)
        assert doc.state == {}
        if algorithm == "ot":
            with pytest.raises(PatchError, match="put the value under a key"):
                doc.set([1])
        else:
            doc.set([1])
        await require_committed(server, client, doc_id)


@ALGORITHMS
async def test_a_closed_document_takes_the_edits_that_an_open_one_takes(algorithm: str) -> None:
    doc_id = doc_id_for(algorithm)
    async with ServerFixture() as server:
        client = await server.client()
        await client.patches.track_docs([doc_id], algorithm)
        submit = client.patches.submit_doc_change
        await submit(doc_id, [{"op": "add", "path": "/a", "value": {"n": 1}}])
        await submit(doc_id, [{"op": "move", "from": "/a", "path": "/b"}])
        await submit(doc_id, [{"op": "copy", "from": "/b", "path": "/c"}])
        bad_edits: list[list[dict[str, Any]]] = [
            [{"op": "remove", "path": "/c/x/y"}, {"op": "test", "path": "/c", "value": 5}],
            [{"op": "replace", "path": "/k", "value": "x" * 4_300_000}],
        ]
        if algorithm == "lww":
            bad_edits.append([{"op": "@txt", "path": "/t", "value": [{"insert": "x"}]}])
        for bad in bad_edits:
            with pytest.raises(PatchError):
                await submit(doc_id, bad)
        await client.sync.settled(timeout=60)
        assert client.errors == []
        assert await server.state(doc_id) == {"b": {"n": 1}, "c": {"n": 1}}


# ---- every limit ---------------------------------------------------------------------------------


def test_every_limit_is_in_a_test_here() -> None:
    checked = {each.name for each in fields(Limits)} - NOT_OF_EDITS
    defaults = Limits()
    small = {name for name in checked if getattr(LIMITS, name) != getattr(defaults, name)}
    assert checked - small == {"max_frame_bytes", "max_ids_per_call"}


async def test_more_documents_than_one_call_may_name_are_subscribed_to() -> None:
    limits = Limits(max_ids_per_call=7)
    async with ServerFixture({"limits": limits}) as server:
        ann, bob = [await server.client(name, limits=limits) for name in ("ann", "bob")]
        ids = [f"d{number}" for number in range(20)]
        await ann.patches.track_docs(ids)
        await ann.sync.settled(timeout=60)
        for doc_id in ids:
            (await bob.open_doc(doc_id)).change(lambda draft: draft.update(a=1))
        await server.settled(60)
        for doc_id in ids:
            await ann.open_doc(doc_id)
        await server.settled(60)
        assert ann.errors == []
        await ann.patches.untrack_docs(ids)
        assert ann.errors == []


async def test_changes_fit_into_small_frames() -> None:
    limits = Limits(max_frame_bytes=8_000)
    async with ServerFixture({"limits": limits}) as server:
        client = await server.client(limits=limits, websocket=True)
        doc = await client.open_doc("plan")
        for number in range(10):
            doc.set({**doc.state, f"k{number}": "x" * 3_000})
        with pytest.raises(PatchError, match="bytes"):
            doc.change(lambda draft: draft.update(k="x" * 5_000))
        await require_committed(server, client, "plan")


async def test_a_server_with_smaller_limits_sets_the_change_aside_and_the_rest_goes_on() -> None:
    async with ServerFixture({"limits": Limits(max_change_bytes=1_000)}) as server:
        client = await server.client()
        doc = await client.open_doc("plan")
        doc.change(lambda draft: draft.update(a=1))
        await client.sync.settled(timeout=60)
        doc.change(lambda draft: draft.update(k="x" * 2_000))
        doc.change(lambda draft: draft.update(b=2))
        with pytest.raises(ChangeRefusedError):
            await client.sync.settled(timeout=60)
        entries = await client.patches.list_quarantined_changes("plan")
        assert [entry.doc_id for entry in entries] == ["plan"]
        assert isinstance(entries[0].change, Change)
        await client.patches.discard_quarantined_change("plan", entries[0].change_id)
        await client.sync.settled(timeout=60)
        assert doc.state == await server.state("plan") == {"a": 1, "b": 2}

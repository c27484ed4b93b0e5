"""`/metrics`: what Prometheus reads."""

from __future__ import annotations

import builtins
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from prometheus_client.parser import text_string_to_metric_families

from patches.errors import InvalidRequestError
from patches.limits import Limits
from patches_server.auth.access import allow_all
from patches_server.http.app import SERVER, create_app
from patches_server.service.fanout.outbox import Event
from patches_server.service.stats import LATENCY_BOUNDS, Latencies


async def figures(client: TestClient[Any, Any]) -> dict[str, float]:
    answer = await client.get("/metrics")
    assert answer.status == 200
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(await answer.text())
        for sample in family.samples
    }


async def call(ws: Any, method: str, *params: Any) -> Any:
    await ws.send_json({"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)})
    while (answer := await ws.receive_json(timeout=5)).get("id") != 7:
        pass
    return answer


def change(change_id: str, path: str = "/a") -> dict[str, Any]:
    return {"id": change_id, "ops": [{"op": "replace", "path": path, "value": 1}]}


async def test_the_figures_of_a_server_at_work(aiohttp_client: Any) -> None:
    app = create_app(auth=allow_all, metrics=True, relay=False)
    client = await aiohttp_client(app)
    assert (await figures(client))["patches_connections"] == 0
    async with client.ws_connect("/ws") as ann, client.ws_connect("/ws") as bob:
        await call(bob, "subscribe", ["plan", "lww/board"])
        await call(ann, "commitChanges", "plan", [change("c1")])
        await call(ann, "commitChanges", "plan", [change("c2")])
        await call(ann, "commitChanges", "lww/board", [change("c3")])
        await call(ann, "commitChanges", "plan", [change("c4", path="no pointer")])
        await call(ann, "nothing")
        shown = await figures(client)
    assert shown["patches_connections"] == 2
    assert shown["patches_subscriptions"] == 2
    assert shown["patches_commit_seconds_count ot"] == 2
    assert shown["patches_commit_seconds_count lww"] == 1
    assert shown["patches_commit_seconds_bucket ot +Inf"] == 2
    assert shown["patches_broadcast_frames_total"] == 3
    assert shown["patches_errors_total 400"] == 1
    assert shown["patches_errors_total -32000"] == 1
    assert shown["patches_queue_drops_total"] == 0
    assert shown["patches_unappliable_total"] == 0
    assert shown["patches_clock_jumps_total"] == 0


async def test_a_slow_reader_that_is_dropped_is_counted(aiohttp_client: Any) -> None:
    app = create_app(auth=allow_all, metrics=True, limits=Limits(max_response_buffer_msgs=2))
    client = await aiohttp_client(app)
    session = app[SERVER].connect()
    for _ in range(4):
        session.outbox.put(Event("m", b"{}"))
    session.end()
    assert (await figures(client))["patches_queue_drops_total"] == 1


async def test_an_unappliable_change_is_counted_once(aiohttp_client: Any) -> None:
    app = create_app(auth=allow_all, metrics=True, relay=False)
    client = await aiohttp_client(app)
    async with client.ws_connect("/ws") as ws:
        await call(ws, "commitChanges", "plan", [change("c1", path="/number")])
        await call(ws, "commitChanges", "plan", [change("c2", path="/number/below")])
        for _ in range(3):
            await call(ws, "createVersion", "plan", {"name": "now"})
            await app[SERVER].router.services["ot"].documents.capture_current_version("plan")
    assert (await figures(client))["patches_unappliable_total"] == 1


async def test_a_leap_of_the_clock_is_counted_once_for_all_algorithms(aiohttp_client: Any) -> None:
    app = create_app(auth=allow_all, metrics=True)
    client = await aiohttp_client(app)
    for services in app[SERVER].router.services.values():
        services.documents.clock.jumps = 1  # type: ignore[attr-defined]  # both have one
    assert (await figures(client))["patches_clock_jumps_total"] == 1


async def test_without_the_option_there_is_no_such_page(aiohttp_client: Any) -> None:
    client = await aiohttp_client(create_app(auth=allow_all))
    assert (await client.get("/metrics")).status == 404


def test_without_the_package_the_option_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("prometheus_client"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InvalidRequestError, match=r"patches-sync\[metrics\]"):
        create_app(auth=allow_all, metrics=True)


def test_latencies_fall_into_their_classes() -> None:
    latencies = Latencies()
    for seconds in (0.0005, 0.001, 0.0011, 99.0):
        latencies.add(seconds)
    assert (latencies.counts[0], latencies.counts[1], latencies.counts[-1]) == (2, 1, 1)
    assert len(latencies.counts) == len(LATENCY_BOUNDS) + 1
    assert round(latencies.total_s, 4) == 99.0026

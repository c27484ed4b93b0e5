"""Every scenario runs twice: the server runs the actions, or those who commit them do."""

from __future__ import annotations

import pytest

from tests.replay.world import World

SERVER, CLIENT = "server_runs", "client_runs"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{SERVER}: the server of the test runs the actions")
    config.addinivalue_line("markers", f"{CLIENT}: the clients of the test run the actions")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "mode" in metafunc.fixturenames:  # it has runners of its own
        metafunc.parametrize("runner", ["server"], indirect=True, ids=[""])
        return
    marked = {mark.name for mark in metafunc.definition.iter_markers()}
    runners = (["server"] if CLIENT not in marked else []) + (
        ["client"] if SERVER not in marked else []
    )
    metafunc.parametrize("runner", runners, indirect=True)


@pytest.fixture(autouse=True)
def runner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who runs the actions in this test."""
    name: str = request.param
    monkeypatch.setattr(World, "runner", name)
    return name

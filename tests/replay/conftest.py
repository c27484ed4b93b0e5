"""Every scenario runs twice: the server runs the actions, or those who commit them do."""

from __future__ import annotations

import pytest

from tests.replay.world import World

SERVER = "server_runs"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{SERVER}: the server of the test runs the actions")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    is_server_run = any(metafunc.definition.iter_markers(SERVER))
    runners = ["server"] if is_server_run else ["server", "client"]
    metafunc.parametrize("runner", runners, indirect=True)


@pytest.fixture(autouse=True)
def runner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who runs the actions in this test."""
    name: str = request.param
    monkeypatch.setattr(World, "runner", name)
    return name

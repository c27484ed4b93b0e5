"""The scenes of the coordinator run over each algorithm that they do not depend on.

A test that looks into the algorithm of its scene, or arranges what that does, runs over the small
one alone; every other runs over OT and LWW as well.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest

from tests.support.sync_scene import SCENE_ALGORITHM

_DEPENDS = ("algorithm", "Algorithm", "LogServer", "HeadGated")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    source = inspect.getsource(metafunc.function)
    if "sync_scene(" in source and not any(word in source for word in _DEPENDS):
        metafunc.fixturenames.append("scene_algorithm")
        metafunc.parametrize("scene_algorithm", ("small", "ot", "lww"), indirect=True)


@pytest.fixture
def scene_algorithm(request: pytest.FixtureRequest) -> Iterator[str]:
    """Makes `sync_scene` use documents of one algorithm."""
    token = SCENE_ALGORITHM.set(request.param)
    yield request.param
    SCENE_ALGORITHM.reset(token)

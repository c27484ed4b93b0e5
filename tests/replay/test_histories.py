"""Properties over random histories: 200 in a run of the tests, 2,000 in the long one."""

from __future__ import annotations

import pytest

from tests.replay.histories import History

SCENES = [("server", False), ("server", True), ("client", False), ("client", True)]


@pytest.mark.parametrize(("mode", "private"), SCENES)
async def test_40_random_histories_converge_and_keep_the_rules(mode: str, private: bool) -> None:
    for seed in range(50):
        await lived(seed, mode, private=private)


@pytest.mark.long
@pytest.mark.parametrize(("mode", "private"), SCENES)
async def test_40_many_random_histories(mode: str, private: bool) -> None:
    for seed in range(50, 550):
        await lived(seed, mode, private=private)


async def lived(seed: int, mode: str, *, private: bool) -> None:
    try:
        await History(seed, mode, private=private).run()
    except AssertionError as error:
        raise AssertionError(f"seed {seed}, {mode}, private {private}: {error}") from error

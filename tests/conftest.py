"""What every test shares: where the recordings are, and no silent skips where that is asked for."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import conformance
from tests.support import redis as redis_support
from tests.support.postgres import FAST, MISSING, PostgresServer, binaries, running_postgres

_ROOT = Path(__file__).parent.parent

# The same examples in every run. HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, max_examples=1_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # A shell starts what runs in the background so, and the programs of tests would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    conformance.register(config)  # here, not beside the cases: xdist's controller reads only this


#: Folders and files whose tests take seconds each: `make test-quick` leaves them out.
LONG = (
    "browser/",
    "cli/",
    "client/test_shared_file.py",
    "collections/test_end_to_end.py",
    "collections/test_killed_server.py",
    "collections/test_planted_bugs.py",
    "collections/test_scenarios_server.py",
    "collections/test_scenarios_size.py",
    "durability/",
    "examples/",
    "interop/",
    "replay/",
    "security/test_hostile_frames.py",
    "security/test_load.py",
    "security/test_turns.py",
    "server/bus/",
    "server/cli/test_config.py",
    "server/cli/test_main.py",
    "server/cli/test_tokens.py",
    "server/cli/test_unix_socket.py",
    "server/collections/engines/test_postgres.py",
    "server/collections/engines/test_postgres_conditions.py",
    "server/http/test_asgi.py",
    "server/lww/stores/test_postgres.py",
    "server/ot/stores/test_postgres.py",
    "server/service/test_cluster.py",
    "server/service/test_commit_at_once.py",
    "server/stores/postgres/",
    "simulation/",
    "soak/",
    "sync/test_history.py",
    "sync/test_one_check.py",
    "sync/test_refused_end_to_end.py",
    "testing/test_pytest_plugin.py",
    "traces/",
    "typing/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        path = item.path.relative_to(_ROOT / "tests").as_posix()
        if path.startswith(LONG):
            item.add_marker(pytest.mark.long)


@pytest.fixture(scope="session")
def traces_dir() -> Path:
    """The folder of recorded editing sessions; the test is skipped where there is none."""
    folder = Path(os.environ.get("PATCHES_TRACES_DIR", _ROOT.parent / "shared" / "traces"))
    if not folder.is_dir():
        pytest.skip(f"no recorded sessions in {folder}: set PATCHES_TRACES_DIR")
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of this test process; the test is skipped where it is not installed."""
    if binaries() is None:
        pytest.skip(MISSING)
    with running_postgres(*FAST) as server:
        yield server


@pytest.fixture(scope="session")
def redis() -> Iterator[redis_support.RedisServer]:
    """A Redis of this test process; the test is skipped where it is not installed."""
    if not redis_support.is_installed():
        pytest.skip(redis_support.MISSING)
    with redis_support.running_redis() as server:
        yield server


@pytest.fixture
async def postgres_url(postgres: PostgresServer) -> AsyncIterator[str]:
    """The URL of a database with our schema and no documents, of this test alone."""
    url = await postgres.create_database()
    yield url
    await postgres.drop_database(url)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With PATCHES_FAIL_ON_SKIP set, a run that skipped a test has failed."""
    if not os.environ.get("PATCHES_FAIL_ON_SKIP") or exitstatus != 0:
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED

"""What the suites of recorded cases share."""

from __future__ import annotations

import pytest

from tests.support.conformance import ConformanceTally, tally_of


@pytest.fixture
def conformance(request: pytest.FixtureRequest) -> ConformanceTally:
    """Runs and counts recorded cases."""
    return tally_of(request.config)

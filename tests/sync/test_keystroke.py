"""How much code one keystroke passes, from the edit to the other client's subscriber.

The counts do not depend on the machine. The bounds are a tenth above what was counted when they
were set; `python -m benchmarks.keystroke --modules` says where the calls are. Lower them with what
you save.
"""

from __future__ import annotations

import pytest

from benchmarks.keystroke import measure

#: Calls and modules.
BOUNDS = {"ot": (540, 97), "lww": (660, 97)}


@pytest.mark.interpreted  # what is compiled is not counted
@pytest.mark.parametrize("algorithm", BOUNDS)
def test_a_keystroke_passes_no_more_code_than_it_did(algorithm: str) -> None:
    passage = measure(algorithm)
    calls, modules = BOUNDS[algorithm]
    assert passage.calls <= calls
    assert passage.modules <= modules

"""What `import patches` loads."""

from __future__ import annotations

import subprocess
import sys

_LOADED = "import sys, patches; print(*sorted(m for m in sys.modules if '.' not in m))"


def test_aiohttp_is_imported_with_the_first_websocket_alone() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "patches" in loaded
    assert {"aiohttp", "yarl", "multidict", "click", "jsonpatch"}.isdisjoint(loaded)

"""One server process: `python -m benchmarks.peers.serve NAME '{"dir": ...}'`.

Says `{"ready": true, "port": N}` and stays until it is killed.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from typing import Any

from benchmarks.peers.common import report


async def main(name: str, params: dict[str, Any]) -> None:
    module = importlib.import_module(f"benchmarks.peers.{name}")
    port, _kept = await module.start_server(params)
    report({"ready": True, "port": port, "pid": os.getpid()})
    await asyncio.Event().wait()


if __name__ == "__main__":
    if os.environ.get("PATCHES_BENCH_UVLOOP"):
        import uvloop

        uvloop.run(main(sys.argv[1], json.loads(sys.argv[2])))
    else:
        asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))

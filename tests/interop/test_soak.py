"""Random edits over sockets that are cut (`soak.py`), a few rounds of each kind.

`INTEROP_ROUNDS` says how many; `make interop` runs many.
"""

from __future__ import annotations

import os

import pytest

from tests.interop.soak import Setting, rounds

ROUNDS = int(os.environ.get("INTEROP_ROUNDS", "4"))

KINDS = {
    "ot, original": Setting(algorithm="ot"),
    "ot, original and ours": Setting(algorithm="ot", originals=2, ours=2),
    "lww, original": Setting(),
    "lww, original, answers that store nothing": Setting(idle=0.3, cuts=False),
    "lww, original and ours": Setting(originals=2, ours=2),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_all_end_equal_to_the_server(kind: str) -> None:
    wrong = await rounds(KINDS[kind], ROUNDS, seed=1)
    assert not wrong, "\n".join(f"seed {seed}: {found}" for seed, found in wrong.items())

"""s68: every public name of both packages has a type that each type checker reads alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


@pytest.mark.parametrize("package", ["patches", "patches_server"])
def test_s68_every_public_name_has_a_known_type(package: str, tmp_path: Path) -> None:
    program = BIN / "basedpyright"
    if not program.exists():
        pytest.skip("basedpyright is not installed; it comes with the extra `test`")
    done = subprocess.run(
        [str(program), "--verifytypes", package, "--ignoreexternal", "--outputjson"],
        cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False,
        env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
    )  # fmt: skip
    found = json.loads(done.stdout)["typeCompleteness"]
    unclear = [
        f"{each['name']}: {', '.join(said['message'] for said in each['diagnostics'])}"
        for each in found["symbols"]
        if not each["isTypeKnown"] or each["isTypeAmbiguous"]
    ]
    assert unclear == []
    assert found["exportedSymbolCounts"]["withKnownType"] > 3_000
    assert found["completenessScore"] == 1

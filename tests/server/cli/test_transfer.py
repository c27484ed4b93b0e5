"""`patches-server export` and `import`: a document and its history, to a file and back."""

from __future__ import annotations

import asyncio
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from patches_server import allow_all, create_server
from patches_server.cli.main import main


def store_of(folder: Path, name: str) -> str:
    return f"sqlite:////{str(folder)[1:]}/{name}"


def write(name: str, draft: Any) -> None:
    draft[name] = int(name[1:])


async def fill(store: str) -> None:
    async with create_server(store, auth=allow_all) as server:
        for name in ("n0", "n1", "n2"):
            await server.edit("plan", partial(write, name))
        await server.edit("lww/poll", lambda draft: draft.update(votes=2))


async def read(store: str, doc_id: str) -> tuple[Any, int]:
    async with create_server(store, auth=allow_all) as server:
        state = await server.read(doc_id)
        page = await server.list(doc_id)
        return state, next((item.rev for item in page.items if item.doc_id == doc_id), 0)


@pytest.mark.parametrize("doc_id", ["plan", "lww/poll"])
def test_a_document_goes_to_a_file_and_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], doc_id: str
) -> None:
    here, there = store_of(tmp_path, "here.db"), store_of(tmp_path, "there.db")
    asyncio.run(fill(here))
    file = str(tmp_path / "plan.export")
    assert main(["export", "--store", here, doc_id, file]) == 0
    assert main(["import", "--store", there, file]) == 0
    assert capsys.readouterr().err.endswith(f"{doc_id} is imported\n")
    state, rev = asyncio.run(read(there, doc_id))
    assert (state, rev) == asyncio.run(read(here, doc_id))
    assert main(["import", "--store", there, file]) == 1
    assert "exists" in capsys.readouterr().err
    assert main(["import", "--store", there, "--restore", file]) == 0
    assert main(["import", "--store", there, "--as", f"{doc_id}-2", file]) == 0
    assert asyncio.run(read(there, f"{doc_id}-2"))[0] == state


def test_the_state_alone_goes_to_standard_output(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    here = store_of(tmp_path, "here.db")
    asyncio.run(fill(here))
    assert main(["export", "--store", here, "--no-history", "plan"]) == 0
    sys.stdout.flush()
    header, state, end = map(json.loads, capfdbinary.readouterr().out.splitlines())
    assert (header["docId"], header["history"]) == ("plan", False)
    assert state == {"state": {"n0": 0, "n1": 1, "n2": 2}}
    assert end["end"]["records"] == 1


def test_what_cannot_be_is_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, file = store_of(tmp_path, "here.db"), tmp_path / "plan.export"
    asyncio.run(fill(here))
    assert main(["export", "--store", here, "nobody", str(file)]) == 1
    assert capsys.readouterr().err == "patches-server export: document 'nobody' does not exist\n"
    assert list(tmp_path.glob("*plan*")) + list(tmp_path.glob(".*plan*")) == []
    assert main(["export", "--store", here, "plan", str(file)]) == 0
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    capsys.readouterr()
    assert main(["import", "--store", here, "--as", "other", str(file)]) == 1
    assert capsys.readouterr().err.startswith("patches-server import: ")
    assert asyncio.run(read(here, "other")) == ({}, 0)
    assert main(["import", "--store", here, str(tmp_path / "gone")]) == 1

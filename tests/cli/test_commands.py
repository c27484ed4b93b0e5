"""The command `patches`: what each command does, prints, and ends with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Run, Served

NOBODY = ("--server", "ws://127.0.0.1:1/ws")


def made(run: Run, doc_id: str, state: str = '{"title": "Plan", "n": 1}') -> str:
    assert run("set", "--create", doc_id, "", state) == (0, "", "")
    return doc_id


def test_what_was_set_is_on_the_server(run: Run, tmp_path: Path) -> None:
    plan = made(run, "a/plan")
    assert run("set", plan, "/n", "5")[0] == 0
    other = ("--store", str(tmp_path / "other.db"))
    assert json.loads(run(*other, "cat", plan)[1]) == {"title": "Plan", "n": 5}
    assert run(*other, "cat", plan, "/n") == (0, "5\n", "")
    assert run(*other, "cat", plan, "/title", "--text") == (0, "Plan\n", "")
    assert json.loads(run("cat", plan, "/n", "--rev", "1")[1]) == 1
    (tmp_path / "value.json").write_text('["x"]')
    assert run("set", plan, "/list", f"@{tmp_path / 'value.json'}")[0] == 0
    assert run("--json", "cat", plan, "/list")[1] == '["x"]\n'


def test_a_document_that_is_not_there_is_named_and_leaves_nothing(run: Run) -> None:
    made(run, "b/plan")
    status, out, err = run("cat", "b/plam")
    assert (status, out) == (3, "")
    assert err == "patches cat: document 'b/plam' does not exist; did you mean 'b/plan'?\n"
    assert run("set", "b/nothing", "/a", "1")[0] == 3
    assert "nothing" not in run("ls")[1]
    assert run("cat", "b/plan", "/nowhere")[::2] == (
        3, "patches cat: document 'b/plan' has nothing at /nowhere\n",
    )  # fmt: skip


def test_it_works_offline_and_sends_later(run: Run, tmp_path: Path) -> None:
    plan = made(run, "c/plan")
    assert run("--offline", "set", plan, "/n", "7") == (0, "", "")
    [row] = [json.loads(line) for line in run("--offline", "--json", "ls", "c/")[1].splitlines()]
    assert row == {"doc_id": plan, "algorithm": "ot", "rev": 1, "unsent": 1}
    status, _, err = run(*NOBODY, "set", plan, "/m", "8")
    assert status == 5
    assert "stored here, to be sent by a later command: nothing listens on 127.0.0.1:1" in err
    assert "connect(" not in err
    assert "m" in json.loads(run("--offline", "diff", plan, "--rfc6902")[1])[1]["path"]
    assert run("status")[0] == 0  # a command with a connection sends what is left
    assert run("cat", plan, "/n")[0] == 0
    other = ("--store", str(tmp_path / "other.db"))
    assert json.loads(run(*other, "cat", plan)[1])["m"] == 8


def test_history(run: Run) -> None:
    plan = made(run, "d/plan")
    assert run("set", plan, "/n", "2")[0] == 0
    assert '-  "n": 1' in run("diff", plan, "1", "2")[1]
    assert json.loads(run("diff", plan, "1", "--rfc6902")[1])[0]["value"] == 2
    [moment] = [json.loads(line) for line in run("--json", "log", plan)[1].splitlines()]
    assert (moment["rev"], moment["authors"]) == (2, ["ann"])
    assert run("restore", plan, "1")[0] == 0
    assert run("cat", plan, "/n")[1] == "1\n"
    made(run, "d/text", '{"body": {"ops": [{"insert": "Hello\\n"}]}}')
    assert run("cat", "d/text", "/body", "--text")[1].startswith("Hello\n")
    assert "ann" in run("blame", "d/text", "/body")[1]


def test_copies_exports_and_deletions(run: Run, tmp_path: Path) -> None:
    plan, file = made(run, "e/plan"), str(tmp_path / "plan.export")
    assert run("cp", plan, "e/copy")[0] == 0
    assert run("cp", plan, "e/copy")[::2] == (4, "patches cp: document 'e/copy' exists\n")
    assert run("export", plan, file)[0] == 0
    assert run("import", file, "--as", "e/back")[0] == 0
    assert json.loads(run("cat", "e/back")[1]) == {"title": "Plan", "n": 1}
    assert run("import", file)[0] == 4
    Path(file).write_bytes(Path(file).read_bytes()[:-9])
    assert run("import", file, "--as", "e/cut")[0] == 1
    assert run("rm", "e/back", "--yes")[0] == 0
    assert run("cat", "e/back")[0] == 3
    listed = [
        json.loads(line)["doc_id"]
        for line in run("--json", "ls", "--remote", "e/")[1].split("\n")[:-1]
    ]
    assert listed == ["e/copy", "e/plan"]


def test_what_the_server_refuses_is_set_aside_and_can_be_seen(run: Run) -> None:
    status, _, err = run("set", "--create", "no/plan", "", '{"a": 1}')
    assert (status, err) == (4, "patches set: not here\n")
    assert run("status")[0] == 7
    [row] = [json.loads(line) for line in run("--json", "quarantine", "list")[1].splitlines()]
    assert (row["doc_id"], row["reason"]) == ("no/plan", "not here")
    shown = json.loads(run("quarantine", "show", "no/plan", row["change_id"])[1])
    assert shown["ops"][0]["value"] == {"a": 1} or shown["ops"][0]["path"] == "/a"
    assert run("quarantine", "retry", "no/plan", row["change_id"])[0] == 4
    assert run("quarantine", "discard", "no/plan", row["change_id"], "--yes")[0] == 0
    assert run("quarantine", "show", "no/plan", row["change_id"])[0] == 3
    assert run("status")[0] == 0


def test_s53_each_exit_status_is_produced(run: Run, tmp_path: Path) -> None:
    assert run("set", "x", "/a", "not json")[0] == 2
    assert run("--token", "secret", "ls")[::2][0] == 2
    assert run("nonsense")[0] == 2
    assert run("set", "--create", "read/plan", "", "{}")[0] in (0, 4)
    assert run("set", "--create", "read/plan", "/a", "1")[0] == 4
    assert run(*NOBODY, "log", "a/plan")[0] == 5
    assert run("--offline", "log", "a/plan")[0] == 5
    assert run("--wait", "1", "set", "--create", "slow/plan", "/a", "1")[0] == 6
    (tmp_path / "token").write_text("wrong\n")
    assert run("--token-file", str(tmp_path / "token"), "ls", "--remote")[0] == 4
    (tmp_path / "token").write_text("secret\n")
    assert run("--token-file", str(tmp_path / "token"), "ls", "--remote")[0] == 0
    (tmp_path / "no.db").write_text("this is no database")
    assert run("--store", str(tmp_path / "no.db"), "ls")[0] == 1


def test_s53_errors_are_json_if_asked_for(run: Run) -> None:
    status, out, err = run("--json", "cat", "nobody")
    said = json.loads(err)
    assert (status, out) == (3, "")
    assert said.keys() == {"error", "message", "code", "hint"}
    assert (said["error"], said["code"]) == ("NotFoundError", 404)


def test_control_characters_of_a_document_do_not_reach_the_terminal(run: Run) -> None:
    made(run, "f/plan", json.dumps({"a": "\x1b[31mred"}))
    assert "\x1b" not in run("cat", "f/plan")[1]
    assert "\x1b" not in run("--json", "cat", "f/plan")[1]


@contextmanager
def program(*arguments: str, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command as a process, which is gone afterwards."""
    with subprocess.Popen(
        [sys.executable, "-m", "patches", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **environ},
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def test_s52_an_edit_held_open_is_merged_with_what_others_wrote(
    run: Run, tmp_path: Path, server: Served
) -> None:
    plan = made(run, "g/plan", '{"title": "Plan", "items": ["a", "b"], "n": 1}')
    editor = tmp_path / "editor.py"
    editor.write_text(
        "import pathlib, sys, time\n"
        f"here = pathlib.Path({str(tmp_path)!r})\n"
        "(here / 'open').touch()\n"
        "while not (here / 'go').exists(): time.sleep(0.05)\n"
        "file = pathlib.Path(sys.argv[1])\n"
        "text = file.read_text().replace('Plan', 'Party')\n"
        'file.write_text(text.replace(\'"b"\', \'"b", "mine"\'))\n'
    )
    other = ("--store", str(tmp_path / "other.db"))
    with program("edit", plan, EDITOR=f"{sys.executable} {editor}", VISUAL="") as holding:
        wait_for(tmp_path / "open")
        assert run(*other, "set", plan, "/items", '["theirs", "a", "b"]')[0] == 0
        assert run(*other, "set", plan, "/n", "2")[0] == 0
        (tmp_path / "go").touch()
        assert holding.communicate(timeout=30) == (b"", b"")
        assert holding.returncode == 0
    state = json.loads(run(*other, "cat", plan)[1])
    assert (state["title"], state["n"]) == ("Party", 2)
    assert {"theirs", "mine"} <= set(state["items"])


def test_an_edit_that_changes_nothing_sends_nothing_and_bad_json_keeps_the_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = made(run, "h/plan")
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "true")
    assert run("edit", plan) == (0, "", "")
    monkeypatch.setenv("EDITOR", "false")
    assert run("edit", plan)[0] == 1
    monkeypatch.setenv("EDITOR", "no-such-editor-here")
    assert "set EDITOR" in run("edit", plan)[2]
    monkeypatch.setenv("EDITOR", "sed -i s/}/]/")
    monkeypatch.setattr("click.confirm", lambda *_args, **_options: False)
    status, _, err = run("edit", plan)
    assert status == 1
    kept = Path(err.strip().rpartition(" ")[2])
    assert kept.read_text().rstrip().endswith("]")
    assert run("cat", plan, "/n")[1] == "1\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_s53_completion_offers_ids(run: Run, shell: str) -> None:
    made(run, "i/plan")
    assert "_PATCHES_COMPLETE" in run("completion", shell)[1]
    asked = {"bash": "patches cat i/", "zsh": "patches cat i/", "fish": "patches cat"}[shell]
    variables = {
        "_PATCHES_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": asked,
        "COMP_CWORD": {"fish": "i/"}.get(shell, "2"),
    }
    with program(**variables) as completing:
        assert b"i/plan" in completing.communicate(timeout=30)[0]


def test_watching_shows_each_update_and_ctrl_c_ends_it(run: Run, tmp_path: Path) -> None:
    plan = made(run, "j/plan")
    with program("--store", str(tmp_path / "watch.db"), "watch", plan, "/n") as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline() == b"1\n"
        assert run("set", plan, "/n", "2")[0] == 0
        assert watching.stdout.readline() == b"2\n"
        watching.send_signal(signal.SIGINT)
        assert watching.communicate(timeout=30)[1] == b"\npatches: interrupted\n"
        assert watching.returncode == 130


def test_a_reader_that_has_read_enough_is_no_error(run: Run, tmp_path: Path) -> None:
    plan = made(run, "k/plan", json.dumps({"long": ["x" * 100] * 10_000}))
    with program("cat", plan) as printing:
        assert printing.stdout is not None
        printing.stdout.read(10)
        printing.stdout.close()
        assert printing.stderr is not None
        assert printing.stderr.read() == b""
        assert printing.wait(30) == 0


def wait_for(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.05)

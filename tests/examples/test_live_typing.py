"""`examples/live_typing.py`: two typists and a watcher over real websockets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "live_typing.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLE), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )


def assert_all_equal(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": equal") == 4, done.stdout
    assert "edits/s" in done.stdout


def test_invented_sessions_end_equal_everywhere() -> None:
    assert_all_equal(run("--keys", "600", "--seed", "3"))


def test_recordings_end_equal_everywhere(traces_dir: Path) -> None:
    traces = [
        argument
        for name in ("sveltecomponent", "json-crdt-blog-post")
        for argument in ("--trace", str(traces_dir / f"{name}.json.gz"))
    ]
    assert_all_equal(run("--keys", "600", *traces))


def test_a_file_that_is_no_recording_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text("no")
    done = run("--trace", str(path), "--trace", str(path))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "broken.json" in done.stderr

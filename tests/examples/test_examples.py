"""Every example is a program that ends well, says what it should, and warns of nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

EXAMPLES = {
    "agent_edits_document.py": ["What is 6 times 7? 42", "Who edits this? You and I."],
    "board.py": [
        "5000 tasks on the board, 20 on a client",
        "ann sees her task first, before the server does: Urgent",
        "the guest deletes a task: only ann plans this board",
        "200 votes; the two top 20 are equal",
    ],
    "booking.py": [
        "desk: 7 have a seat, 3 have none",
        "website knows why 4 came to nothing: the course is full",
        "20 of 20 seats are taken; no device ever showed more",
        "equal",
    ],
    "chat_assistant.py": [
        "a forged answer: only user messages can be created",
        "the answer was shown in parts",
        "assistant: Milk, bread and a good book.",
    ],
    "comments.py": ["t0 is about '300 %': Really?", "authors of the report: ['author', 'job']"],
    "counter_lww.py": ["600 votes counted of 600, equal"],
    "custom_transport.py": ["carried {'text': 'over a new line'}"],
    "offline_notes.py": ["phone, offline: ['Call Ann'], connected: False", "equal"],
    "stream_while_typing.py": [
        "Everybody agreed to meet again on Monday and to bring cake",
        "all equal: True",
        "Minutes of Friday. Best Regards, Ann",
    ],
    "todo_actions.py": [
        "Ann, offline: ['Bread', 'Milk', 'Soap', 'Tea']",
        "Bob's add_todo@1: finish something first: there are 5",
        "after the merge: ['Bread', 'Milk', 'Milk', 'Soap', 'Tea']",
        "equal",
    ],
    "typed_dataclass.py": [
        "Moving 1 2027-01-31 3 Ask Ann for her van.",
        "{'id': 'van', 'done': False, 'due': '2027-01-31'}",
    ],
    "typed_dict.py": ["Moving ['van'] 3"],
    "typed_model.py": ["refused: True", "Rome 2027-01-08 {'place': 'Rome', 'ends': '2027-01-08'}"],
    "typed_struct.py": ["refused: /items/0/priority", "Plan(title='Moving'"],
    "presence_cursors.py": ["Ann's cursor moves to 12", "Ann sees ['Bob']", "Bob has left"],
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / name)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for line in EXAMPLES[name]:
        assert line in done.stdout


def test_every_example_has_a_test() -> None:
    there = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert there == {*EXAMPLES, "live_typing.py"}

"""Old words stay out: one word for one idea, the field's word where there is one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: What was said once, and what is said now. In code, its comments and messages, and in the docs.
EVERYWHERE = {
    r"\bpoison": "unappliable",
    r"\btrouble\b": "failure",
    r"\bfloored\b|is_floored": "is_skipped",
    r"\brestless\b": "has_work",
    r"\bthrown away\b": "dropped",
    r"\blets? go\b": "releases, untracks",
    r"\bhears?\b(?! from)": "receives, is notified",
    r"halves of pairs": "lone surrogates",
    r"[Ee]verybody may\b": "every call is allowed",
    r"values that are none\b": "invalid values",
    r"\b(store|route|method|document)s? that there (is|are)( not)?\b": "an unknown one",
    r"can be looked at\b": "is supported",
    r"Whether something is under way": "True if",
}
#: On the pages alone.
ON_PAGES = {
    r"\btold\b|\bheard\b": "is notified, is sent, is reported",
}
#: In code alone: as names.
IN_CODE = {
    r"\bAside\b": "Offloader",
    r"\bGate\b|\bis_dear\b|\bdear\b": "ConcurrencyLimit, is_expensive",
    r"\bHolds\b(?=[(\]:,])": "HeldBroadcasts",
    r"\bfolds\b": "transitions",
    r"\bstruck\b": "record_failure",
    r"\b_?[Kk]eeper\b": "gone with the object",
    r"\bKind\.LOOK\b|\bpulls_asked\b": "Kind.PULL, pulls_requested",
    r"_Patience\b|_Killer\b|\bproven\(": "ResponseDeadline, EarlierOverwrite, mark_healthy()",
    r"\bchance\b(?=\s*[=:]\s*(float|random))": "jitter",
    r"\bdef settle\b|\.settle\(": "wait_idle",
    r"\bthe original\b": "@dabble/patches 0.28.1",
    r"(?<!to )\btell(s|ing)?\b(?! (most|them|\w+ apart))|\btold\b": "notifies, reports, is sent",
    r"\b_?heard\b|\b_said\b|\b_owed\b": "received, states, recipients",
    r"\b_?looked_at\b|\b_look\b|\blook(s|ed|ing)? at\b": "checks, reads, visits",
}


def pages() -> Iterator[Path]:
    yield from (ROOT / "docs").rglob("*.md")
    yield ROOT / "README.md"


def product() -> Iterator[Path]:
    for package in ("patches", "patches_server"):
        for path in (ROOT / package).rglob("*.py"):
            if "testing" not in path.relative_to(ROOT).parts:
                yield path


def found(path: Path, words: dict[str, str]) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return [
        f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}: "
        f"{match.group()!r}, now {now!r}"
        for word, now in words.items()
        for match in re.finditer(word, text)
    ]


@pytest.mark.parametrize(
    ("paths", "words"), [(product, IN_CODE | EVERYWHERE), (pages, ON_PAGES | EVERYWHERE)]
)
def test_old_words_stay_out(paths: object, words: dict[str, str]) -> None:
    assert callable(paths)
    assert [line for path in paths() for line in found(path, words)] == []

"""What a document shows of itself in a log and in a notebook."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from patches import Patches


@pytest.mark.parametrize("algorithm", ["ot", "lww"])
async def test_a_representation_names_the_status_and_no_content(algorithm: str) -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("plan", algorithm=algorithm)
        assert repr(doc) == f"<Document 'plan' {algorithm} rev 0, unsynced, 0 unsent>"
        doc.set({"secret": "word"})
        assert repr(doc) == f"<Document 'plan' {algorithm} rev 0, unsynced, 1 unsent>"
        await doc.flush()
        assert repr(doc) == f"<Document 'plan' {algorithm} rev 0, unsynced, 1 unsent>"


class Checked(HTMLParser):
    """Collects tags and text, and whether all that is opened is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_48_a_notebook_shows_a_tree_of_escaped_values() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("<script>")
        doc.set({"<script>": "<script>alert(1)</script>", "list": [1, [2, {"a": None}]]})
        shown = Checked(doc._repr_html_())
        assert not shown.open
        assert shown.tags == {"div", "code", "details", "summary", "b"}
        assert "<script>alert(1)</script>" in shown.text
        assert "list: [2]" in shown.text


async def test_a_large_document_is_cut() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("large")
        doc.set({"rows": [{"n": number} for number in range(10_000)], "text": "x" * 10_000})
        html = doc._repr_html_()
        shown = Checked(html)
        assert not shown.open
        assert html.count("<b>") <= 200
        assert len(html) < 20_000

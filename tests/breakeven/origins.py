"""Renders a report, walks it, and names every figure that has no origin beside it."""

import re
from collections.abc import Collection, Iterator, Sequence
from html.parser import HTMLParser
from typing import Any

from tokenhour.breakeven.report.render import build_context, fill
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.records.verdict import Verdict

VOID = {"meta", "link", "br", "img", "input", "hr"}
FIGURES = {"td", "dd", "li", "caption", "figcaption", "p", "h1", "h2", "h3"}
"""Elements that say figures; `th` are names."""
SILENT = {"script", "style", "noscript", "code"}
RECORD = re.compile(r"\.(json|parquet)|tokenhour trace")
CAPTION = "Latency at p99 of 3 probes."


class Node:
    """An element with its children; text is among them as strings."""

    def __init__(self, tag: str, attributes: list[tuple[str, str | None]], parent: "Node | None") -> None:
        self.tag, self.parent = tag, parent
        self.attributes = {name: value or "" for name, value in attributes}
        self.children: list[Any] = []

    def all(self, *tags: str) -> "Iterator[Node]":
        """Yield every element below this one that is of one of these kinds."""
        for child in self.children:
            if isinstance(child, Node):
                if child.tag in tags:
                    yield child
                yield from child.all(*tags)

    def text(self, *, without: Collection[str] = ()) -> str:
        """Everything that it says, but for elements of some kinds."""
        parts = [c if isinstance(c, str) else c.text(without=without) for c in self.children if not _in(c, without)]
        return "".join(parts)

    def up(self, tag: str) -> Any:
        """Return the nearest element of a kind, this one included, or None."""
        return self if self.tag == tag else self.parent.up(tag) if self.parent else None


def _in(child: Any, tags: Collection[str]) -> bool:
    return isinstance(child, Node) and child.tag in tags


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = self.at = Node("", [], None)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, attrs, self.at)
        self.at.children.append(node)
        if tag not in VOID:
            self.at = node

    def handle_endtag(self, tag: str) -> None:
        assert self.at.tag == tag, f"</{tag}> closes <{self.at.tag}>"
        assert self.at.parent is not None
        self.at = self.at.parent

    def handle_data(self, data: str) -> None:
        self.at.children.append(data)


def parse(html: str) -> Node:
    """Parse a page whose every element is closed."""
    builder = _Builder()
    builder.feed(html)
    assert builder.at is builder.root
    return builder.root


def dangling(root: Node) -> list[str]:
    """Name the links within the page that lead nowhere."""
    ids = {node.attributes["id"] for node in _every(root) if "id" in node.attributes}
    links = [a.attributes["href"] for a in root.all("a")]
    return [link for link in links if link.startswith("#") and link[1:] not in ids]


def _every(node: Node) -> Iterator[Node]:
    for child in node.children:
        if isinstance(child, Node):
            yield child
            yield from _every(child)


def orphans(root: Node) -> tuple[int, list[str]]:
    """Return (figures looked at, those without an origin): no link and no record in the cell, its row or its column."""
    seen, found = 0, []
    for node in root.all(*FIGURES):
        said = node.text(without={*SILENT, *(FIGURES - {node.tag}), "table"})
        if not re.search(r"\d", said) or _is_number_of_its_line(node):
            continue
        seen += 1
        if not any(map(_leads, _beside(node))):
            found.append(" ".join(said.split()))
    return seen, found


def _is_number_of_its_line(node: Node) -> bool:
    row = node.up("tr") if node.tag == "td" else None
    return row is not None and "id" in row.attributes and node.text().strip("[]").isdigit()


def _leads(node: Node) -> bool:
    if node.tag in {"td", "th"} and RECORD.search(node.text()):
        return True
    links = [a for a in node.all("a") if a.attributes["href"] != "#inputs"]
    return bool(links) or any(RECORD.search(code.text()) for code in node.all("code"))


def _beside(node: Node) -> Iterator[Node]:
    """Yield what may hold an origin: the element, its row and its column's head, or the term of a description."""
    yield node
    if node.tag == "dd":
        yield from (one for one in node.parent.children if _in(one, {"dt"}))
    if node.tag != "td":
        return
    row, table = node.up("tr"), node.up("table")
    yield row
    if _is_input(row):
        # An input is an origin: its badge and source must stand in the row.
        assert all(cell.text().strip() for cell in row.all("td")), row.text()
        yield parse("<p><code>trace.json</code></p>")
    heads = next(table.all("thead"), None)
    cells = [c for c in row.children if _in(c, {"td", "th"})]
    if heads is not None:
        yield [*heads.all("th")][cells.index(node)]


def _is_input(row: Node) -> bool:
    return row.attributes.get("id", "").startswith("in-")


def page(verdict: Verdict, summaries: Sequence[Summary] = (), plots: Sequence[Any] = ()) -> str:
    """Render the HTML report of a verdict, with a caption for each run."""
    return fill("report.html.j2", build_context(verdict, summaries, plots, [(s.run, CAPTION, "data:,") for s in summaries]))

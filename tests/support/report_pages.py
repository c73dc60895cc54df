"""A report taken apart again, as a browser would: its tags, its text, and what it would load or run."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "circle", "line", "rect", "path"}


class Page(HTMLParser):
    """Every tag with its attributes, the text of each section, and whether tags close in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.sections: dict[str, str] = {}
        self.texts: list[str] = []
        self._open: list[str] = []
        self._section = ""
        self.feed(html)
        self.close()
        assert self._open == [], f"left open: {self._open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self.tags.append((tag, values))
        if tag == "section":
            self._section = values["aria-labelledby"]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attributes}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes another tag"
        if tag == "section":
            self._section = ""

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        self.sections[self._section] = self.sections.get(self._section, "") + data

    @property
    def text(self) -> str:
        """All of it on one line."""
        return " ".join(" ".join(self.texts).split())

    def section(self, name: str) -> str:
        """What one section says, on one line."""
        return " ".join(self.sections[name].split())

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)

    def dangers(self) -> list[str]:
        """What would run, or load anything; empty for a report."""
        found = [
            f"<{tag}>" for tag, _ in self.tags if tag in ("script", "iframe", "img", "link", "object", "embed", "base")
        ]
        for tag, attributes in self.tags:
            for name, value in attributes.items():
                if name.startswith("on") or name in ("style", "srcdoc", "action", "formaction"):
                    found.append(f"<{tag} {name}>")
                if name in ("src", "href", "xlink:href", "srcset", "data") and not re.fullmatch(r"#[a-z-]+", value):
                    found.append(f"<{tag} {name}={value!r}>")
        return found

"""YAML text to plain values, with the place of each: what error messages point at."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.composer import MaxDepthExceededError
from ruamel.yaml.error import MarkedYAMLError, StreamMark, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from runspec.errors import SpecError

Key = tuple[str | int, ...]
"""The path of a value: ("lora", "rank"), ("evaluation", "scorers", 0, "kind")."""

MOST_BYTES = 500_000
MOST_VALUES = 100_000
DEEPEST = 40
TEXTS = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")
"""What ruamel.yaml reads as more than text and a run file does not: dates, and a lone `=`."""


class Place(NamedTuple):
    """Where something is written, in the order of the file; what comes from the command line has line 0."""

    line: int
    column: int
    text: str
    """`run.yaml:3:1`, or `--set lora.rank=8`."""


@dataclass
class Document:
    """A run file's values, and where each key and each value is written."""

    path: str
    values: dict[str, Any] = field(default_factory=dict)
    keys: dict[Key, Place] = field(default_factory=dict)
    places: dict[Key, Place] = field(default_factory=dict)

    def place(self, key: Key) -> Place:
        """Where the value is written; if it is not, where the nearest section around it is."""
        while key and key not in self.places:
            key = key[:-1]
        return self.places.get(key, Place(0, 0, self.path))


def read_text(path: Path) -> str:
    """The run file's text.

    Raises:
        SpecError: no such file, a folder, not readable, too large, not UTF-8.
    """
    where = str(path)
    if path.is_dir():
        inside = [str(file) for file in sorted(path.glob("*.y*ml"))]
        fix = f"Name the file: {inside[0]}." if inside else "Name a run file; `guitarfish init` writes one."
        raise SpecError(f"{path} is a folder, not a run file.", where=where, fix=fix)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        others = sorted(file.name for file in path.parent.glob("*.y*ml"))
        fix = f"Write one with `guitarfish init {path}`."
        if others:
            fix = f"Did you mean {' or '.join(f'`{name}`' for name in others[:3])}?"
        elif not path.parent.is_dir():
            fix = f"Check the path: the folder {path.parent} does not exist either."
        raise SpecError(f"Run file {path} not found.", where=where, fix=fix) from None
    except OSError as error:
        fix = "Check the path and the file's permissions."
        raise SpecError(f"The run file cannot be read: {error.strerror}.", where=where, fix=fix) from None
    if len(content) > MOST_BYTES:
        what = f"The run file has {len(content):,} bytes; {MOST_BYTES:,} are allowed."
        raise SpecError(what, where=where, fix="Check that this is a run file, not a data file.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"The run file is not UTF-8 text: byte 0x{content[error.start]:02x} in line {line}."
        raise SpecError(what, where=f"{path}:{line}", fix="Save it as UTF-8.") from None


def parse(text: str, path: str) -> Document:
    """Read a run file's text.

    Raises:
        SpecError: a syntax error (with the line and a caret), a repeated key, an empty file, not a mapping.
    """
    document = Document(path)
    root = _compose(text, path)
    if root is None:
        raise SpecError("The run file is empty.", where=path, fix="Write one with `guitarfish init`.")
    if not isinstance(root, MappingNode):
        what = f"A run file is a mapping of keys to values; this one is {_shape(root)}."
        raise SpecError(what, where=f"{path}:1:1", fix="Start with `name: my-run`; see docs/reference.md.")
    document.values = _Reader(document).value(root, ())
    return document


def parse_value(text: str, place: str) -> Any:
    """The value of a `--set` override, read as YAML.

    Raises:
        SpecError: it is not YAML; the message shows where.
    """
    root = _compose(text, place)
    return None if root is None else _Reader(Document(place)).value(root, ())


def _shape(node: Node) -> str:
    return "a list" if isinstance(node, SequenceNode) else "a single value"


def _compose(text: str, path: str) -> Node | None:
    yaml = YAML(typ="safe", pure=True)
    yaml.max_depth = DEEPEST + 1
    yaml.composer.warn_double_anchors = False  # YAML allows an anchor's name to be used again
    try:
        node: Node | None = yaml.compose(text)
        return node
    except MaxDepthExceededError as error:
        raise _too_deep(f"{path}:{error.problem_mark.line + 1}") from None
    except MarkedYAMLError as error:
        raise _syntax_error(error, text, path) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"The character U+{error.character:04X} is not allowed in YAML."
        raise SpecError(what, where=f"{path}:{line}", fix="Remove it.") from None


def _too_deep(where: str) -> SpecError:
    what = f"The run file is nested more than {DEEPEST} levels deep."
    return SpecError(what, where=where, fix="Check the brackets, and that no alias contains itself.")


def _syntax_error(error: MarkedYAMLError, text: str, path: str) -> SpecError:
    mark, opened = error.problem_mark or error.context_mark, error.context_mark
    lines = text.splitlines() or [""]
    line = lines[mark.line] if mark.line < len(lines) else ""
    problem, fix = f"{error.problem}", "Correct this line, or its indentation."
    if "\t" in line[: len(line) - len(line.lstrip())]:
        problem, fix = "a tab is used for indentation", "Indent with spaces."
    elif opened and (opened.line, opened.column) != (mark.line, mark.column) and _at(lines, opened) in "[{'\"":
        fix = f"Close the {_at(lines, opened)} opened in line {opened.line + 1}."
    elif line.startswith("---"):
        problem, fix = "a second document starts here", "Keep one run in one file: remove the `---`."
    elif _at(lines, mark) == ":":
        problem, fix = "a `:` is not allowed here", "Put text that contains `: ` in quotes, and check the indentation."
    start = max(0, mark.column - 60)
    shown = line[start : start + 76].replace("\t", " ")
    excerpt = f"  {mark.line + 1:>4} | {shown}\n       | {' ' * (mark.column - start)}^"
    where = path if path.startswith("--set ") else f"{path}:{mark.line + 1}:{mark.column + 1}"
    return SpecError(f"Not valid YAML: {problem}.\n{excerpt}", where=where, fix=fix)


def _at(lines: list[str], mark: StreamMark) -> str:
    line = lines[mark.line] if mark.line < len(lines) else ""
    return line[mark.column] if mark.column < len(line) else "\n"


class _Reader:
    """Turns composed nodes into values, and notes where each is written."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.constructor = YAML(typ="safe", pure=True).constructor
        self.seen = 0

    def at(self, node: Node) -> Place:
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        return Place(line, column, f"{self.document.path}:{line}:{column}")

    def error(self, node: Node, what: str, fix: str) -> SpecError:
        return SpecError(what, where=self.at(node).text, fix=fix)

    def value(self, node: Node, key: Key) -> Any:
        self.seen += 1
        if len(key) > DEEPEST:
            raise _too_deep(self.at(node).text)
        if self.seen > MOST_VALUES:
            what = f"The run file has more than {MOST_VALUES:,} values."
            raise self.error(node, what, "Remove some; an alias (`*name`) counts as all that it repeats.")
        self.document.places[key] = self.at(node)
        if isinstance(node, MappingNode):
            return self.mapping(node, key)
        if isinstance(node, SequenceNode):
            return [self.value(item, (*key, index)) for index, item in enumerate(node.value)]
        return self.scalar(node)

    def scalar(self, node: Node) -> Any:
        if node.tag in TEXTS:
            return node.value
        try:
            value = self.constructor.construct_object(node)
            str(value).encode()  # an escape may write half a character: "\\ud800"
        except (YAMLError, ValueError):
            value = NotImplemented
        if value is None or isinstance(value, (str, bool, int, float)):
            return value
        what = f"{node.value!r} cannot be read as {str(node.tag).rpartition(':')[2]}."
        raise self.error(node, what, "Write it as plain text, a number, true, false or null.")

    def mapping(self, node: MappingNode, key: Key) -> dict[str, Any]:
        try:
            self.constructor.flatten_mapping(node)  # puts what `<<` refers to before the mapping's own keys
        except MarkedYAMLError as error:
            fix = "Refer to a mapping with `<<: *name`, once in each section."
            raise SpecError("`<<` cannot be read.", where=self.at(node).text, fix=fix) from error
        merged = len(getattr(node, "merge", None) or ())
        values: dict[str, Any] = {}
        first: dict[str, Place] = {}
        for number, (name_node, value_node) in enumerate(node.value):
            name = self.scalar(name_node) if isinstance(name_node, ScalarNode) else None
            if not isinstance(name, str):
                written = f"`{name_node.value}`" if isinstance(name_node, ScalarNode) else _shape(name_node)
                raise self.error(
                    name_node, f"A key must be text, not {written}.", "See docs/reference.md for the keys."
                )
            if name in first:
                what = f"Key `{name}` is repeated; it is first in line {first[name].line}."
                raise self.error(name_node, what, "Remove one of the two.")
            if number >= merged:
                first[name] = self.at(name_node)
            values[name] = self.value(value_node, (*key, name))
            self.document.keys[(*key, name)] = self.at(name_node)
            if value_node.value == "":  # marked where the next token begins
                self.document.places[(*key, name)] = self.at(name_node)
        return values

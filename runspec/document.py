"""YAML text to plain values, with the place of each: what error messages point at.

Scalars are read as YAML 1.2's core schema has them, not as PyYAML's 1.1: `2e-4` is a number, `on`, `off`, `yes` and
`no` are text, and dates stay text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from runspec.errors import SpecError

Key = tuple[str | int, ...]
"""Where a value stands: ("lora", "rank"), ("evaluation", "scorers", 0, "kind")."""

MOST_VALUES = 100_000
"""More than this many values is no run file: an alias that refers to itself, or aliases of aliases."""


@dataclass
class Document:
    """A run file's values, and where each key and each value was written.

    Attributes:
        path: the file as the user named it.
        values: mappings, lists and scalars.
        keys: place of the key itself, as text such as `run.yaml:3:1`.
        places: place of the value.
    """

    path: str
    values: dict[str, Any]
    keys: dict[Key, str] = field(default_factory=dict)
    places: dict[Key, str] = field(default_factory=dict)

    def place(self, key: Key) -> str:
        """Where the value stands; that of the nearest section around it if it is not written."""
        while key and key not in self.places:
            key = key[:-1]
        return self.places.get(key, self.path)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the implicit types of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


_NUMBER = "-+0123456789."
_TYPES: tuple[tuple[str, str, str], ...] = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", _NUMBER),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", _NUMBER),
    ("merge", r"<<", "<"),
)
for _name, _pattern, _first in _TYPES:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^$"), [""])


def read_text(path: Path) -> str:
    """The run file's text.

    Raises:
        SpecError: no such file, a folder, not readable, not UTF-8.
    """
    if path.is_dir():
        inside = sorted(path.glob("*.yaml")) + sorted(path.glob("*.yml"))
        fix = f"name the file: {inside[0]}" if inside else "give the path of a run file; `guitarfish init` writes one"
        raise SpecError(f"{path} is a folder, not a run file", where=str(path), fix=fix)
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise SpecError(f"there is no run file {path}", where=str(path), fix=_nearby(path)) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        what = f"the run file is not UTF-8 text: byte 0x{error.object[error.start]:02x} in line {line}"
        raise SpecError(what, where=f"{path}:{line}", fix="save it as UTF-8") from None
    except OSError as error:
        raise SpecError(f"the run file cannot be read: {error.strerror}", where=str(path)) from None


def _nearby(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"the folder {folder} does not exist either; check the path"
    others = sorted(found.name for found in folder.glob("*.y*ml"))
    if others:
        return f"in that folder there is {', '.join(others[:3])}"
    return f"`guitarfish init {path}` writes one"


def parse(text: str, path: str) -> Document:
    """Read a run file's text.

    Raises:
        SpecError: a syntax error (with the line and a caret), a key given twice, an empty file, not a mapping.
    """
    root = _compose(text, path)
    if root is None:
        fix = "`guitarfish init` writes a run file to start from"
        raise SpecError("the run file is empty", where=path, fix=fix)
    if not isinstance(root, yaml.MappingNode):
        what = f"a run file is a mapping of keys to values, this one is {_shape(root)}"
        raise SpecError(what, where=f"{path}:1:1", fix="start with `name: my-run`; see docs/reference.md")
    document = Document(path, {})
    document.values = _Reader(document, text).mapping(root, ())
    return document


def parse_value(text: str, place: str) -> Any:
    """The value of a `--set` override, read as YAML.

    Raises:
        SpecError: it is not YAML; the message shows where.
    """
    root = _compose(text, place)
    if root is None:
        return None
    document = Document(place, {})
    return _Reader(document, text).value(root, ())


def _shape(node: yaml.Node) -> str:
    return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"


def _compose(text: str, path: str) -> yaml.Node | None:
    loader = None
    try:
        loader = _Loader(text)
        node: yaml.Node | None = loader.get_single_node()
        return node
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, path) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"the character U+{error.character:04X} is not allowed in YAML"
        raise SpecError(what, where=f"{path}:{line}", fix="remove it") from None
    except RecursionError:
        raise SpecError("the run file is nested too deeply", where=path) from None
    finally:
        if loader is not None:
            loader.dispose()


def _syntax_error(error: yaml.MarkedYAMLError, text: str, path: str) -> SpecError:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return SpecError(f"not valid YAML: {error.problem}", where=path)
    problem, fix = _explain(error, text, mark)
    what = f"not valid YAML: {problem}\n{_excerpt(text, mark)}"
    where = path if path.startswith("--set ") else f"{path}:{mark.line + 1}:{mark.column + 1}"
    return SpecError(what, where=where, fix=fix)


def _explain(error: yaml.MarkedYAMLError, text: str, mark: yaml.Mark) -> tuple[str, str]:
    problem = error.problem or "cannot be read"
    line = _line(text, mark.line)
    if "\\t" in problem or "\t" in line[: len(line) - len(line.lstrip())]:
        return "a tab is used for indentation", "indent with spaces"
    if "mapping values are not allowed" in problem:
        return "a `:` where none may stand", "put text that holds `: ` in quotes, and check the indentation"
    opened = error.context_mark
    if opened is not None and opened.line != mark.line and "flow" in (error.context or ""):
        return problem, f"close the bracket that was opened in line {opened.line + 1}"
    if "quoted scalar" in (error.context or "") and opened is not None:
        return problem, f"close the quote that was opened in line {opened.line + 1}"
    if "expected <block end>" in problem:
        return "the indentation does not fit the lines above", "keys of one section start in the same column"
    if "single document" in (error.context or ""):
        return "a second document starts here", "keep one run in one file: remove the `---`"
    return problem, "mend the line that is shown"


def _line(text: str, number: int) -> str:
    lines = text.splitlines()
    return lines[number] if number < len(lines) else ""


def _excerpt(text: str, mark: yaml.Mark) -> str:
    start = max(0, mark.column - 60)
    shown = _line(text, mark.line)[start : start + 76].replace("\t", " ")
    return f"  {mark.line + 1:>4} | {shown}\n       | {' ' * (mark.column - start)}^"


class _Reader:
    """Turns composed nodes into values and notes where each was written."""

    def __init__(self, document: Document, text: str) -> None:
        self.document = document
        self.text = text
        self.constructor = yaml.constructor.SafeConstructor()
        self.seen = 0

    def at(self, node: yaml.Node) -> str:
        mark = node.start_mark
        return f"{self.document.path}:{mark.line + 1}:{mark.column + 1}"

    def value(self, node: yaml.Node, key: Key) -> Any:
        self.seen += 1
        if self.seen > MOST_VALUES or len(key) > 40:
            raise SpecError("the run file's aliases unfold without end", where=self.at(node), fix="remove the aliases")
        self.document.places[key] = self.at(node)
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, key)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*key, index)) for index, item in enumerate(node.value)]
        return self.scalar(node)

    def scalar(self, node: yaml.Node) -> Any:
        try:
            if node.tag == "tag:yaml.org,2002:int" and node.value.startswith("0o"):
                return int(node.value, 8)
            if node.tag == "tag:yaml.org,2002:int" and not node.value.startswith("0x"):
                return int(node.value)  # YAML 1.1 would read 010 as 8
            return self.constructor.construct_object(node)
        except (yaml.YAMLError, ValueError):
            fix = "write it as plain text, a number, true, false or null"
            raise SpecError(f"{node.value!r} cannot be read as {node.tag}", where=self.at(node), fix=fix) from None

    def mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        values: dict[str, Any] = {}
        written: dict[str, int] = {}
        merges = [pair for pair in node.value if pair[0].tag == "tag:yaml.org,2002:merge"]
        for _, merged in merges:
            for source in merged.value if isinstance(merged, yaml.SequenceNode) else [merged]:
                if not isinstance(source, yaml.MappingNode):
                    raise SpecError("`<<` takes a mapping", where=self.at(source), fix="refer to one with `*name`")
                values = {**self.mapping(source, key), **values}
        for name_node, value_node in node.value:
            if name_node.tag == "tag:yaml.org,2002:merge":
                continue
            name = self.name(name_node)
            if name in written:
                what = f"`{name}` is given twice, first in line {written[name]}"
                raise SpecError(what, where=self.at(name_node), fix="keep one of the two")
            written[name] = name_node.start_mark.line + 1
            values[name] = self.value(value_node, (*key, name))
            self.document.keys[(*key, name)] = self.at(name_node)
        return values

    def name(self, node: yaml.Node) -> str:
        value = self.scalar(node) if isinstance(node, yaml.ScalarNode) else None
        if not isinstance(value, str):
            written = f"`{node.value}`" if isinstance(node, yaml.ScalarNode) else _shape(node)
            raise SpecError(f"keys are names, {written} is not", where=self.at(node), fix="see docs/reference.md")
        return value

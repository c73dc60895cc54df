"""Make two data files from chatterbot-corpus: answers on subjects, and small talk to replay.

The corpus is dialogues, many with several answers to one question. Each line and the one after it become a row, as
ChatterBot itself learns them. Nothing is cleaned here: that is what the run file's curation is for.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import chatterbot_corpus
import yaml

HERE = Path(__file__).parent
CORPUS = Path(chatterbot_corpus.__file__).parent / "data" / "english"
SMALL_TALK = ("botprofile", "conversations", "emotion", "gossip", "greetings", "humor", "psychology")
"""Files that are talk for its own sake; the others have a subject."""


def rows_of(file: Path) -> list[dict[str, str]]:
    """The rows of one file of the corpus, in its order."""
    dialogues = yaml.safe_load(file.read_text(encoding="utf-8"))["conversations"]
    return [
        {"prompt": said, "completion": answer, "topic": file.stem}
        for lines in dialogues
        for said, answer in pairwise(lines)
    ]


def write(name: str, rows: list[dict[str, str]]) -> None:
    """One data file, as JSON lines."""
    folder = HERE / "data"
    folder.mkdir(exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / name).write_text(lines, encoding="utf-8")
    print(f"{name:18} {len(rows):5} rows")


def main() -> None:
    """Write data/ beside this file."""
    files = sorted(CORPUS.glob("*.yml"))
    write("subjects.jsonl", [row for file in files if file.stem not in SMALL_TALK for row in rows_of(file)])
    write("small-talk.jsonl", [row for file in files if file.stem in SMALL_TALK for row in rows_of(file)])


if __name__ == "__main__":
    main()

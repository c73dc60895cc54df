"""Make two data files from chatterbot-corpus: dialogues on subjects, and small talk to replay.

Many of the dialogues have several answers to one question. Each line and the next one become a row, as ChatterBot
itself learns them. Nothing is cleaned here: the run file's curation does that.
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
"""Files of small talk; the others have a subject."""


def rows_of(file: Path) -> list[dict[str, str]]:
    dialogues = yaml.safe_load(file.read_text(encoding="utf-8"))["conversations"]
    return [
        {"prompt": said, "completion": answer, "topic": file.stem}
        for lines in dialogues
        for said, answer in pairwise(lines)
    ]


def write(name: str, rows: list[dict[str, str]]) -> None:
    folder = HERE / "data"
    folder.mkdir(exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / name).write_text(lines, encoding="utf-8")
    print(f"{name:18} {len(rows):5} rows")


def main() -> None:
    files = sorted(CORPUS.glob("*.yml"))
    write("subjects.jsonl", [row for file in files if file.stem not in SMALL_TALK for row in rows_of(file)])
    write("small-talk.jsonl", [row for file in files if file.stem in SMALL_TALK for row in rows_of(file)])


if __name__ == "__main__":
    main()

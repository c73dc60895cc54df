"""Internal errors: the traceback goes to a file, and the user gets one line that names it."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

from runspec.secrets import redact


def report_fault(error: Exception) -> int:
    """Write the traceback to a file and say where; with GUITARFISH_DEBUG=1 show it instead. Returns the exit code."""
    if os.environ.get("GUITARFISH_DEBUG") == "1":
        sys.stderr.write(redact("".join(traceback.format_exception(error))))
        return 1
    lines = redact(str(error)).strip().splitlines()
    message = f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
    sys.stderr.write(
        f"internal error: {message}\n"
        f"  where: {_write(error)}\n"
        "  fix:   Please report it with that file. GUITARFISH_DEBUG=1 shows the traceback instead.\n"
    )
    return 1


def _write(error: Exception) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    head = f"guitarfish {' '.join(sys.argv[1:])}\nPython {platform.python_version()}, {platform.platform()}\n\n"
    text = redact(head + "".join(traceback.format_exception(error)))
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    for folder in (state / "guitarfish", Path(tempfile.gettempdir())):
        file = folder / f"guitarfish-fault-{stamp}-{os.getpid()}.log"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        except OSError:
            continue
        return file
    sys.stderr.write(text)
    return Path("above, no folder could be written")

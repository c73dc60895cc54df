"""The end of the demo: serve what was trained, ask base and tuned model the same unseen sentence, show the receipt."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.machine.cache import cache_folder
from runspec.load import load_run

HERE = Path(__file__).parent
RUN_FILE = HERE / "run.yaml"
GUITARFISH = (sys.executable, "-m", "guitarfish")
READY_SECONDS = 600


def free_port() -> int:
    """A free port, so that the demo can run next to another server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(port: int, flags: list[str]) -> Iterator[str]:
    """`guitarfish serve` in the background, its output in a file; stopped on exit."""
    log_file = cache_folder("logs") / "demo-serve.log"
    command = [*GUITARFISH, "serve", str(RUN_FILE), *flags, "--set", f"serving.port={port}"]
    with log_file.open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        began = time.monotonic()
        print(f"$ guitarfish serve {os.path.relpath(RUN_FILE)}    (log: {log_file})", flush=True)
        while "ready:" not in log_file.read_text():
            if process.poll() is not None or time.monotonic() - began > READY_SECONDS:
                sys.exit(f"error: The server did not start.\n{log_file.read_text()[-2000:]}\n  where: {log_file}")
            time.sleep(0.5)
        print(f"ready after {time.monotonic() - began:.0f} s", flush=True)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def last_run(store: str) -> str:
    listed = subprocess.run(
        [*GUITARFISH, "runs", "list", "--store", store, "--json"], stdout=subprocess.PIPE, check=True
    )
    return str(json.loads(listed.stdout)[0]["run_id"])


def main() -> None:
    """Serve, ask, show. The command line takes the same `--set KEY=VALUE` as `guitarfish train`."""
    flags = sys.argv[1:]
    spec = load_run(RUN_FILE, flags[1::2]).spec
    question = (HERE / "data" / "question.txt").read_text().strip()
    with server(free_port(), flags) as url:
        print(f'\n$ guitarfish ask base {spec.adapter_name} "{question}"', flush=True)
        asked = [*GUITARFISH, "ask", "--url", url, "--max-tokens", "48", "base", spec.adapter_name, question]
        subprocess.run([*asked, "--system", spec.data.system_prompt or ""], check=True)
    run_id = last_run(spec.store)
    print(f"\n$ guitarfish runs show {run_id}", flush=True)
    subprocess.run([*GUITARFISH, "runs", "show", run_id, "--store", spec.store], check=True)


if __name__ == "__main__":
    main()

"""What a new batch shape costs on a CPU: oneDNN compiles a kernel for each and keeps it.

    python benchmarks/cpu_shapes.py --longest 512

Runs the linear layers of a small model on batches of every length up to `--longest`, padded to multiples of 1, 8, 16
and 32 tokens, each in its own process, and prints how much its memory grew. A trainer uses these kernels on CPUs that
multiply bfloat16; here oneDNN is called directly, so that the result is the same on every CPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import psutil

MULTIPLES = (1, 8, 16, 32)
HIDDEN, INNER, BATCH = 576, 1536, 2


def grown(longest: int, multiple: int) -> dict[str, float]:
    """Memory and time that the lengths 8 to `longest` cost in this process, padded to a multiple."""
    import torch

    torch.set_num_threads(1)
    up, down = torch.randn(INNER, HIDDEN), torch.randn(HIDDEN, INNER)

    def forward(length: int) -> None:
        for weight, width in ((up, HIDDEN), (down, INNER)):
            torch.ops.mkldnn._linear_pointwise(torch.randn(BATCH, length, width), weight, None, "none", [], "")

    forward(longest + multiple)
    before, began, sizes = psutil.Process().memory_info().rss, time.monotonic(), set()
    for length in range(8, longest + 1):
        sizes.add(-(-length // multiple) * multiple)
        forward(-(-length // multiple) * multiple)
    return {
        "multiple": multiple,
        "kernels": 2 * len(sizes),
        "mib": (psutil.Process().memory_info().rss - before) / 2**20,
        "seconds": time.monotonic() - began,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory of oneDNN's kernels by the number of batch lengths.")
    parser.add_argument("--longest", type=int, default=512)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(grown(arguments.longest, arguments.child)))
        return
    results = []
    print(f"{'padded to':>10} {'kernels':>8} {'MiB':>6} {'MiB each':>9} {'seconds':>8}")
    for multiple in MULTIPLES:
        command = [sys.executable, __file__, "--longest", str(arguments.longest), "--child", str(multiple)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        results.append(found)
        each = found["mib"] / found["kernels"]
        print(f"{multiple:10} {found['kernels']:8} {found['mib']:6.0f} {each:9.2f} {found['seconds']:8.1f}")
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

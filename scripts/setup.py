"""Make .venv with everything in the lock: `make setup`. Needs nothing but Python 3.11 to 3.13; says what it does.

A stamp in .venv remembers what was installed, so that a second call returns at once.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "guitarfish-setup"
UV = "uv==0.13.9"
UV_OLDEST = (0, 8)
FREE_GIB = {"cpu": 8, "gpu": 20}
NETWORK_SIGNS = (
    "dns error",
    "name resolution",
    "connection refused",
    "connection reset",
    "could not connect",
    "error sending request",
    "failed to fetch",
    "network is unreachable",
    "timed out",
)


class SetupError(Exception):
    """Set-up cannot go on; the message says what to do."""


def main() -> int:
    """Install what is missing; 0 when the environment is as the lock says.

    With `--current` nothing is installed: 1 says that something is missing.
    """
    try:
        check_python(sys.version_info[:2])
        lock = ROOT / "locks" / f"{kind_of_machine()}.txt"
        wanted = fingerprint(lock)
        if STAMP.exists() and STAMP.read_text() == wanted and PYTHON.exists():
            return 0
        if "--current" in sys.argv[1:]:
            return 1
        install(lock, wanted)
    except SetupError as error:
        print(f"\nset-up stopped: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nset-up interrupted; call it again to go on", file=sys.stderr)
        return 130
    return 0


def check_python(version: tuple[int, int]) -> None:
    """Refuse a Python that the locks do not cover."""
    if not (3, 11) <= version < (3, 14):
        found = ".".join(str(part) for part in version)
        raise SetupError(
            f"this is Python {found} ({sys.executable}), the locks hold for 3.11 to 3.13.\n"
            "  fix: install one of them, and name it: make setup PYTHON=/path/to/python3.12"
        )


def kind_of_machine() -> str:
    """`gpu` where nvidia-smi lists a GPU, else `cpu`; GUITARFISH_LOCK overrides."""
    chosen = os.environ.get("GUITARFISH_LOCK")
    if chosen in ("cpu", "gpu"):
        return chosen
    if shutil.which("nvidia-smi") is None:
        return "cpu"
    try:
        answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "cpu"
    return "gpu" if answer.returncode == 0 and "GPU " in answer.stdout else "cpu"


def fingerprint(lock: Path) -> str:
    """What the environment depends on: the lock, pyproject.toml, the Python."""
    digest = hashlib.sha256()
    for file in (lock, ROOT / "pyproject.toml", Path(__file__)):
        digest.update(file.read_bytes())
    return f"{digest.hexdigest()} {lock.name} {sys.version.split()[0]} {ROOT}\n"


def install(lock: Path, wanted: str) -> None:
    """All steps, each shown with the time it took; the stamp is written last."""
    began = time.monotonic()
    kind = lock.stem
    print(f"Setting up .venv with Python {sys.version.split()[0]} and locks/{lock.name}", flush=True)
    check_disk(kind)
    warn_without_compiler()
    STAMP.unlink(missing_ok=True)
    if VENV.exists() and not same_python():
        step("Removing .venv, which has another Python", lambda: shutil.rmtree(VENV))
    uv = make_environment()
    install_command = [*uv, "pip", "install", "--python", str(PYTHON), "--no-deps"]
    # Compiled now, once: where PYTHONDONTWRITEBYTECODE is set, every Ray worker would compile 5,000 modules for itself.
    # With each call, because uv compiles what the call installs and nothing else.
    compiled = [*install_command, "--compile-bytecode"]
    if kind == "cpu":
        step(f"Installing torch {torch_version()} for CPU", lambda: install_cpu_torch(compiled))
    locked = [*compiled, "--require-hashes", "-r", str(lock)]
    step(f"Installing {count(lock)} packages at the versions of locks/{lock.name}", lambda: download(locked))
    own = [*install_command, "--no-build-isolation", "--editable", str(ROOT)]
    step("Installing guitarfish itself, editable", lambda: download(own))
    step("Looking whether torch imports", look)
    STAMP.write_text(wanted)
    print(f"Done in {time.monotonic() - began:.0f} s. Try: .venv/bin/guitarfish doctor", flush=True)


def check_disk(kind: str) -> None:
    """Stop before the disk is full rather than when it is."""
    free = shutil.disk_usage(ROOT).free / 2**30
    if free < FREE_GIB[kind]:
        raise SetupError(
            f"{free:.1f} GiB are free on the disk of {ROOT}, the {kind} packages need {FREE_GIB[kind]}.\n"
            "  fix: free some space, or clone to another disk"
        )


def warn_without_compiler() -> None:
    """Nothing in the locks is compiled here today, but torch.compile and packages without a wheel need one."""
    if not any(shutil.which(name) for name in (os.environ.get("CC") or "cc", "gcc", "clang")):
        print("  warning: no C compiler (cc, gcc, clang). Packages without a wheel for this machine cannot be built,\n"
              "           and torch.compile is off. fix: install one, for example: apt install gcc g++")  # fmt: skip


def same_python() -> bool:
    """Whether .venv was made with the Python that runs this."""
    config = VENV / "pyvenv.cfg"
    found = re.search(r"^version(?:_info)? *= *(\d+\.\d+)", config.read_text(), re.M) if config.exists() else None
    return found is not None and found[1] == "{}.{}".format(*sys.version_info[:2]) and PYTHON.exists()


def make_environment() -> list[str]:
    """Make .venv, with uv in it unless uv is on the PATH; the command that starts uv."""
    on_path = shutil.which("uv")
    if on_path and uv_version(on_path) >= UV_OLDEST:
        if not PYTHON.exists():
            make = [on_path, "venv", "--quiet", "--python", sys.executable, str(VENV)]
            step("Making .venv with the uv on your PATH", lambda: download(make))
        return [on_path]
    if not PYTHON.exists():
        step("Making .venv", lambda: run_venv())
    own = VENV / "bin" / "uv"
    if not own.exists():
        if not (VENV / "bin" / "pip").exists():  # made by a uv that is gone
            step("Installing pip into it", lambda: download([str(PYTHON), "-m", "ensurepip", "--default-pip"]))
        pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV]
        step(f"Installing {UV.replace('==', ' ')} into it", lambda: download(pip))
    return [str(own)]


def run_venv() -> None:
    """`python -m venv`, which Debian ships apart."""
    done = subprocess.run([sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        raise SetupError(
            f"{sys.executable} -m venv failed:\n{(done.stdout + done.stderr).strip()}\n"
            "  fix: install Python's venv module (Debian, Ubuntu: apt install python3-venv), or uv"
        )


def uv_version(uv: str) -> tuple[int, ...]:
    """`uv 0.13.9 (…)` as (0, 13, 9); (0,) if it does not answer."""
    try:
        answer = subprocess.run([uv, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return (0,)
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", answer)
    return tuple(int(part) for part in found.groups()) if found else (0,)


def torch_version() -> str:
    """The version that pyproject.toml pins."""
    found = re.search(r'"torch==([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    if found is None:
        raise SetupError("pyproject.toml pins no torch")
    return found[1]


def install_cpu_torch(install_command: list[str]) -> None:
    """CPU builds of torch are not on the main registry: from a folder of wheels first, else from PyTorch's index.

    PIP_FIND_LINKS names such a folder (or page), as for pip. uv knows PyTorch's own index.
    """
    wanted = f"torch=={torch_version()}"
    links = [part for place in os.environ.get("PIP_FIND_LINKS", "").split() for part in ("--find-links", place)]
    if links:
        try:
            download([*install_command, "--no-index", *links, wanted], attempts=1, quiet=True)
        except SetupError:
            print("  no such wheel under PIP_FIND_LINKS for this Python; asking PyTorch's own index", flush=True)
        else:
            return
    download([*install_command, "--torch-backend", "cpu", wanted])


def count(lock: Path) -> int:
    """Packages in a lock."""
    return len(set(re.findall(r"^([a-z0-9._-]+)(?:\[.*\])?==", lock.read_text(), re.M | re.I)))


def look() -> None:
    """Import torch, so that a broken environment is found here."""
    code = "import torch; print('  torch', torch.__version__, 'with CUDA' if torch.cuda.is_available() else 'on CPU')"
    done = subprocess.run([str(PYTHON), "-c", code], check=False)
    if done.returncode != 0:
        raise SetupError("torch does not import.\n  fix: remove .venv and call set-up again")


def step(title: str, action) -> None:  # type: ignore[no-untyped-def]
    """Show what is done and how long it took."""
    print(f"{title} ...", flush=True)
    began = time.monotonic()
    action()
    print(f"  {time.monotonic() - began:.1f} s", flush=True)


def download(command: list[str], attempts: int = 2, quiet: bool = False) -> None:
    """Run a command that may need the network, once more if it fails."""
    environment = {"UV_HTTP_TIMEOUT": "180", **os.environ}
    environment.pop("VIRTUAL_ENV", None)
    for attempt in range(1, attempts + 1):
        output = stream(command, environment, quiet)
        if output is None:
            return
        if attempt < attempts:
            print("  failed; trying once more", flush=True)
            time.sleep(3)
    raise SetupError(explain(command, output or ""))


def stream(command: list[str], environment: dict[str, str], quiet: bool) -> str | None:
    """Run it and pass its output on, indented; None if it did well, its output if not."""
    kept: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            kept.append(line)
            if not quiet and not line.startswith((" + ", " - ", " ~ ")):  # uv lists every package
                print(f"  {line}", end="", flush=True)
    return None if process.returncode == 0 else "".join(kept)


def explain(command: list[str], output: str) -> str:
    """What a failed step's output means, and what to do."""
    lowered = output.lower()
    shown = f"this failed twice:\n  {' '.join(command)}\n"
    if "no space left" in lowered:
        return f"{shown}  the disk is full.\n  fix: free some space (uv cache clean), then call set-up again"
    if any(sign in lowered for sign in NETWORK_SIGNS):
        return (
            f"{shown}  the package registry cannot be reached.\n"
            "  fix: check the network; behind a proxy set HTTPS_PROXY, for a mirror UV_DEFAULT_INDEX and PIP_INDEX_URL"
        )
    if "failed to build" in lowered or "build backend" in lowered:
        return f"{shown}  a package could not be built.\n  fix: install a C compiler (apt install gcc g++), call again"
    if "hash mismatch" in lowered:
        return f"{shown}  a download is not the file that was locked.\n  fix: uv cache clean; check your mirror"
    if "no wheels" in lowered or "no solution" in lowered or "not found in the" in lowered:
        return (
            f"{shown}  a package has no build for this Python or machine.\n  fix: use x86-64 Linux, or another Python"
        )
    return f"{shown}  fix: correct what the lines above say, and call set-up again"


if __name__ == "__main__":
    sys.exit(main())

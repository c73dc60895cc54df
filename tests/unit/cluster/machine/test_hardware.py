"""What a machine has, read from the texts that Linux and nvidia-smi give."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from cluster.billing.prices import price_of
from cluster.machine.hardware import (
    Gpu,
    Hardware,
    core_limit,
    detect,
    memory_limit,
    parse_cpuinfo,
    parse_nvidia_smi,
    visible,
)

SMI = """GPU-aaaa-1, NVIDIA GeForce RTX 4090, 24564, 8.9
GPU-bbbb-2, Tesla T4, 15360, 7.5
"""


def machine(*gpus: Gpu, instructions: tuple[str, ...] = (), cores: int = 4) -> Hardware:
    """A machine with these GPUs."""
    return Hardware(
        cpu="x",
        cores=cores,
        memory_bytes=1 << 34,
        machine_cores=8,
        machine_memory_bytes=1 << 35,
        instructions=instructions,
        gpus=gpus,
    )


def gpu(name: str, gigabytes: float = 80, capability: float = 9.0) -> Gpu:
    """A GPU."""
    return Gpu(name=name, memory_bytes=int(gigabytes * 1e9), compute_capability=capability)


def test_this_machine() -> None:
    found = detect()
    assert 1 <= found.cores <= found.machine_cores
    assert 0 < found.memory_bytes <= found.machine_memory_bytes
    assert Hardware.model_validate_json(found.model_dump_json()) == found


def test_cpuinfo() -> None:
    x86 = "processor : 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512f avx512_bf16\n\nprocessor : 1\n"
    assert parse_cpuinfo(x86) == ("AMD EPYC", ("avx2", "avx512", "avx512_bf16"))
    assert parse_cpuinfo("processor : 0\nFeatures : fp asimd bf16\n") == ("", ("arm_bf16",))
    assert parse_cpuinfo("") == ("", ())


def test_nvidia_smi() -> None:
    (_, first), (_, second) = parse_nvidia_smi(SMI)
    assert (first.name, first.memory_bytes, first.compute_capability) == (
        "NVIDIA GeForce RTX 4090", 24564 * 2**20, 8.9,
    )  # fmt: skip
    assert second.compute_capability == 7.5
    assert parse_nvidia_smi("No devices were found\n") == ()
    assert parse_nvidia_smi("GPU-1, NVIDIA X, [N/A], [N/A]\n")[0][1].memory_bytes == 0


@pytest.mark.parametrize(
    ("setting", "names"),
    [
        (None, ["NVIDIA GeForce RTX 4090", "Tesla T4"]),
        ("", []),
        ("-1", []),
        ("1", ["Tesla T4"]),
        ("1,0", ["Tesla T4", "NVIDIA GeForce RTX 4090"]),
        ("GPU-bbbb", ["Tesla T4"]),
        ("0,9,1", ["NVIDIA GeForce RTX 4090"]),
    ],
)
def test_cuda_visible_devices(setting: str | None, names: list[str]) -> None:
    assert [found.name for found in visible(parse_nvidia_smi(SMI), setting)] == names


def test_bfloat16() -> None:
    assert machine(gpu("L4", 24, 8.9)).multiplies_bfloat16
    assert not machine(gpu("T4", 16, 7.5), instructions=("amx_bf16",)).multiplies_bfloat16
    assert machine(instructions=("avx2", "avx512_bf16")).multiplies_bfloat16
    assert not machine(instructions=("avx2", "avx512")).multiplies_bfloat16


def write(root: Path, files: dict[str, str]) -> Path:
    """A tree of /proc and /sys files."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_control_groups_version_2(tmp_path: Path) -> None:
    """The tightest of the group and those around it."""
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pods/one\n",
            "sys/fs/cgroup/pods/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/pods/memory.max": "max\n",
            "sys/fs/cgroup/pods/one/cpu.max": "max 100000\n",
            "sys/fs/cgroup/pods/one/memory.max": "4294967296\n",
        },
    )
    assert core_limit(root) == 1.5
    assert memory_limit(root) == 4 << 30


def test_control_groups_version_1(tmp_path: Path) -> None:
    """Inside a container the path of the host's group is not there; the mount's top is."""
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n1:name=systemd:/docker/abc\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824\n",
        },
    )
    assert core_limit(root) == 2
    assert memory_limit(root) == 1 << 30


def test_no_limits(tmp_path: Path) -> None:
    assert (core_limit(tmp_path), memory_limit(tmp_path)) == (None, None)
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/\n3:memory:/\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )
    assert (core_limit(root), memory_limit(root)) == (None, None)


def test_the_run_files_price_wins() -> None:
    price = price_of(machine(gpu("NVIDIA H100 80GB HBM3")), 8, 3.5)
    assert (price.usd_per_hour, price.source) == (3.5, "run file")


@pytest.mark.parametrize(
    ("name", "gigabytes", "usd"),
    [
        ("NVIDIA H100 80GB HBM3", 85, 4.785),
        ("NVIDIA A100-SXM4-80GB", 85, 2.31),
        ("NVIDIA L4", 24, 0.44),
        ("NVIDIA GeForce RTX 4090", 25, 0.315),
        ("NVIDIA GeForce RTX 3090", 25, 0.18),
    ],
)
def test_catalogue(name: str, gigabytes: float, usd: float) -> None:
    price = price_of(machine(gpu(name, gigabytes)), 2, None)
    assert price.usd_per_hour == pytest.approx(2 * usd)
    assert price.source.startswith("catalogue: 2 x ")
    assert price.date == date(2026, 11, 23)


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [("NVIDIA A100-PCIE-40GB", 42), ("NVIDIA L40S", 48), ("NVIDIA GeForce RTX 4090 Laptop GPU", 16), ("X", 1)],
)
def test_what_the_catalogue_lacks_is_said(name: str, gigabytes: float) -> None:
    price = price_of(machine(gpu(name, gigabytes)), 1, None)
    assert price.usd_per_hour == 0
    assert price.source == f"no price known for {name}: set hardware.price_usd_per_hour"


def test_cores_are_an_estimate() -> None:
    price = price_of(machine(cores=4), 2, None)
    assert price.usd_per_hour == pytest.approx(0.16)
    assert price.source.startswith("estimate: 4 cores")

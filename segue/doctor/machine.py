"""Findings on the machine: threads, memory, disk, GPU, packages, and how fast it multiplies matrices."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from segue.doctor.findings import Figure, Finding, Findings
from segue.train.throughput import matmul_gflops

DISK_LEAST_GB = 5.0
"""The recipe `tiny` leaves some 2 GB of checkpoints and tokens behind; a full disk stops a run, though without harm."""
MEMORY_LEAST_GB = 2.0
"""Torch with its libraries takes half a gigabyte, a step of the recipe `tiny` as much again, reading ahead a little."""
EXTRAS = {
    "train": ("pyarrow", "sklearn", "lightning_fabric", "tensorboard"),
    "vad": ("silero_vad",),
    "cluster": ("ray",),
    "pretrained": ("transformers",),
}
"""Extras of Segue and what they bring."""


@dataclass(frozen=True)
class Machine:
    """What there is to work with.

    Attributes:
        device: that training would use.
        cores: that this process may run on.
        threads: that torch uses.
        memory_gb: of the device: a GPU's own, or what is free now where it is the CPU.
        disk_gb: free where we stand.
        gflops: of a large matrix product in float32, and on a GPU in bfloat16.
    """

    device: torch.device
    cores: int
    threads: int
    memory_gb: float
    disk_gb: float
    gflops: float


def look(device: str, folder: Path) -> Machine:
    """Measure the machine for training on `device`, writing to `folder`."""
    place = torch.device(device)
    precision = "bfloat16" if place.type == "cuda" else "float32"
    threads = torch.get_num_threads()
    if place.type == "cuda":
        memory = torch.cuda.get_device_properties(place).total_memory / 1e9
    else:
        memory = free_memory_gb()
    existing = next((one for one in (folder, *folder.absolute().parents) if one.exists()), Path("/"))
    disk = shutil.disk_usage(existing).free / 1e9
    return Machine(place, cores(), threads, memory, disk, matmul_gflops(place, precision, threads))


def cores() -> int:
    """Cores that this process may use: those it is bound to, or as many as its control group pays for."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _read("/sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0].isdecimal():
        return max(1, min(bound, round(int(quota[0]) / int(quota[1]))))
    return bound


def free_memory_gb() -> float:
    """Memory that can be had now: of the machine, or what is left of its control group's."""
    told = dict(line.split(":", 1) for line in _read("/proc/meminfo").splitlines() if ":" in line)
    if "MemAvailable" in told:
        free = int(told["MemAvailable"].split()[0]) * 1024
    else:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit, used = (_read(f"/sys/fs/cgroup/memory.{name}").strip() for name in ("max", "current"))
    if limit.isdecimal() and used.isdecimal():
        free = min(free, max(0, int(limit) - int(used)))
    return free / 1e9


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def findings_on_machine(machine: Machine) -> Findings:
    """What the machine has, and lacks."""
    figures: dict[str, Figure] = {"cores": machine.cores, "threads": machine.threads, "machine": platform.machine()}
    if machine.threads > machine.cores:
        meaning = f"{machine.threads} threads on {machine.cores} cores get in each other's way"
        yield Finding("machine: threads", "warn", figures, meaning, f"--threads {machine.cores}, or OMP_NUM_THREADS")
    else:
        yield Finding("machine: threads", "ok", figures, f"{machine.threads} threads on {machine.cores} cores")
    on_cpu = machine.device.type == "cpu"
    kind = "memory" if on_cpu else f"memory of {machine.device}"
    tight = machine.memory_gb < MEMORY_LEAST_GB
    yield Finding(
        "machine: memory",
        "bad" if tight else "ok",
        {"free_gb" if on_cpu else "gb": machine.memory_gb},
        f"{machine.memory_gb:.1f} GB of {kind}{', too little for any recipe' if tight else ''}",
        "end other programs" if tight else "",
    )
    short = machine.disk_gb < DISK_LEAST_GB
    yield Finding(
        "machine: disk",
        "warn" if short else "ok",
        {"free_gb": machine.disk_gb},
        f"{machine.disk_gb:.1f} GB free{', little for checkpoints and tokens' if short else ''}",
        "make room, or give --out on another disk" if short else "",
    )
    yield _device(machine)
    missing = {
        extra: [name for name in names if find_spec(name) is None]
        for extra, names in EXTRAS.items()
        if any(find_spec(name) is None for name in names)
    }
    if missing:
        meaning = "not installed: " + ", ".join(
            f"{' '.join(names)} (extra {extra})" for extra, names in missing.items()
        )
        verdict = "warn" if "train" in missing else "ok"
        remedy = f'pip install "segue[{",".join(missing)}]" for what they are needed for'
        yield Finding("machine: packages", verdict, {"missing": sum(map(len, missing.values()))}, meaning, remedy)  # type: ignore[arg-type]
    else:
        yield Finding("machine: packages", "ok", {"missing": 0}, "everything training can use is installed")


def _device(machine: Machine) -> Finding:
    figures: dict[str, Figure] = {"device": str(machine.device), "gflop_per_second": machine.gflops}
    if machine.device.type == "cuda":
        name = torch.cuda.get_device_properties(machine.device).name
        return Finding("machine: device", "ok", {**figures, "name": name}, f"{name}: {machine.gflops:,.0f} GFLOP/s")
    unused = torch.cuda.device_count()
    meaning = f"{machine.gflops:,.0f} GFLOP/s of matrix products on {machine.threads} threads; "
    meaning += f"{unused} GPUs are not used" if unused else "torch sees no GPU"
    return Finding("machine: device", "ok", figures, meaning, "--device cuda" if unused else "")

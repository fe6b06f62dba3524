"""What the machine has: cores, memory, bf16 units."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import torch


def usable_cores() -> int:
    """Count the processor cores that this process may use.

    >>> usable_cores() >= 1
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int | None:
    """Return the bytes of memory available without swapping; None where the system does not say."""
    table = Path("/proc/meminfo")
    if not table.exists():
        return None
    lines = dict(line.split(":") for line in table.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def default_precision() -> Literal["bf16-mixed", "32-true"]:
    """bf16 where the processor has units for it; emulated, it is slower than float32.

    GPUs have them from Ampere on, x86 processors with avx512_bf16 or AMX, ARM processors with the bf16 extension.
    """
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    capabilities = torch.cpu.get_capabilities()
    units = ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16")
    return "bf16-mixed" if any(capabilities.get(unit, False) for unit in units) else "32-true"

"""Which floating-point precision suits the machine."""

from __future__ import annotations

from typing import Literal

import torch


def default_precision() -> Literal["bf16-mixed", "32-true"]:
    """bf16 where there are units for it; emulated, it is slower than float32.

    GPUs have them from Ampere on, x86 processors with avx512_bf16 or AMX, ARM processors with the bf16 extension.
    """
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    capabilities = torch.cpu.get_capabilities()
    units = ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16")
    return "bf16-mixed" if any(capabilities.get(unit, False) for unit in units) else "32-true"

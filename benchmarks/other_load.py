"""How much of the processor other processes use during a measurement."""

from __future__ import annotations

import os
import time
from pathlib import Path

STAT = Path("/proc/stat")


class OtherLoad:
    """The load of other processes, counted from construction on.

    The machine's load less that of this process and its finished children; on Linux only.
    """

    def __init__(self) -> None:
        self._start = _counts()

    def share(self) -> float | None:
        """Return the share of all cores' time since construction, from 0 to 1; None if it is unknown."""
        now = _counts()
        if self._start is None or now is None:
            return None
        wall, busy, own = (after - before for before, after in zip(self._start, now, strict=True))
        return max(0.0, busy - own) / (wall * (os.cpu_count() or 1))


def _counts() -> tuple[float, float, float] | None:
    """Return seconds: the clock, busy cores of the machine, this process and its children."""
    if not STAT.exists():
        return None
    user, nice, system, _, _, irq, softirq, steal, *_ = map(int, STAT.read_text().splitlines()[0].split()[1:])
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    return time.perf_counter(), busy, own

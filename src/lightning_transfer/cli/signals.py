"""Lightning changes the exit codes of stopped runs; restore 130 (Ctrl-C) and 143 (SIGTERM)."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def ends_by_signals() -> Iterator[None]:
    """Stop at once on SIGTERM or Ctrl-C, and exit with 143 or 130.

    Nothing is saved: files and checkpoints are whole at every moment, and a run could not resume exactly from
    within an epoch. A second SIGTERM skips the clean-up. Under SLURM, which uses signals to requeue jobs,
    Lightning handles SIGTERM.
    """
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        received.append(number)
        sys.exit(128 + number)

    ours = threading.current_thread() is threading.main_thread() and "SLURM_JOB_ID" not in os.environ
    before = signal.signal(signal.SIGTERM, stop) if ours else None
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except SystemExit as leaving:
        # Lightning exits with 1 for the one and, at some moments, with 0 for the other.
        if isinstance(leaving.__context__, KeyboardInterrupt):
            sys.exit(128 + signal.SIGINT)
        if received:
            sys.exit(128 + received[0])
        raise
    finally:
        if ours:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)

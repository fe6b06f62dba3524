"""How the command line ends when it is told to from outside."""

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
    """SIGTERM, as Ctrl-C, stops what is under way at once, and the program exits with 143 or 130.

    Nothing is saved on the way: files and checkpoints are whole or not there at every moment, and in the middle of
    an epoch there is nothing that a run could go on from exactly. A second SIGTERM does not wait for the tidying.
    Under SLURM, which has signals of its own to put a job back into the queue, SIGTERM stays Lightning's.
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
        # Lightning makes a 1 of the one and, where it comes at an unlucky moment, a 0 of the other.
        if isinstance(leaving.__context__, KeyboardInterrupt):
            sys.exit(128 + signal.SIGINT)
        if received:
            sys.exit(128 + received[0])
        raise
    finally:
        if ours:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)

"""Processes that die where a test says so, as a power cut or `kill -9` would have it."""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import torch


def run_and_kill(
    work: Callable[[], object], owner: object = None, name: str = "", call: int = 1, after: bool = False
) -> int:
    """Runs something in a process of its own, which is killed at a named point.

    The process is forked, so that it need not import torch once more. It would wait for ever for torch's other
    threads, which a fork leaves behind, and therefore it has one.

    Args:
        work: What it does.
        owner: The module or class that has the function at whose call it dies; None for no death.
        name: The function's.
        call: At the how manyth call.
        after: After that call, not before it.

    Returns:
        -9 where it was killed, 0 where it reached its end, 1 where it raised something, which is printed.
    """

    def deadly() -> None:
        if owner is not None:
            _die_at(owner, name, call, after)
        work()

    return ended(start(deadly))


def start(work: Callable[[], object]) -> int:
    """Begins something in a forked process, and gives its number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads; torch then has but one
        process = os.fork()
    if process == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001  # nothing of the parent's may run in the child
            traceback.print_exc()
        os._exit(1)
    torch.set_num_threads(threads)
    return process


def ended(process: int) -> int:
    """Waits for a process that was started here; -9 where it was killed, 0 where it reached its end, 1 else."""
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status)


def die() -> None:
    """Ends this process without any of its last words."""
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at(owner: object, name: str, call: int, after: bool) -> None:
    real = getattr(owner, name)
    calls = 0

    def deadly(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            die()
        result = real(*arguments, **options)
        if calls == call:
            die()
        return result

    setattr(owner, name, deadly)

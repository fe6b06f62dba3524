"""Why a run has ended, and how long EarlyStopping still waits."""

from __future__ import annotations

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from lightning_transfer.utils.lightning import find_callbacks


def wait_afresh(trainer: Trainer) -> None:
    """Have every EarlyStopping count from 0 the epochs without an improvement."""
    for early in find_callbacks(trainer, EarlyStopping):
        early.wait_count = 0


def why_it_ended(trainer: Trainer) -> str:
    """Return the limit that a finished run has reached, or who stopped it, in words."""
    if 0 <= trainer.max_steps <= trainer.global_step:
        return f"max_steps={trainer.max_steps} was reached"
    if not trainer.should_stop:
        return f"max_epochs={trainer.max_epochs} was reached"
    left = [timer.time_remaining() for timer in find_callbacks(trainer, Timer)]
    if any(seconds is not None and seconds <= 0 for seconds in left):
        return "its time was up (max_time, or a Timer)"
    for early in find_callbacks(trainer, EarlyStopping):
        if early.stopping_reason is not EarlyStoppingReason.NOT_STOPPED:
            return f"EarlyStopping stopped it (monitor={early.monitor!r}, patience={early.patience})"
    return "something asked the Trainer to stop (trainer.should_stop)"

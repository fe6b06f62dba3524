"""soak.py with few kills, with many under `make nightly`; and memory that does not grow with the epochs."""

import ctypes
import gc
import os
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from soak import SCENARIOS, Soak, draw_images


@pytest.mark.parametrize("kills", [2, pytest.param(100, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_runs_that_are_killed_at_random_moments_end_as_if_undisturbed(tmp_path, scenario, kills):
    soak = Soak(scenario, tmp_path, seed=0).kill(kills)
    assert soak.kills >= kills
    assert soak.runs >= 1


class Memory(Callback):
    """Notes before some epochs what the process holds: bytes, and tensors that live."""

    def __init__(self, *epochs):
        self.epochs = epochs
        self.bytes, self.tensors = [], []

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch in self.epochs:
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)  # what is free already would hide what is kept
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.bytes.append(pages * os.sysconf("SC_PAGE_SIZE"))
            self.tensors.append(sum(type(thing) is torch.Tensor for thing in gc.get_objects()))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux alone says how much a process holds")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_memory_is_flat_over_fifty_epochs(tmp_path, scenario):
    """From the tenth on, when all has unfrozen: 40 epochs, each with a step, a validation and a checkpoint.

    The bound is 25 kB an epoch: a checkpoint or the gradients of one step, kept, would be twenty times that, and a
    tensor is found whatever its size. Seen was a tenth of it, which is what the allocator splits.
    """
    memory = Memory(10, 50)
    SCENARIOS[scenario](draw_images(tmp_path / "images", 4), tmp_path / "run", 51, memory)
    assert len(memory.bytes) == 2
    assert memory.tensors[1] <= memory.tensors[0]
    assert memory.bytes[1] - memory.bytes[0] < 1_000_000

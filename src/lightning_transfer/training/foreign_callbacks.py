"""What Lightning's own callbacks need of a module of this library, and which of them cannot work with one."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    ModelPruning,
    StochasticWeightAveraging,
    WeightAveraging,
)

from lightning_transfer.errors import ModuleError
from lightning_transfer.utils.lightning import find_callbacks


def refuse_callbacks(trainer: Trainer) -> None:
    """Refuse the callbacks that change frozen layers, or the names of parameters, behind the module's back.

    Raises:
        ModuleError: There is one; says what to do instead.
    """
    for finetuning in find_callbacks(trainer, BaseFinetuning):
        raise ModuleError(
            f"{type(finetuning).__name__} unfreezes what this module keeps frozen, and forgets it when a run "
            'resumes: use FineTuningClassifier with StagedUnfreeze({0: ["head"], 5: ["block5"]}).'
        )
    if find_callbacks(trainer, ModelPruning):
        raise ModuleError(
            "ModelPruning renames parameters while they train, and prunes what is frozen too: prune the trained "
            "network instead, with torch.nn.utils.prune, after network.to(memory_format=torch.contiguous_format)."
        )


def copy_again(trainer: Trainer, module: LightningModule, stage: str) -> None:
    """Let callbacks that average weights copy a module that had no head when they did so in their own `setup`."""
    for callback in (
        *find_callbacks(trainer, WeightAveraging),
        *find_callbacks(trainer, StochasticWeightAveraging),
    ):
        callback.setup(trainer, module, stage)

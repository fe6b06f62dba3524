"""What Lightning's own callbacks need of a module of this library, and which of them cannot work with one."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    ModelPruning,
    StochasticWeightAveraging,
    WeightAveraging,
)
from torch import nn

from lightning_transfer.errors import ModuleError
from lightning_transfer.utils.lightning import find_callbacks


def refuse_callbacks(trainer: Trainer, backbone: nn.Module) -> None:
    """Refuse the callbacks that change frozen layers behind the module's back.

    Raises:
        ModuleError: There is one; says what to use instead.
    """
    for finetuning in find_callbacks(trainer, BaseFinetuning):
        raise ModuleError(
            f"{type(finetuning).__name__} unfreezes what this module keeps frozen, and forgets it when a run "
            'resumes: use FineTuningClassifier with StagedUnfreeze({0: ["head"], 5: ["block5"]}).'
        )
    layers = set(backbone.modules())
    for pruning in find_callbacks(trainer, ModelPruning):
        # By its own set-up it knows them; where none were passed, they are all that there are.
        if any(layer in layers for layer, _ in pruning._parameters_to_prune or ()):
            raise ModuleError(
                "ModelPruning would prune the backbone too: pass what to prune of the head, "
                'parameters_to_prune=[(model.head.logits, "weight")], or prune the network after training.'
            )


def copy_again(trainer: Trainer, module: LightningModule, stage: str) -> None:
    """Let callbacks that average weights copy a module that had no head when they did so in their own `setup`."""
    for callback in (
        *find_callbacks(trainer, WeightAveraging),
        *find_callbacks(trainer, StochasticWeightAveraging),
    ):
        callback.setup(trainer, module, stage)

"""Runs of two processes over gloo; `training/test_ddp.py` starts it and looks at what each process leaves.

    python ddp_runs.py IMAGES OUT

Lightning starts the second process by running this file again.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging

import tiny_networks  # noqa: F401  # makes "small/vit_xs" known
from lightning_transfer import AdaptiveUnfreeze, StagedUnfreeze
from lightning_transfer.callbacks import staged_unfreeze
from lightning_transfer.errors import AuditError
from runs import Watch, every_epoch, fine_tuning, images_of

# Small enough for rounding alone to differ from one process with batches of six.
JOINT: dict[str, Any] = {"backbone": "squeezenet1_1", "dropout": 0.0, "layer_decay": 0.5}
FIRE: dict[int, list[str]] = {0: ["head"], 1: ["fire9"], 2: ["fire8", "fire7"]}
BY_EPOCH: dict[int, list[str]] = {0: ["head"], 1: ["last_conv"], 3: ["block5"]}
VIT: dict[str, Any] = {"backbone": "small/vit_xs", "pool": "class_token+avg", "layer_decay": 0.8}
BLOCKS: dict[int, list[str]] = {0: ["head"], 1: ["norm", "block4"], 2: ["block3"]}
# Epochs after which a run goes on, with an unfreeze behind it and one before it.
STOPPED = (1,)


def adaptive() -> AdaptiveUnfreeze:
    """Forced to unfreeze within the run; back to the best weights each time."""
    return AdaptiveUnfreeze(["head", "last_conv", "block5"], patience=1, max_epochs_per_step=2, restore_best=True)


class HoldSqueeze(Callback):
    """Freezes something inside stages at each epoch's start, after the schedule has unfrozen them."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """The first layer of each squeeze-and-excitation, whether its stage trains yet or not."""
        for name, parameter in pl_module.backbone.named_parameters():
            if ".fc1." in name:
                parameter.requires_grad_(False)


def recipe() -> list[Callback]:
    """Everything at once that has a say in what trains, and for how long."""
    unfreeze = AdaptiveUnfreeze(
        ["head", "last_conv", "block5"], patience=1, max_epochs_per_step=1, restore_best=True, train_norm=False
    )
    averaging = EMAWeightAveraging(decay=0.9, update_starting_at_step=0)
    return [averaging, unfreeze, HoldSqueeze(), EarlyStopping("validation/loss", min_delta=9.0, patience=2)]


def main(image_folder: Path, out: Path) -> None:
    """All runs, one after the other."""

    def fit(
        name: str,
        callbacks: list[Callback],
        model: dict[str, Any] | None = None,
        ckpt_path: Path | None = None,
        epochs: int = 4,
        **arguments: Any,
    ) -> None:
        watch = Watch()
        trainer = Trainer(
            accelerator="cpu",
            devices=2,
            strategy="ddp",
            max_epochs=epochs,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[*callbacks, watch, every_epoch(out / name)],
            **arguments,
        )
        data = images_of(image_folder, batch_size=3)
        complaint = ""
        try:
            trainer.fit(fine_tuning(**(model or {})), data, ckpt_path=ckpt_path, weights_only=True)
        except AuditError as error:
            complaint = str(error)
        seen = {"weights": watch.weights, "scores": watch.scores, "complaint": complaint}
        torch.save(seen, out / f"{name}.{trainer.global_rank}.pt")

    fit("joint", [StagedUnfreeze(FIRE)], JOINT, precision="64-true")
    fit("accumulated", [StagedUnfreeze(FIRE)], JOINT, precision="64-true", accumulate_grad_batches=2)
    fit("whole", [StagedUnfreeze(BY_EPOCH)])
    for stopped in STOPPED:
        fit(f"whole_from_{stopped}", [StagedUnfreeze(BY_EPOCH)], ckpt_path=out / "whole" / f"{stopped}.ckpt")
    fit("adaptive", [adaptive()])
    for stopped in STOPPED:
        fit(f"adaptive_from_{stopped}", [adaptive()], ckpt_path=out / "adaptive" / f"{stopped}.ckpt")
    fit("averaged", [StagedUnfreeze(BY_EPOCH), EMAWeightAveraging(decay=0.9, update_starting_at_step=0)])

    fit("tokens", [StagedUnfreeze(BLOCKS)], VIT)
    fit("tokens_from_1", [StagedUnfreeze(BLOCKS)], VIT, ckpt_path=out / "tokens" / "1.ckpt")

    fit("recipe", recipe())
    fit("recipe_from_1", recipe(), ckpt_path=out / "recipe" / "1.ckpt")

    # What everybody else does, in place of ours; the audit must notice.
    staged_unfreeze._wrap_again = lambda trainer: None
    fit("not_wrapped_again", [StagedUnfreeze(BY_EPOCH)], epochs=2)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main(Path(sys.argv[1]), Path(sys.argv[2]))

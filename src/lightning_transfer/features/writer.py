"""Write predicted features to their rows of a store, as a callback."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from lightning_transfer.errors import StoreError
from lightning_transfer.features.builder import StoreBuilder


class FeatureWriter(BasePredictionWriter):
    """Write each batch of features by the index of its samples, from every rank.

    Rows are numbered through all splits and their views, in the manifest's order. Rank 0 alone makes the store and
    publishes it; where it finds it complete, nobody predicts.

    Args:
        builder: Of the store.
    """

    def __init__(self, builder: StoreBuilder) -> None:
        super().__init__("batch")
        self.builder = builder
        splits = builder.manifest.splits
        self.splits = tuple(splits)
        self.starts = np.array([0, *accumulate(map(len, splits.values()))])

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin the store on rank 0, and join it on the others.

        Raises:
            StoreError: On every rank: there is no room; or the ranks would make different stores, or not in one
                place.
        """
        name, begun = trainer.strategy.broadcast((self.builder.path.name, self._begin(trainer.is_global_zero)))
        if isinstance(begun, StoreError):
            raise begun
        if not trainer.strategy.reduce_boolean_decision(name == self.builder.path.name):
            raise StoreError(
                f"The processes would make different stores, the first {name}, process {trainer.global_rank} "
                f"{self.builder.path.name}: each machine needs the same images, weights and versions of torch, "
                "torchvision and Pillow."
            )
        if not trainer.strategy.reduce_boolean_decision(self.builder.join(begun)):
            root = self.builder.path.parent
            raise StoreError(
                f"The nodes do not share {root}: not every process sees there what the first one has made. Put "
                "--features.root on a folder that all of them share."
            )
        trainer.limit_predict_batches = 0 if begun is None else 1.0

    def _begin(self, first: bool) -> str | StoreError | None:
        """The name of the staging folder, or why there is none; None where the store is complete."""
        try:
            return self.builder.staging.name if first and self.builder.begin() else None
        except StoreError as error:
            return error

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Tensor,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write (B, C, h, w) or (B, T, D) features under the samples' indices."""
        assert batch_indices is not None, "predict_step's samples are not numbered"
        features = prediction.float().cpu().numpy()
        indices = np.asarray(batch_indices)
        numbers = np.searchsorted(self.starts, indices, side="right") - 1
        for number in np.unique(numbers):
            chosen = numbers == number
            rows = (indices[chosen] - self.starts[number]).tolist()
            self.builder.write(self.splits[number], rows, features[chosen])

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Publish the store once every rank has written, and wait until all see it."""
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            self.builder.publish()
        trainer.strategy.barrier()
        self.builder.join(None)

"""What all regimes share: base and head, the step, the scores, the optimizer, the checkpoint.

Shapes: B batch, H W picture, K classes.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from lightning_transfer.backbones.conv_base import ConvBase
from lightning_transfer.errors import ModuleError
from lightning_transfer.heads import Head, Pool
from lightning_transfer.modules.epoch_scores import EpochScores

Batch = tuple[Tensor, Tensor]
SPLITS = ("train", "validation", "test")


class Classifier(LightningModule):
    """A pretrained base and a head; the regimes are its subclasses.

    It logs `<split>/loss`, `<split>/accuracy`, `<split>/auroc` and `<split>/f1` for train, validation and test.
    Before each training batch it seeds torch from (seed, epoch, batch), so that dropout, too, is the same
    whether or not the run was stopped in between.

    Args:
        base: The network's name in torchvision.
        weights: A torchvision weights name, a path, or None for random; see `ConvBase`. A checkpoint records
            None here, since it holds the weights itself.
        until: The last stage of the base that is kept; all where it is not given.
        num_classes: K.
        image_size: H and W of the pictures, in pixels.
        pool: How the head takes the feature map: "flatten", "avg" or "max".
        hidden: Width of the head's hidden layer; 0 for none.
        dropout: Share of the hidden units that each training step leaves out.
        lr: Learning rate of the head.
        weight_decay: AdamW's.
        seed: Of dropout.

    Attributes:
        class_names: K names, from the data module; they travel in the checkpoint.

    Raises:
        BackboneError: See `ConvBase`.
        ModuleError: See `Head`.
    """

    def __init__(
        self,
        base: str = "vgg16",
        weights: str | None = "DEFAULT",
        until: str | None = None,
        num_classes: int = 2,
        image_size: int = 150,
        pool: Pool = "flatten",
        hidden: int = 256,
        dropout: float = 0.5,
        lr: float = 1e-4,
        weight_decay: float = 1e-2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.weight_decay = weight_decay
        self.seed = seed
        self.num_classes = num_classes
        self.pretrained_weights = weights
        self.class_names: tuple[str, ...] | None = None
        self.base = ConvBase(base, weights, until)
        self.head = Head(self.base.out_shape(image_size), num_classes, pool, hidden, dropout)
        self.scores = nn.ModuleDict({f"{split}_scores": EpochScores(split, num_classes) for split in SPLITS})
        self.configure_base()

    def configure_base(self) -> None:
        """Where a regime says which part of the base never trains."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) pictures, uint8 or floating in [0, 1], to (B, K) logits."""
        logits: Tensor = self.head(self.base(images))
        return logits

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of (B, K) logits, a scalar."""
        return F.cross_entropy(logits.float(), labels)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        inputs, labels = batch
        logits = self(inputs)
        self._scores("train").add(logits, labels)
        return self.loss(logits, labels)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keeps the logits of a batch for the epoch's scores."""
        self._scores("validation").add(self(batch[0]), batch[1])

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Keeps the logits of a batch for the epoch's scores."""
        self._scores("test").add(self(batch[0]), batch[1])

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """(B, K) probabilities."""
        return cast(Tensor, self(batch[0])).float().softmax(dim=1)

    def configure_optimizers(self) -> Optimizer:
        """AdamW on the head."""
        groups = [{"name": "head", "params": list(self.head.parameters()), "lr": self.lr}]
        # One pass over memory in place of ten; but Lightning's float16 scaler cannot clip gradients with it.
        fused = self.trainer.precision != "16-mixed"
        return AdamW(groups, weight_decay=self.weight_decay, fused=fused)

    def setup(self, stage: str) -> None:
        """Takes the class names from the data module, and checks them against its own.

        Raises:
            ModuleError: They do not fit.
        """
        names = getattr(getattr(self.trainer, "datamodule", None), "class_names", None)
        if names is None:
            return
        names = tuple(names)
        if len(names) != self.num_classes:
            raise ModuleError(
                f"The data have {len(names)} classes ({', '.join(names)}), the model num_classes="
                f"{self.num_classes}: pass num_classes={len(names)}, or other data."
            )
        self._agree(names, self.class_names)
        self.class_names = names

    def on_train_epoch_start(self) -> None:
        """Forgets what an epoch that was broken off may have left."""
        self._scores("train").reset()

    def on_validation_epoch_start(self) -> None:
        """Forgets what an epoch that was broken off may have left."""
        self._scores("validation").reset()

    def on_test_epoch_start(self) -> None:
        """Forgets what an epoch that was broken off may have left."""
        self._scores("test").reset()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seeds torch, so that a step's randomness depends on nothing before it."""
        entropy = [self.seed, self.current_epoch, batch_idx, self.global_rank]
        seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
        # torch.manual_seed would note a traceback for each kind of device that is not in use: a third of a step.
        torch.default_generator.manual_seed(seed)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(seed)

    def on_train_epoch_end(self) -> None:
        """Logs the training scores."""
        self._log_scores("train")

    def on_validation_epoch_end(self) -> None:
        """Logs the validation scores; the sanity check's few batches have none worth the name."""
        if not self.trainer.sanity_checking:
            self._log_scores("validation")

    def on_test_epoch_end(self) -> None:
        """Logs the test scores."""
        self._log_scores("test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Makes the checkpoint enough: class names inside, and no weights to look for elsewhere."""
        checkpoint["class_names"] = self.class_names
        checkpoint["pretrained_weights"] = self.pretrained_weights
        checkpoint["hyper_parameters"] = {**checkpoint["hyper_parameters"], "weights": None}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes back the class names.

        Raises:
            ModuleError: The checkpoint is of something else, or of other classes than the data.
        """
        if "class_names" not in checkpoint:
            raise ModuleError("This checkpoint was not made by a lightning-transfer module.")
        self._agree(self.class_names, checkpoint["class_names"])
        self.class_names = checkpoint["class_names"]
        self.pretrained_weights = checkpoint["pretrained_weights"]

    def _agree(self, data: tuple[str, ...] | None, checkpoint: tuple[str, ...] | None) -> None:
        if data is not None and checkpoint is not None and data != checkpoint:
            raise ModuleError(
                f"The data have the classes {', '.join(data)}, the checkpoint {', '.join(checkpoint)}: "
                "name the folders as they were in training."
            )

    def _scores(self, split: str) -> EpochScores:
        return cast(EpochScores, self.scores[f"{split}_scores"])

    def _log_scores(self, split: str) -> None:
        for name, value in self._scores(split).compute(self.loss).items():
            # They are those of all processes already; sync_dist only tells Lightning so.
            self.log(name, value, prog_bar=name.endswith(("/loss", "/accuracy")), sync_dist=True)

"""A backbone and a head in one LightningModule, whose checkpoint is enough.

Shapes: B batch, C channels, H W image, h w feature map, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.model_helpers import _restricted_classmethod
from torch import Tensor

from lightning_transfer.errors import ModuleError
from lightning_transfer.models.backbone import Backbone
from lightning_transfer.models.freezing import Stages
from lightning_transfer.models.head import Head, Pool
from lightning_transfer.training.checkpoint_io import check_file, check_folders, save_atomically
from lightning_transfer.training.checkpoints import ORIGINS, check_same_backbone, load_part, read_start
from lightning_transfer.training.stored_outputs import StoredOutputs, stored_outputs


class Network(LightningModule):
    """What a checkpoint holds: a pretrained backbone, a head, and the names of the classes.

    How it trains, and what the arguments mean, stands in `Classifier`.

    Attributes:
        class_names: K names, from the data module; they travel in the checkpoint.
        resize: How the data module brings images to their size, "squash" or "crop"; it travels, too.
        pretrained_weights: Where the backbone's weights came from.

    Raises:
        BackboneError: See `Backbone`.
        ModuleError: See `Head`; or a checkpoint to start from that does not fit.
    """

    def __init__(
        self,
        backbone: str,
        weights: str | None,
        last_stage: str | None,
        num_classes: int,
        image_size: int,
        pool: Pool,
        hidden: int,
        dropout: float,
        head_from: str | None,
        init_from: str | None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.pretrained_weights = weights
        self.class_names: tuple[str, ...] | None = None
        self.resize: str | None = None
        self.stored: StoredOutputs | None = None
        self.backbone = Backbone(backbone, None if init_from else weights, last_stage)
        self.head = Head(self.backbone.out_shape(image_size), num_classes, pool, hidden, dropout)
        made_with = {
            "backbone": backbone,
            "last_stage": last_stage,
            "num_classes": num_classes,
            "pool": pool,
            "hidden": hidden,
        }
        self._start(head_from, init_from, made_with)

    @_restricted_classmethod
    def load_from_checkpoint(  # noqa: D417  # what is not said here is Lightning's
        cls,  # noqa: N805
        checkpoint_path: str | Path | IO[bytes],
        map_location: Any = None,
        hparams_file: str | Path | None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **arguments: Any,
    ) -> Self:
        """As Lightning's; but the file must be of this machine and as it was saved, and no code in it is run.

        Args:
            weights_only: False to run code that the file may hold all the same.
            **arguments: In place of the checkpoint's own.

        Raises:
            ModuleError: There is no such file, or it is not as it was saved; names it.
        """
        if isinstance(checkpoint_path, str | Path):
            check_file(str(checkpoint_path))
        # A file may name one of Lightning's functions there, which would call whatever class the arguments name.
        arguments["_instantiator"] = None
        safely = weights_only is not False
        return super().load_from_checkpoint(
            checkpoint_path, map_location, hparams_file, strict, safely, **arguments
        )

    @property
    def stages(self) -> Stages:
        """What may ever train, from the input to the output: what callbacks unfreeze, and the optimizer has."""
        return {"head": self.head}

    def forward(self, inputs: Tensor) -> Tensor:
        """Images, or a stage's stored outputs, to logits.

        Args:
            inputs: (B, 3, H, W) images, uint8 or floating in [0, 1]; or (B, C, h, w), where the data module
                serves outputs of that shape.

        Returns:
            (B, K) logits.
        """
        if self.stored is not None and inputs.shape[1:] == self.stored.shape:
            features = inputs.to(self.head.logits.weight.dtype).contiguous(memory_format=torch.channels_last)
            for name in self.stored.later_stages:
                features = self.backbone.stages[name](features)
        else:
            features = self.backbone(inputs)
        logits: Tensor = self.head(features)
        return logits

    def setup(self, stage: str) -> None:
        """Takes from the data module what it tells: class names, resizing, and where stored outputs come from.

        Raises:
            ModuleError: The classes are others than the checkpoint's, or the outputs those of another backbone.
            OutputError: Checkpoints cannot be saved where they are to be.
        """
        save_atomically(self.trainer)
        if stage == "fit":
            check_folders(self.trainer)
        data: Any = getattr(self.trainer, "datamodule", None)
        if hasattr(data, "last_stage"):
            self.stored = stored_outputs(self.backbone, data)
        self.resize = getattr(data, "resize", self.resize)
        names = getattr(data, "class_names", None)
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

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Makes the checkpoint enough: class names inside, and no file to look for elsewhere."""
        checkpoint["class_names"] = self.class_names
        checkpoint["resize"] = self.resize
        checkpoint["pretrained_weights"] = self.pretrained_weights
        checkpoint["hyper_parameters"] = {**checkpoint["hyper_parameters"], **dict.fromkeys(ORIGINS)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes back what `on_save_checkpoint` has put in.

        Raises:
            ModuleError: The checkpoint is of something else, or of other classes than the data.
        """
        if "class_names" not in checkpoint:
            raise ModuleError("This checkpoint was not made by a lightning-transfer module.")
        if "resize" not in checkpoint:
            raise ModuleError(
                "This checkpoint is of an older version that did not note how images are resized: train again."
            )
        self._agree(self.class_names, checkpoint["class_names"])
        self.class_names = checkpoint["class_names"]
        self.resize = checkpoint["resize"]
        self.pretrained_weights = checkpoint["pretrained_weights"]

    def _start(self, head_from: str | None, init_from: str | None, made_with: Mapping[str, Any]) -> None:
        if head_from and init_from:
            raise ModuleError("head_from and init_from are both given: init_from brings the head along.")
        path = init_from or head_from
        if path is None:
            return
        checkpoint = read_start(path, made_with)
        if init_from:
            load_part(self.backbone, checkpoint, "backbone", path)
            self.pretrained_weights = checkpoint["pretrained_weights"]
        else:
            check_same_backbone(self.backbone, checkpoint, path)
        load_part(self.head, checkpoint, "head", path)
        self.class_names = checkpoint["class_names"]

    def _agree(self, data: tuple[str, ...] | None, checkpoint: tuple[str, ...] | None) -> None:
        if data is not None and checkpoint is not None and data != checkpoint:
            raise ModuleError(
                f"The data have the classes {', '.join(data)}, the checkpoint {', '.join(checkpoint)}: "
                "name the folders as they were in training."
            )

"""The features of the validation images, as points in space.

Shapes: B batch, C channels, D features, H W image, h w feature map, T tokens, K classes, N samples.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lightning_transfer.errors import CallbackError
from lightning_transfer.models.backbone import Backbone
from lightning_transfer.models.freezing import eval_mode
from lightning_transfer.models.head import Head
from lightning_transfer.models.pooling import AveragePool, Flatten
from lightning_transfer.monitoring.images import evenly, validation_images
from lightning_transfer.monitoring.plot_callback import tensorboard
from lightning_transfer.monitoring.validation_plot import (
    ValidationPlot,
    class_names_of,
    in_order,
    label_texts,
    predicted,
)


class FeatureProjector(ValidationPlot):
    """Fill TensorBoard's projector: the features of each validation image, with its label and thumbnail.

    Features are the input of the module's `head`: feature maps averaged over space; tokens as a `Head` pools them,
    and where it flattens them, or is another module, averaged over the patches. Only a run that ends before its
    last epoch needs an extra pass for them.

    Args:
        samples: How many images at most; taken evenly from all of them.
        thumbnail: Height and width of a thumbnail, in pixels.
        every_n_epochs: As for `PlotCallback`.
    """

    tensorboard_only = True

    def __init__(self, samples: int = 500, thumbnail: int = 48, every_n_epochs: int | None = None) -> None:
        super().__init__(every_n_epochs)
        self.samples = samples
        self.thumbnail = thumbnail
        self._features: list[Tensor] = []
        self._hook: RemovableHandle | None = None

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask for images and a head."""
        validation_images(trainer, type(self).__name__)
        if not isinstance(getattr(pl_module, "head", None), nn.Module):
            raise CallbackError(
                f"{type(self).__name__} shows the input of the module's head, and {type(pl_module).__name__} has "
                "no attribute head: name its classifier so, or leave the callback out."
            )

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hook the head's input in an epoch that will be plotted."""
        super().on_validation_epoch_start(trainer, pl_module)
        self._features.clear()
        if self.is_turn(trainer):
            self._hook = self._listen(pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the hook."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def gather(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Join the processes' features, too."""
        super().gather(trainer, pl_module)
        if not self._features:
            self._pass(trainer, pl_module)  # the run has ended before its last epoch
        if self._features:
            self._features = [in_order(trainer, torch.cat(self._features))]

    def _listen(self, pl_module: LightningModule) -> RemovableHandle:
        def listen(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            features: Tensor = inputs[0].detach().float()
            self._features.append(_pooled(features, pl_module))

        head: nn.Module = pl_module.head  # type: ignore[assignment]  # checked at set-up
        return head.register_forward_pre_hook(listen)

    def _pass(self, trainer: Trainer, pl_module: LightningModule) -> None:
        hook = self._listen(pl_module)
        with eval_mode(pl_module), torch.no_grad(), trainer.precision_plugin.forward_context():
            for inputs, _ in trainer.val_dataloaders or ():
                pl_module(inputs.to(pl_module.device))
        hook.remove()

    def plot_validation(
        self, trainer: Trainer, pl_module: LightningModule, probabilities: Tensor, labels: Tensor
    ) -> None:
        """See `ValidationPlot`."""
        writer = tensorboard(trainer)
        assert writer is not None  # checked when the fit started
        images = validation_images(trainer, type(self).__name__)
        names = class_names_of(trainer, pl_module, probabilities.shape[1])
        chosen = evenly(self.samples, len(labels))

        def thumbnail(index: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
            return np.asarray(images.image(index).resize((self.thumbnail, self.thumbnail)))

        with ThreadPoolExecutor() as pool:
            thumbnails = np.stack(list(pool.map(thumbnail, chosen)))
        texts = (label_texts(values[chosen], names) for values in (labels, predicted(probabilities, labels)))
        files = [images.samples.paths[i] for i in chosen]
        # Four decimals make the file a third as long.
        features = self._features[0][chosen].double().numpy().round(4)
        writer.add_embedding(
            features,
            metadata=[list(row) for row in zip(*texts, files, strict=True)],
            metadata_header=["truth", "prediction", "file"],
            label_img=torch.from_numpy(thumbnails).permute(0, 3, 1, 2) / 255,
            global_step=trainer.global_step,
            tag="features",
        )


def _pooled(features: Tensor, pl_module: LightningModule) -> Tensor:
    """(B, C, h, w), or (B, T, D), to a row of features an image; others are flattened."""
    backbone, head = getattr(pl_module, "backbone", None), pl_module.head
    if features.ndim == 3 and isinstance(backbone, Backbone):
        own = head.pool if isinstance(head, Head) and not isinstance(head.pool, Flatten) else None
        pooled: Tensor = (own or AveragePool(backbone.prefix_tokens))(features)
        return pooled
    return features.mean(dim=(2, 3)) if features.ndim == 4 else features.flatten(1)

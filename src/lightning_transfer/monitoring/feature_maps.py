"""The output of each stage of a backbone for a few images."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule, Trainer

from lightning_transfer.models.freezing import eval_mode
from lightning_transfer.models.token_maps import as_map
from lightning_transfer.monitoring.images import evenly, validation_images
from lightning_transfer.monitoring.plot_callback import PlotCallback
from lightning_transfer.monitoring.tiles import feature_map_tiles


class FeatureMaps(PlotCallback):
    """Show each stage's feature maps of a few validation images: a row for each image, a column for each channel.

    The channels are those that differ most over these images; the first column is the image. Tokens of
    patches are laid out as a map.

    Args:
        count: How many images, taken evenly from all of them.
        channels: How many channels.
        every_n_epochs: As for `PlotCallback`.
    """

    def __init__(self, count: int = 4, channels: int = 8, every_n_epochs: int | None = None) -> None:
        super().__init__(every_n_epochs)
        self.count = count
        self.channels = channels

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask for images and a backbone."""
        validation_images(trainer, type(self).__name__)
        self.backbone_of(pl_module)

    def plot(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `PlotCallback`."""
        dataset = validation_images(trainer, type(self).__name__)
        backbone = self.backbone_of(pl_module)
        images = torch.stack([dataset[i][0] for i in evenly(self.count, len(dataset))])
        with eval_mode(backbone), torch.no_grad(), trainer.precision_plugin.forward_context():
            maps = backbone.normalise(images.to(pl_module.device))
            for name, stage in backbone.stages.items():
                maps = stage(maps)
                shown = as_map(maps, backbone.prefix_tokens).float().cpu()
                tiles = feature_map_tiles(images, shown, self.channels)
                self.log_figure(trainer, f"feature_maps/{name}", tiles)

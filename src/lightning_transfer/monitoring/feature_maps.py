"""What each stage of a backbone makes of a few images.

Shapes: B images, C channels, H W image, h w feature map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from lightning.pytorch import LightningModule, Trainer

from lightning_transfer.models.backbone import Backbone
from lightning_transfer.models.freezing import eval_mode
from lightning_transfer.monitoring.drawing import Drawing
from lightning_transfer.monitoring.images import evenly, validation_images
from lightning_transfer.monitoring.network import backbone_of
from lightning_transfer.monitoring.tiles import feature_map_tiles

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class FeatureMaps(Drawing):
    """Shows a few validation images as each stage sees them, under IMAGES: a row an image, a column a channel.

    Of a stage's channels those are shown that differ most over these images; the first column is the image.

    Args:
        count: How many images, taken evenly from all of them.
        channels: How many channels.
        every_n_epochs: As for `Drawing`.
    """

    def __init__(self, count: int = 4, channels: int = 8, every_n_epochs: int | None = None) -> None:
        super().__init__(every_n_epochs)
        self.count = count
        self.channels = channels

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Asks for images and a backbone."""
        validation_images(trainer, type(self).__name__)
        backbone_of(pl_module, type(self).__name__)

    def draw(self, trainer: Trainer, pl_module: LightningModule, writer: SummaryWriter | None) -> None:
        """See `Drawing`."""
        if writer is None:
            return
        dataset = validation_images(trainer, type(self).__name__)
        backbone: Backbone = backbone_of(pl_module, type(self).__name__)
        chosen = evenly(self.count, len(dataset))
        images = torch.stack([dataset[i][0] for i in chosen])
        with eval_mode(backbone), torch.no_grad(), trainer.precision_plugin.forward_context():
            maps = backbone.normalise(images.to(pl_module.device))
            for name, stage in backbone.stages.items():
                maps = stage(maps)
                tiles = feature_map_tiles(images.numpy(), maps.float().cpu().numpy(), self.channels)
                writer.add_image(f"feature_maps/{name}", tiles, trainer.global_step, dataformats="HWC")

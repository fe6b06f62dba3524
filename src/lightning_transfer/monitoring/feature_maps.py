"""What each stage of a base makes of a few pictures.

Shapes: B pictures, C channels, H W picture, h w feature map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from lightning.pytorch import LightningModule, Trainer

from lightning_transfer.models.backbone import ConvBase
from lightning_transfer.models.modes import evaluating
from lightning_transfer.monitoring.drawing import Drawing
from lightning_transfer.monitoring.images import evenly, validation_pictures
from lightning_transfer.monitoring.network import base_of
from lightning_transfer.monitoring.tiles import feature_map_tiles

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class FeatureMaps(Drawing):
    """Shows a few validation pictures as each stage sees them, under IMAGES: a row a picture, a column a channel.

    Of a stage's channels those are shown that differ most over these pictures; the first column is the picture.

    Args:
        count: How many pictures, taken evenly from all of them.
        channels: How many channels.
        every_n_epochs: As for `Drawing`.
    """

    def __init__(self, count: int = 4, channels: int = 8, every_n_epochs: int | None = None) -> None:
        super().__init__(every_n_epochs)
        self.count = count
        self.channels = channels

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Asks for pictures and a base."""
        validation_pictures(trainer, type(self).__name__)
        base_of(pl_module, type(self).__name__)

    def draw(self, trainer: Trainer, pl_module: LightningModule, writer: SummaryWriter | None) -> None:
        """See `Drawing`."""
        if writer is None:
            return
        pictures = validation_pictures(trainer, type(self).__name__)
        base: ConvBase = base_of(pl_module, type(self).__name__)
        chosen = evenly(self.count, len(pictures))
        images = torch.stack([pictures[i][0] for i in chosen])
        with evaluating(base), torch.no_grad(), trainer.precision_plugin.forward_context():
            maps = base.normalise(images.to(pl_module.device))
            for name, stage in base.stages.items():
                maps = stage(maps)
                tiles = feature_map_tiles(images.numpy(), maps.float().cpu().numpy(), self.channels)
                writer.add_image(f"feature_maps/{name}", tiles, trainer.global_step, dataformats="HWC")

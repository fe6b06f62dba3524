"""What the first layer of a backbone looks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch import LightningModule, Trainer
from torch import nn

from lightning_transfer.monitoring.drawing import Drawing
from lightning_transfer.monitoring.network import backbone_of
from lightning_transfer.monitoring.tiles import filter_tiles

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class FirstLayerFilters(Drawing):
    """Shows the filters of the backbone's first convolution as little images, under IMAGES."""

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Asks for a backbone."""
        backbone_of(pl_module, type(self).__name__)

    def draw(self, trainer: Trainer, pl_module: LightningModule, writer: SummaryWriter | None) -> None:
        """See `Drawing`."""
        if writer is None:
            return
        layers = backbone_of(pl_module, type(self).__name__).modules()
        first = next(layer for layer in layers if isinstance(layer, nn.Conv2d))
        tiles = filter_tiles(first.weight.detach().float().cpu().numpy())
        writer.add_image("first_layer_filters", tiles, trainer.global_step, dataformats="HWC")

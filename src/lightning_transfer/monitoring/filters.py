"""The filters of a backbone's first convolution, which in a vision transformer makes the patches' tokens."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from torch import nn

from lightning_transfer.monitoring.plot_callback import PlotCallback
from lightning_transfer.monitoring.tiles import filter_tiles


class FirstLayerFilters(PlotCallback):
    """Show the filters of the backbone's first convolution as small images."""

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask for a backbone."""
        self.backbone_of(pl_module)

    def plot(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `PlotCallback`."""
        layers = self.backbone_of(pl_module).modules()
        first = next(layer for layer in layers if isinstance(layer, nn.Conv2d))
        self.log_figure(trainer, "first_layer_filters", filter_tiles(first.weight.detach().float().cpu()))

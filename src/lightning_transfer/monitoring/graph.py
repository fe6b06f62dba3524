"""The graph of a network's operations."""

from __future__ import annotations

import warnings

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn

from lightning_transfer.errors import CallbackError
from lightning_transfer.models.freezing import eval_mode
from lightning_transfer.monitoring.plot_callback import PlotCallback, tensorboard


class ModelGraph(PlotCallback):
    """Show the module's network under GRAPHS, with a box for each stage that opens.

    Args:
        image_size: H and W of the images, in pixels; None for the module's `image_size`, else 224.
    """

    tensorboard_only = True

    def __init__(self, image_size: int | None = None) -> None:
        super().__init__()
        self.image_size = image_size

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask for a network."""
        self._network_of(pl_module)

    def plot(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `PlotCallback`."""
        network, writer = self._network_of(pl_module), tensorboard(trainer)
        assert writer is not None  # checked when the fit started
        size = self.image_size or getattr(pl_module, "image_size", None) or 224
        images = torch.zeros((1, 3, size, size), dtype=torch.uint8, device=pl_module.device)
        with eval_mode(network), torch.no_grad(), warnings.catch_warnings():
            # TensorBoard takes no other kind of graph.
            warnings.filterwarnings("ignore", ".*torch.jit.trace", FutureWarning)
            warnings.filterwarnings("ignore", ".*torch.jit.trace", DeprecationWarning)
            # The network's branches depend on the dtype of its images alone.
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
            writer.add_graph(network, images)

    def _network_of(self, pl_module: LightningModule) -> nn.Module:
        network = getattr(pl_module, "network", None)
        if not isinstance(network, nn.Module) or isinstance(network, LightningModule):
            raise CallbackError(
                "ModelGraph traces the module's attribute network, a plain torch module from images to logits, "
                f"and {type(pl_module).__name__} has none: add one, or leave the callback out."
            )
        return network

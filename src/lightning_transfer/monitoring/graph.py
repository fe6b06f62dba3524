"""The graph of a network's operations.

Shapes: B batch, H W image, K classes.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from lightning_transfer.models.backbone import Backbone
from lightning_transfer.models.freezing import eval_mode
from lightning_transfer.monitoring.drawing import Drawing
from lightning_transfer.monitoring.network import backbone_of

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class BackboneAndHead(nn.Module):
    """Images to logits, by stage; without Lightning's own, which cannot be traced."""

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, K)."""
        return cast(Tensor, self.head(self.backbone(images)))


class ModelGraph(Drawing):
    """Shows backbone and head as a graph, under GRAPHS: a box a stage, which opens.

    Args:
        image_size: H and W of the images, in pixels; where it is not given, the module's hyperparameter of that
            name, else 224.
    """

    def __init__(self, image_size: int | None = None) -> None:
        super().__init__()
        self.image_size = image_size

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Asks for a backbone."""
        backbone_of(pl_module, type(self).__name__)

    def draw(self, trainer: Trainer, pl_module: LightningModule, writer: SummaryWriter | None) -> None:
        """See `Drawing`."""
        if writer is None:
            return
        network = BackboneAndHead(backbone_of(pl_module, type(self).__name__), cast(nn.Module, pl_module.head))
        size = self.image_size or int(pl_module.hparams.get("image_size", 224))
        images = torch.zeros((1, 3, size, size), dtype=torch.uint8, device=pl_module.device)
        with eval_mode(network), torch.no_grad(), warnings.catch_warnings():
            # TensorBoard takes no other kind of graph.
            warnings.filterwarnings("ignore", ".*torch.jit.trace", FutureWarning)
            warnings.filterwarnings("ignore", ".*torch.jit.trace", DeprecationWarning)
            # The network's branches depend on the dtype of its images alone.
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
            writer.add_graph(network, images)

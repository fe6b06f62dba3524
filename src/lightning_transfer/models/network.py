"""Backbone and head as one plain network: images, or a stage's stored outputs, to logits.

Shapes: B batch, C channels, H W image, h w feature map, T tokens, D features, K classes.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from lightning_transfer.errors import ModuleError
from lightning_transfer.models.backbone import Backbone

Activation = Literal["softmax", "sigmoid"]
HEAD = "head"  # its name among the stages


def activate(logits: Tensor, activation: Activation) -> Tensor:
    """Turn (B, K) logits into (B, K) float32 probabilities.

    >>> activate(torch.zeros(1, 4), "softmax"), activate(torch.zeros(1, 2), "sigmoid")
    (tensor([[0.2500, 0.2500, 0.2500, 0.2500]]), tensor([[0.5000, 0.5000]]))
    """
    logits = logits.float()
    return logits.softmax(dim=1) if activation == "softmax" else logits.sigmoid()


class TransferNetwork(nn.Module):
    """A backbone and the head on it.

    Args:
        backbone: The pretrained network without its classifier.
        head: Takes the backbone's output to (B, K) logits. It may be set later, when K is known.
        activation: "softmax" where each image has one class, "sigmoid" where it may have several.

    Raises:
        ModuleError: An unknown activation.

    >>> from lightning_transfer.models.head import Head
    >>> backbone = Backbone("squeezenet1_1", weights=None)
    >>> network = TransferNetwork(backbone, Head(backbone.out_shape(64), num_classes=3, pool="avg")).eval()
    >>> images = torch.zeros((2, 3, 64, 64), dtype=torch.uint8)
    >>> prefix, _ = backbone.split("fire9")
    >>> torch.equal(network.forward_from("fire9", prefix(images)), network(images))
    True
    """

    def __init__(
        self, backbone: Backbone, head: nn.Module | None = None, activation: Activation = "softmax"
    ) -> None:
        super().__init__()
        if activation not in get_args(Activation):
            raise ModuleError(f"activation={activation!r}: wanted one of {', '.join(get_args(Activation))}.")
        self.backbone = backbone
        self.head = head
        self.activation: Activation = activation

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The backbone's stages from the input on, then "head"."""
        return {**dict(self.backbone.stages.items()), HEAD: self._head()}

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits.

        Args:
            images: (B, 3, H, W), uint8, or floating in [0, 1].

        Returns:
            (B, K) logits.
        """
        logits: Tensor = self._head()(self.backbone(images))
        return logits

    def forward_from(self, stage: str, features: Tensor) -> Tensor:
        """Compute logits from the output of the stage before `stage`.

        Args:
            stage: The first stage that still runs; "head" for the head alone.
            features: (B, C, h, w) or (B, T, D), of any floating dtype.

        Returns:
            (B, K) logits.

        Raises:
            BackboneError: There is no such stage.
        """
        head = self._head()
        features = features.to(next(head.parameters()).dtype)
        if features.ndim == 4:
            features = features.contiguous(memory_format=torch.channels_last)
        if stage != HEAD:
            first = self.backbone.stage_index(stage)
            for name in self.backbone.stage_names[first:]:
                features = self.backbone.stages[name](features)
        logits: Tensor = head(features)
        return logits

    def probabilities(self, images: Tensor) -> Tensor:
        """Compute (B, K) float32 probabilities of (B, 3, H, W) images; with softmax each row sums to 1."""
        return activate(self(images), self.activation)

    def _head(self) -> nn.Module:
        if self.head is None:
            raise ModuleError("This network has no head yet: set `head`, or pass num_classes and image_size.")
        return self.head

"""Parts of the candidates that do not use this library: torchvision's network, folders and transforms.

Shapes: B batch, H W image, K classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import models
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from lightning_transfer.data.augmentation import FILL, Augmentation
from lightning_transfer.data.datamodule import default_workers

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGE_SIZE = 150
RESIZE = v2.Resize((IMAGE_SIZE, IMAGE_SIZE))
TO_UINT8 = v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.uint8)])
TO_FLOAT = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])


def squeezenet(weights: Path) -> nn.Sequential:
    """Make SqueezeNet 1.1's features with the given weights."""
    network = models.squeezenet1_1(weights=None)
    missing, unexpected = network.load_state_dict(torch.load(weights, weights_only=True), strict=False)
    assert not unexpected, unexpected
    assert all(key.startswith("classifier") for key in missing), missing
    features: nn.Sequential = network.features
    return features


def dense_head(outputs: int) -> nn.Sequential:
    """Make what `Head(pool="avg")` is: average pool, 256 hidden units, dropout, logits."""
    hidden = nn.Linear(512, 256)
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), hidden, nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, outputs)
    )


def augmented(augmentation: Augmentation) -> v2.Transform:
    """Make the transforms of an `Augmentation`, with torch's own generator."""
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(
                augmentation.rotation,
                (augmentation.shift, augmentation.shift),
                (1 - augmentation.zoom, 1 + augmentation.zoom),
                augmentation.shear or None,
                v2.InterpolationMode.BILINEAR,
                FILL,
            ),
            v2.ColorJitter(*[augmentation.colour] * 3),
        ]
    )


def batches(folder: Path, batch_size: int, *steps: Any, shuffle: bool = False) -> DataLoader[Any]:
    """Make a loader of a folder's images, with as many workers as this library uses."""
    dataset = ImageFolder(str(folder), v2.Compose([RESIZE, *steps]))
    workers = default_workers()
    return DataLoader(dataset, batch_size, shuffle=shuffle, num_workers=workers, persistent_workers=True)


def share_right(logits: list[Tensor], labels: list[Tensor]) -> float:
    """Return the accuracy of (B, K) logits, or of (B, 1), where positive means the second class."""
    said = torch.cat(logits)
    right = (said.squeeze(1) > 0).long() if said.shape[1] == 1 else said.argmax(dim=1)
    return float((right == torch.cat(labels)).float().mean())

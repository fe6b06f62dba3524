"""Output shape and cost of each stage of a backbone.

Shapes: C channels, h w feature map, T tokens, D features.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import cast

import torch

from lightning_transfer.models.backbone import Backbone, FeatureShape


@dataclass(frozen=True)
class StageSize:
    """One stage.

    Attributes:
        stage: Its name.
        shape: (C, h, w) of its output, or (T, D) of tokens.
        parameters: How many numbers it holds that can be trained.
        operations: Additions and multiplications in its convolutions and matrix products, for one image.
    """

    stage: str
    shape: FeatureShape
    parameters: int
    operations: int


def stage_sizes(backbone: Backbone, image_size: int) -> list[StageSize]:
    """The stages' sizes for an image of `image_size` × `image_size` pixels; computes nothing.

    Raises:
        BackboneError: The image is too small for the network, or of a size that its patches do not fit.

    >>> stage_sizes(Backbone("squeezenet1_1", weights=None), 150)[0]
    StageSize(stage='stem', shape=(64, 37, 37), parameters=1792, operations=18925056)
    """
    from torch.utils.flop_counter import FlopCounterMode

    backbone.out_shape(image_size)
    weightless = copy.deepcopy(backbone).to("meta").eval()
    image = torch.empty((1, 3, image_size, image_size), dtype=torch.uint8, device="meta")
    sizes = []
    with torch.no_grad():
        features = weightless.normalise(image)
        for name, stage in weightless.stages.items():
            with FlopCounterMode(display=False) as counter:
                features = stage(features)
            parameters = sum(parameter.numel() for parameter in stage.parameters())
            shape = cast(FeatureShape, tuple(features.shape[1:]))
            sizes.append(StageSize(name, shape, parameters, counter.get_total_flops()))
    return sizes

"""Grad-CAM: which places of an image speak for a class.

See Selvaraju et al., https://arxiv.org/abs/1610.02391.

Shapes: B batch, C channels, H W image, h w feature map, K classes.
"""

from __future__ import annotations

import difflib

import torch
from torch import Tensor

from lightning_transfer.errors import ExtraError, ModuleError
from lightning_transfer.inference.prediction import ImageClassifier


def grad_cam(
    classifier: ImageClassifier, images: Tensor, stage: str | None = None, label: str | None = None
) -> Tensor:
    """Compute how much each place of B images speaks for a class, as one stage of the backbone sees it.

    Each channel of the stage's (C, h, w) output is weighted with its mean gradient of the class's logit; the
    positive part of the sum is resized to H × W bilinearly and divided by the image's own maximum. So the map
    compares places of one image, not images.

    Args:
        classifier: A trained network.
        images: (B, 3, H, W), uint8 or floating in [0, 1].
        stage: One of the backbone's stages; None for the last.
        label: One of the classes; None for each image's predicted one.

    Returns:
        (B, H, W) float32 in [0, 1], on the CPU: 1 at the highest place; all 0 where nothing at that stage speaks
        for the class.

    Raises:
        BackboneError: There is no such stage; lists the names.
        ModuleError: There is no such class; lists the names.
        ExtraError: captum is not installed.
    """
    backbone = classifier.network.backbone
    layer = backbone.stages[backbone.stage_names[-1 if stage is None else backbone.stage_index(stage)]]
    try:
        from captum.attr import LayerAttribution, LayerGradCam
    except ModuleNotFoundError as error:
        raise ExtraError(
            'Explaining needs captum, which is not installed: pip install "lightning-transfer[explain]".'
        ) from error

    images = images.to(classifier.module.device)
    if label is None:
        targets = classifier.probabilities(images).argmax(dim=1)
    else:
        targets = torch.full((len(images),), _class_index(classifier, label))
    # The hook on the stage asks for its output's gradients, frozen or not, and passes a copy on, which later
    # layers may overwrite.
    layer_cam = LayerGradCam(classifier.module, layer)
    coarse = layer_cam.attribute(images, targets.to(images.device), relu_attributions=True)
    fine = LayerAttribution.interpolate(coarse, images.shape[-2:], "bilinear")
    evidence: Tensor = fine[:, 0].detach().float().cpu()
    highest = evidence.amax(dim=(1, 2), keepdim=True)
    return evidence / highest.where(highest > 0, 1)


def _class_index(classifier: ImageClassifier, label: str) -> int:
    names = classifier.class_names
    if label not in names:
        near = difflib.get_close_matches(label, names, n=1)
        raise ModuleError(
            f"The network has no class {label!r}{f' (did you mean {near[0]}?)' if near else ''}: "
            f"its classes are {', '.join(names)}."
        )
    return names.index(label)

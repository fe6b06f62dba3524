"""Grad-CAM: which places of an image speak for a class.

See Selvaraju et al., https://arxiv.org/abs/1610.02391.

Shapes: B batch, C channels, H W image, h w feature map, T tokens, D features, P prefix tokens, K classes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lightning_transfer.errors import ExtraError, ModuleError
from lightning_transfer.inference.prediction import ImageClassifier
from lightning_transfer.models.backbone import Backbone
from lightning_transfer.models.token_maps import as_map, as_tokens


def grad_cam(
    classifier: ImageClassifier, images: Tensor, stage: str | None = None, label: str | None = None
) -> Tensor:
    """Compute how much each place of B images speaks for a class, as one stage of the backbone sees it.

    Each channel of the stage's output, a map (C, h, w) or the patches' tokens as a map (D, h, w), is weighted with
    its mean gradient of the class's logit; the positive part of the sum is resized to H × W bilinearly and divided
    by the image's own maximum. So the map compares places of one image, not images.

    Args:
        classifier: A trained network.
        images: (B, 3, H, W), uint8 or floating in [0, 1].
        stage: One of the backbone's stages; None for `explained_stage`.
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
    name = explained_stage(classifier) if stage is None else backbone.stage_names[backbone.stage_index(stage)]
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
    with _as_map(backbone, name) as layer:
        # captum's hook asks for the output's gradients, frozen or not, and passes a copy on, which later layers
        # may overwrite.
        layer_cam = LayerGradCam(classifier.module, layer)
        coarse = layer_cam.attribute(images, targets.to(images.device), relu_attributions=True)
    fine = LayerAttribution.interpolate(coarse, images.shape[-2:], "bilinear")
    evidence: Tensor = fine[:, 0].detach().float().cpu()
    highest = evidence.amax(dim=(1, 2), keepdim=True)
    return evidence / highest.where(highest > 0, 1)


def explained_stage(classifier: ImageClassifier) -> str:
    """Return the last stage whose places the logits depend on.

    That is the last stage of all, unless the head takes the class token of a vision transformer: after the last
    block nothing of the patches' tokens reaches it, so that it is the one before.
    """
    backbone, size = classifier.network.backbone, classifier.image_size
    if len(backbone.out_shape(size)) == 3:
        return backbone.stage_names[-1]
    outputs: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: outputs.update({name: output}))
        for name, module in backbone.stages.items()
    ]
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((1, 3, size, size), generator=generator).to(classifier.module.device).requires_grad_()
    with torch.enable_grad():
        logits = classifier.module(image)
    for hook in hooks:
        hook.remove()
    gradients = torch.autograd.grad(logits.square().sum(), list(outputs.values()), allow_unused=True)
    reached = [
        name
        for name, gradient in zip(outputs, gradients, strict=True)
        if gradient is not None and gradient[:, backbone.prefix_tokens :].any()
    ]
    return reached[-1] if reached else backbone.stage_names[-1]


class _Map(nn.Module):
    """A map as it is, and tokens as one, at a place that a hook can be on."""

    def __init__(self, prefix_tokens: int) -> None:
        super().__init__()
        self.prefix_tokens = prefix_tokens

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w), or (B, P + h·w, D) to (B, D, h, w)."""
        return as_map(features, self.prefix_tokens)


@contextmanager
def _as_map(backbone: Backbone, stage: str) -> Iterator[nn.Module]:
    """Give a module whose output is a stage's as a map, and which the features go through for a while."""
    patches = _Map(backbone.prefix_tokens)

    def through_a_map(_: nn.Module, __: object, features: Tensor) -> Tensor:
        places: Tensor = patches(features)
        return places if features.ndim == 4 else as_tokens(places, features[:, : backbone.prefix_tokens])

    hook = backbone.stages[stage].register_forward_hook(through_a_map)
    try:
        yield patches
    finally:
        hook.remove()


def _class_index(classifier: ImageClassifier, label: str) -> int:
    names = classifier.class_names
    if label not in names:
        near = difflib.get_close_matches(label, names, n=1)
        raise ModuleError(
            f"The network has no class {label!r}{f' (did you mean {near[0]}?)' if near else ''}: "
            f"its classes are {', '.join(names)}."
        )
    return names.index(label)

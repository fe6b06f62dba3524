"""A pretrained network without its classifier: a row of named stages that can be cut between any two.

Shapes: B batch, C channels, H W image, h w feature map.
"""

from __future__ import annotations

import copy
import difflib
import hashlib

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torchvision import models

from lightning_transfer.errors import BackboneError
from lightning_transfer.models.freezing import eval_mode
from lightning_transfer.models.providers import torchvision
from lightning_transfer.models.providers.torchvision import Normalisation
from lightning_transfer.models.weights import do_weights_follow, find_weights, load_weights, read_weights


class Normalise(nn.Module):
    """Normalise images, uint8 or floating in [0, 1], as a network was trained.

    Args:
        normalisation: Mean and standard deviation a channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, normalisation: Normalisation) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(normalisation.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(normalisation.std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 3, H, W), floating, channels last in memory."""
        scale = self.std.reciprocal()
        if images.dtype == torch.uint8:
            scale = scale / 255
        images = images.to(scale.dtype).contiguous(memory_format=torch.channels_last)
        return torch.addcmul(-self.mean / self.std, images, scale)


class Backbone(nn.Module):
    """A torchvision classification network without its classifier.

    It owns its normalisation, so that no data module and no exported model can forget it.

    Args:
        name: The network's name in torchvision; see
            `lightning_transfer.models.providers.torchvision.network_names`.
        weights: A torchvision weights name ("DEFAULT", "IMAGENET1K_V1", …), the path of a .pth or .safetensors
            file with torchvision's own keys (the classifier's may be absent), "bundled" for those that come with
            this library (mobilenet_v3_small), or None for random ones.
        last_stage: The last stage that is kept; all where it is not given.

    Attributes:
        name: As above.
        stages: The stages by name, each an `nn.Sequential`.

    Raises:
        BackboneError: An unknown network, stage or weights name, or a file that does not fit.
        DownloadError: The weights are not at hand and cannot be fetched.

    >>> backbone = Backbone("vgg16", weights=None)
    >>> backbone.stage_names
    ('block1', 'block2', 'block3', 'block4', 'block5')
    >>> backbone.out_shape(150)
    (512, 4, 4)
    """

    def __init__(
        self, name: str = "vgg16", weights: str | None = "DEFAULT", last_stage: str | None = None
    ) -> None:
        super().__init__()
        self.name = torchvision.checked_name(name)
        source = None if weights is None or do_weights_follow() else find_weights(name, weights)
        if source is None:
            network = torchvision.build_network(name)
        else:
            network = torchvision.build_empty_network(name)
            load_weights(name, network, read_weights(source), origin=source)
        pretrained = source if isinstance(source, models.WeightsEnum) else None
        self.normalise = Normalise(torchvision.normalisation(name, pretrained))
        self.stages = nn.ModuleDict(torchvision.stages_of(name, network))
        if last_stage is not None:
            kept = self.stage_names[: self.stage_index(last_stage) + 1]
            self.stages = nn.ModuleDict({stage: self.stages[stage] for stage in kept})
        # Convolutions are up to twice as fast on this layout, on processors and on GPUs.
        self.to(memory_format=torch.channels_last)

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stages' names, from the input on."""
        return tuple(self.stages)

    def stage_index(self, stage: str) -> int:
        """Return the position of a stage in `stage_names`.

        Raises:
            BackboneError: There is no such stage; lists the names.
        """
        if stage not in self.stages:
            near = difflib.get_close_matches(stage, self.stage_names, n=1)
            raise BackboneError(
                f"{self.name} has no stage {stage!r}{f' (did you mean {near[0]}?)' if near else ''}: "
                f"its stages are {', '.join(self.stage_names)}."
            )
        return self.stage_names.index(stage)

    def forward(self, images: Tensor) -> Tensor:
        """The feature map of a batch of images.

        Args:
            images: (B, 3, H, W), uint8, or floating in [0, 1].

        Returns:
            (B, C, h, w), floating.

        Raises:
            BackboneError: Another shape or dtype.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise BackboneError(f"Wanted images of shape (B, 3, H, W), got {tuple(images.shape)}.")
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise BackboneError(f"Wanted images in uint8, or floating in [0, 1], got {images.dtype}.")
        features: Tensor = self.normalise(images)
        for stage in self.stages.values():
            features = stage(features)
        return features

    def split(self, stage: str) -> tuple[Backbone, nn.Sequential]:
        """Cut the row before a stage.

        Args:
            stage: The first stage of the suffix.

        Returns:
            The backbone up to the cut, and what follows; `suffix(prefix(images))` is `backbone(images)`. Both
            share this backbone's layers.

        Raises:
            BackboneError: There is no such stage.
        """
        index = self.stage_index(stage)
        names = self.stage_names
        prefix = copy.copy(self)
        prefix._modules = {
            "normalise": self.normalise,
            "stages": nn.ModuleDict({name: self.stages[name] for name in names[:index]}),
        }
        suffix = nn.Sequential()
        for name in names[index:]:
            suffix.add_module(name, self.stages[name])
        return prefix, suffix

    def out_shape(self, image_size: int) -> tuple[int, int, int]:
        """(C, h, w) of the feature map of an image of `image_size` × `image_size` pixels; computes nothing.

        Raises:
            BackboneError: The image is too small for the network.
        """
        weightless = {key: value.to("meta") for key, value in self.state_dict().items()}
        image = torch.empty((1, 3, image_size, image_size), dtype=torch.uint8, device="meta")
        try:
            with eval_mode(self), torch.no_grad():
                channels, height, width = functional_call(self, weightless, (image,)).shape[1:]
        except RuntimeError as error:
            raise BackboneError(
                f"Images of {image_size} × {image_size} are too small for {self.name}: pass a larger image_size."
            ) from error
        return channels, height, width

    def fingerprint(self) -> str:
        """Return 64 hexadecimal digits that depend on the stages and every number in them."""
        digest = hashlib.sha256(f"{self.name} {self.stage_names}".encode())
        for key, value in self.state_dict().items():
            array = value.detach().cpu().contiguous()
            digest.update(f"{key} {array.dtype} {tuple(array.shape)}".encode())
            digest.update(array.view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

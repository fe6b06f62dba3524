"""A pretrained network without its classifier: a row of named stages that can be cut between any two.

Shapes: B batch, C channels, H W image, h w feature map, T tokens, D features.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
from collections.abc import Mapping
from itertools import chain

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lightning_transfer.errors import BackboneError
from lightning_transfer.models.freezing import eval_mode
from lightning_transfer.models.meta_init import meta_init
from lightning_transfer.models.normalise import Normalise
from lightning_transfer.models.providers.provider import provider_of
from lightning_transfer.models.weights import do_weights_follow, find_weights, load_weights

# (C, h, w) of a map, or (T, D) of tokens.
FeatureShape = tuple[int, int, int] | tuple[int, int]


class Backbone(nn.Module):
    """A classification network without its classifier.

    It owns its normalisation, so that no data module and no exported model can forget it.

    Args:
        name: The network's name in torchvision, as "vgg16"; or in timm, behind a prefix, as
            "timm/convnext_tiny.fb_in22k"; or in a provider of your own, see `register_provider`.
        weights: A provider's name for weights (torchvision: "DEFAULT", "IMAGENET1K_V1", …; timm: a tag of its
            own), the path of a .pth or .safetensors file with the provider's keys (the classifier's may be
            absent), "bundled" for those that come with this library (mobilenet_v3_small), or None for random ones.
        last_stage: The last stage that is kept; all where it is not given.

    Attributes:
        name: As above.
        stages: The stages by name.
        preprocessing: What the weights were trained with: normalisation, native size, interpolation.
        prefix_tokens: How many tokens come before those of the patches: the class token and registers.

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
        self.name = name
        self._no_native_pool = ""  # why there is none
        provider, own_name = provider_of(name)
        provider.check_name(own_name)
        named = None if do_weights_follow() else weights
        pretrained = None if named is None else find_weights(name, provider, own_name, named)
        if pretrained is None:
            network = provider.build(own_name)
        else:
            with meta_init():
                network = provider.build(own_name)
            state = provider.adapt(own_name, network, pretrained.read())
            lacking = load_weights(name, network, provider.row(own_name, network), state, pretrained.origin)
            if lacking:
                self._no_native_pool = f"{pretrained.origin} has no {lacking[0]} of the right shape"
        row = provider.row(own_name, network)
        self.preprocessing = provider.preprocessing(own_name) if pretrained is None else pretrained.preprocessing
        self.normalise = Normalise(self.preprocessing)
        self.stages = nn.ModuleDict(row.stages)
        self.prefix_tokens = row.prefix_tokens
        self._multiple, self._fixed_size = row.multiple, row.fixed_size
        self._native_pool = (row.pool,)  # not a part of this module: a head has its own
        if last_stage is not None:
            kept = self.stage_names[: self.stage_index(last_stage) + 1]
            self.stages = nn.ModuleDict({stage: self.stages[stage] for stage in kept})
            if last_stage != list(row.stages)[-1]:
                self._no_native_pool = f"it takes the output of the stage after {last_stage}, which is not kept"
        # Convolutions are up to twice as fast on this layout, on processors and on GPUs.
        self.to(memory_format=torch.channels_last)

    @property
    def native_size(self) -> int:
        """H and W that the weights were trained at, in pixels."""
        return self.preprocessing.size

    @property
    def interpolation(self) -> str:
        """How images were resized for the weights: "bilinear" or "bicubic"."""
        return self.preprocessing.interpolation

    @property
    def has_native_pool(self) -> bool:
        """Whether `native_pool` has what it needs: all stages, and its own pretrained numbers, if any."""
        return not self._no_native_pool

    def native_pool(self) -> nn.Module:
        """Return a copy of what lies between the last stage and the network's own classifier; it gives (B, D).

        It is in this backbone's mode, training or eval.

        Raises:
            BackboneError: The last stage was not kept, whose output it takes, or the weights lack its numbers.
        """
        if self._no_native_pool:
            no_pool = f'{self.name} has no pool="native" here, since {self._no_native_pool}'
            raise BackboneError(f'{no_pool}: take another pool, such as "avg".')
        return copy.deepcopy(self._native_pool[0]).train(self.training)

    def load_native_pool(self, state: Mapping[str, Tensor], origin: str) -> None:
        """Give the network's own pooling its numbers, where it has any and they come from elsewhere.

        Args:
            state: With its keys; none at all where the weights came with another pooling.
            origin: Where they come from, for the error of `native_pool`.
        """
        (pool,) = self._native_pool
        own = pool.state_dict()
        lacking = [key for key in own if key not in state or state[key].shape != own[key].shape]
        if lacking:
            self._no_native_pool = self._no_native_pool or f"{origin} has no {lacking[0]} of the right shape"
        else:
            pool.load_state_dict({key: state[key] for key in own}, assign=True)

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
        """The features of a batch of images.

        Args:
            images: (B, 3, H, W), uint8, or floating in [0, 1].

        Returns:
            A map (B, C, h, w), or tokens (B, T, D), floating.

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
        prefix._no_native_pool = f"it takes the output of the stages from {stage} on, which are cut off"
        prefix._modules = {
            "normalise": self.normalise,
            "stages": nn.ModuleDict({name: self.stages[name] for name in names[:index]}),
        }
        suffix = nn.Sequential()
        for name in names[index:]:
            suffix.add_module(name, self.stages[name])
        return prefix, suffix

    def out_shape(self, image_size: int) -> FeatureShape:
        """Return what an image of `image_size` × `image_size` pixels becomes; computes nothing.

        Returns:
            (C, h, w) of a map, or (T, D) of tokens.

        Raises:
            BackboneError: The image is too small for the network, or of a size that its patches do not fit.
        """
        self.check_size(image_size)
        # Not of its state_dict, which lacks some buffers, such as Swin V2's table of places.
        weightless = {key: value.to("meta") for key, value in chain(self.named_parameters(), self.named_buffers())}
        image = torch.empty((1, 3, image_size, image_size), dtype=torch.uint8, device="meta")
        try:
            with eval_mode(self), torch.no_grad():
                shape = functional_call(self, weightless, (image,)).shape[1:]
        except (RuntimeError, AssertionError) as error:
            raise BackboneError(
                f"Images of {image_size} × {image_size} are too small for {self.name}: pass a larger image_size."
            ) from error
        return (shape[0], shape[1]) if len(shape) == 2 else (shape[0], shape[1], shape[2])

    def check_size(self, image_size: int) -> None:
        """Check that a network takes images of a size.

        Raises:
            BackboneError: It does not; names the nearest sizes.
        """
        if self._fixed_size not in (None, image_size):
            raise BackboneError(
                f"{self.name} takes images of {self._fixed_size} × {self._fixed_size} alone, not {image_size}: "
                f"pass image_size={self._fixed_size}."
            )
        if image_size % self._multiple:
            below = image_size - image_size % self._multiple
            sizes = " or ".join(str(size) for size in (below, below + self._multiple) if size)
            raise BackboneError(
                f"{self.name} divides images evenly, and image_size={image_size} is no multiple of "
                f"{self._multiple}: pass {sizes}."
            )

    def fingerprint(self) -> str:
        """Return 64 hexadecimal digits that depend on the stages and every number in them."""
        digest = hashlib.sha256(f"{self.name} {self.stage_names}".encode())
        for key, value in self.state_dict().items():
            array = value.detach().cpu().contiguous()
            digest.update(f"{key} {array.dtype} {tuple(array.shape)}".encode())
            digest.update(array.view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

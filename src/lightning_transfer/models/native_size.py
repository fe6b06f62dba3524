"""The image size of a network by its name, without its weights."""

from __future__ import annotations

from lightning_transfer.models.backbone import Backbone
from lightning_transfer.models.meta_init import meta_init
from lightning_transfer.models.providers.provider import provider_of
from lightning_transfer.models.weights import find_weights

# Those that this library's own examples have: the book's network, and the one with the bundled weights.
EXAMPLES = {"vgg16": 150, "mobilenet_v3_small": 150}


def native_size(name: str, weights: str | None = None) -> int:
    """Return H and W that a network's weights were trained at; they are not read.

    Args:
        name: The network's; see `Backbone`.
        weights: See `Backbone`; None for those that the provider prefers.

    Raises:
        BackboneError: An unknown network or weights name.

    >>> native_size("inception_v3")
    299
    """
    provider, own_name = provider_of(name)
    provider.check_name(own_name)
    if weights is None:
        return provider.preprocessing(own_name).size
    return find_weights(name, provider, own_name, weights).preprocessing.size


def usual_size(name: str, weights: str | None = None) -> int:
    """Return the image size of the commands where none is given: the native one, for `EXAMPLES` theirs.

    Raises:
        BackboneError: An unknown network or weights name.

    >>> usual_size("vgg16"), usual_size("resnet18")
    (150, 224)
    """
    return EXAMPLES.get(name) or native_size(name, weights)


def check_size(name: str, image_size: int) -> None:
    """Check that a network takes images of a size, before its weights are read or images are looked at.

    Raises:
        BackboneError: An unknown network; or the images are too small for it, or its patches do not fit them.
    """
    with meta_init():
        Backbone(name, weights=None).out_shape(image_size)

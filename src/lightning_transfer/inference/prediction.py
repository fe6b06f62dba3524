"""Images in, classes out: a trained network from its checkpoint alone.

Shapes: B batch, H W image, K classes, N samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from lightning_transfer.data.decoding import MAX_PIXELS, Resize
from lightning_transfer.data.image_list import ImageList
from lightning_transfer.errors import ExtraError, ModuleError, ProviderError, TransferError
from lightning_transfer.inference.module_class import find_class, rebuild
from lightning_transfer.models.meta_init import meta_init
from lightning_transfer.training.checkpoint_io import read_checkpoint
from lightning_transfer.training.checkpoints import (
    NETWORK,
    ORIGINS,
    VERSION_KEY,
    advice_if_newer,
    is_newer,
    load_part,
    upgrade,
    version,
)
from lightning_transfer.training.classifier import Classifier
from lightning_transfer.training.data_contract import decoding_of
from lightning_transfer.utils.arguments import positive


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    Attributes:
        path: The file.
        probabilities: By class name; where each image has one class, they sum to 1.
    """

    path: Path
    probabilities: dict[str, float]

    @property
    def label(self) -> str:
        """The class with the highest probability."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def probability(self) -> float:
        """The highest probability."""
        return self.probabilities[self.label]

    def labels(self, threshold: float = 0.5) -> list[str]:
        """Return the classes of a multi-label prediction, in their order.

        >>> Prediction(Path("a.jpg"), {"cat": 0.9, "indoor": 0.7, "dog": 0.1}).labels()
        ['cat', 'indoor']
        """
        return [name for name, probability in self.probabilities.items() if probability >= threshold]


class ImageClassifier:
    """A trained network with what it needs to know of images; `load_classifier` makes one.

    Args:
        module: In eval mode.

    Attributes:
        module: As above.
        network: Backbone and head, plain torch: (B, 3, H, W) uint8 images to (B, K) logits. Where a subclass has
            layers or a `forward` of its own, the module's logits are others, and they are what counts.
        class_names: K names; numbers from 0 on where the data module had none.
        image_size: H and W, in pixels.
        resize: "squash" or "crop", as in training; "squash" where the data module did not say.
        max_pixels: Largest H · W of a file, as in training; the data modules' default where it is not known.
        bit_depth: How many bits a 16-bit file uses, as in training; None where it is not known.
    """

    def __init__(self, module: Classifier) -> None:
        self.module = module
        self.network = module.network
        self.class_names = module.class_names or tuple(map(str, range(module.num_classes)))
        self.image_size = module.image_size
        self.resize = cast(Resize, module.resize or "squash")
        self.max_pixels = module.decoding.get("max_pixels", MAX_PIXELS)
        self.bit_depth = module.decoding.get("bit_depth")

    def classify(self, paths: Sequence[str | Path], batch_size: int = 32) -> list[Prediction]:
        """Classify N image files; for many files, on a GPU, see the command `predict`.

        Args:
            paths: N files.
            batch_size: How many go through the network at once.

        Returns:
            N predictions, in the same order.

        Raises:
            UnreadableImageError: A file cannot be decoded; names it.
        """
        predictions: list[Prediction] = []
        for start in range(0, len(paths), batch_size):
            files = [Path(path) for path in paths[start : start + batch_size]]
            images = torch.stack([self.images(files).read(file) for file in files])
            rows = self.probabilities(images).tolist()
            predictions += [
                Prediction(file, dict(zip(self.class_names, row, strict=True)))
                for file, row in zip(files, rows, strict=True)
            ]
        return predictions

    def probabilities(self, images: Tensor) -> Tensor:
        """Return (B, K) float32 probabilities, on the CPU, of (B, 3, H, W) images, uint8 or floating in [0, 1]."""
        with torch.inference_mode():
            return self.module.task.probabilities(self.module(images.to(self.module.device))).cpu()

    def images(self, paths: Sequence[Path]) -> ImageList:
        """Make a data set of files, decoded and resized as in training."""
        return ImageList(paths, self.image_size, self.resize, self.max_pixels, self.bit_depth)


def load_classifier(
    path: str | Path,
    module_class: type[Classifier] | None = None,
    *,
    allow_import: str | Sequence[str] = (),
    max_pixels: int | None = None,
) -> ImageClassifier:
    """Load a checkpoint of any regime, or of a subclass; nothing else is needed.

    No code in the file is run: only plain values and tensors are read. The class that made it is imported where
    it is one of this library's, or of a package that `allow_import` names. The network computes in float32 on the
    CPU; move it with `.module.to("cuda")`.

    Args:
        path: A file that `fit` saved.
        module_class: Your subclass, in place of the one that is recorded; nothing is imported then.
        allow_import: Packages that you trust with whatever their code does, such as "my_package".
        max_pixels: Largest H · W of a file; None for the checkpoint's.

    Raises:
        DataError: max_pixels is no positive number.
        ModuleError: There is no such file, or it is not this library's, or it is damaged; names it. Or its class
            may not be imported, or cannot be built; names that.
        ProviderError: Its network is of a provider that is not known here.
        ExtraError: Its network is of a library that is not installed.
    """
    if max_pixels is not None:
        positive("max_pixels", max_pixels)
    if module_class is not None and not (isinstance(module_class, type) and issubclass(module_class, Classifier)):
        raise ModuleError(f"module_class={module_class!r}: wanted a subclass of Classifier.")
    checkpoint = read_checkpoint(str(path))
    upgrade(checkpoint, path)
    packages = [allow_import] if isinstance(allow_import, str) else allow_import
    made_by = module_class or find_class(checkpoint, path, packages)
    is_ours = made_by.__module__.partition(".")[0] == __name__.partition(".")[0]
    with _damage_named(checkpoint, path):
        _check_values(checkpoint)
    if is_ours:
        with _damage_named(checkpoint, path):
            module = _network_of(made_by, checkpoint, path)
    else:
        module = rebuild(made_by, checkpoint, path)
    classifier = ImageClassifier(module.float().to(memory_format=torch.channels_last).eval())
    if max_pixels is not None:
        classifier.max_pixels = max_pixels
    return classifier


@contextmanager
def _damage_named(checkpoint: Mapping[str, Any], path: object) -> Iterator[None]:
    try:
        yield
    except (ExtraError, ProviderError):
        raise  # what the file needs is not here; it is not the file's fault
    except (TransferError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, KeyError):
            reason = f"it has no {reason}"
        if is_newer(checkpoint):
            raise ModuleError(f"{path} cannot be used ({reason}).{advice_if_newer(checkpoint)}") from error
        other = "" if checkpoint[VERSION_KEY] == version() else ", or of another version of this library"
        raise ModuleError(f"{path} is damaged{other} ({reason}).") from error


def _check_values(checkpoint: Mapping[str, Any]) -> None:
    arguments, classes = dict(checkpoint["hyper_parameters"]), checkpoint["class_names"]
    num_classes = arguments["num_classes"]
    if classes is not None and [type(name) for name in classes] != [str] * num_classes:
        raise ModuleError(f"class_names={classes!r}: wanted {num_classes} names.")
    for name, value in decoding_of(None, checkpoint).items():
        if type(value) is not int or value < 1:
            raise ModuleError(f"{name}={value!r}: wanted a whole number, 1 or more.")
    if not isinstance(weights := checkpoint["state_dict"], dict):
        raise ModuleError(f"its weights are a {type(weights).__name__}.")


def _network_of(module_class: type[Classifier], checkpoint: dict[str, Any], path: object) -> Classifier:
    """Build a module of this library for its network alone: how it was trained makes no difference."""
    recorded = checkpoint["hyper_parameters"]
    arguments = {name: recorded[name] for name in NETWORK}
    with meta_init():  # the weights follow, so none are drawn
        module = module_class(**{**arguments, **dict.fromkeys(ORIGINS), "audit_freezing": False})
    load_part(module.network, checkpoint, "network", str(path), assign=True)
    module.on_load_checkpoint(checkpoint)
    return module

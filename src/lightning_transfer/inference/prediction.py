"""Images in, classes out: a trained network from its checkpoint alone.

Shapes: B batch, H W image, K classes, N samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from lightning_transfer.data.decoding import Resize
from lightning_transfer.data.image_list import ImageList
from lightning_transfer.inference.loading import load_module
from lightning_transfer.training.classifier import Classifier


@dataclass(frozen=True)
class Prediction:
    """What a network says of one image.

    Attributes:
        path: The file.
        probabilities: By class name; they sum to 1.
    """

    path: Path
    probabilities: dict[str, float]

    @property
    def label(self) -> str:
        """The class with the highest probability."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def probability(self) -> float:
        """That of `label`."""
        return self.probabilities[self.label]


class ImageClassifier:
    """A trained network, with what it knows of images: their size, how they are brought to it, the classes.

    `load_classifier` makes one.

    Args:
        module: Backbone and head, in eval mode.

    Attributes:
        module: As above: (B, 3, H, W) uint8 images to (B, K) logits.
        class_names: K names; where a run knew none, the numbers from 0 on.
        image_size: H and W, in pixels.
        resize: "squash" or "crop", as in training; "squash" where the run's data module did not say.
    """

    def __init__(self, module: Classifier) -> None:
        self.module = module
        self.class_names = module.class_names or tuple(map(str, range(module.num_classes)))
        self.image_size = int(module.hparams["image_size"])
        self.resize = cast(Resize, module.resize or "squash")

    def classify(self, paths: Sequence[str | Path], batch_size: int = 32) -> list[Prediction]:
        """Says of N image files what they show; for many, on a GPU, see the command `predict`.

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
        """(B, 3, H, W) images, uint8 or floating in [0, 1], to (B, K) float32 that sum to 1 in each row."""
        with torch.inference_mode():
            logits: Tensor = self.module(images.to(self.module.device))
        return logits.float().softmax(dim=1).cpu()

    def images(self, paths: Sequence[Path]) -> ImageList:
        """Files, as the network wants to see them."""
        return ImageList(paths, self.image_size, self.resize)


def load_classifier(path: str | Path) -> ImageClassifier:
    """Reads a checkpoint of any of the three regimes; nothing else is needed.

    No code that may be in the file is run. The network computes in float32 on the processor; move it with
    `.module.to("cuda")`.

    Args:
        path: A file that `fit` saved.

    Raises:
        ModuleError: There is no such file, or it is none of this library's; names it.
    """
    return ImageClassifier(load_module(str(path)))

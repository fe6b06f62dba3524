"""Images without labels, in the order of a list.

Shapes: H W image, N samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightning_transfer.data.decoding import (
    MAX_PIXELS,
    Resize,
    UnreadableImageError,
    load_image,
    resize_image,
    to_tensor,
)


class ImageList(Dataset[tuple[Tensor, bool]]):
    """Item i is ((3, H, W) uint8, whether the file could be read); a black image stands for one that could not.

    So one bad file among thousands does not end the work on the others.

    Args:
        paths: N files.
        image_size: H and W, in pixels.
        resize: "squash" or "crop".
        max_pixels: Largest H · W of a file.
        bit_depth: How many bits a 16-bit file uses; None for the decoder's own.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        image_size: int,
        resize: Resize,
        max_pixels: int = MAX_PIXELS,
        bit_depth: int | None = None,
    ) -> None:
        self.paths = paths
        self.image_size = image_size
        self.resize: Resize = resize
        self.max_pixels = max_pixels
        self.bit_depth = bit_depth

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, bool]:
        try:
            return self.read(self.paths[index]), True
        except UnreadableImageError:
            return torch.zeros((3, self.image_size, self.image_size), dtype=torch.uint8), False

    def read(self, path: Path) -> Tensor:
        """One image, (3, H, W) uint8.

        Raises:
            UnreadableImageError: It cannot be decoded; names it.
        """
        image = load_image(path, self.image_size, self.max_pixels, self.bit_depth or 16)
        return to_tensor(resize_image(image, self.image_size, self.resize))

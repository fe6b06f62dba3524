"""Which comparison it is: the images, and how they are read."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from lightning_transfer.data.datamodule import ImageDataModule

# Those that change a result; how many processes decode does not.
OPTIONS = (
    *("image_size", "resize", "batch_size", "split", "split_seed", "seed", "max_images", "on_bad_image"),
    *("max_bad_images", "duplicates", "max_pixels", "bit_depth", "label_from", "label_pattern"),
)


def identity(images: ImageDataModule) -> dict[str, Any]:
    """Return the options of a data module that has been set up, and which images it has, as JSON keeps them.

    Images are told by class names, splits, paths and labels. Their contents are not read.
    """
    index = images.index
    splits = [[name, index.splits[name].paths, index.splits[name].labels] for name in images.splits]
    digest = hashlib.sha256(json.dumps([index.class_names, splits, images.image_size]).encode()).hexdigest()
    counts = ", ".join(f"{images.num_samples(name):,} {name}" for name in images.splits)
    options = {name: getattr(images, name) for name in OPTIONS if hasattr(images, name)}
    told = {**options, "root": str(index.root), "images": f"{counts}, sha256 {digest[:16]}"}
    found: dict[str, Any] = json.loads(json.dumps(told))
    return found

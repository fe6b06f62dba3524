"""VGG16's features of the images of a folder, as in Chollet's book, with Keras.

Reads its arguments as JSON from the command line and prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf

SPLITS = ("train", "validation", "test")


def images(root: str, batch_size: int, count: int) -> Iterator[Any]:
    """Make one dataset per split, each with a third of the images."""
    for split in SPLITS:
        dataset = keras.utils.image_dataset_from_directory(
            os.path.join(root, split),  # noqa: PTH118
            image_size=(150, 150),
            batch_size=None,
            shuffle=False,
            verbose=False,
        )
        yield dataset.take(count // len(SPLITS)).batch(batch_size).prefetch(tf.data.AUTOTUNE)


def by_the_book(backbone: keras.Model, dataset: Any) -> np.ndarray:
    """Call `predict` for each batch, with the images prepared before."""
    ready = keras.applications.vgg16.preprocess_input
    return np.concatenate([backbone.predict(ready(images), verbose=0) for images, _ in dataset])


def all_at_once(backbone: keras.Model, dataset: Any) -> np.ndarray:
    """Call `predict` once for the dataset, which prepares images meanwhile."""
    ready = keras.applications.vgg16.preprocess_input
    return backbone.predict(dataset.map(lambda images, _: ready(images)), verbose=0)


def main(data: str, images: int, batch_size: int, precision: str, by_batch: bool) -> None:
    keras.mixed_precision.set_global_policy(precision)
    backbone = keras.applications.VGG16(include_top=False, weights=None, input_shape=(150, 150, 3))
    backbone.trainable = False
    extract = by_the_book if by_batch else all_at_once
    for first in images(data, batch_size, len(SPLITS) * (batch_size + 1)):
        extract(backbone, first)
        break
    start = time.perf_counter()
    features = [extract(backbone, dataset) for dataset in images(data, batch_size, images)]
    seconds = time.perf_counter() - start
    versions = f"Keras {keras.__version__}, TensorFlow {tf.__version__}"
    print(json.dumps({"images": sum(map(len, features)), "seconds": seconds, "versions": versions}))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))

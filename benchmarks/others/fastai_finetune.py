"""fastai's `fine_tune` of SqueezeNet 1.1 on the images of a folder.

Reads its arguments as JSON from the command line and prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import fastai
import torch
import torchvision
from fastai.callback.schedule import Learner  # with its schedules
from fastai.data.transforms import Normalize, get_image_files
from fastai.learner import Callback, CancelValidException
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from fastai.torch_core import params, set_seed
from fastai.vision.augment import Resize, ResizeMethod, aug_transforms
from fastai.vision.core import imagenet_stats
from fastai.vision.data import ImageDataLoaders
from torch import nn


class WithoutValidation(Callback):
    """Skip validation, since epochs are timed without it."""

    def before_validate(self) -> None:
        """Cancel validation before it begins."""
        raise CancelValidException


def network(weights: str) -> nn.Sequential:
    """Make the others' network: torchvision's features with the given weights, and the same head."""
    whole = torchvision.models.squeezenet1_1(weights=None)
    whole.load_state_dict(torch.load(weights, weights_only=True), strict=False)
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    head = nn.Sequential(*pool, nn.Linear(512, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 2))
    return nn.Sequential(whole.features, head)


def main(data: str, weights: str, batch_size: int, tuned_epochs: int, seed: int) -> None:
    set_seed(seed)
    loaders = ImageDataLoaders.from_folder(
        data,
        train="train",
        valid="validation",
        item_tfms=Resize(150, method=ResizeMethod.Squish),
        batch_tfms=[
            *aug_transforms(max_rotate=20, max_zoom=1.2, max_lighting=0.3, max_warp=0),
            Normalize.from_stats(*imagenet_stats),
        ],
        bs=batch_size,
        seed=seed,
    )
    learner = Learner(
        loaders,
        network(weights),
        loss_func=CrossEntropyLossFlat(),
        splitter=lambda model: [params(model[0]), params(model[1])],
        metrics=accuracy,
        cbs=WithoutValidation(),
    )
    seconds = []
    # The two phases of `fine_tune`, which are timed apart.
    frozen = {"n_epoch": 1, "lr_max": slice(2e-3), "pct_start": 0.99}
    tuned = {"n_epoch": tuned_epochs, "lr_max": slice(1e-5, 1e-3), "pct_start": 0.3, "div": 5.0}
    with learner.no_bar(), learner.no_logging():
        learner.freeze()
        for phase in (frozen, tuned):
            start = time.perf_counter()
            learner.fit_one_cycle(**phase)
            seconds.append((time.perf_counter() - start) / phase["n_epoch"])
            learner.unfreeze()
        learner.remove_cb(WithoutValidation)
        test = loaders.test_dl(get_image_files(Path(data) / "test"), with_labels=True)
        _, right = learner.validate(dl=test)
    versions = f"fastai {fastai.__version__}, torch {torch.__version__}"
    print(json.dumps({"frozen": seconds[0], "tuned": seconds[1], "accuracy": right, "versions": versions}))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))

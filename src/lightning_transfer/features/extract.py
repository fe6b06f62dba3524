"""Extract features with `trainer.predict`.

Shapes: C channels, h w feature map, T tokens, D features, N samples, V views.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import PIL
import torch
import torchvision
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from lightning_transfer.data.datamodule import ImageDataModule
from lightning_transfer.data.dataset import AugmentedDataset, ImageDataset, Target, View
from lightning_transfer.data.decoding import MAX_PIXELS
from lightning_transfer.errors import StoreError
from lightning_transfer.features.builder import StoreBuilder
from lightning_transfer.features.extractor import FeatureExtractor
from lightning_transfer.features.manifest import FORMAT, Manifest, SplitManifest
from lightning_transfer.features.store import FeatureStore
from lightning_transfer.features.writer import FeatureWriter
from lightning_transfer.models.backbone import Backbone
from lightning_transfer.utils.arguments import instance, one_of, path_text, positive
from lightning_transfer.utils.files import sha256_of

FeatureDtype = Literal["float16", "float32"]


def extract_features(
    trainer: Trainer,
    backbone: Backbone,
    images: ImageDataModule,
    *,
    root: str | Path = "features",
    dtype: FeatureDtype = "float16",
    views: int = 1,
) -> FeatureStore:
    """Run a backbone once over all images of a data module, and keep its outputs on disk.

    Where a complete store of the same inputs is there, it is returned, and the backbone does not run. `images` is
    set up here, with the backbone's native size where it has none of its own; its images are taken in their order.
    Device, precision and number of processes are the Trainer's; its other callbacks and its loggers are not
    called.

    With several views each training image is stored V times: as it is, and as the data module's augmentation
    changes it in epochs 1 to V - 1 of a live run. Training takes view e mod V in epoch e.

    Args:
        trainer: It may go on to fit.
        backbone: Any backbone, also the prefix that `Backbone.split` gives.
        images: What to extract from; all its splits.
        root: The folder of stores. Each store is a folder in it; its name ends in the fingerprint of the
            backbone's weights, its last stage, the images' contents, their size and resizing, precision, versions,
            and the store's format.
        dtype: What to keep features as.
        views: V, of the training images; the others are taken once, as they are.

    Returns:
        The store, (C, h, w) or (T, D) an image.

    Raises:
        StoreError: An argument of the wrong type or out of range; no room, a feature that is not finite, or no
            stages in the backbone; or the store that is there is damaged, or of other inputs than its name says.
        DataError: The images are not usable; nothing is left behind.
        BackboneError: The images are too small for the backbone, or do not fit its patches; none is read.
    """
    folder = Path(path_text("root", root, StoreError))
    one_of("dtype", dtype, get_args(FeatureDtype), StoreError)
    instance("images", images, ImageDataModule, StoreError)
    if not instance("backbone", backbone, Backbone, StoreError).stage_names:
        raise StoreError("This backbone has no stage left, so its features are the images: split it further on.")
    images.default_size = backbone.native_size
    backbone.out_shape(images.known_size())  # before the images are looked at, which may take long
    images.prepare_data()
    images.setup("predict")
    datasets = {split: images.dataset(split) for split in images.splits}
    _check_views(views, images)
    manifest = _manifest(backbone, images, datasets, dtype, str(trainer.precision), views)
    network = backbone.name.replace("/", "-")
    name = f"{network}-{backbone.stage_names[-1]}-{images.image_size}-{manifest.fingerprint[:16]}"
    builder = StoreBuilder(folder / name, manifest)
    if builder.exists():
        rank_zero_info(f"The features are there: {builder.path}")
        # Several ranks must go the same way, so there rank 0 decides, in FeatureWriter.setup.
        if trainer.world_size == 1:
            return _opened(builder)
    else:
        times = f", those to train on {views} times," if views > 1 else ""
        counted = f"{sum(map(len, datasets.values())):,} images{times}"
        rank_zero_info(
            f"Extracting the features of {counted} with {backbone.name} up to {backbone.stage_names[-1]}: "
            f"{manifest.num_bytes() / 1e6:,.1f} MB to {builder.path}"
        )
    loader: DataLoader[tuple[Tensor, Target]] = DataLoader(
        ConcatDataset(_in_the_stores_order(images, datasets, views)),
        batch_size=images.batch_size,
        num_workers=images.num_workers,
        pin_memory=torch.cuda.is_available(),
    )
    try:
        with _only(trainer, FeatureWriter(builder)):
            trainer.predict(FeatureExtractor(backbone), loader, return_predictions=False)
    finally:
        if trainer.is_global_zero:
            builder.discard()
    if trainer.interrupted or not builder.exists():
        raise StoreError(f"The extraction to {builder.path} was stopped; nothing is kept of it.")
    return _opened(builder)


def _opened(builder: StoreBuilder) -> FeatureStore:
    store = FeatureStore(builder.path)
    if store.manifest.fingerprint != builder.manifest.fingerprint:
        raise StoreError(
            f"{builder.path} holds features of other inputs than its name says: remove it, or give it back its "
            "own name."
        )
    return store


def _check_views(views: int, images: ImageDataModule) -> None:
    if positive("views", views, StoreError) == 1:
        return
    augmentation = images.augmentation
    if augmentation is None:
        raise StoreError(
            f"views={views} of each training image would be all the same: the data has no augmentation."
        )
    if augmentation.mixes:
        raise StoreError(
            f"views={views} with augmentation.mixup={augmentation.mixup:g} and cutmix={augmentation.cutmix:g}: a "
            "store keeps one label for each image, and these would be mixtures. Switch both off "
            "(--data.augmentation.mixup 0 --data.augmentation.cutmix 0; erase and trivial may stay), or train on "
            "images instead of stored features (--features.root null)."
        )


def _in_the_stores_order(
    images: ImageDataModule, datasets: dict[str, ImageDataset], views: int
) -> Iterator[Dataset[tuple[Tensor, Target]]]:
    """Split by split, and the training split view by view."""
    for split, dataset in datasets.items():
        yield dataset
        if split == "train" and images.augmentation is not None:
            augmented = AugmentedDataset(dataset, images.augmentation, images.seed)
            for view in range(1, views):
                yield View(augmented, view)


@contextmanager
def _only(trainer: Trainer, writer: FeatureWriter) -> Iterator[None]:
    """Leave a Trainer only its progress bar and the writer for a while; other callbacks are for training."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by its connector
    loggers, limit = trainer.loggers, trainer.limit_predict_batches
    trainer.callbacks = [c for c in callbacks if isinstance(c, ProgressBar)] + [writer]  # type: ignore[attr-defined]
    trainer.loggers = []
    # A loop that ran before remembers its length, and would not be skipped.
    trainer.predict_loop.max_batches = []
    try:
        yield
    finally:
        trainer.callbacks = callbacks  # type: ignore[attr-defined]
        trainer.loggers, trainer.limit_predict_batches = loggers, limit


def _manifest(
    backbone: Backbone,
    images: ImageDataModule,
    datasets: dict[str, ImageDataset],
    dtype: str,
    precision: str,
    views: int,
) -> Manifest:
    recipe: dict[str, Any] = {
        "format": FORMAT,
        "backbone": backbone.name,
        "last_stage": backbone.stage_names[-1],
        "backbone_fingerprint": backbone.fingerprint(),
        "image_size": images.image_size,
        "resize": images.resize,
        "decoding": "reduced",  # large JPEGs, see load_image
        "precision": precision,
        "dtype": dtype,
        "images": _images_fingerprint(datasets),
        "versions": {
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "pillow": PIL.__version__,
        },
    }
    if images.bit_depth is not None:
        recipe["bit_depth"] = images.bit_depth
    if images.max_pixels != MAX_PIXELS:  # a large JPEG may be decoded at another scale
        recipe["max_pixels"] = images.max_pixels
    if views > 1 and images.augmentation is not None:
        recipe["views"] = {"number": views, "seed": images.seed, **images.augmentation.recipe()}
    named = json.dumps({**recipe, "class_names": images.class_names}, sort_keys=True)
    return Manifest(
        fingerprint=hashlib.sha256(named.encode()).hexdigest(),
        recipe=recipe,
        class_names=images.class_names,
        feature_shape=backbone.out_shape(images.known_size()),
        dtype=dtype,
        splits={
            split: SplitManifest(data.samples.paths, data.samples.labels, views if split == "train" else 1)
            for split, data in datasets.items()
        },
        multi_label=images.multi_label,
    )


def _images_fingerprint(datasets: dict[str, ImageDataset]) -> str:
    """Hash every image's split, path, label and bytes; modification times do not count."""
    digest = hashlib.sha256()
    with ThreadPoolExecutor() as pool:
        for split, dataset in datasets.items():
            samples = dataset.samples
            contents = pool.map(sha256_of, (dataset.root / path for path in samples.paths))
            for fields in zip(samples.paths, samples.labels, contents, strict=True):
                digest.update(json.dumps([split, *fields]).encode())
    return digest.hexdigest()

"""Images in folders, one folder a class, as a LightningDataModule that delivers uint8.

Shapes: B batch, H W image, K classes, N samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar, get_args

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_transfer.data.agreement import check_agreement
from lightning_transfer.data.augmentation import Augmentation
from lightning_transfer.data.checks import refuse_duplicates, without_bad_images
from lightning_transfer.data.dataset import AugmentedDataset, ImageDataset
from lightning_transfer.data.decoding import MAX_PIXELS, Resize
from lightning_transfer.data.folder import SPLITS, Scan, scan_folder
from lightning_transfer.data.sampler import EpochIndexSampler, EpochSampler
from lightning_transfer.errors import DataError
from lightning_transfer.utils.machine import usable_cores

OnBadImage = Literal["error", "skip"]
Choice = TypeVar("Choice", bound=str)


class ImageFolderDataModule(LightningDataModule):
    """Images below a folder, any number of classes, in batches of ((B, 3, H, W) uint8, (B,) int64).

    Args:
        root: `root/{train,validation,test}/<class>/*` (test may be missing), or `root/<class>/*`, which is split
            here: stratified, and the same for the same `seed`.
        image_size: H and W of every image, in pixels.
        resize: "squash" changes the aspect ratio; "crop" scales the shorter side and cuts the middle.
        batch_size: B, a process.
        seed: Of the split, of the order in each epoch, and of the augmentation.
        split: Shares of train, validation and test, for a folder that is not split.
        max_samples: Keep the first so many images of each split, the classes taken in turn.
        on_bad_image: "error" stops at the first image that cannot be decoded, and names it; "skip" decodes
            every image once beforehand, leaves the bad ones out, and lists them.
        max_bad_images: The share of all images that "skip" may leave out; where more are bad, it stops.
        bad_image_report: The CSV file of path and reason that "skip" writes, where there is a bad image.
        max_pixels: H · W of the largest file; a larger one is bad, and is not decoded.
        allow_duplicates: Whether files of equal content may be in two splits or two classes; then nobody looks.
        augmentation: How training images are changed, anew in each epoch; None for not at all. Validation and
            test images, and those that a feature store is made of, never are.
        num_workers: Processes that decode; half of the processor's cores, at least one and at most eight,
            where it is not given. 0 decodes in the main process.
    """

    def __init__(
        self,
        root: str = "data/images",
        image_size: int = 150,
        resize: Resize = "squash",
        batch_size: int = 20,
        seed: int = 0,
        split: tuple[float, float, float] = (0.5, 0.25, 0.25),
        max_samples: int | None = None,
        on_bad_image: OnBadImage = "error",
        max_bad_images: float = 0.1,
        bad_image_report: str = "bad_images.csv",
        max_pixels: int = MAX_PIXELS,
        allow_duplicates: bool = False,
        augmentation: Augmentation | None = Augmentation(),  # noqa: B008  # it is immutable
        num_workers: int | None = None,
    ) -> None:
        super().__init__()
        self.root = Path(root)
        self.image_size = _positive("image_size", image_size)
        self.resize: Resize = _one_of("resize", resize, get_args(Resize))
        self.batch_size = _positive("batch_size", batch_size)
        self.seed = seed
        self.split = split
        self.max_samples = max_samples if max_samples is None else _positive("max_samples", max_samples)
        self.on_bad_image: OnBadImage = _one_of("on_bad_image", on_bad_image, get_args(OnBadImage))
        if not 0 <= max_bad_images <= 1:
            raise DataError(f"max_bad_images={max_bad_images}: wanted a share from 0 to 1.")
        self.max_bad_images = max_bad_images
        self.bad_image_report = Path(bad_image_report)
        self.max_pixels = _positive("max_pixels", max_pixels)
        self.allow_duplicates = allow_duplicates
        self.augmentation = augmentation
        self.num_workers = default_workers() if num_workers is None else num_workers
        self.multi_label = False
        self._scan: Scan | None = None

    @property
    def scan(self) -> Scan:
        """What the folder holds; looked up once."""
        if self._scan is None:
            scan = scan_folder(self.root, self.split, self.seed)
            if self.on_bad_image == "skip":
                scan = without_bad_images(scan, self.bad_image_report, self.max_bad_images, self.max_pixels)
            if self.max_samples is not None:
                kept = {name: samples.first(self.max_samples) for name, samples in scan.splits.items()}
                scan = replace(scan, splits=kept)
            for path, reason in scan.left_out:
                rank_zero_info(f"Left out: {scan.root / path}: {reason}")
            if not self.allow_duplicates:
                refuse_duplicates(scan, self.max_pixels)
            self._scan = scan
        return self._scan

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names; a label is an index into them."""
        return self.scan.class_names

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    def setup(self, stage: str | None = None) -> None:
        """Scans the folder, so that what is wrong with it is told before anything is computed.

        Raises:
            DataError: It cannot be used; or processes on several machines find different images in it.
        """
        splits = self.scan.splits.items()
        check_agreement(self.root, [(name, samples.paths, samples.labels) for name, samples in splits])

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits there are, in order."""
        return tuple(name for name in SPLITS if name in self.scan.splits)

    def dataset(self, split: str) -> ImageDataset:
        """The images of one split.

        Raises:
            DataError: There is no such split.
        """
        if split not in self.scan.splits:
            raise DataError(f"{self.root} has no split {split!r}; it has {', '.join(self.splits)}.")
        samples = self.scan.splits[split]
        return ImageDataset(self.scan.root, samples, self.image_size, self.resize, self.max_pixels)

    def class_counts(self, split: str = "train") -> tuple[int, ...]:
        """How many images of each class a split has, K numbers."""
        labels = self.dataset(split).samples.labels
        return tuple(labels.count(label) for label in range(self.num_classes))

    def loader(
        self, split: str, shuffle: bool = False, augmentation: Augmentation | None = None
    ) -> DataLoader[tuple[Tensor, int]]:
        """Batches of one split; shuffled and changed by (seed, epoch) where wanted."""
        images = self.dataset(split)
        dataset: Dataset[tuple[Tensor, int]] = images
        sampler = EpochSampler(len(images), self.seed, shuffle)
        if augmentation is not None:
            dataset = AugmentedDataset(images, augmentation, self.seed)
            sampler = EpochIndexSampler(len(images), self.seed, shuffle)
        if shuffle:
            sampler.follow(self.trainer)
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def train_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """The training split, shuffled and augmented."""
        return self.loader("train", shuffle=True, augmentation=self.augmentation)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """The validation split, in order."""
        return self.loader("validation")

    def test_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """The test split, in order."""
        return self.loader("test")

    def predict_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """The test split, in order."""
        return self.loader("test")


def default_workers() -> int:
    """Half of the cores this process may use, at least one and at most eight.

    >>> 1 <= default_workers() <= 8
    True
    """
    return max(1, min(8, usable_cores() // 2))


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise DataError(f"{name}={value}: wanted a whole number from 1 on.")
    return value


def _one_of(name: str, value: Choice, choices: Sequence[str]) -> Choice:
    if value not in choices:
        raise DataError(f"{name}={value!r}: wanted one of {', '.join(choices)}.")
    return value

"""Serve the images of an index to a Trainer.

Shapes: B batch, H W image, K classes.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_transfer.data.augmentation import Augmentation
from lightning_transfer.data.checks import skip_bad_images
from lightning_transfer.data.dataset import AugmentedDataset, ImageDataset, Target
from lightning_transfer.data.decoding import MAX_PIXELS, Resize
from lightning_transfer.data.duplicates import drop_duplicates, refuse_duplicates
from lightning_transfer.data.index import SPLITS, ImageIndex
from lightning_transfer.data.last_batch import drops_last
from lightning_transfer.data.left_out import tell
from lightning_transfer.data.order import in_order
from lightning_transfer.data.same_index import has_others, same_index
from lightning_transfer.data.scan_cache import ScanCache, known_files
from lightning_transfer.data.sized import SizedDataModule
from lightning_transfer.data.special_files import BitDepth, with_special_files
from lightning_transfer.data.splitting import SHARES, with_test
from lightning_transfer.errors import DataError
from lightning_transfer.utils.arguments import (
    flag,
    instance,
    number,
    one_of,
    path_text,
    positive,
    whole_number,
)
from lightning_transfer.utils.given_arguments import given_arguments
from lightning_transfer.utils.machine import usable_cores

OnBadImage = Literal["error", "skip"]
Duplicates = Literal["drop", "error", "keep"]
Loader = DataLoader[tuple[Tensor, Target]]


class ImageDataModule(SizedDataModule):
    """Batches of uint8 images and labels: ((B, 3, H, W) uint8, (B,) int64), or (B, K) float32 if multi-label.

    Nothing is read from disk before `setup`, which a Trainer calls. For labels from another source, pass an index,
    or override `load_index`.

    Args:
        index: Paths, labels and splits.
        image_size: H and W of every image, in pixels; None for the module's or, where that is None too, its
            backbone's native size.
        resize: "squash" changes the aspect ratio; "crop" scales the shorter side and cuts out the middle.
        batch_size: B, per process.
        seed: Seed of the order of training images in each epoch, and of the augmentation.
        max_images: Keep the first images of each split only, so many, taking one of each class in turn.
        on_bad_image: "error" stops at the first image that cannot be decoded; "skip" decodes every image once in
            `setup`, leaves the bad ones out, and lists them.
        max_bad_images: The share of all images that "skip" may leave out before it stops.
        left_out_report: The CSV file of path and reason that is written if any file is left out; None for none.
        max_pixels: Largest H · W that is decoded; a file that would have more is bad.
        bit_depth: Of 16-bit gray images, whose cameras may use 12 bits of them; "auto" takes the smallest that
            holds all their values.
        duplicates: What is done with files of equal content in two splits or with two labels: "drop" leaves them
            out, see `drop_duplicates`; "error" refuses them; "keep" does not look for them.
        augmentation: Random changes of training images, new in each epoch; None for no changes. Validation and
            test images and the images of a feature store stay as they are.
        num_workers: Processes that decode; None for half of the processor's cores, at least one and at most eight.
            0 decodes in the main process.
        use_cache: Whether to recall what an earlier start has read of the files, see `ScanCache`; False reads them
            again, and keeps nothing.

    Raises:
        DataError: An argument of the wrong type, or out of range; names it and its value.
    """

    def __init__(
        self,
        index: ImageIndex | None = None,
        *,
        image_size: int | None = 150,
        resize: Resize = "squash",
        batch_size: int = 20,
        seed: int = 0,
        max_images: int | None = None,
        on_bad_image: OnBadImage = "error",
        max_bad_images: float = 0.1,
        left_out_report: str | Path | None = "left_out.csv",
        max_pixels: int = MAX_PIXELS,
        duplicates: Duplicates = "drop",
        bit_depth: BitDepth = "auto",
        augmentation: Augmentation | None = Augmentation(),  # noqa: B008  # it is immutable
        num_workers: int | None = None,
        use_cache: bool = True,
    ) -> None:
        super().__init__(image_size)
        self.resize: Resize = one_of("resize", resize, get_args(Resize))
        self.batch_size = positive("batch_size", batch_size)
        self.seed = whole_number("seed", seed)
        self.max_images = max_images if max_images is None else positive("max_images", max_images)
        self.on_bad_image: OnBadImage = one_of("on_bad_image", on_bad_image, get_args(OnBadImage))
        self.max_bad_images = number("max_bad_images", max_bad_images, least=0, most=1)
        self.left_out_report = (
            None if left_out_report is None else Path(path_text("left_out_report", left_out_report))
        )
        self.max_pixels = positive("max_pixels", max_pixels)
        self.duplicates: Duplicates = one_of("duplicates", duplicates, get_args(Duplicates))
        self._bit_depth: BitDepth = one_of("bit_depth", bit_depth, get_args(BitDepth))
        self.augmentation = None if augmentation is None else instance("augmentation", augmentation, Augmentation)
        self.num_workers = default_workers() if num_workers is None else whole_number("num_workers", num_workers)
        self.use_cache = flag("use_cache", use_cache)
        self._given_index = None if index is None else instance("index", index, ImageIndex)
        self._index: ImageIndex | None = None
        self._is_shared = False

    def load_index(self) -> ImageIndex:
        """Find the images and their labels; `setup` calls this once.

        Raises:
            DataError: No index was given.
        """
        if self._given_index is None:
            raise DataError(f"{type(self).__name__} has no images: pass an index, or override load_index.")
        return self._given_index

    def setup(self, stage: str | None = None) -> None:
        """Load the index and check the images, once; of several processes the first does it for all.

        Raises:
            DataError: The images cannot be used, or processes on several machines find different ones.
            BackboneError: Their size does not fit the patches of the backbone that a Trainer runs.
        """
        self.settle_size()
        if self._index is None or (has_others() and not self._is_shared):
            self._index = same_index(self._checked)
            self._is_shared = has_others()

    def _checked(self) -> ImageIndex:
        if self._index is not None:
            return self._index
        index = self.load_index()
        if self.on_bad_image == "skip":
            with known_files(index.root, index.paths, self._cache(index)) as files:
                index = skip_bad_images(index, self.max_bad_images, self.max_pixels, files)
        if self.max_images is not None:
            first = {name: samples.first(self.max_images) for name, samples in index.splits.items()}
            index = replace(index, splits=first)
        index = self._without_duplicates(index)
        index = with_special_files(index, self._bit_depth, self.max_pixels)
        tell(index, self.left_out_report)
        return index

    def _without_duplicates(self, index: ImageIndex) -> ImageIndex:
        if self.duplicates == "keep":
            return index
        with known_files(index.root, index.paths, self._cache(index)) as files:
            if self.duplicates == "drop":
                return drop_duplicates(index, self.max_pixels, files)
            refuse_duplicates(index, self.max_pixels, files)
        return index

    def _cache(self, index: ImageIndex) -> ScanCache | None:
        return ScanCache(index.root, self.max_pixels) if self.use_cache else None

    @property
    def index(self) -> ImageIndex:
        """The images in use, after all checks.

        Raises:
            DataError: Before `setup`.
        """
        if self._index is None:
            raise DataError(f"{type(self).__name__} has not read its images yet: call prepare_data() and setup().")
        return self._index

    def with_test_split(self) -> Self:
        """Return a copy that has a test split, see `with_test`; or this data module itself, if it has one."""
        # A data module that splits has shares and a seed for it.
        shares, seed = getattr(self, "split", SHARES), getattr(self, "split_seed", 0)
        index = with_test(self.index, shares, seed)
        if index is self.index:
            return self
        module = copy.copy(self)
        module._index = self._without_duplicates(index)
        return module

    @property
    def arguments(self) -> dict[str, Any]:
        """What this data module was made with, as plain values, by which a resumed run tells what has changed.

        Left out is what does not change the batches.
        """
        return given_arguments(self, ("index", "num_workers", "left_out_report", "use_cache"))

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names; a label is an index into them."""
        return self.index.class_names

    @property
    def num_classes(self) -> int:
        """K."""
        return self.index.num_classes

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels, or none."""
        return self.index.multi_label

    @property
    def bit_depth(self) -> int | None:
        """How many bits of the 16-bit images are used; None where there are none."""
        return self.index.bit_depth

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits, in order."""
        return tuple(name for name in SPLITS if name in self.index.splits)

    def num_samples(self, split: str = "train") -> int:
        """Return N, how many images a split has."""
        return len(self.index.splits[self._existing(split)])

    def class_counts(self, split: str = "train") -> tuple[int, ...]:
        """Count the images of each class of a split, K numbers; one with two labels counts for both."""
        return self.index.class_counts(self._existing(split))

    def dataset(self, split: str) -> ImageDataset:
        """The images of one split.

        Raises:
            DataError: There is no such split.
        """
        index = self.index
        return ImageDataset(
            index, self._existing(split), self.known_size(), self.resize, self.max_pixels, self.bit_depth
        )

    def _existing(self, split: str) -> str:
        if split not in self.index.splits:
            hint = " The command validate scores those of validation." if split == "test" else ""
            raise DataError(f"{self.index.root} has no split {split!r}; it has {', '.join(self.splits)}.{hint}")
        return split

    def loader(self, split: str, shuffle: bool = False, augmentation: Augmentation | None = None) -> Loader:
        """Make a loader of one split; order and augmentation depend on seed and epoch alone.

        Without `shuffle` the images are in order, those of validation in a fixed mixed one, see `FixedOrder`.
        """
        images = self.dataset(split)
        changed = images if augmentation is None else AugmentedDataset(images, augmentation, self.seed)
        dataset, sampler = in_order(changed, self.trainer, split, self.seed, shuffle)
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            drop_last=shuffle and drops_last(self.trainer, len(images), self.batch_size),
        )

    def train_dataloader(self) -> Loader:
        """The training split, shuffled and augmented."""
        return self.loader("train", shuffle=True, augmentation=self.augmentation)

    def val_dataloader(self) -> Loader:
        """The validation split, in a fixed mixed order."""
        return self.loader("validation")

    def test_dataloader(self) -> Loader:
        """The test split, in order."""
        return self.loader("test")

    def predict_dataloader(self) -> Loader:
        """The test split, in order."""
        return self.loader("test")


def default_workers() -> int:
    """Half of the cores that this process may use, at least one and at most eight.

    >>> 1 <= default_workers() <= 8
    True
    """
    return max(1, min(8, usable_cores() // 2))

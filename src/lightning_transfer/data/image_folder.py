"""Images in folders, one folder per class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_transfer.data.datamodule import ImageDataModule
from lightning_transfer.data.folder import scan_folder
from lightning_transfer.data.index import ImageIndex


class ImageFolderDataModule(ImageDataModule):
    """Images in class folders, for any number of classes.

    Args:
        root: `root/{train,validation,test}/<class>/*` (test may be missing), or `root/<class>/*`, which is split
            here by class, the same way for the same `split_seed`.
        split: Shares of train, validation and test, for a folder that is not split.
        split_seed: Which images go where, in a folder that is not split.
        multi_label: Treat files of equal content in several class folders as one image with several labels. A
            folder that is not split is then split without regard to the classes.
        **kwargs: As for `ImageDataModule`: image_size, resize, batch_size, seed, max_images, on_bad_image,
            max_bad_images, bad_image_report, max_pixels, duplicates, augmentation, num_workers.
    """

    def __init__(
        self,
        root: str = "data/images",
        *,
        split: tuple[float, float, float] = (0.5, 0.25, 0.25),
        split_seed: int = 0,
        multi_label: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(index=None, **kwargs)
        self.root = Path(root)
        self.split = split
        self.split_seed = split_seed
        self._multi_label = multi_label

    def load_index(self) -> ImageIndex:
        """Scan the folder.

        Raises:
            DataError: It cannot be used.
        """
        return scan_folder(self.root, self.split, self.split_seed, self._multi_label)

"""Images in folders, one folder per class."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from lightning_transfer.data.datamodule import ImageDataModule
from lightning_transfer.data.folder import scan_folder
from lightning_transfer.data.index import ImageIndex
from lightning_transfer.data.labels_from_names import PATTERN, checked_pattern
from lightning_transfer.data.splitting import SHARES, checked_shares
from lightning_transfer.utils.arguments import flag, one_of, path_text, whole_number

LabelFrom = Literal["folder", "name"]


class ImageFolderDataModule(ImageDataModule):
    """Images in class folders, for any number of classes.

    Args:
        root: The folder, as it is: with splits, or classes alone, which are split here; see `scan_folder`.
        split: Shares of train, validation and test, where splits are made here.
        split_seed: Which images go where then.
        label_from: "folder"; or "name" for images whose names carry the label, as in `cat.0.jpg`.
        label_pattern: For "name": a regular expression for the whole name without suffix, with a group around the
            label.
        multi_label: Treat files of equal content in several class folders as one image with several labels. A
            folder that is not split is then split without regard to the classes.
        **kwargs: As for `ImageDataModule`: image_size, resize, batch_size, seed, max_images, on_bad_image,
            max_bad_images, left_out_report, max_pixels, duplicates, bit_depth, augmentation, num_workers,
            use_cache.
    """

    def __init__(
        self,
        root: str | Path = "data/images",
        *,
        split: tuple[float, float, float] = SHARES,
        split_seed: int = 0,
        multi_label: bool = False,
        label_from: LabelFrom = "folder",
        label_pattern: str = PATTERN,
        **kwargs: Any,
    ) -> None:
        super().__init__(index=None, **kwargs)
        self.root = Path(path_text("root", root))
        self.split = checked_shares(split)
        self.split_seed = whole_number("split_seed", split_seed)
        self._multi_label = flag("multi_label", multi_label)
        self.label_from: LabelFrom = one_of("label_from", label_from, get_args(LabelFrom))
        self.label_pattern = checked_pattern(label_pattern).pattern

    def load_index(self) -> ImageIndex:
        """Scan the folder.

        Raises:
            DataError: It cannot be used.
        """
        pattern = self.label_pattern if self.label_from == "name" else None
        return scan_folder(self.root, self.split, self.split_seed, self._multi_label, pattern)

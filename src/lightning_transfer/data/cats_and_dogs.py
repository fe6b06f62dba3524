"""The 4,000 photographs of cats and dogs that the books and courses use, from whichever source is at hand."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from lightning.pytorch.utilities import rank_zero_info
from rich.progress import track

from lightning_transfer.data.augmentation import Augmentation
from lightning_transfer.data.decoding import MAX_PIXELS, Resize, UnreadableImageError, load_image
from lightning_transfer.data.entries import SUFFIXES
from lightning_transfer.data.folder import SPLITS, find_images
from lightning_transfer.data.image_folder import ImageFolderDataModule, OnBadImage
from lightning_transfer.errors import DataError
from lightning_transfer.utils.download import download
from lightning_transfer.utils.files import build_folder

CLASS_NAMES = ("cats", "dogs")
MAX_BYTES = 50_000_000  # of one image's file; the largest known has less than a hundredth
# How many times its own size the images of an archive may have together. JPEG files hardly shrink any further.
MAX_INFLATION = 10
# What zipfile raises for archives and members that are damaged, encrypted or made to do harm.
UNREADABLE = (
    *(OSError, zipfile.BadZipFile, zlib.error, struct.error),
    *(EOFError, RuntimeError, ValueError, OverflowError),
)

# Which numbers of each class go where. The filtered archive has no others, and no test split of its own.
RANGES = {"train": range(1000), "validation": range(1000, 1500), "test": range(1500, 2000)}
FILTERED_RANGES = {"train": range(1000), "validation": range(2000, 2250), "test": range(2250, 2500)}

# cat.7.jpg is Kaggle's name, Cat/7.jpg Microsoft's for the same photograph.
PICTURE = re.compile(r"(?:.*/)?(cat|dog)[./]([0-9]{1,6})\.jpg", re.IGNORECASE)


# Address and sha256.
ARCHIVES: dict[str, tuple[str, str]] = {
    "microsoft": (
        "https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F/"
        "kagglecatsanddogs_5340.zip",
        "b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9",
    ),
    "filtered": (
        "https://storage.googleapis.com/mledu-datasets/cats_and_dogs_filtered.zip",
        "91af24e0be191e9380dafc8710d0933fa826ec8e51f26f85c1fddba4e8018e3f",
    ),
}

ACCEPTED = (
    'wanted "microsoft" or "filtered", or the path of a folder or zip archive: Kaggle\'s train (cat.0.jpg), '
    "Microsoft's PetImages (Cat/0.jpg) or cats_and_dogs_filtered (train/cats/cat.0.jpg)"
)


class CatsAndDogsDataModule(ImageFolderDataModule):
    """Photographs of cats and dogs: per class 1,000 to train, 500 to validate, 500 to test.

    Where `root` is not there yet, `prepare_data` makes it from `source`: Kaggle's images under their own
    names, byte for byte, 0 to 999 to train, 1000 to 1499 to validate, 1500 to 1999 to test. One that is
    missing or unreadable is replaced by the first good one from 2000 on, and told.

    Args:
        root: `root/{train,validation,test}/{cats,dogs}/*.jpg`; used as it is where it is there.
        source: "microsoft" (825 MB) or "filtered" (69 MB) is downloaded beside `root`, and kept there. Or the
            path of a local copy, a folder or a zip archive: Kaggle's `train`, Microsoft's `PetImages`, or
            `cats_and_dogs_filtered`. The last has other images to validate and test on, 250 a class each. Links
            that lead out of a folder are not followed.
        image_size: H and W of every image, in pixels.
        resize: "squash" changes the aspect ratio; "crop" scales the shorter side and cuts the middle.
        batch_size: B, a process.
        seed: Of the order in each epoch, and of the augmentation.
        max_samples: Keep the first so many images of each split, the classes taken in turn.
        on_bad_image: As for `ImageFolderDataModule`.
        max_bad_images: As for `ImageFolderDataModule`.
        bad_image_report: As for `ImageFolderDataModule`.
        max_pixels: As for `ImageFolderDataModule`.
        allow_duplicates: As for `ImageFolderDataModule`.
        augmentation: As for `ImageFolderDataModule`.
        num_workers: As for `ImageFolderDataModule`.
    """

    def __init__(
        self,
        root: str = "data/cats_and_dogs_small",
        source: str = "microsoft",
        image_size: int = 150,
        resize: Resize = "squash",
        batch_size: int = 20,
        seed: int = 0,
        max_samples: int | None = None,
        on_bad_image: OnBadImage = "error",
        max_bad_images: float = 0.1,
        bad_image_report: str = "bad_images.csv",
        max_pixels: int = MAX_PIXELS,
        allow_duplicates: bool = False,
        augmentation: Augmentation | None = Augmentation(),  # noqa: B008  # it is immutable
        num_workers: int | None = None,
    ) -> None:
        super().__init__(
            root,
            image_size,
            resize,
            batch_size,
            seed,
            max_samples=max_samples,
            on_bad_image=on_bad_image,
            max_bad_images=max_bad_images,
            bad_image_report=bad_image_report,
            max_pixels=max_pixels,
            allow_duplicates=allow_duplicates,
            augmentation=augmentation,
            num_workers=num_workers,
        )
        self.source = source

    @property
    def class_names(self) -> tuple[str, ...]:
        """("cats", "dogs"), known before there is a file."""
        return CLASS_NAMES

    def prepare_data(self) -> None:
        """Makes `root` where it is not there; whole, or not at all.

        Raises:
            DataError: Something else lies at `root`; `source` is none of those accepted, is damaged or has
                too few readable images; or the folder cannot be written.
            DownloadError: The archive cannot be fetched.
        """
        wanted = f"{', '.join(SPLITS)}, in each {' and '.join(CLASS_NAMES)}, with images, and no other class"
        build_folder(self.root, lambda: _is_built(self.root), self._build, wanted)

    def _build(self, folder: Path) -> None:
        with _open_source(self._local_source()) as source:
            _copy_all(source, folder)

    def _local_source(self) -> Path:
        if self.source not in ARCHIVES:
            return Path(self.source)
        url, sha256 = ARCHIVES[self.source]
        remedy = f"Or get {url} by other means, and pass --data.source PATH (in Python, source=PATH)."
        return download(url, self.root.parent / PurePosixPath(url).name, sha256, remedy)


def _is_built(root: Path) -> bool:
    return all(_classes_with_images(root / split) == set(CLASS_NAMES) for split in SPLITS)


def _classes_with_images(folder: Path) -> set[str]:
    names = {path.parent.name for path in folder.glob("[!.]*/*") if path.suffix.lower() in SUFFIXES}
    return names - {"__MACOSX"}


@dataclass(frozen=True)
class _Source:
    """Images by "cat" or "dog" and number, in a folder or zip archive; `open` takes the path inside."""

    path: Path
    images: dict[str, dict[int, str]]
    open: Callable[[str], IO[bytes]]

    def copy(self, animal: str, number: int, folder: Path) -> str:
        """Copies one image and decodes it; returns what is wrong with it, or ""."""
        if number not in self.images[animal]:
            return "is missing"
        path = folder / f"{animal}.{number}.jpg"
        path.write_bytes(self._read(self.images[animal][number]))
        try:
            load_image(path)
        except UnreadableImageError as error:
            path.unlink()
            return f"cannot be read ({error.__cause__})".replace(str(path), path.name)
        return ""

    def _read(self, member: str) -> bytes:
        try:
            with self.open(member) as file:
                content = file.read(MAX_BYTES + 1)
        except UNREADABLE as error:
            raise DataError(f"{member} in {self.path} cannot be read ({error}): get it anew.") from error
        if len(content) > MAX_BYTES:
            raise DataError(f"{member} in {self.path} has more than {MAX_BYTES:,} bytes: get it anew.")
        return content


@contextmanager
def _open_source(path: Path) -> Iterator[_Source]:
    if path.is_dir():
        paths, _ = find_images(path)
        yield _Source(path, _numbered(path, paths), lambda name: (path / name).open("rb"))
        return
    try:
        archive = zipfile.ZipFile(path)
    except UNREADABLE as error:
        raise DataError(f"source {path} cannot be opened ({error}): {ACCEPTED}.") from error
    with archive:
        images = _numbered(path, archive.namelist())
        _refuse_bomb(path, [archive.getinfo(name) for found in images.values() for name in found.values()])
        yield _Source(path, images, archive.open)


def _refuse_bomb(path: Path, members: list[zipfile.ZipInfo]) -> None:
    for member in members:
        # Of the other kinds zipfile unpacks a piece whole, however large it becomes.
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(
                f"{member.filename} in {path} is compressed by method {member.compress_type}: wanted an archive "
                "whose images are stored or deflated, as zip and Kaggle make them."
            )
    # No member gives more bytes than are announced here.
    announced, size = sum(member.file_size for member in members), path.stat().st_size
    if announced > MAX_INFLATION * size:
        raise DataError(
            f"source {path} has {size:,} bytes, and its images would have {announced:,}: these are no "
            "photographs. Get it anew."
        )


def _numbered(path: Path, names: Iterable[str]) -> dict[str, dict[int, str]]:
    images: dict[str, dict[int, str]] = {"cat": {}, "dog": {}}
    for name in sorted(names):
        if match := PICTURE.fullmatch(name):
            images[match[1].lower()].setdefault(int(match[2]), name)
    for animal, found in images.items():
        if not found:
            raise DataError(f"source {path} has no {animal}.N.jpg, no {animal.title()}/N.jpg: {ACCEPTED}.")
    return images


def _copy_all(source: _Source, folder: Path) -> None:
    # Only the filtered archive has a folder validation and none called test.
    folders = {part for path in source.images["cat"].values() for part in PurePosixPath(path).parts[:-1]}
    ranges = FILTERED_RANGES if "validation" in folders and "test" not in folders else RANGES
    used = {number for numbers in ranges.values() for number in numbers}
    spares = {animal: iter(sorted(found.keys() - used)) for animal, found in source.images.items()}
    plan = [(a, split, number) for a in spares for split, numbers in ranges.items() for number in numbers]
    for animal, split, number in track(plan, "Copying the images"):
        into = folder / split / f"{animal}s"
        into.mkdir(parents=True, exist_ok=True)
        if complaint := source.copy(animal, number, into):
            spare = next((n for n in spares[animal] if not source.copy(animal, n, into)), None)
            told = f"{animal}.{number}.jpg {complaint}"
            if spare is None:
                raise DataError(f"{told}, and {source.path} has none to take its place: pass another source.")
            rank_zero_info(f"{told}: {animal}.{spare}.jpg takes its place in {split}.")

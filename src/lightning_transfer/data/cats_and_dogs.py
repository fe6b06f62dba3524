"""The 4,000 photographs of cats and dogs that books and courses use, from any of several sources."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from lightning.pytorch.utilities import rank_zero_info
from rich.progress import track

from lightning_transfer.data.datamodule import ImageDataModule
from lightning_transfer.data.decoding import UnreadableImageError, load_image
from lightning_transfer.data.entries import SUFFIXES
from lightning_transfer.data.folder import find_images, scan_folder
from lightning_transfer.data.index import SPLITS, ImageIndex
from lightning_transfer.errors import DataError
from lightning_transfer.utils.arguments import path_text
from lightning_transfer.utils.download import download
from lightning_transfer.utils.files import build_folder

CLASS_NAMES = ("cats", "dogs")
MAX_BYTES = 50_000_000  # per image file; the largest known one has less than a hundredth of it
# Total size of the images in an archive, relative to the archive's; JPEG files hardly compress.
MAX_INFLATION = 10
# What zipfile raises for damaged, encrypted or malicious archives and members.
UNREADABLE = (
    *(OSError, zipfile.BadZipFile, zlib.error, struct.error),
    *(EOFError, RuntimeError, ValueError, OverflowError),
)

# Image numbers of each split, per class. The filtered archive has no others, and no test split of its own.
RANGES = {"train": range(1000), "validation": range(1000, 1500), "test": range(1500, 2000)}
FILTERED_RANGES = {"train": range(1000), "validation": range(2000, 2250), "test": range(2250, 2500)}

# cat.7.jpg is Kaggle's name, Cat/7.jpg Microsoft's for the same photograph.
NUMBERED = re.compile(r"(?:.*/)?(cat|dog)[./]([0-9]{1,6})\.jpg", re.IGNORECASE)


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


class CatsAndDogsDataModule(ImageDataModule):
    """Photographs of cats and dogs: per class 1,000 to train, 500 to validate, 500 to test.

    If `root` does not exist, `prepare_data` builds it from `source`: Kaggle's images under their own names,
    byte for byte, 0 to 999 to train, 1000 to 1499 to validate, 1500 to 1999 to test. An image that is missing or
    unreadable is replaced by the first good one from 2000 on, and a message says so.

    Args:
        root: `root/{train,validation,test}/{cats,dogs}/*.jpg`; an existing one is used as it is.
        source: "microsoft" (825 MB) or "filtered" (69 MB) is downloaded next to `root`, and kept there. Or the
            path of a local copy, a folder or a zip archive: Kaggle's `train`, Microsoft's `PetImages`, or
            `cats_and_dogs_filtered`. The last has other images to validate and test on, 250 per class each. Links
            that lead out of a folder are not followed.
        **kwargs: As for `ImageDataModule`: image_size, resize, batch_size, seed, max_images, on_bad_image,
            max_bad_images, left_out_report, max_pixels, duplicates, bit_depth, augmentation, num_workers,
            use_cache.
    """

    def __init__(
        self, root: str | Path = "data/cats_and_dogs_small", source: str | Path = "microsoft", **kwargs: Any
    ) -> None:
        super().__init__(index=None, **kwargs)
        self.root = Path(path_text("root", root))
        self.source = path_text("source", source)

    def load_index(self) -> ImageIndex:
        """Scan the folder.

        Raises:
            DataError: It cannot be used.
        """
        return scan_folder(self.root)

    def prepare_data(self) -> None:
        """Build `root` if it does not exist, completely or not at all.

        Raises:
            DataError: Something else is at `root`; `source` is none of those accepted, is damaged or has too few
                readable images; or the folder cannot be written.
            DownloadError: The archive cannot be fetched.
        """
        super().prepare_data()
        wanted = f"{', '.join(SPLITS)}, each with {' and '.join(CLASS_NAMES)}, with images, and no other class"
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
        """Copy one image and decode it; return what is wrong with it, or ""."""
        if number not in self.images[animal]:
            return "is missing"
        path = folder / f"{animal}.{number}.jpg"
        path.write_bytes(self._read(self.images[animal][number]))
        try:
            load_image(path)
        except UnreadableImageError as error:
            path.unlink()
            return error.reason.replace(str(path), path.name)
        return ""

    def _read(self, member: str) -> bytes:
        try:
            with self.open(member) as file:
                content = file.read(MAX_BYTES + 1)
        except UNREADABLE as error:
            raise DataError(f"{member} in {self.path} cannot be read ({error}): get it again.") from error
        if len(content) > MAX_BYTES:
            raise DataError(f"{member} in {self.path} has more than {MAX_BYTES:,} bytes: get it again.")
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
        # With other methods zipfile unpacks a chunk completely, however large it is.
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(
                f"{member.filename} in {path} is compressed by method {member.compress_type}: wanted an archive "
                "whose images are stored or deflated, as zip and Kaggle make them."
            )
    # zipfile never returns more bytes of a member than its header announces.
    announced, size = sum(member.file_size for member in members), path.stat().st_size
    if announced > MAX_INFLATION * size:
        raise DataError(
            f"source {path} has {size:,} bytes, and its images would have {announced:,}: they are not "
            "photographs. Get it again."
        )


def _numbered(path: Path, names: Iterable[str]) -> dict[str, dict[int, str]]:
    images: dict[str, dict[int, str]] = {"cat": {}, "dog": {}}
    for name in sorted(names):
        if match := NUMBERED.fullmatch(name):
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
        if defect := source.copy(animal, number, into):
            spare = next((n for n in spares[animal] if not source.copy(animal, n, into)), None)
            message = f"{animal}.{number}.jpg {defect}"
            if spare is None:
                raise DataError(f"{message}, and {source.path} has none to replace it: pass another source.")
            rank_zero_info(f"{message}: {animal}.{spare}.jpg replaces it in {split}.")

"""Drawn cats and dogs: the data of the offline default."""

from __future__ import annotations

from collections.abc import Mapping

from lightning_transfer.data.augmentation import Augmentation
from lightning_transfer.data.image_folder import ImageFolderDataModule
from lightning_transfer.sketches.canvas import Box, Sketcher
from lightning_transfer.sketches.folder import SketchFolder
from lightning_transfer.sketches.pets import draw_cat, draw_dog

SAMPLES = {"train": 1000, "validation": 500, "test": 500}


class SketchDataModule(ImageFolderDataModule):
    """Images that are drawn where they are not there yet; its subclasses say what of.

    Args:
        draw: What draws an image of each class; the classes' names.
        root: See the subclasses, as for the rest.
        samples: Images a class, by split.
        image_size: H and W, in pixels.
        batch_size: B, a process.
        seed: Of the drawings, of the order in each epoch, and of the augmentation.
        augmentation: As for `ImageFolderDataModule`.
        num_workers: As for `ImageFolderDataModule`.
    """

    def __init__(
        self,
        draw: Mapping[str, Sketcher],
        root: str,
        samples: Mapping[str, int],
        image_size: int,
        batch_size: int,
        seed: int,
        augmentation: Augmentation | None,
        num_workers: int | None,
    ) -> None:
        super().__init__(
            root, image_size, batch_size=batch_size, seed=seed, augmentation=augmentation, num_workers=num_workers
        )
        self.sketches = SketchFolder(self.root, draw, dict(samples), image_size, seed)

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names, sorted; known before there is a file."""
        return tuple(sorted(self.sketches.draw))

    @property
    def boxes(self) -> dict[str, Box]:
        """Where the animal or thing is, by the image's path below `root`; left, top, right, bottom in pixels."""
        return self.sketches.boxes()

    def prepare_data(self) -> None:
        """Draws the images where they are not there; whole, or not at all.

        Raises:
            DataError: Something else lies at `root`, or it cannot be written.
        """
        self.sketches.build()


class SketchPetsDataModule(SketchDataModule):
    """Cats and dogs drawn by code, written as JPEG files in the layout of `cats_and_dogs_small`.

    Pose, ears, muzzle, coat, eyes, whiskers, size, light, background, occlusion and noise vary. Both animals have
    the same coats, poses and backgrounds, so that colour tells nothing.

    Args:
        root: Where the images lie, or shall lie.
        samples: Images a class, for train, validation and test.
        image_size: H and W of every image, in pixels.
        batch_size: B, a process.
        seed: Of the drawings, of the order in each epoch, and of the augmentation.
        augmentation: As for `ImageFolderDataModule`.
        num_workers: As for `ImageFolderDataModule`.
    """

    def __init__(
        self,
        root: str = "data/sketch_pets",
        samples: Mapping[str, int] = SAMPLES,
        image_size: int = 150,
        batch_size: int = 20,
        seed: int = 0,
        augmentation: Augmentation | None = Augmentation(),  # noqa: B008  # it is immutable
        num_workers: int | None = None,
    ) -> None:
        draw = {"cats": draw_cat, "dogs": draw_dog}
        super().__init__(draw, root, samples, image_size, batch_size, seed, augmentation, num_workers)

"""A folder of drawn images in the layout of `cats_and_dogs_small`, the same for the same seed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from lightning_transfer.sketches.canvas import Box, Sketcher
from lightning_transfer.utils.files import build_folder
from lightning_transfer.utils.machine import usable_cores

NOTE = "sketches.json"
VERSION = 1  # of the drawing code: another version draws other images for the same seed
JPEG_QUALITY = 90


@dataclass(frozen=True)
class SketchFolder:
    """What a folder of sketches holds.

    Attributes:
        root: Where it is or will be.
        draw: Class names, and the function that draws an image of each.
        samples: Images per class, by split.
        image_size: H and W, in pixels.
        seed: Which images.
    """

    root: Path
    draw: Mapping[str, Sketcher]
    samples: Mapping[str, int]
    image_size: int
    seed: int

    def build(self) -> None:
        """Draw the images if they do not exist yet, completely or not at all.

        Raises:
            DataError: `root` holds something else, or it cannot be written.
        """
        settings = ", ".join(f"{name} {value}" for name, value in self._settings.items())
        build_folder(self.root, self._is_built, self._draw_all, f"sketches ({settings})")

    def boxes(self) -> dict[str, Box]:
        """Return the box of the animal or thing, by the image's path below `root`."""
        return {path: (box[0], box[1], box[2], box[3]) for path, box in self._note()["boxes"].items()}

    @property
    def _settings(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "seed": self.seed,
            "image_size": self.image_size,
            "samples": dict(self.samples),
            "classes": sorted(self.draw),
        }

    def _note(self) -> dict[str, Any]:
        note: dict[str, Any] = json.loads((self.root / NOTE).read_text())
        return note

    def _is_built(self) -> bool:
        if not (self.root / NOTE).is_file():
            return False
        return {name: value for name, value in self._note().items() if name != "boxes"} == self._settings

    def _draw_all(self, folder: Path) -> None:
        plan = [
            (split, name, number)
            for split, count in self.samples.items()
            for name in sorted(self.draw)
            for number in range(count)
        ]
        for split, name in {(split, name) for split, name, _ in plan}:
            (folder / split / name).mkdir(parents=True)
        # Drawing keeps a core busy: one worker per core, from a DataLoader.
        loader = DataLoader(_Drawing(self, folder, plan), batch_size=None, num_workers=usable_cores())
        boxes = dict(track(loader, "Drawing the images", total=len(plan)))
        (folder / NOTE).write_text(json.dumps({**self._settings, "boxes": boxes}))


class _Drawing(Dataset[tuple[str, Box]]):
    """Item i draws and writes image i of a plan, and is the box of the animal."""

    def __init__(self, sketches: SketchFolder, folder: Path, plan: list[tuple[str, str, int]]) -> None:
        self.sketches = sketches
        self.folder = folder
        self.plan = plan

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> tuple[str, Box]:
        split, name, number = self.plan[index]
        entropy = [self.sketches.seed, zlib.crc32(split.encode()), zlib.crc32(name.encode()), number]
        image, box = self.sketches.draw[name](np.random.default_rng(entropy), self.sketches.image_size)
        path = f"{split}/{name}/{name}.{number}.jpg"
        image.save(self.folder / path, quality=JPEG_QUALITY)
        return path, box

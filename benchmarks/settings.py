"""Settings of all groups of `python -m benchmarks`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Settings of all groups.

    Attributes:
        real: The folder with real photographs and weights.
        environments: The folder of others' virtual environments.
        rounds: How often each candidate runs.
        quick: A tenth of the work.
    """

    real: Path
    environments: Path
    rounds: int = 3
    quick: bool = False

    @property
    def images(self) -> Path:
        """The folder of 2,000 training, 1,000 validation and 1,000 test photographs."""
        return self.real / "data" / "cats_and_dogs_small"

    @contextmanager
    def fewer_if_quick(self) -> Iterator[Path]:
        """Yield the photographs' folder; with `quick`, a temporary copy of every tenth."""
        if not self.quick:
            yield self.images
            return
        with tempfile.TemporaryDirectory() as folder:
            for place in self.images.glob("*/*"):
                few = Path(folder) / place.relative_to(self.images)
                few.mkdir(parents=True)
                for path in sorted(place.iterdir())[::10]:
                    shutil.copy(path, few)
            yield Path(folder)

    @property
    def weights(self) -> Path:
        """The file of SqueezeNet 1.1's ImageNet weights, without the classifier."""
        return self.real / "weights" / "squeezenet1_1-imagenet-features.pth"

    def some(self, count: int) -> int:
        """Return `number`; with `quick` a tenth of it, at least one.

        >>> Settings(Path(), Path(), quick=True).some(600), Settings(Path(), Path()).some(600)
        (60, 600)
        """
        return max(1, count // 10) if self.quick else count

    def command(self, group: str) -> str:
        """Return the command that repeats a group."""
        quick = " --quick true" if self.quick else ""
        return f"python -m benchmarks --real FOLDER --only '[{group}]' --rounds {self.rounds}{quick}"

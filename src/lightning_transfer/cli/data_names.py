"""What a word after `--data` can be, told without importing what it stands for."""

from __future__ import annotations

from pathlib import Path

# Data sets that are made where they do not exist yet. Any other word is a path.
MADE_HERE = ("sketch_pets", "cats_and_dogs")
TABLES = (".csv", ".tsv")


def is_table(data: str) -> bool:
    """Tell a table of images from a folder of them, also where neither exists."""
    return Path(data).suffix.lower() in TABLES and not Path(data).is_dir()

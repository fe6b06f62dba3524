"""Several processes that should have the same images before them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist

from lightning_transfer.errors import DataError


def check_agreement(root: Path, found: Sequence[Any]) -> None:
    """Compares what each process of a run has found in a folder; alone, there is nothing to compare.

    Processes that share out different lists would wait for each other for ever, or mistake images.

    Args:
        root: The folder.
        found: Paths, labels and the like, as plain values.

    Raises:
        DataError: In every process: they are not the same.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    own = hashlib.sha256(json.dumps(found).encode()).hexdigest()
    digests = [own] * dist.get_world_size()
    dist.all_gather_object(digests, own)
    if len(set(digests)) > 1:
        different = [str(rank) for rank, digest in enumerate(digests) if digest != digests[0]]
        raise DataError(
            f"Not all processes find the same images in {root}: process {', '.join(different)} and process 0 "
            "differ. Put them on a folder that all machines share, or the same ones on each machine."
        )

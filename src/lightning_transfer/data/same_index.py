"""Let the first process of a run find the images, and give the others what it found.

Shapes: N images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.distributed as dist

from lightning_transfer.data.index import ImageIndex
from lightning_transfer.errors import DataError, TransferError

MAX_LOOKED_FOR = 1000  # images that each other process looks for, spread over all


def has_others() -> bool:
    """Whether this process is one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def same_index(find: Callable[[], ImageIndex]) -> ImageIndex:
    """Find the images in process 0, and return them in every process; alone, find them.

    The others look for some of the images, or all of a few, because machines may not share the folder.

    Args:
        find: Finds and checks the images; called in process 0 alone.

    Raises:
        DataError: A process does not see the images; raised in every process.
        TransferError: `find` raised it; so do all processes.
    """
    if not has_others():
        return find()
    index = _from_first(find)
    paths = index.paths
    wanted = paths[:: -(-len(paths) // MAX_LOOKED_FOR)] if dist.get_rank() else ()
    missing = next((path for path in wanted if not (index.root / path).is_file()), "")
    all_missing = [missing] * dist.get_world_size()
    dist.all_gather_object(all_missing, missing)
    different = [rank for rank, path in enumerate(all_missing) if path]
    if different:
        ranks = ", ".join(map(str, different))
        raise DataError(
            f"Not all processes find the same images in {index.root}: process {ranks} and process 0 "
            f"differ, for example in {all_missing[different[0]]}. Use a folder that all machines share, "
            "or copy the same images to each machine."
        )
    return index


def _from_first(find: Callable[[], ImageIndex]) -> ImageIndex:
    # Whatever happens in process 0, the others wait to hear of it.
    sent: list[Any] = [None]
    if dist.get_rank() == 0:
        try:
            sent = [find()]
        except Exception as error:
            dist.broadcast_object_list([_to_send(error)], src=0)
            raise
    dist.broadcast_object_list(sent, src=0)
    (found,) = sent
    if isinstance(found, TransferError):
        raise found
    assert isinstance(found, ImageIndex)
    return found


def _to_send(error: Exception) -> TransferError:
    """An error that can be pickled."""
    if isinstance(error, TransferError):
        return type(error)(str(error))
    return DataError(f"Process 0 could not read the images ({type(error).__name__}: {error}); see its output.")

"""What a batch may be, and what is said of one that cannot be understood.

Shapes: B batch, H W image, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_transfer.errors import ModuleError
from lightning_transfer.training.task import TaskName

Batch = tuple[Tensor, Tensor]
FORMS = '(images, labels), or {"image": …, "label": …}'
# How far floating images may leave [0, 1]: resizing with bicubic filters overshoots.
OVERSHOOT = 0.25
# How far the probabilities of a soft label may sum to something other than 1, in half precision too.
ROUNDING = 1e-2


def unpacked(batch: Any) -> tuple[Any, ...]:
    """Return a batch as a tuple: inputs, and labels if it has them.

    Raises:
        ModuleError: It is something else; names its type or its keys.

    >>> unpacked({"image": torch.zeros(1), "label": torch.ones(1)})
    (tensor([0.]), tensor([1.]))
    """
    if isinstance(batch, Mapping):
        if not {"image", "label"} <= batch.keys():
            raise ModuleError(
                f"A batch is a dict of {', '.join(map(str, batch)) or 'nothing'}: wanted {FORMS}. Rename its "
                "keys, in the data set or in collate_fn."
            )
        return batch["image"], batch["label"]
    if isinstance(batch, Tensor):
        return (batch,)
    if not isinstance(batch, list | tuple) or not batch:
        raise ModuleError(f"A batch is of the type {type(batch).__name__}: wanted {FORMS}.")
    return tuple(batch)


def check_inputs(inputs: Any, image_size: int | None) -> None:
    """Check images by their type, shape and range.

    Args:
        inputs: Of one batch.
        image_size: H and W that they must have; None for stored features, of which only the type is checked.

    Raises:
        ModuleError: They cannot be images as the backbone takes them; says what they seem to be.
    """
    if not isinstance(inputs, Tensor):
        raise ModuleError(
            f"A batch's images are of the type {type(inputs).__name__}: wanted a tensor (B, 3, H, W)."
        )
    if image_size is None:
        return
    if inputs.ndim != 4 or inputs.shape[1] != 3:
        raise ModuleError(f"A batch's images have the shape {tuple(inputs.shape)}: wanted (B, 3, H, W).")
    if inputs.shape[2:] != (image_size, image_size):
        height, width = inputs.shape[2:]
        raise ModuleError(
            f"A batch's images have {height} × {width} pixels, and the module image_size={image_size}, by which "
            f"classify and predict resize later: resize them to {image_size} × {image_size}, or pass the "
            "image_size that they have."
        )
    if inputs.dtype == torch.uint8:
        return
    if not inputs.is_floating_point():
        raise ModuleError(f"A batch's images are {inputs.dtype}: wanted torch.uint8, or floating in [0, 1].")
    low, high = (float(limit) for limit in torch.aminmax(inputs.detach()))
    if low < -OVERSHOOT:
        what = "as if they were normalised already: leave Normalize out, the backbone has its own"
    elif high > 1 + OVERSHOOT:
        what = "as if they were floating numbers up to 255: pass uint8, or divide by 255"
    else:
        return
    raise ModuleError(f"A batch's images go from {low:.3g} to {high:.3g}, wanted [0, 1]; {what}.")


def checked_labels(labels: Any, samples: int, num_classes: int, task: TaskName) -> Tensor:
    """Return labels as the loss takes them.

    Args:
        labels: Of one batch: (B,) whole numbers, or (B, K) probabilities; of several labels (B, K) zeros and ones.
        samples: B, of the images.
        num_classes: K.
        task: "single_label" or "multi_label".

    Returns:
        (B,) int64 or (B, K) floating.

    Raises:
        ModuleError: They are neither; names a value that cannot be.
    """
    wanted = f"wanted (B,) whole numbers from 0 to {num_classes - 1}, or (B, {num_classes}) probabilities"
    if task == "multi_label":
        wanted = f"wanted (B, {num_classes}) zeros and ones"
    if not isinstance(labels, Tensor):
        raise ModuleError(f"A batch's labels are of the type {type(labels).__name__}: {wanted}.")
    soft = labels.ndim == 2
    whole = not labels.is_floating_point() and not labels.is_complex()
    shape = (samples, num_classes) if soft else (samples,)
    if tuple(labels.shape) != shape or (soft, whole) == (False, False) or (task == "multi_label" and not soft):
        raise ModuleError(f"A batch's labels are {labels.dtype}, {tuple(labels.shape)}: {wanted}.")
    found = labels.long() if not soft else labels if labels.is_floating_point() else labels.float()
    if not found.numel():
        return found
    if soft:
        _check_shares(found, task, wanted)
    else:
        _check_indices(found, num_classes, wanted)
    return found


def _check_indices(labels: Tensor, num_classes: int, wanted: str) -> None:
    low, high = (int(limit) for limit in torch.aminmax(labels))
    if low < 0:
        raise ModuleError(f"A batch has the label {low}: {wanted}. Leave images without a label out of the data.")
    if high >= num_classes:
        hint = " Are they counted from 1? Subtract 1." if high == num_classes and low > 0 else ""
        raise ModuleError(f"A batch has the label {high}: {wanted}.{hint}")


def _check_shares(labels: Tensor, task: TaskName, wanted: str) -> None:
    low, high = (float(limit) for limit in torch.aminmax(labels))
    if not 0 <= low <= high <= 1 + ROUNDING:
        raise ModuleError(f"A batch's labels go from {low:.3g} to {high:.3g}: {wanted}.")
    if task == "single_label":
        sums = labels.float().sum(dim=1)
        furthest = float(sums[(sums - 1).abs().argmax()])
        if abs(furthest - 1) > ROUNDING:
            raise ModuleError(
                f"The labels of an image sum to {furthest:.3g}: {wanted}, which sum to 1. If images have several "
                'labels, the data module says so by multi_label, or pass task="multi_label".'
            )

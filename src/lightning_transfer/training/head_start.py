"""What a new run's head takes from a checkpoint: layers, and the last one's rows of the classes that both have.

Shapes: K classes, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from lightning_transfer.errors import ModuleError
from lightning_transfer.models.head import Head
from lightning_transfer.training.checkpoints import load_part, part_of

ClassNames = tuple[str, ...]
MAX_LISTED = 8


class HeadStart:
    """A head that begins with a checkpoint's weights, in two steps.

    At once it takes all layers but the last, whose rows belong to classes; and these rows, too, where K is the
    same. Once the data have named their classes, each gets the checkpoint's row of the same name, or the random
    one that the head was made with. Where the last layer cannot be told, other classes have a new head.

    Args:
        head: A new one; changed in place.
        num_classes: Its K.
        checkpoint: As read.
        path: Its file.

    Attributes:
        class_names: Of the rows as they are at once, where K is the same and the checkpoint names them.

    Raises:
        ModuleError: A layer has another shape than the checkpoint's.
    """

    def __init__(self, head: nn.Module, num_classes: int, checkpoint: Mapping[str, Any], path: str) -> None:
        recorded = checkpoint["hyper_parameters"]
        self._path = path
        self._task: str = recorded["task"]
        self._names: ClassNames | None = checkpoint["class_names"]
        self._same_number = recorded["num_classes"] == num_classes
        theirs, state = part_of(checkpoint, "network.head"), head.state_dict()
        layer = output_layer(head, num_classes)
        # Another head's layer of this name may be no last one.
        self._rows = {
            name: value.clone()
            for name, value in theirs.items()
            if layer == name.rpartition(".")[0] and value.shape[:1] == (recorded["num_classes"],)
        }
        self._fresh = {name: value.clone() for name, value in state.items() if name in (self._rows or state)}
        if self._same_number:
            load_part(head, checkpoint, "network.head", path)
        elif self._rows:
            self._load_other_layers(head, checkpoint)
        self._begun = {name: head.state_dict()[name].clone() for name in self._fresh}
        self.class_names = self._names if self._same_number else None

    def _load_other_layers(self, head: nn.Module, checkpoint: Mapping[str, Any]) -> None:
        for name, fresh in self._fresh.items():
            if fresh.shape[1:] != self._rows[name].shape[1:]:
                wanted, found = (tuple(shape[1:]) for shape in (fresh.shape, self._rows[name].shape))
                raise ModuleError(
                    f"The head in {self._path} does not fit: a row of {name} has shape {found} there, and "
                    f"{wanted} in this run."
                )
        fresh_state = {f"network.head.{name}": value for name, value in self._fresh.items()}
        state = {**checkpoint, "state_dict": {**checkpoint["state_dict"], **fresh_state}}
        load_part(head, state, "network.head", self._path)

    def name_classes(self, head: nn.Module, names: Sequence[str] | None, task: str) -> ClassNames | None:
        """Give each class its row, and say where it is from.

        Args:
            head: The one that has begun.
            names: The data's K class names; None where they have none.
            task: The new run's.

        Returns:
            The class names of the rows; None where they are not known.
        """
        ours = None if names is None else tuple(names)
        state = head.state_dict()
        # A head that was trained meanwhile, by other means than this Trainer, is not begun once more.
        if all(torch.equal(state[name].to(value), value) for name, value in self._begun.items()):
            other_task = "" if task == self._task else f" (there {self._task}, here {task})"
            if self._same_number and (ours is None or self._names is None or ours == self._names):
                said = f"all rows from {self._path}" if other_task else ""
            else:
                self._fill(head, ours)
                said = self._origin(ours)
            if said:
                rank_zero_info(f"head: {said}{other_task}")
        return ours or self.class_names

    def _fill(self, head: nn.Module, names: ClassNames | None) -> None:
        known = self._names or ()
        for name, fresh in self._fresh.items():
            value = fresh.clone()
            for row, class_name in enumerate(names or ()):
                if class_name in known and name in self._rows:
                    value[row] = self._rows[name][known.index(class_name)]
            head.state_dict()[name].copy_(value)

    def _origin(self, names: ClassNames | None) -> str:
        if not self._rows:
            return f"new as a whole, since it cannot be told which rows in {self._path} belong to which class"
        if names is None or self._names is None:
            silent = "the data do" if names is None else "the checkpoint does"
            return f"layers from {self._path}, but all rows are new, since {silent} not name the classes"
        shared = [name for name in names if name in self._names]
        if not shared:
            return f"layers from {self._path}, but all rows are new, since its classes are {listed(self._names)}"
        said = f"rows of {listed(shared)} from {self._path}"
        new = [name for name in names if name not in self._names]
        left_out = [name for name in self._names if name not in names]
        for those, what in ((new, "new"), (left_out, "left out")):
            said += f"; {listed(those)} {'is' if len(those) == 1 else 'are'} {what}" if those else ""
        return said if new or left_out else f"{said}, in the data's order"


def output_layer(head: nn.Module, num_classes: int) -> str | None:
    """Return the name of the linear layer that makes the logits; None where it cannot be told.

    It is `logits` of a `Head`, and of another head its only linear layer with K outputs.

    >>> output_layer(nn.Sequential(nn.Flatten(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 2)), num_classes=2)
    '3'
    >>> output_layer(nn.Conv2d(8, 2, 1), num_classes=2)
    """
    if isinstance(head, Head):
        return "logits"
    layers = head.named_modules()
    linear = [name for name, part in layers if isinstance(part, nn.Linear) and part.out_features == num_classes]
    return linear[0] if len(linear) == 1 else None


def listed(names: Sequence[str]) -> str:
    """Join names, the first few where there are many.

    >>> listed(["cats", "dogs"]), listed([str(number) for number in range(10)])
    ('cats, dogs', '0, 1, 2, 3, 4, 5, 6, 7 and 2 more')
    """
    more = f" and {len(names) - MAX_LISTED:,} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more

"""Predictions for the validation images, for callbacks that plot them.

Shapes: B batch, K classes, N samples, R processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_transfer.errors import CallbackError
from lightning_transfer.monitoring.plot_callback import PlotCallback, is_fitting


class ValidationPlot(PlotCallback):
    """Keep an epoch's logits and labels, of all processes, in the order of the images.

    The module's `validation_step` returns the logits of its batch of (inputs, labels). A module with a `task` says
    by it what probabilities and hard labels are; else logits go through a softmax, and labels stay as they are.
    """

    def __init__(self, every_n_epochs: int | None = None) -> None:
        super().__init__(every_n_epochs)
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []

    def plot_validation(
        self, trainer: Trainer, pl_module: LightningModule, probabilities: Tensor, labels: Tensor
    ) -> None:
        """Plot (N, K) float32 probabilities and (N,) or, with several labels an image, (N, K) int64 labels."""
        raise NotImplementedError

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the epoch before."""
        self._logits.clear()
        self._labels.clear()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what the module returned; in the sanity check only look at its type."""
        if not isinstance(outputs, Tensor):
            raise CallbackError(
                f"{type(self).__name__} plots what validation_step returns: wanted its batch's logits, (B, K); "
                f"{type(pl_module).__name__} returned {type(outputs).__name__}."
            )
        if is_fitting(trainer):
            self._logits.append(outputs.detach())
            self._labels.append(batch[1])

    def gather(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Join the parts of all processes."""
        if self._logits:
            self._logits = [in_order(trainer, torch.cat(self._logits))]
            self._labels = [in_order(trainer, torch.cat(self._labels))]

    def plot(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Plot the last validation, if there was one."""
        if not self._logits:
            return
        (logits,), (labels,) = self._logits, self._labels
        task: Any = getattr(pl_module, "task", None)
        if task is None:
            probabilities = logits.float().softmax(dim=1)
        else:
            probabilities, labels = task.probabilities(logits), task.hard_labels(labels)
        self.plot_validation(trainer, pl_module, probabilities, labels.long())


def in_order(trainer: Trainer, part: Tensor) -> Tensor:
    """Join each process's own samples, (about N / R, …), to (N, …) in their order, on the CPU.

    Samples are dealt to the processes in turn. If they do not come out even, some samplers repeat the first ones.
    """
    part = part.cpu()
    if trainer.world_size == 1:
        return part
    parts: list[Tensor] = [part] * trainer.world_size
    # As objects, for the parts may differ in length.
    torch.distributed.all_gather_object(parts, part)
    places = [torch.arange(len(one)) * len(parts) + rank for rank, one in enumerate(parts)]
    joined = torch.cat(parts)[torch.cat(places).argsort()]
    dataset = getattr(trainer.val_dataloaders, "dataset", None)
    return joined if dataset is None else joined[: len(dataset)]


def class_names_of(trainer: Trainer, pl_module: LightningModule, classes: int) -> tuple[str, ...]:
    """Return K names: the module's, else the data module's, else numbers."""
    for owner in (pl_module, getattr(trainer, "datamodule", None)):
        names = getattr(owner, "class_names", None)
        if names is not None:
            return tuple(names)
    return tuple(map(str, range(classes)))


def predicted(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Turn (N, K) probabilities into predictions like the labels: (N,) classes, or (N, K) zeros and ones."""
    return probabilities.argmax(dim=1) if labels.ndim == 1 else (probabilities >= 0.5).long()


def label_texts(labels: Tensor, class_names: Sequence[str]) -> list[str]:
    """Name the class or classes of each of N labels.

    >>> label_texts(torch.tensor([1, 0]), ("cat", "dog"))
    ['dog', 'cat']
    >>> label_texts(torch.tensor([[1, 1], [0, 0]]), ("cat", "dog"))
    ['cat + dog', 'none']
    """
    if labels.ndim == 1:
        return [class_names[label] for label in labels.tolist()]
    chosen = ([class_names[index] for index in row.nonzero().flatten().tolist()] for row in labels)
    return [" + ".join(names) or "none" for names in chosen]

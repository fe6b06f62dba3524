"""What a network said of the validation images, for callbacks that draw it.

Shapes: B batch, K classes, N samples, R processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_transfer.errors import CallbackError
from lightning_transfer.monitoring.drawing import Drawing

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class ValidationDrawing(Drawing):
    """Keeps an epoch's logits and labels, of all processes, in the order of the images.

    The module's `validation_step` returns the logits of its batch of (inputs, labels).
    """

    def __init__(self, every_n_epochs: int | None = None) -> None:
        super().__init__(every_n_epochs)
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []

    def draw_validation(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        writer: SummaryWriter,
        probabilities: Tensor,
        labels: Tensor,
    ) -> None:
        """Draws (N, K) float32 probabilities and (N,) int64 labels, both on the CPU; in the first process."""
        raise NotImplementedError

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets the epoch before."""
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
        """Keeps what the module returned."""
        if not isinstance(outputs, Tensor):
            raise CallbackError(
                f"{type(self).__name__} draws what validation_step returns: wanted its batch's logits, (B, K); "
                f"{type(pl_module).__name__} returned {type(outputs).__name__}."
            )
        self._logits.append(outputs.detach())
        self._labels.append(batch[1])

    def draw(self, trainer: Trainer, pl_module: LightningModule, writer: SummaryWriter | None) -> None:
        """Brings the processes' parts together; nothing where there was no validation."""
        if not self._logits:
            return
        logits = in_order(trainer, torch.cat(self._logits))
        labels = in_order(trainer, torch.cat(self._labels))
        if writer is not None:
            self.draw_validation(trainer, pl_module, writer, logits.float().softmax(dim=1), labels)


def in_order(trainer: Trainer, part: Tensor) -> Tensor:
    """Of each process's own samples, (about N / R, …), all of them, (N, …), on the CPU.

    Samples are dealt to the processes in turn; where they do not come out even, some samplers deal the first ones
    once more.
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
    """K names: the module's, or the data module's; numbers where neither has any."""
    for owner in (pl_module, getattr(trainer, "datamodule", None)):
        names = getattr(owner, "class_names", None)
        if names is not None:
            return tuple(names)
    return tuple(map(str, range(classes)))

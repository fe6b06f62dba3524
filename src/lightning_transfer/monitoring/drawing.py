"""When a callback draws, and where to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn

from lightning_transfer.errors import CallbackError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Drawing(Callback):
    """Draws once, at the end of a fit, with the weights it ended with; its subclasses say what.

    Args:
        every_n_epochs: Draw after the validation of each n-th epoch, too.

    Raises:
        CallbackError: At set-up: the Trainer has no TensorBoardLogger, or the module or data lack what is drawn.
    """

    def __init__(self, every_n_epochs: int | None = None) -> None:
        if every_n_epochs is not None and every_n_epochs < 1:
            raise CallbackError(f"every_n_epochs={every_n_epochs}: wanted a whole number from 1 on, or None.")
        self.every_n_epochs = every_n_epochs

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Where a subclass says what it cannot do without."""

    def draw(self, trainer: Trainer, pl_module: LightningModule, writer: SummaryWriter | None) -> None:
        """Draws; called by all processes, of which the first alone has a writer."""
        raise NotImplementedError

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Says before anything is computed that something is missing."""
        if stage == "fit":
            self.writer_of(trainer)
            self.check(trainer, pl_module)

    def has_turn(self, trainer: Trainer) -> bool:
        """Whether this epoch is one of each n, or the last one that is planned."""
        fitting = trainer.state.fn is TrainerFn.FITTING and not trainer.sanity_checking
        epoch = trainer.current_epoch + 1
        turn = self.every_n_epochs is not None and epoch % self.every_n_epochs == 0
        return fitting and (turn or epoch == trainer.max_epochs)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws, where it is the turn of this epoch; the last one's is at the end."""
        if self.has_turn(trainer) and trainer.current_epoch + 1 != trainer.max_epochs:
            self.draw(trainer, pl_module, self.writer_of(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws; but not in a trial run, which has no logger."""
        if not is_trial(trainer):
            self.draw(trainer, pl_module, self.writer_of(trainer))

    def writer_of(self, trainer: Trainer) -> SummaryWriter | None:
        """What writes TensorBoard's files; None for all processes but the first.

        Raises:
            CallbackError: There is none.
        """
        logger = next((logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)), None)
        if logger is None and not is_trial(trainer):
            raise CallbackError(
                f"{type(self).__name__} draws for TensorBoard, and this Trainer has no TensorBoardLogger: pass "
                "logger=TensorBoardLogger(…), or leave the callback out."
            )
        return logger.experiment if logger is not None and trainer.is_global_zero else None


def is_trial(trainer: Trainer) -> bool:
    """Whether this is `fast_dev_run`, which has no logger."""
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]  # set by a part of the Trainer

"""When a callback plots, and where the plot goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn

from lightning_transfer.errors import CallbackError
from lightning_transfer.models.backbone import Backbone
from lightning_transfer.monitoring.loggers import WANTED, log_figure, takes_figures

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from lightning_transfer.monitoring.loggers import Plotted


class PlotCallback(Callback):
    """Plot once, at the end of a fit, with the last weights; subclasses say what.

    Args:
        every_n_epochs: Plot after the validation of every n-th epoch, too.

    Raises:
        CallbackError: When a fit starts: no logger takes the plot, or the module or data lack what is plotted.
    """

    tensorboard_only: ClassVar[bool] = False

    def __init__(self, every_n_epochs: int | None = None) -> None:
        if every_n_epochs is not None and every_n_epochs < 1:
            raise CallbackError(f"every_n_epochs={every_n_epochs}: wanted a whole number from 1 on, or None.")
        self.every_n_epochs = every_n_epochs

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise a CallbackError if the module or the data lack something."""

    def gather(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Collect what all processes have; called in all of them before `plot`."""

    def plot(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the plot and log it; called in the first process only."""
        raise NotImplementedError

    def can_log(self, trainer: Trainer) -> bool:
        """Tell whether one of the Trainer's loggers takes this plot; a trial run has none, and plots nothing."""
        if self.tensorboard_only:
            return is_trial(trainer) or tensorboard(trainer) is not None
        return is_trial(trainer) or any(map(takes_figures, trainer.loggers))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check loggers, module and data before anything is computed."""
        if not self.can_log(trainer):
            wanted = "TensorBoardLogger, which alone shows this" if self.tensorboard_only else WANTED
            got = ", ".join(type(logger).__name__ for logger in trainer.loggers) or "none"
            raise CallbackError(
                f"{type(self).__name__} needs another logger: wanted {wanted}; the Trainer has {got}. Pass "
                "Trainer(logger=…), or leave the callback out."
            )
        self.check(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Plot if it is this epoch's turn; the last epoch's plot is made at the end."""
        if self.is_turn(trainer) and trainer.current_epoch + 1 != trainer.max_epochs:
            self._gather_and_plot(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Plot, except in a trial run."""
        if not is_trial(trainer):
            self._gather_and_plot(trainer, pl_module)

    def is_turn(self, trainer: Trainer) -> bool:
        """Tell whether this epoch is an n-th one, or the last that is planned."""
        epoch = trainer.current_epoch + 1
        turn = self.every_n_epochs is not None and epoch % self.every_n_epochs == 0
        return is_fitting(trainer) and (turn or epoch == trainer.max_epochs)

    def log_figure(self, trainer: Trainer, name: str, figure: Plotted) -> None:
        """Send the plot to each logger that takes figures."""
        for logger in trainer.loggers:
            if takes_figures(logger):
                log_figure(logger, name, figure, trainer.global_step)

    def backbone_of(self, pl_module: LightningModule) -> Backbone:
        """Return the module's attribute `backbone`.

        Raises:
            CallbackError: It has none.
        """
        backbone = getattr(pl_module, "backbone", None)
        if not isinstance(backbone, Backbone):
            raise CallbackError(
                f"{type(self).__name__} needs a Backbone as the module's attribute backbone, and "
                f"{type(pl_module).__name__} has none: add one, or leave the callback out."
            )
        return backbone

    def _gather_and_plot(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.gather(trainer, pl_module)
        if trainer.is_global_zero:
            self.plot(trainer, pl_module)


def tensorboard(trainer: Trainer) -> SummaryWriter | None:
    """Return the writer of the Trainer's first TensorBoardLogger, if it has one."""
    loggers = (logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger))
    return next((logger.experiment for logger in loggers), None)


def is_trial(trainer: Trainer) -> bool:
    """Tell whether this is `fast_dev_run`, which has no logger."""
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]  # set by a connector of the Trainer


def is_fitting(trainer: Trainer) -> bool:
    """Tell whether a fit is past its sanity check."""
    return trainer.state.fn is TrainerFn.FITTING and not trainer.sanity_checking

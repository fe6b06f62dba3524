"""The arguments of a run beside its scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_transfer.monitoring.plot_callback import PlotCallback, is_trial, tensorboard
from lightning_transfer.utils.lightning import find_callbacks

SCORES = ("validation/accuracy", "validation/loss", "validation/auroc", "validation/f1")
# TensorBoard shows five columns at first: those marked as differing, then in alphabetical order.
FIRST = ("backbone", "epochs", "lr", "regime", "seed")


class Hyperparameters(PlotCallback):
    """Fill TensorBoard's HPARAMS, where runs are compared: a row for each run, with the scores of its last epoch.

    For each score that a ModelCheckpoint monitors, `best/<score>` is the best one. Pass
    `TensorBoardLogger(default_hp_metric=False)`, or Lightning puts its own column there instead of these.
    """

    tensorboard_only = True

    def __init__(self) -> None:
        super().__init__()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the row; TensorBoard takes the scores from the curves of the same names as they grow."""
        writer = tensorboard(trainer)
        if writer is None or is_trial(trainer) or not trainer.is_global_zero:
            return
        from torch.utils.tensorboard.summary import hparams

        scores = [*(f"best/{monitor}" for monitor in _best_scores(trainer)), *SCORES]
        values = _readable(
            {
                "regime": type(pl_module).__name__,
                "epochs": trainer.max_epochs,
                "precision": trainer.precision,
                "batch_size": getattr(getattr(trainer, "datamodule", None), "batch_size", None),
                **pl_module.hparams,
            }
        )
        experiment, start, self._end = hparams(values, dict.fromkeys(scores, 0.0))  # type: ignore[no-untyped-call]
        _put_first(experiment)
        for summary in (experiment, start):
            writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]

    def plot(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the best scores, and that the run has ended."""
        writer = tensorboard(trainer)
        assert writer is not None  # checked when the fit started
        for monitor, score in _best_scores(trainer).items():
            if score is not None:
                writer.add_scalar(f"best/{monitor}", score, trainer.global_step)
        writer._get_file_writer().add_summary(self._end)  # type: ignore[no-untyped-call]


def _best_scores(trainer: Trainer) -> dict[str, float | None]:
    """Return the best value by the name of each monitored score; None before there is one."""
    return {
        callback.monitor: None if callback.best_model_score is None else float(callback.best_model_score)
        for callback in find_callbacks(trainer, ModelCheckpoint)
        if callback.monitor is not None
    }


def _readable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn values into numbers, flags and words, which TensorBoard can show; drop what changes no score.

    None becomes "none": TensorBoard takes the columns of all runs from one of them.
    """
    return {
        name: "none" if value is None else value if isinstance(value, bool | int | float | str) else str(value)
        for name, value in values.items()
        if name != "audit_freezing" and not name.startswith("_")
    }


def _put_first(experiment: Any) -> None:
    """Mark the columns of `FIRST` as those that differ."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # type: ignore[import-untyped]

    plugin_data = experiment.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(plugin_data.content)
    for info in content.experiment.hparam_infos:
        info.differs = info.name in FIRST
    plugin_data.content = content.SerializeToString()

"""All plots, each turned on by a flag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from lightning_transfer.errors import CallbackError
from lightning_transfer.monitoring.confusion_matrix import ConfusionMatrix
from lightning_transfer.monitoring.feature_maps import FeatureMaps
from lightning_transfer.monitoring.filters import FirstLayerFilters
from lightning_transfer.monitoring.graph import ModelGraph
from lightning_transfer.monitoring.hyperparameters import Hyperparameters
from lightning_transfer.monitoring.plot_callback import PlotCallback
from lightning_transfer.monitoring.precision_recall import PrecisionRecall
from lightning_transfer.monitoring.projector import FeatureProjector
from lightning_transfer.monitoring.wrong_images import WrongImages

PLOTS: dict[str, type[PlotCallback]] = {
    "hyperparameters": Hyperparameters,
    "graph": ModelGraph,
    "confusion_matrix": ConfusionMatrix,
    "precision_recall": PrecisionRecall,
    "wrong_images": WrongImages,
    "projector": FeatureProjector,
    "feature_maps": FeatureMaps,
    "filters": FirstLayerFilters,
}


@dataclass
class Plots:
    """What is plotted beside the scalars, at the end of a fit.

    A plot that none of the Trainer's loggers takes, or that module or data have too little for, is left out.

    Args:
        hyperparameters: A row with the run's arguments and scores, under HPARAMS (TensorBoard only).
        graph: The network, under GRAPHS (TensorBoard only).
        confusion_matrix: Which class is taken for which.
        precision_recall: A curve for each class, under PR CURVES (TensorBoard only).
        wrong_images: The most confidently wrong images.
        projector: Features of the images as points, under PROJECTOR (TensorBoard only).
        feature_maps: The output of each stage for a few images.
        filters: The filters of the first convolution.
    """

    hyperparameters: bool = True
    graph: bool = True
    confusion_matrix: bool = True
    precision_recall: bool = True
    wrong_images: bool = True
    projector: bool = True
    feature_maps: bool = True
    filters: bool = True

    def callbacks(self) -> list[Callback]:
        """Return one callback for all that is on; none if nothing is."""
        plots = [kind() for name, kind in PLOTS.items() if getattr(self, name)]
        return [PlotGroup(plots)] if plots else []


class PlotGroup(Callback):
    """Several plots as one callback, without those that cannot be made in this run.

    A Trainer calls every hook of every callback around every step. With steps of three milliseconds, eight more
    callbacks take a twentieth of the time.

    Args:
        plots: What to plot.
    """

    def __init__(self, plots: Sequence[PlotCallback]) -> None:
        self.plots = tuple(plots)
        self._active: tuple[PlotCallback, ...] = ()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose the plots that can be logged; outside of a fit there are none."""
        self._active = tuple(plot for plot in self.plots if stage == "fit" and plot.can_log(trainer))

    def on_fit_start(self, *given: Any) -> None:
        """Leave out the plots that module or data have too little for, and say so."""
        able = []
        for plot in self._active:
            try:
                plot.on_fit_start(*given)
                able.append(plot)
            except CallbackError as error:
                rank_zero_info(f"Not plotted: {error}")
        self._active = tuple(able)

    def on_train_start(self, *given: Any) -> None:
        """Pass on."""
        for plot in self._active:
            plot.on_train_start(*given)

    def on_validation_epoch_start(self, *given: Any) -> None:
        """Pass on."""
        for plot in self._active:
            plot.on_validation_epoch_start(*given)

    def on_validation_batch_end(self, *given: Any) -> None:
        """Pass on."""
        for plot in self._active:
            plot.on_validation_batch_end(*given)

    def on_validation_epoch_end(self, *given: Any) -> None:
        """Pass on."""
        for plot in self._active:
            plot.on_validation_epoch_end(*given)

    def on_validation_end(self, *given: Any) -> None:
        """Pass on."""
        for plot in self._active:
            plot.on_validation_end(*given)

    def on_train_end(self, *given: Any) -> None:
        """Pass on."""
        for plot in self._active:
            plot.on_train_end(*given)

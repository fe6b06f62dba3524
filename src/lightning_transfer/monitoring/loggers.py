"""Send a figure to a logger, whichever it is.

Shapes: H W image.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from numpy.typing import NDArray
from PIL import Image

from lightning_transfer.errors import CallbackError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    Plotted: TypeAlias = Figure | NDArray[np.uint8]

WANTED = "TensorBoardLogger, WandbLogger, MLFlowLogger, or one that writes to a folder, such as CSVLogger"


def takes_figures(logger: Logger) -> bool:
    """Tell whether `log_figure` can use this logger."""
    return isinstance(logger, TensorBoardLogger | WandbLogger | MLFlowLogger) or _folder(logger) is not None


def log_figure(logger: Logger, name: str, figure: Plotted, step: int) -> None:
    """Send a figure or an image to a logger; call it in the first process only.

    Args:
        logger: TensorBoard and W&B show it under `name`, MLflow keeps the artifact `figures/<name>-<step>.png`.
            Any other logger gets that file in its `log_dir`, or in its `save_dir` if it has no `log_dir`.
        name: May contain slashes: "feature_maps/block1".
        figure: A matplotlib figure, or an (H, W, 3) uint8 image.
        step: The Trainer's `global_step`.

    Raises:
        CallbackError: The logger is none of these.
    """
    experiment: Any = getattr(logger, "experiment", None)
    file = f"figures/{name}-{step}.png"
    if isinstance(logger, TensorBoardLogger):
        if isinstance(figure, np.ndarray):
            experiment.add_image(name, figure, step, dataformats="HWC")
        else:
            experiment.add_figure(name, figure, step)
    elif isinstance(logger, WandbLogger):
        logger.log_image(name, [figure], step)
    elif isinstance(logger, MLFlowLogger):
        log = experiment.log_image if isinstance(figure, np.ndarray) else experiment.log_figure
        log(logger.run_id, figure, file)
    elif (folder := _folder(logger)) is not None:
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(figure, np.ndarray):
            Image.fromarray(figure).save(target)
        else:
            figure.savefig(target)
    else:
        raise CallbackError(f"{type(logger).__name__} takes no figures: wanted {WANTED}.")


def _folder(logger: Logger) -> Path | None:
    folder = getattr(logger, "log_dir", None) or logger.save_dir
    return None if folder is None else Path(folder)

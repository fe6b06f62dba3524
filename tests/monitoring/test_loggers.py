"""A figure arrives in each kind of logger, in the way that logger wants it."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_transfer.errors import CallbackError
from lightning_transfer.monitoring.loggers import log_figure, takes_figures

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


@pytest.fixture
def figure():
    made = Figure(figsize=(2, 1), dpi=100)
    made.subplots().plot([1, 2])
    return made


class Recorder:
    """An experiment whose every method notes its call."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *given: self.calls.append((name, *given))


class Wandb(WandbLogger):
    """Without the package and its server."""

    experiment = None

    def __init__(self):
        self.experiment = Recorder()
        self._prefix, self._wandb_init = "", {}


class MLFlow(MLFlowLogger):
    """Without the package and its server."""

    experiment, run_id = None, "run 1"

    def __init__(self):
        self.experiment = Recorder()


class Nowhere(Logger):
    """Someone else's, without a folder."""

    name, version = "nowhere", 0

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, params, *args, **kwargs):
        pass


class Somewhere(Nowhere):
    """Someone else's, with a folder."""

    def __init__(self, folder):
        self.folder = folder

    @property
    def save_dir(self):
        return self.folder


def test_tensorboard_shows_it(figure, tmp_path):
    logger = TensorBoardLogger(tmp_path)
    log_figure(logger, "a/figure", figure, 7)
    log_figure(logger, "an image", PIXELS, 8)
    logger.experiment.flush()
    events = EventAccumulator(logger.log_dir).Reload()
    sizes = {tag: [(e.step, e.width, e.height) for e in events.Images(tag)] for tag in events.Tags()["images"]}
    assert sizes == {"a/figure": [(7, 200, 100)], "an image": [(8, 3, 2)]}


@pytest.mark.parametrize("make", [CSVLogger, Somewhere])
def test_a_folder_gets_a_file(make, figure, tmp_path):
    logger = make(str(tmp_path))
    folder = tmp_path / "lightning_logs" / "version_0" if make is CSVLogger else tmp_path
    log_figure(logger, "a/figure", figure, 7)
    log_figure(logger, "image", PIXELS, 8)
    with Image.open(folder / "figures" / "a" / "figure-7.png") as file:
        assert file.size == (200, 100)
    with Image.open(folder / "figures" / "image-8.png") as file:
        np.testing.assert_array_equal(np.asarray(file), PIXELS)


def test_wandb_gets_an_image_and_the_step(figure, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(Image=lambda shown: ("an Image", shown)))
    logger = Wandb()
    log_figure(logger, "a/figure", figure, 7)
    expected = {"a/figure": [("an Image", figure)], "trainer/global_step": 7}
    assert logger.experiment.calls == [("log", expected)]


def test_mlflow_gets_an_artifact_of_the_run(figure):
    logger = MLFlow()
    log_figure(logger, "a/figure", figure, 7)
    log_figure(logger, "image", PIXELS, 8)
    assert logger.experiment.calls == [
        ("log_figure", "run 1", figure, "figures/a/figure-7.png"),
        ("log_image", "run 1", PIXELS, "figures/image-8.png"),
    ]


def test_which_loggers_take_figures(figure, tmp_path):
    for logger in (TensorBoardLogger(tmp_path), CSVLogger(tmp_path), Wandb(), MLFlow(), Somewhere(tmp_path)):
        assert takes_figures(logger)
    assert not takes_figures(Nowhere())
    with pytest.raises(CallbackError, match=r"Nowhere takes no figures: wanted TensorBoardLogger, .*CSVLogger"):
        log_figure(Nowhere(), "a", figure, 0)

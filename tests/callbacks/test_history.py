"""The history of a run is what its logger saw, also where it was stopped between."""

import csv
import warnings

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger
from PIL import Image

from lightning_transfer.callbacks.history import History
from runs import EXISTING, every_epoch, fine_tuning, images_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:FineTuningClassifier trains its head alone"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
]


@EXISTING
@pytest.mark.parametrize("at_validation", [False, True])
def test_it_is_what_a_logger_sees_also_after_a_stop(quiet_trainer, image_folder, tmp_path, at_validation):
    def fit(epochs, folder, ckpt_path=None):
        history = History()
        trainer = quiet_trainer(
            max_epochs=epochs,
            callbacks=[history, every_epoch(tmp_path / folder, at_validation)],
            enable_checkpointing=True,
            logger=CSVLogger(tmp_path / folder, name=None),
            log_every_n_steps=1,
        )
        trainer.fit(fine_tuning(), images_of(image_folder), ckpt_path=ckpt_path, weights_only=True)
        return history

    whole = fit(3, "whole")
    with (tmp_path / "whole" / "version_0" / "metrics.csv").open() as file:
        logged = list(csv.DictReader(file))
    for name in ("train/loss", "train/accuracy", "validation/loss", "validation/accuracy"):
        seen = [float(row[name]) for row in logged if row[name]]
        assert [epoch[name] for epoch in whole.epochs] == pytest.approx(seen)
    assert whole.seconds > 0

    fit(1, "stopped")
    resumed = fit(3, "resumed", tmp_path / "stopped" / "0.ckpt")
    assert resumed.epochs == whole.epochs


def test_a_second_fit_begins_anew(quiet_trainer, image_folder):
    history = History()
    for _ in range(2):
        quiet_trainer(max_epochs=2, callbacks=[history]).fit(fine_tuning(), images_of(image_folder))
        assert len(history.epochs) == 2


def test_a_second_fit_of_one_trainer_goes_on(quiet_trainer, image_folder, tmp_path):
    model, data = fine_tuning(), images_of(image_folder)
    trainer = quiet_trainer(max_epochs=2, callbacks=[every_epoch(tmp_path)], enable_checkpointing=True)
    trainer.fit(model, data)
    first = table(tmp_path / "metrics.csv")
    (history,) = (callback for callback in trainer.callbacks if isinstance(callback, History))
    seconds = history.seconds
    trainer.fit_loop.max_epochs = 4
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
        trainer.fit(model, data)
    rows = table(tmp_path / "metrics.csv")
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert rows[:2] == first
    assert len(history.epochs) == 4
    assert history.seconds > seconds


def table(path):
    with path.open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize("own", [True, False])
def test_a_fit_leaves_table_and_curves_beside_its_checkpoints(quiet_trainer, image_folder, tmp_path, own):
    callbacks = [every_epoch(tmp_path), *([History()] if own else [])]
    trainer = quiet_trainer(max_epochs=3, callbacks=callbacks, enable_checkpointing=True)
    trainer.fit(fine_tuning(), images_of(image_folder))
    (history,) = (callback for callback in trainer.callbacks if isinstance(callback, History))
    assert {path.name for path in tmp_path.iterdir() if ".ckpt" not in path.name} == {"metrics.csv", "curves.png"}
    rows = table(tmp_path / "metrics.csv")
    assert [row.pop("epoch") for row in rows] == [0, 1, 2]
    assert rows == history.epochs
    with Image.open(tmp_path / "curves.png") as figure:
        assert figure.size == (1200, 480)
        assert len(figure.convert("RGB").getcolors(1 << 20)) > 10


def test_a_single_epoch_leaves_its_table_too(quiet_trainer, image_folder, tmp_path):
    callbacks = [History(), every_epoch(tmp_path / "new")]
    quiet_trainer(max_epochs=1, callbacks=callbacks, enable_checkpointing=True).fit(
        fine_tuning(), images_of(image_folder)
    )
    assert len(table(tmp_path / "new" / "metrics.csv")) == 1


def test_the_table_is_there_while_the_run_goes_on_and_after_it_fails(quiet_trainer, image_folder, tmp_path):
    class Fail(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 2:
                seen.append(len(table(tmp_path / "metrics.csv")))
                raise OSError("no more")

    seen = []
    trainer = quiet_trainer(
        max_epochs=3, callbacks=[History(), every_epoch(tmp_path), Fail()], enable_checkpointing=True
    )
    with pytest.raises(OSError, match="no more"):
        trainer.fit(fine_tuning(), images_of(image_folder))
    assert seen == [2]
    assert (tmp_path / "curves.png").exists()

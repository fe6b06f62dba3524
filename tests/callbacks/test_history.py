"""The history of a run is what its logger saw, also where it was stopped between."""

import csv

import pytest
from lightning.pytorch.loggers import CSVLogger

from lightning_transfer.callbacks.history import History
from runs import EXISTING, every_epoch, fine_tuning, pictures_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:FineTuningClassifier trains its head alone"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
]


@EXISTING
def test_it_is_what_a_logger_sees_also_after_a_stop(quiet_trainer, pictures, tmp_path):
    def fit(epochs, folder, ckpt_path=None):
        history = History()
        trainer = quiet_trainer(
            max_epochs=epochs,
            callbacks=[history, every_epoch(tmp_path / folder)],
            enable_checkpointing=True,
            logger=CSVLogger(tmp_path / folder, name=None),
            log_every_n_steps=1,
        )
        trainer.fit(fine_tuning(), pictures_of(pictures), ckpt_path=ckpt_path, weights_only=True)
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
    assert [epoch["validation/loss"] for epoch in resumed.epochs] == [e["validation/loss"] for e in whole.epochs]
    assert [epoch["train/loss"] for epoch in resumed.epochs] == [epoch["train/loss"] for epoch in whole.epochs]


def test_a_second_fit_begins_anew(quiet_trainer, pictures):
    history = History()
    for _ in range(2):
        quiet_trainer(max_epochs=2, callbacks=[history]).fit(fine_tuning(), pictures_of(pictures))
        assert len(history.epochs) == 2

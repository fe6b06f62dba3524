"""Which checkpoints are read, and from which a run can go on exactly."""

import pytest
import torch
from lightning.pytorch import Callback

from lightning_transfer import StagedUnfreeze
from lightning_transfer.errors import ModuleError
from lightning_transfer.training.checkpoint_io import between_epochs, read_checkpoint
from runs import fine_tuning, images_of


def test_files_that_are_no_checkpoints_are_named(tmp_path):
    with pytest.raises(ModuleError, match=r"There is no checkpoint .*nowhere\.ckpt"):
        read_checkpoint(str(tmp_path / "nowhere.ckpt"))
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    with pytest.raises(ModuleError, match=r"text\.ckpt cannot be read as a checkpoint"):
        read_checkpoint(str(tmp_path / "text.ckpt"))


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    class Harm:
        def __reduce__(self):
            return (tmp_path.joinpath("harm").touch, ())

    torch.save({"state_dict": Harm()}, tmp_path / "harmful.ckpt")
    with pytest.raises(ModuleError, match="cannot be read as a checkpoint"):
        read_checkpoint(str(tmp_path / "harmful.ckpt"))
    assert not (tmp_path / "harm").exists()


class SaveEverywhere(Callback):
    """Saves at each hook of an epoch; which of them are between epochs is counted by hand."""

    def __init__(self, folder):
        self.folder = folder
        self.names = []

    def _save(self, trainer, name):
        if not trainer.sanity_checking:
            self.names.append(f"{trainer.current_epoch} {trainer.global_step} {name}")
            trainer.save_checkpoint(self.folder / f"{self.names[-1]}.ckpt")

    def on_train_start(self, trainer, pl_module):
        self._save(trainer, "train start")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self._save(trainer, "batch end")

    def on_validation_start(self, trainer, pl_module):
        self._save(trainer, "validation start")

    def on_validation_end(self, trainer, pl_module):
        self._save(trainer, "validation end")

    def on_train_epoch_end(self, trainer, pl_module):
        self._save(trainer, "train epoch end")


@pytest.mark.parametrize("interval", [1.0, 2])
def test_the_places_between_epochs_are_those_after_validation(quiet_trainer, image_folder, tmp_path, interval):
    saving = SaveEverywhere(tmp_path)
    trainer = quiet_trainer(
        max_epochs=2,
        callbacks=[StagedUnfreeze({0: ["head"]}), saving],
        limit_train_batches=4,
        val_check_interval=interval,
    )
    trainer.fit(fine_tuning(), images_of(image_folder))
    checkpoints = {name: torch.load(tmp_path / f"{name}.ckpt", weights_only=True) for name in saving.names}
    good = [name for name, checkpoint in checkpoints.items() if between_epochs(checkpoint)]
    assert good == [
        "0 0 train start",
        "0 4 validation end",
        "0 4 train epoch end",
        "1 8 validation end",
        "1 8 train epoch end",
    ]


def test_weights_alone_say_nothing_of_epochs():
    assert between_epochs({"state_dict": {}})

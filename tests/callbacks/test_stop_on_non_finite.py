"""The stop on non-finite numbers works alone, in anybody's module: no other callback of ours is there."""

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn

from lightning_transfer.callbacks.stop_on_non_finite import StopOnNonFinite
from lightning_transfer.errors import TrainingError
from runs import Stranger, noise

NAN = float("nan")


class Plain(LightningModule):
    """As small as a module can be: no validation, no scores, nothing that is logged."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 8 * 8, 2)

    def loss(self, batch):
        return nn.functional.cross_entropy(self.layer(batch[0].flatten(1)), batch[1])

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class NanLoss(Plain):
    def training_step(self, batch, batch_idx):
        return {"loss": self.loss(batch) * NAN}


class Manual(Plain):
    """Lightning sees no loss at all."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch) * NAN)
        optimizer.step()


class LastStep(Plain):
    """The loss is finite, its gradient is not; the run ends before another loss is computed."""

    def training_step(self, batch, batch_idx):
        root = (self.layer.weight.sum() * 0 + 0).sqrt()  # sqrt'(0) is infinite, and 0 times that is NaN
        return self.loss(batch) + root


class NanScore(Stranger):
    def validation_step(self, batch, batch_idx):
        self.log("val_loss", torch.tensor(NAN))


class Masked(Plain):
    """A buffer that is infinite on purpose, as an attention mask is."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.full((2, 2), float("-inf")).triu(1))


@pytest.mark.parametrize(
    ("module", "named", "arguments"),
    [
        (NanLoss, "training loss", {}),
        (Manual, "layer.weight", {}),
        (LastStep, "layer.weight", {"limit_train_batches": 1}),
        (NanScore, "val loss|val_loss", {"num_sanity_val_steps": 0}),
    ],
)
def test_it_stops_any_module_alone(quiet_trainer, module, named, arguments):
    trainer = quiet_trainer(max_epochs=1, callbacks=[StopOnNonFinite()], **arguments)
    with pytest.raises(TrainingError, match=rf"The ({named}) is not finite any more, in epoch"):
        trainer.fit(module(), noise())


@pytest.mark.parametrize("module", [Plain, Masked, Stranger])
def test_a_healthy_run_is_left_alone(quiet_trainer, tmp_path, module):
    trainer = quiet_trainer(max_epochs=2, callbacks=[StopOnNonFinite()])
    trainer.fit(module(), noise())
    trainer.save_checkpoint(tmp_path / "end.ckpt")

"""The base of a fit is kept as a file that makes it again."""

import json

import pytest
import torch
from safetensors import safe_open

from lightning_transfer import ConvBase, SaveBase, StagedUnfreeze
from runs import Stranger, fine_tuning, noise, pictures_of


def test_the_file_makes_the_trained_base_again(quiet_trainer, pictures, tmp_path):
    path = tmp_path / "new" / "base.safetensors"
    callbacks = [StagedUnfreeze({0: ["head", "last_conv"]}), SaveBase(str(path), "the tests' pictures")]
    model = fine_tuning(lr=1e-2)
    trainer = quiet_trainer(max_epochs=2, callbacks=callbacks)
    trainer.fit(model, pictures_of(pictures))
    again = ConvBase("mobilenet_v3_small", weights=str(path))
    for key, value in model.base.state_dict().items():
        if "num_batches" not in key:
            torch.testing.assert_close(again.state_dict()[key], value, rtol=1e-3, atol=1e-6)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["origin"] == "the tests' pictures"
    assert metadata["epochs"] == "2"
    assert json.loads(metadata["hyperparameters"])["lr"] == 1e-2
    accuracy = float(trainer.callback_metrics["validation/accuracy"])
    assert float(metadata["validation/accuracy"]) == pytest.approx(accuracy, abs=1e-4)


def test_a_module_with_another_base_is_named(quiet_trainer, tmp_path):
    class Based(Stranger):
        @property
        def base(self):
            return self.body

    trainer = quiet_trainer(max_epochs=1, callbacks=[SaveBase(str(tmp_path / "base.safetensors"), "noise")])
    with pytest.raises(TypeError, match="wanted a module whose base is a ConvBase, got Sequential"):
        trainer.fit(Based(), noise())
